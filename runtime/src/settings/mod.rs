//! What the device is told to do: flags before environment before defaults, parsed into types at the edge.

mod command;
mod definitions;
mod given;
mod source_spec;
mod speaker_spec;

use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind};
use tracing::level_filters::LevelFilter;

pub use command::{Request, request};
pub use definitions::{DEFINITIONS, Default, Definition};
pub use given::{Given, Origin};
pub use source_spec::SourceSpec;
pub use speaker_spec::SpeakerSpec;

use crate::decide::{Rules, RulesError};

/// Everything the device is told, in types.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The model package's folder.
    pub model: PathBuf,
    /// Where frames come from.
    pub source: SourceSpec,
    /// How words are heard.
    pub speaker: SpeakerSpec,
    /// The folder of clips.
    pub speech: Option<SpeechFolder>,
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

/// [`Rules`] before the model is known, whose card holds the default threshold.
#[derive(Clone, Copy, PartialEq, Debug)]
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
}

impl DecisionSettings {
    /// The exit threshold as a share of the threshold, where it is not given: 0.6 for 0.8.
    pub const EXIT_SHARE: f32 = 0.75;

    /// The rules for a model whose card says `reject_threshold`.
    ///
    /// # Errors
    /// The exit threshold lies above the threshold.
    pub fn rules(&self, reject_threshold: f32) -> Result<Rules, SettingsError> {
        let threshold = self.threshold.unwrap_or(reject_threshold);
        let rules = Rules {
            threshold,
            threshold_exit: self.threshold_exit.unwrap_or(threshold * Self::EXIT_SHARE),
            votes: self.votes,
            window: self.window,
            leave_frames: self.leave_frames,
            cooldown_frames: self.cooldown_frames,
        };
        rules.check().map_err(|source| SettingsError::Rules { source })?;
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
            _ => Some("`mynah-runtime settings` lists what is allowed and what was given".into()),
        }
    }
}

impl Settings {
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
        };
        let settings = Self {
            model: given.required("model", path)?,
            source: given.required("source", |text| SourceSpec::parse(text, votes as u32))?,
            speaker: given.required("speaker", SpeakerSpec::parse)?,
            speech: given
                .optional("speech", path)?
                .map(|path| SpeechFolder { path, required: given.origin("speech") == Some(Origin::Flag) }),
            sightings: given.required("sightings", |text| {
                Ok(if text == "-" { SightingsTo::Stdout } else { SightingsTo::File(path(text)?) })
            })?,
            status: given.optional("status", path)?,
            decision,
            log: given.required("log", level)?,
        };
        if let Some(threshold) = threshold {
            settings.decision.rules(threshold)?;
        }
        Ok(settings)
    }
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
        let rules = settings.decision.rules(0.8).unwrap();
        assert!((rules.threshold - 0.8).abs() < 1e-6 && (rules.threshold_exit - 0.6).abs() < 1e-6);
        let given = parse(&[("model", "m"), ("source", "dir:f"), ("threshold", "0.5")]).unwrap();
        assert!((given.decision.rules(0.8).unwrap().threshold - 0.5).abs() < 1e-6);
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
        ] {
            let error = parse(&[("model", "m"), ("source", "dir:f"), (name, value)]).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.kind(), FaultKind::BadInput);
        }
    }

    #[test]
    fn the_exit_threshold_may_not_lie_above_the_models() {
        let settings = parse(&[("model", "m"), ("source", "dir:f"), ("threshold-exit", "0.7")]).unwrap();
        assert!(matches!(settings.decision.rules(0.6), Err(SettingsError::Rules { .. })));
    }
}
