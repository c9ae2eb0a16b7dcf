#!/usr/bin/env python3
"""Times the device's runtime against a Python loop on the same frames, and watches its memory over a day of frames.

    cargo build --release
    python benches/runtime.py [--model DIR --frames DIR] [--runs 5]

Without a model, the samples are trained first. The peer (peers/device.py) does per frame what such loops do: Pillow
decodes and resizes, onnxruntime judges on one thread, a label above the threshold is printed. It does less: no smoothing,
no line per frame, no status. Both take the frames from disk as fast as they can.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from walk import REPOSITORY, Failed, Run, measure, median, table

# A day at four frames a second.
DAY = 24 * 60 * 60 * 4
HOLD = 1000


def sample_model(programs: Path, scratch: Path) -> tuple[Path, Path]:
    """A model of the samples, and their photos as frames."""
    photos, dataset = REPOSITORY / "samples" / "photos", scratch / "dataset"
    training, model, log = scratch / "training", scratch / "model", scratch / "log"
    measure([str(programs / "import-images"), "--source", str(photos), "--out", str(dataset)], log)
    measure([str(programs / "train-model"), "--dataset", str(dataset), "--out", str(training)], log)
    measure(
        [str(programs / "export-model"), "--training", str(training), "--dataset", str(dataset), "--out", str(model)], log
    )
    return model, photos


def gather(frames: Path, folder: Path, count: int) -> int:
    """`count` frames, the pictures again and again."""
    pictures = sorted(path for path in frames.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not pictures:
        raise Failed(f"`{frames}` holds no pictures")
    folder.mkdir()
    for number in range(count):
        picture = pictures[number % len(pictures)]
        (folder / f"{number:06}{picture.suffix.lower()}").symlink_to(picture.resolve())
    return count


def runtime(programs: Path, model: Path, source: str, *more: str) -> list[str]:
    """The command of the runtime, with nothing but seeing and deciding."""
    return [str(programs / "mynah-runtime"), "--model", str(model), "--source", source, "--log", "error", *more]


def first_sighting(command: list[str]) -> float:
    """Seconds from the start of the process to its first line."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def memory_over_a_day(command: list[str], sightings: Path) -> list[tuple[int, float]]:
    """Resident memory, in MiB, by how many bytes of sightings there were, until the process ends."""
    samples = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        page = os.sysconf("SC_PAGE_SIZE")
        while process.poll() is None:
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                samples.append((sightings.stat().st_size, pages * page / 2**20))
            except (OSError, IndexError):
                pass
            time.sleep(0.05)
        if process.returncode != 0:
            raise Failed(f"the runtime ended with {process.returncode}")
    return samples


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model package")
    parser.add_argument("--frames", type=Path, help="a folder of pictures")
    parser.add_argument("--bin", type=Path, default=REPOSITORY / "target" / "release", help="where the programs are")
    parser.add_argument("--count", type=int, default=300, help="so many frames")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = {"runtime": [], "Python": []}
    starts = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model, frames = arguments.model, arguments.frames
        if model is None or frames is None:
            model, frames = sample_model(arguments.bin, scratch)
        count = gather(frames, scratch / "frames", arguments.count)
        source = f"dir:{scratch / 'frames'}?hold=1"
        log = scratch / "log"
        peer = [sys.executable, str(REPOSITORY / "benches" / "peers" / "device.py"), str(model), str(scratch / "frames")]
        for index in range(arguments.runs):
            ours = measure(runtime(arguments.bin, model, source), log)
            theirs = measure(peer, log)
            runs["runtime"].append(ours)
            runs["Python"].append(theirs)
            starts.append(first_sighting(runtime(arguments.bin, model, source)))
            best = [json.loads(line)["best"] for line in ours.stdout.splitlines()]
            agree = sum(a == b for a, b in zip(best, theirs.stdout.splitlines(), strict=False))
            if len(best) != count or agree < 0.98 * count:
                raise Failed(f"only {agree} of {count} frames are judged alike")
            print(f"round {index + 1} of {arguments.runs} done", file=sys.stderr)
        gather(frames, scratch / "day", -(-DAY // HOLD))
        sightings = scratch / "sightings.jsonl"
        day = runtime(arguments.bin, model, f"dir:{scratch / 'day'}?hold={HOLD}", "--sightings", str(sightings))
        samples = memory_over_a_day(day, sightings)
        whole = sightings.stat().st_size
        with sightings.open() as lines:
            seen = sum(1 for _ in lines)

    ours, theirs = runs.values()
    print(f"{count} frames; {arguments.runs} rounds; median (range)\n")
    print(table("frames to decisions", runs))
    for field, what in (("seconds", "wall time"), ("cpu_seconds", "processor time"), ("peak_mib", "peak memory")):
        print(f"Python / runtime: {median(theirs, field) / median(ours, field):.2f} × in {what}")
    print(f"start to first sighting: {statistics.median(starts):.2f} s")
    early = [memory for size, memory in samples if 0.1 * whole < size < 0.3 * whole]
    late = [memory for size, memory in samples if size > 0.8 * whole]
    if seen != -(-DAY // HOLD) * HOLD or not early or not late:
        raise Failed(f"the day has {seen} sightings and {len(samples)} looks at the memory")
    print(f"a day of {seen} frames: {statistics.median(early):.1f} MiB early, {statistics.median(late):.1f} MiB late")
    if statistics.median(late) > 1.05 * statistics.median(early) + 1:
        raise Failed("the memory grows")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
