//! Why a manifest cannot be written for Kubernetes.

use mynah_contracts::{Diagnosis, FaultKind};

use crate::manifest::{ManifestError, Problem};

/// Why a manifest cannot be written for Kubernetes.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// It is no manifest, or a layered one.
    #[error("the manifest cannot be read")]
    Manifest(#[from] ManifestError),
    /// Its parts do not go together.
    #[error("the manifest contradicts itself: {0}")]
    Inconsistent(String),
    /// Something Kubernetes has no way to say.
    #[error("Kubernetes cannot express this manifest: {}", list(.0))]
    Inexpressible(Vec<Problem>),
    /// A resource is named for a device that no module asks for.
    #[error("no module of the manifest asks for the device `{}`", device.escape_debug())]
    NoSuchDevice {
        /// The path on the node.
        device: String,
        /// What modules ask for.
        there: Vec<String>,
    },
    /// The objects cannot be written down.
    #[error("cannot write the objects as YAML")]
    Yaml(#[source] serde_saphyr::ser::Error),
    /// The objects cannot be written down.
    #[error("cannot write the objects as JSON")]
    Json(#[source] serde_json::Error),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Diagnosis for KubernetesError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(error) => error.hint(),
            Self::Inexpressible(_) => {
                Some("change it in the template or with an --overlay for Kubernetes".into())
            }
            Self::NoSuchDevice { there, .. } if there.is_empty() => {
                Some("leave out --device-resource: no module asks for any device".into())
            }
            Self::NoSuchDevice { there, .. } => {
                let there = there.join("`, `");
                Some(format!("name one of `{}` in --device-resource", there.escape_debug()))
            }
            _ => None,
        }
    }
}
