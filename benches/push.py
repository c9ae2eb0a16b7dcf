#!/usr/bin/env python3
"""Times "a new model reaches the registry": build-modules --push against umoci and skopeo, in turn.

    cargo build --release
    python benches/push.py --model DIR [--rounds 7] [--megabytes 14] [--bin DIR]

Both sides put the same base (4.6 MB), the same program (8 MB) and the same model of random bytes into an image and push
it to the same docker-registry (Debian's, with passwords, on this machine). Each round has a model never seen before.
Then the same is pushed once more with nothing changed. Ours also writes modules.json, reads the tag back, and makes and
attaches the list of software and the statement; the peers do none of that.

Prints medians, their ratios and the spread: wall time, and the processor time of the commands and of the registry that
answers them. umoci, skopeo, docker-registry and htpasswd must be installed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import images

ROOT = pathlib.Path(__file__).resolve().parent.parent
USER, PASSWORD = "ada", "pass-word-1815"


def processor_time() -> float:
    """The processor seconds of all commands that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Took:
    """What commands took, one after the other: wall seconds, and processor seconds of theirs and of the registry's."""

    def __init__(self, commands: list[list[str]], env: dict[str, str], folder: pathlib.Path, registry: "Registry"):
        before, served, begun = processor_time(), registry.processor_time(), time.perf_counter()
        for command in commands:
            ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
            if ran.returncode != 0:
                raise RuntimeError(f"{command[0]}: {ran.stdout}{ran.stderr}")
        self.wall = time.perf_counter() - begun
        self.processor = processor_time() - before
        self.registry = registry.processor_time() - served


class Registry:
    """A docker-registry with one user."""

    def __init__(self, folder: pathlib.Path):
        passwords = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True)
        (folder / "htpasswd").write_bytes(passwords.stdout)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % probe.getsockname()[1]
        config = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
            "http": {"addr": self.host},
            "auth": {"htpasswd": {"realm": "bench", "path": str(folder / "htpasswd")}},
        }
        (folder / "config.yml").write_text(json.dumps(config))
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host, port = self.host.split(":")
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("docker-registry does not answer")

    def processor_time(self) -> float:
        """The processor seconds it has used (proc(5): fields 14 and 15, after the name in brackets)."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait()


def new_model(package: pathlib.Path, size: int) -> None:
    """Puts random weights of `size` bytes into the package, with the card that belongs to them."""
    weights = os.urandom(size)
    (package / "model.onnx").write_bytes(weights)
    card = json.loads((package / "model.json").read_text())
    card["model"]["sha256"] = "sha256:" + hashlib.sha256(weights).hexdigest()
    card["model"]["bytes"] = size
    (package / "model.json").write_text(json.dumps(card))


def main() -> int:
    """Parses the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=14)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a folder that export-model wrote; it is copied")
    asked = parser.parse_args()
    build = str((asked.bin / "build-modules").resolve())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        registry = Registry(folder)
        try:
            shutil.copytree(asked.model, folder / "model")
            images.fill(folder / "below" / "usr" / "lib", int(4.6 * images.MIB))
            (folder / "program").write_bytes(images.program_bytes(8 * images.MIB))
            env = {
                "PATH": os.environ["PATH"],
                "HOME": scratch,
                "MYNAH_REGISTRY_USER": USER,
                "MYNAH_REGISTRY_PASSWORD": PASSWORD,
            }

            def took(*commands: list[str]) -> Took:
                return Took(list(commands), env, folder, registry)

            new_model(folder / "model", asked.megabytes << 20)
            insert = ["umoci", "insert", "--rootless", "--image"]
            took(
                ["umoci", "init", "--layout", "layout"],
                ["umoci", "new", "--image", "layout:below"],
                [*insert, "layout:below", "below", "/"],
                [*insert, "layout:below", "--tag", "base", "program", "/usr/local/bin/mynah-runtime"],
            )
            ours = [build, "--model", "model", "--out", "images", "--push", f"{registry.host}/ours"]
            ours += ["--runtime", "program", "--base", "oci:layout:below"]
            took(ours)
            inserted = [*insert, "layout:base", "--tag", "model", "model", "/usr/share/mynah/model"]
            pushed = ["skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
            pushed += ["oci:layout:model", f"docker://{registry.host}/theirs:latest"]
            took(inserted, pushed)
            series: dict[str, list[Took]] = {name: [] for name in ("theirs", "ours", "theirs again", "ours again")}
            for _ in range(asked.rounds):
                new_model(folder / "model", asked.megabytes << 20)
                series["theirs"].append(took(inserted, pushed))
                series["ours"].append(took(ours))
                series["theirs again"].append(took(pushed))
                series["ours again"].append(took(ours))
        finally:
            registry.stop()
    print("| | wall s (spread) | times as fast | processor s | the registry's | times less of both |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")

    def row(name: str, own: list[Took], peer: list[Took]) -> str:
        median = statistics.median
        wall = [took.wall for took in own]
        faster = median(took.wall for took in peer) / median(wall)
        # Its clock ticks a hundred times a second, so that a mean says more than a median.
        served = statistics.fmean(took.registry for took in own)
        processor = median(took.processor for took in own)
        theirs = median(took.processor for took in peer) + statistics.fmean(took.registry for took in peer)
        return (
            f"| {name} | {median(wall):.3f} ({min(wall):.3f}–{max(wall):.3f}) | {faster:.2f} "
            f"| {processor:.3f} | {served:.3f} | {theirs / (processor + served):.2f} |"
        )

    print(row("umoci insert, skopeo copy: a new model", series["theirs"], series["theirs"]))
    print(row("build-modules --push: a new model", series["ours"], series["theirs"]))
    print(row("skopeo copy alone: nothing changed", series["theirs again"], series["theirs again"]))
    print(row("build-modules --push: nothing changed", series["ours again"], series["theirs again"]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"push: {error}", file=sys.stderr)
        sys.exit(1)
