//! What the status of workloads and pods says: running, on the way, or failed, and why. Pure.

use serde_json::Value;

/// How often a container may crash before it counts as failed.
const CRASHES: u64 = 3;

/// How a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Every pod it is to have is new and ready.
    Running,
    /// Not yet; what it waits for.
    Pending(String),
    /// It will not come to run by itself.
    Failed(String),
}

/// How many pods a workload is to have.
pub(super) fn wanted(workload: &Value) -> u64 {
    let (pointer, otherwise) = if workload["kind"] == "DaemonSet" {
        ("/status/desiredNumberScheduled", 0)
    } else {
        ("/spec/replicas", 1)
    };
    workload.pointer(pointer).and_then(Value::as_u64).unwrap_or(otherwise)
}

/// Whether a pod was made from this very template, as far as it comes from us.
pub(super) fn is_made_from(pod: &Value, workload: &Value) -> bool {
    let template = &workload["spec"]["template"];
    let images = |spec: &Value| -> Vec<Value> {
        spec["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| container["image"].clone())
            .collect()
    };
    let annotations = template["metadata"]["annotations"].as_object();
    images(&pod["spec"]) == images(&template["spec"])
        && pod["spec"]["nodeSelector"] == template["spec"]["nodeSelector"]
        && annotations.into_iter().flatten().all(|(key, value)| pod["metadata"]["annotations"][key] == *value)
}

/// The health of a Deployment or DaemonSet with its pods.
pub(super) fn workload(workload: &Value, pods: &[&Value]) -> Health {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let generation = number("/metadata/generation");
    if number("/status/observedGeneration") < generation {
        return Health::Pending("the cluster has not looked at it yet".into());
    }
    let daemon = workload["kind"] == "DaemonSet";
    let wanted = wanted(workload);
    let (updated, available, all) = if daemon {
        let updated = number("/status/updatedNumberScheduled");
        (updated, number("/status/numberAvailable"), number("/status/currentNumberScheduled"))
    } else {
        let updated = number("/status/updatedReplicas");
        (updated, number("/status/availableReplicas"), number("/status/replicas"))
    };
    if daemon && wanted == 0 {
        return Health::Pending("no node of the cluster has the labels it asks for".into());
    }
    if updated >= wanted && available >= wanted && all <= wanted {
        return Health::Running;
    }
    let worst = pods.iter().filter_map(|pod| trouble(pod)).max_by_key(|trouble| trouble.0);
    match worst {
        Some((true, why)) => return Health::Failed(why),
        Some((false, why)) => return Health::Pending(why),
        None => {}
    }
    let stuck = conditions(workload)
        .find(|condition| condition["type"] == "Progressing" && condition["status"] == "False");
    if let Some(condition) = stuck {
        return Health::Failed(words(condition, "it does not progress"));
    }
    Health::Pending(format!("{available} of {wanted} pods are ready, {updated} are new"))
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions(pod).any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// What keeps a pod from being ready, and whether for good.
pub(super) fn trouble(pod: &Value) -> Option<(bool, String)> {
    if is_ready(pod) || !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or("a pod").escape_debug().to_string();
    let node = pod["spec"]["nodeName"].as_str().map(|node| format!(" on `{}`", node.escape_debug()));
    let node = node.unwrap_or_default();
    let unscheduled = conditions(pod)
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
    if let Some(condition) = unscheduled {
        return Some((false, format!("pod `{name}` has no node: {}", words(condition, "Unschedulable"))));
    }
    let all = ["initContainerStatuses", "containerStatuses"].into_iter();
    let statuses =
        all.filter_map(|key| pod["status"][key].as_array()).flatten().filter(|s| s["ready"] != true);
    for status in statuses {
        let crashes = status["restartCount"].as_u64().unwrap_or(0);
        if let Some(waiting) = status["state"].get("waiting") {
            let reason = waiting["reason"].as_str().unwrap_or_default();
            if matches!(reason, "ContainerCreating" | "PodInitializing" | "") {
                return Some((false, format!("pod `{name}`{node} is being made")));
            }
            let last = &status["lastState"]["terminated"];
            let ended = last["exitCode"].as_i64().map(|code| {
                let why = last["reason"].as_str().unwrap_or("Error").escape_debug().to_string();
                format!(", it ended with {code} ({why})")
            });
            let what = format!("pod `{name}`{node}: {}{}", words(waiting, reason), ended.unwrap_or_default());
            let for_good = matches!(reason, "InvalidImageName" | "ErrImageNeverPull")
                || (reason == "CrashLoopBackOff" && crashes >= CRASHES);
            return Some((for_good, what));
        }
        if let Some(ended) = status["state"].get("terminated") {
            let code = ended["exitCode"].as_i64().unwrap_or(0);
            return Some((crashes >= CRASHES, format!("pod `{name}`{node} ended with {code}")));
        }
    }
    match pod["status"]["phase"].as_str() {
        Some("Failed") => Some((false, format!("pod `{name}`{node} failed: {}", words(&pod["status"], "")))),
        Some("Running") => Some((false, format!("pod `{name}`{node} runs and is not ready"))),
        _ => Some((false, format!("pod `{name}`{node} is waited for"))),
    }
}

/// Whether a pod belongs to a workload: by the labels that both carry, and the kind of its controller. A module that was
/// a DaemonSet and becomes a Deployment has pods of both for a while.
pub(super) fn belongs(pod: &Value, workload: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let of_set = owners.into_iter().any(|owner| owner["kind"] == "DaemonSet");
    if of_set != (workload["kind"] == "DaemonSet") {
        return false;
    }
    let wanted = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    wanted.is_some_and(|wanted| {
        !wanted.is_empty() && wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
    })
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// Reason and message on one line.
fn words(object: &Value, reason: &str) -> String {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let reason = if text("reason").is_empty() { reason } else { text("reason") };
    let both = [reason, text("message")].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    crate::http::clean(&both.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(generation: u64, status: &Value) -> Value {
        json!({"kind": "Deployment", "metadata": {"generation": generation}, "spec": {"replicas": 1}, "status": status})
    }

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "eye-1"}, "spec": {"nodeName": "pi-1"}, "status": status})
    }

    #[test]
    fn an_old_status_is_not_believed() {
        let done =
            json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert_eq!(workload(&deployment(1, &done), &[]), Health::Running);
        assert!(matches!(workload(&deployment(2, &done), &[]), Health::Pending(_)));
        let both =
            json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1});
        assert!(matches!(workload(&deployment(1, &both), &[]), Health::Pending(_)));
    }

    #[test]
    fn a_stopped_module_runs_as_it_is_to() {
        let mut stopped = deployment(1, &json!({"observedGeneration": 1}));
        stopped["spec"]["replicas"] = 0.into();
        assert_eq!(workload(&stopped, &[]), Health::Running);
    }

    #[test]
    fn a_set_that_no_node_is_for_waits() {
        let set =
            json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": {"observedGeneration": 1}});
        let Health::Pending(why) = workload(&set, &[]) else { panic!() };
        assert!(why.contains("no node"), "{why}");
    }

    #[test]
    fn pods_say_why() {
        let waiting = |reason: &str, restarts: u64| {
            pod(&json!({"phase": "Pending", "containerStatuses": [{
                "ready": false, "restartCount": restarts,
                "state": {"waiting": {"reason": reason, "message": "m\u{1b}"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }]}))
        };
        for (pod, for_good, says) in [
            (waiting("CrashLoopBackOff", 1), false, "OOMKilled"),
            (waiting("CrashLoopBackOff", 3), true, "ended with 137"),
            (waiting("ImagePullBackOff", 0), false, "ImagePullBackOff: m"),
            (waiting("InvalidImageName", 0), true, "on `pi-1`"),
            (waiting("ContainerCreating", 0), false, "being made"),
            (pod(&json!({"phase": "Running"})), false, "not ready"),
            (
                pod(
                    &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: squat.ai/video"}]}),
                ),
                false,
                "squat.ai/video",
            ),
        ] {
            let (is, why) = trouble(&pod).unwrap();
            assert!(is == for_good && why.contains(says) && !why.contains('\u{1b}'), "{why}");
        }
        let ready = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(trouble(&ready), None);
    }

    #[test]
    fn a_stuck_rollout_has_failed() {
        let status = json!({"observedGeneration": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
        ]});
        let failed = workload(&deployment(1, &status), &[]);
        assert_eq!(failed, Health::Failed("ProgressDeadlineExceeded: timed out".into()));
    }
}
