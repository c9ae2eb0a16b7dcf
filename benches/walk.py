#!/usr/bin/env python3
"""Times `mynah run` and the Python way on the same photos, in turn, and prints their ratios.

    cargo build --release
    python benches/walk.py PHOTOS --frames DIR [--runs 3] [--count 1000] [--json FILE]

PHOTOS has a folder per label. Per round: the Python way, `mynah run` into an empty folder, then 1 % more photos and
`mynah run` into the same folder again. Wall time, processor time and peak memory are what the kernel says about the
finished process and the ones it waited for. Ratios are of medians; the spread is printed beside them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PEER = REPOSITORY / "benches" / "peers" / "walk.py"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
ADDED_SHARE = 0.01


class Failed(Exception):
    """A run that ended with an error, or an input that cannot be measured."""


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stdout: str


def measure(command: list[str], log: Path) -> Run:
    """Runs a command to its end; what it prints goes to files, so that no pipe slows it."""
    out = log.with_suffix(".out")
    with out.open("w") as stdout, log.open("w") as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        # The peak starts from this driver's own size, about 15 MiB: no contender comes near that.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read_text())


def choose(root: Path, count: int) -> list[Path]:
    """At most `count` photos, evenly out of each label, so that the shares of the labels stay."""
    labels: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in SUFFIXES and len(parts) > 1:
            labels.setdefault(parts[0], []).append(path)
    total = sum(map(len, labels.values()))
    if total == 0:
        raise Failed(f"`{root}` has no photos in folders named after labels")
    keep = min(1.0, count / total)
    return [
        paths[int(index / keep)]
        for paths in labels.values()
        for index in range(int(len(paths) * keep))
    ]


def lay_out(photos: list[Path], root: Path, folder: Path) -> None:
    """Copies the photos into `folder`, label by label."""
    for photo in photos:
        there = folder / photo.relative_to(root)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, there)


def accuracy_of(out: Path) -> float:
    """The cross-validated accuracy that `mynah run` recorded."""
    return json.loads((out / "training" / "training.json").read_text())["crossValidation"]["accuracy"]


def table(title: str, runs: dict[str, list[Run]]) -> str:
    """Median and range of each figure, a column per contender."""
    rows = [f"| {title} | " + " | ".join(runs) + " |", "| --- |" + " ---: |" * len(runs)]
    for name, field in (("wall, s", "seconds"), ("processor, s", "cpu_seconds"), ("peak memory, MiB", "peak_mib")):
        cells = []
        for series in runs.values():
            values = [getattr(run, field) for run in series]
            cells.append(f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def median(runs: list[Run], field: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(run, field) for run in runs)


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder per label")
    parser.add_argument("--frames", type=Path, required=True, help="what the device sees")
    parser.add_argument("--mynah", type=Path, default=REPOSITORY / "target" / "release" / "mynah")
    parser.add_argument("--python", default=sys.executable, help="the Python that has the peer's packages")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=1000, help="at most so many photos")
    parser.add_argument("--json", type=Path, help="also write every run there")
    arguments = parser.parse_args()

    photos = choose(arguments.photos, arguments.count)
    # Every hundredth photo comes later; with fewer than a hundred, one does.
    step = min(len(photos), round(1 / ADDED_SHARE))
    later = photos[step - 1 :: step]
    base = [photo for photo in photos if photo not in set(later)]
    runs: dict[str, list[Run]] = {"Python": [], "mynah": [], "mynah, 1 % added": []}
    accuracy = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        everything, growing = scratch / "everything", scratch / "growing"
        lay_out(photos, arguments.photos, everything)
        mynah = str(arguments.mynah.resolve())
        frames = str(arguments.frames.resolve())
        for index in range(arguments.runs):
            out = {name: scratch / f"{name}-{index}" for name in ("python", "whole", "grown")}
            log = scratch / "log"

            command = [arguments.python, str(PEER), str(everything), "--out", str(out["python"]), "--frames", frames]
            runs["Python"].append(measure(command, log))
            accuracy["Python"] = json.loads(runs["Python"][-1].stdout)["accuracy"]

            command = [mynah, "run", str(everything), "--out", str(out["whole"]), "--frames", frames]
            runs["mynah"].append(measure(command, log))
            accuracy["mynah"] = accuracy_of(out["whole"])

            shutil.rmtree(growing, ignore_errors=True)
            lay_out(base, arguments.photos, growing)
            command = [mynah, "run", str(growing), "--out", str(out["grown"]), "--frames", frames]
            measure(command, log)
            lay_out(later, arguments.photos, growing)
            runs["mynah, 1 % added"].append(measure(command, log))

            for path in out.values():
                shutil.rmtree(path)
            print(f"round {index + 1} of {arguments.runs} done", file=sys.stderr)

    python, whole, grown = runs.values()
    print(f"{len(photos)} photos, {len(later)} of them added later; {arguments.runs} rounds; median (range)\n")
    print(table("", runs))
    print(f"\naccuracy, cross-validated: Python {accuracy['Python']:.4f}, mynah {accuracy['mynah']:.4f}")
    print(f"whole run, Python / mynah: {median(python, 'seconds') / median(whole, 'seconds'):.2f} × in wall time, ", end="")
    print(f"{median(python, 'cpu_seconds') / median(whole, 'cpu_seconds'):.2f} × in processor time")
    print(f"peak memory, mynah / Python: {median(whole, 'peak_mib') / median(python, 'peak_mib'):.2f}")
    print(f"from scratch / after adding 1 %: {median(whole, 'seconds') / median(grown, 'seconds'):.1f} × in wall time")
    if arguments.json:
        report = {name: [vars(run) for run in series] for name, series in runs.items()}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError, KeyError, ValueError) as error:
        print(f"walk: {error}", file=sys.stderr)
        sys.exit(1)
