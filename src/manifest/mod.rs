//! Deployment manifests for Azure IoT Edge: from a template and the built modules to `deployment.json`.
//!
//! A template is filled in string by string (`template`, `placeholder`), so that no value can break the document;
//! overlays are merged into it; the result is looked through for what is dangerous (`lint`) and checked offline
//! against the rules of the published schemas (`schema`). What is unknown is an error, never left standing.

pub mod command;
pub(crate) mod content;
mod create_options;
mod deployment;
pub mod diff;
mod error;
mod json;
mod lint;
mod overlay;
mod placeholder;
mod schema;
pub(crate) mod secret;
mod template;
mod variables;

use std::path::PathBuf;

use mynah_contracts::{ModuleSet, Platform};
use serde_json::Value;

pub use deployment::{Deployment, DeploymentModule};
pub use error::{ManifestError, Problem, UnknownPlaceholder};
pub use lint::{Finding, Rule};
pub use overlay::OverlayError;
pub use variables::{Variables, VariablesError};

/// The template used where none is given: the runtime module on IoT Edge 1.6.
///
/// Group numbers instead of names in `GroupAdd`: names are looked up inside the image, which has no
/// `/etc/group`; 29 (audio) and 44 (video) are Debian's numbers, hence Raspberry Pi OS'.
pub const DEFAULT_TEMPLATE: &str = include_str!("deployment.template.json");

/// What a template is filled in with.
#[derive(Clone)]
pub struct Sources<'a> {
    /// The built modules, for `${MODULES.<name>}`.
    pub modules: &'a ModuleSet,
    /// The platform whose images are pinned; without it, the images of all platforms.
    pub platform: Option<Platform>,
    /// For `$NAME`.
    pub variables: Variables,
    /// Files of JSON merge patches, applied in their order.
    pub overlays: Vec<PathBuf>,
    /// What the lint passes over.
    pub allowed: Vec<Rule>,
}

impl<'a> Sources<'a> {
    /// The modules alone.
    pub fn new(modules: &'a ModuleSet) -> Self {
        Self {
            modules,
            platform: None,
            variables: Variables::default(),
            overlays: Vec::new(),
            allowed: Vec::new(),
        }
    }
}

/// A finished manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generated {
    /// The document: indented JSON with sorted keys and a line feed at its end.
    pub json: Vec<u8>,
    /// Whether it is a layered deployment, which goes on top of another.
    pub layered: bool,
    /// What may surprise, but is allowed.
    pub warnings: Vec<String>,
    /// What the lint found.
    pub findings: Vec<Finding>,
}

/// Fills in `template`.
///
/// # Errors
/// When the template or an overlay is no JSON or names something unknown, or the result breaks a rule of the schema.
pub fn generate(template: &[u8], sources: &Sources<'_>) -> Result<Generated, ManifestError> {
    let names = placeholder::Names::new(sources.modules, sources.platform, &sources.variables);
    let mut expanded = template::expand(json::text_of(template)?, &names)?;
    let mut document = json::parse(&expanded.text).map_err(ManifestError::Json)?;
    if let Value::Object(top) = &mut document {
        top.retain(|key, _| !matches!(key.as_str(), "$schema-template" | "$schema"));
    }
    let mut warnings = Vec::new();
    let merged = overlay::apply(&mut document, &sources.overlays, &names, &mut warnings)?;
    expanded.values.extend(merged);
    let mut findings = lint::check(&document, &expanded.values);
    findings.retain(|finding| !sources.allowed.contains(&finding.rule));
    create_options::normalise(&mut document, &mut warnings)?;
    schema::check(&document)?;
    let layered = content::is_layered(&document);
    let mut json = serde_json::to_vec_pretty(&document).map_err(ManifestError::Json)?;
    json.push(b'\n');
    Ok(Generated { json, layered, warnings, findings })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
