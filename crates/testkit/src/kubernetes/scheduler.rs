//! Which node a pod comes to: one that its selector allows and that has the units of what device plugins offer left.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::controllers::{World, pods};
use super::store::{Place, Store};

/// Where a pod of a `DaemonSet` may go: to this node only. The real controller says so in the same words.
pub(super) fn only(node: &str) -> Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]},
    ]}})
}

/// The node a pod is on, or the only one it may go to.
pub(super) fn node_of(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().or_else(|| bound_to(pod))
}

fn bound_to(pod: &Value) -> Option<&str> {
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    pod.pointer(terms)?.pointer("/0/matchFields/0/values/0")?.as_str()
}

/// Gives every waiting pod a node, or says why it has none; whether anything changed.
pub(super) fn step(store: &mut Store, world: &World) -> bool {
    let waiting: Vec<(Place, Value)> = store
        .of_kind(&pods())
        .filter(|(_, pod)| !pod.object["spec"]["nodeName"].is_string())
        .map(|(place, pod)| (place.clone(), pod.object.clone()))
        .collect();
    let mut changed = false;
    for (place, pod) in waiting {
        changed |= match choose(store, world, &pod) {
            Ok(node) => {
                let mut spec = pod["spec"].clone();
                spec["nodeName"] = node.into();
                store.set(&place, "spec", spec)
            }
            Err(why) => {
                let condition = json!({
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
                });
                store.set(&place, "status", json!({"phase": "Pending", "conditions": [condition]}))
            }
        };
    }
    changed
}

/// A node for a pod, or the scheduler's words.
fn choose<'w>(store: &Store, world: &'w World, pod: &Value) -> Result<&'w str, String> {
    let wanted = units(pod);
    let mut against: BTreeMap<String, usize> = BTreeMap::new();
    for (name, node) in &world.nodes {
        if !node.is_selected(&pod["spec"]) || bound_to(pod).is_some_and(|only| only != name) {
            *against.entry("node(s) didn't match Pod's node affinity/selector".into()).or_default() += 1;
            continue;
        }
        let mut taken: BTreeMap<String, u64> = BTreeMap::new();
        for (_, other) in
            store.of_kind(&pods()).filter(|(_, other)| other.object["spec"]["nodeName"] == name.as_str())
        {
            for (resource, count) in units(&other.object) {
                *taken.entry(resource).or_default() += count;
            }
        }
        let left = |resource: &String| {
            let offered = node.offers.get(resource).copied().unwrap_or(0);
            offered.saturating_sub(taken.get(resource).copied().unwrap_or(0))
        };
        match wanted.iter().find(|(resource, count)| left(resource) < **count) {
            None => return Ok(name),
            Some((resource, _)) => *against.entry(format!("Insufficient {resource}")).or_default() += 1,
        }
    }
    let against: Vec<String> = against.iter().map(|(why, nodes)| format!("{nodes} {why}")).collect();
    Err(format!("0/{} nodes are available: {}.", world.nodes.len(), against.join(", ")))
}

/// What a pod takes of the resources that device plugins offer, which have a domain in their name.
fn units(pod: &Value) -> BTreeMap<String, u64> {
    let mut units = BTreeMap::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        for (name, amount) in container["resources"]["limits"].as_object().into_iter().flatten() {
            let count = amount.as_u64().or_else(|| amount.as_str()?.parse().ok());
            if let Some(count) = count.filter(|_| name.contains('/')) {
                *units.entry(name.clone()).or_default() += count;
            }
        }
    }
    units
}
