#!/usr/bin/env python3
"""Judges Kubernetes manifests of agents: by the Kubernetes schemas, by KEDA's documented fields, and by our own rules.

    python tests/judges/agents_validate.py FILE.yaml...

Every object is validated strictly for each of the last Kubernetes versions; a ScaledJob's template is validated as the
Job that KEDA makes of it. Pods must not be root, write to their root, gain privileges or reach into the node. What an
object refers to must be in the same file, the Secret excepted.

The judge first judges itself: damaged copies of the first file's objects must be refused.
Prints what was judged and ends with 0, or says what is wrong and where, and ends with 1.
"""

import copy
import sys
from collections import Counter

import kubernetes_validate
import yaml

VERSIONS = ("1.35", "1.36", "1.37")
SECRET = "azdo-secret-config"
# KEDA 2.21, "Scaling Jobs" and "Azure Pipelines".
SCALED_JOB = {"jobTargetRef", "pollingInterval", "successfulJobsHistoryLimit", "failedJobsHistoryLimit", "envSourceContainerName",
              "minReplicaCount", "maxReplicaCount", "rollout", "scalingStrategy", "triggers"}
JOB_TARGET = {"parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "template"}
TRIGGER = {"poolName", "poolID", "organizationURLFromEnv", "personalAccessTokenFromEnv", "targetPipelinesQueueLength",
           "activationTargetPipelinesQueueLength", "parent", "demands", "requireAllDemands", "requireAllDemandsAndIgnoreOthers",
           "jobsToFetch", "fetchUnfinishedJobsOnly", "caseInsensitiveDemandsProcessing"}
AUTHENTICATION = {"secretTargetRef", "podIdentity"}


def name(item) -> str:
    """How an object is called in messages."""
    return f"{item.get('kind')} {item.get('metadata', {}).get('name')}"


def template(item):
    """The pod template of an object, if it has one."""
    spec = item.get("spec", {})
    if item["kind"] == "ScaledJob":
        spec = spec.get("jobTargetRef", {})
    return spec.get("template")


def schema(item) -> list[str]:
    """What the schemas say."""
    errors = []
    kind = item["kind"]
    if kind == "TriggerAuthentication":
        errors += [f"{name(item)}: KEDA has no field `{key}`" for key in set(item["spec"]) - AUTHENTICATION]
        return errors
    if kind == "ScaledJob":
        spec = item["spec"]
        errors += [f"{name(item)}: KEDA has no field `{key}`" for key in set(spec) - SCALED_JOB]
        errors += [f"{name(item)}: KEDA has no field `{key}`" for key in set(spec["jobTargetRef"]) - JOB_TARGET]
        for trigger in spec["triggers"]:
            errors += [f"{name(item)}: the trigger has no field `{key}`" for key in set(trigger["metadata"]) - TRIGGER]
            errors += [f"{name(item)}: `{key}` is no text" for key, value in trigger["metadata"].items() if not isinstance(value, str)]
        item = {"apiVersion": "batch/v1", "kind": "Job", "metadata": item["metadata"], "spec": spec["jobTargetRef"]}
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except Exception as error:  # Every kind of refusal counts, a missing schema too.
            errors.append(f"{version}: {name(item)}: {type(error).__name__}: {str(error)[:300]}")
    return errors


def pod(item) -> list[str]:
    """What our own rules say of a pod."""
    spec = template(item)["spec"]
    errors = []
    around = spec.get("securityContext", {})
    rules = [
        (around.get("runAsNonRoot") is True and around.get("runAsUser", 0) > 0, "may be root"),
        (around.get("seccompProfile", {}).get("type") == "RuntimeDefault", "has no seccomp profile"),
        (spec.get("automountServiceAccountToken") is False, "mounts a token of the cluster"),
        (not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), "shares the node's namespaces"),
        (not any("hostPath" in volume for volume in spec.get("volumes", [])), "reaches into the node's files"),
        (spec.get("terminationGracePeriodSeconds", 30) >= 60, "has no time to unregister"),
        ({"kubernetes.io/os", "kubernetes.io/arch"} <= set(spec.get("nodeSelector", {})), "may land on another architecture"),
    ]
    for container in spec["containers"]:
        context = container.get("securityContext", {})
        drain = {entry["name"]: entry.get("value") for entry in container.get("env", [])}.get("MYNAH_AGENT_DRAIN_SECONDS", "0")
        rules += [
            (context.get("allowPrivilegeEscalation") is False and not context.get("privileged"), "may gain privileges"),
            (context.get("readOnlyRootFilesystem") is True, "may write to its root"),
            (context.get("capabilities") == {"drop": ["ALL"]}, "keeps capabilities"),
            ({"cpu", "memory"} <= set(container.get("resources", {}).get("limits", {})), "has no limits"),
            (int(drain) < spec.get("terminationGracePeriodSeconds", 30), "is killed before its job may end"),
        ]
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        rules.append((mounts == {volume["name"] for volume in spec.get("volumes", [])}, "mounts other volumes than it has"))
    errors += [f"{name(item)}: {what}" for holds, what in rules if not holds]
    return errors


def references(items) -> list[str]:
    """What is named must be there."""
    errors = []
    by_kind = lambda kind: {item["metadata"]["name"]: item for item in items if item["kind"] == kind}
    maps, claims, accounts, authentications = map(by_kind, ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount", "TriggerAuthentication"))
    templates = [template(item) for item in items if template(item)]
    for item in items:
        if (of := template(item)) is None:
            continue
        spec = of["spec"]
        if spec.get("serviceAccountName") not in accounts:
            errors.append(f"{name(item)}: no ServiceAccount {spec.get('serviceAccountName')}")
        for volume in spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                errors.append(f"{name(item)}: no claim {claim}")
        for entry in (entry for container in spec["containers"] for entry in container.get("env", [])):
            source = entry.get("valueFrom", {})
            if (key := source.get("configMapKeyRef")) and key["key"] not in maps.get(key["name"], {}).get("data", {}):
                errors.append(f"{name(item)}: no {key['key']} in ConfigMap {key['name']}")
            if (key := source.get("secretKeyRef")) and key["name"] != SECRET:
                errors.append(f"{name(item)}: Secret {key['name']}")
        if item["kind"] == "Deployment" and not item["spec"]["selector"]["matchLabels"].items() <= of["metadata"]["labels"].items():
            errors.append(f"{name(item)}: selects other pods than it makes")
        for trigger in item["spec"].get("triggers", []):
            if trigger["authenticationRef"]["name"] not in authentications:
                errors.append(f"{name(item)}: no TriggerAuthentication")
            parents = {entry.get("value") for other in templates for container in other["spec"]["containers"]
                       if container.get("args") == ["--placeholder"] for entry in container["env"]}
            if trigger["metadata"]["parent"] not in parents:
                errors.append(f"{name(item)}: nobody registers {trigger['metadata']['parent']}")
    for item in items:
        selector = item.get("spec", {}).get("selector") if item["kind"] == "PodDisruptionBudget" else item.get("spec", {}).get("podSelector")
        if item["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            if not any(selector["matchLabels"].items() <= of["metadata"]["labels"].items() for of in templates):
                errors.append(f"{name(item)}: selects no pod")
    return errors


def judge(items) -> list[str]:
    """Everything that is wrong with the objects of one file."""
    errors = [error for item in items for error in schema(item)]
    errors += [error for item in items if template(item) for error in pod(item)]
    return errors + references(items)


def control(items) -> list[str]:
    """Damages that must be seen."""
    workload = next(index for index, item in enumerate(items) if item["kind"] in ("Deployment", "ScaledJob"))

    def spec(copied):
        return template(copied[workload])["spec"]

    def damage(change):
        copied = copy.deepcopy(items)
        change(copied)
        return judge(copied)

    damages = {
        "a misspelt field": lambda c: spec(c).update(terminationGracePeriodSecond=5),
        "a Docker socket": lambda c: spec(c)["volumes"].append({"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}),
        "root": lambda c: spec(c)["securityContext"].update(runAsUser=0),
        "a writable root": lambda c: spec(c)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
        "a number where text is": lambda c: spec(c)["containers"][0]["env"][-1].update(value=5),
        "another ConfigMap": lambda c: spec(c)["containers"][0]["env"][0]["valueFrom"]["configMapKeyRef"].update(key="URL"),
        "no grace": lambda c: spec(c).update(terminationGracePeriodSeconds=600),
    }
    return [f"the judge does not see {what}" for what, change in damages.items() if not damage(change)]


def main() -> int:
    """Judges the files that are named."""
    files = {}
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            files[path] = [item for item in yaml.safe_load_all(file) if item]
    errors = []
    for path, items in files.items():
        errors += [f"{path}: {error}" for error in judge(items) + control(items)]
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(item["kind"] for item in items).items()))
        print(f"{path.rsplit('/', 1)[-1]}: valid strictly for Kubernetes {', '.join(VERSIONS)}: {counted}")
    for error in errors:
        print(error)
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
