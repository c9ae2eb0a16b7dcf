//! Why a deployment through IoT Hub did not arrive.

use std::fmt;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind};

use crate::abridged::abridged;
use crate::azure::auth::AuthError;
use crate::http::HttpError;

/// Why a deployment through IoT Hub did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address is none.
    #[error("`{0}` is neither a hub's name nor its host")]
    Address(String),
    /// The connection string is wrong; how, without its parts.
    #[error("the connection string of the hub cannot be used: {0}")]
    ConnectionString(&'static str),
    /// Nobody could be signed in.
    #[error(transparent)]
    SignIn(#[from] AuthError),
    /// The hub does not accept who signs in.
    #[error("the hub `{hub}` does not accept {who}")]
    NotAccepted {
        /// The hub.
        hub: String,
        /// Who signs in.
        who: String,
        /// What it answered.
        #[source]
        source: HttpError,
    },
    /// A call failed.
    #[error(transparent)]
    Http(HttpError),
    /// The hub has no deployments.
    #[error("the hub `{0}` is of the basic tier, which has neither twins nor deployments")]
    BasicTier(String),
    /// No such device.
    #[error("the hub `{hub}` has no device `{device}`")]
    UnknownDevice {
        /// The hub.
        hub: String,
        /// The device.
        device: String,
    },
    /// Not an edge device.
    #[error("the device `{0}` is not an IoT Edge device: it runs no modules")]
    NotEdge(String),
    /// Switched off in the hub.
    #[error("the device `{0}` is disabled in the hub")]
    Disabled(String),
    /// An automatic deployment would undo ours.
    #[error(
        "the device `{device}` is run by the automatic deployment `{deployment}`, which would undo this one"
    )]
    Governed {
        /// The device.
        device: String,
        /// The deployment.
        deployment: String,
    },
    /// A layer alone does not run.
    #[error("the manifest is a layered one, which the device `{0}` alone cannot be given")]
    LayeredForOne(String),
    /// Modules that would be removed.
    #[error("the device `{device}` runs modules that the manifest does not have: `{}`", .modules.join("`, `"))]
    OtherModules {
        /// The device.
        device: String,
        /// The modules.
        modules: Vec<String>,
    },
    /// The target condition is refused.
    #[error("the target condition `{condition}` is refused: {why}")]
    Condition {
        /// The condition.
        condition: String,
        /// What the hub says.
        why: String,
    },
    /// The target condition finds nothing to deploy to.
    #[error("no IoT Edge device of the hub `{hub}` fulfils `{condition}`{}", other_devices(*.others))]
    NoDevice {
        /// The hub.
        hub: String,
        /// The condition.
        condition: String,
        /// Devices that fulfil it and are no edge devices.
        others: usize,
    },
    /// More than a twin holds.
    #[error("the twin of `{module}` would have {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// The module.
        module: String,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More than a deployment holds.
    #[error("the manifest has {modules} modules, {limit} are allowed")]
    TooManyModules {
        /// How many.
        modules: usize,
        /// The limit.
        limit: usize,
    },
    /// The hub has no room for another configuration.
    #[error("the hub `{hub}` has {count} configurations, no further one fits")]
    Full {
        /// The hub.
        hub: String,
        /// How many there are.
        count: usize,
    },
    /// Someone else works on the configuration.
    #[error("the configuration `{0}` was changed by someone else meanwhile")]
    Taken(String),
    /// It does not run.
    #[error("{} of {total} devices {} not run the deployment{}: {}; {after}", .failures.len(), does(.failures.len()), within(*.seconds), abridged(.failures))]
    NotRunning {
        /// Those that do not, worst first.
        failures: Vec<DeviceFailure>,
        /// How many devices there are.
        total: usize,
        /// The time they were given, where it ran out.
        seconds: Option<u64>,
        /// What was done then.
        after: After,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// A device that does not run its deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFailure {
    /// The device.
    pub device: String,
    /// The module, where it is one module's fault.
    pub module: Option<String>,
    /// What was reported.
    pub reason: String,
}

impl fmt::Display for DeviceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "device `{}`, module `{module}`: {}", self.device, self.reason),
            None => write!(f, "device `{}`: {}", self.device, self.reason),
        }
    }
}

/// What was done about a deployment that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// The earlier one is back.
    RolledBack {
        /// What runs again, such as a configuration's id.
        to: String,
        /// Whether the devices reported it.
        confirmed: bool,
    },
    /// There was none before.
    NothingBefore,
    /// Going back failed too.
    Stuck(String),
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack { to, confirmed: true } => write!(f, "{to} is back and runs"),
            Self::RolledBack { to, confirmed: false } => {
                write!(f, "{to} is back; the devices have not reported it yet")
            }
            Self::NothingBefore => f.write_str("it stays, since there is nothing to go back to"),
            Self::Stuck(why) => write!(f, "going back failed: {why}"),
        }
    }
}

fn does(count: usize) -> &'static str {
    if count == 1 { "does" } else { "do" }
}

fn within(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" within {seconds} s")).unwrap_or_default()
}

fn other_devices(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " (one device does, but is not an edge device)".into(),
        others => format!(" ({others} devices do, but are no edge devices)"),
    }
}

impl From<Cancelled> for HubError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<HttpError> for HubError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl Diagnosis for HubError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::SignIn(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::NotAccepted { .. } | Self::Full { .. } | Self::Taken(_) => FaultKind::ServiceRefused,
            Self::NotRunning { .. } => FaultKind::Failed,
            Self::Cancelled => FaultKind::Cancelled,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address(_) => "give --hub the hub's name or its host, such as `mynah.azure-devices.net`",
            Self::ConnectionString(_) => {
                "copy it from the hub's shared access policies: `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`"
            }
            Self::SignIn(error) => return error.hint(),
            Self::NotAccepted { .. } => {
                "a policy needs the rights registry read and write and service connect, a signed-in identity the \
                 role IoT Hub Data Contributor; check the key, and this machine's clock"
            }
            Self::Http(error) => return error.hint(),
            Self::BasicTier(_) => "move the hub to the standard or the free tier",
            Self::UnknownDevice { .. } => "check the device's id: letter case counts",
            Self::NotEdge(_) => "create the device anew as an IoT Edge device, or name another with --device",
            Self::Disabled(_) => "enable the device in the hub",
            Self::Governed { .. } => {
                "deploy with --target-condition, or retire that deployment, or change the condition of its devices"
            }
            Self::LayeredForOne(_) => {
                "deploy it with --target-condition, or give a whole manifest and --merge"
            }
            Self::OtherModules { .. } => "--merge keeps them beside ours, --replace removes them",
            Self::Condition { .. } => {
                "write it as IoT Hub does, such as `tags.room = 'hall'` or `deviceId IN ['pi-1', 'pi-2']`"
            }
            Self::NoDevice { .. } => "check the devices' tags and the condition",
            Self::TooLarge { .. } => "shorten the module's createOptions and env, or mount a file instead",
            Self::Full { .. } => "delete configurations that are no longer needed",
            Self::Taken(_) => "run the same command again",
            Self::NotRunning { after: After::NothingBefore, .. } => {
                "mend what is reported and deploy again; `iotedge logs` on the device says more"
            }
            Self::NotRunning { .. } => "`iotedge logs` on the device says more; --wait gives it more time",
            Self::Cancelled => return Cancelled.hint(),
            Self::TooManyModules { .. } => return None,
        };
        Some(hint.into())
    }
}
