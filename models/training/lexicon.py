"""A sentiment lexicon in 18 languages as a baseline: words and expressions of `lexicon.tsv`, emoji, negation (after VADER, Hutto and Gilbert 2014).

A text's score is the sum of its expressions' polarity, longest first; a negation up to three words before (in scripts without blanks: six
characters) turns one around at 0.74, an exclamation mark makes the last one stronger. Above 0 is positive, below is negative, else neutral.
"""
import os
import re

import numpy as np

import data

POSITIVE = """good;very good;excellent;great;happy;satisfied;love it;like;thank you;thanks a lot;works well;fast;cheap;value for money;friendly;polite;helpful;professional;
recommend;perfect;beautiful;delicious;clean;comfortable;easy;reliable;excited;trust;discount;everything is fine;best;better;solved;loyal customer"""
NEGATIVE = """bad;very bad;terrible;awful;disappointed;disappointing;angry;annoying;unacceptable;dissatisfied;hate;never again;problem;error;broken;damaged;does not work;crash;slow;
late;delay;waiting;still waiting;no answer;nobody helps;expensive;rude;useless;do not recommend;tasteless;cold;dirty;noisy;difficult;confusing;scam;lie;worried;complaint;
charged twice;has not arrived;wrong;missing;lost;outage;worst;worse;waste of time;shame"""
NEGATION = ["not", "never", "no"]
STRONG = {"very good", "very bad", "excellent", "great", "terrible", "awful", "perfect", "scam", "best", "worst", "hate", "love it", "never again", "unacceptable"}
EMOJI = {1: "😀😃😄😁😆😅😂🤣😊😍😘👍❤👏🔥🎉🥰🙏💪✨😋🤩💯", -1: "😡🤬😤😭😢👎💔🙄😒😞😔😩😫🤮💩❌😠😣😖😱"}
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


class Lexicon:
    def __init__(self):
        sign = {c.strip(): s for s, names in ((1, POSITIVE), (-1, NEGATIVE)) for c in names.replace("\n", "").split(";")}
        self.words, self.negation = {l: {} for l in data.LANGS}, {l: set() for l in data.LANGS}
        with open(os.path.join(data.HERE, "lexicon.tsv"), encoding="utf-8") as f:
            for line in f:
                cells = [c.strip().lower() for c in line.rstrip("\n").split("|")]
                for lang, cell in zip(data.LANGS, cells):
                    for word in filter(None, (w.strip() for w in cell.split("/"))):
                        if cells[0] in sign:
                            self.words[lang][word] = sign[cells[0]] * (1.5 if cells[0] in STRONG else 1.0)
                        if cells[0] in NEGATION:
                            self.negation[lang].add(word)
        self.order = {l: sorted(w, key=len, reverse=True) for l, w in self.words.items()}

    def score(self, text, lang):
        text, total = text.lower(), 0.0
        taken = np.zeros(len(text), bool)
        for word in self.order[lang]:
            edge = not UNSPACED.search(word)
            for m in re.finditer(r"(?<!\w)%s(?!\w)" % re.escape(word) if edge else re.escape(word), text):
                if taken[m.start():m.end()].any():
                    continue
                taken[m.start():m.end()] = True
                before = text[: m.start()].split()[-3:] if edge else [text[max(0, m.start() - 6): m.start()]]
                denied = any(n in before if edge else n in before[0] for n in self.negation[lang])
                loud = 1.2 if text[m.end():m.end() + 2].strip().startswith("!") else 1.0
                total += self.words[lang][word] * loud * (-0.74 if denied else 1.0)
        return total + sum(s * sum(text.count(e) for e in some) for s, some in EMOJI.items())

    def predict(self, rows):
        """Labels (indices into data.SENTIMENT) of rows."""
        return [1 + int(np.sign(self.score(r["text"], r["lang"]))) for r in rows]
