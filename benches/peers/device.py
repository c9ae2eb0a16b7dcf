"""The peer of benches/runtime.py: a loop in Python with Pillow and onnxruntime, as people write it for a Pi.

Usage: device.py MODEL FRAMES
Prints the best label of each frame.
"""

import json
import sys
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image, ImageOps

FILTERS = {"bilinear": Image.BILINEAR, "catmull-rom": Image.BICUBIC, "lanczos3": Image.LANCZOS}


def main(model: Path, frames: Path) -> None:
    """Judges every frame."""
    card = json.loads((model / "model.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model / "model.onnx", options, providers=["CPUExecutionProvider"])
    steps = card["preprocess"]
    size, geometry = steps["size"], steps["geometry"]
    mean, scale = (numpy.array(steps[name], numpy.float32) for name in ("mean", "scale"))
    for path in sorted(frames.iterdir()):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        if geometry["kind"] == "center-crop":
            side = min(image.size) * geometry["fraction"]
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
        else:
            box = (0, 0, image.width, image.height)
        image = image.resize((size, size), FILTERS[steps["filter"]], box=box)
        pixels = numpy.asarray(image, numpy.float32)
        if steps["channels"] == "bgr":
            pixels = pixels[:, :, ::-1]
        values = ((pixels - mean) / scale).transpose(2, 0, 1)[None]
        (probabilities,) = session.run([card["output"]], {card["input"]: numpy.ascontiguousarray(values)})
        print(card["labels"][int(probabilities[0].argmax())])


main(Path(sys.argv[1]), Path(sys.argv[2]))
