#!/usr/bin/env python3
"""Runs hearken and what people would otherwise use on the same weights and the same ragged texts, and prints the ratios.

  compare_peers.py [--shapes mini,minilm,xlmr-base] [--precisions int8,bf16,f32] [--hearken PROGRAM] [--quick]

For each shape it makes an encoder with random weights (speed does not depend on their values), once, in the scratch
folder: config.json, model.safetensors, model.onnx, model_int8.onnx (dynamic, per channel) and expected.json, the logits
of the f32 model. Then it measures, in turns (ours, a peer, ours, the next ...), over several rounds, so that a noisy
machine is equally noisy for everybody:

  hearken      hearken models check MODEL --precision P --lengths LENGTHS
  onnxruntime  f32, int8
  openvino     f32, bf16, and the int8 ONNX file
  torch        f32, bf16

Each peer runs in a process of its own with the setting that a first look finds fastest: texts sorted by length in
batches of 1, 4, 8 or 16, and either one batch at a time on all cores or as many batches at a time as there are cores,
each on one. Texts are as long as customer messages (log-normal, 47 tokens on average, 256 at most), and speed is in
real tokens a second: padding counts for nothing.

Needs the packages of requirements.txt and a release build. It never downloads anything."""
import argparse, concurrent.futures, json, os, platform, statistics, subprocess, sys, time
from pathlib import Path

SHAPES = {  # layers, hidden, heads, intermediate
    "mini": (6, 256, 4, 1024),
    "minilm": (6, 384, 12, 1536),
    "xlmr-base": (12, 768, 12, 3072),
    "xlmr-large": (24, 1024, 16, 4096),
}
VOCABULARY = 30_000  # small on purpose: looking up embeddings costs no arithmetic
FIRST_ORDINARY_ID = 5
PEERS = ["onnxruntime-f32", "onnxruntime-int8", "openvino-f32", "openvino-bf16", "openvino-int8", "torch-f32", "torch-bf16"]
BATCHES = [1, 4, 8, 16]


# -- the models ----------------------------------------------------------------------------------------------------------


def make_encoder(folder, shape):
    """An XLM-RoBERTa classifier of the shape with random weights, its two ONNX forms and its own answers."""
    import numpy as np
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    layers, hidden, heads, intermediate = SHAPES[shape]
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=intermediate, max_position_embeddings=514, type_vocab_size=1, num_labels=3, pad_token_id=1)
    model = XLMRobertaForSequenceClassification(config).eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    ids = torch.randint(FIRST_ORDINARY_ID, VOCABULARY, (4, 32))
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), str(folder / "model.onnx"), input_names=names, output_names=["logits"],
        dynamic_axes={**{name: {0: "batch", 1: "tokens"} for name in names}, "logits": {0: "batch"}},
        opset_version=17, dynamo=False)
    quantize_dynamic(folder / "model.onnx", folder / "model_int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    random = np.random.default_rng(1)
    inputs = [random.integers(FIRST_ORDINARY_ID, VOCABULARY, n).tolist() for n in (1, 2, 7, 16, 33, 64, 129, 300, 512)]
    with torch.inference_mode():
        logits = [model(torch.tensor([x])).logits[0].tolist() for x in inputs]
    # Last: a folder that has it is whole.
    (folder / "expected.json").write_text(json.dumps({"input_ids": inputs, "logits": logits}))


def lengths(texts):
    import numpy as np
    drawn = np.random.default_rng(0).lognormal(3.6, 0.7, texts)
    return np.clip(np.round(drawn).astype(int), 6, 256).tolist()


# -- a peer, in a process of its own -------------------------------------------------------------------------------------


def forward_of(peer, model, threads):
    """A function (ids, mask) that runs one batch on so many threads, and that may be called from several at once."""
    runtime, precision = peer.split("-")
    if runtime == "onnxruntime":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        file = "model_int8.onnx" if precision == "int8" else "model.onnx"
        session = onnxruntime.InferenceSession(f"{model}/{file}", options, providers=["CPUExecutionProvider"])
        return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})
    if runtime == "openvino":
        import threading
        import openvino
        cores = len(os.sched_getaffinity(0))
        file, hint = ("model_int8.onnx", "f32") if precision == "int8" else ("model.onnx", precision)
        compiled = openvino.Core().compile_model(f"{model}/{file}", "CPU", {
            "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(cores), "NUM_STREAMS": str(cores // threads)})
        own = threading.local()

        def forward(ids, mask):
            if not hasattr(own, "request"):
                own.request = compiled.create_infer_request()
            return own.request.infer({"input_ids": ids, "attention_mask": mask})

        return forward
    import torch
    from transformers import AutoModelForSequenceClassification
    module = AutoModelForSequenceClassification.from_pretrained(model).eval()
    if precision == "bf16":
        module = module.bfloat16()

    def forward(ids, mask):
        torch.set_num_threads(threads)  # counts for the thread that calls
        with torch.inference_mode():
            return module(torch.from_numpy(ids), torch.from_numpy(mask)).logits.float().numpy()

    return forward


def batches_of(counts, size):
    """Texts sorted by length, longest first, cut into batches and padded within each."""
    import numpy as np
    random, ordered = np.random.default_rng(2), sorted(counts, reverse=True)
    batches = []
    for at in range(0, len(ordered), size):
        rows = ordered[at:at + size]
        ids = np.ones((len(rows), max(rows)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, n in enumerate(rows):
            ids[row, :n] = random.integers(FIRST_ORDINARY_ID, VOCABULARY, n)
            mask[row, :n] = 1
        batches.append((ids, mask))
    return batches


def worker(peer, model, counts, sizes):
    """Finds the fastest setting, says it, then times one pass over the texts for each line on standard input."""
    cores = len(os.sched_getaffinity(0))
    best = None
    for at_once in sorted({1, cores}):
        forward = forward_of(peer, model, cores // at_once)
        pool = concurrent.futures.ThreadPoolExecutor(at_once) if at_once > 1 else None

        def run(batches, forward=forward, pool=pool):
            begun = time.perf_counter()
            if pool:
                list(pool.map(lambda batch: forward(*batch), batches))
            else:
                for batch in batches:
                    forward(*batch)
            return time.perf_counter() - begun

        for size in sizes:
            batches = batches_of(counts, size)
            run(batches)
            seconds = min(run(batches) for _ in range(2))
            if best is None or seconds < best[0]:
                best = (seconds, size, at_once, run, batches)
    _, size, at_once, run, batches = best
    print(json.dumps({"batch": size, "batches_at_once": at_once}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": statistics.median(run(batches) for _ in range(3))}), flush=True)


class Peer:
    def __init__(self, name, model, counts, sizes):
        self.name, self.tokens, self.rates, self.setting, self.trouble = name, sum(counts), [], None, None
        arguments = [sys.executable, __file__, "--worker", name, str(model), json.dumps(counts), json.dumps(sizes)]
        self.errors = open(Path(model) / f"{name}.log", "w+")
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment())
        self.setting = self.read()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.errors.seek(0)
        last = [line for line in self.errors.read().splitlines() if line.strip()][-1:]
        self.trouble = (last or ["ended without a word"])[0][:200]
        return None

    def round(self):
        if self.trouble:
            return
        try:
            print("go", file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        if answer := self.read():
            self.rates.append(self.tokens / answer["seconds"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()

    def row(self):
        if self.trouble:
            return {"name": self.name, "trouble": self.trouble}
        at_once, batch = self.setting["batches_at_once"], self.setting["batch"]
        setting = f"batches of {batch}" + (f", {at_once} at once" if at_once > 1 else "")
        return {"name": self.name, "tokens_per_s": statistics.median(self.rates), "setting": setting,
                "rounds": [round(rate) for rate in self.rates]}


def environment():
    """Without settings that hold a library back from what the processor has."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("OPENBLAS_", "OMP_", "MKL_", "NVPL_", "ONEDNN_", "DNNL_"))}


# -- hearken -------------------------------------------------------------------------------------------------------------


class Hearken:
    def __init__(self, program, model, lengths_file, precision):
        self.command = [program, "models", "check", str(model), "--precision", precision, "--lengths", str(lengths_file), "--json"]
        self.name, self.precision, self.reports, self.trouble = f"hearken-{precision}", precision, [], None

    def round(self):
        if self.trouble:
            return
        ran = subprocess.run(self.command, capture_output=True, text=True, env=environment())
        if ran.returncode:
            self.trouble = ran.stderr.strip().splitlines()[-1][:200]
            return
        report = json.loads(ran.stdout)
        if report["precision"] != self.precision:
            self.trouble = report["precision_reason"] or f"{report['precision']} ran instead"
            return
        self.reports.append(report)

    def row(self):
        if self.trouble:
            return {"name": self.name, "trouble": self.trouble}
        rates = [r["tokens_per_s"] for r in self.reports]
        last = self.reports[-1]
        return {"name": self.name, "tokens_per_s": statistics.median(rates), "rounds": [round(rate) for rate in rates],
                "setting": last["kernel"], "max_logit_diff": last["max_logit_diff"], "labels_agree": last["labels_agree"]}


# -- the comparison ------------------------------------------------------------------------------------------------------


def machine():
    cpu, flags = platform.processor(), set()
    try:
        for line in open("/proc/cpuinfo"):
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                cpu = value.strip()
            elif name.strip() == "flags":
                flags = set(value.split())
    except OSError:
        pass
    known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"]
    import importlib.metadata
    versions = {}
    for package in ("numpy", "onnxruntime", "openvino", "torch", "transformers"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "instructions": [f for f in known if f in flags],
            "versions": versions, "python": platform.python_version()}


def compare(shape, arguments, counts, lengths_file):
    model = arguments.scratch / shape
    if not (model / "expected.json").is_file():
        say(f"{shape}: making the encoder")
        make_encoder(model, shape)
    sizes = [4, 16] if arguments.quick else BATCHES
    peers = []
    for name in arguments.peers:
        say(f"{shape}: looking for the best setting of {name}")
        peers.append(Peer(name, model, counts, sizes))
    ours = [Hearken(arguments.hearken, model, lengths_file, precision) for precision in arguments.precisions]
    for turn in range(arguments.rounds):
        say(f"{shape}: round {turn + 1} of {arguments.rounds}")
        # Ours before each peer, so that whatever the machine does meanwhile falls on both.
        for i, peer in enumerate(peers):
            ours[(turn + i) % len(ours)].round()
            peer.round()
    for mine in ours:
        if not (mine.reports or mine.trouble):
            mine.round()
    for peer in peers:
        peer.close()
    return [o.row() for o in ours], [p.row() for p in peers]


def table(shape, tokens, ours, peers):
    good = [o for o in ours if "tokens_per_s" in o]
    lines = [f"### {shape}: {tokens} tokens in ragged texts", ""]
    lines.append("| tokens a second | " + " | ".join(["median", "setting", *(f"{o['name']} is" for o in good)]) + " |")
    lines.append("|---" * (3 + len(good)) + "|")
    for row in ours:
        said = f"**{row['tokens_per_s']:,.0f}** | {row['setting']}" if "tokens_per_s" in row else f"- | {row['trouble']}"
        lines.append(f"| {row['name']} | {said} |" + " |" * len(good))
    for row in sorted(peers, key=lambda p: -p.get("tokens_per_s", 0)):
        if "tokens_per_s" not in row:
            lines.append(f"| {row['name']} | - | {row['trouble']} |" + " |" * len(good))
            continue
        ratios = " | ".join(f"{o['tokens_per_s'] / row['tokens_per_s']:.2f} x" for o in good)
        lines.append(f"| {row['name']} | {row['tokens_per_s']:,.0f} | {row['setting']} | {ratios} |")
    lines.append("")
    for row in good:
        if row["max_logit_diff"] is not None:
            lines.append(f"{row['name']}: largest difference of a logit from PyTorch f32 {row['max_logit_diff']:.2g}, "
                         f"labels agree on {100 * row['labels_agree']:.0f} % of the texts of expected.json.  ")
    return "\n".join(lines)


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    if sys.argv[1:2] == ["--worker"]:
        name, model, counts, sizes = sys.argv[2:]
        return worker(name, model, json.loads(counts), json.loads(sizes))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda known: lambda text: [w for w in text.split(",") if w in known or p.error(f"{w!r} is not one of {', '.join(known)}")]
    p.add_argument("--shapes", type=words(list(SHAPES)), default="mini,minilm,xlmr-base")
    p.add_argument("--precisions", type=words(["int8", "bf16", "f32"]), default="int8,bf16,f32")
    p.add_argument("--peers", type=words(PEERS), default=",".join(PEERS))
    p.add_argument("--hearken", default=str(Path(__file__).parent.parent / "target/release/hearken"), help="the program")
    p.add_argument("--scratch", type=Path, default=Path("/tmp/hearken-encoders"), help="where the encoders are kept")
    p.add_argument("--texts", type=int, default=64)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json", type=Path, help="write everything here as well")
    p.add_argument("--quick", action="store_true", help="fewer texts, settings and rounds: does it run, not how fast")
    a = p.parse_args()
    if a.quick:
        a.texts, a.rounds = min(a.texts, 16), 2
    if not Path(a.hearken).is_file():
        p.error(f"there is no program {a.hearken}: cargo build --release, or --hearken")
    counts = lengths(a.texts)
    a.scratch.mkdir(parents=True, exist_ok=True)
    lengths_file = a.scratch / "lengths.json"
    lengths_file.write_text(json.dumps(counts))
    result = {"machine": machine(), "lengths": counts, "rounds": a.rounds, "shapes": {}}
    m = result["machine"]
    print(f"{m['cores']} cores of {m['cpu']} ({', '.join(m['instructions'])}); "
          + ", ".join(f"{name} {version}" for name, version in m["versions"].items()) + "\n")
    for shape in a.shapes:
        before = os.getloadavg()[0]
        ours, peers = compare(shape, a, counts, lengths_file)
        result["shapes"][shape] = {"hearken": ours, "peers": peers, "load_before": before}
        print(table(shape, sum(counts), ours, peers) + "\n", flush=True)
        if a.json:
            a.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
