#!/usr/bin/env python3
"""The walk as one would write it in Python today: Pillow, onnxruntime, scikit-learn, onnx.

    python benches/peers/walk.py PHOTOS --out DIR [--frames DIR]

PHOTOS has a folder per label. The backbone, the crop, the filter and the scaling are those of `mynah run`. Prints one
JSON object: seconds per phase, cross-validated accuracy, how many photos, peak memory, and what each frame shows.
"""

import time

STARTED = time.perf_counter()  # before the imports: a user waits for them too

import argparse
import hashlib
import json
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

BACKBONE = Path(__file__).resolve().parents[2] / "models" / "efficientnet-lite0-224.onnx"
SIZE = 224
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
FOLDS = 5
REGULARISATIONS = [0.01, 0.03, 0.1, 0.3, 1.0]
WORKERS = len(os.sched_getaffinity(0))


def import_photos(root: Path) -> list[tuple[Path, str]]:
    """The photos that open, each content once, with their labels."""
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)

    def look(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.verify()
        except Exception as error:  # Pillow raises many kinds on broken files
            print(f"skipped {path}: {error}", file=sys.stderr)
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()

    with ThreadPoolExecutor(WORKERS) as pool:
        digests = list(pool.map(look, paths))
    unique = {digest: path for path, digest in reversed(list(zip(paths, digests))) if digest}
    return [(path, path.relative_to(root).parts[0]) for path in sorted(unique.values())]


def load(path: Path) -> np.ndarray:
    """The network's input for one photo: upright, centre square, 224 pixels, scaled."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


def run_all(model: str | bytes, paths: list[Path]) -> np.ndarray:
    """The model's output for each photo; a photo per core at a time, which was faster than batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with ThreadPoolExecutor(WORKERS) as pool:
        return np.concatenate(list(pool.map(lambda path: session.run(None, {name: load(path)})[0], paths)))


def fit(embeddings: np.ndarray, labels: list[str], seed: int) -> GridSearchCV:
    """Logistic regression, its strength of regularisation chosen by cross-validated log loss.

    One fit per core with single-threaded algebra: the matrices are small, and threads inside each product were up to
    fifty times slower whenever another program ran.
    """
    search = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": REGULARISATIONS},
        scoring={"loss": "neg_log_loss", "accuracy": "accuracy"},
        refit="loss",
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
        n_jobs=WORKERS,
    )
    with threadpool_limits(1), joblib.parallel_config("threading"):
        return search.fit(embeddings, labels)


def export(head: LogisticRegression, out: Path) -> None:
    """One ONNX file: the backbone, the linear layer, softmax."""
    weight, bias = head.coef_, head.intercept_
    if len(head.classes_) == 2:  # scikit-learn keeps only the second class's row
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    model = onnx.load(BACKBONE)
    graph = model.graph
    embedding = graph.output[0].name
    graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "head.weight"))
    graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), "head.bias"))
    graph.node.append(helper.make_node("Gemm", [embedding, "head.weight", "head.bias"], ["logits"], transB=1))
    graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(bias)]))
    helper.set_model_props(model, {"labels": json.dumps(list(head.classes_))})
    onnx.checker.check_model(model)
    onnx.save(model, out)


def main() -> None:
    """Parses the command line, walks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    seconds, last = {}, STARTED

    def done(phase: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[phase], last = round(now - last, 3), now

    done("start")
    photos = import_photos(arguments.photos)
    done("import")
    embeddings = run_all(str(BACKBONE), [path for path, _ in photos])
    done("embed")
    search = fit(embeddings, [label for _, label in photos], arguments.seed)
    done("fit")
    model = arguments.out / "model.onnx"
    head = search.best_estimator_
    export(head, model)
    done("export")
    frames = sorted(arguments.frames.iterdir()) if arguments.frames else []
    shown = []
    if frames:
        for path, probabilities in zip(frames, run_all(str(model), frames)):
            best = int(probabilities.argmax())
            shown.append({"frame": path.name, "label": head.classes_[best], "probability": float(probabilities[best])})
    done("classify")
    report = {
        "images": len(photos),
        "labels": len(head.classes_),
        "seconds": seconds | {"total": round(time.perf_counter() - STARTED, 3)},
        "regularisation": search.best_params_["C"],
        "accuracy": round(float(search.cv_results_["mean_test_accuracy"][search.best_index_]), 4),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "frames": shown,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
