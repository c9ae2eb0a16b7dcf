//! Why a manifest could not be made or read.

use std::fmt::{self, Write as _};

use mynah_contracts::{Diagnosis, FaultKind};

use super::{Finding, OverlayError};

/// How many findings one message lists.
const SHOWN: usize = 10;

/// Why a manifest could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON.
    #[error("the manifest is not valid JSON")]
    Json(#[source] serde_json::Error),
    /// Not UTF-8.
    #[error("the manifest is not UTF-8 text")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// A comment without an end.
    #[error("the comment that begins in line {line} is not closed")]
    OpenComment {
        /// The line, from 1.
        line: usize,
    },
    /// `${…}` that stands for nothing.
    #[error("the template cannot be filled in: {}", list(.0))]
    UnknownPlaceholders(Vec<UnknownPlaceholder>),
    /// Rules of the schema that are broken.
    #[error("the manifest breaks {} of the IoT Edge schema: {}", rules(.0.len()), list(.0))]
    Invalid(Vec<Problem>),
    /// A layered deployment where a whole one is needed.
    #[error("the manifest is a layered deployment (`content`), which only adds to another")]
    Layered,
    /// Nothing that a manifest would hold.
    #[error("the document is no manifest: it has neither `modulesContent` nor `content.modulesContent`")]
    NoContent,
    /// An overlay that could not be applied.
    #[error("an overlay cannot be applied")]
    Overlay(#[from] OverlayError),
    /// What the lint warns about, where warnings are errors.
    #[error("the manifest is not as it should be: {}", list(.0))]
    Lint(Vec<Finding>),
}

/// `${…}` that stands for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownPlaceholder {
    /// As written, `${` and `}` included.
    pub text: String,
    /// The first line with it, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
    /// The most similar ones that exist.
    pub nearest: Vec<String>,
}

impl fmt::Display for UnknownPlaceholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in line {} {}", self.text.escape_debug(), self.line, self.why)?;
        if !self.nearest.is_empty() {
            let quoted: Vec<_> = self.nearest.iter().map(|name| format!("`{name}`")).collect();
            write!(f, " (there is {})", quoted.join(", "))?;
        }
        Ok(())
    }
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where: a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "`{}` {}", pointer.escape_debug(), self.what)
    }
}

fn rules(count: usize) -> String {
    if count == 1 { "a rule".into() } else { format!("{count} rules") }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let mut text = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if let Some(more) = items.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        // Writing to a String cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    text
}

impl Diagnosis for ManifestError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownPlaceholders(_) => {
                "`${MODULES.<name>}` and `${MODULES.<name>.<platform>}` name images of modules.json (--images), `$NAME` \
                 and `${NAME}` variables of the environment or of --env; a dollar sign that stays is `\\u0024`"
            }
            Self::Overlay(error) => return error.hint(),
            Self::Lint(_) => "change it, or accept a finding by its name with --allow",
            Self::Layered => "deploy the base deployment here; a layer is for the devices of a hub",
            Self::NotUtf8(_) => "save the file as UTF-8",
            _ => return None,
        };
        Some(hint.into())
    }
}
