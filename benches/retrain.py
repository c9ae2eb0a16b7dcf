#!/usr/bin/env python3
"""Times `train-model` from scratch and after 1 % more photos, in turn, and prints the ratio.

    cargo build --release
    python benches/retrain.py PHOTOS [--runs 3] [--count 1000]

PHOTOS has a folder per label. Per round: a training of everything with an empty cache, one of 99 % of the photos (not
timed), then one of everything with the cache that one left. Both must give the same bytes. The peer is `train-model`
itself, so nothing but Python is needed.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from walk import ADDED_SHARE, REPOSITORY, Failed, Run, choose, lay_out, measure, median, table


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder per label")
    parser.add_argument("--bin", type=Path, default=REPOSITORY / "target" / "release", help="where the programs are")
    parser.add_argument("--backbone", type=Path, default=REPOSITORY / "models" / "efficientnet-lite0-224.onnx")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=1000, help="at most so many photos")
    arguments = parser.parse_args()

    photos = choose(arguments.photos, arguments.count)
    step = min(len(photos), round(1 / ADDED_SHARE))
    later = set(photos[step - 1 :: step])
    runs: dict[str, list[Run]] = {"from scratch": [], "1 % added": []}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        log = scratch / "log"
        for name, some in (("all", photos), ("base", [photo for photo in photos if photo not in later])):
            lay_out(some, arguments.photos, scratch / name)
            out = str(scratch / f"{name}-dataset")
            measure([str(arguments.bin / "import-images"), "--source", str(scratch / name), "--out", out], log)

        def train(dataset: str, out: str) -> Run:
            command = [str(arguments.bin / "train-model"), "--backbone", str(arguments.backbone)]
            command += ["--dataset", str(scratch / f"{dataset}-dataset"), "--out", str(scratch / out / "training")]
            return measure(command, log)

        for index in range(arguments.runs):
            runs["from scratch"].append(train("all", "whole"))
            train("base", "grown")
            runs["1 % added"].append(train("all", "grown"))
            whole, grown = ((scratch / name / "training" / "training.json").read_bytes() for name in ("whole", "grown"))
            if whole != grown:
                raise Failed("the cache changed the outcome")
            shutil.rmtree(scratch / "whole")
            shutil.rmtree(scratch / "grown")
            print(f"round {index + 1} of {arguments.runs} done", file=sys.stderr)

    whole, grown = runs.values()
    print(f"{len(photos)} photos, {len(later)} of them added later; {arguments.runs} rounds; median (range)\n")
    print(table("train-model", runs))
    for field, what in (("seconds", "wall time"), ("cpu_seconds", "processor time")):
        print(f"from scratch / after adding 1 %: {median(whole, field) / median(grown, field):.1f} × in {what}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError) as error:
        print(f"retrain: {error}", file=sys.stderr)
        sys.exit(1)
