"""Judges what was said with a double by the service's published OpenAPI 2.0 file.

usage: exchanges_agree.py SPEC RECORD [PREFIX]

RECORD holds one JSON object a line: method, path, query, body, status, answer, bent. Bodies are held to the file
strictly: a field that the file does not have is an error. In a map, `type: object` without fields stands for any
value: these files are generated from languages where every value is an object. PREFIX is what stands before the
file's paths. Exchanges that a fault script bent are judged by their request alone.
"""

import json
import re
import sys
from urllib.parse import parse_qsl

from jsonschema import Draft4Validator


def inlined(schema, spec, strict, seen=()):
    """The schema with its references in place; with `strict`, objects with named fields take no others."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in seen:
            return {}
        return inlined(spec["definitions"][name], spec, strict, (*seen, name))
    whole = {key: value for key, value in schema.items() if key in ("type", "enum", "required")}
    if "properties" in schema:
        whole["properties"] = {key: inlined(value, spec, strict, seen) for key, value in schema["properties"].items()}
        if strict:
            whole["additionalProperties"] = False
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        whole["additionalProperties"] = {} if values == {"type": "object"} else inlined(values, spec, strict, seen)
    if "items" in schema:
        whole["items"] = inlined(schema["items"], spec, strict, seen)
    return whole


def resolved(parameter, spec):
    if "$ref" in parameter:
        return spec["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
    return parameter


def operation(spec, method, path):
    """The operation for a path; one with fewer placeholders is the better match."""
    found = []
    for template, methods in spec["paths"].items():
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in template.split("/"))
        if method.lower() in methods and re.fullmatch(pattern, path):
            found.append((template.count("{"), template, methods))
    if not found:
        return None
    _, template, methods = min(found, key=lambda entry: entry[0])
    return methods.get("parameters", []) + methods[method.lower()].get("parameters", []), methods[method.lower()]


def problems(said, spec, prefix):
    path = said["path"].removeprefix(prefix)
    found = operation(spec, said["method"], path)
    if found is None:
        yield "no such operation"
        return
    parameters, of_method = found
    parameters = [resolved(parameter, spec) for parameter in parameters]
    query = dict(parse_qsl(said["query"], keep_blank_values=True))
    known = {parameter["name"].lower() for parameter in parameters if parameter["in"] == "query"}
    for name in query:
        if name.lower() not in known:
            yield f"unknown query parameter {name}"
    for parameter in parameters:
        if parameter["in"] == "query" and parameter.get("required") and parameter["name"] not in query:
            yield f"the query parameter {parameter['name']} is missing"
        if parameter["in"] == "body":
            if said["body"] is None:
                if parameter.get("required"):
                    yield "the body is missing"
                continue
            for error in Draft4Validator(inlined(parameter["schema"], spec, True)).iter_errors(said["body"]):
                yield f"body at {'/'.join(map(str, error.path))}: {error.message[:200]}"
    if said["bent"] or said["status"] >= 400:
        return
    answer = of_method["responses"].get(str(said["status"]))
    if answer is None:
        yield f"the status {said['status']} is none of {sorted(of_method['responses'])}"
    elif "schema" in answer:
        for error in Draft4Validator(inlined(answer["schema"], spec, False)).iter_errors(said["answer"]):
            yield f"answer at {'/'.join(map(str, error.path))}: {error.message[:200]}"


def main():
    spec_file, record_file, *prefix = sys.argv[1:]
    with open(spec_file, encoding="utf-8-sig") as file:
        spec = json.load(file)
    with open(record_file, encoding="utf-8") as file:
        record = [json.loads(line) for line in file]
    if not record:
        sys.exit("nothing was recorded")
    wrong = 0
    for said in record:
        for problem in problems(said, spec, prefix[0] if prefix else ""):
            wrong += 1
            print(f"{said['method']} {said['path']}: {problem}", file=sys.stderr)
    if wrong:
        sys.exit(f"{wrong} disagreements with {spec_file}")
    print(f"{len(record)} exchanges agree with the published contract")


main()
