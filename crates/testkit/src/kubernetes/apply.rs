//! Server-side apply: who owns which field, what two of them disagree about, what goes when its last owner lets go.
//!
//! An object is taken apart into its leaves. Lists with a key (containers, ports, volumes, …) are taken apart by it, all
//! others are one leaf, as the API's schema has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The place of a leaf: names, and `[key=value,…]` for an element of a list with a key.
pub(super) type Path = Vec<String>;

/// Who owns which leaves.
pub(super) type Owners = BTreeMap<String, BTreeSet<Path>>;

/// A field that someone else owns and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) owner: String,
    /// As the API writes it: `.spec.replicas`.
    pub(super) field: String,
}

/// Applies `wanted` for `manager`.
pub(super) fn apply(
    live: Option<&Value>,
    owners: &Owners,
    manager: &str,
    wanted: &Value,
    force: bool,
) -> Result<(Value, Owners), Vec<Conflict>> {
    let mut leaves = live.map(leaves).unwrap_or_default();
    let new = leaves_of(wanted);
    let mut owners = owners.clone();
    let mut conflicts = Vec::new();
    for (path, value) in &new {
        if leaves.get(path) == Some(value) {
            continue;
        }
        for (owner, theirs) in &mut owners {
            if owner == manager || !theirs.contains(path) {
                continue;
            }
            if force {
                theirs.remove(path);
            } else {
                conflicts.push(Conflict { owner: owner.clone(), field: shown(path) });
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let before = owners.remove(manager).unwrap_or_default();
    for path in before.iter().filter(|path| !new.contains_key(*path)) {
        if !owners.values().any(|theirs| theirs.contains(path)) {
            leaves.remove(path);
        }
    }
    owners.insert(manager.to_owned(), new.keys().cloned().collect());
    for (path, value) in new {
        // An empty map that gets content is no leaf any more, and the other way round.
        leaves.retain(|other, _| other == &path || !(path.starts_with(other) || other.starts_with(&path)));
        leaves.insert(path, value);
    }
    Ok((together(leaves), owners))
}

/// `metadata.managedFields` as the API shows them.
pub(super) fn managed_fields(owners: &Owners, api: &str, applied: &BTreeSet<String>) -> Value {
    owners
        .iter()
        .map(|(manager, paths)| {
            let mut fields = Map::new();
            for path in paths {
                let mut at = &mut fields;
                for segment in path {
                    let name = match segment.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                        Some(key) => format!("k:{key}"),
                        None => format!("f:{segment}"),
                    };
                    let entry = at.entry(name).or_insert_with(|| json!({}));
                    let Value::Object(inner) = entry else { break };
                    at = inner;
                }
            }
            let operation = if applied.contains(manager) { "Apply" } else { "Update" };
            json!({
                "manager": manager, "operation": operation, "apiVersion": api,
                "fieldsType": "FieldsV1", "fieldsV1": fields,
            })
        })
        .collect()
}

/// The leaves that a manager can own: not the object's name and kind.
pub(super) fn leaves_of(object: &Value) -> BTreeMap<Path, Value> {
    let mut leaves = leaves(object);
    leaves.retain(|path, _| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        !matches!(
            path.as_slice(),
            ["apiVersion" | "kind"] | ["metadata", "name" | "namespace" | "uid" | "resourceVersion"]
        )
    });
    leaves
}

fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    collect(&mut Vec::new(), object, &mut found);
    found
}

fn collect(at: &mut Path, value: &Value, found: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                at.push(name.clone());
                collect(at, member, found);
                at.pop();
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let list = at.last().cloned().unwrap_or_default();
            let keys: Option<Vec<String>> = items.iter().map(|item| key(&list, item)).collect();
            match keys {
                Some(keys) => {
                    for (key, item) in keys.into_iter().zip(items) {
                        at.push(key);
                        collect(at, item, found);
                        at.pop();
                    }
                }
                None => drop(found.insert(at.clone(), value.clone())),
            }
        }
        leaf => drop(found.insert(at.clone(), leaf.clone())),
    }
}

/// The key of an element, where its list has one (`x-kubernetes-list-map-keys` of the published schema).
fn key(list: &str, item: &Value) -> Option<String> {
    let names: &[&str] = match list {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "hostAliases" => &["ip"],
        "ports" if item.get("containerPort").is_some() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        _ => return None,
    };
    let pairs: Option<Vec<String>> =
        names.iter().map(|name| item.get(*name).map(|value| format!("\"{name}\":{value}"))).collect();
    Some(format!("[{{{}}}]", pairs?.join(",")))
}

fn together(leaves: BTreeMap<Path, Value>) -> Value {
    #[derive(Default)]
    struct Node {
        leaf: Option<Value>,
        members: BTreeMap<String, Node>,
    }
    fn value(node: Node) -> Value {
        if let Some(leaf) = node.leaf {
            return leaf;
        }
        if !node.members.is_empty() && node.members.keys().all(|name| name.starts_with("[{")) {
            return node.members.into_values().map(value).collect();
        }
        Value::Object(node.members.into_iter().map(|(name, node)| (name, value(node))).collect())
    }
    let mut root = Node::default();
    for (path, leaf) in leaves {
        let mut at = &mut root;
        for segment in path {
            at = at.members.entry(segment).or_default();
        }
        at.leaf = Some(leaf);
    }
    value(root)
}

fn shown(path: &Path) -> String {
    path.iter()
        .map(|segment| if segment.starts_with('[') { segment.clone() } else { format!(".{segment}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_same_after_it_was_taken_apart() {
        let object = json!({
            "a": {"b": [1, 2], "empty": {}, "none": []},
            "containers": [{"name": "x", "ports": [{"containerPort": 1, "protocol": "TCP"}]}],
        });
        assert_eq!(together(leaves(&object)), object);
    }

    #[test]
    fn owners_conflict_take_over_and_let_go() {
        let none = Owners::new();
        let (live, owners) =
            apply(None, &none, "kubectl", &json!({"spec": {"replicas": 2, "x": 1}}), false).unwrap();
        let ours = json!({"spec": {"replicas": 1, "paused": false}});
        let conflicts = apply(Some(&live), &owners, "mynah", &ours, false).unwrap_err();
        assert_eq!(conflicts, [Conflict { owner: "kubectl".into(), field: ".spec.replicas".into() }]);
        let (live, owners) = apply(Some(&live), &owners, "mynah", &ours, true).unwrap();
        assert_eq!(live, json!({"spec": {"replicas": 1, "x": 1, "paused": false}}));
        let (live, owners) =
            apply(Some(&live), &owners, "mynah", &json!({"spec": {"replicas": 1}}), false).unwrap();
        assert_eq!(live, json!({"spec": {"replicas": 1, "x": 1}}));
        let (live, _) = apply(Some(&live), &owners, "mynah", &json!({"spec": {"x": 1}}), false).unwrap();
        assert_eq!(live, json!({"spec": {"x": 1}}));
    }

    #[test]
    fn what_two_agree_on_is_no_conflict_and_stays_for_the_other() {
        let (live, owners) = apply(None, &Owners::new(), "a", &json!({"spec": {"x": 1}}), false).unwrap();
        let (live, owners) = apply(Some(&live), &owners, "b", &json!({"spec": {"x": 1}}), false).unwrap();
        let (live, _) = apply(Some(&live), &owners, "a", &json!({"spec": {"y": 1}}), false).unwrap();
        assert_eq!(live, json!({"spec": {"x": 1, "y": 1}}));
    }

    #[test]
    fn containers_are_told_apart_by_their_name() {
        let with = |image: &str| json!({"spec": {"containers": [{"name": "eye", "image": image}]}});
        let (live, owners) = apply(None, &Owners::new(), "a", &with("1"), false).unwrap();
        let conflicts = apply(Some(&live), &owners, "b", &with("2"), false).unwrap_err();
        assert_eq!(conflicts[0].field, ".spec.containers[{\"name\":\"eye\"}].image");
    }
}
