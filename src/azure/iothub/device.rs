//! One device: its content is set at once, watched, and set back where it does not run.

use std::collections::BTreeMap;

use mynah_contracts::Monitor;
use serde_json::json;

use super::content::{Content, EDGE_AGENT};
use super::former::Former;
use super::health::{Health, health};
use super::hub::Hub;
use super::wire::{Device, ModuleTwin};
use super::{After, Arrived, HubError, Pace, Patience, Telling, Wanted, failure, platform_of};
use crate::manifest::diff::Difference;

/// What becomes of modules that the device has and the manifest has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Others {
    /// There are none, or nothing is deployed.
    Refuse,
    /// They stay, with their routes, registries and twins.
    Keep,
    /// They go.
    Remove,
}

/// A deployment to one device.
pub struct DeviceDeployment<'a> {
    /// The hub.
    pub hub: &'a Hub,
    /// The device's id.
    pub device: &'a str,
    /// What it is to run.
    pub content: &'a Content,
    /// What becomes of its other modules.
    pub others: Others,
    /// How long it is given.
    pub patience: Patience,
}

/// What the device has, and what it would get.
struct Found {
    device: Device,
    /// None where it never had a deployment.
    present: Option<Content>,
    next: Content,
}

impl DeviceDeployment<'_> {
    /// Says what would change, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::deploy`] before it changes anything.
    pub async fn preview(&self) -> Result<String, HubError> {
        let found = self.look().await?;
        let device = format!("device `{}` of {}", self.device, self.hub.host());
        if found.present.as_ref() == Some(&found.next) {
            return Ok(format!("{device}: nothing would change"));
        }
        let before = found.present.as_ref().map_or_else(|| json!({}), Content::manifest);
        Ok(format!("{device}:\n{}", Difference::between(&before, &found.next.manifest())))
    }

    /// Deploys, and waits until the device runs it. A device that does gets nothing anew.
    ///
    /// # Errors
    /// When the device cannot be deployed to, or does not run the deployment in time; it has its earlier content
    /// again then.
    pub async fn deploy(&self, monitor: &dyn Monitor) -> Result<Arrived, HubError> {
        let found = self.look().await?;
        let changed = found.present.as_ref() != Some(&found.next);
        let mut former = Former::find(self.hub, self.device).await?;
        let present = found.present.as_ref();
        let earlier = if changed {
            present.and_then(|present| former.to_go_back_to(present))
        } else {
            present.and_then(|present| former.unproven(present))
        };
        if changed {
            if !found.device.is_connected() {
                tracing::warn!("device `{}` is not connected now", self.device);
            }
            if let Some(earlier) = &earlier {
                former.keep(earlier, &found.next).await?;
            }
            self.hub.apply(self.device, &found.next).await?;
        }
        let outcome = self.watch(&self.content.modules(), self.patience, monitor).await?;
        match outcome {
            Ok(agent) => {
                former.forget().await?;
                Ok(Arrived {
                    configuration: None,
                    changed,
                    retired: Vec::new(),
                    running: vec![self.device.to_owned()],
                    offline: Vec::new(),
                    platform: platform_of(&agent),
                })
            }
            Err(health) => {
                let in_time = matches!(health, Health::Failed(_));
                let after = match earlier {
                    Some(earlier) => self.go_back(&earlier, former, monitor).await,
                    None => After::NothingBefore,
                };
                Err(HubError::NotRunning {
                    failures: failure(self.device, health).into_iter().collect(),
                    total: 1,
                    seconds: (!in_time).then_some(self.patience.limit.as_secs()),
                    after,
                })
            }
        }
    }

    /// Looks at the device and refuses what cannot end well, before anything is changed.
    async fn look(&self) -> Result<Found, HubError> {
        let id = self.device;
        if self.content.is_layered() {
            return Err(HubError::LayeredForOne(id.to_owned()));
        }
        let Some(device) = self.hub.device(id).await? else {
            return Err(HubError::UnknownDevice { hub: self.hub.host().to_owned(), device: id.to_owned() });
        };
        if !device.capabilities.iot_edge {
            return Err(HubError::NotEdge(id.to_owned()));
        }
        if device.is_disabled() {
            return Err(HubError::Disabled(id.to_owned()));
        }
        let agent = self.hub.module_twin(id, EDGE_AGENT).await?;
        if let Some(deployment) = agent.as_ref().and_then(|agent| agent.applied().next()) {
            return Err(HubError::Governed { device: id.to_owned(), deployment: deployment.to_owned() });
        }
        let has_deployment =
            agent.as_ref().is_some_and(|agent| agent.properties.desired.get("modules").is_some());
        let present = match agent.filter(|_| has_deployment) {
            None => None,
            Some(agent) => Some(self.present(agent).await?),
        };
        let next = match (&present, self.others) {
            (Some(present), Others::Keep) => self.content.beside(present),
            _ => self.content.clone(),
        };
        if let (Some(present), Others::Refuse) = (&present, self.others) {
            let ours = next.modules();
            let modules: Vec<String> = present
                .modules()
                .into_keys()
                .filter(|name| !ours.contains_key(name))
                .map(str::to_owned)
                .collect();
            if !modules.is_empty() {
                return Err(HubError::OtherModules { device: id.to_owned(), modules });
            }
        }
        next.check()?;
        Ok(Found { device, present, next })
    }

    /// What the device has of the twins that would be set.
    async fn present(&self, agent: ModuleTwin) -> Result<Content, HubError> {
        let mut twins = BTreeMap::from([(EDGE_AGENT, agent.properties.desired)]);
        let names = self.content.twins().chain(["$edgeHub"]).filter(|name| *name != EDGE_AGENT);
        for name in names {
            if twins.contains_key(name) {
                continue;
            }
            if let Some(twin) = self.hub.module_twin(self.device, name).await? {
                twins.insert(name, twin.properties.desired);
            }
        }
        Ok(Content::of_twins(twins.iter().map(|(name, desired)| (*name, desired))))
    }

    /// Waits until the device runs the modules; the last health where it does not.
    async fn watch(
        &self,
        wanted: &BTreeMap<&str, Wanted>,
        patience: Patience,
        monitor: &dyn Monitor,
    ) -> Result<Result<ModuleTwin, Health>, HubError> {
        let mut pace = Pace::begin(patience);
        let mut telling = Telling::new(monitor);
        loop {
            let Some(agent) = self.hub.module_twin(self.device, EDGE_AGENT).await? else {
                return Err(HubError::NotEdge(self.device.to_owned()));
            };
            match health(&agent, wanted) {
                Health::Running => {
                    telling.tell(1, 1, self.device, None);
                    return Ok(Ok(agent));
                }
                failed @ Health::Failed(_) => return Ok(Err(failed)),
                Health::Pending(mut trouble) => {
                    telling.tell(0, 1, self.device, Some(&trouble));
                    if pace.is_over() {
                        if !agent.is_connected() {
                            trouble.reason.push_str("; the device is not connected");
                        }
                        return Ok(Err(Health::Pending(trouble)));
                    }
                }
            }
            pace.pause(1).await;
        }
    }

    /// Gives the device its earlier content again, and waits for it a while.
    async fn go_back(&self, earlier: &Content, former: Former<'_>, monitor: &dyn Monitor) -> After {
        tracing::warn!("device `{}` gets its earlier deployment again", self.device);
        let back = async {
            self.hub.apply(self.device, earlier).await?;
            let outcome = self.watch(&earlier.modules(), self.patience.back(), monitor).await?;
            former.forget().await.map(|()| outcome)
        };
        match back.await {
            Ok(outcome) => {
                After::RolledBack { to: "the earlier deployment".into(), confirmed: outcome.is_ok() }
            }
            Err(error) => After::Stuck(mynah_contracts::error_chain(&error)),
        }
    }
}
