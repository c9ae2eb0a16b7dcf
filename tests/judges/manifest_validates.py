#!/usr/bin/env python3
"""Judges a deployment manifest by Microsoft's published JSON schemas.

    python tests/judges/manifest_validates.py deployment.json SCHEMAS_DIR

SCHEMAS_DIR holds `azure-iot-edge-deployment-2.0.json`, `azure-iot-edgeagent-deployment-*.json` and
`azure-iot-edgehub-deployment-*.json` of SchemaStore. The whole manifest is held against the first, the desired
properties of edgeAgent and edgeHub against the schema of the version they state. What the schemas leave out and the
services insist on is checked too: createOptions must be JSON in strings of at most 512 characters. And what we
promise: the image of each module that is not a system module is pinned by a digest.

Prints one line and ends with 0, or says what is wrong and where, and ends with 1.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from jsonschema import Draft4Validator, Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4, DRAFT7

WHOLE = "azure-iot-edge-deployment-2.0.json"
SYSTEM = {"$edgeAgent": "azure-iot-edgeagent-deployment-{}.json", "$edgeHub": "azure-iot-edgehub-deployment-{}.json"}
# edgeAgent joins values of at most 512 characters: createOptions, createOptions01, ... up to createOptions99.
CREATE_OPTIONS = re.compile(r"createOptions(0[1-9]|[1-9][0-9])?")
CREATE_OPTIONS_LENGTH = 512
PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")


class Missing(Exception):
    """A schema that is needed and not there."""


class Schemas:
    """The schemas of a folder; their references by address resolve within it."""

    def __init__(self, folder: Path):
        self.documents = {}
        registry = Registry()
        for path in sorted(folder.glob("azure-iot-edge*.json")):
            document = json.loads(path.read_text())
            self.documents[path.name] = document
            draft = DRAFT7 if "draft-07" in document["$schema"] else DRAFT4
            resource = Resource(document, draft)
            registry = resource @ registry
            # Some refer by address, some by file name alone.
            registry = registry.with_resource(path.name, resource)
        self.registry = registry

    def errors(self, name: str, instance, where: str) -> list[str]:
        """What the named schema finds wrong, each with its place."""
        if name not in self.documents:
            raise Missing(f"`{name}` is not among the schemas ({', '.join(self.documents) or 'there are none'})")
        document = self.documents[name]
        draft = Draft7Validator if "draft-07" in document["$schema"] else Draft4Validator
        draft.check_schema(document)
        found = sorted(draft(document, registry=self.registry).iter_errors(instance), key=lambda error: error.json_path)
        return [f"{where}{error.json_path.removeprefix('$')}: {error.message} ({name})" for error in found]


def create_options_errors(settings: dict, where: str) -> list[str]:
    """What the schemas say only in prose about createOptions."""
    keys = sorted(key for key in settings if CREATE_OPTIONS.fullmatch(key))
    expected = ["createOptions"] + [f"createOptions{number:02}" for number in range(1, len(keys))]
    if keys and keys != expected:
        return [f"{where}: createOptions goes on in {', '.join(keys[1:])}, edgeAgent would stop at the gap"]
    parts = [settings[key] for key in keys]
    if any(not isinstance(part, str) for part in parts):
        return [f"{where}: createOptions is not text"]
    errors = [
        f"{where}: {len(part)} characters in one createOptions, {CREATE_OPTIONS_LENGTH} are allowed"
        for part in parts
        if len(part) > CREATE_OPTIONS_LENGTH
    ]
    text = "".join(parts)
    try:
        if text and not isinstance(json.loads(text), dict):
            errors.append(f"{where}: createOptions is not a JSON object")
    except ValueError as error:
        errors.append(f"{where}: createOptions is not JSON: {error}")
    return errors


def module_errors(agent: dict) -> tuple[int, int, list[str]]:
    """How many modules there are, how many of ours have images pinned by digest, and what is wrong with them."""
    errors, pinned = [], 0
    modules = agent.get("modules", {})
    for kind, group in (("systemModules", agent.get("systemModules", {})), ("modules", modules)):
        for name, module in group.items():
            settings = module.get("settings", {})
            where = f"$edgeAgent.{kind}.{name}.settings"
            errors += create_options_errors(settings, where)
            if kind == "modules":
                if PINNED.fullmatch(str(settings.get("image"))):
                    pinned += 1
                else:
                    errors.append(f"{where}.image: `{settings.get('image')}` is not pinned by a digest")
    return len(modules), pinned, errors


def judge(manifest: Path, folder: Path) -> tuple[str, list[str]]:
    """The verdict in one line, and what is wrong."""
    document = json.loads(manifest.read_text())
    schemas = Schemas(folder)
    errors = schemas.errors(WHOLE, document, "manifest")
    if errors:
        return "", errors
    content = document["modulesContent"]
    judged = [WHOLE]
    for part, pattern in SYSTEM.items():
        version = content[part]["properties.desired"]["schemaVersion"]
        name = pattern.format(version)
        errors += schemas.errors(name, {part: content[part]}, "modulesContent")
        judged.append(name)
    modules, pinned, wrong = module_errors(content["$edgeAgent"]["properties.desired"])
    routes = len(content["$edgeHub"]["properties.desired"].get("routes", {}))
    verdict = f"ok: {modules} modules, {pinned} pinned by digest, {routes} routes, valid by {', '.join(judged)}"
    return verdict, errors + wrong


def main() -> int:
    """Parses the command line and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("schemas", type=Path)
    arguments = parser.parse_args()
    try:
        verdict, errors = judge(arguments.manifest, arguments.schemas)
    except (Missing, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        verdict, errors = "", [f"{type(error).__name__}: {error}"]
    for error in errors:
        print(f"manifest_validates: {error}", file=sys.stderr)
    if errors:
        return 1
    print(verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
