#!/usr/bin/env python3
"""Sets the accuracy of finished runs beside scikit-learn's on the same photos and the same folds.

    python benches/accuracy.py OUT [OUT ...]

Each OUT is the folder of a `mynah run`. The photos and folds are those of its `dataset/dataset.json`; the embeddings
are onnxruntime's, from the same backbone and without augmentation. As in `train-model`, the strength of the
regularisation is the one with the smallest cross-validated log loss. Prints a table, a row per run.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from peers.walk import BACKBONE, REGULARISATIONS, run_all


def cross_validated(embeddings: np.ndarray, truth: np.ndarray, folds: np.ndarray, strength: float) -> np.ndarray:
    """Each photo's probabilities by a head fitted on the other folds."""
    probabilities = np.zeros((len(truth), truth.max() + 1))
    for fold in np.unique(folds):
        learnt = folds != fold
        head = LogisticRegression(C=strength, max_iter=1000).fit(embeddings[learnt], truth[learnt])
        probabilities[np.ix_(~learnt, head.classes_)] = head.predict_proba(embeddings[~learnt])
    return probabilities


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative logarithm of the true label's probability."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean())


def row(out: Path) -> str:
    """One run's figures beside scikit-learn's."""
    dataset = json.loads((out / "dataset" / "dataset.json").read_text())
    ours = json.loads((out / "training" / "training.json").read_text())["crossValidation"]
    labels = [entry["label"] for entry in dataset["labels"]]
    photos = dataset["photos"]
    truth = np.array([labels.index(photo["label"]) for photo in photos])
    folds = np.array([photo["fold"] for photo in photos])
    embeddings = run_all(str(BACKBONE), [out / "dataset" / photo["file"] for photo in photos])
    with threadpool_limits(1):  # see peers/walk.py
        candidates = [cross_validated(embeddings, truth, folds, strength) for strength in REGULARISATIONS]
    best = min(candidates, key=lambda probabilities: log_loss(probabilities, truth))
    theirs = float((best.argmax(1) == truth).mean())
    # Binomial, 95 %. Both sides see the same photos, so a difference well below it can still be real.
    half_width = 1.96 * math.sqrt(theirs * (1 - theirs) / len(truth))
    return (
        f"| {out.name} | {len(truth)} | {len(labels)} | {theirs:.3f} ± {half_width:.3f} | {ours['accuracy']:.3f} "
        f"| {log_loss(best, truth):.3f} | {ours['logLoss']:.3f} |"
    )


def main() -> int:
    """Parses the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="OUT")
    arguments = parser.parse_args()
    print("| run | photos | labels | accuracy, scikit-learn | accuracy, mynah | log loss, scikit-learn | log loss, mynah |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for out in arguments.runs:
        print(row(out), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, KeyError, ValueError) as error:
        print(f"accuracy: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
