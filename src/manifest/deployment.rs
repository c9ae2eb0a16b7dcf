//! A deployment manifest as a device reads it: which modules it runs, from which images.

use serde_json::Value;

use super::{ManifestError, content, json, schema};

/// A manifest that keeps the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// The modules besides IoT Edge's own, by name.
    pub modules: Vec<DeploymentModule>,
}

/// A module of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeploymentModule {
    /// Its name.
    pub name: String,
    /// Its image, as written.
    pub image: String,
    /// Whether it is to run.
    pub running: bool,
}

impl Deployment {
    /// Reads and checks `deployment.json`.
    ///
    /// # Errors
    /// When it is no JSON, breaks a rule of the schema, or is a layered deployment.
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        let document = Self::document(bytes)?;
        if content::is_layered(&document) {
            return Err(ManifestError::Layered);
        }
        let modules = document
            .pointer("/modulesContent/$edgeAgent/properties.desired/modules")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, module)| {
                Some(DeploymentModule {
                    name: name.clone(),
                    image: module.pointer("/settings/image")?.as_str()?.to_owned(),
                    running: module.get("status")?.as_str()? == "running",
                })
            })
            .collect();
        Ok(Self { modules })
    }

    /// Reads and checks `deployment.json`, a layered one too, and gives all of it.
    ///
    /// # Errors
    /// When it is no JSON, or breaks a rule of the schema.
    pub fn document(bytes: &[u8]) -> Result<Value, ManifestError> {
        let document = json::read(bytes)?;
        schema::check(&document)?;
        Ok(document)
    }
}
