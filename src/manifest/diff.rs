//! What differs between two manifests, by module, route, registry and twin.
//!
//! Options for Docker are put together and compared as what they say, not as pieces of text. A layered deployment is
//! compared by the paths its keys spell out. Secrets are told to differ, never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::content::{self, DESIRED, escaped};
use super::{ManifestError, create_options, json, secret};

/// The most characters of a value in the table.
const SHOWN: usize = 72;

/// What stands for a secret.
const HIDDEN: &str = "(secret)";

/// What differs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Difference {
    /// Each change, by part, name and path.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Change {
    /// In which part of the manifest.
    pub part: Part,
    /// Of which module, route or registry; empty for what there is once.
    pub name: String,
    /// Where in it: a JSON Pointer (RFC 6901), empty for the whole.
    pub path: String,
    /// What was there; absent = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What is there now; absent = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// A part of a manifest, in the order they are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A module.
    Module,
    /// One of IoT Edge's own.
    SystemModule,
    /// A route.
    Route,
    /// A module's desired properties.
    Twin,
    /// A registry's credentials.
    Registry,
    /// What else the agent is told.
    Agent,
    /// What else the hub is told.
    Hub,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::SystemModule => "system module",
            Self::Route => "route",
            Self::Twin => "twin",
            Self::Registry => "registry",
            Self::Agent => "agent",
            Self::Hub => "hub",
        }
    }
}

impl Difference {
    /// Compares two manifests.
    pub fn between(old: &Value, new: &Value) -> Self {
        let (old, new) = (parts(old), parts(new));
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let mut changes = Vec::new();
        for key in keys {
            let mut found = Vec::new();
            compare(old.get(key), new.get(key), "", &key.1, &mut found);
            changes.extend(found.into_iter().map(|(path, old, new)| Change {
                part: key.0,
                name: key.1.clone(),
                path,
                old,
                new,
            }));
        }
        Self { changes }
    }

    /// Reads a manifest for [`Difference::between`].
    ///
    /// # Errors
    /// When it is no JSON, or no manifest by its form.
    pub fn read(bytes: &[u8]) -> Result<Value, ManifestError> {
        let document = json::read(bytes)?;
        if document.pointer(content::content_pointer(&document)).is_some_and(Value::is_object) {
            Ok(document)
        } else {
            Err(ManifestError::NoContent)
        }
    }
}

/// A table for people: a line per change, or that there is none.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return write!(f, "the manifests say the same");
        }
        let rows: Vec<[String; 3]> = self
            .changes
            .iter()
            .map(|change| {
                let of = format!("{} {}", change.part.as_str(), change.name.escape_debug());
                let what = match (&change.old, &change.new) {
                    (None, Some(new)) => format!("+ {}", shown(new)),
                    (Some(old), None) => format!("- {}", shown(old)),
                    (old, new) => {
                        format!("{} → {}", shown_or_none(old.as_ref()), shown_or_none(new.as_ref()))
                    }
                };
                [of.trim_end().to_owned(), change.path.escape_debug().to_string(), what]
            })
            .collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let (first, second) = (width(0), width(1));
        for (number, [of, path, what]) in rows.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{of:first$}  {path:second$}  {what}")?;
        }
        Ok(())
    }
}

fn shown_or_none(value: Option<&Value>) -> String {
    value.map_or_else(String::new, shown)
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.escape_debug().to_string(),
        // A whole module is told by its image.
        Value::Object(entries) => match entries.get("settings").and_then(|settings| settings.get("image")) {
            Some(Value::String(image)) => image.escape_debug().to_string(),
            _ => value.to_string(),
        },
        _ => value.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN - 1).chain(std::iter::once('…')).collect()
}

type Parts = BTreeMap<(Part, String), Value>;

/// The manifest taken apart.
fn parts(document: &Value) -> Parts {
    let mut document = document.clone();
    for place in content::modules(&document) {
        if let Some(Value::Object(settings)) = document.pointer_mut(&format!("{}/settings", place.pointer)) {
            create_options::open(settings);
        }
    }
    let mut parts = Parts::new();
    let pointer = content::content_pointer(&document);
    for (name, twin) in document.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
        let mut desired = nested(twin);
        match name.as_str() {
            "$edgeAgent" => {
                for (key, part) in [("modules", Part::Module), ("systemModules", Part::SystemModule)] {
                    take(&mut desired, key, part, &mut parts);
                }
                if let Some(Value::Object(settings)) = desired.pointer_mut("/runtime/settings")
                    && let Some(registries) = settings.remove("registryCredentials")
                {
                    let mut registries = Value::Object(Map::from_iter([("r".to_owned(), registries)]));
                    take(&mut registries, "r", Part::Registry, &mut parts);
                }
                parts.insert((Part::Agent, String::new()), desired);
            }
            "$edgeHub" => {
                take(&mut desired, "routes", Part::Route, &mut parts);
                parts.insert((Part::Hub, String::new()), desired);
            }
            _ => drop(parts.insert((Part::Twin, name.clone()), desired)),
        }
    }
    parts
}

/// A twin's desired properties as one object, the paths of a layered deployment spelt out.
fn nested(twin: &Value) -> Value {
    let mut desired = Value::Object(Map::new());
    for (key, value) in twin.as_object().into_iter().flatten() {
        let Some(path) = key.strip_prefix(DESIRED) else { continue };
        let mut place = &mut desired;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(entries) = place else { break };
            place = entries.entry(name).or_insert(Value::Null);
        }
        *place = value.clone();
    }
    desired
}

/// Moves each entry of `from[key]` to a part of its own.
fn take(from: &mut Value, key: &str, part: Part, parts: &mut Parts) {
    let Value::Object(entries) = from else { return };
    if let Some(Value::Object(group)) = entries.remove(key) {
        parts.extend(group.into_iter().map(|(name, value)| ((part, name), value)));
    }
}

type Found = (String, Option<Value>, Option<Value>);

/// Finds what differs below `path`; `name` is the last key on the way.
fn compare(old: Option<&Value>, new: Option<&Value>, path: &str, name: &str, found: &mut Vec<Found>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            // The name of a variable says what its value is.
            let below = |key: &str| if key == "value" { name.to_owned() } else { key.to_owned() };
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}/{}", escaped(key));
                compare(old.get(key), new.get(key), &path, &below(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for at in 0..old.len().max(new.len()) {
                compare(old.get(at), new.get(at), &format!("{path}/{at}"), name, found);
            }
        }
        (old, new) => {
            found.push((path.to_owned(), old.map(|v| hidden(name, v)), new.map(|v| hidden(name, v))));
        }
    }
}

/// `value` without its secrets.
fn hidden(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let (name, rest) = text.split_once('=').unwrap_or((name, text));
            let secret = secret::reason(name, rest).is_some() || secret::by_form(text).is_some();
            if secret { HIDDEN.into() } else { value.clone() }
        }
        Value::Array(items) => items.iter().map(|item| hidden(name, item)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| {
                let name = if key == "value" { name } else { key };
                (key.clone(), hidden(name, value))
            })
            .collect(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn changes(old: &Value, new: &Value) -> Vec<(Part, String, String)> {
        Difference::between(old, new).changes.into_iter().map(|c| (c.part, c.name, c.path)).collect()
    }

    fn manifest(modules: Value, routes: Value, twin: Value) -> Value {
        let mut document = json!({"modulesContent": {
            "$edgeAgent": {DESIRED: {"schemaVersion": "1.1"}}, "$edgeHub": {DESIRED: {"schemaVersion": "1.1"}},
        }});
        let content = &mut document["modulesContent"];
        content["$edgeAgent"][DESIRED]["modules"] = modules;
        content["$edgeHub"][DESIRED]["routes"] = routes;
        content["m"][DESIRED] = twin;
        document
    }

    fn module(image: &str, options: &Value) -> Value {
        json!({"settings": {"image": image, "createOptions": options}})
    }

    #[test]
    fn it_tells_part_name_and_path() {
        let options = json!({"HostConfig": {"Devices": [1, 2]}});
        let old = manifest(
            json!({"m": module("a:1", &options), "gone": module("g:1", &json!({}))}),
            json!({"r": "FROM a"}),
            json!({"t": 1}),
        );
        let text = json!({"HostConfig": {"Devices": [1]}}).to_string();
        let new = manifest(
            json!({"m": module("a:2", &text.into())}),
            json!({"r": "FROM a", "s": "FROM b"}),
            json!({"t": {"u": 2}}),
        );
        let owned = |part, name: &str, path: &str| (part, name.to_owned(), path.to_owned());
        assert_eq!(
            changes(&old, &new),
            [
                owned(Part::Module, "gone", ""),
                owned(Part::Module, "m", "/settings/createOptions/HostConfig/Devices/1"),
                owned(Part::Module, "m", "/settings/image"),
                owned(Part::Route, "s", ""),
                owned(Part::Twin, "m", "/t"),
            ]
        );
        let table = Difference::between(&old, &new).to_string();
        assert!(
            table.contains("module gone") && table.contains("- g:1") && table.contains("a:1 → a:2"),
            "{table}"
        );
    }

    #[test]
    fn the_same_said_otherwise_is_no_difference() {
        let old = manifest(json!({"m": module("a", &json!({"A": 1, "B": 2}))}), json!({}), json!({}));
        let mut new = manifest(json!({"m": module("a", &json!("{\"B\":2,"))}), json!({}), json!({}));
        new["modulesContent"]["$edgeAgent"][DESIRED]["modules"]["m"]["settings"]["createOptions01"] =
            json!("\"A\":1}");
        assert_eq!(changes(&old, &new), []);
        assert_eq!(Difference::between(&old, &new).to_string(), "the manifests say the same");
        let layered = |options: Value| {
            json!({"content": {"modulesContent": {"$edgeAgent": {
            "properties.desired.modules.m": module("a", &options)}}}})
        };
        assert_eq!(changes(&layered(json!({"A": 1})), &layered(json!("{\"A\": 1}"))), []);
        assert_eq!(changes(&layered(json!({"A": 1})), &layered(json!({}))).len(), 1);
    }

    #[test]
    fn secrets_are_told_to_differ_and_not_shown() {
        let with = |secret: &str| {
            let mut document = manifest(
                json!({"m": {"env": {"DB_PASSWORD": {"value": secret}}, "settings": {"image": "a:1",
                    "createOptions": {"Env": [format!("API_KEY={secret}")]}}}}),
                json!({}),
                json!({}),
            );
            document["modulesContent"]["$edgeAgent"][DESIRED]["runtime"] = json!({"settings": {"registryCredentials": {"r": {"username": "u", "password": secret, "address": "a"}}}});
            document
        };
        let difference = Difference::between(&with("hunter1"), &with("hunter2"));
        assert_eq!(difference.changes.len(), 3);
        let told = format!("{difference}{}{difference:?}", serde_json::to_string(&difference).unwrap());
        assert!(!told.contains("hunter") && told.contains(HIDDEN), "{told}");
        let added = Difference::between(&manifest(json!({}), json!({}), json!({})), &with("hunter2"));
        assert!(!format!("{added:?}").contains("hunter"), "{added:?}");
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert!(matches!(Difference::read(b"{"), Err(ManifestError::Json(_))));
        assert!(matches!(Difference::read(b"{\"a\": 1}"), Err(ManifestError::NoContent)));
    }

    proptest! {
        #[test]
        fn a_manifest_does_not_differ_from_itself_and_a_change_is_found(a in "[a-d]{1,3}", b in "[e-h]{1,3}") {
            let one = manifest(json!({"m": module(&a, &json!({}))}), json!({}), json!({}));
            let other = manifest(json!({"m": module(&b, &json!({}))}), json!({}), json!({}));
            prop_assert!(changes(&one, &one).is_empty());
            prop_assert_eq!(changes(&one, &other).len(), 1);
        }
    }
}
