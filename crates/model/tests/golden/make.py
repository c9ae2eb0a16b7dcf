#!/usr/bin/env python3
"""Makes pattern.png and resized.json: what Pillow makes of a picture, for our preprocessing to match.

    pip install pillow==13.0.0
    python crates/model/tests/golden/make.py
"""
import json
import pathlib

from PIL import Image

here = pathlib.Path(__file__).parent
image = Image.new("RGB", (64, 48))
for y in range(48):
    for x in range(64):
        block = 60 if (x // 8 + y // 6) % 2 else 0
        image.putpixel((x, y), (min(255, 3 * x + block), min(255, 4 * y + block), (x * y) % 251))
image.save(here / "pattern.png", optimize=True)

filters = {
    "bilinear": Image.Resampling.BILINEAR,
    "catmull-rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
parts = {"squash": (0, 0, 64, 48), "center-crop-0.75": (14, 6, 50, 42)}
cases = [
    {"filter": name, "part": part, "pixels": list(image.resize((8, 8), how, box=parts[part]).tobytes())}
    for name, how in filters.items()
    for part in parts
]
(here / "resized.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
