//! Why settings are refused.

use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind, Label};

use super::Origin;
use crate::decide::RulesError;

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
    /// The file holds no container for review.
    #[error("the file `{path}` names no container for review: {what}")]
    Container {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        what: String,
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
