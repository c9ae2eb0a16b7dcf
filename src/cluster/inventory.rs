//! What the cluster keeps of the last deployments: a `ConfigMap` beside what was deployed.
//!
//! `healthy` are the objects last seen running. `pending` is written before anything is changed and says what to go back
//! to, so that a run that was killed is finished or taken back by the next one. Each write names the version that was
//! read: two deployments at a time end in an error, not in a mixture.

use std::collections::BTreeSet;

use mynah_contracts::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ClusterError;
use super::api::Api;
use super::object::Key;

/// The key in the `ConfigMap`.
const ENTRY: &str = "deployment.json";

/// What a `ConfigMap` holds, less some room for its head (Kubernetes: 1 MiB).
const LARGEST: usize = 1_000_000;

/// What was deployed, and what is being deployed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    /// The objects last seen running.
    #[serde(default)]
    pub(super) healthy: Vec<Value>,
    /// A deployment that has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<Pending>,
}

/// A deployment that has begun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// What was there before, as it can be applied again.
    pub(super) before: Vec<Value>,
    /// What was not there before.
    pub(super) created: BTreeSet<Key>,
    /// What it applies.
    pub(super) objects: BTreeSet<Key>,
    /// Of what it applies, whole: two deployments never leave the same note, so that the first of them sees the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Sha256Digest>,
}

impl Content {
    /// Every object this or an earlier deployment made.
    pub(super) fn known(&self) -> BTreeSet<Key> {
        let healthy = self.healthy.iter().filter_map(|object| Key::of(object).ok());
        let pending = self.pending.iter().flat_map(|pending| pending.objects.iter().cloned());
        healthy.chain(pending).collect()
    }
}

/// The inventory as it was last read or written.
pub(super) struct Inventory {
    key: Key,
    /// The version in the cluster; none where it is not there yet.
    version: Option<String>,
    pub(super) content: Content,
}

impl Inventory {
    /// Reads it.
    pub(super) async fn read(api: &Api, namespace: &str, deployment: &str) -> Result<Self, ClusterError> {
        let key = Key {
            api: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: Some(namespace.to_owned()),
            name: format!("mynah-inventory-{deployment}"),
        };
        let Some(object) = api.get(&key).await? else {
            return Ok(Self { key, version: None, content: Content::default() });
        };
        let foreign = || ClusterError::Inventory(format!("{key}"));
        let ours = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mynah";
        let text = object["data"][ENTRY].as_str().filter(|_| ours).ok_or_else(foreign)?;
        let content = serde_json::from_str(text).map_err(|_| foreign())?;
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        Ok(Self { version: Some(version.ok_or_else(foreign)?), key, content })
    }

    /// Writes it, unless someone else did since it was read.
    pub(super) async fn write(&mut self, api: &Api, content: Content) -> Result<(), ClusterError> {
        let text = serde_json::to_string(&content).unwrap_or_default();
        if text.len() > LARGEST {
            return Err(ClusterError::TooLarge { bytes: text.len(), limit: LARGEST });
        }
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.key.name,
                "namespace": self.key.namespace,
                "labels": {"app.kubernetes.io/managed-by": "mynah", "app.kubernetes.io/component": "inventory"},
            },
            "data": {ENTRY: text},
        });
        if let Some(version) = &self.version {
            object["metadata"]["resourceVersion"] = version.as_str().into();
        }
        let written = match api.write(&self.key, &object).await {
            Err(ClusterError::Http(error)) => {
                // The answer may be lost and the writing done: then it is there as it was to be.
                let there =
                    Self::read(api, self.key.namespace.as_deref().unwrap_or_default(), self.deployment());
                match there.await {
                    Ok(there) if there.content == content => {
                        *self = there;
                        return Ok(());
                    }
                    _ => return Err(error.into()),
                }
            }
            written => written?,
        };
        self.version = written["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        self.content = content;
        Ok(())
    }

    fn deployment(&self) -> &str {
        self.key.name.strip_prefix("mynah-inventory-").unwrap_or_default()
    }
}
