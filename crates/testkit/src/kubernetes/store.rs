//! Objects, their versions and what happened to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::apply::{Owners, Refusal, apply, managed_fields, update};

/// Which objects: group and version, and the plural name of their kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Kind {
    pub(super) api: String,
    pub(super) plural: String,
}

impl Kind {
    pub(super) fn of(api: &str, plural: &str) -> Self {
        Self { api: api.into(), plural: plural.into() }
    }
}

/// Where an object is: kind, namespace (empty for the cluster's own), name.
pub(super) type Place = (Kind, String, String);

#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Without `managedFields`.
    pub(super) object: Value,
    owners: Owners,
    applied: BTreeSet<String>,
}

impl Stored {
    /// The object as it is shown.
    pub(super) fn shown(&self) -> Value {
        let mut object = self.object.clone();
        let api = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        object["metadata"]["managedFields"] = managed_fields(&self.owners, &api, &self.applied);
        object
    }
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) place: Place,
    pub(super) what: &'static str,
    pub(super) object: Value,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) objects: BTreeMap<Place, Stored>,
    pub(super) events: Vec<Event>,
    pub(super) version: u64,
    /// Watches from versions before this one are refused.
    pub(super) oldest: u64,
    made: u64,
}

impl Store {
    pub(super) fn get(&self, place: &Place) -> Option<&Value> {
        self.objects.get(place).map(|stored| &stored.object)
    }

    /// Every object of a kind.
    pub(super) fn of_kind<'a>(
        &'a self,
        kind: &Kind,
    ) -> impl Iterator<Item = (&'a Place, &'a Stored)> + use<'a> {
        let kind = kind.clone();
        self.objects.iter().filter(move |(place, _)| place.0 == kind)
    }

    /// Applies for a manager; only tells what would be, where `dry`.
    pub(super) fn apply(
        &mut self,
        place: &Place,
        manager: &str,
        wanted: &Value,
        (force, dry): (bool, bool),
    ) -> Result<(Value, bool), Refusal> {
        let live = self.objects.get(place);
        let owners = live.map(|live| live.owners.clone()).unwrap_or_default();
        let (mut merged, owners) = apply(live.map(|live| &live.object), &owners, manager, wanted, force)?;
        // Which object it is, is nobody's field.
        for key in ["apiVersion", "kind"] {
            merged[key] = wanted[key].clone();
        }
        for key in ["name", "namespace"] {
            if !wanted["metadata"][key].is_null() {
                merged["metadata"][key] = wanted["metadata"][key].clone();
            }
        }
        let mut applied = live.map(|live| live.applied.clone()).unwrap_or_default();
        applied.insert(manager.to_owned());
        let new = live.is_none();
        Ok((self.put(place, merged, owners, applied, dry), new))
    }

    /// Replaces an object, or makes it.
    pub(super) fn replace(&mut self, place: &Place, manager: &str, object: Value) -> Value {
        let live = self.objects.get(place);
        let owners = live.map(|live| live.owners.clone()).unwrap_or_default();
        let owners = update(live.map(|live| &live.object), &owners, manager, &object);
        let applied = live.map(|live| live.applied.clone()).unwrap_or_default();
        self.put(place, object, owners, applied, false)
    }

    fn put(
        &mut self,
        place: &Place,
        mut object: Value,
        owners: Owners,
        applied: BTreeSet<String>,
        dry: bool,
    ) -> Value {
        let live = self.objects.get(place).cloned();
        defaults(&place.0, &mut object);
        let metadata = &mut object["metadata"];
        if let Some(live) = &live {
            for key in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                metadata[key] = live.object["metadata"][key].clone();
            }
        } else {
            let made = self.made + u64::from(!dry);
            metadata["uid"] = format!("00000000-0000-4000-8000-{made:012}").into();
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            metadata["generation"] = 1.into();
            metadata["resourceVersion"] = self.version.to_string().into();
        }
        if let Some(live) = &live
            && live.object["spec"] != object["spec"]
        {
            let generation = live.object["metadata"]["generation"].as_u64().unwrap_or(1);
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let same = live.as_ref().is_some_and(|live| live.object == object && live.owners == owners);
        let mut stored = Stored { object, owners, applied };
        if dry || same {
            return stored.shown();
        }
        self.version += 1;
        stored.object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if live.is_none() {
            self.made += 1;
        }
        let what = if live.is_none() { "ADDED" } else { "MODIFIED" };
        self.happened(place, what, &stored);
        let shown = stored.shown();
        self.objects.insert(place.clone(), stored);
        shown
    }

    /// Changes a part that nobody's generation depends on, such as the status.
    pub(super) fn set(&mut self, place: &Place, part: &str, value: Value) -> bool {
        let Some(stored) = self.objects.get_mut(place) else { return false };
        if stored.object[part] == value {
            return false;
        }
        stored.object[part] = value;
        self.version += 1;
        stored.object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let stored = stored.clone();
        self.happened(place, "MODIFIED", &stored);
        true
    }

    pub(super) fn remove(&mut self, place: &Place) -> bool {
        let Some(mut stored) = self.objects.remove(place) else { return false };
        self.version += 1;
        stored.object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.happened(place, "DELETED", &stored);
        true
    }

    fn happened(&mut self, place: &Place, what: &'static str, stored: &Stored) {
        let (place, object) = (place.clone(), stored.shown());
        self.events.push(Event { version: self.version, place, what, object });
    }
}

/// What a real server fills in and nobody owns.
fn defaults(kind: &Kind, object: &mut Value) {
    let spec = &mut object["spec"];
    match kind.plural.as_str() {
        "deployments" if spec.is_object() => {
            default(spec, "progressDeadlineSeconds", json!(600));
            default(spec, "revisionHistoryLimit", json!(10));
        }
        "daemonsets" if spec.is_object() => {
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
        }
        "services" if spec.is_object() => default(spec, "sessionAffinity", json!("None")),
        "namespaces" => default(spec, "finalizers", json!(["kubernetes"])),
        _ => {
            if spec.is_null()
                && let Some(object) = object.as_object_mut()
            {
                object.remove("spec");
            }
        }
    }
}

fn default(spec: &mut Value, name: &str, value: Value) {
    if spec[name].is_null() {
        spec[name] = value;
    }
}
