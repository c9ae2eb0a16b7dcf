#!/usr/bin/env python3
"""Judges what is deployed: ARM templates (.json) by the models of Azure's own management libraries, that is every
resource's fields, their types and what is required, and objects of Kubernetes (.yaml) by its schemas.
`templates_validate.py FILE…`; fails if anything is found. Expressions of ARM (`[…]`) stand for any value.
"""

import importlib
import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml

KUBERNETES = "1.35"

# Resource type → module of models, model, where its `id`, `name` and `type` are the template's own.
MODELS = {
    "Microsoft.Storage/storageAccounts": ("storage.v2023_01_01", "StorageAccountCreateParameters"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": ("storage.v2023_01_01", "BlobContainer"),
    "Microsoft.Storage/storageAccounts/fileServices/shares": ("storage.v2023_01_01", "FileShare"),
    "Microsoft.Storage/storageAccounts/queueServices/queues": ("storage.v2023_01_01", "StorageQueue"),
    "Microsoft.ContainerRegistry/registries": ("containerregistry.v2023_07_01", "Registry"),
    "Microsoft.Devices/IotHubs": ("iothub", "IotHubDescription"),
    "Microsoft.CognitiveServices/accounts": ("cognitiveservices", "Account"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("msi", "Identity"),
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials": ("msi", "FederatedIdentityCredential"),
    "Microsoft.Authorization/roleAssignments": ("authorization.v2022_04_01", "RoleAssignmentCreateParameters"),
    "Microsoft.App/managedEnvironments": ("appcontainers", "ManagedEnvironment"),
    "Microsoft.App/managedEnvironments/storages": ("appcontainers", "ManagedEnvironmentStorage"),
    "Microsoft.App/containerApps": ("appcontainers", "ContainerApp"),
    "Microsoft.EventGrid/systemTopics": ("eventgrid", "SystemTopic"),
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": ("eventgrid", "EventSubscription"),
    "Microsoft.Logic/workflows": ("logic", "Workflow"),
}
OWN = {"type", "apiVersion", "name", "dependsOn", "condition", "scope", "comments"}


def is_expression(value):
    return isinstance(value, str) and value.startswith("[") and not value.startswith("[[")


class Judge:
    """What is wrong with one template."""

    def __init__(self):
        self.found = []

    def say(self, place, what):
        self.found.append(f"{place}: {what}")

    def value(self, module, kind, value, place):
        if is_expression(value) or value is None:
            return
        if kind.startswith("["):
            if not isinstance(value, list):
                return self.say(place, f"a list is expected, it is {value!r}")
            for at, item in enumerate(value):
                self.value(module, kind[1:-1], item, f"{place}[{at}]")
        elif kind.startswith("{"):
            if not isinstance(value, dict):
                return self.say(place, f"an object is expected, it is {value!r}")
            for name, item in value.items():
                self.value(module, kind[1:-1], item, f"{place}.{name}")
        elif kind in {"str", "iso-8601", "duration", "bytearray"}:
            if not isinstance(value, str):
                self.say(place, f"text is expected, it is {value!r}")
        elif kind == "bool":
            if not isinstance(value, bool):
                self.say(place, f"true or false is expected, it is {value!r}")
        elif kind in {"int", "long", "float"}:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self.say(place, f"a number is expected, it is {value!r}")
        elif kind in {"object", "JSON"}:
            pass
        else:
            model = getattr(module, kind, None)
            if model is None or not hasattr(model, "_attribute_map"):
                # A list of words.
                words = [word.value for word in model] if model is not None else []
                if words and value not in words:
                    self.say(place, f"`{value}` is none of {words}")
                return None
            self.model(module, model, value, place)

    def model(self, module, model, value, place):
        if not isinstance(value, dict):
            return self.say(place, f"an object is expected, it is {value!r}")
        # A field says which of several forms it is.
        for field, forms in vars(model).get("_subtype_map", {}).items():
            key = model._attribute_map[field]["key"]
            kind = value.get(key)
            if kind is not None:
                if kind not in forms:
                    return self.say(place, f"`{key}` is `{kind}`, one of {sorted(forms)} is expected")
                return self.model(module, getattr(module, forms[kind]), value, place)
        fields = {}
        for name, spec in model._attribute_map.items():
            fields[tuple(part.replace("\\", "") for part in spec["key"].replace("\\.", "\0").split("."))] = (name, spec["type"])
        self.fields(module, model, fields, (), value, place)
        rules = getattr(model, "_validation", {})
        for path, (name, _) in fields.items():
            if rules.get(name, {}).get("required") and not rules[name].get("constant"):
                inside = value
                for part in path:
                    inside = inside.get(part.replace("\0", ".")) if isinstance(inside, dict) else None
                if inside is None:
                    self.say(place, f"`{'.'.join(path)}` is required")
        return None

    def fields(self, module, model, fields, above, value, place):
        for name, inside in value.items():
            path = (*above, name.replace(".", "\0"))
            here = f"{place}.{name}"
            if above == () and name in OWN and path not in fields:
                continue
            if path in fields:
                field, kind = fields[path]
                if getattr(model, "_validation", {}).get(field, {}).get("readonly") and not (above == () and name in OWN):
                    self.say(here, "it cannot be written")
                else:
                    if not (above == () and name in OWN):
                        self.value(module, kind, inside, here)
            elif any(known[: len(path)] == path for known in fields) and isinstance(inside, dict):
                self.fields(module, model, fields, path, inside, here)
            else:
                self.say(here, "there is no such field")


def judge_objects(file):
    found = []
    objects = list(yaml.safe_load_all(Path(file).read_text()))
    for item in objects:
        try:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{item.get('kind')}: {error.message}")
    return len(objects), found


def judge(file):
    if file.endswith(".yaml"):
        return judge_objects(file)
    template = json.loads(Path(file).read_text())
    judged = Judge()
    for resource in template["resources"]:
        kind = resource["type"]
        if kind not in MODELS:
            judged.say(kind, "no model is known for it")
            continue
        package, model = MODELS[kind]
        module = importlib.import_module(f"azure.mgmt.{package}.models")
        judged.model(module, getattr(module, model), resource, kind)
    return len(template["resources"]), judged.found


def main(files):
    count = 0
    found = []
    for file in files:
        judged, wrong = judge(file)
        count += judged
        found += [f"{file}: {what}" for what in wrong]
    # A judge that lets everything pass would be of no use: what is certainly wrong must be found.
    control = Judge()
    module = importlib.import_module("azure.mgmt.storage.v2023_01_01.models")
    wrong = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": 7, "properties": {"minimumTls": "x", "supportsHttpsTrafficOnly": "yes"}}
    control.model(module, module.StorageAccountCreateParameters, wrong, "control")
    if len(control.found) != 3:
        found.append(f"the control should be found wrong in 3 places: {control.found}")
    for line in found:
        print(line)
    print(f"management models and schemas: {count} resources, {len(found)} findings")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
