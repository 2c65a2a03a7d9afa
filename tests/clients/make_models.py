#!/usr/bin/env python3
"""Small random models of several families, and what `transformers` says about them.

    python tests/clients/make_models.py            # needs torch and transformers

Writes `tests/clients/models/NAME/` (config, weights, tokenizer, `expected.json` with token ids and logits) and
`tests/clients/pipelines.json` (what the pipelines answer about a few texts). Both are committed: the tests in Rust and
the ones with real clients compare against them, without torch. Weights are the same every time; vocabularies are not
quite, since training one breaks ties at random.
"""
import json
import shutil
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
MODELS = HERE / "models"
TEXTS = [
    "The connection drops every evening and nobody answers.",
    "La connexion coupe toutes les dix minutes, je veux un remboursement.",
    "Maria from Berlin ordered two routers.",
    "网络又断了。 第三次",
    "thanks!",
    "  Extra   spaces\tand\nlines , and 😭 emoji",
]
CORPUS = TEXTS + (HERE.parent.parent / "src/engine/calibration.txt").read_text().splitlines()
LABELS = ["a candidate", "billing", "outage"]


def word_piece(token_types=True):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], special))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128,
        model_input_names=["input_ids"] + ["token_type_ids"] * token_types + ["attention_mask"], **names)


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128, bos_token="<s>", cls_token="<s>", eos_token="</s>",
        sep_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>")


def byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=450, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128, bos_token="<s>", cls_token="<s>", eos_token="</s>",
        sep_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>")


def size(tokenizer, **more):
    return dict(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                intermediate_size=48, initializer_range=0.35, pad_token_id=tokenizer.pad_token_id,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=132) | more


def labels(*names):
    return dict(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})


SENTIMENT = labels("negative", "neutral", "positive")
ENTITIES = labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
NLI = labels("contradiction", "neutral", "entailment")


def all_models():
    """Name, tokenizer, model, precision of the file."""
    bert, xlmr, roberta = word_piece(), unigram(), byte_pairs()
    roberta_size = dict(type_vocab_size=1, max_position_embeddings=130)
    yield "bert-sentiment", bert, hf.BertForSequenceClassification(hf.BertConfig(**size(bert), **SENTIMENT)), "float32"
    yield "bert-ner", bert, hf.BertForTokenClassification(hf.BertConfig(**size(bert), **ENTITIES)), "float16"
    yield "bert-encoder", bert, hf.BertModel(hf.BertConfig(**size(bert)), add_pooling_layer=False), "bfloat16"
    yield "bert-topics", bert, hf.BertForSequenceClassification(hf.BertConfig(
        **size(bert), **labels("billing", "network", "praise", "other"), problem_type="multi_label_classification")), "float32"
    yield "xlm-roberta-nli", xlmr, hf.XLMRobertaForSequenceClassification(
        hf.XLMRobertaConfig(**size(xlmr, **roberta_size), **NLI)), "float32"
    yield "roberta-ner", roberta, hf.RobertaForTokenClassification(
        hf.RobertaConfig(**size(roberta, **roberta_size), **ENTITIES)), "float16"
    yield "camembert-sentiment", xlmr, hf.CamembertForSequenceClassification(
        hf.CamembertConfig(**size(xlmr, **roberta_size), **SENTIMENT)), "bfloat16"
    yield from other_families(bert, xlmr, roberta)


def other_families(bert, xlmr, roberta):
    """Families beside BERT's and RoBERTa's own layout."""
    # DistilBERT has no token types.
    plain_bert = word_piece(token_types=False)
    distil = dict(vocab_size=len(plain_bert), dim=32, n_layers=2, n_heads=4, hidden_dim=48, initializer_range=0.35,
                  pad_token_id=0, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, max_position_embeddings=132)
    yield "distilbert-sentiment", plain_bert, hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(**distil, **SENTIMENT)), "float32"
    yield "distilbert-ner", plain_bert, hf.DistilBertForTokenClassification(
        hf.DistilBertConfig(**distil, **ENTITIES)), "float16"
    yield "electra-sentiment", bert, hf.ElectraForSequenceClassification(
        hf.ElectraConfig(**size(bert, embedding_size=16), **SENTIMENT)), "float32"
    yield "electra-ner", bert, hf.ElectraForTokenClassification(
        hf.ElectraConfig(**size(bert), embedding_size=32, **ENTITIES)), "float16"
    yield "albert-nli", xlmr, hf.AlbertForSequenceClassification(
        hf.AlbertConfig(**size(xlmr, embedding_size=16), classifier_dropout_prob=0.0, **NLI)), "bfloat16"
    yield "albert-ner", xlmr, hf.AlbertForTokenClassification(
        hf.AlbertConfig(**size(xlmr, embedding_size=16), classifier_dropout_prob=0.0, **ENTITIES)), "float32"


def logits(model, ids):
    model.eval()
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]))
        return (out.logits if hasattr(out, "logits") else out.last_hidden_state)[0].tolist()


def plain(value):
    """Numbers and strings that JSON takes, scores with nine digits."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return round(value, 9) if isinstance(value, float) else value


def pipelines(name, tokenizer, model):
    """What the pipelines of a model's task answer about the texts."""
    pipe = lambda task: hf.pipeline(task, model=model, tokenizer=tokenizer)
    if "ner" in name:
        tagger = pipe("token-classification")
        strategies = ["none", "simple", "first", "average", "max"]
        return {s: [tagger(t, aggregation_strategy=s) for t in TEXTS] for s in strategies}
    if "encoder" in name:
        return {"features": [pipe("feature-extraction")(t) for t in TEXTS]}
    classifier = pipe("text-classification")
    answers = {"labels": [classifier(t, top_k=None) for t in TEXTS],
               "pair": classifier({"text": TEXTS[0], "text_pair": TEXTS[1]}, top_k=None)}
    if "nli" in name:
        zero = pipe("zero-shot-classification")
        for key, multi in [("zero_shot", False), ("zero_shot_multi", True)]:
            answers[key] = [{k: v for k, v in zero(t, LABELS, multi_label=multi).items() if k != "sequence"} for t in TEXTS]
    return answers


def main():
    hf.logging.set_verbosity_error()
    shutil.rmtree(MODELS, ignore_errors=True)
    answers = {}
    for seed, (name, tokenizer, model, precision) in enumerate(all_models()):
        torch.manual_seed(seed)
        model.init_weights()
        # Biases and norms are not random by themselves, and must be told apart too.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = MODELS / name
        model.to(getattr(torch, precision)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = type(model).from_pretrained(folder, dtype=torch.float32)
        ids = [tokenizer(t)["input_ids"] for t in TEXTS] + [list(range(5, 5 + n)) for n in (1, 2, 17, 100)]
        expected = {"input_ids": ids}
        if "encoder" not in name:
            expected["logits"] = {"classifier": plain([logits(model, i) for i in ids])}
            (folder / "expected.json").write_text(json.dumps(expected))
        answers[name] = plain(pipelines(name, tokenizer, model))
        print(f"{name}: {model.num_parameters()} parameters, {precision}")
    (HERE / "pipelines.json").write_text(json.dumps({"texts": TEXTS, "labels": LABELS, "models": answers}, ensure_ascii=False))


if __name__ == "__main__":
    main()
