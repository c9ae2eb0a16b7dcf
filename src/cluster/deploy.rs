//! A rollout: kept, applied, watched, verified, pruned; or taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mynah_contracts::{DeployedPod, Monitor};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::api::{Api, Way};
use super::health::{self, Health};
use super::inventory::{Content, Inventory, Pending};
use super::object::{Key, Object, Resource, narrowed, on_delete};
use super::plan::{Change, Plan, is_ours};
use super::verify::{Answer, Asked};
use super::watch::{Follower, Subject};
use super::{After, ClusterError, Manifest, PODS};

/// The longest wait for what was there before: its images are on the nodes already.
const BACK: Duration = Duration::from_mins(2);

/// How long a pod that is ready for its node may take to be ready for us.
const READY: Duration = Duration::from_secs(30);

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

/// What does not run.
struct Trouble {
    failures: Vec<String>,
    timed_out: bool,
}

/// The nodes of a canary with the pods that must go from them first.
struct Canary {
    nodes: BTreeSet<String>,
    gone: BTreeSet<String>,
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

    fn namespace(&self) -> &str {
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
        let wanted: BTreeSet<Key> = plan.changes.iter().map(|(object, _)| object.key.clone()).collect();
        let new = |known: &dyn Fn(&Key) -> bool| -> BTreeSet<Key> {
            wanted.iter().filter(|key| !known(key) && !plan.present.contains_key(key)).cloned().collect()
        };
        if let Some(earlier) = &inventory.content.pending {
            // What is there now is half of that one: what was before it is what counts.
            let mut created = new(&|key| healthy.contains_key(key));
            created.extend(earlier.created.iter().cloned());
            let objects = wanted.union(&earlier.objects).cloned().collect();
            return Pending { before: earlier.before.clone(), created, objects };
        }
        let found = plan
            .present
            .iter()
            .filter(|(key, _)| !healthy.contains_key(key) && !key.holds_data())
            .map(|(_, object)| object.clone());
        let before = inventory.content.healthy.iter().cloned().chain(found).collect();
        Pending { before, created: new(&|key| healthy.contains_key(key)), objects: wanted }
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

    /// Watches until the workloads run and their pods tell the right model.
    async fn see_running(
        &self,
        workloads: &[&Object],
        canary: Option<&Canary>,
        deadline: Instant,
        monitor: &dyn Monitor,
    ) -> Result<Result<Vec<DeployedPod>, Trouble>, ClusterError> {
        loop {
            let pods = match self.watch(workloads, canary, deadline, monitor).await? {
                Ok(pods) => pods,
                Err(trouble) => return Ok(Err(trouble)),
            };
            if let Some(outcome) = self.ask(workloads, pods, deadline).await? {
                return Ok(outcome);
            }
        }
    }

    /// Asks the pods for their model; nothing where one of them went before it could answer.
    async fn ask(
        &self,
        workloads: &[&Object],
        mut pods: Vec<DeployedPod>,
        deadline: Instant,
    ) -> Result<Option<Result<Vec<DeployedPod>, Trouble>>, ClusterError> {
        let mut failures = Vec::new();
        for workload in workloads {
            let Some(model) = workload.model() else { continue };
            let Some(port) = workload.port() else {
                tracing::warn!(
                    "{} has no readiness probe over HTTP, so that its model is not checked: generate the manifest with --probe",
                    workload.key
                );
                continue;
            };
            for pod in pods.iter_mut().filter(|pod| pod.workload == workload.key.name) {
                let asked = Asked { namespace: self.namespace(), pod: &pod.name, port };
                let limit = deadline.max(Instant::now() + READY);
                match asked.until(self.api, limit).await? {
                    Answer::Model(found) if found == model => pod.model = Some(found),
                    Answer::Model(found) => failures.push(format!(
                        "pod `{}` runs the model {found}, {model} was deployed",
                        pod.name.escape_debug()
                    )),
                    Answer::Gone if Instant::now() < deadline => return Ok(None),
                    Answer::Gone => failures.push(format!("pod `{}` went away", pod.name.escape_debug())),
                    Answer::Withheld => tracing::warn!(
                        "pod `{}` is ready, and tells its model only to those with its token",
                        pod.name.escape_debug()
                    ),
                    Answer::NotReady(why) => {
                        failures.push(format!("pod `{}` is not ready: {why}", pod.name.escape_debug()));
                    }
                }
            }
        }
        Ok(Some(if failures.is_empty() { Ok(pods) } else { Err(Trouble { failures, timed_out: false }) }))
    }

    async fn watch(
        &self,
        workloads: &[&Object],
        canary: Option<&Canary>,
        deadline: Instant,
        monitor: &dyn Monitor,
    ) -> Result<Result<Vec<DeployedPod>, Trouble>, ClusterError> {
        let mut follower = Follower::start(self.api, &self.subjects()?);
        let mut last = String::new();
        loop {
            let in_time = match timeout_at(deadline, follower.changed()).await {
                Ok(changed) => changed.map(|()| true)?,
                Err(_) => false,
            };
            let mut running = 0;
            let (mut pending, mut failed) = (Vec::new(), Vec::new());
            for object in workloads {
                match state(&follower, object, canary) {
                    _ if !follower.is_complete() => pending.push("the cluster has not answered yet".into()),
                    Health::Running => running += 1,
                    Health::Pending(why) => pending.push(format!("{}: {why}", object.key)),
                    Health::Failed(why) => failed.push(format!("{} failed: {why}", object.key)),
                }
            }
            monitor.progress("workloads running", running, workloads.len() as u64);
            if !failed.is_empty() {
                return Ok(Err(Trouble { failures: failed, timed_out: false }));
            }
            let Some(first) = pending.first() else {
                let live = workloads.iter().filter_map(|object| live(&follower, object));
                return Ok(Ok(live.flat_map(|live| seen(&follower, live, canary)).collect()));
            };
            if !in_time {
                let failures = pending.iter().map(|why| format!("does not run: {why}")).collect();
                return Ok(Err(Trouble { failures, timed_out: true }));
            }
            if *first != last {
                tracing::info!("{first}");
                last.clone_from(first);
            }
        }
    }

    /// Deployments, DaemonSets and pods, in this order.
    fn subjects(&self) -> Result<[Subject; 3], ClusterError> {
        let subject = |resource, selector: &str| Subject {
            resource,
            namespace: self.namespace().to_owned(),
            selector: selector.to_owned(),
        };
        Ok([
            subject(kind("apps/v1", "Deployment")?, ""),
            subject(kind("apps/v1", "DaemonSet")?, ""),
            subject(pods()?, PODS),
        ])
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

fn kind(api: &str, kind: &str) -> Result<Resource, ClusterError> {
    Resource::known(api, kind).ok_or_else(|| ClusterError::UnknownKind {
        server: String::new(),
        kind: kind.to_owned(),
        api: api.to_owned(),
    })
}

fn pods() -> Result<Resource, ClusterError> {
    kind("v1", "Pod")
}

/// A workload as it last was.
fn live<'a>(follower: &'a Follower, object: &Object) -> Option<&'a Value> {
    follower.named(usize::from(object.key.is_daemon()), &object.key.name)
}

/// How a workload is, or on the nodes of a canary its new pods.
fn state(follower: &Follower, object: &Object, canary: Option<&Canary>) -> Health {
    let Some(live) = live(follower, object) else {
        return Health::Pending("it is not there".into());
    };
    let pods: Vec<&Value> = follower.list(2).filter(|pod| health::belongs(pod, live)).collect();
    let Some(canary) = canary else {
        let health = health::workload(live, &pods);
        // The list of pods may be behind: they must all be seen before they can be asked.
        let seen = seen(follower, live, None).len() as u64;
        let wanted = health::wanted(live);
        return match health {
            Health::Running if seen != wanted => {
                Health::Pending(format!("{seen} of {wanted} pods are ready"))
            }
            health => health,
        };
    };
    let ready = seen(follower, live, Some(canary)).len();
    if ready >= canary.nodes.len() {
        return Health::Running;
    }
    let new = pods.iter().filter(|pod| canary.has(pod));
    match new.filter_map(|pod| health::trouble(pod)).max_by_key(|trouble| trouble.0) {
        Some((true, why)) => Health::Failed(why),
        Some((false, why)) => Health::Pending(why),
        None => Health::Pending(format!("{ready} of the canary's {} nodes run it", canary.nodes.len())),
    }
}

/// The new pods of a workload that are ready; of a canary those on its nodes.
fn seen(follower: &Follower, live: &Value, canary: Option<&Canary>) -> Vec<DeployedPod> {
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    follower
        .list(2)
        .filter(|pod| health::belongs(pod, live) && health::is_made_from(pod, live) && health::is_ready(pod))
        .filter(|pod| canary.is_none_or(|canary| canary.has(pod)))
        .map(|pod| DeployedPod {
            name: text(pod, "/metadata/name"),
            workload: text(live, "/metadata/name"),
            node: text(pod, "/spec/nodeName"),
            model: None,
        })
        .collect()
}

impl Canary {
    /// Whether a pod is on one of the nodes, and new.
    fn has(&self, pod: &Value) -> bool {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.nodes.contains(text("/spec/nodeName")) && !self.gone.contains(text("/metadata/uid"))
    }
}
