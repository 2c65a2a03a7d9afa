"""Writing the pack: config, f16 weights, tokenizer files, and expected.json for parity tests of other engines."""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import data
import net as nets

TEXTS = ["The delivery was three days late and nobody answers the phone. I want my money back!", "Thank you so much, the new app is fantastic 😍",
         "你好，我想预订两张明天去上海的票，请问多少钱？", "配送员态度很差，饭都凉了，要求退款。", "ログインできません。何度試してもエラーになります。",
         "배송이 정말 빨라요! 감사합니다 ㅎㅎ", "Quisiera contratar la fibra de 600 megas, ¿qué precio tiene?", "Le service client est nul, trois semaines sans réponse.",
         "Der Techniker war pünktlich und sehr freundlich, alles läuft wieder.", "Vorrei annullare l'abbonamento, come devo fare?",
         "O aplicativo trava toda hora depois da atualização 😡", "Kunnen jullie mij een nieuwe factuur sturen?", "Chciałbym zamówić części zamienne do pompy.",
         "Спасибо, проблему решили за пять минут.", "Faturada iki kez ücret alınmış, düzeltilmesini istiyorum.", "شكراً جزيلاً، الخدمة ممتازة والموظف محترم",
         "मेरा रिफंड अभी तक नहीं आया है, कृपया मदद करें", "Barangnya bagus, tapi pengirimannya lambat banget.", "Cho mình hỏi gói cước 5G giá bao nhiêu vậy?",
         "อินเทอร์เน็ตล่มทั้งวัน โทรไปก็ไม่มีคนรับสาย", "ok", "👍", "", "NOT BAD at all — never had a problem with Halden Bank in 12 years…"]


def rounded(net, bias):
    """The network with weights as they will be read back from f16; `bias` comes off the O logit of the keyphrases."""
    with torch.no_grad():
        net.heads["keyphrases"].out_proj.bias[0] -= bias
        for p in net.parameters():
            p.copy_(p.half().float())
    return net.eval()


def tensors(net):
    return {k: v.half().contiguous() for k, v in net.state_dict().items() if not k.startswith("aux")}


@torch.no_grad()
def logits(net, ids):
    ids = torch.tensor([ids])
    hidden = net(ids, torch.ones_like(ids, dtype=torch.bool))
    n = ids.shape[1]
    mean = nets.pool(hidden, torch.tensor([(0, 1, n - 1) if n > 2 else (0, 0, 1)]))
    out = {k: net.heads[k](mean)[0].tolist() for k in ("sentiment", "intent", "emotion")}
    out["keyphrases"] = net.heads["keyphrases"](hidden)[0].tolist()
    return out


def config(temperatures, vocab, layers):
    heads = {}
    for name, labels in nets.HEADS.items():
        heads[name] = {"task": "token-classification", "labels": labels} if name == "keyphrases" else {
            "task": "text-classification", "pooling": "mean", "labels": labels}
        heads[name]["temperature"] = round(temperatures.get(name, 1.0), 4)
    return {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocab, "hidden_size": nets.HIDDEN, "num_hidden_layers": layers,
            "num_attention_heads": nets.ATTN, "intermediate_size": nets.INNER, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.0, "max_position_embeddings": nets.POSITIONS, "type_vocab_size": 2, "initializer_range": 0.02,
            "layer_norm_eps": nets.EPS, "position_embedding_type": "absolute", "pad_token_id": 0, "torch_dtype": "float16",
            "hearken": {"version": 1, "max_tokens": nets.POSITIONS, "heads": heads}}


def write(net, tokenizer, out, temperatures, bias):
    os.makedirs(out, exist_ok=True)
    net = rounded(net, bias)
    tok = Tokenizer.from_file(tokenizer)
    save_file(tensors(net), os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(out, "model.safetensors"), 0o644)  # safetensors writes it for its owner only
    shutil.copy(tokenizer, os.path.join(out, "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}

    def dump(name, value):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, indent=None if name == "expected.json" else 1)
            f.write("\n")
    dump("special_tokens_map.json", special)
    dump("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": nets.POSITIONS, **special})
    dump("config.json", config(temperatures, tok.get_vocab_size(), len(net.encoder["layer"])))
    encoded = [tok.encode(t) for t in TEXTS]
    each = [logits(net, e.ids) for e in encoded]
    dump("expected.json", {"texts": TEXTS, "input_ids": [e.ids for e in encoded], "offsets": [e.offsets for e in encoded],
                           "logits": {k: [e[k] for e in each] for k in nets.HEADS}})
    check(out, each)
    return net


def check(out, each):
    """The pack read back by transformers' BertModel gives the same numbers."""
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel
    with open(os.path.join(out, "config.json")) as f:
        c = json.load(f)
    c.pop("hearken")
    model = BertModel(BertConfig(**{k: v for k, v in c.items() if k != "torch_dtype"}), add_pooling_layer=False).eval()
    w = {k: v.float() for k, v in load_file(os.path.join(out, "model.safetensors")).items()}
    missing = model.load_state_dict({k: v for k, v in w.items() if not k.startswith("heads")}, strict=False)
    tok, worst = Tokenizer.from_file(os.path.join(out, "tokenizer.json")), 0.0
    with torch.no_grad():
        for text, want in zip(TEXTS, each):
            ids = torch.tensor([tok.encode(text).ids])
            h = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            mean = h[1:-1].mean(0) if len(h) > 2 else h[0]
            for name in nets.HEADS:
                p = "heads.%s." % name
                x = torch.tanh((h if name == "keyphrases" else mean) @ w[p + "dense.weight"].T + w[p + "dense.bias"]) @ w[p + "out_proj.weight"].T + w[p + "out_proj.bias"]
                worst = max(worst, float((x - torch.tensor(want[name])).abs().max()))
    print("parity with transformers: %.2e, keys missing %s" % (worst, [k for k in missing.missing_keys if "position_ids" not in k]), flush=True)
    assert worst < 1e-3
