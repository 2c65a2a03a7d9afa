"""First vectors for the new vocabulary, before any training of the layers.

English pieces take the vectors of all-MiniLM-L6-v2. Pieces of other languages take the vectors of the English word pieces they align
with (IBM model 1 both ways over align.py's pairs, symmetrised), mixed by how much each language uses the piece. Emoji take the vectors
of their Unicode names. What is still without a vector gets one from its neighbours in plain text (a la carte: the mean of context
vectors through one linear map fitted on the known pieces) and from its character n-grams. The n-grams stay: during training a piece is
`own + mean of its n-gram vectors` (`Pieces` in net.py), and only the sum is exported.
"""
import collections
import os
import unicodedata
import zlib

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import align
import data

BUCKETS = 1 << 16


def grams(piece):
    """Hashed character n-grams of a piece: 1-2 for scripts without spaces, 3-5 for the others."""
    s = piece.replace("▁", "<")
    dense = any(ord(c) > 0x2E80 and not 0x1F000 < ord(c) for c in s)
    out = set()
    for n in ((1, 2) if dense else (3, 4, 5)):
        for i in range(len(s) - n + 1):
            if s[i:i + n] != "<":
                out.add(zlib.crc32(("%d" % n + s[i:i + n]).encode()) % BUCKETS)
    return sorted(out)


def gram_matrix(pieces):
    rows, cols, vals = [], [], []
    for i, p in enumerate(pieces):
        g = grams(p) if i >= 5 else []
        rows += [i] * len(g)
        cols += g
        vals += [1.0 / max(1, len(g))] * len(g)
    return sp.csr_matrix((vals, (rows, cols)), (len(pieces), BUCKETS), np.float32)


def ibm1(source, target, n_source, rounds=5):
    """source, target: lists of id lists. {(s, t): weight} with sqrt(P(t|s) P(s|t)), and how often each source piece was seen."""
    keys, sent = [], []
    for k, (a, b) in enumerate(zip(source, target)):
        a, b = np.unique(a), np.unique(b)
        keys.append((a[:, None] * 100000 + b[None, :]).ravel())
        sent.append((k, len(a), len(b)))
    keys = np.concatenate(keys).astype(np.int64)
    uniq, inv = np.unique(keys, return_inverse=True)
    s_of, t_of = uniq // 100000, uniq % 100000
    # column (sentence, t) and row (sentence, s) ids of every cell, for the two directions
    col, row, c0, r0 = [], [], 0, 0
    for _, na, nb in sent:
        col.append(np.tile(np.arange(nb), na) + c0)
        row.append(np.repeat(np.arange(na), nb) + r0)
        c0 += nb
        r0 += na
    col, row = np.concatenate(col), np.concatenate(row)
    out = []
    for group, given, n_group in ((col, s_of, c0), (row, t_of, r0)):
        prob = np.ones(len(uniq))
        for _ in range(rounds):
            cell = prob[inv]
            cell /= np.bincount(group, cell, n_group)[group]
            count = np.bincount(inv, cell, len(uniq))
            prob = count / np.bincount(given, count)[given]
        out.append((prob, count))
    weight = np.sqrt(out[0][0] * out[1][0])
    weight[(np.minimum(out[0][1], out[1][1]) < 0.3) | (weight < 0.03)] = 0
    seen = np.bincount(np.concatenate([np.unique(a) for a in source]), minlength=n_source)
    keep = weight > 0
    return s_of[keep], t_of[keep], weight[keep], seen


def build(root, minilm, tokenizer, pairs, path):
    """Saves {vectors, own, grams} for the vocabulary; prints coverage."""
    tok, wp = Tokenizer.from_file(tokenizer), Tokenizer.from_file(os.path.join(minilm, "tokenizer.json"))
    wp.no_padding()
    wp.no_truncation()
    weights = load_file(os.path.join(minilm, "model.safetensors"))
    e0 = weights["embeddings.word_embeddings.weight"].astype(np.float32)
    mean = e0[1000:].mean(0)
    pieces = [tok.id_to_token(i) for i in range(tok.get_vocab_size())]
    n, vocab = len(pieces), wp.get_vocab()

    def english(piece):
        """MiniLM's vector for a piece's own string."""
        word, start = piece.lstrip("▁"), piece.startswith("▁")
        if not word:
            return mean
        if not start and "##" + word in vocab:
            return e0[vocab["##" + word]]
        if start and word in vocab:
            return e0[vocab[word]]
        ids = [i for i in wp.encode(word, add_special_tokens=False).ids if i != vocab["[UNK]"]]
        return e0[ids].mean(0) if ids else None

    print("counting pieces", flush=True)
    rows = data.authored(root)["train"] + data.phrases()
    texts = data.unlabelled(root, 1_000_000)
    freq = np.zeros((len(data.LANGS), n), np.float32)
    corpus = []
    for k, lang in enumerate(data.LANGS):
        own = [e.ids for e in tok.encode_batch([r["text"] for r in rows if r["lang"] == lang], add_special_tokens=False)]
        other = [e.ids for e in tok.encode_batch(texts[lang], add_special_tokens=False)]
        for some, weight in ((own, 5.0), (other, 1.0)):
            freq[k] += weight * np.bincount(np.concatenate([np.array(s, np.int64) for s in some]), minlength=n)
        corpus += [np.array(s, np.int32) for s in own + other]
    share = freq / np.maximum(freq.sum(0), 1)

    print("aligning words", flush=True)
    total, mass = np.zeros((n, 384), np.float32), np.zeros(n, np.float32)
    found = align.run(root, pairs)

    def add(lang, source, target, table, w_lang):
        s, t, w, seen = ibm1(source, target, n)
        m = sp.csr_matrix((w, (s, t)), (n, len(table)), np.float32)
        norm = np.asarray(m.sum(1)).ravel()
        v = sp.diags(1 / np.maximum(norm, 1e-6)) @ m @ table
        trust = np.minimum(1, norm * 1.5) * seen / (seen + 1.5) * w_lang
        total[:] += v * trust[:, None]
        mass[:] += trust
        return int((trust > 0.05).sum())

    for k, lang in enumerate(data.LANGS):
        if lang == "en":
            for i in range(5, n):
                v = english(pieces[i]) if share[0, i] > 0.02 or pieces[i].isascii() else None
                if v is not None:
                    total[i] += v * max(share[0, i], 0.02)
                    mass[i] += max(share[0, i], 0.02)
            continue
        some = [(a, b) for name in found if name != "xed_fr" for l, a, b in found[name] if l == lang] \
            + 2 * [(a, b) for l, a, b in found.get("lexicon", []) if l == lang]
        src = [e.ids[:48] for e in tok.encode_batch([b for _, b in some], add_special_tokens=False)]
        dst = [e.ids[:48] for e in wp.encode_batch([a for a, _ in some], add_special_tokens=False)]
        good = [i for i in range(len(some)) if src[i] and dst[i]]
        print(lang, len(good), "pairs,", add(lang, [src[i] for i in good], [dst[i] for i in good], e0, share[k]), "pieces", flush=True)
    known = np.where(mass[:, None] > 0, total / np.maximum(mass, 1e-6)[:, None], 0)
    for k, lang in enumerate(data.LANGS):  # second hop: subtitles aligned with French
        some = [(a, b) for l, a, b in found.get("xed_fr", []) if l == lang]
        if len(some) > 300:
            src, dst = ([e.ids[:48] for e in tok.encode_batch([p[i] for p in some], add_special_tokens=False)] for i in (1, 0))
            good = [i for i in range(len(some)) if src[i] and dst[i]]
            print(lang, "via fr", len(good), add(lang, [src[i] for i in good], [dst[i] for i in good], known, 0.5 * share[k]), "pieces", flush=True)
    for i, p in enumerate(pieces):
        c = p.lstrip("▁")
        if len(c) == 1 and ord(c) > 0x2190 and unicodedata.category(c) in ("So", "Sk"):
            ids = wp.encode(unicodedata.name(c, "symbol").lower(), add_special_tokens=False).ids
            total[i], mass[i] = e0[ids].mean(0), 1
    vectors = np.where(mass[:, None] > 1e-3, total / np.maximum(mass, 1e-6)[:, None], 0).astype(np.float32)
    trust = np.minimum(1, mass * 2)
    print("with a vector: %.0f of %d" % ((mass > 1e-3).sum(), n), flush=True)

    print("neighbours", flush=True)
    flat = np.concatenate([np.concatenate([c, [-1] * 5]) for c in corpus])
    cooc = sp.csr_matrix((n, n), dtype=np.float32)
    for d in range(1, 6):
        a, b = flat[:-d], flat[d:]
        ok = (a >= 0) & (b >= 0)
        one = sp.coo_matrix((np.full(ok.sum(), 1.0 / d, np.float32), (a[ok], b[ok])), (n, n)).tocsr()
        cooc = cooc + one + one.T
    p = freq.sum(0) / freq.sum()
    sif = (3e-4 / (3e-4 + p)).astype(np.float32)
    g = gram_matrix(pieces)
    centred = vectors - mean * (mass > 1e-3)[:, None]
    centred[:5] = 0
    goal = centred.copy()
    for turn in range(3):
        mix = cooc @ sp.diags(sif * (trust > 0.1 if turn == 0 else 1)) @ goal
        mix = mix / np.maximum(np.linalg.norm(mix, axis=1, keepdims=True), 1e-6)
        w = trust * np.minimum(1, np.sqrt(freq.sum(0) / 50))
        a = np.linalg.solve((mix * w[:, None]).T @ mix + 3.0 * np.eye(384), (mix * w[:, None]).T @ centred)
        near = mix @ a
        h = np.zeros((BUCKETS, 384), np.float32)  # n-gram vectors: weighted ridge by conjugate gradients
        gw = sp.diags(trust + 0.15) @ g
        want = gw.T @ np.where((trust > 0.1)[:, None], centred, 0.7 * near)
        r = want.copy()
        d, rs = r.copy(), (r * r).sum(0)
        for _ in range(12):
            q = gw.T @ (g @ d) + 0.05 * d
            step = rs / np.maximum((d * q).sum(0), 1e-12)
            h += step * d
            r -= step * q
            new = (r * r).sum(0)
            d = r + (new / np.maximum(rs, 1e-12)) * d
            rs = new
        spell = g @ h
        guess = 0.5 * near + 0.5 * spell
        size = np.linalg.norm(centred[trust > 0.5], axis=1).mean()
        guess *= np.minimum(3, 0.7 * size / np.maximum(np.linalg.norm(guess, axis=1, keepdims=True), 1e-6))
        goal = trust[:, None] * centred + (1 - trust[:, None]) * guess
        print("turn", turn, "fit of known by neighbours %.3f, by spelling %.3f" % tuple(
            1 - ((w[:, None] * (x - centred) ** 2).sum() / (w[:, None] * centred ** 2).sum()) for x in (near, spell)), flush=True)
    special = {0: "[PAD]", 1: "[UNK]", 2: "[CLS]", 3: "[SEP]", 4: "[MASK]"}
    final = (goal + mean).astype(np.float32)
    for i, name in special.items():
        final[i] = e0[vocab[name]]
    spell = (g @ h).astype(np.float32)
    np.savez(path, vectors=final, own=final - spell, grams=h.astype(np.float32), freq=freq.sum(0))
    return final, pieces


def show(path, tokenizer, words=("refund", "terrible", "delivery", "thanks", "cancel")):
    tok = Tokenizer.from_file(tokenizer)
    v = np.load(path)["vectors"]
    v = v - v[5:].mean(0)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    for w in words:
        i = tok.token_to_id("▁" + w)
        if i is not None:
            print(w, [tok.id_to_token(j) for j in np.argsort(-(v @ v[i]))[:30]])


if __name__ == "__main__":
    import sys
    root, minilm, runs = sys.argv[1:4]
    build(root, minilm, runs + "/tokenizer.json", runs + "/pairs.json", runs + "/vectors.npz")
    show(runs + "/vectors.npz", runs + "/tokenizer.json")
