//! The settings of engines that speak: which one, and where Azure Speech is.

use std::path::PathBuf;

use mynah_contracts::azure_speech::PATH;

use super::server_spec::secret_file;
use super::values::path;
use super::{Given, Settings, SettingsError};
use crate::secret::Secret;

/// Which engine makes clips.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineSpec {
    /// What is there.
    Auto,
    /// None.
    Off,
    /// espeak-ng.
    Espeak,
    /// Piper, with the model of a voice.
    Piper(PathBuf),
    /// Azure Speech.
    Azure,
}

/// A resource of Azure Speech.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AzureSpeech {
    /// Where it speaks.
    pub url: String,
    /// Its key.
    pub key: Secret,
}

/// How words get a voice that have no clip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineSettings {
    /// Which engine.
    pub spec: EngineSpec,
    /// Where its clips are kept; absent = until the device ends.
    pub cache: Option<PathBuf>,
    /// Where Azure Speech is.
    pub azure_place: Option<String>,
    /// The file with its key.
    pub azure_key_file: Option<PathBuf>,
}

impl EngineSettings {
    pub(super) fn parse(given: &Given) -> Result<Self, SettingsError> {
        Ok(Self {
            spec: given.required("speech-engine", EngineSpec::parse)?,
            cache: given.optional("speech-cache", path)?,
            azure_place: given.optional("azure-speech", place)?,
            azure_key_file: given.optional("azure-speech-key-file", path)?,
        })
    }
}

impl EngineSpec {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            "espeak-ng" => return Ok(Self::Espeak),
            "azure" => return Ok(Self::Azure),
            _ => {}
        }
        match text.strip_prefix("piper:") {
            Some(model) if !model.is_empty() => Ok(Self::Piper(path(model)?)),
            _ => Err("`auto`, `off`, `espeak-ng`, `piper:VOICE.onnx` or `azure` is allowed".into()),
        }
    }
}

/// The address at which a region, or a resource of its own address, speaks. A key goes over an unencrypted line to this
/// machine only.
fn place(text: &str) -> Result<String, String> {
    let of_resource = |text: &str| {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let is_safe = scheme == "https" || (scheme == "http" && matches!(host, "127.0.0.1" | "localhost"));
        let is_whole = !host.is_empty()
            && host.chars().all(plain)
            && !authority.contains('@')
            && !path.contains(['?', '#']);
        let path = if path.trim_end_matches('/').is_empty() { PATH } else { path };
        (is_safe && is_whole).then(|| format!("{scheme}://{authority}{path}"))
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Ok(format!("https://{text}.tts.speech.microsoft.com{PATH}"));
    }
    of_resource(text)
        .ok_or_else(|| "a region such as `westeurope` or an address with https:// is allowed".into())
}

impl Settings {
    /// Azure Speech, if it is set up.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn azure_speech(&self) -> Result<Option<AzureSpeech>, SettingsError> {
        let (Some(url), Some(file)) = (&self.engine.azure_place, &self.engine.azure_key_file) else {
            return Ok(None);
        };
        Ok(Some(AzureSpeech { url: url.clone(), key: secret_file("azure-speech-key-file", file)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_and_places_are_read() {
        assert_eq!(EngineSpec::parse("piper:/v/a.onnx"), Ok(EngineSpec::Piper("/v/a.onnx".into())));
        for bad in ["", "piper:", "say", "Azure"] {
            assert!(EngineSpec::parse(bad).is_err(), "{bad}");
        }
        for (text, url) in [
            ("westeurope", "https://westeurope.tts.speech.microsoft.com/cognitiveservices/v1"),
            ("https://a.example/", "https://a.example/cognitiveservices/v1"),
            ("http://127.0.0.1:80/tts/v1", "http://127.0.0.1:80/tts/v1"),
        ] {
            assert_eq!(place(text).unwrap(), url);
        }
        for bad in ["", "West Europe", "http://a.example/", "ftp://a", "https://a/?k=1", "https://u:p@a/"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
