"""From the averaged network to the finished folder: calibration on the dev messages, the pack, its scores and its card."""
import json
import os
import time

import numpy as np
import torch

import data
import evaluate
import export
import report


def calibration(net, enc, dev):
    """({head: temperature}, shift of the keyphrases' O logit) from the dev messages."""
    _, logits, examples = evaluate.scores(net, enc, dev)
    temperatures = {}
    for task in ("sentiment", "intent", "emotion"):
        have = [i for i, r in enumerate(dev) if r[task] >= 0]
        temperatures[task] = evaluate.temperature([logits[i][task] for i in have], [dev[i][task] for i in have])
    biases = np.linspace(-1, 2.5, 29)
    f = np.array([evaluate.keyphrases(dev, examples, logits, b)["all"] for b in biases])
    bias = float(biases[int(np.convolve(np.pad(f, 2, mode="edge"), np.ones(5) / 5, "valid").argmax())])
    z = np.concatenate([l["keyphrases"][np.array(x["tags"]) >= 0] for l, x in zip(logits, examples)])
    z[:, 0] -= bias
    gold = np.concatenate([np.array(x["tags"])[np.array(x["tags"]) >= 0] for x in examples])
    temperatures["keyphrases"] = evaluate.temperature(z, gold)
    return temperatures, bias


def misses(rows, logits, temperatures):
    """Confident mistakes on held-out messages: [(probability, lang, text, task, gold, said)]."""
    out = []
    for task, names in (("sentiment", data.SENTIMENT), ("intent", data.INTENT)):
        found = []
        for r, l in zip(rows, logits):
            p = np.exp(l[task] / temperatures[task] - np.max(l[task] / temperatures[task]))
            p /= p.sum()
            if p.argmax() != r[task] and len(r["text"]) < 140:
                found.append((float(p.max()), r["lang"], r["text"].replace("\n", " ").replace("|", "/"), task, names[r[task]], names[int(p.argmax())]))
        seen = set()
        for f in sorted(found, reverse=True):
            if f[1] not in seen and len(seen) < 8:
                seen.add(f[1])
                out.append(f)
    return out


@torch.no_grad()
def rounded_labels(net, enc, rows, kind):
    """Share of labels that stay the same when every weight is rounded to `kind` (a function of a tensor)."""
    before = evaluate.forward(net, enc.encode(rows))
    keep = {k: v.clone() for k, v in net.state_dict().items()}
    for p in net.parameters():
        p.copy_(kind(p))
    after = evaluate.forward(net, enc.encode(rows))
    net.load_state_dict(keep)
    return {t: float(np.mean([a[t].argmax() == b[t].argmax() for a, b in zip(after, before)])) for t in ("sentiment", "intent", "emotion")}


def write(net, enc, root, runs, out, tokenizer, record, with_checks=True):
    """Exports the pack to `out`, scores it as report.py does, and writes its README.md."""
    dev = data.authored(root)["dev"]
    temperatures, bias = calibration(net, enc, dev)
    print("temperatures", temperatures, "O bias", bias, flush=True)
    some = data.authored(root)["test"][::6]
    agree = {"bf16": rounded_labels(net, enc, some, lambda p: p.bfloat16().float())}
    export.write(net, tokenizer, out, temperatures, bias)
    found, (test, logits) = report.evaluate_all(*report.load(out), root, with_checks)
    found.update(record=record, agree=agree, temperatures=temperatures, o_bias=bias, misses=misses(test, logits, temperatures), counts={"test": len(test), "dev": len(dev)})
    with open(os.path.join(runs, "evaluation-%s.json" % time.strftime("%H%M")), "w", encoding="utf-8") as fp:
        json.dump(found, fp, ensure_ascii=False)
    with open(os.path.join(out, "README.md"), "w", encoding="utf-8") as fp:
        fp.write(text(found))
    return found


def text(f):
    tasks, languages, matrix = report.held_out(f)
    keys, record = f["keyphrases"], f["record"]
    wrong = report.table(["language", "text", "gold", "said"], [[l, t, "%s: %s" % (task, g), "%s (%.2f)" % (p, q)] for q, l, t, task, g, p in f["misses"]])
    decoding = ", ".join("%s %.3f (Korean %.2f)" % (n, keys[g]["all"], keys[g].get("ko", 0)) for g, n in (
        ("no", "pieces as tagged"), ("all", "grown to whole words"), ("not-hangul", "grown, but not in Korean")))
    values = {"tasks": tasks, "languages": languages, "confusion": matrix, "checks": report.checked(f), "wrong": wrong, "decoding": decoding,
              "keys": "%.3f" % keys["not-hangul"]["all"], "key_p": "%.2f" % keys["not-hangul"]["precision"], "key_r": "%.2f" % keys["not-hangul"]["recall"],
              "polarity": "%.3f" % f["polarity"]["key_polarity_accuracy"], "polarity_f1": "%.3f" % f["polarity"]["key_polarity"],
              "sentence": "%.3f" % f["polarity"]["sentence_polarity_accuracy"], "sentence_f1": "%.3f" % f["polarity"]["sentence_polarity"],
              "temperatures": ", ".join("%s %.2f" % kv for kv in f["temperatures"].items()),
              "bf16": ", ".join("%s %.1f %%" % (t, 100 * v) for t, v in f["agree"]["bf16"].items()),
              "test": str(f["counts"]["test"]), "dev": str(f["counts"]["dev"]), "steps": str(record["steps"]), "epochs": "%.1f" % record["epochs"],
              "minutes": "%.0f" % record["minutes"], "authored": str(record["authored"]), "phrases": str(record["phrases"])}
    with open(os.path.join(data.HERE, "card.md"), encoding="utf-8") as fp:
        template = fp.read()
    for k, v in values.items():
        template = template.replace("{{%s}}" % k, v)
    return template
