#!/usr/bin/env python3
"""One inference, one thread: ours, the engine's own operators and onnxruntime on the same file, in turn.

    cargo build --release --package mynah-model --examples
    python benches/inference.py [--rounds 9] [--runs 60] [--bin FILE]

Each round starts every program once, in turn, so that what else the machine does falls on all of them. Of each
program the median over the rounds counts. Processor time is what to compare on a busy machine.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--runs", type=int, default=60)
parser.add_argument("--model", default=str(root / "models/efficientnet-lite0-224.onnx"))
parser.add_argument("--bin", default=str(root / "target/release/examples/infer_bench"))
asked = parser.parse_args()

runs = str(asked.runs)
programs = {
    "ours": [asked.bin, asked.model, "fused", runs, "1"],
    "engine's operators": [asked.bin, asked.model, "plain", runs, "1"],
    "onnxruntime": [sys.executable, str(root / "benches/peers/inference.py"), asked.model, runs],
    "ours, 2 threads": [asked.bin, asked.model, "fused", runs, "2"],
}
results = {name: [] for name in programs}
for _ in range(asked.rounds):
    for name, command in programs.items():
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[name].append(json.loads(line))


def median(name, what):
    return statistics.median(result[what] for result in results[name])


print("| | processor ms | wall ms | load ms | processor time by onnxruntime's |")
print("| --- | --- | --- | --- | --- |")
for name in list(programs)[:3]:
    paired = [ours["cpu"] / peer["cpu"] for ours, peer in zip(results[name], results["onnxruntime"])]
    ratio = f"{statistics.median(paired):.2f} ({min(paired):.2f}–{max(paired):.2f})"
    print(f"| {name} | {median(name, 'cpu'):.2f} | {median(name, 'wall'):.2f} | {median(name, 'load'):.0f} | {ratio} |")
one, two = median("ours", "per_second"), median("ours, 2 threads", "per_second")
print(f"\n2 threads: {two:.0f} images a second against {one:.0f} with 1, {two / one:.2f} times as many")
