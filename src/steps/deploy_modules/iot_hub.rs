//! The target `iot-hub`: who signs in, what is deployed, what is written about it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{
    Artifact as _, DeployTarget, DeployedModule, DeploymentRecord, Diagnosis, Fault, FaultKind,
    HubDeployment, SchemaVersion, Sha256Digest, Tool, to_json,
};

use super::{deployment, wait};
use crate::agent::{Connection, ConnectionError, Env, Inputs};
use crate::azure::auth::TokenSource;
use crate::azure::iothub::{
    Arrived, Content, Credential, DeviceDeployment, FleetDeployment, Hub, HubAddress, HubError, Others,
    Patience, RegistryCredentials, connection_string,
};
use crate::http::{Client, Policy, block_on};
use crate::manifest::{Deployment, ManifestError};
use crate::secret::Secret;
use crate::staging;
use crate::step::{Context, Outcome};

/// Where a connection string is looked for: a task's input, and the variable that other tools for hubs read.
const CONNECTION_STRING: [&str; 2] = ["INPUT_HUBCONNECTIONSTRING", "IOTHUB_CONNECTION_STRING"];

/// The user with which devices pull images.
const PULL_USER: &str = "MYNAH_PULL_USER";

/// Its password, or a token in its place.
const PULL_PASSWORD: &str = "MYNAH_PULL_PASSWORD";

/// What a connection string begins with.
const HOST_NAME: &str = "hostname=";

/// A deployment through a hub.
#[derive(Debug)]
pub(super) struct HubPlan {
    hub: Option<HubAddress>,
    connection: Option<String>,
    registry_connection: Option<String>,
    to: To,
    wait: Duration,
}

/// Which devices.
#[derive(Debug)]
enum To {
    Device { id: String, others: Others },
    Fleet { condition: String, name: String, priority: u32, layered: bool },
}

impl fmt::Display for HubPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Device { id, others } => {
                writeln!(f, "to the device `{id}`")?;
                match others {
                    Others::Keep => writeln!(f, "beside its other modules")?,
                    Others::Remove => writeln!(f, "in the place of all its modules")?,
                    Others::Refuse => writeln!(f, "if it has no other modules")?,
                }
            }
            To::Fleet { condition, name, priority, layered } => {
                let kind = if *layered { "layered" } else { "automatic" };
                writeln!(f, "to all devices with `{condition}`")?;
                writeln!(f, "as the {kind} deployment `{name}` with priority {priority}")?;
            }
        }
        match &self.hub {
            Some(hub) => writeln!(f, "of the hub {}", hub.host())?,
            None => writeln!(f, "of the hub that the connection string names")?,
        }
        writeln!(f, "wait up to {} s until they run it", self.wait.as_secs())
    }
}

/// Why a hub cannot be deployed to, before it is spoken to.
#[derive(Debug, thiserror::Error)]
enum HubPlanError {
    #[error("cannot read the manifest `{path}`", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` cannot be deployed", path = path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
    #[error("no hub is named")]
    NoHub,
    #[error("`--hub` names {named}, the connection string {signed}")]
    TwoHubs { named: String, signed: String },
    #[error("the credentials to pull images belong to no registry: the manifest has images of `{}`", .0.join("`, `"))]
    WhichRegistry(Vec<String>),
    #[error("{PULL_USER} and {PULL_PASSWORD} belong together, one of them is missing")]
    HalfUser,
}

impl Diagnosis for HubPlanError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "give --manifest the file that generate-manifest wrote".into(),
            Self::Manifest { source, .. } => return source.hint(),
            Self::NoHub => "give --hub, or a connection string in IOTHUB_CONNECTION_STRING".into(),
            Self::TwoHubs { .. } => "leave out --hub, or use the connection string of that hub".into(),
            Self::WhichRegistry(_) => {
                "name the registry in the manifest's registryCredentials, with an empty password".into()
            }
            Self::HalfUser => "set both, or neither".into(),
        })
    }
}

impl HubPlan {
    pub(super) fn new(inputs: &Inputs) -> Result<Self, Fault> {
        let (merge, replace) = (inputs.switch("merge")?, inputs.switch("replace")?);
        let to = match (inputs.text("device")?, inputs.text("targetCondition")?) {
            (Some(id), None) => {
                let others = match (merge, replace) {
                    (true, true) => {
                        return Err(inputs.refused("replace", "true", "one of --merge and --replace").into());
                    }
                    (true, false) => Others::Keep,
                    (false, true) => Others::Remove,
                    (false, false) => Others::Refuse,
                };
                To::Device { id: id.to_owned(), others }
            }
            (None, Some(condition)) => {
                let name = deployment(inputs)?;
                To::Fleet {
                    condition: condition.to_owned(),
                    name: name.to_owned(),
                    priority: inputs.integer("priority")?.and_then(|p| u32::try_from(p).ok()).unwrap_or(10),
                    layered: merge,
                }
            }
            (given, _) => {
                let allowed = "one of --device and --target-condition";
                return Err(inputs.refused("device", given.unwrap_or_default(), allowed).into());
            }
        };
        Ok(Self {
            hub: inputs.text("hub")?.map(HubAddress::parse).transpose()?,
            connection: inputs.text("connection")?.map(str::to_owned),
            registry_connection: inputs.text("registryConnection")?.map(str::to_owned),
            to,
            wait: wait(inputs)?.unwrap_or(Duration::from_mins(10)),
        })
    }

    pub(super) fn preview(&self, manifest: &Path, context: &Context<'_>) -> Result<String, Fault> {
        let (content, _) = self.content(manifest, context.env)?;
        let hub = self.sign_in(context.env)?;
        let patience = Patience::of(self.wait);
        let text = block_on(context.monitor, async {
            match self.deployment(&hub, &content, patience) {
                Deploy::Device(device) => device.preview().await,
                Deploy::Fleet(fleet) => fleet.preview().await,
            }
        })?;
        Ok(text)
    }

    pub(super) fn run(&self, manifest: &Path, out: &Path, context: &Context<'_>) -> Result<Outcome, Fault> {
        let (content, digest) = self.content(manifest, context.env)?;
        let hub = self.sign_in(context.env)?;
        let started = (context.now)().to_string();
        let out = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
        let file = out.join(DeploymentRecord::FILE);
        let patience = Patience::of(self.wait);
        let arrived = block_on(context.monitor, async {
            match self.deployment(&hub, &content, patience) {
                Deploy::Device(device) => device.deploy(context.monitor).await,
                Deploy::Fleet(fleet) => fleet.deploy(context.monitor).await,
            }
        });
        let arrived = match arrived {
            Err(error @ HubError::NotRunning { .. }) => {
                // An earlier record would look like this deployment's.
                let _ = fs::remove_file(&file);
                return Err(error.into());
            }
            arrived => arrived?,
        };
        let record =
            self.record(&arrived, &content, digest, hub.host(), started, (context.now)().to_string());
        staging::write_file(&file, &to_json(&record))?;
        let mut variables =
            vec![("record", file.display().to_string()), ("changed", arrived.changed.to_string())];
        variables.extend(arrived.configuration.clone().map(|id| ("configuration", id)));
        Ok(Outcome { headline: headline(&arrived, hub.host()), variables, ..Outcome::default() })
    }

    /// The manifest with what devices need to pull its images, and its digest without that.
    fn content(&self, manifest: &Path, env: &Env) -> Result<(Content, Sha256Digest), Fault> {
        let bytes =
            fs::read(manifest).map_err(|source| HubPlanError::Io { path: manifest.to_owned(), source })?;
        let refused = |source| HubPlanError::Manifest { path: manifest.to_owned(), source };
        let document = Deployment::document(&bytes).map_err(refused)?;
        let mut content = Content::of_manifest(&document);
        if let Some(credentials) = self.registry(&content, env)? {
            content.bind(&credentials);
        }
        for address in content.without_password() {
            tracing::warn!(
                "the manifest has no password for the registry `{}`: devices pull from it only if they have one",
                address.escape_debug()
            );
        }
        for (name, wanted) in content.modules() {
            if registry_of(&wanted.image).is_some_and(|registry| registry.starts_with("localhost")) {
                tracing::warn!(
                    "the image of `{name}` is `{}`: devices look for it on themselves; push it to a registry with build-modules --push",
                    wanted.image
                );
            }
        }
        Ok((content, Sha256Digest::of(&bytes)))
    }

    /// The user with which devices pull images.
    fn registry(&self, content: &Content, env: &Env) -> Result<Option<RegistryCredentials>, Fault> {
        if let Some(id) = &self.registry_connection {
            let connection = Connection::read(env, id)?;
            let missing = || ConnectionError::Missing { id: id.clone(), key: "USERNAME" };
            let username = connection.data("USERNAME").ok_or_else(missing)?.to_owned();
            let password = connection.required("PASSWORD")?.clone();
            let address = match connection.data("REGISTRY").or(connection.url()) {
                Some(address) => host_of(address),
                None => the_registry(content)?,
            };
            return Ok(Some(RegistryCredentials { address, username, password }));
        }
        match (env.get(PULL_USER), env.get(PULL_PASSWORD)) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some(RegistryCredentials {
                address: the_registry(content)?,
                username: user.to_owned(),
                password: Secret::new(password),
            })),
            _ => Err(HubPlanError::HalfUser.into()),
        }
    }

    fn sign_in(&self, env: &Env) -> Result<Hub, Fault> {
        let client = Client::new(Policy::default())?;
        let given = match &self.connection {
            Some(id) => {
                let connection = Connection::read(env, id)?;
                let is_string =
                    |secret: &&Secret| secret.expose().to_ascii_lowercase().starts_with(HOST_NAME);
                ["PASSWORD", "APITOKEN"]
                    .iter()
                    .find_map(|key| connection.parameter(key))
                    .filter(is_string)
                    .cloned()
            }
            None => CONNECTION_STRING
                .iter()
                .find_map(|name| env.get(name))
                .filter(|text| !text.starts_with("$("))
                .map(Secret::new),
        };
        if let Some(text) = given {
            let (address, key) = connection_string(&text)?;
            if let Some(named) = self.hub.as_ref().filter(|named| **named != address) {
                let (named, signed) = (named.host().to_owned(), address.host().to_owned());
                return Err(HubPlanError::TwoHubs { named, signed }.into());
            }
            return Ok(Hub::new(client, address, Credential::SharedKey(key)));
        }
        let address = self.hub.clone().ok_or(HubPlanError::NoHub)?;
        let source = TokenSource::discover(env, &client, self.connection.as_deref())?;
        Ok(Hub::new(client, address, Credential::Identity(source)))
    }

    fn deployment<'a>(&'a self, hub: &'a Hub, content: &'a Content, patience: Patience) -> Deploy<'a> {
        match &self.to {
            To::Device { id, others } => {
                Deploy::Device(DeviceDeployment { hub, device: id, content, others: *others, patience })
            }
            To::Fleet { condition, name, priority, layered } => Deploy::Fleet(FleetDeployment {
                hub,
                name,
                condition,
                priority: *priority,
                content,
                layered: *layered,
                patience,
            }),
        }
    }

    fn record(
        &self,
        arrived: &Arrived,
        content: &Content,
        manifest: Sha256Digest,
        host: &str,
        started: String,
        healthy: String,
    ) -> DeploymentRecord {
        let modules = content.modules().into_iter().map(|(name, wanted)| DeployedModule {
            name: name.to_owned(),
            image: wanted.image,
            platform: arrived.platform,
            model: None,
        });
        let target_condition = match &self.to {
            To::Device { .. } => None,
            To::Fleet { condition, .. } => Some(condition.clone()),
        };
        DeploymentRecord {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            target: DeployTarget::IotHub,
            manifest,
            started,
            healthy,
            modules: modules.collect(),
            sightings: None,
            hub: Some(HubDeployment {
                host: host.to_owned(),
                target_condition,
                configuration: arrived.configuration.clone(),
                retired: arrived.retired.clone(),
                changed: arrived.changed,
                running: arrived.running.clone(),
                offline: arrived.offline.clone(),
            }),
            cluster: None,
        }
    }
}

/// The two ways to deploy.
enum Deploy<'a> {
    Device(DeviceDeployment<'a>),
    Fleet(FleetDeployment<'a>),
}

fn headline(arrived: &Arrived, host: &str) -> String {
    let devices = match arrived.running.as_slice() {
        [device] => format!("`{}` runs it", device.escape_debug()),
        running => format!("{} devices run it", running.len()),
    };
    let offline = match arrived.offline.len() {
        0 => String::new(),
        count => format!(", {count} get it when they are connected"),
    };
    let said = if arrived.changed { "deployed through" } else { "unchanged at" };
    format!("{said} {host}: {devices}{offline}")
}

/// The one registry that devices need to sign in to.
fn the_registry(content: &Content) -> Result<String, HubPlanError> {
    let named: BTreeSet<String> = content.without_password().into_iter().collect();
    let of_images: BTreeSet<String> = content
        .modules()
        .values()
        .filter_map(|wanted| registry_of(&wanted.image).map(str::to_owned))
        .collect();
    let mut candidates = if named.is_empty() { of_images } else { named };
    match (candidates.pop_first(), candidates.is_empty()) {
        (Some(registry), true) => Ok(registry),
        (first, _) => Err(HubPlanError::WhichRegistry(first.into_iter().chain(candidates).collect())),
    }
}

/// The registry of an image's name; none where it has none of its own.
fn registry_of(image: &str) -> Option<&str> {
    let (registry, _) = image.split_once('/')?;
    (registry == "localhost" || registry.contains(['.', ':'])).then_some(registry)
}

/// `https://mynah.azurecr.io/v1/` → `mynah.azurecr.io`.
fn host_of(address: &str) -> String {
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    address.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "iot_hub_tests.rs"]
mod tests;
