//! `deployment-record.json`: what was deployed where, and that it was seen running.

use serde::{Deserialize, Serialize};

use crate::{Artifact, Platform, RelativePath, SchemaVersion, Sha256Digest, Tool};

/// A finished deployment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// Who wrote it.
    pub tool: Tool,
    /// Where to.
    pub target: DeployTarget,
    /// The SHA-256 of the deployment manifest.
    pub manifest: Sha256Digest,
    /// When it began, RFC 3339.
    pub started: String,
    /// When the device was seen healthy, RFC 3339.
    pub healthy: String,
    /// What runs there.
    pub modules: Vec<DeployedModule>,
    /// The device's sightings below the record's folder, where the target is local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sightings: Option<RelativePath>,
    /// What was done at the hub, where the target is IoT Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubDeployment>,
    /// What was done in the cluster, where the target is Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterDeployment>,
}

/// A deployment to a Kubernetes cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDeployment {
    /// The API server: scheme, host and port.
    pub server: String,
    /// The namespace that is deployed to.
    pub namespace: String,
    /// The label of the nodes that had to run it first, `<key>=<value>`, where there were some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// Whether anything was changed in the cluster; otherwise all was there already.
    pub changed: bool,
    /// The pods that were seen ready.
    pub pods: Vec<DeployedPod>,
    /// What the manifest no longer has and was deleted, as `<kind> <name>`.
    pub pruned: Vec<String>,
}

/// A pod that was seen ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedPod {
    /// Its name.
    pub name: String,
    /// The Deployment or DaemonSet it belongs to.
    pub workload: String,
    /// The node it runs on.
    pub node: String,
    /// The model it reported, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Sha256Digest>,
}

/// A deployment through IoT Hub.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubDeployment {
    /// The hub's host.
    pub host: String,
    /// Which devices, where it is an automatic deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_condition: Option<String>,
    /// The id of the configuration, where it is an automatic deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The configurations it replaced.
    pub retired: Vec<String>,
    /// Whether anything was changed at the hub; otherwise all was there already.
    pub changed: bool,
    /// The devices that reported that they run it.
    pub running: Vec<String>,
    /// The devices that were not connected; they get it when they are.
    pub offline: Vec<String>,
}

/// Where a deployment goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeployTarget {
    /// The runtime on this machine.
    Local,
    /// Azure IoT Hub.
    IotHub,
    /// A Kubernetes cluster.
    Kubernetes,
}

/// One deployed module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedModule {
    /// Its name in the manifest.
    pub name: String,
    /// Its image, pinned by digest.
    pub image: String,
    /// The platform that runs, where all devices have the same and reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The model it reported, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Sha256Digest>,
}

impl Artifact for DeploymentRecord {
    const FILE: &'static str = "deployment-record.json";
}
