#!/usr/bin/env python3
"""Judges generate-manifest on templates of others, by the published schemas and by the Kubernetes schemas.

    python tests/judges/manifest_examples.py GENERATE_MANIFEST OUR_SCHEMA CONTRACTS_DIR

CONTRACTS_DIR holds SchemaStore's IoT Edge schemas and, below `examples`, templates named `SCHEMA--FILE`.

Every example is filled in. What our program accepts, the published schemas and our own JSON Schema (`OUR_SCHEMA`) must
accept; what it refuses, the published schemas must refuse. Then the accepted manifests are damaged in one place at a
time: our schema and the published ones must give the same verdict on each. Last, each manifest is written as
Kubernetes objects: the YAML must read as the same objects as the JSON, and kubernetes-validate must accept each object
strictly, a version that is not there being an error.

Prints what was judged and ends with 0, or says what is wrong and where, and ends with 1.
"""

import argparse
import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from manifest_validates import Schemas, SYSTEM, WHOLE

KUBERNETES = "1.35"
VARIABLES = {"CONTAINER_REGISTRY_USERNAME": "user", "CONTAINER_REGISTRY_PASSWORD": 'pass"word\\', "CONTAINER_REGISTRY_ADDRESS": "registry.example"}
PLACEHOLDER = re.compile(r"\$\{MODULES\.([^}.]+)")
PIECE = re.compile(r"create[oO]ptions[0-9]*")


class Theirs:
    """The published schemas' verdict on a manifest."""

    def __init__(self, folder: Path):
        self.schemas = Schemas(folder)

    def accepts(self, document) -> bool:
        try:
            content = document["modulesContent"]
            hub = content["$edgeHub"]["properties.desired"]
            versions = {part: content[part]["properties.desired"]["schemaVersion"] for part in SYSTEM}
        except (KeyError, TypeError):
            return False
        whole = document
        if versions["$edgeHub"] in ("1.2", "1.3") and isinstance(hub.get("mqttBroker"), dict):
            # The schema of the whole knows no broker; that of the hub does.
            whole = copy.deepcopy(document)
            del whole["modulesContent"]["$edgeHub"]["properties.desired"]["mqttBroker"]
        if self.schemas.errors(WHOLE, whole, ""):
            return False
        for part, pattern in SYSTEM.items():
            name = pattern.format(versions[part])
            if name not in self.schemas.documents:
                return False
            if self.schemas.errors(name, {part: content[part]}, ""):
                return False
        return True


def modules_json(template: str) -> dict:
    """A modules.json with the modules a template names, in the form of build-modules."""
    digest = "sha256:" + "0" * 64

    def module(name: str) -> dict:
        descriptor = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1}
        platforms = [{"platform": p, "manifest": descriptor, "layers": []} for p in ("linux/amd64", "linux/arm/v7")]
        return {"name": name, "repository": f"registry.example/{name.lower()}", "tag": "1", "layout": name,
                "index": descriptor, "platforms": platforms}

    names = sorted(set(PLACEHOLDER.findall(template)))
    return {"schemaVersion": "1.0", "tool": {"name": "judge", "version": "0"}, "modules": [module(n) for n in names]}


def generate(program: Path, template: Path, out: Path, more=()) -> subprocess.CompletedProcess:
    """Fills in a template as a pipeline would."""
    images = out.parent / "images"
    images.mkdir(exist_ok=True)
    (images / "modules.json").write_text(json.dumps(modules_json(template.read_text())))
    command = [program, "--template", template, "--images", images, "--out", out, *more]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **VARIABLES}, capture_output=True, text=True)


def as_text(document):
    """A template as a manifest, options for containers being text: what the published schemas are asked about."""
    document.pop("$schema-template", None)
    desired = document["modulesContent"]["$edgeAgent"]["properties.desired"]
    for module in [*desired["modules"].values(), *desired["systemModules"].values()]:
        settings = module["settings"]
        for key in [key for key in settings if PIECE.fullmatch(key)]:
            if not isinstance(settings[key], str):
                settings[key] = json.dumps(settings[key])
    return document


def places(value, path=()):
    """Every place of a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def damaged(document):
    """The document with one thing changed, and what that was."""
    for path in places(document):
        if "mqttBroker" in path:
            continue  # The published schema looks into it, ours leaves it to the broker.
        for value in (None, "", "x", 3, -1, {}, {"x": 1}, "remove", "add"):
            copied = copy.deepcopy(document)
            parent = copied
            for key in path[:-1]:
                parent = parent[key]
            target = parent[path[-1]] if path else copied
            if value == "add":
                if not isinstance(target, dict):
                    continue
                target["starupOrder"] = 1
            elif not path:
                continue
            elif value == "remove":
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            yield f"{'/'.join(map(str, path))} = {value!r}", copied


def judge_examples(program: Path, ours, theirs: Theirs, folder: Path, scratch: Path) -> list[str]:
    """All examples filled in; the errors."""
    errors, accepted, refused, changes = [], [], 0, 0
    examples = sorted(folder.glob("*.json"))
    for example in examples:
        out = scratch / "deployment.json"
        out.unlink(missing_ok=True)
        ran = generate(program, example, out)
        if ran.returncode == 0:
            document = json.loads(out.read_text())
            if not theirs.accepts(document):
                errors.append(f"{example.name}: we accept it, the published schemas do not")
            if not ours.is_valid(document):
                errors.append(f"{example.name}: our program accepts it, our own schema does not")
            accepted.append((example, document))
        else:
            refused += 1
            if ran.returncode != 2 or theirs.accepts(as_text(json.loads(example.read_text()))):
                errors.append(f"{example.name}: refused alone by us ({ran.returncode}): {ran.stderr}")
    # One of each pair of versions is enough: damaging them all takes minutes and says the same.
    seen = {}
    for example, document in accepted:
        content = document["modulesContent"]
        key = tuple(content[part]["properties.desired"]["schemaVersion"] for part in SYSTEM)
        if key not in seen or len(json.dumps(document)) < len(json.dumps(seen[key][1])):
            seen[key] = (example, document)
    for example, document in seen.values():
        for what, copied in damaged(document):
            changes += 1
            # We refuse an image that is empty; the published schemas take it, and no device can run it.
            stricter = what.endswith("settings/image = ''")
            if (ours.is_valid(copied) or stricter) != theirs.accepts(copied):
                errors.append(f"{example.name}: {what}: ours {ours.is_valid(copied)}, theirs {theirs.accepts(copied)}")
    print(f"examples: {len(accepted)} accepted by both, {refused} refused by both, of {len(examples)}; {changes} single "
          f"changes to {len(seen)} manifests, one for each pair of versions, judged by both")
    if len(accepted) < 20 or changes < 500:
        errors.append(f"only {len(accepted)} examples and {changes} changes were judged")
    return errors


def judge_kubernetes(program: Path, folder: Path, scratch: Path) -> list[str]:
    """All examples as Kubernetes objects; the errors."""
    errors, kinds, refused = [], {}, []
    for example in [None, *sorted(folder.glob("*.json"))]:
        for more in ((), ("--nodeLabel", "mynah/device=yes", "--devices", "host-path", "--probe", "m=8080/healthz")):
            more = [word.replace("--nodeLabel", "--node-label") for word in more]
            listed, written = scratch / "objects.json", scratch / "objects.yaml"
            template = example
            if template is None:
                template = scratch / "default.json"
                template.write_text((Path(__file__).parents[2] / "src/manifest/deployment.template.json").read_text())
            name = template.name
            ran = generate(program, template, listed, ("--format", "kubernetes", *more))
            if ran.returncode == 2:
                refused.append(name)
                continue
            again = generate(program, template, written, ("--format", "kubernetes", *more))
            if ran.returncode or again.returncode:
                errors.append(f"{name}: ended with {ran.returncode}, {again.returncode}: {ran.stderr}{again.stderr}")
                continue
            objects = json.loads(listed.read_text())["items"]
            if list(yaml.safe_load_all(written.read_text())) != objects:
                errors.append(f"{name}: the YAML does not say what the JSON says")
            for item in objects:
                kinds[item["kind"]] = kinds.get(item["kind"], 0) + 1
                try:
                    kubernetes_validate.validate(item, KUBERNETES, strict=True)
                except Exception as error:  # Every kind of refusal counts, a missing schema too.
                    errors.append(f"{name}: {item['kind']} {item['metadata']['name']}: {type(error).__name__}: {error}")
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"kubernetes {KUBERNETES}: valid strictly: {counted}; not expressible: {', '.join(sorted(set(refused))) or 'none'}")
    if kinds.get("Deployment", 0) < 20 or kinds.get("DaemonSet", 0) < 20:
        errors.append("too few objects were judged")
    # The judge itself must not be blind.
    try:
        kubernetes_validate.validate({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"},
                                      "spec": {"replicass": 1}}, KUBERNETES, strict=True)
        errors.append("kubernetes-validate passes a misspelt field: it cannot judge")
    except kubernetes_validate.ValidationError:
        pass
    return errors


def main() -> int:
    """Parses the command line and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("schema", type=Path)
    parser.add_argument("contracts", type=Path)
    arguments = parser.parse_args()
    schema = json.loads(arguments.schema.read_text())
    Draft202012Validator.check_schema(schema)
    ours, theirs = Draft202012Validator(schema), Theirs(arguments.contracts)
    examples = arguments.contracts / "examples"
    with tempfile.TemporaryDirectory() as scratch:
        errors = judge_examples(arguments.program.resolve(), ours, theirs, examples, Path(scratch))
        errors += judge_kubernetes(arguments.program.resolve(), examples, Path(scratch))
    for error in errors[:40]:
        print(f"manifest_examples: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
