#!/usr/bin/env python3
"""Times from a frame to the first sound of its word, seen from outside.

    apt-get install alsa-utils
    cargo build --release
    python benches/latency.py [--model DIR --frames DIR] [--bin DIR] [--words 20]

The device sees 640 × 480 JPEG at 30 frames a second through a pipe. A picture without a label is shown, then one with; the
clock starts when the last byte of the first frame of that picture is in the pipe. It stops when the first bytes of the word
have arrived: as a file (`wav:`), and at an ALSA device that writes what it is given to a file (`command:aplay`, whose start
is part of the time). Settings are as they come, so a word takes three frames that agree: two intervals of the camera, which
are in the time. The time of one inference is the device's own mean, from its metrics; "above inference" takes off three.

What a camera adds before its frame is in the pipe, and a sound card after it has the first samples, is not in it.
"""

import argparse
import io
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import wave
from hashlib import sha256
from pathlib import Path

import numpy
from PIL import Image, ImageOps

from runtime import runtime, sample_model
from walk import REPOSITORY, Failed

# Frames a second, and frames that must agree before a word is said.
RATE, VOTES = 30, 3
SIZE = (640, 480)
# A second of each picture: longer than a label takes to leave.
FRAMES_EACH = RATE


def clips(model: Path, folder: Path) -> None:
    """A short tone for each label, as build-modules would write them."""
    folder.mkdir()
    tone = io.BytesIO()
    with wave.open(tone, "wb") as out:
        out.setparams((1, 2, 22050, 0, "NONE", ""))
        times = numpy.arange(22050 // 10) / 22050
        out.writeframes((20000 * numpy.sin(2 * numpy.pi * 440 * times)).astype("<i2").tobytes())
    (folder / "tone.wav").write_bytes(tone.getvalue())
    file = {"path": "tone.wav", "sha256": f"sha256:{sha256(tone.getvalue()).hexdigest()}", "bytes": len(tone.getvalue())}
    labels = json.loads((model / "model.json").read_text())["labels"]
    speech = {
        "schemaVersion": "1.0",
        "engine": "a tone",
        "voice": "en",
        "clips": [{"label": label, "text": label, "file": file} for label in labels],
    }
    (folder / "speech.json").write_text(json.dumps(speech))


def judged(programs: Path, model: Path, frames: Path) -> tuple[list[Path], Path]:
    """Pictures that the model is sure of, one for each label, and one in which it knows nothing."""
    done = subprocess.run(runtime(programs, model, f"dir:{frames}?hold=3"), capture_output=True, check=True, text=True)
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    known = {line["label"]: frames / line["image"] for line in seen if line.get("label")}
    unknown = [frames / line["image"] for line in seen if not line.get("label")]
    # The first frames of each picture are unknown until enough agree.
    unknown = [picture for picture in unknown if picture not in known.values()]
    if not known or not unknown:
        raise Failed(f"`{frames}` needs pictures with a label and one without")
    return list(known.values()), unknown[0]


def views(picture: Path, count: int) -> list[bytes]:
    """The picture as a camera sees it, with noise, so that no two frames are the same."""
    random = numpy.random.default_rng(1)
    image = ImageOps.fit(ImageOps.exif_transpose(Image.open(picture)).convert("RGB"), SIZE)
    frames = []
    for _ in range(count):
        noisy = numpy.asarray(image, numpy.int16) + random.integers(-3, 4, (SIZE[1], SIZE[0], 1))
        out = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(out, "JPEG", quality=85)
        frames.append(out.getvalue())
    return frames


class Watch(threading.Thread):
    """Notes when a folder has a new file with bytes in it, or a file other bytes than before."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.heard, self.ended = folder, [], False

    def run(self) -> None:
        before = None
        while not self.ended:
            found = [path.stat() for path in self.folder.glob("*.wav")]
            now = [(file.st_size, file.st_mtime_ns) for file in found if file.st_size > 0]
            if now and now != before:
                self.heard.append(time.perf_counter())
            before = now
            time.sleep(0.001)


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def inference(port: int) -> float:
    """The device's mean time of one inference, in seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    name = "mynah_inference_duration_seconds"
    total, count = (float(re.search(rf"^{name}_{part} (\S+)$", text, re.M)[1]) for part in ("sum", "count"))
    return total / count


def first_sounds(
    programs: Path, model: Path, scratch: Path, speaker: str, known: list[list[bytes]], unknown: list[bytes], words: int
) -> tuple[list[float], float]:
    """Seconds from frame to sound, a figure a word, and the mean time of one inference."""
    heard, port = scratch / f"heard-{speaker.split(':')[0]}", free_port()
    heard.mkdir()
    (scratch / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        f'pcm.!default {{ type file file "{heard}/card.wav" format "raw" slave.pcm {{ type null }} }}\n'
    )
    command = runtime(programs, model, "mjpeg:-", "--speaker", speaker.format(heard=heard), "--http", str(port))
    command += ["--speech", str(scratch / "speech"), "--sightings", str(scratch / "sightings.jsonl")]
    environment = {"PATH": "/usr/bin:/bin", "ALSA_CONFIG_PATH": str(scratch / "asound.conf")}
    watch = Watch(heard)
    taken = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as device:
        watch.start()
        due = time.perf_counter()

        def show(frames: list[bytes]) -> float:
            """Feeds the frames at their rate; when the first was in the pipe."""
            nonlocal due
            first = None
            for frame in frames:
                time.sleep(max(0.0, due - time.perf_counter()))
                device.stdin.write(frame)
                device.stdin.flush()
                first = first or time.perf_counter()
                due = max(due + 1 / RATE, time.perf_counter())
            return first

        # Until it has started, the pipe is full.
        show(unknown * 5)
        for word in range(words):
            watch.heard.clear()
            first = show(known[word % len(known)])
            if not watch.heard:
                raise Failed(f"word {word + 1} was not heard within {FRAMES_EACH / RATE:.0f} s")
            taken.append(watch.heard[0] - first)
            show(unknown)
        mean = inference(port)
        device.stdin.close()
    watch.ended = True
    if device.returncode != 0:
        raise Failed(f"the device ended with {device.returncode}")
    return taken, mean


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model package")
    parser.add_argument("--frames", type=Path, default=REPOSITORY / "samples" / "frames", help="pictures it knows, and one it does not")
    parser.add_argument("--bin", type=Path, default=REPOSITORY / "target" / "release", help="where the programs are")
    parser.add_argument("--words", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = arguments.model or sample_model(arguments.bin, scratch)[0]
        clips(model, scratch / "speech")
        pictures, nothing = judged(arguments.bin, model, arguments.frames)
        known = [views(picture, FRAMES_EACH) for picture in pictures]
        unknown = views(nothing, FRAMES_EACH)
        print(f"{arguments.words} words, {RATE} frames a second, {VOTES} frames agree\n")
        print("| first sound at | ms, median (range) | one inference, ms | above inference, ms |")
        print("| --- | ---: | ---: | ---: |")
        for name, speaker in (("a file of its own", "wav:{heard}"), ("an ALSA device, by aplay", "command:aplay -q")):
            taken, mean = first_sounds(arguments.bin, model, scratch, speaker, known, unknown, arguments.words)
            median = statistics.median(taken)
            print(
                f"| {name} | {median * 1e3:.0f} ({min(taken) * 1e3:.0f}–{max(taken) * 1e3:.0f}) "
                f"| {mean * 1e3:.1f} | {(median - VOTES * mean) * 1e3:.0f} |"
            )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
