"""Scores of a network: macro-F1 by task and language, exact keyphrase F1, polarity of sub-spans, calibration."""
import re
import unicodedata

import numpy as np
import torch

import batches
import data
import floor
import net as nets


def joins(a, b, hangul):
    """Whether two neighbouring characters belong to one word of a script with spaces between words."""
    def of_word(c):
        o = ord(c)
        unspaced = 0x0E00 <= o <= 0x0EFF or 0x3040 <= o <= 0x30FF or 0x3400 <= o <= 0x9FFF or not hangul and 0xAC00 <= o <= 0xD7A3
        return (c.isalnum() or unicodedata.category(c)[0] == "M") and not unspaced
    return of_word(a) and of_word(b)


PARENT = re.compile(r"والد(ة|ي|ك|ه|ها|نا|تي|تك|ته|تها|تنا|ين|ان|يه|يا)?")


def conjunction(phrase):
    """1 for an Arabic "and" written into the first word before the article ("walid", parent, is not one), else 0."""
    word = re.match(r"\w*", phrase).group()
    return int(word.startswith("وال") and len(word) >= 5 and not PARENT.fullmatch(word))


def decode(tags, offsets, text, grow="all"):
    """Keyphrase spans in code points from tag ids per piece: B opens, I continues (or opens), O closes.

    Then as the server does: grown to whole words where a script has them (`grow`: "no", "all", or "not-hangul", which leaves Korean,
    whose particles cling to the noun, as tagged), cut free of blanks and punctuation at the ends, and of an Arabic conjunction.
    """
    out, open_ = [], None
    for tag, (a, b) in list(zip(tags, offsets)) + [(0, (0, 0))]:
        if tag == 2 and open_:
            open_[1] = b
            continue
        if open_:
            s, e = open_
            while s < e and text[s].isspace():
                s += 1
            while e > s and text[e - 1].isspace():
                e -= 1
            if grow != "no":
                while 0 < s < e and joins(text[s - 1], text[s], grow == "all"):
                    s -= 1
                while s < e < len(text) and joins(text[e - 1], text[e], grow == "all"):
                    e += 1
            while s < e and unicodedata.category(text[s])[0] in "PZCM":
                s += 1
            while e > s and unicodedata.category(text[e - 1])[0] in "PZC":
                e -= 1
            s += conjunction(text[s:e])
            if e > s and (not out or s >= out[-1][1]):
                out.append((s, e))
            open_ = None
        if tag in (1, 2):
            open_ = [a, b]
    return out


@torch.no_grad()
def forward(net, examples, budget=4096):
    """Logits of every head for encoded examples, in their order; plus the sentiment head over each example's sub-spans."""
    net.eval()
    out = {}
    for i, x in enumerate(examples):
        x["at"] = i
    for batch in batches.group(examples, budget):
        ids, real, tags, whole, spans = batches.tensors(batch)
        hidden = net(ids, real)
        mean = nets.pool(hidden, whole)
        got = {k: net.heads[k](mean).numpy() for k in ("sentiment", "intent", "emotion")}
        keys = net.heads["keyphrases"](hidden).numpy()
        part = net.heads["sentiment"](nets.pool(hidden, torch.tensor([s[:3] for s in spans]))).numpy() if spans else []
        for i, x in enumerate(batch):
            out[x["at"]] = {**{k: v[i] for k, v in got.items()}, "keyphrases": keys[i, : len(x["ids"])],
                            "spans": [(s[3], s[4], part[j]) for j, s in enumerate(spans) if s[0] == i]}
    return [out[i] for i in range(len(examples))]


def key_counts(gold, found):
    hit = len(set(gold) & set(found))
    return np.array([hit, len(found), len(gold)])


def f1(c):
    return 2 * c[0] / max(1, c[1] + c[2])


def keyphrases(rows, examples, logits, bias=0.0, grow="not-hangul"):
    """Exact F1 over all and per language; `bias` is taken from the O logit."""
    total, per = np.zeros(3), {}
    for r, x, l in zip(rows, examples, logits):
        z = l["keyphrases"].copy()
        z[:, 0] -= bias
        tags = z.argmax(1)
        tags[0] = tags[-1] = 0
        c = key_counts([(s, e) for s, e, _ in r["keys"]], decode(tags, x["offsets"], x["text"], grow))
        total += c
        per[r["lang"]] = per.get(r["lang"], np.zeros(3)) + c
    return {"all": f1(total), "precision": total[0] / max(1, total[1]), "recall": total[0] / max(1, total[2]),
            **{k: f1(v) for k, v in per.items()}, "mean": float(np.mean([f1(v) for v in per.values()]))}


def ece(logits, gold, temperature=1.0, bins=15):
    z = np.asarray(logits) / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    top, right = p.max(1), p.argmax(1) == np.asarray(gold)
    at = np.minimum((top * bins).astype(int), bins - 1)
    return float(sum(abs(right[at == b].mean() - top[at == b].mean()) * (at == b).mean() for b in range(bins) if (at == b).any()))


def nll(logits, gold, temperature):
    z = np.asarray(logits, np.float64) / temperature
    z = z - z.max(1, keepdims=True)
    return float(-(z[np.arange(len(gold)), gold] - np.log(np.exp(z).sum(1))).mean())


def temperature(logits, gold):
    grid = np.exp(np.linspace(np.log(0.4), np.log(4), 81))
    return float(grid[int(np.argmin([nll(logits, gold, t) for t in grid]))])


def scores(net, enc, rows, bias=0.0):
    examples = enc.encode(rows)
    logits = forward(net, examples)
    langs, out = [r["lang"] for r in rows], {}
    for task in ("sentiment", "intent", "emotion"):
        have = [i for i, r in enumerate(rows) if r.get(task, -1) >= 0]
        if not have:
            continue
        out[task] = floor.table([rows[i][task] for i in have], [int(logits[i][task].argmax()) for i in have], [langs[i] for i in have])
    out["keyphrases"] = keyphrases(rows, examples, logits, bias)
    for name, weight in (("key_polarity", 1.0), ("sentence_polarity", 0.5)):
        some = [(g, int(z.argmax())) for l in logits for g, w, z in l["spans"] if w == weight]
        out[name] = floor.table([g for g, _ in some], [p for _, p in some], ["-"] * len(some))["all"] if some else None
        out[name + "_accuracy"] = float(np.mean([g == p for g, p in some])) if some else None
    return out, logits, examples


def quick(net, enc, rows):
    s, _, _ = scores(net, enc, rows)
    return {k: round(float(s[k]["all"]), 3) for k in ("sentiment", "intent", "emotion", "keyphrases")} | {"key_polarity": round(s["key_polarity_accuracy"], 3)}
