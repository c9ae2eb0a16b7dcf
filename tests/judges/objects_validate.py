"""Judges Kubernetes objects, one JSON object a line, by the API's published schemas, strictly.

usage: objects_validate.py OBJECTS.jsonl
"""

import copy
import json
import sys

import kubernetes_validate

VERSIONS = ("1.33", "1.37")


def judge(item: dict, version: str) -> str | None:
    """What the schema has against an object, if anything."""
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{item.get('kind')} {item.get('metadata', {}).get('name')} ({version}): {error.message}"
    return None


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    errors = [problem for item in items for version in VERSIONS if (problem := judge(item, version))]
    # The control: a judge that lets a misspelt field pass judges nothing.
    workload = next(item for item in items if item["kind"] in ("Deployment", "DaemonSet"))
    bent = copy.deepcopy(workload)
    bent["spec"]["selektor"] = {}
    if judge(bent, VERSIONS[0]) is None:
        errors.append("a misspelt field passes: this judge cannot judge")
    for error in errors:
        print(error, file=sys.stderr)
    print(f"{len(items)} objects agree with Kubernetes {' and '.join(VERSIONS)}" if not errors else "refused")
    return 1 if errors else 0


sys.exit(main())
