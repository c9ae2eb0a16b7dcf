//! What the device is told to do: flags before environment before file before defaults, parsed into types at the edge.

mod command;
mod config_file;
mod decision;
mod definitions;
mod error;
mod given;
mod hub_spec;
mod labels;
mod quiet_hours;
mod review_spec;
mod server_spec;
mod source_spec;
mod speaker_spec;
mod speech_spec;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

pub use command::{Action, Request, request};
pub use decision::DecisionSettings;
pub use definitions::{Default, Definition, definitions};
pub use error::SettingsError;
pub use given::{Given, Origin};
pub use hub_spec::{HubSettings, HubSpec, Telemetry};
pub use quiet_hours::QuietHours;
pub use review_spec::ReviewSettings;
pub use server_spec::UrlFetch;
pub use source_spec::{
    CameraName, CameraSpec, PixelForm, RecordingForm, RecordingSpec, SourceSpec, StreamAddress,
};
pub use speaker_spec::SpeakerSpec;
pub use speech_spec::{AzureSpeech, EngineSettings, EngineSpec};

use crate::source::Patience;
use crate::update::Keys;
use values::{decimal, language, level, path, seconds};

/// Everything the device is told, in types.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The model package's folder.
    pub model: PathBuf,
    /// Where frames come from.
    pub source: SourceSpec,
    /// When a camera counts as broken.
    pub patience: Patience,
    /// How words are heard.
    pub speaker: SpeakerSpec,
    /// How loud a sound card plays, 0 to 1.
    pub volume: f32,
    /// When nothing is said aloud.
    pub mute_hours: Option<QuietHours>,
    /// The folder of clips.
    pub speech: Option<SpeechFolder>,
    /// The folder of speech maps.
    pub speech_maps: Option<PathBuf>,
    /// In which language words are said; absent = as the clips have them.
    pub language: Option<String>,
    /// How words get a voice that have no clip.
    pub engine: EngineSettings,
    /// Where the server listens.
    pub http: Option<SocketAddr>,
    /// The file with the server's token.
    pub http_token_file: Option<PathBuf>,
    /// From where pictures may be fetched for clients.
    pub url_fetch: UrlFetch,
    /// The hub, if any.
    pub hub: Option<HubSettings>,
    /// Which pictures people are to look at, if any.
    pub review: Option<ReviewSettings>,
    /// The file with the keys whose models are taken.
    pub model_keys_file: Option<PathBuf>,
    /// Where models the hub desired are kept.
    pub model_store: Option<PathBuf>,
    /// How long a new model must run without a fault.
    pub model_trial: Duration,
    /// Where sightings go.
    pub sightings: SightingsTo,
    /// Where the status is written.
    pub status: Option<PathBuf>,
    /// How frames become words.
    pub decision: DecisionSettings,
    /// How much is logged.
    pub log: LevelFilter,
}

/// The folder of clips.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpeechFolder {
    /// Where.
    pub path: PathBuf,
    /// Whether it must be there, since a flag asks for it. A container's environment names the folder also
    /// where its image was built without a voice.
    pub required: bool,
}

/// Where sightings go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SightingsTo {
    /// Standard output.
    Stdout,
    /// A file, begun anew.
    File(PathBuf),
}

impl Settings {
    /// The keys whose models are taken, if any.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn model_keys(&self) -> Result<Option<Keys>, SettingsError> {
        let Some(path) = &self.model_keys_file else { return Ok(None) };
        let text = server_spec::secret_file("model-keys-file", path)?;
        Keys::parse(text.expose()).map(Some).map_err(|what| SettingsError::Keys { path: path.clone(), what })
    }

    /// The settings that `given` amounts to.
    ///
    /// # Errors
    /// The first that is missing, out of range, or contradicts another.
    pub fn parse(given: &Given) -> Result<Self, SettingsError> {
        let decision = DecisionSettings::parse(given)?;
        let votes = decision.votes as u32;
        Ok(Self {
            model: given.required("model", path)?,
            source: given.required("source", |text| SourceSpec::parse(text, votes))?,
            patience: Patience {
                silent: given.required("camera-timeout", |text| {
                    decimal(text, 0.5, 3600.0).map(Duration::from_secs_f32)
                })?,
                still: given.required("still-timeout", |text| seconds(text, 3600.0))?,
                give_up: given.required("give-up", |text| seconds(text, 86_400.0))?,
            },
            speaker: given.optional("speaker", SpeakerSpec::parse)?.unwrap_or_else(SpeakerSpec::unasked),
            volume: given.required("volume", |text| decimal(text, 0.0, 1.0))?,
            mute_hours: given.optional("mute-hours", QuietHours::parse)?,
            speech: given
                .optional("speech", path)?
                .map(|path| SpeechFolder { path, required: given.origin("speech") == Some(Origin::Flag) }),
            speech_maps: given.optional("speech-maps", path)?,
            language: given.optional("language", language)?,
            engine: EngineSettings::parse(given)?,
            http: given.optional("http", server_spec::address)?,
            http_token_file: given.optional("http-token-file", path)?,
            url_fetch: given.required("url-fetch", UrlFetch::parse)?,
            hub: HubSettings::parse(given)?,
            review: ReviewSettings::parse(given)?,
            model_keys_file: given.optional("model-keys-file", path)?,
            model_store: given.optional("model-store", path)?,
            model_trial: given
                .required("model-trial", |text| decimal(text, 1.0, 86_400.0).map(Duration::from_secs_f32))?,
            sightings: given.required("sightings", |text| {
                Ok(if text == "-" { SightingsTo::Stdout } else { SightingsTo::File(path(text)?) })
            })?,
            status: given.optional("status", path)?,
            decision,
            log: given.required("log", level)?,
        })
    }
}

/// Whether the setting can change while the device runs.
pub(crate) fn is_live(name: &str) -> bool {
    definitions().any(|definition| definition.name == name && definition.live)
}

#[cfg(test)]
pub(super) mod tests {
    use mynah_contracts::{Diagnosis as _, FaultKind};

    use super::*;

    pub(super) fn parse(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let flags = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Settings::parse(&Given::collect(&flags, &std::collections::BTreeMap::new())?)
    }

    #[test]
    fn the_least_that_must_be_given_is_model_and_source() {
        let settings = parse(&[("model", "m"), ("source", "dir:frames")]).unwrap();
        assert_eq!(settings.model, PathBuf::from("m"));
        assert_eq!(settings.speaker, SpeakerSpec::unasked());
        assert_eq!(settings.sightings, SightingsTo::Stdout);
        assert_eq!((settings.decision.votes, settings.decision.window), (3, 5));
        assert!(matches!(parse(&[("model", "m")]), Err(SettingsError::Missing { name: "source", .. })));
    }

    #[test]
    fn what_is_out_of_range_is_told_with_what_is_allowed() {
        for (name, value, says) in [
            ("votes", "6", "a whole number from 1 to 5 is allowed"),
            ("votes", "three", "the setting `votes` is `three` (flag)"),
            ("window", "0", "from 1 to 1000"),
            ("threshold", "75%", "a number from 0 to 1"),
            ("threshold", "NaN", "a number from 0 to 1"),
            ("leave-frames", "0", "from 1 to 100000"),
            ("cooldown-frames", "-1", "from 0 to 1000000"),
            ("log", "loud", "`error`, `warn`, `info` or `debug`"),
            ("source", "webcam", "`dir:FOLDER`"),
            ("speaker", "loud", "`wav:DIR`"),
            ("status", "a\0b", "NUL"),
            ("smoothing", "1", "from 0 to 0.99"),
            ("pause", "-1", "from 0 to 3600"),
            ("words-per-minute", "601", "from 0 to 600"),
            ("label-thresholds", "a", "`LABEL=P`"),
            ("reset-labels", "a/b", "a slash"),
        ] {
            let error = parse(&[("model", "m"), ("source", "dir:f"), (name, value)]).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.kind(), FaultKind::BadInput);
        }
    }
}
