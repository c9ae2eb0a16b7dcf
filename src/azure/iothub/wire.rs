//! What IoT Hub's service API (version 2021-04-12) says and takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A device in the hub's registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) connection_state: Option<String>,
    #[serde(default)]
    pub(super) capabilities: Capabilities,
}

impl Device {
    pub(super) fn is_disabled(&self) -> bool {
        self.status.as_deref() == Some("disabled")
    }

    pub(super) fn is_connected(&self) -> bool {
        is_connected(self.connection_state.as_deref())
    }
}

fn is_connected(state: Option<&str>) -> bool {
    state != Some("Disconnected")
}

/// What a device can do.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    #[serde(default)]
    pub(super) iot_edge: bool,
}

/// What is needed of a device's twin in a query's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceRow {
    pub(super) device_id: String,
    #[serde(default)]
    pub(super) connection_state: Option<String>,
    #[serde(default)]
    pub(super) capabilities: Capabilities,
}

impl DeviceRow {
    pub(super) fn is_connected(&self) -> bool {
        is_connected(self.connection_state.as_deref())
    }
}

/// A module's twin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModuleTwin {
    pub(super) device_id: String,
    #[serde(default)]
    pub(super) connection_state: Option<String>,
    pub(super) properties: Properties,
    /// The configurations that target it, where the hub says so.
    #[serde(default)]
    pub(super) configurations: BTreeMap<String, Standing>,
}

impl ModuleTwin {
    pub(super) fn is_connected(&self) -> bool {
        is_connected(self.connection_state.as_deref())
    }

    /// The automatic deployments that are in force.
    pub(super) fn applied(&self) -> impl Iterator<Item = &str> {
        self.configurations
            .iter()
            .filter(|(_, standing)| standing.status.as_deref() == Some("Applied"))
            .map(|(id, _)| id.as_str())
    }
}

/// How a configuration stands to a twin: `Targeted` or `Applied`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Standing {
    #[serde(default)]
    pub(super) status: Option<String>,
}

/// A twin's two halves.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Properties {
    #[serde(default)]
    pub(super) desired: Value,
    #[serde(default)]
    pub(super) reported: Value,
}

/// A configuration; here always an automatic deployment.
///
/// Its content may hold passwords of registries, so it has no `Debug`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema_version: Option<String>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) content: Value,
    #[serde(default)]
    pub(super) target_condition: Option<String>,
    #[serde(default)]
    pub(super) priority: i64,
    /// Not sent in a body: it goes into the header `If-Match`.
    #[serde(default, skip_serializing)]
    pub(super) etag: Option<String>,
}

/// What `testQueries` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tested {
    #[serde(default)]
    pub(super) target_condition_error: Option<String>,
}
