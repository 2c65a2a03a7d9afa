"""The linear floor: char-n-gram TF-IDF with logistic regression."""
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import data


def fit(rows, task):
    vec = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), min_df=2, sublinear_tf=True, dtype=np.float32)
    x = vec.fit_transform(r["text"].lower() for r in rows)
    clf = LogisticRegression(C=8.0, class_weight="balanced", solver="lbfgs", max_iter=60, tol=1e-3)
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
