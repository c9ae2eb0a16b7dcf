//! What a deployment would change: found by trying, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::api::{Api, Way};
use super::inventory::Inventory;
use super::object::{Key, Object, differences, plain};
use super::{ClusterError, OURS};

/// The most differences of one object that are shown.
const SHOWN: usize = 20;

/// The most characters of a value that are shown.
const WIDTH: usize = 70;

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// It is made.
    Create,
    /// It is changed: from what, to what.
    Update(Box<(Value, Value)>),
    /// It stays.
    Same,
}

/// An object that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) key: Key,
    pub(super) uid: Option<String>,
}

/// What would change.
pub(super) struct Plan {
    /// In the manifest's order.
    pub(super) changes: Vec<(Object, Change)>,
    pub(super) leaving: Vec<Leaving>,
    /// What left the manifest and stays in the cluster, with the reason.
    pub(super) staying: Vec<String>,
    /// What is there now of what is to be applied, as it can be applied again.
    pub(super) present: BTreeMap<Key, Value>,
}

impl Plan {
    /// Tries the objects against the cluster.
    pub(super) async fn make(
        api: &Api,
        objects: &[Object],
        inventory: &Inventory,
        force: bool,
    ) -> Result<Self, ClusterError> {
        let mut changes = Vec::new();
        let mut present = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for object in objects {
            let live = api.get(&object.key).await?;
            let namespace_missing =
                object.key.namespace.as_ref().is_some_and(|namespace| missing.contains(namespace));
            if live.is_none() && object.key.api == "v1" && object.key.kind == "Namespace" {
                missing.insert(object.key.name.clone());
            }
            // What is to be in a namespace that is not there yet cannot be tried.
            if namespace_missing && live.is_none() {
                api.resource(&object.key).await?;
                changes.push((object.clone(), Change::Create));
                continue;
            }
            let tried = api.apply(&object.key, &object.value, Way { force, dry: true }).await?;
            let change = match &live {
                None => Change::Create,
                Some(live) => {
                    let (before, after) = (plain(live), plain(&tried));
                    if before == after { Change::Same } else { Change::Update(Box::new((before, after))) }
                }
            };
            if let Some(live) = live {
                present.insert(object.key.clone(), plain(&live));
            }
            changes.push((object.clone(), change));
        }
        let (leaving, staying) = leaving(api, objects, inventory).await?;
        Ok(Self { changes, leaving, staying, present })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.changes.iter().all(|(_, change)| *change == Change::Same)
    }

    /// The plan for people.
    pub(super) fn told(&self, place: &str) -> String {
        if self.is_empty() {
            return format!("{place}: nothing would change");
        }
        let mut text = format!("{place}:\n");
        // Writing to a String cannot fail.
        for (object, change) in &self.changes {
            match change {
                Change::Same => {}
                Change::Create => {
                    let _ = writeln!(text, "create {}", object.key);
                }
                Change::Update(both) => {
                    let _ = writeln!(text, "change {}", object.key);
                    let all = differences(&both.0, &both.1);
                    for (at, old, new) in all.iter().take(SHOWN) {
                        let _ = writeln!(text, "  {at}: {} → {}", shown(old), shown(new));
                    }
                    if all.len() > SHOWN {
                        let _ = writeln!(text, "  and {} more", all.len() - SHOWN);
                    }
                }
            }
        }
        for leaving in &self.leaving {
            let _ = writeln!(text, "once it runs, delete {}", leaving.key);
        }
        for staying in &self.staying {
            let _ = writeln!(text, "{staying}");
        }
        text
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".into(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    };
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What earlier deployments made and the manifest no longer has. Only what still carries our labels goes.
async fn leaving(
    api: &Api,
    objects: &[Object],
    inventory: &Inventory,
) -> Result<(Vec<Leaving>, Vec<String>), ClusterError> {
    let (mut leaving, mut staying) = (Vec::new(), Vec::new());
    let wanted: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
    for key in inventory.content.known() {
        if wanted.contains(&key) {
            continue;
        }
        let live = match api.get(&key).await {
            // Its kind went, and it with it.
            Err(ClusterError::UnknownKind { .. }) => continue,
            live => live?,
        };
        let Some(live) = live else { continue };
        if key.holds_data() {
            staying.push(format!("{key} stays: it may hold data, delete it by hand"));
        } else if is_ours(&live) {
            leaving.push(Leaving { uid: live["metadata"]["uid"].as_str().map(str::to_owned), key });
        } else {
            staying.push(format!("{key} stays: it has no longer the labels of what we deploy"));
        }
    }
    // Workloads stop before what they need goes.
    leaving.sort_by_key(|leaving| (!leaving.key.is_workload(), leaving.key.clone()));
    Ok((leaving, staying))
}

/// Whether an object has the labels of what is deployed by us.
pub(super) fn is_ours(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    OURS.split(',').filter_map(|pair| pair.split_once('=')).all(|(key, value)| labels[key] == value)
}
