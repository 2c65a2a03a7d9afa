"""The tokenizer: one lower-cased BPE over 18 languages with Metaspace, punctuation and digits apart.

Text per language is capped so that no language owns the vocabulary; authored messages count several times.
"""
import collections
import os

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import data

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZE = 40000


def emoji():
    ranges = [(0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x2600, 0x27BF)]
    return [chr(c) for a, b in ranges for c in range(a, b + 1)]


def train(root, path, per_language=1_100_000):
    if os.path.exists(path):
        return Tokenizer.from_file(path)
    rows = data.authored(root)["train"] + data.phrases()
    texts = data.unlabelled(root, per_language)
    for row in rows:
        texts[row["lang"]] += [row["text"]] * 10
    with open(os.path.join(data.HERE, "lexicon.tsv"), encoding="utf-8") as f:
        for line in f:
            for lang, cell in zip(data.LANGS, line.rstrip("\n").split("|")):
                texts[lang] += [cell] * 20
    tok = Tokenizer(models.BPE(unk_token="[UNK]"))
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
                                                 pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)])
    tok.decoder = decoders.Metaspace()
    counts = collections.Counter()
    for some in texts.values():
        for line in some:
            counts.update(line.lower())
    alphabet = [c for c, n in counts.most_common(7500) if n >= 5]
    common = [c for c in emoji() if counts[c] >= 1 or c in "😀😃😄😁😆😅😂🤣😊😍😘😡🤬😤😭😢👍👎🙏❤💔👏🔥🎉🤔🙄😒😞😔😩😫🥰🤮💩✅❌⭐"]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, initial_alphabet=sorted(set(alphabet + common)),
                                  limit_alphabet=8500, max_token_length=14, min_frequency=3, show_progress=False)
    tok.train_from_iterator((l for lang in data.LANGS for l in texts[lang]), trainer)
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                       special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.no_padding()
    tok.no_truncation()
    tok.save(path)
    return tok


if __name__ == "__main__":
    import sys
    tok = train(sys.argv[1], sys.argv[2])
    for text in ("Der Kundenservice war SCHRECKLICH 😡!!", "配送太慢了，我要退款", "บริการแย่มาก", "लॉगिन नहीं हो रहा"):
        e = tok.encode(text)
        print(e.tokens, [text[a:b] for a, b in e.offsets])
