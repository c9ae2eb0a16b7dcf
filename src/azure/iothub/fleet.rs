//! All devices that fulfil a condition: an automatic deployment above the earlier one, which goes when the new
//! one is seen running.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mynah_contracts::Monitor;
use serde_json::json;

use super::content::Content;
use super::fleet_plan::{First, Fleet, FleetPlan, LABEL, name_of};
use super::health::{Health, Trouble, health};
use super::hub::Hub;
use super::wire::{Configuration, DeviceRow};
use super::{After, Arrived, DeviceFailure, HubError, Pace, Patience, Telling, failure};
use crate::manifest::diff::Difference;

/// How many configurations a hub holds ("IoT Hub quotas and throttling").
pub(super) const MAX_CONFIGURATIONS: usize = 100;

/// A deployment to all devices that fulfil a condition.
pub struct FleetDeployment<'a> {
    /// The hub.
    pub hub: &'a Hub,
    /// The deployment's name: lower-case letters, digits and `-`.
    pub name: &'a str,
    /// The target condition.
    pub condition: &'a str,
    /// Its priority among the hub's deployments, once the earlier one is gone.
    pub priority: u32,
    /// What the devices are to run.
    pub content: &'a Content,
    /// Whether it is a layer over the devices' whole deployment.
    pub layered: bool,
    /// How long the devices are given.
    pub patience: Patience,
}

/// What the hub has, and what is to be done.
struct Found {
    plan: FleetPlan,
    content: Content,
    devices: Vec<DeviceRow>,
    existing: Vec<Configuration>,
}

/// How a fleet stood at the last look.
struct Standing {
    running: Vec<String>,
    offline: Vec<String>,
    failures: Vec<DeviceFailure>,
    /// Whether one of them will not mend by waiting.
    is_final: bool,
    pages: u32,
}

impl FleetDeployment<'_> {
    /// Says what would change, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::deploy`] before it changes anything.
    pub async fn preview(&self) -> Result<String, HubError> {
        let found = self.look().await?;
        let FleetPlan { id, first, retire } = &found.plan;
        let mut text =
            format!("{} devices of {} fulfil `{}`", found.devices.len(), self.hub.host(), self.condition);
        // Writing to a String cannot fail.
        let _ = match first {
            First::Create(priority) => {
                write!(text, "\ncreate the configuration `{id}` with priority {priority}")
            }
            First::Raise(priority) => write!(text, "\nraise the configuration `{id}` to priority {priority}"),
            First::Nothing => write!(text, "\nkeep the configuration `{id}`"),
        };
        for old in retire {
            let _ = write!(text, "\nonce it runs, delete the configuration `{old}`");
        }
        let before = found
            .existing
            .iter()
            .filter(|configuration| name_of(configuration) == Some(self.name))
            .max_by_key(|configuration| configuration.priority)
            .map(|configuration| Content::of_hub(&configuration.content));
        if before.as_ref() == Some(&found.content) {
            text.push_str("\nits content is the present one");
        } else {
            let before = before.as_ref().map_or_else(|| json!({}), Content::manifest);
            let _ = write!(text, "\n{}", Difference::between(&before, &found.content.manifest()));
        }
        Ok(text)
    }

    /// Deploys, waits until the connected devices run it, and retires the earlier deployment.
    ///
    /// # Errors
    /// When it cannot be deployed, or a connected device does not run it in time; the earlier deployment is in
    /// force again then.
    pub async fn deploy(&self, monitor: &dyn Monitor) -> Result<Arrived, HubError> {
        let found = self.look().await?;
        let Found { plan, content, devices, .. } = &found;
        match plan.first {
            First::Create(priority) => {
                let label = (LABEL, self.name);
                let new = Hub::new_configuration(plan.id.clone(), label, self.condition, priority, content);
                if let Some(there) = self.hub.create(&new).await?
                    && (Content::of_hub(&there.content) != *content || name_of(&there) != Some(self.name))
                {
                    return Err(HubError::Taken(plan.id.clone()));
                }
                tracing::info!("created the configuration `{}` with priority {priority}", plan.id);
            }
            First::Raise(priority) => self.hub.set_priority(&plan.id, priority).await?,
            First::Nothing => {}
        }
        let standing = self.watch(&plan.id, devices, self.patience, monitor).await?;
        if !standing.failures.is_empty() {
            return Err(self.fail(&found, standing, monitor).await);
        }
        for old in &plan.retire {
            self.hub.delete(old).await?;
            tracing::info!("deleted the configuration `{old}`");
        }
        let settled = self.settle(&found).await?;
        if !standing.offline.is_empty() {
            tracing::warn!(
                "{} devices are not connected and get the deployment when they are",
                standing.offline.len()
            );
        }
        Ok(Arrived {
            configuration: Some(plan.id.clone()),
            changed: plan.first != First::Nothing || !plan.retire.is_empty() || settled,
            retired: plan.retire.clone(),
            running: standing.running,
            offline: standing.offline,
            platform: None,
        })
    }

    /// Looks at the hub and refuses what cannot end well, before anything is changed.
    async fn look(&self) -> Result<Found, HubError> {
        let content = if self.layered { self.content.layer() } else { self.content.clone() };
        content.check()?;
        if self.condition.trim() != "*" {
            self.hub.test_condition(self.condition).await?;
        }
        let mut devices = self.hub.devices(self.condition).await?;
        let all = devices.len();
        devices.retain(|device| device.capabilities.iot_edge);
        if devices.is_empty() {
            return Err(HubError::NoDevice {
                hub: self.hub.host().to_owned(),
                condition: self.condition.to_owned(),
                others: all,
            });
        }
        let existing = self.hub.configurations().await?;
        let fleet = Fleet {
            name: self.name,
            condition: self.condition,
            priority: self.priority.into(),
            content: &content,
        };
        let plan = FleetPlan::make(&fleet, &existing);
        if matches!(plan.first, First::Create(_)) && existing.len() >= MAX_CONFIGURATIONS {
            return Err(HubError::Full { hub: self.hub.host().to_owned(), count: existing.len() });
        }
        Ok(Found { plan, content, devices, existing })
    }

    /// Waits until every connected device runs the configuration, one cannot, or time is over.
    async fn watch(
        &self,
        id: &str,
        devices: &[DeviceRow],
        patience: Patience,
        monitor: &dyn Monitor,
    ) -> Result<Standing, HubError> {
        let mut pace = Pace::begin(patience);
        let mut telling = Telling::new(monitor);
        loop {
            let mut standing = self.stand(id, devices).await?;
            let first = standing.failures.first().map(|failure| {
                let trouble = Trouble { module: failure.module.clone(), reason: failure.reason.clone() };
                (failure.device.clone(), trouble)
            });
            let (device, trouble) =
                first.map_or((String::new(), None), |(device, trouble)| (device, Some(trouble)));
            telling.tell(
                standing.running.len(),
                devices.len() - standing.offline.len(),
                &device,
                trouble.as_ref(),
            );
            if standing.failures.is_empty() && !standing.running.is_empty() {
                return Ok(standing);
            }
            if standing.is_final || pace.is_over() {
                if standing.failures.is_empty() {
                    standing.failures = offline(&standing.offline);
                }
                return Ok(standing);
            }
            pace.pause(standing.pages).await;
        }
    }

    /// One look at all devices.
    async fn stand(&self, id: &str, devices: &[DeviceRow]) -> Result<Standing, HubError> {
        let wanted = self.content.modules();
        let mut reports: BTreeMap<String, (Health, bool)> = BTreeMap::new();
        let pages = self
            .hub
            .agents(id, |agent| {
                let health = health(&agent, &wanted);
                let connected = agent.is_connected();
                reports.insert(agent.device_id, (health, connected));
            })
            .await?;
        let mut standing = Standing {
            running: Vec::new(),
            offline: Vec::new(),
            failures: Vec::new(),
            is_final: false,
            pages,
        };
        let mut hopeless = Vec::new();
        for device in devices {
            let name = &device.device_id;
            match reports.remove(name) {
                Some((Health::Running, _)) => standing.running.push(name.clone()),
                // Not connected before, not connected now; an agent that restarts is only away for a moment.
                Some((Health::Pending(_), false)) if !device.is_connected() => {
                    standing.offline.push(name.clone());
                }
                Some((health @ Health::Failed(_), _)) => hopeless.extend(failure(name, health)),
                Some((health, _)) => standing.failures.extend(failure(name, health)),
                None => {
                    let reason = format!("the hub has not put the configuration `{id}` in force");
                    standing.failures.push(DeviceFailure { device: name.clone(), module: None, reason });
                }
            }
        }
        standing.is_final = !hopeless.is_empty();
        if standing.is_final {
            // The others are only not there yet.
            standing.failures = hopeless;
        }
        Ok(standing)
    }

    /// Takes the new deployment back, where there is an earlier one.
    async fn fail(&self, found: &Found, mut standing: Standing, monitor: &dyn Monitor) -> HubError {
        self.name_the_stronger(found, &mut standing).await;
        let seconds = (!standing.is_final).then_some(self.patience.limit.as_secs());
        let after = match before(found) {
            None => After::NothingBefore,
            Some(earlier) => {
                tracing::warn!("the configuration `{}` is taken back", found.plan.id);
                match self.go_back(found, &earlier, monitor).await {
                    Ok(confirmed) => {
                        After::RolledBack { to: format!("the configuration `{}`", earlier.id), confirmed }
                    }
                    Err(error) => After::Stuck(mynah_contracts::error_chain(&error)),
                }
            }
        };
        let total = found.devices.len();
        HubError::NotRunning { failures: standing.failures, total, seconds, after }
    }

    async fn go_back(
        &self,
        found: &Found,
        earlier: &Configuration,
        monitor: &dyn Monitor,
    ) -> Result<bool, HubError> {
        self.hub.delete(&found.plan.id).await?;
        let content = Content::of_hub(&earlier.content);
        let condition = earlier.target_condition.as_deref().unwrap_or(self.condition);
        let back = FleetDeployment { content: &content, condition, patience: self.patience.back(), ..*self };
        let mut devices = self.hub.devices(condition).await?;
        devices.retain(|device| device.capabilities.iot_edge);
        let standing = back.watch(&earlier.id, &devices, back.patience, monitor).await?;
        Ok(standing.failures.is_empty())
    }

    /// Where the hub did not put the configuration in force, says which one it prefers.
    async fn name_the_stronger(&self, found: &Found, standing: &mut Standing) {
        let without: BTreeSet<String> = standing
            .failures
            .iter()
            .filter(|failure| failure.reason.starts_with("the hub has not put"))
            .map(|failure| failure.device.clone())
            .collect();
        let Some(device) = without.first() else { return };
        // It only explains; where it fails, the shorter reason stands.
        let Ok(Some(agent)) = self.hub.module_twin(device, super::content::EDGE_AGENT).await else { return };
        let stronger = agent.applied().find(|id| *id != found.plan.id);
        let reason = match (stronger, found.content.is_layered()) {
            (Some(stronger), _) => format!("the configuration `{stronger}` has a higher priority"),
            (None, true) => "no whole deployment is in force there, to be layered over".to_owned(),
            (None, false) => return,
        };
        for failure in standing.failures.iter_mut().filter(|failure| without.contains(&failure.device)) {
            failure.reason.clone_from(&reason);
        }
    }

    /// Gives the configuration the priority that was asked for, now that no other of ours is below it. Says
    /// whether that changed anything.
    async fn settle(&self, found: &Found) -> Result<bool, HubError> {
        let now = match found.plan.first {
            First::Create(priority) | First::Raise(priority) => priority,
            First::Nothing => found
                .existing
                .iter()
                .find(|configuration| configuration.id == found.plan.id)
                .map_or(self.priority.into(), |configuration| configuration.priority),
        };
        if now == i64::from(self.priority) {
            return Ok(false);
        }
        self.hub.set_priority(&found.plan.id, self.priority.into()).await?;
        Ok(true)
    }
}

fn offline(devices: &[String]) -> Vec<DeviceFailure> {
    let failure = |device: &String| DeviceFailure {
        device: device.clone(),
        module: None,
        reason: "it is not connected".into(),
    };
    devices.iter().map(failure).collect()
}

/// The deployment of ours that was in force before.
fn before(found: &Found) -> Option<Configuration> {
    found
        .existing
        .iter()
        .filter(|configuration| found.plan.retire.contains(&configuration.id))
        .max_by_key(|configuration| configuration.priority)
        .cloned()
}
