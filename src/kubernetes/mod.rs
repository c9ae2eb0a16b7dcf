//! A manifest as plain Kubernetes objects, for devices that run K3s and no IoT Edge.
//!
//! A module becomes a `Deployment`, or a `DaemonSet` where a label selects the devices, with its own `ServiceAccount`,
//! its settings in a `ConfigMap`, and a `Service` under its name, so that modules find each other as they do in Docker's
//! network. Secrets are named, never written. What Kubernetes would do otherwise than IoT Edge is told; what it cannot
//! express is an error.
//!
//! The rules follow the retired IoT Edge on Kubernetes (`edge-deployment-to-k8s-translations.md` of `Azure/iotedge`),
//! with its gaps closed: devices, limits, probes, start-up order, values that hold `=`, ports as containers listen on.

mod docker;
mod error;
mod name;
mod network;
mod storage;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mynah_contracts::iot_edge::{EdgeDeployment, EdgeModule};
use mynah_contracts::{Artifact as _, ModuleSet};
use serde_json::{Map, Value, json};

pub use error::KubernetesError;

use crate::manifest::Deployment;
use crate::manifest::Problem;
use crate::yaml;

/// How a module gets at devices of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DeviceAccess {
    /// By the resources of a device plugin (`squat.ai/<group>` of generic-device-plugin): no privileges.
    #[default]
    Plugin,
    /// By mounting the device's node: no privileges, but the node's container runtime must let it be opened.
    HostPath,
    /// By mounting the device's node in a privileged container.
    Privileged,
}

/// The name of a resource that a node offers through a device plugin, such as `akri.sh/camera`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtendedResource(String);

impl ExtendedResource {
    /// Nothing where the API server would refuse it: it needs a domain that is not Kubernetes' own
    /// (`IsExtendedResourceName` of the API's helpers).
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.contains('/')
            && !text.contains("kubernetes.io/")
            && !text.starts_with("requests.")
            && name::is_qualified(text);
        good.then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a module tells that it is well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpProbe {
    /// The port inside the container.
    pub port: u16,
    /// The path, such as `/healthz`.
    pub path: String,
}

/// What the manifest does not say about the cluster.
#[derive(Clone, Debug)]
pub struct Cluster<'a> {
    /// The namespace all objects are in.
    pub namespace: String,
    /// The label of the nodes that are devices; each of them then runs every module.
    pub node_label: Option<(String, String)>,
    /// How modules get at devices that no resource is named for.
    pub devices: DeviceAccess,
    /// The resources that stand for devices, by the device's path on the node.
    pub resources: BTreeMap<String, ExtendedResource>,
    /// Probes by module.
    pub probes: BTreeMap<String, HttpProbe>,
    /// The modules built here, whose platforms and rights are known.
    pub modules: &'a ModuleSet,
}

/// How objects are written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// YAML documents.
    Yaml,
    /// One JSON list.
    Json,
}

/// The objects, and what is to be said about them.
#[derive(Clone, PartialEq, Debug)]
pub struct Converted {
    /// The objects, in the order in which they are to be made: modules by their start-up order.
    pub objects: Vec<Value>,
    /// What is not as it was on IoT Edge.
    pub warnings: Vec<String>,
    /// What must be there before: secrets, device plugins.
    pub needs: Vec<String>,
}

/// Turns a whole manifest into objects.
///
/// # Errors
/// When it breaks a rule of the schema, is a layered deployment, or says something Kubernetes cannot express.
pub fn convert(manifest: &[u8], cluster: &Cluster<'_>) -> Result<Converted, KubernetesError> {
    // Tells every broken rule, and refuses layers; the types then hold.
    Deployment::read(manifest)?;
    let deployment: EdgeDeployment =
        serde_json::from_slice(manifest).map_err(|error| KubernetesError::Inconsistent(error.to_string()))?;
    deployment.validate().map_err(KubernetesError::Inconsistent)?;
    let mut writer = Writer {
        cluster,
        deployment: &deployment,
        objects: Vec::new(),
        volumes: BTreeMap::new(),
        devices: BTreeSet::new(),
        notes: Notes::default(),
    };
    writer.deployment();
    let Writer { objects, notes, devices, .. } = writer;
    if !notes.problems.is_empty() {
        return Err(KubernetesError::Inexpressible(notes.problems));
    }
    if let Some(device) = cluster.resources.keys().find(|device| !devices.contains(*device)) {
        return Err(KubernetesError::NoSuchDevice {
            device: device.clone(),
            there: devices.into_iter().collect(),
        });
    }
    Ok(Converted { objects, warnings: notes.warnings, needs: notes.needs })
}

/// Writes the objects down.
pub fn render(objects: &[Value], form: Form) -> Result<Vec<u8>, KubernetesError> {
    match form {
        Form::Yaml => Ok(yaml::to_string(objects).map_err(KubernetesError::Yaml)?.into_bytes()),
        Form::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            let mut bytes = serde_json::to_vec_pretty(&list).map_err(KubernetesError::Json)?;
            bytes.push(b'\n');
            Ok(bytes)
        }
    }
}

/// Whether what stands at this place of a manifest is written into the objects. The environment's secrets are not.
pub fn writes(pointer: &str) -> bool {
    let within = pointer.strip_prefix("/modulesContent/$edgeAgent/properties.desired/modules/");
    !within
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| rest.starts_with("env/") || rest.starts_with("settings/createOptions/Env/"))
}

/// Whether a text can be the name of a namespace: a DNS label (RFC 1123), at most 63 characters.
pub fn is_label(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c != '-');
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && ends(text.chars().next())
        && ends(text.chars().last())
}

/// A label of nodes from `<key>=<value>`; nothing where it cannot be one.
pub fn node_label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    (name::is_qualified(key) && name::is_label_value(value)).then(|| (key.to_owned(), value.to_owned()))
}

/// What is found on the way.
#[derive(Default)]
struct Notes {
    warnings: Vec<String>,
    needs: Vec<String>,
    problems: Vec<Problem>,
}

impl Notes {
    fn warn(&mut self, module: &str, what: impl fmt::Display) {
        self.warnings.push(format!("module `{module}`: {what}"));
    }

    fn need(&mut self, what: String) {
        if !self.needs.contains(&what) {
            self.needs.push(what);
        }
    }

    fn problem(&mut self, module: &str, place: &str, what: impl Into<String>) {
        let pointer = format!("/modulesContent/$edgeAgent/properties.desired/modules/{module}{place}");
        self.problems.push(Problem { pointer, what: what.into() });
    }
}

struct Writer<'a> {
    cluster: &'a Cluster<'a>,
    deployment: &'a EdgeDeployment,
    objects: Vec<Value>,
    /// The named volumes made so far: claim → volume.
    volumes: BTreeMap<String, String>,
    /// The devices that modules ask for.
    devices: BTreeSet<String>,
    notes: Notes,
}

impl Writer<'_> {
    fn deployment(&mut self) {
        let namespace = self.cluster.namespace.clone();
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels(None)},
        }));
        let deployment = self.deployment;
        let content = &deployment.modules_content;
        let mut modules: Vec<_> =
            content.agent.desired.modules.iter().map(|(name, module)| (name.as_str(), module)).collect();
        // IoT Edge starts those without a number last (its default is the largest).
        modules.sort_by_key(|(name, module)| (module.startup_order.unwrap_or(u32::MAX), *name));
        let mut taken = BTreeMap::new();
        for (name, module) in modules {
            let Some(label) = name::label(name) else {
                self.notes.problem(name, "", "has a name of which nothing is left as a DNS label");
                continue;
            };
            if let Some(other) = taken.insert(label.clone(), name) {
                self.notes.problem(name, "", format!("would be called `{label}`, as `{other}` is"));
                continue;
            }
            if label != name {
                self.notes.warn(name, format_args!("is called `{label}`: others must reach it by that name"));
            }
            self.module(name, &label, module);
        }
        if !content.hub.desired.routes.is_empty() {
            self.notes.warnings.push(
                "routes have no counterpart: there is no edgeHub, each module needs its own way to the hub"
                    .into(),
            );
        }
    }

    fn module(&mut self, name: &str, label: &str, module: &EdgeModule) {
        let text = module.settings.create_options_text();
        let text = if text.trim().is_empty() { "{}" } else { text.as_str() };
        match serde_json::from_str::<docker::CreateOptions>(text) {
            Ok(options) => workload::Workload { name, label, module, options: &options }.write(self),
            Err(error) => {
                self.notes.problem(name, "/settings/createOptions", format!("cannot be read: {error}"));
            }
        }
    }

    /// Adds an object of a module.
    fn object(&mut self, api: &str, kind: &str, name: &str, of: &str, body: Value) {
        let mut object = Map::new();
        object.insert("apiVersion".into(), api.into());
        object.insert("kind".into(), kind.into());
        object.insert(
            "metadata".into(),
            json!({"name": name, "namespace": self.cluster.namespace, "labels": labels(Some(of))}),
        );
        if let Value::Object(body) = body {
            object.extend(body);
        }
        self.objects.push(Value::Object(object));
    }
}

/// The labels of an object, of a module's where `module` is given.
fn labels(module: Option<&str>) -> Value {
    let mut labels = json!({"app.kubernetes.io/managed-by": "mynah", "app.kubernetes.io/part-of": "mynah"});
    if let Some(module) = module {
        labels["app.kubernetes.io/name"] = module.into();
    }
    labels
}

/// The label by which a module's pods are found.
fn selector(module: &str) -> Value {
    json!({"app.kubernetes.io/name": module, "app.kubernetes.io/part-of": "mynah"})
}

/// Sets `key` unless `value` says nothing.
fn set(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    if !docker::says_nothing(&value) {
        object.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
