//! Server-side apply: who owns which field, what two of them disagree about, what goes when its last owner lets go.
//!
//! An object is taken apart into its leaves, as the API's schema has it (`structure`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::structure::{self, ELEMENT, Structure};

/// One step to a leaf.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Segment {
    /// A field of a map.
    Field(String),
    /// The element of a list with this key: each field of the key with its value in JSON.
    Key(BTreeMap<String, String>),
    /// The element of a set, in JSON.
    Member(String),
}

/// The place of a leaf.
pub(super) type Path = Vec<Segment>;

/// Who owns which leaves.
pub(super) type Owners = BTreeMap<String, BTreeSet<Path>>;

/// A field that someone else owns and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) owner: String,
    /// As the API writes it: `.spec.containers[name="eye"].image`.
    pub(super) field: String,
}

/// Why nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Fields of others.
    Conflicts(Vec<Conflict>),
    /// A list whose elements cannot be told apart, in the words of the API.
    Malformed(String),
}

/// An object in its leaves, and where elements stand in their lists.
#[derive(Default)]
struct Parts {
    leaves: BTreeMap<Path, Value>,
    order: BTreeMap<Path, usize>,
}

/// Applies `wanted` for `manager`.
pub(super) fn apply(
    live: Option<&Value>,
    owners: &Owners,
    manager: &str,
    wanted: &Value,
    force: bool,
) -> Result<(Value, Owners), Refusal> {
    let Parts { mut leaves, order: before } = live.map(parts).transpose()?.unwrap_or_default();
    let Parts { leaves: mut new, mut order } = parts(wanted)?;
    new.retain(|path, _| can_be_owned(path));
    let mut owners = owners.clone();
    let mut conflicts = Vec::new();
    for (path, value) in &new {
        if leaves.get(path) == Some(value) || (is_empty(value) && is_filled(&leaves, path)) {
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
        return Err(Refusal::Conflicts(conflicts));
    }
    let had = owners.remove(manager).unwrap_or_default();
    for path in had.iter().filter(|path| !new.contains_key(*path)) {
        if !owners.values().any(|theirs| theirs.contains(path)) {
            leaves.remove(path);
        }
    }
    owners.insert(manager.to_owned(), new.keys().cloned().collect());
    owners.retain(|_, paths| !paths.is_empty());
    for (path, value) in new {
        // An empty map is no leaf any more once it gets content; to apply an empty one takes nothing from others.
        leaves.retain(|other, _| other == &path || !path.starts_with(other));
        if !(is_empty(&value) && is_filled(&leaves, &path)) {
            leaves.insert(path, value);
        }
    }
    // What is applied stands as it was applied, what only others have comes after it.
    let applied = order.len();
    for (path, at) in before {
        order.entry(path).or_insert(applied + at);
    }
    Ok((together(leaves, &order), owners))
}

/// Who owns what after `manager` has put `object` in the place of `live`: it gets what it changed, and others lose that.
pub(super) fn update(live: Option<&Value>, owners: &Owners, manager: &str, object: &Value) -> Owners {
    let before = live.map(leaves_of).unwrap_or_default();
    let after = leaves_of(object);
    let changed: BTreeSet<Path> = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(*value))
        .map(|(path, _)| path.clone())
        .collect();
    let mut owners = owners.clone();
    for theirs in owners.values_mut() {
        theirs.retain(|path| after.contains_key(path) && !changed.contains(path));
    }
    owners.entry(manager.to_owned()).or_default().extend(changed);
    owners.retain(|_, paths| !paths.is_empty());
    owners
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
                    let name = match segment {
                        Segment::Field(name) => format!("f:{name}"),
                        Segment::Key(key) => {
                            let pairs: Vec<String> =
                                key.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                            format!("k:{{{}}}", pairs.join(","))
                        }
                        Segment::Member(value) => format!("v:{value}"),
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

/// Whether a manager can own a leaf: not the object's name and kind.
fn can_be_owned(path: &Path) -> bool {
    let names: Vec<&str> = path.iter().map(Segment::name).collect();
    !matches!(
        names.as_slice(),
        ["apiVersion" | "kind"] | ["metadata", "name" | "namespace" | "uid" | "resourceVersion"]
    )
}

/// A map or list without content.
fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether there are leaves below a path.
fn is_filled(leaves: &BTreeMap<Path, Value>, path: &Path) -> bool {
    leaves.keys().any(|other| other.len() > path.len() && other.starts_with(path))
}

/// The leaves that a manager can own. An object whose elements cannot be told apart has none: it was not let in.
fn leaves_of(object: &Value) -> BTreeMap<Path, Value> {
    let mut leaves = parts(object).unwrap_or_default().leaves;
    leaves.retain(|path, _| can_be_owned(path));
    leaves
}

fn parts(object: &Value) -> Result<Parts, Refusal> {
    let mut found = Parts::default();
    collect(&mut Vec::new(), object, &mut found)?;
    Ok(found)
}

impl Segment {
    /// Its name in the schema's paths.
    fn name(&self) -> &str {
        match self {
            Self::Field(name) => name,
            Self::Key(_) | Self::Member(_) => ELEMENT,
        }
    }
}

fn collect(at: &mut Path, value: &Value, found: &mut Parts) -> Result<(), Refusal> {
    let names: Vec<&str> = at.iter().map(Segment::name).collect();
    match value {
        Value::Object(members) if !members.is_empty() && structure::of_map(&names) == Structure::Granular => {
            for (name, member) in members {
                at.push(Segment::Field(name.clone()));
                collect(at, member, found)?;
                at.pop();
            }
        }
        Value::Array(items) if !items.is_empty() => match structure::of_list(&names) {
            Structure::Granular | Structure::Atomic => drop(found.leaves.insert(at.clone(), value.clone())),
            apart => {
                for (index, item) in items.iter().enumerate() {
                    let segment = match apart {
                        Structure::Keyed(keys) => key(keys, item).map_err(|why| {
                            Refusal::Malformed(format!("{}: element {index}: {why}", shown(at)))
                        })?,
                        _ => Segment::Member(item.to_string()),
                    };
                    at.push(segment);
                    if found.order.insert(at.clone(), index).is_some() {
                        let twice = at.pop().map(|twice| shown(&[twice])).unwrap_or_default();
                        return Err(Refusal::Malformed(format!(
                            "{}: duplicate entries for key {twice}",
                            shown(at)
                        )));
                    }
                    collect(at, item, found)?;
                    at.pop();
                }
            }
        },
        // An object without fields has no leaves.
        _ if at.is_empty() => {}
        leaf => drop(found.leaves.insert(at.clone(), leaf.clone())),
    }
    Ok(())
}

/// The key of an element.
fn key(names: &[&str], item: &Value) -> Result<Segment, String> {
    let mut key = BTreeMap::new();
    for name in names {
        let value = match (item.get(*name), structure::key_default(name)) {
            (Some(value), _) if !value.is_null() => value.to_string(),
            (_, Some(default)) => Value::from(default).to_string(),
            _ => {
                return Err(format!(
                    "associative list with keys has an element that omits key field \"{name}\" (and doesn't have \
                     default value)"
                ));
            }
        };
        key.insert((*name).to_owned(), value);
    }
    Ok(Segment::Key(key))
}

fn together(leaves: BTreeMap<Path, Value>, order: &BTreeMap<Path, usize>) -> Value {
    #[derive(Default)]
    struct Node {
        leaf: Option<Value>,
        members: BTreeMap<Segment, Node>,
    }
    fn value(node: Node, at: &mut Path, order: &BTreeMap<Path, usize>) -> Value {
        if let Some(leaf) = node.leaf {
            return leaf;
        }
        let mut fields = Map::new();
        let mut elements = Vec::new();
        for (segment, node) in node.members {
            at.push(segment);
            let value = value(node, at, order);
            match at.last() {
                Some(Segment::Field(name)) => drop(fields.insert(name.clone(), value)),
                _ => elements.push((order.get(at).copied(), value)),
            }
            at.pop();
        }
        if elements.is_empty() {
            return Value::Object(fields);
        }
        elements.sort_by_key(|(place, _)| *place);
        elements.into_iter().map(|(_, value)| value).collect()
    }
    let mut root = Node::default();
    for (path, leaf) in leaves {
        let mut at = &mut root;
        for segment in path {
            at = at.members.entry(segment).or_default();
        }
        at.leaf = Some(leaf);
    }
    value(root, &mut Vec::new(), order)
}

/// A path as the API writes it.
fn shown(path: &[Segment]) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Field(name) => format!(".{name}"),
            Segment::Key(key) => {
                let pairs: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", pairs.join(","))
            }
            Segment::Member(value) => format!("[={value}]"),
        })
        .collect()
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
