//! What the cluster does by itself: Deployments and DaemonSets make pods, nodes run them, statuses follow.
//!
//! One call of [`step`] is one small thing that a real cluster does between two looks at it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scheduler;
use super::store::{Kind, Place, Store};

/// How pods of an image behave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// They come to run and are ready.
    Runs,
    /// They end at once, again and again.
    Crashes,
    /// Their image cannot be had.
    NoImage,
    /// They run and are never ready.
    NeverReady,
    /// They run and report this model: 64 hexadecimal digits.
    OtherModel(String),
}

/// What stands around the objects.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Nodes by name.
    pub(super) nodes: BTreeMap<String, Node>,
    /// Behaviours by a part of the image's name; the last that fits counts.
    pub(super) behaviours: Vec<(String, Behaviour)>,
}

/// A machine of the cluster. All of them run Linux.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) labels: BTreeMap<String, String>,
    /// How many units of a resource its device plugins offer.
    pub(super) offers: BTreeMap<String, u64>,
}

impl Node {
    /// Whether a pod's selector allows this node.
    pub(super) fn is_selected(&self, pod: &Value) -> bool {
        pod["nodeSelector"].as_object().into_iter().flatten().all(|(key, value)| {
            (key == "kubernetes.io/os" && value == "linux")
                || self.labels.get(key).is_some_and(|own| value == own)
        })
    }
}

impl World {
    pub(super) fn behaviour(&self, image: &str) -> Behaviour {
        let found = self.behaviours.iter().rev().find(|(part, _)| image.contains(part.as_str()));
        found.map_or(Behaviour::Runs, |(_, behaviour)| behaviour.clone())
    }

    /// The nodes a pod's selector allows.
    fn allowed(&self, template: &Value) -> Vec<String> {
        let fits = |node: &&String| self.nodes.get(*node).is_some_and(|of| of.is_selected(&template["spec"]));
        self.nodes.keys().filter(fits).cloned().collect()
    }
}

pub(super) fn pods() -> Kind {
    Kind::of("v1", "pods")
}

/// Does one round of small things; whether anything changed.
pub(super) fn step(store: &mut Store, world: &World) -> bool {
    let mut changed = false;
    for plural in ["deployments", "daemonsets"] {
        let all: Vec<(Place, Value)> = store
            .of_kind(&Kind::of("apps/v1", plural))
            .map(|(place, stored)| (place.clone(), stored.object.clone()))
            .collect();
        for (place, object) in all {
            changed |= if plural == "daemonsets" {
                daemon_set(store, world, &place, &object)
            } else {
                deployment(store, &place, &object)
            };
        }
    }
    changed | orphans(store) | scheduler::step(store, world) | kubelets(store, world)
}

/// A text that differs where templates do.
fn revision(object: &Value) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    object["spec"]["template"].to_string().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

struct Pod {
    place: Place,
    node: String,
    revision: String,
    ready: bool,
}

fn pods_of(store: &Store, owner: &Value) -> Vec<Pod> {
    store
        .of_kind(&pods())
        .filter(|(_, pod)| pod.object["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"])
        .map(|(place, pod)| Pod {
            place: place.clone(),
            node: scheduler::node_of(&pod.object).unwrap_or_default().to_owned(),
            revision: pod.object["metadata"]["labels"]["controller-revision-hash"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ready: is_ready(&pod.object),
        })
        .collect()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn make_pod(store: &mut Store, owner: &Value, place: &Place, node: Option<&str>) {
    let template = &owner["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    let name = format!("{}-{}", place.2, store.version);
    metadata["name"] = name.as_str().into();
    metadata["namespace"] = place.1.as_str().into();
    metadata["labels"]["controller-revision-hash"] = revision(owner).into();
    metadata["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": owner["kind"], "name": place.2, "uid": owner["metadata"]["uid"],
        "controller": true,
    }]);
    let mut spec = template["spec"].clone();
    if let Some(node) = node {
        spec["affinity"]["nodeAffinity"] = scheduler::only(node);
    }
    let status = json!({"phase": "Pending"});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status});
    store.replace(&(pods(), place.1.clone(), name), "kube-controller-manager", pod);
}

fn deployment(store: &mut Store, place: &Place, object: &Value) -> bool {
    let (now, wanted) = (revision(object), object["spec"]["replicas"].as_u64().unwrap_or(1) as usize);
    let pods = pods_of(store, object);
    let (new, old): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| pod.revision == now);
    let mut changed = false;
    // Its strategy is `Recreate`: the old ones go before new ones come.
    for pod in old.iter().copied().chain(new.iter().copied().skip(wanted)) {
        changed |= store.remove(&pod.place);
    }
    if old.is_empty() && new.len() < wanted {
        make_pod(store, object, place, None);
        changed = true;
    }
    let ready = new.iter().filter(|pod| pod.ready).count();
    let status = json!({
        "observedGeneration": object["metadata"]["generation"],
        "replicas": pods.len(), "updatedReplicas": new.len(), "readyReplicas": ready, "availableReplicas": ready,
    });
    changed | store.set(place, "status", status)
}

fn daemon_set(store: &mut Store, world: &World, place: &Place, object: &Value) -> bool {
    let now = revision(object);
    let nodes = world.allowed(&object["spec"]["template"]);
    let pods = pods_of(store, object);
    let on_delete = object["spec"]["updateStrategy"]["type"] == "OnDelete";
    let mut changed = false;
    for pod in pods.iter().filter(|pod| !nodes.contains(&pod.node)) {
        changed |= store.remove(&pod.place);
    }
    for node in &nodes {
        if !pods.iter().any(|pod| pod.node == *node) {
            make_pod(store, object, place, Some(node));
            changed = true;
        }
    }
    // One may be away at a time; an old one that is not ready goes first.
    let away = nodes.len()
        - pods.iter().filter(|pod| pod.ready && nodes.contains(&pod.node)).count().min(nodes.len());
    let mut old: Vec<&Pod> = pods.iter().filter(|pod| pod.revision != now).collect();
    old.sort_by_key(|pod| pod.ready);
    if let Some(pod) = old.first().filter(|pod| !on_delete && (away == 0 || !pod.ready)) {
        changed |= store.remove(&pod.place);
    }
    let here: Vec<&Pod> = pods.iter().filter(|pod| nodes.contains(&pod.node)).collect();
    let ready = here.iter().filter(|pod| pod.ready).count();
    let status = json!({
        "observedGeneration": object["metadata"]["generation"],
        "currentNumberScheduled": here.len(), "desiredNumberScheduled": nodes.len(),
        "numberMisscheduled": pods.len() - here.len(),
        "updatedNumberScheduled": here.iter().filter(|pod| pod.revision == now).count(),
        "numberReady": ready, "numberAvailable": ready,
    });
    changed | store.set(place, "status", status)
}

/// Pods whose owner went.
fn orphans(store: &mut Store) -> bool {
    let owners: Vec<Value> = ["deployments", "daemonsets"]
        .into_iter()
        .flat_map(|plural| store.of_kind(&Kind::of("apps/v1", plural)))
        .map(|(_, stored)| stored.object["metadata"]["uid"].clone())
        .collect();
    let gone: Vec<Place> = store
        .of_kind(&pods())
        .filter(|(_, pod)| !owners.contains(&pod.object["metadata"]["ownerReferences"][0]["uid"]))
        .map(|(place, _)| place.clone())
        .collect();
    gone.iter().fold(false, |changed, place| store.remove(place) | changed)
}

/// Pods on nodes go one step on.
fn kubelets(store: &mut Store, world: &World) -> bool {
    let all: Vec<(Place, Value)> = store
        .of_kind(&pods())
        .filter(|(_, pod)| pod.object["spec"]["nodeName"].is_string())
        .map(|(place, pod)| (place.clone(), pod.object.clone()))
        .collect();
    let mut changed = false;
    for (place, pod) in all {
        changed |= store.set(&place, "status", next(&pod, world));
    }
    changed
}

fn next(pod: &Value, world: &World) -> Value {
    let container = &pod["spec"]["containers"][0];
    let image = container["image"].as_str().unwrap_or_default();
    let crashes = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    let begun = !pod["status"]["containerStatuses"].is_null();
    let status = |phase: &str, ready: bool, restarts: u64, state: Value, last: Value| {
        let condition = |kind: &str| json!({"type": kind, "status": if ready { "True" } else { "False" }});
        json!({
            "phase": phase,
            "conditions": [
                {"type": "PodScheduled", "status": "True"}, condition("ContainersReady"), condition("Ready"),
            ],
            "containerStatuses": [{
                "name": container["name"], "image": image, "imageID": image, "ready": ready,
                "restartCount": restarts, "state": state, "lastState": last,
            }],
        })
    };
    let none = || json!({});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": format!("of {image}")}});
    let running = || json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    if !begun {
        return status("Pending", false, 0, waiting("ContainerCreating"), none());
    }
    match world.behaviour(image) {
        Behaviour::Runs | Behaviour::OtherModel(_) => status("Running", true, crashes, running(), none()),
        Behaviour::NeverReady => status("Running", false, crashes, running(), none()),
        Behaviour::NoImage => status("Pending", false, 0, waiting("ImagePullBackOff"), none()),
        Behaviour::Crashes => {
            let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
            status("Running", false, (crashes + 1).min(5), waiting("CrashLoopBackOff"), ended)
        }
    }
}
