//! What software an image holds, as CycloneDX 1.6 (ECMA-424).
//!
//! The document names neither the image's digest nor the model: it stays the same while only the model changes, and
//! registries then have it already. What it describes, the manifest that attaches it says.

use mynah_contracts::{Platform, Tool};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::image_contents::{DebianPackage, ImageContents};
use crate::registry::Attachment;

/// The media type of CycloneDX documents.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// The crates inside our program, as `cargo xtask crates` found them in this release's lock file.
const CRATES: &str = include_str!("runtime-crates.json");

/// A crate inside our program.
#[derive(Debug, Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// An SPDX expression.
    #[serde(default)]
    licence: Option<String>,
    /// The SHA-256 of the published archive; absent for crates of this repository.
    #[serde(default)]
    sha256: Option<String>,
}

/// The document about the module `name` on `platform`.
pub(crate) fn attachment(name: &str, platform: Platform, contents: &ImageContents) -> Attachment {
    let document = document(name, platform, contents);
    // A tree of strings and numbers, which serde_json cannot refuse.
    let bytes = serde_json::to_vec(&document).unwrap_or_default();
    Attachment { artifact_type: MEDIA_TYPE, media_type: MEDIA_TYPE, bytes }
}

fn document(name: &str, platform: Platform, contents: &ImageContents) -> Value {
    let tool = Tool::current();
    let mut components = Vec::new();
    if let Some(digest) = contents.program {
        components.push(json!({
            "type": "application",
            "bom-ref": "mynah-runtime",
            "name": "mynah-runtime",
            "version": tool.version,
            "hashes": [{ "alg": "SHA-256", "content": digest.hex() }],
        }));
        components.extend(crates().iter().map(Crate::component));
    }
    components.extend(contents.packages.iter().map(debian_component));
    let parts: Vec<Value> = components.iter().map(|component| component["bom-ref"].clone()).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": tool.name, "version": tool.version }] },
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": name,
                "properties": [{ "name": "mynah:platform", "value": platform.as_str() }],
            },
        },
        "components": components,
        "dependencies": [{ "ref": "image", "dependsOn": parts }],
    })
}

/// The list in this program; a unit test reads it, so it is never broken.
fn crates() -> Vec<Crate> {
    serde_json::from_str(CRATES).unwrap_or_default()
}

impl Crate {
    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": format!("cargo:{}@{}", self.name, self.version),
            "name": self.name,
            "version": self.version,
        });
        if let Some(licence) = &self.licence {
            component["licenses"] = json!([{ "expression": licence }]);
        }
        if let Some(sha256) = &self.sha256 {
            component["purl"] = json!(format!("pkg:cargo/{}@{}", self.name, escaped(&self.version)));
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        component
    }
}

fn debian_component(package: &DebianPackage) -> Value {
    let DebianPackage { name, architecture, version, source } = package;
    let purl =
        format!("pkg:deb/debian/{}@{}?arch={}", escaped(name), escaped(version), escaped(architecture));
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("deb:{name}:{architecture}@{version}"),
        "name": name,
        "version": version,
        "purl": purl,
    });
    if let Some(source) = source {
        component["properties"] = json!([{ "name": "debian:source", "value": source }]);
    }
    component
}

/// What stays as it is in a part of a package URL (purl specification, "Character encoding").
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Sha256Digest;

    #[test]
    fn the_crates_of_our_program_are_known_with_licence_and_digest() {
        let crates = crates();
        assert!(crates.len() > 20, "{}", crates.len());
        let named = |name: &str| crates.iter().find(|found| found.name == name).unwrap();
        assert!(named("mynah-contracts").sha256.is_none());
        let serde = named("serde");
        assert_eq!(serde.licence.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(serde.sha256.as_deref().unwrap().len(), 64);
        assert!(
            crates
                .windows(2)
                .all(|pair| (&pair[0].name, &pair[0].version) < (&pair[1].name, &pair[1].version))
        );
    }

    #[test]
    fn packages_and_crates_get_urls_that_scanners_know() {
        let package = DebianPackage {
            name: "libstdc++6".into(),
            architecture: "arm64".into(),
            version: "1:2.36-9+deb12u14".into(),
            source: Some("gcc-12".into()),
        };
        let contents = ImageContents { program: Some(Sha256Digest::of(b"program")), packages: vec![package] };
        let document = document("mynah-runtime", Platform::LinuxArm64, &contents);
        let components = document["components"].as_array().unwrap();
        assert_eq!(
            components.last().unwrap()["purl"],
            "pkg:deb/debian/libstdc%2B%2B6@1:2.36-9%2Bdeb12u14?arch=arm64"
        );
        assert_eq!(components[0]["hashes"][0]["content"], Sha256Digest::of(b"program").hex());
        let refs: std::collections::BTreeSet<_> =
            components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), components.len(), "a reference is used twice");
        assert_eq!(document["dependencies"][0]["dependsOn"].as_array().unwrap().len(), components.len());
    }

    #[test]
    fn an_image_without_our_program_has_none_of_its_crates() {
        let document = document("other", Platform::LinuxAmd64, &ImageContents::default());
        assert_eq!(document["components"], json!([]));
    }
}
