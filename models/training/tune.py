"""Fine-tuning of all heads together; resumable (STATE in runs/); a running average of the weights is what gets evaluated and exported.

Each pass: every authored message and phrase once, and a draw of public rows, fewer than a quarter. Losses: sentiment, intent, emotion,
keyphrase tags, the sentiment head over keyphrases and over sentences whose keyphrases agree, and two helpers that are not exported
(domain, channel).
"""
import concurrent.futures
import json
import os
import random
import signal
import time

import numpy as np
import torch
import torch.nn.functional as F

import batches
import data
import evaluate
import net as nets

BUDGET, RATE, PIECE_RATE, HEAD_RATE, PUBLIC_SHARE, LAYER_DECAY, FALL = 1536, 2e-4, 1e-4, 6e-4, 0.15, 0.88, 0.4
# Two threads' batches make one step. FALL: the last part of the way, over which the rate falls to nothing.
LOSS = {"sentiment": 1.0, "intent": 1.0, "emotion": 0.3, "domain": 0.15, "channel": 0.1, "keyphrases": 0.8, "spans": 0.6}


def class_weights(rows, task, n):
    count = np.bincount([r[task] for r in rows if r.get(task, -1) >= 0], minlength=n) + 1.0
    w = (count.sum() / count / n) ** 0.5
    return torch.tensor(w / (w * count).sum() * count.sum(), dtype=torch.float32)


def losses(net, batch, weights):
    ids, real, tags, whole, spans = batches.tensors(batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
        hidden = net(ids, real)
    mean = nets.pool(hidden, whole)
    w = torch.tensor([x["weight"] for x in batch])
    out = {}
    for task in ("sentiment", "intent", "emotion", "domain", "channel"):
        gold = torch.tensor([x[task] for x in batch])
        have = gold >= 0
        if have.any():
            logits = net.aux[task](mean[have]) if task in net.aux else net.heads[task](mean[have], net.drop)
            each = F.cross_entropy(logits, gold[have], weights.get(task), label_smoothing=0.05, reduction="none")
            out[task] = (each * w[have]).sum() / max(float(w.sum()), 1e-6)
    if (tags >= 0).any():
        logits = net.heads["keyphrases"](hidden[tags >= 0], net.drop)
        each = F.cross_entropy(logits, tags[tags >= 0], reduction="none")
        rows = w[:, None].expand_as(tags)[tags >= 0]
        out["keyphrases"] = (each * rows).sum() / rows.sum() * 3
    if spans:
        t = torch.tensor([s[:4] for s in spans])
        part = torch.tensor([s[4] for s in spans]) * w[t[:, 0]]
        each = F.cross_entropy(net.heads["sentiment"](nets.pool(hidden, t[:, :3]), net.drop), t[:, 3], label_smoothing=0.05, reduction="none")
        out["spans"] = (each * part).sum() / part.sum()
    return out


def gradients(net, batch, weights, params):
    """Gradients and losses of one batch, in a thread of its own that uses one core (two such threads beat one batch on two)."""
    torch.set_num_threads(1)
    got = losses(net, batch, weights)
    found = torch.autograd.grad(sum(LOSS[k] * v for k, v in got.items()), params, allow_unused=True)
    return found, {k: v.item() for k, v in got.items()}


class Average:
    """Running average of all weights, updated every few steps."""

    def __init__(self, net, every=5, decay=0.97):
        self.every, self.decay, self.seen = every, decay, 0
        self.weights = {k: v.clone() for k, v in net.state_dict().items()}

    def update(self, net, step):
        if step % self.every == 0:
            self.seen += 1
            d = min(self.decay, self.seen / (self.seen + 4))
            for k, v in net.state_dict().items():
                self.weights[k].lerp_(v, 1 - d)


def epoch_rows(authored, public, epoch):
    rng = random.Random(data.SEED * 100 + epoch)
    return authored + rng.sample(public, min(len(public), int(PUBLIC_SHARE * len(authored))))


def groups(net):
    """(dense, sparse) parameter groups; the rate falls from the top layer to the pieces."""
    layers = len(net.encoder["layer"])
    dense = [{"params": [p for k, p in net.named_parameters() if k.startswith(("heads", "aux"))], "rate": HEAD_RATE}]
    for i in range(layers):
        dense.append({"params": list(net.encoder["layer"][i].parameters()), "rate": RATE * LAYER_DECAY ** (layers - 1 - i)})
    dense.append({"params": [p for k, p in net.embeddings.named_parameters() if not k.startswith("word_embeddings")], "rate": RATE * LAYER_DECAY ** layers})
    return dense, [{"params": list(net.embeddings["word_embeddings"].parameters()), "rate": PIECE_RATE}]


def rate(progress, step):
    """Warm-up, level, and a straight fall over the last FALL of the way."""
    return min(1, (step + 1) / 60) * min(1, max(0.02, (1 - progress) / FALL))


def run(root, runs, tokenizer, weights, epochs, layers, state="state.pt", threads=2, every=300, minutes=None):
    """Trains to the end of `epochs` passes from runs/`state` where there is one; returns (averaged network, encoder, record).

    weights: safetensors to start from; layers: which of its layers;
    minutes: end after so many minutes of training in all, if that comes first (the rate then falls over the last part of them).
    """
    split = data.authored(root)
    authored = split["train"] + data.phrases()
    public = [r for rows in data.public(root).values() for r in rows]
    domains = {d: i for i, d in enumerate(sorted({r["domain"] for r in split["train"]})[: nets.AUX["domain"]])}
    enc = batches.Encoder(tokenizer, domains)
    class_w = {"sentiment": class_weights(authored, "sentiment", 3), "intent": class_weights(authored, "intent", 4)}
    print("rows: authored %d (phrases %d), public %d" % (len(authored), len(authored) - len(split["train"]), len(public)), flush=True)

    torch.manual_seed(data.SEED)
    net = nets.start(weights, layers)
    dense, sparse = groups(net)
    opt_dense = torch.optim.AdamW(dense, lr=1e-4, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    opt_sparse = torch.optim.SparseAdam(sparse, lr=1e-4, betas=(0.9, 0.98))
    params = [p for g in sparse + dense for p in g["params"]]
    workers = concurrent.futures.ThreadPoolExecutor(threads)
    average, step, epoch, at, size, spent = Average(net), 0, 0, 0, 500, 0.0
    path, curve = os.path.join(runs, state), os.path.join(runs, state.replace(".pt", ".curve.jsonl"))
    if os.path.exists(path):
        s = torch.load(path, weights_only=False)
        net.load_state_dict(s["net"]), opt_dense.load_state_dict(s["dense"]), opt_sparse.load_state_dict(s["sparse"])
        average.weights, average.seen = s["average"], s["seen"]
        step, epoch, at, spent, size = s["step"], s["epoch"], s["at"], s["spent"], s["size"]
        print("resumed at step %d (pass %d)" % (step, epoch), flush=True)

    def save():
        torch.save({"net": net.state_dict(), "dense": opt_dense.state_dict(), "sparse": opt_sparse.state_dict(), "average": average.weights,
                    "seen": average.seen, "step": step, "epoch": epoch, "at": at, "size": size, "spent": spent}, path + ".tmp")
        os.replace(path + ".tmp", path)

    def watch():
        scores = evaluate.quick(averaged(net, average), enc, split["dev"])
        with open(curve, "a") as f:
            f.write(json.dumps({"step": step, "passes": round(epoch + at / size, 2), "minutes": round(spent / 60), **scores}) + "\n")
        print("dev at step %d: %s" % (step, scores), flush=True)

    def progress():
        passed = (epoch + at / size) / epochs
        return max(passed, (spent + time.time() - saved) / 60 / minutes) if minutes else passed

    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))  # saves, then ends
    log, tokens, t0, first, saved = {}, 0, time.time(), step, time.time()
    while epochs and progress() < 1:
        rng = random.Random(data.SEED * 1000 + epoch)
        torch.manual_seed(data.SEED * 1000 + epoch)
        todo = batches.group(enc.encode(epoch_rows(authored, public, epoch), rng), BUDGET, rng)
        size = len(todo)
        net.train()
        while at < size and progress() < 1:
            scale = rate(progress(), step)
            for opt in (opt_dense, opt_sparse):
                for g in opt.param_groups:
                    g["lr"] = g["rate"] * scale
            now = todo[at:at + threads]
            each = list(workers.map(lambda b: gradients(net, b, class_w, params), now))
            for k, p in enumerate(params):
                some = [g[k] for g, _ in each if g[k] is not None]
                p.grad = sum(some[1:], some[0]) / len(each) if some else None
            torch.nn.utils.clip_grad_norm_([p for g in dense for p in g["params"]], 1.0)
            opt_dense.step(), opt_sparse.step()
            got = {k: float(np.mean([l[k] for _, l in each if k in l])) for k in LOSS if any(k in l for _, l in each)}
            step, at, tokens = step + 1, at + len(now), tokens + sum(len(x["ids"]) for b in now for x in b)
            average.update(net, step)
            for k, v in got.items():
                log[k] = 0.97 * log.get(k, v) + 0.03 * v
            if step % 20 == 0:
                took = time.time() - t0
                left = (epochs - epoch - at / size) * size / threads * took / (step - first)
                print("step %d pass %.2f  %.0f tok/s  left %.0f min  %s" % (step, epoch + at / size, tokens / took, left / 60,
                      " ".join("%s %.3f" % (k, v) for k, v in log.items())), flush=True)
            if stop:
                spent += time.time() - saved
                save()
                raise SystemExit("stopped at step %d" % step)
            if time.time() - saved > every:
                spent += time.time() - saved
                saved = time.time()
                save(), watch()
                net.train()
        if at < size:
            break
        epoch, at = epoch + 1, 0
    if epochs and step > first:
        spent += time.time() - saved
        save(), watch()
    return averaged(net, average), enc, {"steps": step, "epochs": epoch + at / max(1, size), "minutes": spent / 60, "authored": len(authored), "phrases": len(authored) - len(split["train"])}


def averaged(net, average):
    """A network with the averaged weights."""
    out = nets.Net(net.embeddings["word_embeddings"].num_embeddings, len(net.encoder["layer"]), net.drop)
    out.load_state_dict(average.weights)
    return out.eval()


BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
