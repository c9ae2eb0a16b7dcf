"""Tells how Kubernetes' published schema takes objects apart for the owners of fields: one JSON object a line.

Lists are atomic unless they say otherwise, maps granular. What is inside of something atomic is not told.
"""

import json
from importlib import resources

VERSION = "v1.37.0"
KINDS = ("apps.v1.Deployment", "apps.v1.DaemonSet", "core.v1.Service", "core.v1.ConfigMap",
         "core.v1.PersistentVolumeClaim", "core.v1.ServiceAccount", "core.v1.Namespace")


def definitions() -> dict:
    folder = resources.files("kubernetes_validate").joinpath("kubernetes-json-schema", f"{VERSION}-local")
    return json.loads(folder.joinpath("_definitions.json").read_text())["$defs"]


def walk(known: dict, schema: dict, path: tuple) -> None:
    if "$ref" in schema:
        schema = {**known[schema["$ref"].split("/")[-1]], **{key: value for key, value in schema.items() if key != "$ref"}}
    if "items" in schema:
        structure = schema.get("x-kubernetes-list-type", "atomic")
        keys = schema.get("x-kubernetes-list-map-keys", [])
        item = schema["items"]
        tell(path, True, structure, keys)
        if structure != "atomic":
            walk(known, item, (*path, "[]"))
    elif "properties" in schema or isinstance(schema.get("additionalProperties"), dict):
        structure = schema.get("x-kubernetes-map-type", "granular")
        if path:
            tell(path, False, structure, [])
        if structure != "atomic":
            for name, field in schema.get("properties", {}).items():
                # Nobody applies a status.
                if path or name != "status":
                    walk(known, field, (*path, name))


def tell(path: tuple, is_list: bool, structure: str, keys: list) -> None:
    print(json.dumps({"path": path, "list": is_list, "as": structure, "keys": keys}))


def main() -> None:
    known = definitions()
    for kind in KINDS:
        name = next(name for name in known if name.endswith(f".{kind}"))
        walk(known, known[name], ())


main()
