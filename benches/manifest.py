#!/usr/bin/env python3
"""Manifest generation against iotedgedev genconfig on the same templates: first equal content, then the times.

    python benches/manifest.py GENERATE_MANIFEST IOTEDGEDEV TEMPLATES_DIR [--runs 5]

TEMPLATES_DIR holds templates (`*.json`). Each is filled in by both programs. The contents are compared after three
things that differ on purpose: we pin images by digest where iotedgedev writes a tag, options for containers that are
empty text become `{}`, and keys are sorted. A template that we refuse is shown with the reason.

Then both are timed in turn, round after round, on one template with the same content, and ours on one of 1,000 modules.
iotedgedev's time holds its attempt to fetch a schema, which fails at once where there is no network.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIABLES = {"CONTAINER_REGISTRY_USERNAME": "user", "CONTAINER_REGISTRY_PASSWORD": "word", "CONTAINER_REGISTRY_ADDRESS": "a.example"}
PLACEHOLDER = re.compile(r"\$\{MODULES\.([^}.]+)")
PLATFORMS = {"amd64": "linux/amd64", "arm32v7": "linux/arm/v7"}
PIECE = re.compile(r"create[oO]ptions([0-9]*)")


def tag(name: str, platform: str) -> str:
    """iotedgedev's image of a module."""
    return f"registry.example/{name.lower()}:0.0.1-{platform}"


def digest(name: str, platform: str) -> str:
    """A digest that tells module and platform."""
    return "sha256:" + f"{name}/{platform}".encode().hex().ljust(64, "0")[:64]


def prepare(template: Path, folder: Path) -> set[str]:
    """A solution for iotedgedev and a modules.json for us."""
    text = template.read_text()
    names = set(PLACEHOLDER.findall(text))
    (folder / "deployment.template.json").write_text(text)
    (folder / ".env").write_text("")
    modules = []
    for name in sorted(names):
        (folder / "modules" / name).mkdir(parents=True)
        image = {"repository": f"registry.example/{name.lower()}",
                 "tag": {"version": "0.0.1", "platforms": {p: f"./Dockerfile.{p}" for p in PLATFORMS}}, "buildOptions": []}
        (folder / "modules" / name / "module.json").write_text(json.dumps({"$schema-version": "0.0.1", "image": image}))
        images = [{"platform": ours, "layers": [], "manifest": {"mediaType": "m", "digest": digest(name, theirs), "size": 1}}
                  for theirs, ours in PLATFORMS.items()]
        modules.append({"name": name, "repository": f"registry.example/{name.lower()}", "tag": "1", "layout": name,
                        "index": images[0]["manifest"], "platforms": images})
    (folder / "modules.json").write_text(
        json.dumps({"schemaVersion": "1.0", "tool": {"name": "bench", "version": "0"}, "modules": modules}))
    return names


def timed(command: list, **how) -> tuple[tuple[float, float], subprocess.CompletedProcess]:
    """A finished program; its wall and processor time in seconds."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **how)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), ran


def run_theirs(program: Path, folder: Path):
    """iotedgedev genconfig, and its times."""
    env = {**os.environ, **VARIABLES, "DEPLOYMENT_CONFIG_FILE": "theirs.json"}
    return timed([program, "genconfig", "-f", "deployment.template.json", "-P", "amd64"], cwd=folder, env=env)


def run_ours(program: Path, folder: Path):
    """generate-manifest, and its times."""
    out = folder / "ours.json"
    out.unlink(missing_ok=True)
    command = [program, "--template", "deployment.template.json", "--images", ".", "--platform", "linux/amd64"]
    return timed([*command, "--out", out], cwd=folder, env={**os.environ, **VARIABLES})


def content(path: Path, names: set[str]):
    """What a manifest says, whoever wrote it."""
    text = path.read_text()
    for name in names:
        for platform in PLATFORMS:
            text = text.replace(f"registry.example/{name.lower()}@{digest(name, platform)}", tag(name, platform))

    def opened(value):
        if isinstance(value, list):
            return [opened(item) for item in value]
        if not isinstance(value, dict):
            return value
        pieces = sorted((int(found[1] or 0), key) for key in value if (found := PIECE.fullmatch(key)))
        rest = {key: opened(item) for key, item in value.items() if not PIECE.fullmatch(key)}
        if pieces:
            text = "".join(value[key] for _, key in pieces)
            rest["createOptions"] = json.loads(text or "{}")
        return rest

    return opened(json.loads(text))


def compare(ours: Path, theirs: Path, templates: list[Path]) -> None:
    """Both on every template; ends the program where they differ."""
    equal, refused = 0, []
    for template in templates:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            names = prepare(template, folder)
            _, our = run_ours(ours, folder)
            _, their = run_theirs(theirs, folder)
            made = folder / "config" / "theirs.json"
            if our.returncode:
                reason = next((line for line in our.stderr.splitlines() if line.startswith("error:")), "")
                refused.append(f"{template.name}\n    {reason[:300]}")
            elif not made.is_file():
                sys.exit(f"{template.name}: iotedgedev made nothing:\n{their.stdout}{their.stderr}")
            elif content(folder / "ours.json", names) != content(made, names):
                sys.exit(f"{template.name}: the contents differ")
            else:
                equal += 1
    print(f"{equal} of {len(templates)} templates: the same content as iotedgedev's")
    for line in refused:
        print(f"refused by us, passed on by iotedgedev: {line}")


def thousand(folder: Path) -> None:
    """A template of 1,000 modules."""
    template = json.loads((Path(__file__).parents[1] / "src/manifest/deployment.template.json").read_text())
    desired = template["modulesContent"]["$edgeAgent"]["properties.desired"]
    one = json.dumps(desired["modules"]["mynah-runtime"])
    desired["modules"] = {f"m{n}": json.loads(one.replace("mynah-runtime", f"m{n}")) for n in range(1000)}
    (folder / "thousand.json").write_text(json.dumps(template, indent=2))


def main() -> None:
    """Parses the command line, compares, times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("templates", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    ours, theirs = arguments.ours.resolve(), arguments.theirs.resolve()
    templates = sorted(arguments.templates.resolve().glob("*.json"))
    compare(ours, theirs, templates)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(next(path for path in templates if "template-4.0--deployment.template" in path.name), folder)
        rounds = [(run_ours(ours, folder)[0], run_theirs(theirs, folder)[0]) for _ in range(arguments.runs)]
        for what, which in (("wall", 0), ("processor", 1)):
            our, their = (statistics.median(times[which] for times in side) for side in zip(*rounds))
            print(f"one template, {what} time, median of {arguments.runs}: iotedgedev {their:.3f} s, ours {our * 1000:.1f} ms, "
                  f"ratio {their / our:.0f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        thousand(folder)
        prepare(folder / "thousand.json", folder)
        took, ran = run_ours(ours, folder)
        if ran.returncode:
            sys.exit(ran.stderr)
        size = (folder / "ours.json").stat().st_size
        print(f"1,000 modules, {size / 1e6:.2f} MB of manifest: ours {took[0]:.3f} s, {took[1]:.3f} s of the processor")


if __name__ == "__main__":
    main()
