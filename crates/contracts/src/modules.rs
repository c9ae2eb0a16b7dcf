//! `modules.json`: which images were built, for which platforms, under which digests.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Artifact, RelativePath, SchemaVersion, Sha256Digest, Tool};

/// The built modules.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSet {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// Who wrote it.
    pub tool: Tool,
    /// The modules, by name.
    pub modules: Vec<Module>,
}

/// One module: one OCI image index.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// The name placeholders use: `${MODULES.<name>}`.
    pub name: String,
    /// The repository, such as `registry.example/mynah/runtime`.
    pub repository: String,
    /// The tag, derived from content.
    pub tag: String,
    /// The OCI image layout's folder, below that of `modules.json`.
    pub layout: RelativePath,
    /// The image index.
    pub index: Descriptor,
    /// The images the index names.
    pub platforms: Vec<PlatformImage>,
    /// The model inside, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Sha256Digest>,
}

impl Module {
    /// The reference a manifest pins: `repository@sha256:…`.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository, self.index.digest)
    }
}

/// An image of one platform.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// The image manifest.
    pub manifest: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What an OCI descriptor says of a blob (image-spec, descriptor.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A platform as OCI writes it: `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Platform {
    /// 64-bit x86.
    LinuxAmd64,
    /// 64-bit ARM.
    LinuxArm64,
    /// 32-bit ARM with hard floats.
    LinuxArmV7,
}

/// The text is not one of the platforms we build for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of linux/amd64, linux/arm64, linux/arm/v7")]
pub struct PlatformParseError(String);

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LinuxAmd64, Self::LinuxArm64, Self::LinuxArmV7];

    /// The platform this program was built for, where it is one of ours.
    pub fn host() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Some(Self::LinuxAmd64),
            ("linux", "aarch64") => Some(Self::LinuxArm64),
            ("linux", "arm") => Some(Self::LinuxArmV7),
            _ => None,
        }
    }

    /// OCI's `architecture`.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
            Self::LinuxArmV7 => "arm",
        }
    }

    /// OCI's `variant`.
    pub const fn variant(self) -> Option<&'static str> {
        match self {
            Self::LinuxArmV7 => Some("v7"),
            _ => None,
        }
    }

    /// The whole text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "linux/amd64",
            Self::LinuxArm64 => "linux/arm64",
            Self::LinuxArmV7 => "linux/arm/v7",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Platform {
    type Err = PlatformParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "linux/amd64" | "amd64" => Ok(Self::LinuxAmd64),
            "linux/arm64" | "linux/arm64/v8" | "arm64" | "arm64v8" => Ok(Self::LinuxArm64),
            "linux/arm/v7" | "linux/arm" | "arm32v7" => Ok(Self::LinuxArmV7),
            other => Err(PlatformParseError(other.chars().take(80).collect())),
        }
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Platform {
    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": ["linux/amd64", "linux/arm64", "linux/arm/v7"] })
    }
}

impl Artifact for ModuleSet {
    const FILE: &'static str = "modules.json";

    fn validate(&self) -> Result<(), String> {
        let mut names: Vec<_> = self.modules.iter().map(|module| module.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("the module `{}` is named twice", pair[0])),
            None => Ok(()),
        }
    }
}
