//! Deployment through Azure IoT Hub: to one device, or to all that fulfil a condition.
//!
//! Nothing is taken away before what replaces it is seen running, and what does not come to run is taken back.
//! What is done follows from what the hub has, so a run that was stopped anywhere is finished by the next one.
//!
//! | part | what it owns |
//! |---|---|
//! | `connection` | which hub, who signs in, shared access signatures |
//! | `hub`, `wire` | the calls of the service API and their bodies |
//! | `content` | a manifest as the hub's content: alone, merged, as a layer |
//! | `fleet_plan` | which configurations are created, kept, retired |
//! | `health` | what an agent's report says of a deployment |
//! | `former` | what one device ran before, kept in the hub until its new content runs |
//! | `device`, `fleet` | the two ways to deploy |

mod connection;
mod content;
mod device;
mod error;
mod fleet;
mod fleet_plan;
mod former;
mod health;
mod hub;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use mynah_contracts::{Monitor, Platform};
use tokio::time::Instant;

pub use connection::{HubAddress, SharedKey, connection_string};
pub use content::{Content, RegistryCredentials, Wanted};
pub use device::{DeviceDeployment, Others};
pub use error::{After, DeviceFailure, HubError};
pub use fleet::FleetDeployment;
pub use hub::{Credential, Hub};

use health::{Health, Trouble};

/// How long devices are given, and how often they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until a deployment counts as failed.
    pub limit: Duration,
    /// Before the second look; it grows by half with every further one.
    pub first: Duration,
    /// Between two looks.
    pub longest: Duration,
}

impl Patience {
    /// The pace for a real hub: the first looks soon, then within the 20 queries a minute that it allows.
    pub fn of(limit: Duration) -> Self {
        Self { limit, first: Duration::from_millis(500), longest: Duration::from_secs(10) }
    }

    /// For an earlier deployment that is put in force again: devices have its images already.
    fn back(self) -> Self {
        Self { limit: self.limit.min(Duration::from_mins(2)), ..self }
    }
}

/// What was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The configuration, where it is an automatic deployment.
    pub configuration: Option<String>,
    /// Whether the hub was changed.
    pub changed: bool,
    /// The configurations that were replaced.
    pub retired: Vec<String>,
    /// The devices that run it.
    pub running: Vec<String>,
    /// The devices that are not connected and get it when they are.
    pub offline: Vec<String>,
    /// The one device's platform, where it reported one of ours.
    pub platform: Option<Platform>,
}

/// The pauses between looks at a hub.
struct Pace {
    patience: Patience,
    until: Instant,
    next: Duration,
}

impl Pace {
    fn begin(patience: Patience) -> Self {
        Self { patience, until: Instant::now() + patience.limit, next: patience.first }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits before the next look, longer where a look takes many calls.
    async fn pause(&mut self, calls: u32) {
        // A look of many pages uses up many of the calls a minute.
        let fair = if calls > 1 { self.patience.longest.saturating_mul(calls) / 3 } else { Duration::ZERO };
        let pause = self.next.max(fair);
        self.next = (self.next + self.next / 2).min(self.patience.longest);
        tokio::time::sleep_until((Instant::now() + pause).min(self.until)).await;
    }
}

/// Tells how far devices are, and says once what keeps each of them.
struct Telling<'a> {
    monitor: &'a dyn Monitor,
    last: String,
}

impl<'a> Telling<'a> {
    fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, last: String::new() }
    }

    fn tell(&mut self, running: usize, total: usize, device: &str, trouble: Option<&Trouble>) {
        self.monitor.progress("devices running the deployment", running as u64, total as u64);
        let Some(trouble) = trouble else { return };
        let text = format!("device `{}`: {trouble}", device.escape_debug());
        if text != self.last {
            tracing::info!("{text}");
            self.last = text;
        }
    }
}

/// The platform an agent reports, where it is one of ours (edgeAgent's names: `x86_64`, `aarch64`, `arm`, …).
fn platform_of(agent: &wire::ModuleTwin) -> Option<Platform> {
    let platform = agent.properties.reported.pointer("/runtime/platform")?;
    if platform.get("os")?.as_str()? != "linux" {
        return None;
    }
    match platform.get("architecture")?.as_str()? {
        "x86_64" | "amd64" => Some(Platform::LinuxAmd64),
        "aarch64" | "arm64" | "arm64v8" => Some(Platform::LinuxArm64),
        "armv7l" | "arm32v7" | "arm" => Some(Platform::LinuxArmV7),
        _ => None,
    }
}

/// A device's failure at the moment time ran out, or none where it runs.
fn failure(device: &str, health: Health) -> Option<DeviceFailure> {
    let (Health::Pending(trouble) | Health::Failed(trouble)) = health else { return None };
    Some(DeviceFailure { device: device.to_owned(), module: trouble.module, reason: trouble.reason })
}
