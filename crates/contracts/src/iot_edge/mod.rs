//! `deployment.json`: an Azure IoT Edge deployment manifest, whole (not layered).
//!
//! The form is that of the published schemas of edgeAgent 1.0 and 1.1 and of edgeHub 1.0 to 1.2; edgeHub 1.3, which has
//! no published schema, adds `integrity` (the runtime's source). Names and numbers are parsed, so that a value of these
//! types keeps every rule that does not depend on a version; [`Artifact::validate`] adds those that do.

mod names;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use crate::Artifact;
pub use names::{
    CreateOptionsKey, CreateOptionsPiece, EnvName, ModuleName, NonEmpty, PlainName, Priority, Unspaced,
};

/// The whole document.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeDeployment {
    /// The desired properties of the runtime and of the modules.
    pub modules_content: ModulesContent,
}

/// Desired properties by module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ModulesContent {
    /// Which modules run, and how.
    #[serde(rename = "$edgeAgent")]
    pub agent: ModuleTwin<AgentDesired>,
    /// How messages travel between them.
    #[serde(rename = "$edgeHub")]
    pub hub: ModuleTwin<HubDesired>,
    /// What each module is told.
    #[serde(flatten)]
    pub twins: BTreeMap<ModuleName, ModuleTwin<Map<String, Value>>>,
}

/// The desired side of a module's twin.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleTwin<T> {
    /// The desired properties.
    #[serde(rename = "properties.desired")]
    pub desired: T,
}

/// What the agent is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentDesired {
    /// The form's version.
    pub schema_version: AgentSchema,
    /// The container engine.
    pub runtime: EdgeRuntime,
    /// IoT Edge's own modules.
    pub system_modules: SystemModules,
    /// All others, by name.
    pub modules: BTreeMap<ModuleName, EdgeModule>,
}

/// Versions of the agent's properties.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum AgentSchema {
    /// The first.
    #[serde(rename = "1.0")]
    V1_0,
    /// Adds `startupOrder`.
    #[serde(rename = "1.1")]
    V1_1,
}

/// Versions of the hub's properties.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum HubSchema {
    /// The first.
    #[serde(rename = "1.0")]
    V1_0,
    /// Adds routes with a priority and a time to live.
    #[serde(rename = "1.1")]
    V1_1,
    /// Adds `mqttBroker`.
    #[serde(rename = "1.2")]
    V1_2,
    /// Adds `integrity`.
    #[serde(rename = "1.3")]
    V1_3,
}

/// The only kind of module and engine there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// A container.
    Docker,
}

/// The container engine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeRuntime {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: ModuleKind,
    /// How it is used.
    pub settings: RuntimeSettings,
}

/// How the container engine is used.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeSettings {
    /// The least version, such as `v1.25`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub min_docker_version: Option<String>,
    /// The engine's logging options.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub logging_options: Option<String>,
    /// How to sign in to registries, by a name of one's own.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<PlainName, RegistryCredentials>")]
    pub registry_credentials: Option<BTreeMap<PlainName, RegistryCredentials>>,
}

/// How to sign in to a registry. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The user.
    pub username: String,
    /// The password, in clear.
    pub password: String,
    /// The registry's host, and port where it is not the usual one.
    pub address: Unspaced,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredentials").field("address", &self.address).finish_non_exhaustive()
    }
}

/// IoT Edge's own modules.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemModules {
    /// Starts the others; it cannot be stopped or ordered.
    pub edge_agent: EdgeAgentModule,
    /// Carries messages.
    pub edge_hub: EdgeHubModule,
}

/// The agent as a module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeAgentModule {
    /// What kind of module.
    #[serde(rename = "type")]
    pub kind: ModuleKind,
    /// The image and how it is started.
    pub settings: ModuleSettings,
    /// Its environment.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Environment")]
    pub env: Option<Environment>,
    /// When the image is pulled.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,
}

/// The hub as a module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeHubModule {
    /// What kind of module.
    #[serde(rename = "type")]
    pub kind: ModuleKind,
    /// Whether it is to run.
    pub status: ModuleStatus,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// The image and how it is started.
    pub settings: ModuleSettings,
    /// Its environment.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Environment")]
    pub env: Option<Environment>,
    /// When the image is pulled.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Lower ones start first.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 4_294_967_295_u32))]
    pub startup_order: Option<u32>,
}

/// A module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeModule {
    /// A version for people.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub version: Option<String>,
    /// What kind of module.
    #[serde(rename = "type")]
    pub kind: ModuleKind,
    /// Whether it is to run.
    pub status: ModuleStatus,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// The image and how it is started.
    pub settings: ModuleSettings,
    /// Its environment.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Environment")]
    pub env: Option<Environment>,
    /// When the image is pulled.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Lower ones start first.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 4_294_967_295_u32))]
    pub startup_order: Option<u32>,
}

/// Whether a module is to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModuleStatus {
    /// It is.
    Running,
    /// It is not.
    Stopped,
}

/// When a module is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// When it ended with a failure.
    OnFailure,
    /// When it ended with a failure or its health check says so.
    OnUnhealthy,
    /// Whenever it ended.
    Always,
}

impl RestartPolicy {
    /// As the manifest writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::OnUnhealthy => "on-unhealthy",
            Self::Always => "always",
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePullPolicy {
    /// When the container is created.
    OnCreate,
    /// Never: it is on the device already.
    Never,
}

/// The image, and what Docker is told when it creates the container.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ModuleSettings {
    /// The image's reference.
    pub image: Unspaced,
    /// `createOptions`, `createOptions01` …: JSON text in pieces of at most 512 characters.
    #[serde(flatten)]
    pub create_options: BTreeMap<CreateOptionsKey, CreateOptionsPiece>,
}

impl ModuleSettings {
    /// The pieces put together, in their order; empty where there are none.
    pub fn create_options_text(&self) -> String {
        let mut pieces: Vec<_> =
            self.create_options.iter().map(|(key, piece)| (key.number(), piece)).collect();
        pieces.sort_by_key(|(number, _)| *number);
        pieces.into_iter().map(|(_, piece)| piece.as_str()).collect()
    }
}

/// Environment variables by name.
pub type Environment = BTreeMap<EnvName, EnvEntry>;

/// An environment variable's value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvEntry {
    /// The value.
    pub value: EnvValue,
}

/// What an environment variable may be set to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    /// Text.
    Text(String),
    /// A number.
    Number(Number),
    /// True or false.
    Bool(bool),
}

impl fmt::Display for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(bool) => bool.fmt(f),
        }
    }
}

/// What the hub is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubDesired {
    /// The form's version.
    pub schema_version: HubSchema,
    /// Where messages go, by a name of one's own.
    pub routes: BTreeMap<PlainName, Route>,
    /// How long messages are kept while there is no connection.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StoreAndForward")]
    pub store_and_forward_configuration: Option<StoreAndForward>,
    /// The broker's bridges and authorizations, since 1.2.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub mqtt_broker: Option<Map<String, Value>>,
    /// The signature over these properties, since 1.3.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub integrity: Option<Map<String, Value>>,
}

/// Where messages go.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Route {
    /// The route alone.
    Text(NonEmpty),
    /// With a priority and a time to live, since 1.1.
    Detailed(DetailedRoute),
}

/// A route with how it is treated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DetailedRoute {
    /// The route, such as `FROM /messages/* INTO $upstream`.
    pub route: NonEmpty,
    /// 0, the most urgent, to 9.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Priority")]
    pub priority: Option<Priority>,
    /// Seconds after which an unsent message is dropped.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 4_294_967_295_u32))]
    pub time_to_live_secs: Option<u32>,
}

/// How long messages are kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreAndForward {
    /// Seconds; a negative number means without end.
    pub time_to_live_secs: i64,
}

/// A field that may be left out, but not be `null`, which an `Option` alone would let pass.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Artifact for EdgeDeployment {
    const FILE: &'static str = "deployment.json";

    fn validate(&self) -> Result<(), String> {
        let agent = &self.modules_content.agent.desired;
        let ordered = agent.system_modules.edge_hub.startup_order.is_some()
            || agent.modules.values().any(|module| module.startup_order.is_some());
        if ordered && agent.schema_version < AgentSchema::V1_1 {
            return Err("`startupOrder` needs the edgeAgent's schemaVersion 1.1".into());
        }
        let hub = &self.modules_content.hub.desired;
        let detailed = hub.routes.values().any(|route| matches!(route, Route::Detailed(_)));
        for (there, least, what) in [
            (detailed, HubSchema::V1_1, "a route that is an object needs the edgeHub's schemaVersion 1.1"),
            (
                hub.mqtt_broker.is_some(),
                HubSchema::V1_2,
                "`mqttBroker` needs the edgeHub's schemaVersion 1.2",
            ),
            (hub.integrity.is_some(), HubSchema::V1_3, "`integrity` needs the edgeHub's schemaVersion 1.3"),
        ] {
            if there && hub.schema_version < least {
                return Err(what.into());
            }
        }
        Ok(())
    }
}
