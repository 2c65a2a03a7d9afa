"""Sentence pairs (English, other language) out of public sets that were parallel once.

GoEmotions in Korean pairs line by line; authored/parallel.jsonl by group; lexicon.tsv is this project's own word list. XED (whose
English side is not there: French is its pivot), tico19 and the Azure pages keep their order but lost lines: a monotone alignment (longest weighted common subsequence) finds the pairs
again by length, by shared ASCII words, numbers and names, and, where present, by equal emotion labels.
"""
import collections
import gzip
import json
import os
import re

import numpy as np

import data

ASCII = re.compile(r"[a-z0-9]{3,}|[0-9]+", re.I)


def monotone(score):
    """Best monotone 1-1 path through score(i) -> row of gains over j (gain <= 0: no match). Returns [(i, j)]."""
    n, m = score.shape
    best = np.zeros(m + 1, np.float32)
    took = np.zeros((n, m), bool)
    for i in range(n):
        gain = np.asarray(score.row(i), np.float32)
        via = best[:-1] + gain
        new = np.maximum(via, best[1:])
        run = np.maximum.accumulate(new)
        took[i] = (gain > 0) & (via >= best[1:]) & (via >= run)
        best = np.concatenate([[0], run]).astype(np.float32)
        score.keep(i, best)
    out, j = [], m
    for i in range(n - 1, -1, -1):
        row, above = score.kept(i), score.kept(i - 1) if i else np.zeros(m + 1, np.float32)
        while j > 0 and row[j] <= row[j - 1] + 1e-6 and row[j] > above[j] + 1e-6:
            j -= 1
        if j > 0 and took[i][j - 1] and row[j] > above[j] + 1e-6:
            out.append((i, j - 1))
            j -= 1
    return out[::-1]


class Lines:
    """Gains of pairing line i of one language with line j of English."""

    def __init__(self, other, english, labels=None, spread=0.35):
        self.shape = (len(other), len(english))
        ratio = sum(map(len, english)) / len(english) / (sum(map(len, other)) / len(other))
        self.len_o = np.log(np.array([len(t) * ratio + 4 for t in other], np.float32))
        self.len_e = np.log(np.array([len(t) + 4 for t in english], np.float32))
        self.labels, self.spread = labels, spread
        if labels:
            ids = {}
            self.lab_o = [ids.setdefault(l, len(ids)) for l in labels[0]]
            self.lab_e = np.array([ids.setdefault(l, len(ids)) for l in labels[1]])
        self.words = [set(w.lower() for w in ASCII.findall(t)) for t in other]
        self.where = collections.defaultdict(list)
        for j, t in enumerate(english):
            for w in set(w.lower() for w in ASCII.findall(t)):
                self.where[w].append(j)
        self.rows = []

    def row(self, i):
        gap = np.abs(self.len_e - self.len_o[i]) / self.spread
        gain = 0.6 - gap
        for w in self.words[i]:
            at = self.where.get(w)
            if at and len(at) < 400:
                gain[at] += min(3.0, np.log(self.shape[1] / len(at)) * 0.35)
        if self.labels:
            gain[self.lab_e != self.lab_o[i]] = -1
        return gain

    def keep(self, i, best):
        self.rows.append(best)

    def kept(self, i):
        return self.rows[i]


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [l.strip() for l in f if l.strip()]


def pairs(root):
    """{source: [(lang, english, other)]}; for xed_fr the second text is French."""
    out = collections.defaultdict(list)
    groups = collections.defaultdict(dict)
    for raw in data.lines(os.path.join(root, "authored", "parallel.jsonl")):
        if data.unit("group", raw["group"]) >= 0.16:  # the held-out groups stay out of this too
            groups[raw["group"]][raw["lang"]] = raw["text"]
    for group in groups.values():
        out["parallel"] += [(lang, group["en"], text) for lang, text in group.items() if lang != "en" and "en" in group]
    lexicon = os.path.join(data.HERE, "lexicon.tsv")
    if os.path.exists(lexicon):
        for line in open(lexicon, encoding="utf-8"):
            cells = line.rstrip("\n").split("|")
            if len(cells) == len(data.LANGS):
                out["lexicon"] += [(lang, cells[0], cell) for lang, cell in zip(data.LANGS[1:], cells[1:]) if cell]
            elif line.strip():
                print("lexicon: %d cells: %s" % (len(cells), line[:60]))
    en, ko = ([r["text"] for r in data.lines(os.path.join(root, "sentiment/goemotions/%s.train.jsonl.gz" % l))] for l in ("en", "ko"))
    out["goemotions"] = [("ko", a, b) for a, b in list(zip(en, ko))[:16000]]
    pivot = list(data.lines(os.path.join(root, "sentiment/xed/fr.train.jsonl.gz")))
    for lang in data.LANGS[1:]:
        path = os.path.join(root, "sentiment/xed/%s.train.jsonl.gz" % lang)
        if os.path.exists(path) and lang != "fr":
            rows = list(data.lines(path))
            if len(rows) > 7500:  # capped and shuffled: no order left
                continue
            s = Lines([r["text"] for r in rows], [r["text"] for r in pivot], ([" ".join(r["emotions"]) for r in rows], [" ".join(r["emotions"]) for r in pivot]))
            out["xed_fr"] += [(lang, pivot[j]["text"], rows[i]["text"]) for i, j in monotone(s)]
        for name in ("tico19", "azd_docs"):
            a, b = (os.path.join(root, "text", l, name + ".txt.gz") for l in (lang, "en"))
            if os.path.exists(a):
                other, english = read(a), read(b)
                out[name] += [(lang, english[j], other[i]) for i, j in monotone(Lines(other, english))]
        print("aligned", lang, {k: sum(1 for p in v if p[0] == lang) for k, v in out.items()}, flush=True)
    return dict(out)


def run(root, path):
    if not os.path.exists(path):
        json.dump(pairs(root), open(path, "w"), ensure_ascii=False)
    return json.load(open(path))


if __name__ == "__main__":
    import random
    import sys
    found = run(sys.argv[1], sys.argv[2])
    for name, some in found.items():
        print(name, len(some))
        for p in random.Random(1).sample(some, 6):
            print("   ", p)
