//! Why a pipeline was not run, or did not end well.

use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind};

use super::expression::ExpressionError;

/// Why a pipeline was not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// Something is wrong with the file; the findings were told.
    #[error("`{file}` is not run: {count} of its lines must be mended first")]
    Wrong { file: PathBuf, count: usize },
    /// Something cannot be done here; the findings were told.
    #[error("`{file}` is not run: {count} of its lines cannot be done on this machine")]
    Cannot { file: PathBuf, count: usize },
    /// A stage that is not there.
    #[error("`{file}` has no stage `{name}`")]
    Stage { file: PathBuf, name: String, hint: String },
    /// An option that is no pair.
    #[error("`{option}` is `{text}`, NAME=VALUE is expected")]
    Pair { option: &'static str, text: String },
    /// A secret that is not in the environment.
    #[error("the secret variable `{name}` is not in the environment as `{variable}`")]
    Secret { name: String, variable: String },
    /// An expression that only shows itself wrong when it is computed.
    #[error("cannot compute {what}")]
    Expression {
        what: String,
        #[source]
        source: ExpressionError,
    },
    /// It ran and failed.
    #[error("`{pipeline}` failed in {}", stages.join(", "))]
    Failed { pipeline: String, stages: Vec<String>, logs: PathBuf, refused: bool },
}

impl Diagnosis for RunError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Failed { refused: true, .. } => FaultKind::ServiceRefused,
            Self::Failed { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Wrong { .. } => "each line above says what to do".into(),
            Self::Cannot { .. } => {
                "each line above says what to do; --skip leaves such steps and jobs out".into()
            }
            Self::Stage { hint, .. } => hint.clone(),
            Self::Pair { .. } => "write the name, an equals sign and the value".into(),
            Self::Secret { variable, .. } => {
                format!("export `{variable}` before; a secret does not belong on a command line")
            }
            Self::Expression { .. } => "see \"Expressions\" in the documentation of Azure Pipelines".into(),
            Self::Failed { logs, .. } => format!("what its steps said is in `{}`", logs.display()),
        })
    }
}
