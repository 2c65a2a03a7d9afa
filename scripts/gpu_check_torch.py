"""Times PyTorch on the weights that `hearken gpu-check` made, in its best known forms, and prints the ratio.

Forms: padded batches sorted by length with SDPA; the same under torch.compile; and padding removed (one packed row of
tokens with nested-tensor attention), as far as each runs here. Lengths are those of usual messages, the same as the report's.
Usage: gpu_check_torch.py MODEL_DIR REPORT_JSON OUT_JSON
"""

import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

TIME_S = 2.0
BATCH_TOKENS = 16384


def usual_lengths():
    """64 texts, log-normal (mu 3.6, sigma 0.7), from 6 to 256 tokens: the quantiles that the program uses."""
    normal = statistics.NormalDist()
    order = [i * 37 % 64 for i in range(64)]
    return [min(256, max(6, round(math.exp(3.6 + 0.7 * normal.inv_cdf((i + 0.5) / 64))))) for i in order]


def fill(lengths, tokens):
    taken, i = [], 0
    while sum(taken) + lengths[i % len(lengths)] <= tokens:
        taken.append(lengths[i % len(lengths)])
        i += 1
    return taken


def seconds(run):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    begun, times = time.time(), []
    while time.time() - begun < TIME_S:
        start = time.time()
        run()
        torch.cuda.synchronize()
        times.append(time.time() - start)
    return statistics.median(times)


def padded_batches(lengths, vocabulary, batch_texts):
    """Sorted by length, so that little is padded."""
    batches = []
    ordered = sorted(lengths)
    for at in range(0, len(ordered), batch_texts):
        part = ordered[at : at + batch_texts]
        ids = torch.randint(5, vocabulary, (len(part), max(part)), device="cuda")
        mask = torch.arange(max(part), device="cuda")[None, :] < torch.tensor(part, device="cuda")[:, None]
        batches.append((ids, mask.long()))
    return batches


class Packed:
    """The encoder on packed tokens: every product sees real tokens only; attention runs on nested tensors."""

    def __init__(self, model, lengths, vocabulary):
        self.encoder = model.roberta
        self.heads = model.config.num_attention_heads
        self.lengths = torch.tensor(lengths, device="cuda")
        self.ids = torch.randint(5, vocabulary, (sum(lengths),), device="cuda")
        self.positions = torch.cat([torch.arange(n) for n in lengths]).cuda() + 2
        self.offsets = torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])
        self.longest = max(lengths)

    def nested(self, x):
        x = torch.nested.nested_tensor_from_jagged(x, self.offsets, max_seqlen=self.longest)
        return x.unflatten(-1, [self.heads, -1]).transpose(1, 2)

    def __call__(self):
        e = self.encoder.embeddings
        x = e.word_embeddings(self.ids) + e.position_embeddings(self.positions) + e.token_type_embeddings.weight[0]
        x = e.LayerNorm(x)
        for layer in self.encoder.encoder.layer:
            a = layer.attention.self
            parts = [self.nested(f(x)) for f in (a.query, a.key, a.value)]
            mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(-2).values()
            out = layer.attention.output
            x = out.LayerNorm(out.dense(mixed) + x)
            x = layer.output.LayerNorm(layer.output.dense(F.gelu(layer.intermediate.dense(x))) + x)
        return x


def main():
    directory, report_file, out_file = sys.argv[1:4]
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).cuda().eval()
    vocabulary = model.config.vocab_size
    lengths = fill(usual_lengths(), BATCH_TOKENS)
    tokens = sum(lengths)
    found = {}

    def measure(name, make):
        try:
            with torch.inference_mode():
                found[name] = tokens / seconds(make())
            print(f"{name:<34} {found[name]:>12.0f} tokens/s", flush=True)
        except Exception as error:  # a form that this version cannot run is left out, and said
            print(f"{name:<34} not run: {type(error).__name__}: {str(error)[:120]}", flush=True)

    def padded(run, batch_texts):
        batches = padded_batches(lengths, vocabulary, batch_texts)
        return lambda: [run(input_ids=i, attention_mask=m) for i, m in batches]

    measure("padded, sorted, batches of 64", lambda: padded(model, 64))
    measure("padded, sorted, batches of 128", lambda: padded(model, 128))
    measure("packed, nested attention", lambda: Packed(model, lengths, vocabulary))
    compiled = torch.compile(model, dynamic=True)
    measure("padded, compiled, batches of 64", lambda: padded(compiled, 64))
    measure("packed, compiled", lambda: torch.compile(Packed(model, lengths, vocabulary).__call__))

    ours = [
        (m["plans"], s["tokens_per_s"])
        for m in json.load(open(report_file))["models"]
        if m["model"] == "xlm-r-base" and m["numbers"] == "bf16"
        for s in m["speed"]
        if s["lengths"] == "ragged" and s["batch_tokens"] > BATCH_TOKENS * 0.9
    ]
    best = max(found.values(), default=float("nan"))
    ratios = {plans: rate / best for plans, rate in ours}
    for plans, rate in ours:
        print(f"hearken bf16, plans {plans:<18} {rate:>12.0f} tokens/s, {rate / best:.2f} x the best PyTorch form")
    with open(out_file, "w") as out:
        json.dump({"torch": torch.__version__, "tokens_per_s": found, "ratio": ratios}, out, indent=1)


main()
