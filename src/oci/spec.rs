//! The documents of the OCI image specification 1.1, in its order of fields.
//!
//! Writing one gives the same bytes every time: fields in a fixed order, maps sorted, no white space.

#![expect(clippy::zero_sized_map_values, reason = "OCI writes a set as an object of empty objects")]

use std::collections::BTreeMap;

use mynah_contracts::{Platform, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Media types (image-spec, media-types.md).
pub mod media_type {
    /// An image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer: a gzipped tar archive.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer: a tar archive as it is.
    pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
}

/// Keys of annotations (image-spec, annotations.md) and our own.
pub mod annotation {
    /// The tag, on a descriptor of a layout's `index.json`.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The image's name for people.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// The version of the packaged software.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// When it was built, RFC 3339.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// The digest of the dataset the model learnt from.
    pub const DATASET: &str = "dev.mynah.dataset.digest";
    /// The SHA-256 of the model inside.
    pub const MODEL: &str = "dev.mynah.model.digest";
}

/// A pointer to a blob (descriptor.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For which platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformFields>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Sha256Digest::of(bytes), bytes.len() as u64)
    }

    /// A descriptor without platform or annotations.
    pub fn new(media_type: &str, digest: Sha256Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

impl From<&Descriptor> for mynah_contracts::Descriptor {
    fn from(descriptor: &Descriptor) -> Self {
        Self { media_type: descriptor.media_type.clone(), digest: descriptor.digest, size: descriptor.size }
    }
}

/// A platform as an index writes it (image-index.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlatformFields {
    /// The processor, in Go's names.
    pub architecture: String,
    /// The operating system, in Go's names.
    pub os: String,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl From<Platform> for PlatformFields {
    fn from(platform: Platform) -> Self {
        Self {
            architecture: platform.architecture().into(),
            os: "linux".into(),
            variant: platform.variant().map(Into::into),
        }
    }
}

impl PlatformFields {
    /// The platform in our types, where it is one of those we build for.
    pub fn known(&self) -> Option<Platform> {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = &self.variant {
            text.push('/');
            text.push_str(variant);
        }
        text.parse().ok()
    }
}

/// An image index: one image for several platforms (image-index.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::INDEX`], where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An index of these manifests.
    pub fn new(manifests: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self { schema_version: 2, media_type: Some(media_type::INDEX.into()), manifests, annotations }
    }
}

/// An image of one platform (manifest.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::MANIFEST`], where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How to run an image (config.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was built, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The platform.
    #[serde(flatten)]
    pub platform: PlatformFields,
    /// What to start, and how.
    #[serde(default)]
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// One line per layer, and perhaps more for changes of settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// What to start, and how. Docker writes `null` for what is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// The user to run as: `uid`, `uid:gid` or names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports it listens on, such as `80/tcp`.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Environment, `NAME=value`.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Folders whose content outlives the container.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The folder it starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Free texts.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How to see whether it is well. Docker's, not OCI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// What runs commands given as a line. Docker's, not OCI's.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Instructions for images built on this one. Docker's, not OCI's.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// The empty object, as Go writes a member of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Empty {}

/// How to see whether a container is well; times in nanoseconds, absent = the default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// For one check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Before failures count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<u64>,
    /// Between two checks while starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<u64>,
    /// How many failures in a row are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
}

fn null_is_absent<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The layers' uncompressed digests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// SHA-256 of each uncompressed tar archive, lowest layer first.
    pub diff_ids: Vec<Sha256Digest>,
}

/// How a layer came to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The file `oci-layout` (image-layout.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayoutMarker {
    /// Always `1.0.0`.
    pub image_layout_version: String,
}

/// A document's canonical bytes.
pub fn canonical<T: Serialize>(document: &T) -> Vec<u8> {
    // These types hold no map with keys other than strings, the only thing serde_json could refuse.
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_keeps_its_name_through_an_index() {
        for platform in Platform::ALL {
            assert_eq!(PlatformFields::from(platform).known(), Some(platform));
        }
        let windows = PlatformFields { architecture: "amd64".into(), os: "windows".into(), variant: None };
        assert_eq!(windows.known(), None);
    }

    #[test]
    fn what_docker_writes_as_null_is_absent() {
        let text = r#"{"User":"","Env":null,"Cmd":["sh"],"Volumes":null,"ExposedPorts":{"80/tcp":{}},"OnBuild":null,"Labels":null,"ArgsEscaped":true}"#;
        let config: RunConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.cmd, config.exposed_ports.len()), (vec!["sh".to_owned()], 1));
    }

    #[test]
    fn a_descriptor_is_written_in_the_order_of_the_specification() {
        let mut descriptor = Descriptor::of(media_type::CONFIG, b"{}");
        descriptor.platform = Some(Platform::LinuxArmV7.into());
        assert_eq!(
            String::from_utf8(canonical(&descriptor)).unwrap(),
            r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"platform":{"architecture":"arm","os":"linux","variant":"v7"}}"#
        );
    }
}
