//! What the device is told to do: flags before environment before file before defaults, parsed into types at the edge.

mod command;
mod config_file;
mod definitions;
mod given;
mod hub_spec;
mod labels;
mod quiet_hours;
mod server_spec;
mod source_spec;
mod speaker_spec;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mynah_contracts::{Diagnosis, FaultKind, Label};
use tracing::level_filters::LevelFilter;

pub use command::{Action, Request, request};
pub use definitions::{DEFINITIONS, Default, Definition};
pub use given::{Given, Origin};
pub use hub_spec::{HubSettings, HubSpec, Telemetry};
pub use quiet_hours::QuietHours;
pub use server_spec::UrlFetch;
pub use source_spec::{CameraName, CameraSpec, PixelForm, RecordingForm, SourceSpec, StreamAddress};
pub use speaker_spec::SpeakerSpec;

use crate::decide::{LabelRule, Role, Rules, RulesError};
use crate::source::Patience;
use crate::update::Keys;

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
    /// Where the server listens.
    pub http: Option<SocketAddr>,
    /// The file with the server's token.
    pub http_token_file: Option<PathBuf>,
    /// From where pictures may be fetched for clients.
    pub url_fetch: UrlFetch,
    /// The hub, if any.
    pub hub: Option<HubSettings>,
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

/// [`Rules`] before the model is known, whose card holds the default threshold and the labels.
#[derive(Clone, PartialEq, Debug)]
pub struct DecisionSettings {
    /// Probability; absent = the model card's.
    pub threshold: Option<f32>,
    /// Probability; absent = [`DecisionSettings::EXIT_SHARE`] of the threshold.
    pub threshold_exit: Option<f32>,
    /// Frames.
    pub votes: usize,
    /// Frames.
    pub window: usize,
    /// Frames.
    pub leave_frames: u64,
    /// Frames; 0 = never.
    pub cooldown_frames: u64,
    /// Probability.
    pub margin: f32,
    /// Share.
    pub smoothing: f32,
    /// Between two words.
    pub pause: Duration,
    /// Words; 0 = any number.
    pub words_per_minute: usize,
    /// Labels with a threshold of their own.
    pub label_thresholds: Vec<(Label, f32)>,
    /// Labels that clear what is in view.
    pub reset_labels: Vec<Label>,
    /// Labels that name nothing.
    pub negative_labels: Vec<Label>,
    /// The share of a picture that must change before it is judged; 0 = none.
    pub motion: f32,
}

impl DecisionSettings {
    /// The exit threshold as a share of the threshold, where it is not given: 0.6 for 0.8.
    pub const EXIT_SHARE: f32 = 0.75;

    /// The rules for a model with these labels whose card says `reject_threshold`.
    ///
    /// # Errors
    /// The exit threshold lies above the threshold, or a label is named that the model does not have, or twice.
    pub fn rules(&self, labels: &[Label], reject_threshold: f32) -> Result<Rules, SettingsError> {
        let threshold = self.threshold.unwrap_or(reject_threshold);
        let rules = Rules {
            threshold,
            threshold_exit: self.threshold_exit.unwrap_or(threshold * Self::EXIT_SHARE),
            margin: self.margin,
            smoothing: self.smoothing,
            votes: self.votes,
            window: self.window,
            leave_frames: self.leave_frames,
            cooldown_frames: self.cooldown_frames,
            pause: self.pause,
            words_per_minute: self.words_per_minute,
            labels: self.label_rules(labels)?,
        };
        rules.check().map_err(|source| SettingsError::Rules { source })?;
        Ok(rules)
    }

    fn label_rules(&self, labels: &[Label]) -> Result<Vec<LabelRule>, SettingsError> {
        let mut rules = vec![LabelRule::default(); labels.len()];
        let position = |label: &Label, setting| {
            labels
                .iter()
                .position(|known| known == label)
                .ok_or_else(|| SettingsError::NoSuchLabel { setting, label: label.clone() })
        };
        for (label, threshold) in &self.label_thresholds {
            if let Some(rule) = rules.get_mut(position(label, "label-thresholds")?) {
                rule.threshold = Some(*threshold);
            }
        }
        let roles = [
            (&self.reset_labels, Role::Reset, "reset-labels"),
            (&self.negative_labels, Role::Negative, "negative-labels"),
        ];
        for (named, role, setting) in roles {
            for label in named {
                if let Some(rule) = rules.get_mut(position(label, setting)?) {
                    if rule.role != Role::Word {
                        return Err(SettingsError::TwoRoles { label: label.clone() });
                    }
                    rule.role = role;
                }
            }
        }
        Ok(rules)
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It has no default and was not given.
    #[error("the setting `{name}` is missing")]
    Missing {
        /// Which.
        name: &'static str,
        /// Its environment variable.
        variable: String,
    },
    /// The value is not one of those allowed.
    #[error("the setting `{name}` is `{value}` ({origin}): {what}")]
    Invalid {
        /// Which.
        name: &'static str,
        /// As given, control characters escaped.
        value: String,
        /// Who gave it.
        origin: Origin,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// The environment variable's value is not text.
    #[error("the environment variable `{variable}` is not UTF-8")]
    NotText {
        /// Which.
        variable: String,
    },
    /// The settings file cannot be read.
    #[error("cannot read the settings file `{path}`")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of the settings file is not of its form.
    #[error("line {line} of the settings file `{path}` cannot be used: {what}")]
    Line {
        /// Where.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A file that holds a secret cannot be read.
    #[error("cannot read the file `{path}` that the setting `{name}` names")]
    Secret {
        /// Which setting.
        name: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token is none.
    #[error("the file `{path}` holds no token: 16 to 200 letters, digits, `-`, `.`, `_` or `~` are needed")]
    Token {
        /// Where.
        path: PathBuf,
    },
    /// The hub cannot be told from what is given.
    #[error("the hub cannot be reached as set: {what}")]
    Hub {
        /// What is missing or wrong.
        what: String,
    },
    /// The file of keys holds something else.
    #[error("the keys `{path}` cannot be used: {what}")]
    Keys {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A setting names a label that the model does not have.
    #[error("the setting `{setting}` names `{label}`, which is no label of the model")]
    NoSuchLabel {
        /// Which setting.
        setting: &'static str,
        /// Which label.
        label: Label,
    },
    /// A label cannot be both.
    #[error("`{label}` stands both in `reset-labels` and in `negative-labels`")]
    TwoRoles {
        /// Which label.
        label: Label,
    },
    /// Each is fine by itself, but they contradict each other.
    #[error("the settings `threshold`, `threshold-exit`, `votes` and `window` contradict each other")]
    Rules {
        /// How.
        #[source]
        source: RulesError,
    },
}

impl Diagnosis for SettingsError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { name, variable } => {
                Some(format!("give `--{name}` or set the environment variable `{variable}`"))
            }
            Self::NoSuchLabel { .. } => Some("the model's `labels.txt` lists its labels".into()),
            _ => Some("`mynah-runtime settings` lists what is allowed and what was given".into()),
        }
    }
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
        let window = given.required("window", |text| count(text, 1, Rules::MAX_WINDOW))?;
        let votes = given.required("votes", |text| count(text, 1, window))?;
        let threshold = given.optional("threshold", |text| probability(text, 1.0))?;
        let decision = DecisionSettings {
            threshold,
            threshold_exit: given
                .optional("threshold-exit", |text| probability(text, threshold.unwrap_or(1.0)))?,
            votes,
            window,
            leave_frames: given.required("leave-frames", |text| count(text, 1, 100_000))?,
            cooldown_frames: given.required("cooldown-frames", |text| count(text, 0, 1_000_000))?,
            margin: given.required("margin", |text| probability(text, 1.0))?,
            smoothing: given.required("smoothing", |text| decimal(text, 0.0, Rules::MAX_SMOOTHING))?,
            pause: given.required("pause", |text| seconds(text, 3600.0))?,
            words_per_minute: given.required("words-per-minute", |text| count(text, 0, Rules::MAX_WORDS))?,
            label_thresholds: given.optional("label-thresholds", labels::thresholds)?.unwrap_or_default(),
            reset_labels: given.optional("reset-labels", labels::labels)?.unwrap_or_default(),
            negative_labels: given.optional("negative-labels", labels::labels)?.unwrap_or_default(),
            motion: given.required("motion", |text| decimal(text, 0.0, 1.0))?,
        };
        let settings = Self {
            model: given.required("model", path)?,
            source: given.required("source", |text| SourceSpec::parse(text, votes as u32))?,
            patience: Patience {
                silent: given.required("camera-timeout", |text| {
                    decimal(text, 0.5, 3600.0).map(Duration::from_secs_f32)
                })?,
                still: given.required("still-timeout", |text| seconds(text, 3600.0))?,
                give_up: given.required("give-up", |text| seconds(text, 86_400.0))?,
            },
            speaker: given.required("speaker", SpeakerSpec::parse)?,
            volume: given.required("volume", |text| decimal(text, 0.0, 1.0))?,
            mute_hours: given.optional("mute-hours", QuietHours::parse)?,
            speech: given
                .optional("speech", path)?
                .map(|path| SpeechFolder { path, required: given.origin("speech") == Some(Origin::Flag) }),
            http: given.optional("http", server_spec::address)?,
            http_token_file: given.optional("http-token-file", path)?,
            url_fetch: given.required("url-fetch", UrlFetch::parse)?,
            hub: HubSettings::parse(given)?,
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
        };
        if let (Some(threshold), Some(exit)) = (threshold, settings.decision.threshold_exit)
            && exit > threshold
        {
            let source = RulesError::ThresholdExit { exit, threshold };
            return Err(SettingsError::Rules { source });
        }
        Ok(settings)
    }
}

/// Whether the setting can change while the device runs.
pub(crate) fn is_live(name: &str) -> bool {
    DEFINITIONS.iter().any(|definition| definition.name == name && definition.live)
}

/// A path as typed.
fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') { Err("a path cannot hold a NUL character".into()) } else { Ok(text.into()) }
}

/// A whole number from `min` to `max`.
fn count<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    text.parse()
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("a whole number from {min} to {max} is allowed"))
}

/// A decimal number from `min` to `max`.
fn decimal(text: &str, min: f32, max: f32) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("a number from {min} to {max} is allowed"))
}

fn probability(text: &str, max: f32) -> Result<f32, String> {
    decimal(text, 0.0, max)
}

/// A length of time in seconds, 0 to `max`.
fn seconds(text: &str, max: f32) -> Result<Duration, String> {
    decimal(text, 0.0, max).map(Duration::from_secs_f32)
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        _ => Err("`error`, `warn`, `info` or `debug` is allowed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let flags = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Settings::parse(&Given::collect(&flags, &std::collections::BTreeMap::new())?)
    }

    #[test]
    fn the_least_that_must_be_given_is_model_and_source() {
        let settings = parse(&[("model", "m"), ("source", "dir:frames")]).unwrap();
        assert_eq!(settings.model, PathBuf::from("m"));
        assert_eq!(settings.speaker, SpeakerSpec::None);
        assert_eq!(settings.sightings, SightingsTo::Stdout);
        assert_eq!((settings.decision.votes, settings.decision.window), (3, 5));
        assert!(matches!(parse(&[("model", "m")]), Err(SettingsError::Missing { name: "source", .. })));
    }

    #[test]
    fn the_models_threshold_holds_unless_one_is_given() {
        let settings = parse(&[("model", "m"), ("source", "dir:f")]).unwrap();
        let rules = settings.decision.rules(&[], 0.8).unwrap();
        assert!((rules.threshold - 0.8).abs() < 1e-6 && (rules.threshold_exit - 0.6).abs() < 1e-6);
        let given = parse(&[("model", "m"), ("source", "dir:f"), ("threshold", "0.5")]).unwrap();
        assert!((given.decision.rules(&[], 0.8).unwrap().threshold - 0.5).abs() < 1e-6);
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

    #[test]
    fn the_exit_threshold_may_not_lie_above_the_models() {
        let settings = parse(&[("model", "m"), ("source", "dir:f"), ("threshold-exit", "0.7")]).unwrap();
        assert!(matches!(settings.decision.rules(&[], 0.6), Err(SettingsError::Rules { .. })));
    }

    #[test]
    fn labels_that_the_model_does_not_have_are_named() {
        let decision =
            |name, value| parse(&[("model", "m"), ("source", "dir:f"), (name, value)]).unwrap().decision;
        let labels = ["hand", "pear"].map(|label| label.parse().unwrap());
        let rules = decision("reset-labels", "hand").rules(&labels, 0.5).unwrap();
        assert_eq!((rules.role(0), rules.role(1)), (Role::Reset, Role::Word));
        for name in ["reset-labels", "negative-labels"] {
            let error = decision(name, "Hand").rules(&labels, 0.5).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}` names `Hand`")), "{error}");
        }
        assert!(decision("label-thresholds", "plum=0.5").rules(&labels, 0.5).is_err());
        let both =
            DecisionSettings { negative_labels: vec![labels[0].clone()], ..decision("reset-labels", "hand") };
        assert!(matches!(both.rules(&labels, 0.5), Err(SettingsError::TwoRoles { .. })));
    }
}
