#!/usr/bin/env python3
"""Images: build-modules against buildah and umoci on the same content, in turn, round after round.

The content: a base of 4.6 MB (programs and libraries of this machine), a program of 8 MB, a model of 14 MB (random bytes, which no
compressor makes smaller). Four situations, each timed for every contender in every round:

  cold     nothing is cached
  model    only the model is new
  nothing  nothing is new
  hash     SHA-256 of the same bytes alone, by the same process start as a lower bound (sha256sum)

buildah: `bud --layers` of the same Dockerfile, then `push` to an OCI layout, so that both sides end with the same thing (and
without the push, which leaves layers uncompressed in its store). umoci: `init`, `new` and an `insert` per layer, the base first;
with a new model it takes the image without the model and inserts that. Ratios are of medians, of wall and of processor
time; the times are for the reader.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20

MODULE = """{"image": {"repository": "localhost/bench", "tag": {"version": "1", "platforms": {"amd64": "Dockerfile"}}}}"""
DOCKERFILE = """FROM scratch
COPY base /
COPY program /usr/local/bin/program
COPY model /usr/share/model
ENTRYPOINT ["/usr/local/bin/program"]
"""


def fill(folder: Path, size: int) -> None:
    """Copies libraries of this machine until there are `size` bytes."""
    folder.mkdir(parents=True)
    left = size
    for path in sorted(Path("/usr/lib/x86_64-linux-gnu").glob("*.so*")):
        if path.is_file() and not path.is_symlink() and left > 0:
            data = path.read_bytes()[:left]
            (folder / path.name).write_bytes(data)
            left -= len(data)


def program_bytes(size: int) -> bytes:
    """The bytes of programs of this machine, put together."""
    data = b""
    for name in ("python3", "perl", "bash", "gcc", "git"):
        found = shutil.which(name)
        program = Path(found).resolve().read_bytes() if found else b""
        # Some of these names may be scripts that start the program.
        if program.startswith(b"\x7fELF"):
            data += program
    while len(data) < size:
        data += data
    return data[:size]


def timed(*commands: list, env=None) -> tuple[float, float]:
    """Wall and processor seconds of the commands, one after the other."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        run = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env)
        if run.returncode != 0:
            raise SystemExit(f"{command}: {run.stdout}{run.stderr}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Buildah:
    """buildah with a store of its own."""

    def __init__(self, scratch: Path, context: Path):
        self.root, self.out, self.context = scratch / "buildah", scratch / "buildah-out", context
        self.base = ["buildah", "--root", self.root / "root", "--runroot", self.root / "run", "--storage-driver", "vfs"]

    def forget(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)

    def build(self) -> tuple[float, float]:
        return timed(self.base + ["bud", "--layers", "--timestamp", "0", "-t", "bench", self.context])

    def push(self) -> tuple[float, float]:
        return timed(self.base + ["push", "localhost/bench", f"oci:{self.out}:1"])


class Umoci:
    """umoci on a layout."""

    def __init__(self, scratch: Path, context: Path):
        self.layout, self.context = scratch / "umoci", context

    def forget(self) -> None:
        shutil.rmtree(self.layout, ignore_errors=True)

    def insert(self, tag: str, name: str, place: str, new: str | None = None) -> list:
        more = ["--tag", new] if new else []
        return ["umoci", "insert", "--image", f"{self.layout}:{tag}", *more, self.context / name, place]

    def cold(self) -> tuple[float, float]:
        return timed(
            ["umoci", "init", "--layout", self.layout],
            ["umoci", "new", "--image", f"{self.layout}:below"],
            self.insert("below", "base", "/"),
            self.insert("below", "program", "/usr/local/bin/program"),
            self.insert("below", "model", "/usr/share/model", "whole"),
        )

    def model(self) -> tuple[float, float]:
        return timed(self.insert("below", "model", "/usr/share/model", "whole"))


class Mynah:
    """build-modules."""

    def __init__(self, scratch: Path, modules: Path, program: Path):
        self.out, self.cache, self.modules, self.program = scratch / "mynah", scratch / "cache", modules, program

    def forget(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)

    def build(self) -> tuple[float, float]:
        command = [self.program, "--quiet", "--modules", self.modules, "--platform", "linux/amd64"]
        return timed(command + ["--out", self.out, "--cache", self.cache])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-modules", type=Path, default=REPOSITORY / "target" / "release" / "build-modules")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for peer in ("buildah", "umoci"):
        if not shutil.which(peer):
            raise SystemExit(f"{peer} is not installed (apt-get install buildah umoci)")
    times: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, seconds: tuple[float, float]) -> None:
        times.setdefault(name, []).append(seconds)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        context = scratch / "modules" / "bench"
        context.mkdir(parents=True)
        (context / "module.json").write_text(MODULE)
        (context / "Dockerfile").write_text(DOCKERFILE)
        fill(context / "base" / "usr" / "lib", int(4.6 * MIB))
        (context / "program").write_bytes(program_bytes(8 * MIB))
        buildah = Buildah(scratch, context)
        umoci = Umoci(scratch, context)
        mynah = Mynah(scratch, scratch / "modules", arguments.build_modules.resolve())
        for _ in range(arguments.rounds):
            (context / "model").write_bytes(os.urandom(14 * MIB))
            for contender in (buildah, umoci, mynah):
                contender.forget()
            note("cold, buildah bud", buildah.build())
            note("cold, buildah push", buildah.push())
            note("cold, umoci", umoci.cold())
            note("cold, mynah", mynah.build())
            (context / "model").write_bytes(os.urandom(14 * MIB))
            note("model, buildah bud", buildah.build())
            note("model, buildah push", buildah.push())
            note("model, umoci", umoci.model())
            note("model, mynah", mynah.build())
            note("nothing, buildah bud", buildah.build())
            note("nothing, mynah", mynah.build())
            files = [path for path in sorted(context.rglob("*")) if path.is_file()]
            note("hash", timed(["sha256sum", *files]))
        buildah.forget()

    def median(*names: str) -> tuple[float, float]:
        """Wall and processor time of the named together."""
        return tuple(sum(statistics.median(took[of] for took in times[name]) for name in names) for of in (0, 1))

    print("| step | median s | lowest–highest | processor s |\n| --- | ---: | ---: | ---: |")
    for name, series in times.items():
        (wall, processor), walls = median(name), [took[0] for took in series]
        print(f"| {name} | {wall:.3f} | {min(walls):.3f}–{max(walls):.3f} | {processor:.3f} |")
    print("\n| ratio to mynah | wall | processor |\n| --- | ---: | ---: |")

    def ratio(name: str, peer: tuple[float, float], own: tuple[float, float]) -> None:
        print(f"| {name} | {peer[0] / own[0]:.1f} | {peer[1] / own[1]:.1f} |")

    for name, peer, own in (
        ("cold: buildah bud", "cold, buildah bud", "cold, mynah"),
        ("cold: umoci", "cold, umoci", "cold, mynah"),
        ("new model: buildah bud --layers", "model, buildah bud", "model, mynah"),
        ("new model: umoci", "model, umoci", "model, mynah"),
        ("nothing new: buildah bud --layers", "nothing, buildah bud", "nothing, mynah"),
    ):
        ratio(name, median(peer), median(own))
    for step in ("cold", "model"):
        both = median(f"{step}, buildah bud", f"{step}, buildah push")
        ratio(f"{step}: buildah bud and push to a layout", both, median(f"{step}, mynah"))
    print("\n| mynah to sha256sum of the same bytes | wall | processor |\n| --- | ---: | ---: |")
    for step in ("cold", "model", "nothing"):
        ratio(step, median(f"{step}, mynah"), median("hash"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
