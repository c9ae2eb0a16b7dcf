//! Deployment manifests for Azure IoT Edge: from a template and the built modules to `deployment.json`.
//!
//! The template is parsed first and filled in afterwards, string by string, so that no value can break the
//! document. The result is checked here, offline, against the rules of the published schemas; what is
//! unknown is an error, never left standing.

mod create_options;
mod deployment;
mod error;
mod json;
mod placeholder;
mod schema;

use mynah_contracts::{ModuleSet, Platform};
use serde_json::Value;

pub use deployment::{Deployment, DeploymentModule};
pub use error::{ManifestError, Problem, UnknownPlaceholder};

/// The template used where none is given: the runtime module on IoT Edge 1.6.
///
/// Group numbers instead of names in `GroupAdd`: names are looked up inside the image, which has no
/// `/etc/group`; 29 (audio) and 44 (video) are Debian's numbers, hence Raspberry Pi OS'.
pub const DEFAULT_TEMPLATE: &str = include_str!("deployment.template.json");

/// A finished manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generated {
    /// The document: indented JSON with sorted keys and a line feed at its end.
    pub json: Vec<u8>,
    /// What may surprise, but is allowed.
    pub warnings: Vec<String>,
}

/// Fills in `template` with the images of `modules`.
///
/// `${MODULES.<name>}` becomes the module's pinned image: of all platforms, or of `platform` where that is
/// given. `${MODULES.<name>.<platform>}` is the image of that platform.
///
/// # Errors
/// When the template is no JSON, names something unknown, or the result breaks a rule of the schema.
pub fn generate(
    template: &[u8],
    modules: &ModuleSet,
    platform: Option<Platform>,
) -> Result<Generated, ManifestError> {
    let (text, mut document) = json::read(template)?;
    if let Value::Object(top) = &mut document {
        top.remove("$schema-template");
        if top.contains_key("content") && !top.contains_key("modulesContent") {
            return Err(ManifestError::Layered);
        }
    }
    placeholder::fill(&mut document, text, modules, platform)?;
    let mut warnings = Vec::new();
    create_options::normalise(&mut document, &mut warnings)?;
    schema::check(&document)?;
    let mut json = serde_json::to_vec_pretty(&document).map_err(ManifestError::Json)?;
    json.push(b'\n');
    Ok(Generated { json, warnings })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
