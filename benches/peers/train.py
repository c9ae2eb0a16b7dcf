#!/usr/bin/env python3
"""Training as one would write it in Python today, judged on photos kept apart: Pillow, onnxruntime, scikit-learn.

    python benches/peers/train.py PHOTOS --train LIST --test LIST

PHOTOS has a folder per label; a LIST has one `label/photo` per line. The backbone, the crop, the filter and the scaling
are those of `mynah run`, both cores embed and fit. Prints one JSON object: seconds per phase, cross-validated accuracy,
figures on the test list, peak memory.
"""

import time

STARTED = time.perf_counter()  # before the imports: a user waits for them too

import argparse
import json
import resource
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score, log_loss

from walk import BACKBONE, fit, run_all

BINS = 15


def listed(photos: Path, file: Path) -> tuple[list[Path], list[str]]:
    """The photos a list names, and their labels."""
    lines = [line for line in file.read_text().splitlines() if line]
    return [photos / line for line in lines], [line.split("/")[0] for line in lines]


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over equal bins."""
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS), 1, BINS).astype(int)
    return sum(abs((right - confidence)[bins == bin].sum()) for bin in range(1, BINS + 1)) / len(right)


def main() -> None:
    """Parses the command line, trains, judges, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    seconds, last = {}, STARTED

    def done(phase: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[phase], last = round(now - last, 3), now

    train_photos, train_labels = listed(arguments.photos, arguments.train)
    test_photos, test_labels = listed(arguments.photos, arguments.test)
    done("start")
    train_embeddings = run_all(str(BACKBONE), train_photos)
    done("embed")
    search = fit(train_embeddings, train_labels, arguments.seed)
    done("fit")
    probabilities = search.predict_proba(run_all(str(BACKBONE), test_photos))
    said = search.classes_[probabilities.argmax(axis=1)]
    right = said == np.array(test_labels)
    done("test")
    report = {
        "photos": {"train": len(train_labels), "test": len(test_labels)},
        "labels": len(search.classes_),
        "seconds": seconds | {"total": round(time.perf_counter() - STARTED, 3)},
        "regularisation": search.best_params_["C"],
        "cross_validated_accuracy": round(float(search.cv_results_["mean_test_accuracy"][search.best_index_]), 4),
        "accuracy": round(float(right.mean()), 4),
        "macro_f1": round(float(f1_score(test_labels, said, average="macro")), 4),
        "log_loss": round(float(log_loss(test_labels, probabilities, labels=search.classes_)), 4),
        "calibration_error": round(float(calibration_error(probabilities, right)), 4),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
