//! A rollout: kept, applied, watched, verified, pruned; or taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mynah_contracts::{DeployedPod, Monitor, Sha256Digest};
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Api, Way};
use super::health;
use super::inventory::{Content, Inventory, Pending};
use super::object::{Key, Object, Resource, narrowed, on_delete};
use super::plan::{Change, Plan, is_ours};
use super::running::{Canary, Trouble};
use super::{After, ClusterError, Manifest, PODS};

/// The longest wait for what was there before: its images are on the nodes already.
const BACK: Duration = Duration::from_mins(2);

/// A deployment to a cluster.
pub struct Rollout<'a> {
    /// The cluster.
    pub api: &'a Api,
    /// What is to run.
    pub manifest: &'a Manifest,
    /// The name of what is kept about it in the cluster.
    pub deployment: &'a str,
    /// The label of the nodes that run it first.
    pub canary: Option<(&'a str, &'a str)>,
    /// Whether fields of others are taken over.
    pub force: bool,
    /// How long it may take to run.
    pub wait: Duration,
}

/// What was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Whether anything was changed.
    pub changed: bool,
    /// The pods that were seen ready.
    pub pods: Vec<DeployedPod>,
    /// What was deleted since the manifest no longer has it, as `<kind> <name>`.
    pub pruned: Vec<String>,
}

impl Rollout<'_> {
    /// Says what would change, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::deploy`] before it changes anything.
    pub async fn preview(&self) -> Result<String, ClusterError> {
        let inventory = Inventory::read(self.api, self.namespace(), self.deployment).await?;
        let plan = Plan::make(self.api, &self.manifest.objects, &inventory, self.force).await?;
        self.check_rights(&plan).await?;
        self.canary_nodes().await?;
        let place = format!("namespace `{}` of {}", self.namespace(), self.api.server());
        Ok(plan.told(&place))
    }

    /// Deploys, and waits until it runs. What runs already is looked at and left alone.
    ///
    /// # Errors
    /// When the cluster refuses something, before anything was changed where that can be known, or it does not come to
    /// run; what was there before is back then.
    pub async fn deploy(&self, monitor: &dyn Monitor) -> Result<Arrived, ClusterError> {
        let mut inventory = Inventory::read(self.api, self.namespace(), self.deployment).await?;
        if inventory.content.pending.is_some() {
            tracing::info!("an earlier deployment was interrupted and is finished by this one");
        }
        let plan = Plan::make(self.api, &self.manifest.objects, &inventory, self.force).await?;
        self.check_rights(&plan).await?;
        let nodes = self.canary_nodes().await?;
        for staying in &plan.staying {
            tracing::warn!("{staying}");
        }
        let changed = !plan.is_empty();
        let pending = Self::pending(&plan, &inventory);
        if changed || inventory.content.pending.is_some() {
            self.make_namespace(&plan).await?;
            let content =
                Content { healthy: inventory.content.healthy.clone(), pending: Some(pending.clone()) };
            inventory.write(self.api, content).await?;
        }
        let deadline = Instant::now() + self.wait;
        let outcome = self.roll_out(&plan, nodes, deadline, monitor).await;
        match outcome {
            Ok(Ok(pods)) => {
                let pruned = self.prune(&plan).await?;
                let healthy: Vec<Value> =
                    self.manifest.objects.iter().map(|object| object.value.clone()).collect();
                if inventory.content.pending.is_some() || inventory.content.healthy != healthy {
                    inventory.write(self.api, Content { healthy, pending: None }).await?;
                }
                Ok(Arrived { changed, pods, pruned })
            }
            Ok(Err(trouble)) => {
                let after = if changed {
                    self.go_back(&pending, &mut inventory, monitor).await
                } else {
                    After::NothingBefore
                };
                Err(ClusterError::NotRunning {
                    failures: trouble.failures,
                    seconds: trouble.timed_out.then_some(self.wait.as_secs()),
                    after,
                })
            }
            // Refused in the middle: half of it would be left.
            Err(error) if changed && !matches!(error, ClusterError::Taken(_)) => {
                let after = self.go_back(&pending, &mut inventory, monitor).await;
                tracing::warn!("{after}");
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        self.manifest.namespace()
    }

    /// What must be known to go back, from what is there now.
    fn pending(plan: &Plan, inventory: &Inventory) -> Pending {
        let healthy: BTreeMap<Key, Value> = inventory
            .content
            .healthy
            .iter()
            .filter_map(|object| Some((Key::of(object).ok()?, object.clone())))
            .collect();
        let all: Vec<&Value> = plan.changes.iter().map(|(object, _)| &object.value).collect();
        let manifest = serde_json::to_vec(&all).ok().map(|bytes| Sha256Digest::of(&bytes));
        let wanted: BTreeSet<Key> = plan.changes.iter().map(|(object, _)| object.key.clone()).collect();
        let new = |known: &dyn Fn(&Key) -> bool| -> BTreeSet<Key> {
            wanted.iter().filter(|key| !known(key) && !plan.present.contains_key(key)).cloned().collect()
        };
        if let Some(earlier) = &inventory.content.pending {
            // What is there now is half of that one: what was before it is what counts.
            let mut created = new(&|key| healthy.contains_key(key));
            created.extend(earlier.created.iter().cloned());
            let objects = wanted.union(&earlier.objects).cloned().collect();
            return Pending { before: earlier.before.clone(), created, objects, manifest };
        }
        let found = plan
            .present
            .iter()
            .filter(|(key, _)| !healthy.contains_key(key) && !key.holds_data())
            .map(|(_, object)| object.clone());
        let before = inventory.content.healthy.iter().cloned().chain(found).collect();
        Pending { before, created: new(&|key| healthy.contains_key(key)), objects: wanted, manifest }
    }

    /// Makes the namespace first: what is kept of the deployment lies in it.
    async fn make_namespace(&self, plan: &Plan) -> Result<(), ClusterError> {
        for (object, change) in &plan.changes {
            if object.key.kind == "Namespace" && *change == Change::Create {
                self.apply(&object.key, &object.value).await?;
            }
        }
        Ok(())
    }

    async fn apply(&self, key: &Key, value: &Value) -> Result<Value, ClusterError> {
        self.api.apply(key, value, Way { force: self.force, dry: false }).await
    }

    /// Applies and waits; what does not run where it comes to that.
    async fn roll_out(
        &self,
        plan: &Plan,
        nodes: Option<BTreeSet<String>>,
        deadline: Instant,
        monitor: &dyn Monitor,
    ) -> Result<Result<Vec<DeployedPod>, Trouble>, ClusterError> {
        let changed = || plan.changes.iter().filter(|(_, change)| *change != Change::Same);
        // Settings before what reads them.
        for (object, _) in changed().filter(|(object, _)| !object.key.is_workload()) {
            self.apply(&object.key, &object.value).await?;
        }
        // Under the name of one that is to come, but of another kind: it would keep the camera from its successor.
        let succeeded = plan.leaving.iter().filter(|leaving| {
            leaving.key.is_workload()
                && plan.changes.iter().any(|(object, _)| object.key.succeeds(&leaving.key))
        });
        for leaving in succeeded {
            self.api.delete(&leaving.key, leaving.uid.as_deref()).await?;
        }
        if let Some(nodes) = nodes {
            for (object, change) in changed().filter(|(object, _)| object.key.is_daemon()) {
                let outcome = self.try_first(object, *change == Change::Create, &nodes, deadline, monitor);
                if let Err(trouble) = outcome.await? {
                    return Ok(Err(trouble));
                }
            }
        }
        for (object, _) in changed().filter(|(object, _)| object.key.is_workload()) {
            tracing::info!("applied {}", object.key);
            self.apply(&object.key, &object.value).await?;
        }
        let all: Vec<&Object> =
            self.manifest.objects.iter().filter(|object| object.key.is_workload()).collect();
        self.see_running(&all, None, deadline, monitor).await
    }

    /// Has the nodes of the canary run a DaemonSet before the others do.
    async fn try_first(
        &self,
        object: &Object,
        new: bool,
        nodes: &BTreeSet<String>,
        deadline: Instant,
        monitor: &dyn Monitor,
    ) -> Result<Result<Vec<DeployedPod>, Trouble>, ClusterError> {
        let Some(label) = self.canary else { return Ok(Ok(Vec::new())) };
        tracing::info!("canary: {} on {} of the nodes first", object.key, nodes.len());
        if new {
            self.apply(&object.key, &narrowed(&object.value, label)).await?;
            return self.see_running(&[object], None, deadline, monitor).await;
        }
        self.apply(&object.key, &on_delete(&object.value)).await?;
        let pods = self.api.list(&pods()?, Some(self.namespace()), PODS).await?.items;
        let mut gone = BTreeSet::new();
        for pod in pods {
            let at = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            if !health::belongs(&pod, &object.value) || !nodes.contains(at) {
                continue;
            }
            let (Some(name), Some(uid)) = (pod["metadata"]["name"].as_str(), pod["metadata"]["uid"].as_str())
            else {
                continue;
            };
            let key = Key {
                api: "v1".into(),
                kind: "Pod".into(),
                namespace: Some(self.namespace().to_owned()),
                name: name.to_owned(),
            };
            self.api.delete(&key, Some(uid)).await?;
            gone.insert(uid.to_owned());
        }
        let canary = Canary { nodes: nodes.clone(), gone };
        self.see_running(&[object], Some(&canary), deadline, monitor).await
    }

    /// Looks for rights that would be missed only after something was changed.
    async fn check_rights(&self, plan: &Plan) -> Result<(), ClusterError> {
        let mut needed: BTreeSet<(&str, String, String)> = BTreeSet::new();
        for resource in ["pods", "apps/deployments", "apps/daemonsets"] {
            let (group, resource) = resource.split_once('/').unwrap_or(("", resource));
            for verb in ["list", "watch"] {
                needed.insert((verb, group.into(), resource.into()));
            }
        }
        for verb in ["create", "update"] {
            needed.insert((verb, String::new(), "configmaps".into()));
        }
        if self.manifest.objects.iter().any(|object| object.model().is_some() && object.port().is_some()) {
            needed.insert(("get", String::new(), "pods/proxy".into()));
        }
        if self.canary.is_some() {
            needed.insert(("delete", String::new(), "pods".into()));
        }
        for leaving in &plan.leaving {
            let resource = self.api.resource(&leaving.key).await?;
            needed.insert(("delete", resource.group().to_owned(), resource.plural.clone()));
        }
        let mut missing = Vec::new();
        for (verb, group, resource) in needed {
            if !self.api.may(verb, &group, &resource, Some(self.namespace())).await? {
                missing.push(format!("`{verb}` of `{resource}`"));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let what = format!("{} in the namespace `{}`", missing.join(", "), self.namespace());
        Err(ClusterError::Denied { server: self.api.server(), what })
    }

    /// The nodes that run it first; none where there is no canary.
    async fn canary_nodes(&self) -> Result<Option<BTreeSet<String>>, ClusterError> {
        let Some((key, value)) = self.canary else { return Ok(None) };
        if !self.manifest.objects.iter().any(|object| object.key.is_daemon()) {
            return Err(ClusterError::NoCanaryWorkload);
        }
        let nodes = Resource { api: "v1".into(), plural: "nodes".into(), namespaced: false };
        let label = format!("{key}={value}");
        let found = self.api.list(&nodes, None, &label).await?.items;
        let names: BTreeSet<String> =
            found.iter().filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect();
        if names.is_empty() { Err(ClusterError::NoCanaryNode(label)) } else { Ok(Some(names)) }
    }

    async fn prune(&self, plan: &Plan) -> Result<Vec<String>, ClusterError> {
        let mut pruned = Vec::new();
        for leaving in &plan.leaving {
            tracing::info!("deleted {}, which the manifest no longer has", leaving.key);
            self.api.delete(&leaving.key, leaving.uid.as_deref()).await?;
            pruned.push(leaving.key.to_string());
        }
        Ok(pruned)
    }

    /// Puts back what was there before.
    async fn go_back(&self, pending: &Pending, inventory: &mut Inventory, monitor: &dyn Monitor) -> After {
        let before: Result<Vec<Object>, String> =
            pending.before.iter().map(|value| Object::new(value.clone())).collect();
        let before = match before {
            Ok(before) if before.iter().any(|object| object.key.is_workload()) => before,
            Ok(_) => return After::NothingBefore,
            Err(why) => return After::Stuck(why),
        };
        // Written as it is: the cluster takes that only where nobody else has written since.
        match inventory.write(self.api, inventory.content.clone()).await {
            Ok(()) => {}
            Err(ClusterError::Taken(_)) => return After::Overtaken,
            Err(error) => return After::Stuck(mynah_contracts::error_chain(&error)),
        }
        tracing::warn!("what was there before is put back");
        match self.put_back(&before, pending, inventory, monitor).await {
            Ok(confirmed) => After::RolledBack { confirmed },
            Err(error) => After::Stuck(mynah_contracts::error_chain(&error)),
        }
    }

    async fn put_back(
        &self,
        before: &[Object],
        pending: &Pending,
        inventory: &mut Inventory,
        monitor: &dyn Monitor,
    ) -> Result<bool, ClusterError> {
        for object in before {
            // It was so before us: nobody's will is overridden.
            self.api.apply(&object.key, &object.value, Way { force: true, dry: false }).await?;
        }
        for key in pending.created.iter().filter(|key| !key.holds_data()) {
            if before.iter().any(|object| object.key == *key) {
                continue;
            }
            if let Some(live) = self.api.get(key).await?
                && is_ours(&live)
            {
                self.api.delete(key, live["metadata"]["uid"].as_str()).await?;
            }
        }
        let workloads: Vec<&Object> = before.iter().filter(|object| object.key.is_workload()).collect();
        let deadline = Instant::now() + self.wait.min(BACK);
        let confirmed = self.watch(&workloads, None, deadline, monitor).await?.is_ok();
        let healthy = inventory.content.healthy.clone();
        inventory.write(self.api, Content { healthy, pending: None }).await?;
        Ok(confirmed)
    }
}

pub(super) fn kind(api: &str, kind: &str) -> Result<Resource, ClusterError> {
    Resource::known(api, kind).ok_or_else(|| ClusterError::UnknownKind {
        server: String::new(),
        kind: kind.to_owned(),
        api: api.to_owned(),
    })
}

pub(super) fn pods() -> Result<Resource, ClusterError> {
    kind("v1", "Pod")
}
