#!/usr/bin/env python3
"""Judges an exported model with onnxruntime: does it give the probabilities that our own code gave?

    python tests/judges/onnxruntime_agrees.py MODEL_DIR PHOTOS_DIR CLASSIFIED

CLASSIFIED is what our code wrote: a folder with one `.jsonl` file, or that file. Each of its lines is
`{"file": "label/photo.jpg", "probabilities": [...]}`, the file below PHOTOS_DIR. Where a folder `inputs` stands beside
it, `inputs/<sha256 of the photo>.f32` is the tensor that our code fed to the model, little-endian 32-bit floats: the
probabilities must then agree within 0.001, and the tensor itself is held against Pillow's. Without `inputs` the tensor
is Pillow's, whose decoder and resizer round differently, and 0.02 is allowed.

Prints one line and ends with 0, or names the worst photo and ends with 1.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SAME_INPUT = 1e-3
OWN_INPUT = 2e-2
# Of decoding and resizing the same photo twice, in levels of 0 to 255: mean over the picture.
PIXEL_LEVELS = 1.0

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "catmull-rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


class Disagreement(Exception):
    """What is wrong, and with which photo."""


@dataclass(frozen=True)
class Worst:
    """The largest difference so far."""

    difference: float = -1.0
    photo: str = ""

    def with_(self, difference: float, photo: str) -> "Worst":
        """This one or the new one; a difference that is no number is the largest there is."""
        new = Worst(np.inf if np.isnan(difference) else difference, photo)
        return new if new.difference > self.difference else self


def pillow_input(photo: Path, preprocess: dict) -> np.ndarray:
    """The model's input as model.json describes it, made with Pillow."""
    with Image.open(photo) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    upright = upright.convert("RGB")
    geometry, size = preprocess["geometry"], preprocess["size"]
    box = (0.0, 0.0, float(upright.width), float(upright.height))
    if geometry["kind"] == "center-crop":
        side = min(upright.size) * geometry["fraction"]
        left, top = (upright.width - side) / 2, (upright.height - side) / 2
        box = (left, top, left + side, top + side)
    elif geometry["kind"] != "squash":
        raise Disagreement(f"model.json has a geometry this judge does not know: {geometry}")
    resized = upright.resize((size, size), FILTERS[preprocess["filter"]], box=box)
    pixels = np.asarray(resized, np.float32)
    if preprocess["channels"] == "bgr":
        pixels = pixels[:, :, ::-1]
    mean, scale = (np.array(preprocess[name], np.float32) for name in ("mean", "scale"))
    return ((pixels - mean) / scale).transpose(2, 0, 1)[None]


def our_input(inputs: Path, photo: Path, size: int) -> np.ndarray:
    """The tensor our code wrote for this photo."""
    name = hashlib.sha256(photo.read_bytes()).hexdigest() + ".f32"
    values = np.fromfile(inputs / name, "<f4")
    if values.size != 3 * size * size:
        raise Disagreement(f"`{name}` has {values.size} numbers, 3 × {size} × {size} were expected")
    return values.reshape(1, 3, size, size)


def open_model(folder: Path) -> tuple[dict, onnxruntime.InferenceSession]:
    """The card and the model it describes, checked against each other."""
    card = json.loads((folder / "model.json").read_text())
    model = (folder / card["model"]["path"]).read_bytes()
    digest = "sha256:" + hashlib.sha256(model).hexdigest()
    if digest != card["model"]["sha256"]:
        raise Disagreement(f"`model.onnx` is {digest}, model.json says {card['model']['sha256']}")
    labels = (folder / card["labelsFile"]["path"]).read_text().splitlines()
    if labels != card["labels"]:
        raise Disagreement(f"`labels.txt` says {labels}, model.json says {card['labels']}")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for what, mine, its in (
        ("input", card["input"], session.get_inputs()),
        ("output", card["output"], session.get_outputs()),
    ):
        if [tensor.name for tensor in its] != [mine]:
            raise Disagreement(f"the graph's {what}s are {[tensor.name for tensor in its]}, model.json says `{mine}`")
    return card, session


def find_dump(classified: Path) -> tuple[Path, Path | None]:
    """The file of probabilities, and the folder of tensors beside it if there is one."""
    dump = classified
    if classified.is_dir():
        found = sorted(classified.glob("*.jsonl"))
        if len(found) != 1:
            raise Disagreement(f"`{classified}` has {len(found)} .jsonl files, one was expected")
        dump = found[0]
    inputs = dump.parent / "inputs"
    return dump, inputs if inputs.is_dir() else None


def judge(model: Path, photos: Path, classified: Path) -> str:
    """The verdict in one line."""
    dump, inputs = find_dump(classified)
    card, session = open_model(model)
    preprocess, size = card["preprocess"], card["preprocess"]["size"]
    lines = [json.loads(line) for line in dump.read_text().splitlines() if line.strip()]
    if not lines:
        raise Disagreement(f"`{dump.name}` has no lines, so nothing was judged")
    worst, worst_pixels, same_label = Worst(), Worst(), 0
    for line in lines:
        photo = photos / line["file"]
        tensor = pillow_input(photo, preprocess)
        if inputs:
            ours = our_input(inputs, photo, size)
            scale = np.array(preprocess["scale"], np.float32)[None, :, None, None]
            worst_pixels = worst_pixels.with_(float(np.abs((ours - tensor) * scale).mean()), line["file"])
            tensor = ours
        theirs = session.run(None, {card["input"]: tensor})[0][0]
        mine = np.array(line["probabilities"], np.float64)
        if theirs.shape != mine.shape or len(mine) != len(card["labels"]):
            raise Disagreement(f"`{line['file']}` has {mine.size} probabilities, onnxruntime gave {theirs.size}")
        worst = worst.with_(float(np.abs(theirs - mine).max()), line["file"])
        same_label += int(theirs.argmax() == mine.argmax())
    allowed = SAME_INPUT if inputs else OWN_INPUT
    if worst.difference > allowed:
        raise Disagreement(f"`{worst.photo}` differs by {worst.difference:.2g} in probability, {allowed} is allowed")
    if worst_pixels.difference > PIXEL_LEVELS:
        raise Disagreement(
            f"`{worst_pixels.photo}` is {worst_pixels.difference:.2f} levels of 255 from Pillow's on average, "
            f"{PIXEL_LEVELS} are allowed: another crop, orientation or scaling"
        )
    verdict = f"ok: {len(lines)} photos, probabilities differ by at most {worst.difference:.2g} (`{worst.photo}`), "
    verdict += f"{same_label} of {len(lines)} have the same first label"
    if inputs:
        verdict += f", inputs are at most {worst_pixels.difference:.2f} levels from Pillow's"
    return verdict


def main() -> int:
    """Parses the command line and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("classified", type=Path)
    arguments = parser.parse_args()
    try:
        print(judge(arguments.model, arguments.photos, arguments.classified))
    except (Disagreement, OSError, KeyError, ValueError) as error:
        print(f"onnxruntime_agrees: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
