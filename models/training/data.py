"""Loading and splitting the labelled texts.

A row is a dict: text, lang, weight, and those of sentiment / intent / emotion / keys that its source knows (labels as indices,
`keys` = [(start, end, polarity), ...] in code points). Authored messages carry everything; public rows carry one label.
Split: `parallel.jsonl` by group; every other message by its situation signature (domain, channel, sentiment, intent), over all
languages and both rounds together, so that near-parallel situations never sit on both sides. phrases/ only ever trains.
"""
import collections
import glob
import gzip
import hashlib
import json
import os
import random

LANGS = "en zh ja ko es fr de it pt nl pl ru tr ar hi id vi th".split()
SENTIMENT = ["negative", "neutral", "positive"]
INTENT = ["complaint", "purchase", "request", "other"]
EMOTION = ["neutral", "frustration", "anger", "joy", "disappointment", "gratitude", "trust", "anxiety", "enthusiasm", "confusion", "sadness"]
TAGS = ["O", "B-KEY", "I-KEY"]
CHANNEL = ["email", "call", "ticket", "survey", "chat", "social", "review"]
SEED = 20261
HERE = os.path.dirname(os.path.abspath(__file__))
DOMAIN = {"software": "software/SaaS", "logistics": "logistics/parcel", "health": "health/pharmacy", "government": "government service",
          "energy": "energy/utilities", "rail": "rail/bus", "b2b equipment": "B2B equipment"}


def unit(*parts):
    """A stable pseudo-random number in [0, 1) for a key."""
    h = hashlib.sha256("\x1f".join(map(str, (SEED,) + parts)).encode()).digest()
    return int.from_bytes(h[:8], "big") / 2**64


def spans(text, keyphrases):
    """Code point spans of authored keyphrases: leftmost free occurrence, longest phrase first; overlapping ones are dropped."""
    taken, out = [], []
    for phrase, polarity in sorted(keyphrases, key=lambda k: -len(k[0])):
        at = text.find(phrase) if phrase else -1
        while at >= 0 and any(at < e and s < at + len(phrase) for s, e in taken):
            at = text.find(phrase, at + 1)
        if at >= 0:
            taken.append((at, at + len(phrase)))
            out.append((at, at + len(phrase), SENTIMENT.index(polarity)))
    return sorted(out)


def message(raw):
    """An authored message as a row; None when a field is not as the definitions say."""
    try:
        if not raw["text"].strip() or raw["lang"] not in LANGS or any(k[0] not in raw["text"] for k in raw["keyphrases"]):
            return None
        return {"text": raw["text"], "lang": raw["lang"], "weight": 1.0, "sentiment": SENTIMENT.index(raw["sentiment"]),
                "intent": INTENT.index(raw["intent"]), "emotion": EMOTION.index(raw["emotion"]) if raw["emotion"] in EMOTION else -1,
                "keys": spans(raw["text"], raw["keyphrases"]), "group": raw.get("group"),
                "domain": DOMAIN.get(raw["domain"], raw["domain"]), "channel": raw["channel"]}
    except (KeyError, ValueError, TypeError, IndexError):
        return None


def lines(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as f:
        for line in f:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def authored(root):
    """{'train': rows, 'dev': rows, 'test': rows} of data/authored."""
    out = {"train": [], "dev": [], "test": []}
    for path in sorted(glob.glob(os.path.join(root, "authored", "*.jsonl"))):
        for raw in lines(path):
            row = message(raw)
            if row is None:
                continue
            key = ("group", row["group"]) if row["group"] is not None else (row["domain"], row["channel"], row["sentiment"], row["intent"])
            u = unit(*key)
            out["test" if u < 0.13 else "dev" if u < 0.16 else "train"].append(row)
    return out


def phrases():
    rows = [message(raw) for path in sorted(glob.glob(os.path.join(HERE, "phrases", "*.jsonl"))) for raw in lines(path)]
    return [r for r in rows if r]


# Public sets that season the batches: folder, task, rows per language at most, weight.
PUBLIC = [("sentiment/arsarcasm", "sentiment", 700, 0.3), ("sentiment/nsmc", "sentiment", 500, 0.2), ("sentiment/potts", "sentiment", 700, 0.3),
          ("sentiment/wisesight", "sentiment", 900, 0.4), ("sentiment/thai_sentiment", "sentiment", 300, 0.4), ("sentiment/kote", "sentiment", 500, 0.2),
          ("sentiment/asap_sample", "sentiment", 200, 0.5), ("sentiment/rusentne", "sentiment", 500, 0.2), ("sentiment/goemotions", "sentiment", 500, 0.2),
          ("intent/banking77", "intent", 800, 0.3), ("intent/clinc150", "intent", 300, 0.2), ("intent/nlupp", "intent", 500, 0.3),
          ("intent/dstc11_intents", "intent", 400, 0.4), ("intent/asdc", "intent", 400, 0.3), ("keyphrase/mams", "keys", 1200, 0.4)]


def public(root, split="train", caps=True):
    """Public rows by set: {folder: rows}; rows with labels outside ours are left out."""
    out = collections.OrderedDict()
    for folder, task, cap, weight in PUBLIC:
        rows = []
        for path in sorted(glob.glob(os.path.join(root, folder, "*.%s.jsonl.gz" % split))):
            some = []
            for raw in lines(path):
                lang = raw.get("lang", "").split("-")[0]
                if lang not in LANGS or raw.get("weak") or len(raw["text"]) < 2:
                    continue
                row = {"text": raw["text"], "lang": lang, "weight": weight}
                if task == "keys":
                    if not raw.get("spans"):
                        continue
                    row["keys"] = [(s, e, SENTIMENT.index(p)) for s, e, p in raw["spans"] if p in SENTIMENT]
                else:
                    names = SENTIMENT if task == "sentiment" else INTENT
                    if raw.get("label") not in names:
                        continue
                    row[task] = names.index(raw["label"])
                some.append(row)
            random.Random(SEED).shuffle(some)
            rows += some[:cap] if caps else some
        out[folder] = rows
    return out


def unlabelled(root, per_language, authored_rows=()):
    """Plain text by language for the tokenizer and co-occurrence counts: {lang: [lines]}, capped in characters."""
    out = {}
    for lang in LANGS:
        pool = []
        for path in sorted(glob.glob(os.path.join(root, "text", lang, "*.gz"))):
            if "gnome_help" in path:  # its own licence note says share-alike
                continue
            cap = per_language * (0.15 if "docs" in path else 0.5)
            used, some = 0, []
            opener = gzip.open(path, "rt", encoding="utf-8")
            with opener as f:
                everything = f.readlines()
            random.Random(SEED).shuffle(everything)
            for line in everything:
                if path.endswith(".jsonl.gz"):
                    line = json.loads(line).get("text", "")
                line = line.strip()
                if line:
                    some.append(line)
                    used += len(line)
                if used > cap:
                    break
            pool += some
        random.Random(SEED).shuffle(pool)
        total, keep = 0, []
        for line in pool:
            keep.append(line)
            total += len(line)
            if total > per_language:
                break
        out[lang] = keep
    for row in authored_rows:
        out[row["lang"]].append(row["text"])
    return out
