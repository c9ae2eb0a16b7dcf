#!/usr/bin/env python3
"""Judges a package whose model another tool trained: onnxruntime must give its probes their probabilities.

    python tests/judges/foreign_package_agrees.py MODEL_DIR

The input is made with Pillow, whose decoder and resizer round differently from ours: 0.02 is allowed. Prints one line
and ends with 0, or names the worst probe and ends with 1.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ALLOWED = 2e-2
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "catmull-rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def main():
    folder = Path(sys.argv[1])
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    preprocess = card["preprocess"]
    size = preprocess["size"]
    session = onnxruntime.InferenceSession(folder / card["model"]["path"], providers=["CPUExecutionProvider"])
    worst = 0.0
    for probe in card["probes"]:
        with Image.open(folder / probe["file"]["path"]) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
        if preprocess["geometry"]["kind"] != "squash":
            sys.exit("the package cuts its pictures, which no export of the service asks for")
        picture = picture.resize((size, size), FILTERS[preprocess["filter"]])
        values = np.asarray(picture, dtype=np.float32)
        if preprocess["channels"] == "bgr":
            values = values[:, :, ::-1]
        values = (values - np.array(preprocess["mean"], np.float32)) / np.array(preprocess["scale"], np.float32)
        values = np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)
        (given,) = session.run([card["output"]], {card["input"]: values})
        if given.shape != (1, len(card["labels"])):
            sys.exit(f"the output has the shape {given.shape}")
        difference = float(np.abs(given[0] - np.array(probe["probabilities"])).max())
        if not difference <= ALLOWED:
            sys.exit(f"{probe['file']['path']} differs by {difference:.4f}")
        worst = max(worst, difference)
    print(f"onnxruntime agrees on {len(card['probes'])} probes, the largest difference is {worst:.5f}")


if __name__ == "__main__":
    main()
