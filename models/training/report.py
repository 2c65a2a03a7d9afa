"""Scores of a finished pack beside baselines: python models/training/report.py --data ../shared/data --pack models/default

Held-out authored messages, public dev splits and share-alike check sets; per task macro-F1, accuracy, calibration (expected calibration error
with the pack's temperature) and confusion; per language; against the majority label, the linear model (`floor.py`, trained on the authored
training side with phrases/) and a sentiment lexicon (`lexicon.py`). Prints Markdown; --json keeps every number. The weights are those of the
pack's file, in f32 arithmetic.
"""
import argparse
import collections
import json
import os
import sys

import numpy as np
from safetensors.torch import load_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import batches  # noqa: E402
import data  # noqa: E402
import evaluate  # noqa: E402
import floor  # noqa: E402
import lexicon  # noqa: E402
import net as nets  # noqa: E402

NAMES = {"sentiment": data.SENTIMENT, "intent": data.INTENT, "emotion": data.EMOTION}
CHECKS = [("sentiment/nsmc", "sentiment"), ("sentiment/goemotions", "sentiment"), ("sentiment/wisesight", "sentiment"), ("sentiment/asap_sample", "sentiment"),
          ("intent/clinc150", "intent"), ("intent/hwu64", "intent"), ("intent/asdc", "intent"), ("keyphrase/mams", "keys"),
          ("share-alike/nusax", "sentiment"), ("share-alike/indonlu", "sentiment"), ("share-alike/xsid", "intent"), ("share-alike/sgd", "intent"),
          ("share-alike/bitext_cs", "intent")]


def load(folder):
    """(network, encoder, temperatures) of a pack."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    weights = {k: v.float() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()}
    net = nets.Net(config["vocab_size"], config["num_hidden_layers"])
    net.load_state_dict(weights, strict=False)
    heads = config["hearken"]["heads"]
    return net.eval(), batches.Encoder(os.path.join(folder, "tokenizer.json"), {}), {k: h["temperature"] for k, h in heads.items()}


def check_rows(root, most=300):
    """{folder: (task, rows)}: `most` rows of each check set's dev split at most."""
    saved, data.PUBLIC = data.PUBLIC, [(f, t, most, 1.0) for f, t in CHECKS]
    found = data.public(root, "dev")
    data.PUBLIC = saved
    return {f: (t, [found[f][i] for i in np.random.RandomState(data.SEED).permutation(len(found[f]))[:most]]) for f, t in CHECKS if found[f]}


def labels(gold, said, langs):
    """Macro-F1 (all, mean of languages, each language) and accuracy of one list of predictions."""
    present = sorted(set(gold))
    macro = lambda at: float(floor.f1_score([gold[i] for i in at], [said[i] for i in at], average="macro", labels=present, zero_division=0))
    by = collections.defaultdict(list)
    for i, lang in enumerate(langs):
        by[lang].append(i)
    per = {lang: macro(at) for lang, at in by.items()}
    return {"macro_f1": macro(range(len(gold))), "mean_of_languages": float(np.mean(list(per.values()))), "accuracy": float(np.mean(np.array(gold) == np.array(said))), "languages": per}


def confusion(gold, said, names):
    m = np.zeros((len(names), len(names)), int)
    np.add.at(m, (np.array(gold), np.array(said)), 1)
    return m.tolist()


def classified(rows, logits, task, temperature, baselines):
    """One set and task: the pack, and each baseline {name: function of rows -> labels}."""
    have = [i for i, r in enumerate(rows) if r.get(task, -1) >= 0]
    gold, langs = [rows[i][task] for i in have], [rows[i]["lang"] for i in have]
    z = [logits[i][task] for i in have]
    said = [int(v.argmax()) for v in z]
    out = {"rows": len(have), "pack": labels(gold, said, langs), "confusion": confusion(gold, said, NAMES[task]),
           "ece_before": evaluate.ece(z, gold), "ece": evaluate.ece(z, gold, temperature)}
    most = collections.Counter(gold).most_common(1)[0][0]
    out["majority"] = labels(gold, [most] * len(gold), langs)
    for name, predict in baselines.items():
        out[name] = labels(gold, list(predict([rows[i] for i in have])), langs)
    return out


def evaluate_all(net, enc, temperatures, root, with_checks=True):
    split = data.authored(root)
    train, test = split["train"] + split["dev"] + data.phrases(), split["test"]
    words = lexicon.Lexicon()
    baselines = {}
    for task in ("sentiment", "intent"):
        fitted = floor.fit(train, task)
        baselines[task] = {"linear": lambda some, f=fitted: f(some).argmax(1).tolist()}
    baselines["sentiment"]["lexicon"] = words.predict
    s, logits, examples = evaluate.scores(net, enc, test)
    out = {"held-out": {t: classified(test, logits, t, temperatures[t], baselines.get(t, {})) for t in NAMES},
           "keyphrases": {g: evaluate.keyphrases(test, examples, logits, 0.0, g) for g in ("no", "all", "not-hangul")},
           "polarity": {k: s[k] for k in s if "polarity" in k}, "checks": {}}
    for folder, (task, some) in (check_rows(root) if with_checks else {}).items():
        if task == "keys":
            found, z, _ = evaluate.scores(net, enc, [{**r, "sentiment": 1} for r in some])
            gold = collections.Counter(p for r in some for *_, p in r["keys"])
            out["checks"][folder] = {"keyphrases": found["keyphrases"]["all"], "polarity": found["key_polarity_accuracy"], "rows": len(some),
                                     "majority": max(gold.values()) / sum(gold.values())}
        else:
            out["checks"][folder] = {task: classified(some, evaluate.forward(net, enc.encode(some)), task, temperatures[task], baselines[task])}
        print("checked", folder, file=sys.stderr, flush=True)
    return out, (test, logits)


def table(head, rows):
    return "| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|\n" + "\n".join("| " + " | ".join(r) + " |" for r in rows)


def f2(x):
    return "-" if x is None else "%.2f" % x


def held_out(r):
    """The tables of the held-out messages: by task, by language, confusion."""
    h = r["held-out"]
    tasks = table(["task", "macro-F1", "mean of languages", "accuracy", "ECE as trained", "ECE calibrated", "majority", "lexicon", "linear model"],
                  [[t, "**%.3f**" % h[t]["pack"]["macro_f1"], "%.3f" % h[t]["pack"]["mean_of_languages"], "%.3f" % h[t]["pack"]["accuracy"], "%.3f" % h[t]["ece_before"],
                    "%.3f" % h[t]["ece"]] + [f2(h[t][b]["macro_f1"]) if b in h[t] else "-" for b in ("majority", "lexicon", "linear")] for t in NAMES])
    keys = r["keyphrases"]["not-hangul"]
    mean = lambda values: float(np.mean(list(values)))
    by = {"sentiment": h["sentiment"]["pack"]["languages"], "lexicon": h["sentiment"]["lexicon"]["languages"], "linear": h["sentiment"]["linear"]["languages"],
          "intent": h["intent"]["pack"]["languages"], "linear intent": h["intent"]["linear"]["languages"], "keyphrases": {l: keys.get(l, 0.0) for l in data.LANGS}}
    lines = [[l] + [f2(by[c][l]) for c in by] for l in data.LANGS] + [["mean"] + [f2(mean(by[c].values())) for c in by]]
    languages = table(["language", "sentiment", "lexicon", "linear model", "intent", "linear model", "keyphrases"], lines)
    matrix = "\n\n".join(table(["said:"] + NAMES[t], [["**%s**" % n] + [str(v) for v in row] for n, row in zip(NAMES[t], h[t]["confusion"])]) for t in ("sentiment", "intent"))
    return tasks, languages, matrix


def checked(r):
    lines = []
    for folder, c in r["checks"].items():
        if "keyphrases" in c:
            lines.append(["`%s`" % folder, "keyphrases (exact F1)", str(c["rows"]), f2(c["keyphrases"]), "-", "-", "-", "-", "-"])
            lines.append(["`%s`" % folder, "polarity of keyphrases (accuracy)", str(c["rows"]), "-", f2(c["polarity"]), "-", f2(c["majority"]), "-", "-"])
            continue
        (task, v), = c.items()
        lines.append(["`%s`" % folder, task, str(v["rows"]), f2(v["pack"]["macro_f1"]), f2(v["pack"]["accuracy"]), "%.3f" % v["ece"]]
                     + [f2(v[b]["macro_f1"]) if b in v else "-" for b in ("majority", "lexicon", "linear")])
    return table(["set", "task", "rows", "this pack", "accuracy", "ECE", "majority", "lexicon", "linear model"], lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="the data folder (authored/, sentiment/, ...)")
    p.add_argument("--pack", default="models/default", help="the folder with model.safetensors, tokenizer.json, config.json")
    p.add_argument("--json", help="file for every number")
    p.add_argument("--no-checks", action="store_true", help="held-out authored messages only (faster)")
    a = p.parse_args()
    r, _ = evaluate_all(*load(a.pack), a.data, not a.no_checks)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(r, f, ensure_ascii=False, indent=1)
    tasks, languages, matrix = held_out(r)
    k = r["keyphrases"]["not-hangul"]
    print("%s\n\nkeyphrases: exact F1 %.3f (precision %.2f, recall %.2f); sentiment over keyphrases: %s\n\n%s\n\n%s" % (
        tasks, k["all"], k["precision"], k["recall"], {n: v and round(v, 3) for n, v in r["polarity"].items()}, languages, matrix))
    if r["checks"]:
        print("\n" + checked(r))


if __name__ == "__main__":
    main()
