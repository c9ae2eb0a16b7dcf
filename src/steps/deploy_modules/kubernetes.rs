//! The target `kubernetes`: who signs in, what is deployed, what is written about it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{
    Artifact as _, ClusterDeployment, DeployTarget, DeployedModule, DeploymentRecord, Fault, SchemaVersion,
    Sha256Digest, Tool, to_json,
};

use super::{deployment, wait};
use crate::agent::Inputs;
use crate::cluster::{Access, Api, Arrived, ClusterError, Manifest, Rollout};
use crate::http::block_on;
use crate::kubernetes;
use crate::staging;
use crate::step::{Context, Outcome};

/// A deployment to a cluster.
#[derive(Debug)]
pub(super) struct ClusterPlan {
    connection: Option<String>,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    deployment: String,
    canary: Option<(String, String)>,
    force: bool,
    wait: Duration,
}

impl fmt::Display for ClusterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.connection, &self.kubeconfig) {
            (Some(id), _) => writeln!(f, "to the cluster of the service connection `{id}`")?,
            (None, Some(path)) => writeln!(f, "to the cluster of {}", path.display())?,
            (None, None) => writeln!(f, "to the cluster that the environment names")?,
        }
        if let Some((key, value)) = &self.canary {
            writeln!(f, "on the nodes with {key}={value} first")?;
        }
        writeln!(f, "wait up to {} s until it runs", self.wait.as_secs())
    }
}

impl ClusterPlan {
    pub(super) fn new(inputs: &Inputs) -> Result<Self, Fault> {
        let connection = inputs.text("clusterConnection")?.map(str::to_owned);
        let kubeconfig = inputs.path("kubeconfig")?;
        if let (Some(_), Some(path)) = (&connection, &kubeconfig) {
            let allowed = "one of --kubeconfig and --cluster-connection";
            return Err(inputs.refused("kubeconfig", &path.display().to_string(), allowed).into());
        }
        let canary = inputs
            .text("canary")?
            .map(|text| {
                kubernetes::node_label(text).ok_or_else(|| inputs.refused("canary", text, "`<key>=<value>`"))
            })
            .transpose()?;
        Ok(Self {
            connection,
            kubeconfig,
            context: inputs.text("context")?.map(str::to_owned),
            deployment: deployment(inputs)?.to_owned(),
            canary,
            force: inputs.switch("force")?,
            wait: wait(inputs)?.unwrap_or(Duration::from_mins(5)),
        })
    }

    pub(super) fn preview(&self, manifest: &Path, context: &Context<'_>) -> Result<String, Fault> {
        let manifest = Manifest::read(manifest)?;
        let access = self.access(context)?;
        Ok(block_on(context.monitor, async {
            let api = Api::connect(access).await?;
            self.rollout(&api, &manifest).preview().await
        })?)
    }

    pub(super) fn run(&self, manifest: &Path, out: &Path, context: &Context<'_>) -> Result<Outcome, Fault> {
        let manifest = Manifest::read(manifest)?;
        let access = self.access(context)?;
        let server = access.server();
        let started = (context.now)().to_string();
        let out = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
        let file = out.join(DeploymentRecord::FILE);
        let arrived = block_on(context.monitor, async {
            let api = Api::connect(access).await?;
            self.rollout(&api, &manifest).deploy(context.monitor).await
        });
        let arrived = match arrived {
            Err(error @ ClusterError::NotRunning { .. }) => {
                // An earlier record would look like this deployment's.
                let _ = fs::remove_file(&file);
                return Err(error.into());
            }
            arrived => arrived?,
        };
        let headline = headline(&arrived, &manifest, &server);
        let variables =
            vec![("record", file.display().to_string()), ("changed", arrived.changed.to_string())];
        let record = self.record(arrived, &manifest, server, started, (context.now)().to_string());
        staging::write_file(&file, &to_json(&record))?;
        Ok(Outcome { headline, variables, ..Outcome::default() })
    }

    fn access(&self, context: &Context<'_>) -> Result<Access, ClusterError> {
        let (connection, file) = (self.connection.as_deref(), self.kubeconfig.as_deref());
        Access::discover(context.env, connection, file, self.context.as_deref())
    }

    fn rollout<'a>(&'a self, api: &'a Api, manifest: &'a Manifest) -> Rollout<'a> {
        Rollout {
            api,
            manifest,
            deployment: &self.deployment,
            canary: self.canary.as_ref().map(|(key, value)| (key.as_str(), value.as_str())),
            force: self.force,
            wait: self.wait,
        }
    }

    fn record(
        &self,
        arrived: Arrived,
        manifest: &Manifest,
        server: String,
        started: String,
        healthy: String,
    ) -> DeploymentRecord {
        let model = |module: &str| -> Option<Sha256Digest> {
            arrived.pods.iter().find(|pod| pod.workload == module).and_then(|pod| pod.model)
        };
        let modules = manifest.images().into_iter().map(|(name, image)| DeployedModule {
            name: name.to_owned(),
            image: image.to_owned(),
            platform: None,
            model: model(name),
        });
        DeploymentRecord {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            target: DeployTarget::Kubernetes,
            manifest: manifest.digest(),
            started,
            healthy,
            modules: modules.collect(),
            sightings: None,
            hub: None,
            cluster: Some(ClusterDeployment {
                server,
                namespace: manifest.namespace().to_owned(),
                canary: self.canary.as_ref().map(|(key, value)| format!("{key}={value}")),
                changed: arrived.changed,
                pods: arrived.pods,
                pruned: arrived.pruned,
            }),
        }
    }
}

fn headline(arrived: &Arrived, manifest: &Manifest, server: &str) -> String {
    let said = if arrived.changed { "deployed to" } else { "unchanged at" };
    let pods = match arrived.pods.len() {
        1 => "1 pod runs it".to_owned(),
        count => format!("{count} pods run it"),
    };
    let pruned = match arrived.pruned.len() {
        0 => String::new(),
        count => format!(", {count} objects went"),
    };
    format!("{said} {server}, namespace {}: {pods}{pruned}", manifest.namespace())
}
