#!/usr/bin/env python3
"""Judges recorded exchanges with a double by the service's published description (OpenAPI 2.0).

    python tests/judges/openapi_agrees.py RECORD DESCRIPTION BASE

RECORD holds one JSON object a line: method, path, query, contentType, body, status, answer, bent. BASE is the path
below which the described paths begin. Both sides are judged: the request's path, parameters and body, and, unless a
fault script bent it, the answer's status and body. Paths outside BASE are left alone.

Prints one line and ends with 0, or names every disagreement and ends with 1.
"""

import json
import re
import sys
from urllib.parse import parse_qsl, unquote

import jsonschema

METHODS = ("get", "post", "put", "patch", "delete")


def schema_of(node):
    """A schema of OpenAPI 2.0 as JSON Schema: `x-nullable` becomes a type of its own."""
    if isinstance(node, list):
        return [schema_of(item) for item in node]
    if not isinstance(node, dict):
        return node
    # A vendor extension, an example and a note are no constraint; an `enum` beside `null` would refuse the null.
    kept = {key: schema_of(value) for key, value in node.items() if not key.startswith("x-") and key != "example"}
    if kept.get("format") == "uuid":
        kept["pattern"] = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
    # Absent means nullable in answers of this service: its own examples hold such nulls.
    if node.get("x-nullable", node.get("readOnly")) and ("type" in kept or "$ref" in kept):
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


class Judge:
    def __init__(self, description, base):
        self.base = base
        self.document = description
        self.schemas = schema_of(description["definitions"])
        self.routes = []
        for template, operations in description["paths"].items():
            pattern = re.compile("^" + re.sub(r"\\\{[^}]*\\\}|\{[^}]*\}", "([^/]+)", template) + "$")
            literal = template.count("/") - template.count("{")
            for method in METHODS:
                if method in operations:
                    self.routes.append((literal, method.upper(), pattern, template, operations[method]))
        # `/images/tags` before `/images/{imageId}`.
        self.routes.sort(key=lambda route: -route[0])
        self.seen = set()

    def matches(self, schema, value):
        root = {"definitions": self.schemas, **schema_of(schema)}
        validator = jsonschema.Draft7Validator(root)
        return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(value)]

    def parameter(self, described):
        if "$ref" in described:
            described = self.document["parameters"][described["$ref"].rsplit("/", 1)[1]]
        return described

    def route(self, exchange):
        path = unquote(exchange["path"])[len(self.base):]
        for _, method, pattern, template, operation in self.routes:
            if method == exchange["method"] and (found := pattern.match(path)):
                return template, operation, found.groups()
        return None

    def judge(self, exchange):
        if not exchange["path"].startswith(self.base + "/"):
            return []
        route = self.route(exchange)
        if route is None:
            return ["no such route is described"]
        template, operation, _ = route
        self.seen.add((exchange["method"], template))
        wrong = self.judge_request(exchange, operation)
        if not exchange["bent"]:
            wrong += self.judge_answer(exchange, operation)
        return wrong

    def judge_request(self, exchange, operation):
        wrong = []
        parameters = [self.parameter(described) for described in operation.get("parameters", [])]
        queries = {described["name"]: described for described in parameters if described["in"] == "query"}
        given = dict(parse_qsl(exchange["query"], keep_blank_values=True))
        wrong += [f"the query `{name}` is not described" for name in given if name not in queries]
        for name, described in queries.items():
            if name in given:
                wrong += self.judge_query(name, given[name], described)
            elif described.get("required"):
                wrong.append(f"the query `{name}` is missing")
        bodies = [described for described in parameters if described["in"] == "body"]
        body = exchange["body"]
        if bodies and body is not None:
            wrong += [f"request body {error}" for error in self.matches(bodies[0]["schema"], body)]
        elif bodies and bodies[0].get("required"):
            wrong.append("the request's body is missing")
        elif body is not None and not any(described["in"] == "formData" for described in parameters):
            wrong.append("a body is sent where none is described")
        return wrong

    def judge_query(self, name, text, described):
        kinds = {"integer": int, "number": float, "boolean": {"true": True, "false": False}.__getitem__}
        try:
            if described["type"] == "array":
                value = [item for item in text.split(",") if item]
            else:
                value = kinds.get(described["type"], str)(text)
        except (ValueError, KeyError):
            return [f"the query `{name}` is `{text}`, no {described['type']}"]
        schema = {key: described[key] for key in
                  ("type", "enum", "items", "maxItems", "minItems", "maximum", "minimum", "format") if key in described}
        return [f"query `{name}` {error}" for error in self.matches(schema, value)]

    def judge_answer(self, exchange, operation):
        status, answers = str(exchange["status"]), operation["responses"]
        # What the gateway before the service says is not in the service's description.
        if status in ("401", "429"):
            return []
        described = answers.get(status)
        if described is None:
            if exchange["status"] < 400 or "default" not in answers:
                return [f"the status {status} is not described"]
            described = answers["default"]
        if "schema" not in described or described["schema"].get("type") == "file":
            return []
        return [f"answer {error}" for error in self.matches(described["schema"], exchange["answer"])]


def main():
    record, description, base = sys.argv[1:4]
    with open(description, encoding="utf-8-sig") as file:
        judge = Judge(json.load(file), base)
    with open(record, encoding="utf-8") as file:
        exchanges = [json.loads(line) for line in file]
    failures = []
    for number, exchange in enumerate(exchanges, 1):
        shown = f"{number} {exchange['method']} {exchange['path']} {exchange['status']}"
        failures += [f"{shown}: {wrong}" for wrong in judge.judge(exchange)]
    if failures or not exchanges:
        print("\n".join(failures) or "nothing was recorded")
        sys.exit(1)
    print(f"the published description agrees with {len(exchanges)} exchanges on {len(judge.seen)} routes")


if __name__ == "__main__":
    main()
