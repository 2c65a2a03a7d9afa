"""From rows to batches of token ids with labels: augmentation, tags, sub-spans, batches of similar length."""
import json
import random
import re
import unicodedata

import torch
from tokenizers import Tokenizer

import data

SENTENCE = re.compile(r"[^.!?。！？…\n]+[.!?。！？…\n]*")
CUT = 96


def sentences(text):
    return [m.span() for m in SENTENCE.finditer(text) if m.group().strip()]


def noisy(text, keys, rng):
    """Typos, lost accents, lost punctuation, stretched letters, lost case; keyphrase spans follow."""
    chars = [[c] for c in text]
    if rng.random() < 0.10:
        for i, c in enumerate(text):
            plain = [d for d in unicodedata.normalize("NFD", c) if not unicodedata.combining(d)]
            if len(plain) == 1 and c.isalpha() and ord(c) < 0x250:
                chars[i] = plain
    if rng.random() < 0.15:
        i = len(text) - 1
        while i > 0 and not text[i].isalnum():
            chars[i] = []
            i -= 1
    if rng.random() < 0.25 and len(text) > 12:
        for _ in range(max(1, len(text) // 60)):
            i = rng.randrange(len(text) - 1)
            if text[i].isalpha():
                kind = rng.random()
                if kind < 0.35:
                    chars[i] = []
                elif kind < 0.6:
                    chars[i] = chars[i] * 2
                elif text[i + 1].isalpha():
                    chars[i], chars[i + 1] = chars[i + 1], chars[i]
    case = rng.random()
    if case < 0.17:
        fold = str.upper if case < 0.02 else str.lower
        chars = [[fold(d) if len(fold(d)) == 1 else d for d in c] for c in chars]
    at, out = [0], []
    for c in chars:
        out += c
        at.append(len(out))
    new = "".join(out)
    return (new, [(at[s], at[e], p) for s, e, p in keys if at[e] > at[s]]) if new.strip() else (text, keys)


def inside(offset, text, s, e):
    """Whether a piece with this offset (its leading blank left out) lies in [s, e)."""
    a, b = offset
    while a < b and text[a].isspace():
        a += 1
    if a == b:
        return offset[0] >= s and b <= e and offset[1] > offset[0]
    return a < e and b > s


class Encoder:
    def __init__(self, path, domains):
        self.plain = Tokenizer.from_file(path)
        with open(path, encoding="utf-8") as f:
            self.file = json.load(f)
        self.domains = domains

    def shaken(self, rng, spread=1.5):
        """The tokenizer with noise on its pieces' scores: other, still plausible cuts of the same text."""
        vocab = self.file["model"]["vocab"]
        noisy = [[p, s + rng.gauss(0, spread) if s < 0 else s] for p, s in vocab]
        return Tokenizer.from_str(json.dumps({**self.file, "model": {**self.file["model"], "vocab": noisy}}))

    def encode(self, rows, rng=None):
        """rng given: training, with noise."""
        texts = [noisy(r["text"], r.get("keys", []), rng) if rng else (r["text"], r.get("keys", [])) for r in rows]
        split = [rng is not None and rng.random() < 0.4 for _ in rows]
        other = self.shaken(rng) if rng else None
        encodings = [None] * len(rows)
        for flag in (False, True) if rng else (False,):
            at = [i for i in range(len(rows)) if split[i] == flag]
            for i, e in zip(at, (other if flag else self.plain).encode_batch([texts[i][0] for i in at])):
                encodings[i] = e
        return [self.example(r, t, k, e, rng) for r, (t, k), e in zip(rows, texts, encodings)]

    def example(self, row, text, keys, e, rng):
        ids, offsets = e.ids, e.offsets
        cut = CUT if rng else 512
        if len(ids) > cut:
            ids, offsets = ids[: cut - 1] + [3], offsets[: cut - 1] + [(0, 0)]
        n = len(ids)
        tags, spans = [-1] * n, []
        if "keys" in row:
            tags = [-1] + [0] * (n - 2) + [-1]
            for s, t, polarity in keys:
                at = [i for i in range(1, n - 1) if inside(offsets[i], text, s, t)]
                if at and tags[at[0]] == 0:
                    tags[at[0]] = 1
                    for i in at[1:]:
                        tags[i] = 2
                    spans.append((at[0], at[-1] + 1, polarity, 1.0))
            parts = sentences(text) if "sentiment" in row else []
            if len(parts) > 1:
                for s, t in parts:
                    found = {p for a, b, p in keys if s <= a < t}
                    at = [i for i in range(1, n - 1) if inside(offsets[i], text, s, t)]
                    if len(found) == 1 and at:
                        spans.append((at[0], at[-1] + 1, found.pop(), 0.5))
        if rng:
            ids = [i if i < 5 or rng.random() > 0.05 else 4 if rng.random() < 0.5 else 1 for i in ids]
        return {"ids": ids, "tags": tags, "spans": spans, "weight": row["weight"], "sentiment": row.get("sentiment", -1),
                "intent": row.get("intent", -1), "emotion": row.get("emotion", -1), "domain": self.domains.get(row.get("domain"), -1),
                "channel": data.CHANNEL.index(row["channel"]) if row.get("channel") in data.CHANNEL else -1,
                "offsets": offsets, "text": text}


def group(examples, budget, rng=None):
    """Lists of examples of like length, at most `budget` tokens with padding."""
    order = list(range(len(examples)))
    if rng:
        rng.shuffle(order)
    pool_size = 1500 if rng else len(order)
    out = []
    for k in range(0, len(order), pool_size):
        part, one, longest = sorted(order[k:k + pool_size], key=lambda i: len(examples[i]["ids"])), [], 0
        for i in part:
            longest = len(examples[i]["ids"])
            if one and longest * (len(one) + 1) > budget:
                out.append(one)
                one = []
            one.append(i)
        out.append(one)
    if rng:
        rng.shuffle(out)
    return [[examples[i] for i in one] for one in out]


def tensors(batch):
    t = max(len(x["ids"]) for x in batch)
    ids, tags = torch.zeros(len(batch), t, dtype=torch.long), torch.full((len(batch), t), -1)
    for i, x in enumerate(batch):
        ids[i, : len(x["ids"])] = torch.tensor(x["ids"])
        tags[i, : len(x["ids"])] = torch.tensor(x["tags"])
    whole = torch.tensor([(i, 1, len(x["ids"]) - 1) if len(x["ids"]) > 2 else (i, 0, 1) for i, x in enumerate(batch)])
    spans = [(i, a, b, p, w) for i, x in enumerate(batch) for a, b, p, w in x["spans"]]
    return ids, ids != 0, tags, whole, spans
