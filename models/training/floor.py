"""The linear floor: char-n-gram TF-IDF with logistic regression on the authored training side; macro-F1 on the held-out side.

Also the source of soft labels: `teacher` gives out-of-fold probabilities for the training rows.
"""
import json
import os

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import data


def fit(rows, task):
    vec = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), min_df=2, sublinear_tf=True, dtype=np.float32)
    x = vec.fit_transform(r["text"].lower() for r in rows)
    clf = LogisticRegression(C=8.0, class_weight="balanced", solver="liblinear" if task == "binary" else "lbfgs", max_iter=60, tol=1e-3)
    clf.fit(x, [r[task] for r in rows])
    return lambda some: clf.predict_proba(vec.transform(r["text"].lower() for r in some))


def table(gold, pred, langs):
    """Macro-F1 over all rows and per language."""
    out = {"all": f1_score(gold, pred, average="macro")}
    for lang in data.LANGS:
        at = [i for i, l in enumerate(langs) if l == lang]
        if at:
            out[lang] = f1_score([gold[i] for i in at], [pred[i] for i in at], average="macro", labels=sorted(set(gold)), zero_division=0)
    per = [out[l] for l in data.LANGS if l in out]
    out["mean"] = float(np.mean(per)) if per else out["all"]
    return out


def run(root, runs, extra=()):
    """Fit on the train side (plus phrases when given), score the test side; results cached in runs/floor*.json."""
    path = os.path.join(runs, "floor+phrases.json" if extra else "floor.json")
    if os.path.exists(path):
        return json.load(open(path))
    split = data.authored(root)
    rows, test = split["train"] + split["dev"] + list(extra), split["test"]
    out = {"rows": len(rows), "test": len(test)}
    for task in ("sentiment", "intent"):
        pred = fit(rows, task)(test).argmax(1)
        out[task] = table([r[task] for r in test], pred.tolist(), [r["lang"] for r in test])
        print("floor", task, {k: round(v, 3) for k, v in out[task].items()}, flush=True)
    json.dump(out, open(path, "w"))
    return out


if __name__ == "__main__":
    import sys
    run(sys.argv[1], sys.argv[2])
