//! Whether what was applied runs: workloads watched until they do, their pods asked for their model.

use std::collections::BTreeSet;
use std::time::Duration;

use mynah_contracts::{DeployedPod, Monitor};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::deploy::{Rollout, kind, pods};
use super::health::{self, Health};
use super::object::Object;
use super::verify::{Answer, Asked};
use super::watch::{Follower, Subject};
use super::{ClusterError, PODS};

/// How long a pod that is ready for its node may take to be ready for us.
const READY: Duration = Duration::from_secs(30);

/// What does not run.
pub(super) struct Trouble {
    pub(super) failures: Vec<String>,
    pub(super) timed_out: bool,
}

/// The nodes of a canary with the pods that must go from them first.
pub(super) struct Canary {
    pub(super) nodes: BTreeSet<String>,
    pub(super) gone: BTreeSet<String>,
}

impl Rollout<'_> {
    /// Watches until the workloads run and their pods tell the right model.
    pub(super) async fn see_running(
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

    pub(super) async fn watch(
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
        // What an older template's pods suffer from is what they are replaced for.
        let new: Vec<&Value> = pods.iter().copied().filter(|pod| health::is_made_from(pod, live)).collect();
        let health = health::workload(live, &new);
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
