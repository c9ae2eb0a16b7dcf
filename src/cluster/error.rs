//! Why a deployment to a cluster did not arrive.

use std::fmt;
use std::io;
use std::path::PathBuf;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind};

use crate::abridged::abridged;
use crate::agent::ConnectionError;
use crate::http::HttpError;

/// Why a deployment to a cluster did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no list of objects.
    #[error("`{path}` holds no Kubernetes objects: {why}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing says which cluster.
    #[error("no cluster is named")]
    NoCluster,
    /// A kubeconfig cannot be used; why, without its secrets.
    #[error("the kubeconfig of {place} cannot be used: {why}")]
    Kubeconfig {
        /// Where it is from.
        place: String,
        /// Why.
        why: String,
    },
    /// A service connection cannot be used.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A program that signs in failed.
    #[error("`{program}`, which is to sign in, {what}")]
    Exec {
        /// The program.
        program: String,
        /// What it did.
        what: String,
    },
    /// A call failed.
    #[error(transparent)]
    Http(HttpError),
    /// The cluster does not accept who signs in.
    #[error("the cluster {server} does not accept {who}")]
    NotAccepted {
        /// The server.
        server: String,
        /// How this program signs in.
        who: String,
    },
    /// It does not answer.
    #[error("the cluster {server} does not answer")]
    Silent {
        /// The server.
        server: String,
    },
    /// A right is missing.
    #[error("the cluster {server} does not allow it: {what}")]
    Denied {
        /// The server.
        server: String,
        /// What is not allowed.
        what: String,
    },
    /// A kind the cluster does not have.
    #[error("the cluster {server} does not know `{kind}` of `{api}`")]
    UnknownKind {
        /// The server.
        server: String,
        /// The kind.
        kind: String,
        /// Its group and version.
        api: String,
    },
    /// Someone else owns fields.
    #[error("fields of {object} are managed by others: {}", abridged(.fields))]
    Conflict {
        /// The object.
        object: String,
        /// Each field with its manager.
        fields: Vec<String>,
    },
    /// The cluster refuses an object.
    #[error("the cluster refuses {object}: {why}")]
    Refused {
        /// The object.
        object: String,
        /// Why.
        why: String,
    },
    /// Someone else deploys.
    #[error("another deployment to `{0}` goes on at the same time")]
    Taken(String),
    /// The inventory cannot be read.
    #[error("the record of earlier deployments in {0} is not one of ours")]
    Inventory(String),
    /// More than a `ConfigMap` holds.
    #[error("the objects have {bytes} bytes, what is kept of a deployment may have {limit}")]
    TooLarge {
        /// The bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No node for the canary.
    #[error("no node of the cluster has the label `{0}`")]
    NoCanaryNode(String),
    /// Nothing runs on every node.
    #[error("nothing in the manifest runs on every node, so that some nodes could run it first")]
    NoCanaryWorkload,
    /// It does not run.
    #[error("{}{}; {after}", abridged(.failures), within(*.seconds))]
    NotRunning {
        /// What does not run, and why.
        failures: Vec<String>,
        /// The time it was given, where that ran out.
        seconds: Option<u64>,
        /// What was done then.
        after: After,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What was done about a deployment that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// What was there before is back.
    RolledBack {
        /// Whether it was seen running again.
        confirmed: bool,
    },
    /// There was nothing before.
    NothingBefore,
    /// Another deployment of the same name has begun since.
    Overtaken,
    /// Going back failed too.
    Stuck(String),
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack { confirmed: true } => f.write_str("what was there before is back and runs"),
            Self::RolledBack { confirmed: false } => {
                f.write_str("what was there before is back, but was not seen running yet")
            }
            Self::NothingBefore => f.write_str("it stays, since there is nothing to go back to"),
            Self::Overtaken => {
                f.write_str("nothing was put back, since another deployment has taken over in the meantime")
            }
            Self::Stuck(why) => write!(f, "going back failed: {why}"),
        }
    }
}

fn within(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" within {seconds} s")).unwrap_or_default()
}

impl From<Cancelled> for ClusterError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<HttpError> for ClusterError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl Diagnosis for ClusterError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Connection(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::NotAccepted { .. }
            | Self::Silent { .. }
            | Self::Denied { .. }
            | Self::UnknownKind { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Taken(_)
            | Self::Inventory(_) => FaultKind::ServiceRefused,
            Self::Exec { .. } | Self::NotRunning { .. } => FaultKind::Failed,
            Self::Cancelled => FaultKind::Cancelled,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { .. } => "check the path, and that this user may read the file",
            Self::Manifest { .. } => {
                "give --manifest the file that `generate-manifest --format kubernetes` wrote"
            }
            Self::NoCluster => {
                "give --kubeconfig, or --cluster-connection in a pipeline; K3s has its file at \
                 /etc/rancher/k3s/k3s.yaml"
            }
            Self::Kubeconfig { .. } => "try `kubectl --kubeconfig FILE get nodes` with the same file",
            Self::Connection(error) => return error.hint(),
            Self::Exec { .. } => "run it by hand, as the kubeconfig has it",
            Self::Http(error) => return error.hint(),
            Self::NotAccepted { .. } => {
                "the token or certificate has expired or belongs to another cluster; get a new one"
            }
            Self::Silent { .. } => "check the server in the kubeconfig, and that its port is open from here",
            Self::Denied { .. } => {
                "give whoever signs in that right by a Role and a RoleBinding; docs/kubernetes.md has the whole list"
            }
            Self::UnknownKind { .. } => {
                "install the custom resource definition of that kind, or take the object out of the manifest"
            }
            Self::Conflict { .. } => {
                "take the field out of the manifest, or give --force to take it over from its manager"
            }
            Self::Taken(_) => "wait until it has ended, then run the same command again",
            Self::Inventory(_) => "rename or delete that ConfigMap, or choose another --deployment",
            Self::TooLarge { .. } => {
                "mount large settings as files instead of writing them into the manifest"
            }
            Self::NoCanaryNode(_) => "`kubectl label node NAME KEY=VALUE` sets one",
            Self::NoCanaryWorkload => "generate the manifest with --node-label, or leave out --canary",
            Self::NotRunning { .. } => {
                "`kubectl describe pod` and `kubectl logs --previous` say more; --wait gives it more time"
            }
            Self::Cancelled => return Cancelled.hint(),
            Self::Refused { .. } => return None,
        };
        Some(hint.into())
    }
}
