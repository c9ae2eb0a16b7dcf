#!/usr/bin/env python3
"""Makes `photos/`, `frames/`, `speech/` and the table in `README.md` again from Debian packages.

    apt-get update && apt-get install espeak-ng
    pip install -r samples/requirements.txt
    python samples/make_samples.py            # writes the files beside this script
    python samples/make_samples.py --check    # makes them elsewhere and compares, byte for byte

`--deb FILE` uses a `gcompris-qt-data` package fetched before; without it, apt-get fetches it. Nothing is installed
from it. Each photo's author, source and licence are read from the package's own README files, and a photo that they
do not call public domain or CC0 is refused.
"""

import argparse
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import tempfile
import wave
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

PACKAGE = "gcompris-qt-data"
PACKAGE_VERSION = "3.1-2"
PACKAGE_SHA256 = "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f"
FREE = ("Public Domain", "CC0-1.0")
VOICE = "en"

LONG_SIDE = 320
JPEG_QUALITY = 82
# This one is stored lying on its side with an EXIF flag, as a phone held upright stores it.
SIDEWAYS = "windmill/windmill5.jpg"
EXIF_ORIENTATION = 0x0112
TURN_90_CLOCKWISE = 6

ACTIVITIES = "gcompris/src/activities"
FISHES = f"{ACTIVITIES}/categorization/resource/images/fishes"
TOOLS = f"{ACTIVITIES}/categorization/resource/images/tools"
RENEWABLE = f"{ACTIVITIES}/categorization/resource/images/renewable"
FARM = f"{ACTIVITIES}/explore_farm_animals/resource/animals"
WORLD = f"{ACTIVITIES}/explore_world_animals/resource/animals"

# label -> (folder in the package, names in it)
PHOTOS = {
    "fish": [(FISHES, "fish1 fish3 fish4 fish6 fish9 fish10 fish11 fish13 fish18 fish21 fish22 fish25")],
    "hammer": [(TOOLS, "hammer1 hammer2 hammer3 hammer5 hammer6 hammer8 hammer9")],
    "mammal": [
        (FARM, "cat cow dog horse sheep"),
        (WORLD, "bison hedgehog jaguar koala moose panda polar_bear"),
    ],
    "windmill": [
        (RENEWABLE, "windmill windmill1 windmill3 windmill4 windmill5"),
        (RENEWABLE, "windmill7 windmill8 windmill9 windmill11 windmill12 windmill14"),
    ],
}
# In the order in which a device sees them: folder, name in it, name here. None of them is among the photos.
FRAMES = [
    (RENEWABLE, "windmill13", "01-windmill"),
    (FISHES, "fish28", "02-fish"),
    (TOOLS, "hammer4", "03-hammer"),
    (WORLD, "lemur", "04-mammal"),
    (TOOLS, "measuringTape1", "05-tape-measure-no-label"),
    (FISHES, "fish19", "06-fish"),
    (TOOLS, "hammer7", "07-hammer"),
    (WORLD, "kangaroo", "08-mammal"),
    (RENEWABLE, "windmill15", "09-windmill"),
]


class Refused(Exception):
    """The input is not what this script was written for."""


@dataclass(frozen=True)
class Credit:
    """Who made a photo, where it was published, and under what licence."""

    author: str
    source: str
    licence: str


# --- the package ------------------------------------------------------------------------------------------------


def download(folder: Path) -> Path:
    """Fetches the package with apt-get."""
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", f"{PACKAGE}={PACKAGE_VERSION}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob(f"{PACKAGE}_*.deb"))


def unpack(deb: Path, folder: Path) -> dict[str, bytes]:
    """The files of the package's resource archives that photos may come from, by path."""
    found = hashlib.sha256(deb.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise Refused(f"`{deb.name}` has sha256 {found}, {PACKAGE_SHA256} was expected")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
    files = {}
    for activity in ("categorization", "explore_farm_animals", "explore_world_animals"):
        archive = folder / "usr/share/gcompris-qt/rcc" / f"{activity}.rcc"
        files.update(read_resources(archive.read_bytes()))
    return files


def read_resources(data: bytes) -> dict[str, bytes]:
    """Reads Qt's binary resource format, version 2 or later: a tree of names, and the files' bytes."""
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres" or version < 2:
        raise Refused("not a Qt resource archive of version 2 or later")
    compressed_zlib, directory, compressed_zstd = 1, 2, 4
    node_size = 22

    def visit(index: int, parts: tuple[str, ...]):
        node = tree + index * node_size
        name, flags = struct.unpack_from(">IH", data, node)
        if index:  # the root has no name
            (units,) = struct.unpack_from(">H", data, names + name)
            start = names + name + 6  # the length and a hash stand before it
            parts = (*parts, data[start : start + 2 * units].decode("utf-16-be"))
        if flags & directory:
            count, first = struct.unpack_from(">II", data, node + 6)
            for child in range(first, first + count):
                yield from visit(child, parts)
            return
        if flags & compressed_zstd:
            return  # scripts; pictures and README files are stored plain or with zlib
        (offset,) = struct.unpack_from(">I", data, node + 10)
        (length,) = struct.unpack_from(">I", data, contents + offset)
        raw = data[contents + offset + 4 : contents + offset + 4 + length]
        yield "/".join(parts), zlib.decompress(raw[4:]) if flags & compressed_zlib else raw

    return dict(visit(0, ()))


def read_credits(files: dict[str, bytes]) -> dict[str, Credit]:
    """Reads the README in each folder: paragraphs of `Copyright:`, `Source:`, `License:` and `Files:`."""
    credits = {}
    for path, data in files.items():
        if PurePosixPath(path).name != "README":
            continue
        for paragraph in re.split(r"\n\s*\n", data.decode()):
            field = dict(re.findall(r"^(Copyright|Source|License): *(.+)$", paragraph, re.MULTILINE))
            if len(field) < 3:
                continue
            for name in re.findall(r"^\S+\.webp$", paragraph, re.MULTILINE):
                credit = Credit(field["Copyright"], field["Source"], field["License"])
                credits[str(PurePosixPath(path).with_name(name))] = credit
    return credits


# --- the samples ------------------------------------------------------------------------------------------------


def selection() -> dict[str, str]:
    """Where each sample comes from: path here -> path in the package. A photo is on one side only."""
    chosen = {
        f"photos/{label}/{name}.jpg": f"{folder}/{name}.webp"
        for label, groups in PHOTOS.items()
        for folder, names in groups
        for name in names.split()
    }
    chosen |= {f"frames/{here}.jpg": f"{folder}/{name}.webp" for folder, name, here in FRAMES}
    if len(set(chosen.values())) != len(chosen):
        raise Refused("a photo is taken twice")
    return chosen


def encode(data: bytes, sideways: bool) -> bytes:
    """The photo as a small JPEG without metadata, but for the orientation of the one that lies on its side."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    options = {}
    if sideways:
        image = image.transpose(Image.Transpose.ROTATE_90)  # counterclockwise; the flag turns it back
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURN_90_CLOCKWISE
        options["exif"] = exif
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True, **options)
    return out.getvalue()


def speak(labels: list[str], folder: Path) -> dict[str, bytes]:
    """A clip for each label, and `speech.json`, which names them."""
    version = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    engine = "espeak-ng " + re.search(r"\d+(\.\d+)+", version)[0]
    made, clips = {}, []
    for label in labels:
        wav = folder / f"{label}.wav"
        subprocess.run(["espeak-ng", "-v", VOICE, "-w", str(wav), label], check=True)
        with wave.open(str(wav)) as clip:
            form = (clip.getnchannels(), clip.getsampwidth(), clip.getframerate())
        if form != (1, 2, 22050):
            raise Refused(f"the clip of `{label}` has {form} channels, bytes a sample and samples a second")
        data = wav.read_bytes()
        made[f"speech/{label}.wav"] = data
        file = {"path": f"{label}.wav", "sha256": f"sha256:{hashlib.sha256(data).hexdigest()}", "bytes": len(data)}
        clips.append({"label": label, "text": label, "file": file})
    document = {"schemaVersion": "1.0", "engine": engine, "voice": VOICE, "clips": clips}
    made["speech/speech.json"] = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    return made


def table(chosen: dict[str, str], credits: dict[str, Credit]) -> str:
    """Origin and licence of each photo, as a table for the README."""
    rows = ["| file | in the package | author | licence | source |", "| --- | --- | --- | --- | --- |"]
    for here, there in chosen.items():
        credit = credits[there]
        short = there.removeprefix(f"{ACTIVITIES}/").replace("/resource", "")
        rows.append(f"| {here} | {short} | {credit.author} | {credit.licence} | [source]({credit.source}) |")
    return "\n".join(rows)


def make(deb: Path | None, home: Path) -> dict[str, bytes]:
    """All files, by path below the samples' folder."""
    chosen = selection()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = unpack(deb or download(scratch), scratch / "package")
        made = speak(sorted(PHOTOS), scratch)
    credits = read_credits(files)
    for here, there in chosen.items():
        if there not in files or there not in credits:
            raise Refused(f"`{there}` or its licence is not in the package")
        if credits[there].licence not in FREE:
            raise Refused(f"`{there}` is under {credits[there].licence}, which is not {' or '.join(FREE)}")
        made[here] = encode(files[there], here == f"photos/{SIDEWAYS}")
    readme = (home / "README.md").read_text()
    start, end = "<!-- table: made by make_samples.py -->\n", "\n<!-- end of table -->"
    before, rest = readme.split(start)
    _, after = rest.split(end)
    made["README.md"] = (before + start + table(chosen, credits) + end + after).encode()
    return made


def main() -> int:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deb", type=Path, help="the package; without it, apt-get fetches it")
    parser.add_argument("--check", action="store_true", help="compare with the files here instead of writing them")
    arguments = parser.parse_args()
    home = Path(__file__).resolve().parent
    made = make(arguments.deb, home)
    there = {
        str(path.relative_to(home))
        for folder in ("photos", "frames", "speech")
        for path in (home / folder).rglob("*")
        if path.is_file()
    }
    strangers = sorted(there - made.keys())
    if arguments.check:
        differing = sorted(
            path for path, data in made.items() if not (home / path).is_file() or (home / path).read_bytes() != data
        )
        if differing or strangers:
            raise Refused(f"not what this script makes: {', '.join(differing + strangers)}")
        print(f"ok: {len(made)} files are what the packages give")
        return 0
    for path in strangers:
        (home / path).unlink()
    for path, data in made.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        partial = (home / path).with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(home / path)
    print(f"{len(made)} files, {sum(map(len, made.values()))} bytes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError, subprocess.CalledProcessError, struct.error, zlib.error) as error:
        print(f"make_samples: {error}", file=sys.stderr)
        sys.exit(1)
