//! The part of Docker's container options (`ContainerCreate` of the Engine API 1.41) that Kubernetes can express.
//!
//! What is not named here lands in `rest` and is told, so that nothing is dropped without a word.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};

/// Options of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateOptions {
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Words>,
    pub(super) cmd: Option<Words>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) exposed_ports: Option<Map<String, Value>>,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) stop_timeout: Option<u32>,
    pub(super) host_config: Option<HostConfig>,
    /// Wishes for Kubernetes that other agents pass over.
    #[serde(rename = "k8s-experimental")]
    pub(super) kubernetes: Option<Extension>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// How the container meets the host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    pub(super) binds: Option<Vec<String>>,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) tmpfs: Option<BTreeMap<String, String>>,
    pub(super) devices: Option<Vec<Device>>,
    pub(super) port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    #[serde(deserialize_with = "boolean")]
    pub(super) privileged: bool,
    pub(super) network_mode: Option<String>,
    pub(super) pid_mode: Option<String>,
    pub(super) ipc_mode: Option<String>,
    pub(super) cap_add: Option<Vec<String>>,
    pub(super) cap_drop: Option<Vec<String>>,
    pub(super) group_add: Option<Vec<String>>,
    /// Bytes; 0 means no limit.
    #[serde(deserialize_with = "number")]
    pub(super) memory: Option<u64>,
    /// Bytes; 0 means none.
    #[serde(deserialize_with = "number")]
    pub(super) memory_reservation: Option<u64>,
    /// 10⁻⁹ of a processor; 0 means no limit.
    #[serde(deserialize_with = "number")]
    pub(super) nano_cpus: Option<u64>,
    #[serde(deserialize_with = "boolean")]
    pub(super) readonly_rootfs: bool,
    /// `name:address`.
    pub(super) extra_hosts: Option<Vec<String>>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// A command, as one text or as words.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words.iter().map(String::as_str).collect(),
        }
    }
}

/// A mount in the long form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: String,
    pub(super) target: String,
    #[serde(default)]
    pub(super) read_only: bool,
}

/// A device of the host.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Device {
    pub(super) path_on_host: String,
    #[serde(default)]
    pub(super) path_in_container: String,
}

/// Where a port is opened on the host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PortBinding {
    pub(super) host_port: Option<Port>,
    pub(super) host_ip: Option<String>,
}

/// A port, as text or as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(u16),
    Text(String),
}

/// How Docker asks a container whether it is well. Times are nanoseconds; 0 means Docker's default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Healthcheck {
    pub(super) test: Vec<String>,
    pub(super) interval: u64,
    pub(super) timeout: u64,
    pub(super) retries: u32,
    pub(super) start_period: u64,
}

/// What the retired IoT Edge on Kubernetes read besides, by the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Extension {
    pub(super) resources: Option<Map<String, Value>>,
    pub(super) node_selector: Option<Map<String, Value>>,
    pub(super) security_context: Option<Map<String, Value>>,
    pub(super) service_options: Option<Map<String, Value>>,
    pub(super) strategy: Option<Map<String, Value>>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// True or false, also as text: edgeAgent reads both.
fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(D::Error::custom(format_args!("{other} is neither true nor false"))),
    }
}

/// A whole number, also as text: edgeAgent reads both.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    number.map(Some).ok_or_else(|| D::Error::custom(format_args!("{value} is no whole number")))
}

/// Whether a value says nothing: Docker writes all of its fields out.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) => false,
    }
}
