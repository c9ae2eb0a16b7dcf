//! Objects of a manifest, and where the API has their kind.

use std::fmt;
use std::fs;
use std::path::Path;

use mynah_contracts::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ClusterError;

/// The largest file that is read.
const LARGEST: u64 = 8 << 20;

/// Which object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) api: String,
    pub(super) kind: String,
    /// Absent for what belongs to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Key {
    /// The key of an object; what it lacks where it has none.
    pub(super) fn of(object: &Value) -> Result<Self, String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let api = text("/apiVersion").ok_or("an object has no `apiVersion`")?;
        let kind = text("/kind").ok_or("an object has no `kind`")?;
        let name = text("/metadata/name").ok_or_else(|| format!("a {} has no name", kind.escape_debug()))?;
        let plain = |text: &str| {
            !text.is_empty()
                && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
                && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\`\"".contains(&b))
        };
        if !plain(&api) || api.matches('/').count() > 1 || !plain(&kind) || !plain(&name) {
            return Err(format!("`{}` is no name of an object", name.escape_debug()));
        }
        Ok(Self { api, kind, namespace: text("/metadata/namespace"), name })
    }

    pub(super) fn is_workload(&self) -> bool {
        self.api == "apps/v1" && matches!(self.kind.as_str(), "Deployment" | "DaemonSet")
    }

    /// Whether it takes the place of a workload of the other kind.
    pub(super) fn succeeds(&self, other: &Self) -> bool {
        self.is_workload()
            && self.kind != other.kind
            && self.name == other.name
            && self.namespace == other.namespace
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.is_workload() && self.kind == "DaemonSet"
    }

    /// Whether deleting it would delete what cannot be made again.
    pub(super) fn holds_data(&self) -> bool {
        self.api == "v1"
            && matches!(self.kind.as_str(), "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
    }
}

/// An object with its key.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) value: Value,
}

impl Object {
    pub(super) fn new(value: Value) -> Result<Self, String> {
        Ok(Self { key: Key::of(&value)?, value })
    }

    /// The model its pods are to run.
    pub(super) fn model(&self) -> Option<Sha256Digest> {
        let annotations = self.value.pointer("/spec/template/metadata/annotations")?;
        annotations.get(super::MODEL_ANNOTATION)?.as_str()?.parse().ok()
    }

    /// The port at which its pods answer over HTTP: that of the readiness probe.
    pub(super) fn port(&self) -> Option<u64> {
        let containers = self.value.pointer("/spec/template/spec/containers")?.as_array()?;
        containers.iter().find_map(|container| container.pointer("/readinessProbe/httpGet/port")?.as_u64())
    }

    /// Module and image of each container.
    pub(super) fn images(&self) -> Vec<(&str, &str)> {
        let containers = self.value.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        containers
            .into_iter()
            .flatten()
            .filter_map(|container| {
                Some((container.get("name")?.as_str()?, container.get("image")?.as_str()?))
            })
            .collect()
    }
}

/// The objects of a file, in its order.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub(super) objects: Vec<Object>,
    namespace: String,
    digest: Sha256Digest,
}

impl Manifest {
    /// Reads what `generate-manifest --format kubernetes` wrote: YAML documents, or a JSON list.
    ///
    /// # Errors
    /// When the file cannot be read, holds something else, a secret, or one object twice.
    pub fn read(path: &Path) -> Result<Self, ClusterError> {
        let io = |source| ClusterError::Io { path: path.to_owned(), source };
        let refused = |why: String| ClusterError::Manifest { path: path.to_owned(), why };
        let length = fs::metadata(path).map_err(io)?.len();
        if length > LARGEST {
            return Err(refused(format!("it has {length} bytes, at most {LARGEST} are read")));
        }
        let bytes = fs::read(path).map_err(io)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not UTF-8".into()))?;
        let (objects, namespace) = parse(text).map_err(refused)?;
        Ok(Self { objects, namespace, digest: Sha256Digest::of(&bytes) })
    }

    /// The SHA-256 of the file.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The namespace of all Deployments and DaemonSets.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Module and image of every container.
    pub fn images(&self) -> Vec<(&str, &str)> {
        self.objects.iter().filter(|object| object.key.is_workload()).flat_map(Object::images).collect()
    }
}

/// The objects, and the namespace of the workloads among them.
fn parse(text: &str) -> Result<(Vec<Object>, String), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents: Vec<Value> = if text.trim_start().starts_with('{') {
        vec![serde_json::from_str(text).map_err(|error| error.to_string())?]
    } else {
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?
    };
    let mut objects: Vec<Object> = Vec::new();
    for document in documents {
        if document.is_null() {
            continue;
        }
        if document.get("modulesContent").is_some() {
            return Err("it is a manifest for IoT Edge".into());
        }
        let items = match document.get("items") {
            Some(Value::Array(items)) if document["kind"] == "List" => items.clone(),
            _ => vec![document],
        };
        for item in items {
            let object = Object::new(item)?;
            if object.key.api == "v1" && object.key.kind == "Secret" {
                return Err(format!("{} would be kept in clear; create it with kubectl", object.key));
            }
            if objects.iter().any(|other| other.key == object.key) {
                return Err(format!("{} is there twice", object.key));
            }
            objects.push(object);
        }
    }
    let mut namespaces = objects.iter().filter(|object| object.key.is_workload());
    let Some(first) = namespaces.next() else {
        return Err("there is no Deployment and no DaemonSet of `apps/v1` in it".into());
    };
    let namespace = first.key.namespace.clone().ok_or_else(|| format!("{} has no namespace", first.key))?;
    if let Some(other) = namespaces.find(|object| object.key.namespace.as_ref() != Some(&namespace)) {
        return Err(format!("{} is in another namespace than {}", other.key, first.key));
    }
    Ok((objects, namespace))
}

/// Where the API has a kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Resource {
    pub(super) api: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
}

/// The kinds that `generate-manifest` writes: no cluster is without them.
const KNOWN: [(&str, &str, &str, bool); 8] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Service", "services", true),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "Pod", "pods", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
];

impl Resource {
    /// One of the kinds that need not be looked up.
    pub(super) fn known(api: &str, kind: &str) -> Option<Self> {
        KNOWN.iter().find(|known| known.0 == api && known.1 == kind).map(|(api, _, plural, namespaced)| {
            Self { api: (*api).into(), plural: (*plural).into(), namespaced: *namespaced }
        })
    }

    /// The group, empty for the core's.
    pub(super) fn group(&self) -> &str {
        self.api.split_once('/').map_or("", |(group, _)| group)
    }

    /// The segments of the path of all objects of this kind.
    pub(super) fn path(&self, namespace: Option<&str>) -> Vec<String> {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        let mut path: Vec<String> = vec![root.into()];
        path.extend(self.api.split('/').map(str::to_owned));
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.extend(["namespaces".to_owned(), namespace.to_owned()]);
        }
        path.push(self.plural.clone());
        path
    }
}

/// What a server adds to an object, taken off: what is left can be applied again.
pub(super) fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(all) = object.as_object_mut() {
        all.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for added in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "generation",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "ownerReferences",
            "finalizers",
        ] {
            metadata.remove(added);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("deployment.kubernetes.io/revision");
            annotations.remove("deprecated.daemonset.template.generation");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

/// Where two objects differ: a JSON Pointer (RFC 6901) and both values, `null` where there is none.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                let none = Value::Null;
                compare(&at, before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none), found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{at}/{index}"), before, after, found);
            }
        }
        _ if old == new => {}
        _ => found.push((at.to_owned(), old.clone(), new.clone())),
    }
}

/// The same DaemonSet, for the nodes with this label alone.
pub(super) fn narrowed(daemon: &Value, (key, value): (&str, &str)) -> Value {
    let mut daemon = daemon.clone();
    daemon["spec"]["template"]["spec"]["nodeSelector"][key] = value.into();
    daemon
}

/// The same DaemonSet, whose pods stay as they are until someone deletes them.
pub(super) fn on_delete(daemon: &Value) -> Value {
    let mut daemon = daemon.clone();
    daemon["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    daemon
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: mynah\n---\n\
                        apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: eye\n  namespace: mynah\n";

    #[test]
    fn yaml_and_a_json_list_mean_the_same() {
        let (yaml, namespace) = parse(YAML).unwrap();
        assert_eq!(namespace, "mynah");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": yaml.iter().map(|o| o.value.clone()).collect::<Vec<_>>()});
        assert_eq!(parse(&list.to_string()).unwrap().0, yaml);
        assert_eq!(yaml[1].key.to_string(), "Deployment eye");
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let secret = format!("{YAML}---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n");
        let twice = format!("{YAML}---\n{}", YAML.split("---\n").nth(2).unwrap());
        let path = YAML.replace("name: eye", "name: ../../nodes");
        for (text, says) in [
            ("", "no Deployment"),
            ("{\"modulesContent\": {}}", "IoT Edge"),
            ("{", "EOF"),
            ("a: [", "line"),
            ("apiVersion: v1\nkind: Pod\n", "no name"),
            (&secret, "in clear"),
            (&twice, "twice"),
            (&path, "no name of an object"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn paths_follow_the_group_and_the_scope() {
        let deployment = Resource::known("apps/v1", "Deployment").unwrap();
        assert_eq!(deployment.path(Some("mynah")).join("/"), "apis/apps/v1/namespaces/mynah/deployments");
        let namespace = Resource::known("v1", "Namespace").unwrap();
        assert_eq!(namespace.path(Some("mynah")).join("/"), "api/v1/namespaces");
        assert_eq!((deployment.group(), namespace.group()), ("apps", ""));
    }

    #[test]
    fn differences_are_told_where_they_are() {
        let (old, new) =
            (json!({"a": {"b/c": 1, "d": [1, 2]}}), json!({"a": {"b/c": 2, "d": [1, 3]}, "e": true}));
        let told: Vec<String> = differences(&old, &new).into_iter().map(|(at, ..)| at).collect();
        assert_eq!(told, ["/a/b~1c", "/a/d/1", "/e"]);
        assert_eq!(differences(&old, &old), []);
    }
}
