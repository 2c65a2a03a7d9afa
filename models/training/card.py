"""Calibration, evaluation and the model card: everything after training, from one averaged network to the finished folder."""
import json
import os
import time

import numpy as np
import torch

import data
import evaluate
import export
import floor

CHECKS = [("sentiment/nsmc", "sentiment"), ("sentiment/goemotions", "sentiment"), ("sentiment/wisesight", "sentiment"), ("sentiment/asap_sample", "sentiment"),
          ("intent/clinc150", "intent"), ("intent/hwu64", "intent"), ("intent/asdc", "intent"), ("keyphrase/mams", "keys"),
          ("share-alike/nusax", "sentiment"), ("share-alike/indonlu", "sentiment"), ("share-alike/xsid", "intent"), ("share-alike/sgd", "intent"),
          ("share-alike/bitext_cs", "intent")]


def check_rows(root):
    """{folder: (task, rows)}: 600 rows of each check set's dev split at most."""
    saved, data.PUBLIC = data.PUBLIC, [(f, t, 600, 1.0) for f, t in CHECKS]
    found = data.public(root, "dev")
    data.PUBLIC = saved
    return {f: (t, [found[f][i] for i in np.random.RandomState(data.SEED).permutation(len(found[f]))[:600]]) for f, t in CHECKS if found[f]}


def macro(gold, pred):
    return float(floor.f1_score(gold, pred, average="macro", labels=sorted(set(gold)), zero_division=0))


def floor_checks(root, runs, sets, rows):
    """The linear floor (authored training side) on the check sets, cached: {folder: macro-F1}."""
    path = os.path.join(runs, "floor-checks.json")
    if not os.path.exists(path):
        linear = {t: floor.fit(rows, t) for t in ("sentiment", "intent")}
        out = {f: macro([r[t] for r in some], linear[t](some).argmax(1).tolist()) for f, (t, some) in sets.items() if t != "keys"}
        with open(path, "w") as fp:
            json.dump(out, fp)
    with open(path) as fp:
        return json.load(fp)


def checks(net, enc, root, runs, rows):
    """Public dev splits beside the linear floor: [(set, task, rows, ours, floor)]."""
    sets, out = check_rows(root), []
    base = floor_checks(root, runs, sets, rows)
    for folder, (task, some) in sets.items():
        if task == "keys":
            some = [{**r, "sentiment": 1} for r in some]
            s, _, _ = evaluate.scores(net, enc, some)
            out.append((folder, "keyphrases (exact F1)", len(some), s["keyphrases"]["all"], None))
            out.append((folder, "polarity of keyphrases (accuracy)", len(some), s["key_polarity_accuracy"], None))
            continue
        logits = evaluate.forward(net, enc.encode(some))
        out.append((folder, task, len(some), macro([r[task] for r in some], [int(l[task].argmax()) for l in logits]), base[folder]))
        print("check", out[-1], flush=True)
    return out


def misses(rows, logits, temperatures):
    """Confident mistakes on held-out messages: [(lang, text, task, gold, said, probability)]."""
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
            if f[1] not in seen and len(seen) < 6:
                seen.add(f[1])
                out.append(f)
    return out


def confusion(rows, logits, task, names):
    m = np.zeros((len(names), len(names)), int)
    for r, l in zip(rows, logits):
        m[r[task], int(l[task].argmax())] += 1
    head = "| said: | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|\n"
    return head + "\n".join("| **%s** | %s |" % (n, " | ".join(map(str, row))) for n, row in zip(names, m))


def write(net, enc, root, runs, out, tokenizer, record, with_checks=True):
    split = data.authored(root)
    dev, test = split["dev"], split["test"]
    _, logits, examples = evaluate.scores(net, enc, dev)
    temperatures = {t: evaluate.temperature([l[t] for l in logits], [r[t] for r in dev]) for t in ("sentiment", "intent")}
    have = [i for i, r in enumerate(dev) if r["emotion"] >= 0]
    temperatures["emotion"] = evaluate.temperature([logits[i]["emotion"] for i in have], [dev[i]["emotion"] for i in have])
    flat = np.concatenate([l["keyphrases"][np.array(x["tags"]) >= 0] for l, x in zip(logits, examples)])
    gold = np.concatenate([np.array(x["tags"])[np.array(x["tags"]) >= 0] for x in examples])
    biases = np.linspace(-1, 2.5, 29)
    f = np.array([evaluate.keyphrases(dev, examples, logits, b)["all"] for b in biases])
    smooth = np.convolve(np.pad(f, 2, mode="edge"), np.ones(5) / 5, "valid")
    bias = float(biases[int(smooth.argmax())])
    shifted = flat.copy()
    shifted[:, 0] -= bias
    temperatures["keyphrases"] = evaluate.temperature(shifted, gold)
    print("temperatures", temperatures, "O bias", bias, flush=True)
    net.float()
    before = evaluate.forward(net, enc.encode(test[:400]))
    net = export.write(net, tokenizer, out, temperatures, bias)
    s, logits, examples = evaluate.scores(net, enc, test)
    agree = {t: float(np.mean([a[t].argmax() == b[t].argmax() for a, b in zip(before, logits)])) for t in ("sentiment", "intent", "emotion")}
    ours = {t: {"before": evaluate.ece([l[t] for l in logits], [r[t] for r in test]),
                "after": evaluate.ece([l[t] for l in logits], [r[t] for r in test], temperatures[t])} for t in ("sentiment", "intent")}
    bf16 = bf16_agreement(net, enc, test[:400], logits[:400])
    variants = {g: {k: round(float(v), 4) for k, v in evaluate.keyphrases(test, examples, logits, 0.0, g).items()} for g in ("no", "all", "not-hangul")}
    print("held-out", {t: {k: round(float(v), 3) for k, v in s[t].items()} for t in ("sentiment", "intent", "emotion")}, flush=True)
    print("keyphrases by decoding", variants, flush=True)
    found = {"variants": variants, "record": record, "scores": s, "floor": floor.run(root, runs), "floor+phrases": floor.run(root, runs, data.phrases()) if with_checks else None,
             "ece": ours, "f16_agreement": agree, "bf16_agreement": bf16, "temperatures": temperatures, "o_bias": bias,
             "checks": checks(net, enc, root, runs, split["train"] + dev) if with_checks else [], "misses": misses(test, logits, temperatures),
             "confusion": {t: confusion(test, logits, t, n) for t, n in (("sentiment", data.SENTIMENT), ("intent", data.INTENT))},
             "counts": {"test": len(test), "dev": len(dev)}}
    with open(os.path.join(runs, "evaluation-%s.json" % time.strftime("%H%M")), "w") as fp:
        json.dump(found, fp, ensure_ascii=False)
    with open(os.path.join(out, "README.md"), "w", encoding="utf-8") as fp:
        fp.write(text(found))
    return found


@torch.no_grad()
def bf16_agreement(net, enc, rows, reference):
    """Labels that stay the same when every weight is rounded to bf16."""
    keep = {k: v.clone() for k, v in net.state_dict().items()}
    for p in net.parameters():
        p.copy_(p.bfloat16().float())
    other = evaluate.forward(net, enc.encode(rows))
    net.load_state_dict(keep)
    return {t: float(np.mean([a[t].argmax() == b[t].argmax() for a, b in zip(other, reference)])) for t in ("sentiment", "intent", "emotion")}


def text(f):
    s, fl, fp, r = f["scores"], f["floor"], f["floor+phrases"], f["record"]
    rows = "\n".join("| %s | %.2f | %.2f | %.2f | %.2f | %.2f |" % (
        l, s["sentiment"].get(l, 0), fl["sentiment"].get(l, 0), s["intent"].get(l, 0), fl["intent"].get(l, 0), s["keyphrases"].get(l, 0))
        for l in data.LANGS + ["mean"])
    checks_ = "\n".join("| `%s` | %s | %d | %.2f | %s |" % (a, b, n, c, "-" if d is None else "%.2f" % d) for a, b, n, c, d in f["checks"])
    wrong = "\n".join("| %s | %s | %s: %s | %s (%.2f) |" % (l, t, task, g, p, q) for q, l, t, task, g, p in f["misses"])
    with open(os.path.join(data.HERE, "card.md"), encoding="utf-8") as fp_:
        template = fp_.read()
    decoding = ", ".join("%s %.3f (ko %.2f)" % (n, f["variants"][g]["all"], f["variants"][g].get("ko", 0)) for g, n in (
        ("no", "pieces as tagged"), ("all", "grown to whole words"), ("not-hangul", "grown, but not in Korean")))
    values = {"rows": rows, "decoding": decoding, "checks": checks_, "wrong": wrong, "sentiment": "%.3f" % s["sentiment"]["all"], "intent": "%.3f" % s["intent"]["all"],
              "keys": "%.3f" % s["keyphrases"]["all"], "key_p": "%.2f" % s["keyphrases"]["precision"], "key_r": "%.2f" % s["keyphrases"]["recall"],
              "emotion": "%.3f" % s["emotion"]["all"], "floor_s": "%.3f" % fl["sentiment"]["all"], "floor_i": "%.3f" % fl["intent"]["all"],
              "floorp_s": "%.3f" % fp["sentiment"]["all"] if fp else "-", "floorp_i": "%.3f" % fp["intent"]["all"] if fp else "-",
              "polarity": "%.3f (macro-F1 %.3f)" % (s["key_polarity_accuracy"], s["key_polarity"]),
              "sentence": "%.3f (macro-F1 %.3f)" % (s["sentence_polarity_accuracy"], s["sentence_polarity"]),
              "ece": "\n".join("| %s | %.3f | %.3f | %.2f |" % (t, e["before"], e["after"], f["temperatures"][t]) for t, e in f["ece"].items()),
              "bf16": ", ".join("%s %.1f %%" % (t, 100 * v) for t, v in f["bf16_agreement"].items()),
              "f16": ", ".join("%s %.1f %%" % (t, 100 * v) for t, v in f["f16_agreement"].items()),
              "confusion_s": f["confusion"]["sentiment"], "confusion_i": f["confusion"]["intent"], "test": str(f["counts"]["test"]), "dev": str(f["counts"]["dev"]),
              "steps": str(r["steps"]), "epochs": "%.1f" % r["epochs"], "minutes": "%.0f" % r["minutes"], "authored": str(r["authored"]), "phrases": str(r["phrases"])}
    for k, v in values.items():
        template = template.replace("{{%s}}" % k, v)
    return template
