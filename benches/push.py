#!/usr/bin/env python3
"""Times "a new model reaches the registry": build-modules --push against umoci and skopeo, in turn.

    cargo build --release
    python benches/push.py [--rounds 7] [--megabytes 14] [--bin DIR]

Both sides put the same program and the same model of random bytes into images of two layers and push them to the same
docker-registry (Debian's, with passwords, on this machine). Each round has a model never seen before. Then the same
is pushed once more with nothing changed. Prints medians, their ratios and the spread. umoci, skopeo, docker-registry
and htpasswd must be installed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
USER, PASSWORD = "ada", "pass-word-1815"


def timed(commands: list[list[str]], env: dict[str, str], folder: pathlib.Path) -> float:
    """Runs the commands one after the other and gives the seconds they took together."""
    begun = time.perf_counter()
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
        if ran.returncode != 0:
            raise RuntimeError(f"{command[0]}: {ran.stdout}{ran.stderr}")
    return time.perf_counter() - begun


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
    runtime = str((asked.bin / "mynah-runtime").resolve())
    build = str((asked.bin / "build-modules").resolve())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        registry = Registry(folder)
        try:
            shutil.copytree(asked.model, folder / "model")
            env = {
                "PATH": os.environ["PATH"],
                "HOME": scratch,
                "MYNAH_REGISTRY_USER": USER,
                "MYNAH_REGISTRY_PASSWORD": PASSWORD,
            }
            new_model(folder / "model", asked.megabytes << 20)
            ours = [[build, "--model", "model", "--out", "images", "--runtime", runtime, "--push", f"{registry.host}/ours"]]
            timed(ours, env, folder)
            insert = ["umoci", "insert", "--rootless", "--image"]
            timed(
                [
                    ["umoci", "init", "--layout", "layout"],
                    ["umoci", "new", "--image", "layout:base"],
                    [*insert, "layout:base", runtime, "/usr/local/bin/mynah-runtime"],
                ],
                env,
                folder,
            )
            push = ["skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}", "oci:layout:model"]
            theirs = [
                [*insert, "layout:base", "--tag", "model", "model", "/usr/share/mynah/model"],
                [*push, f"docker://{registry.host}/theirs:latest"],
            ]
            timed(theirs, env, folder)
            seconds: dict[str, list[float]] = {"theirs": [], "ours": [], "ours, nothing changed": []}
            theirs_again: list[float] = []
            for _ in range(asked.rounds):
                new_model(folder / "model", asked.megabytes << 20)
                seconds["theirs"].append(timed(theirs, env, folder))
                seconds["ours"].append(timed(ours, env, folder))
                theirs_again.append(timed(theirs[1:], env, folder))
                seconds["ours, nothing changed"].append(timed(ours, env, folder))
        finally:
            registry.stop()
    print("| | seconds, median (spread) | times as fast |")
    print("| --- | ---: | ---: |")

    def row(name: str, own: list[float], peer: list[float]) -> str:
        ratio = statistics.median(peer) / statistics.median(own)
        return f"| {name} | {statistics.median(own):.3f} ({min(own):.3f}–{max(own):.3f}) | {ratio:.2f} |"

    print(row("umoci insert, skopeo copy: a new model", seconds["theirs"], seconds["theirs"]))
    print(row("build-modules --push: a new model", seconds["ours"], seconds["theirs"]))
    print(row("skopeo copy alone: nothing changed", theirs_again, theirs_again))
    print(row("build-modules --push: nothing changed", seconds["ours, nothing changed"], theirs_again))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"push: {error}", file=sys.stderr)
        sys.exit(1)
