#!/usr/bin/env python3
"""Draws the icons of the tasks (32 x 32) and of the extension (128 x 128). Needs Pillow."""

from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
BACK, LINE, BEAK = "#1f2a44", "#f5f1e6", "#f2a93b"
FINE = 16  # drawn this much larger, then made small


def canvas(size):
    """A rounded square; what is drawn on it is in units of a 32nd of its side."""
    scale = size * FINE / 32
    image = Image.new("RGBA", (size * FINE, size * FINE))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle([0, 0, size * FINE - 1, size * FINE - 1], 6 * scale, BACK)
    return image, draw, scale


def at(scale, *numbers):
    return [number * scale for number in numbers]


def photo(draw, s):
    draw.rounded_rectangle(at(s, 5, 8, 27, 24), 2 * s, outline=LINE, width=int(2 * s))
    draw.polygon(at(s, 8, 21, 14, 14, 18, 18, 21, 15.5, 24, 21), fill=LINE)
    draw.ellipse(at(s, 19, 10.5, 22.5, 14), fill=BEAK)


def network(draw, s):
    left, right = [(8, 9), (8, 16), (8, 23)], [(24, 12), (24, 20)]
    for a in left:
        for b in right:
            draw.line(at(s, *a, *b), fill=LINE, width=int(1.4 * s))
    for x, y in left:
        draw.ellipse(at(s, x - 2.8, y - 2.8, x + 2.8, y + 2.8), fill=LINE)
    for x, y in right:
        draw.ellipse(at(s, x - 3, y - 3, x + 3, y + 3), fill=BEAK)


def package(draw, s):
    draw.polygon(at(s, 6, 12, 16, 17, 26, 12, 26, 22, 16, 27, 6, 22), outline=LINE, width=int(2 * s))
    draw.line(at(s, 16, 17, 16, 27), fill=LINE, width=int(2 * s))
    draw.line(at(s, 16, 13.5, 16, 5), fill=BEAK, width=int(2.6 * s))
    draw.polygon(at(s, 11.5, 8.5, 16, 3, 20.5, 8.5), fill=BEAK)


def layers(draw, s):
    for y, colour in ((19, LINE), (14, LINE), (9, BEAK)):
        draw.polygon(at(s, 5, y + 2, 16, y - 3, 27, y + 2, 16, y + 7), fill=BACK)
        draw.polygon(at(s, 5, y + 2, 16, y - 3.5, 27, y + 2, 16, y + 7.5), outline=colour, width=int(2 * s))


def document(draw, s):
    draw.polygon(at(s, 8, 5, 19, 5, 24, 10, 24, 27, 8, 27), outline=LINE, width=int(2 * s))
    for y, end in ((13, 20), (17, 20), (21, 17)):
        draw.line(at(s, 12, y, end, y), fill=BEAK, width=int(1.8 * s))


def device(draw, s):
    draw.rounded_rectangle(at(s, 5, 11, 20, 25), 2 * s, outline=LINE, width=int(2 * s))
    draw.ellipse(at(s, 9.5, 15, 15.5, 21), outline=LINE, width=int(1.8 * s))
    for reach in (3.5, 6.5, 9.5):
        draw.arc(at(s, 18 - reach, 10 - reach, 18 + reach, 10 + reach), -75, 5, fill=BEAK, width=int(1.9 * s))


def bird(draw, s):
    draw.ellipse(at(s, 7, 9, 21, 24), fill=LINE)
    draw.polygon(at(s, 9, 20, 3, 28, 14, 24), fill=LINE)
    draw.polygon(at(s, 19, 12.5, 26, 15, 19.5, 18), fill=BEAK)
    draw.ellipse(at(s, 15, 12.5, 17.6, 15.1), fill=BACK)
    for reach in (3.2, 6):
        draw.arc(at(s, 24 - reach, 12 - reach, 24 + reach, 12 + reach), -75, 15, fill=BEAK, width=int(1.3 * s))


def save(path, size, paint):
    image, draw, scale = canvas(size)
    paint(draw, scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((size, size), Image.Resampling.LANCZOS).save(path, optimize=True)


TASKS = {
    "ImportImages": photo,
    "TrainModel": network,
    "ExportModel": package,
    "BuildModules": layers,
    "GenerateManifest": document,
    "DeployModules": device,
}

if __name__ == "__main__":
    for name, paint in TASKS.items():
        save(HERE / name / "icon.png", 32, paint)
    save(HERE / "icon.png", 128, bird)
