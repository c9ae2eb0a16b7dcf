//! Why a manifest could not be made or read.

use std::fmt::{self, Write as _};

use mynah_contracts::{Diagnosis, FaultKind, Platform};

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
    /// A template of a layered deployment.
    #[error(
        "the template is one of a layered deployment (`content`), a whole one (`modulesContent`) is needed"
    )]
    Layered,
    /// `${…}` that stands for nothing.
    #[error("the template names what does not exist: {}", list(.0))]
    UnknownPlaceholders(Vec<UnknownPlaceholder>),
    /// A module was not built for the platform asked for.
    #[error("the module `{module}` has no image for {platform}, only {available}")]
    NoSuchPlatform {
        /// The module's name.
        module: String,
        /// The platform asked for.
        platform: Platform,
        /// The platforms it has.
        available: String,
    },
    /// Rules of the schema that are broken.
    #[error("the manifest breaks {} of the IoT Edge schema: {}", rules(.0.len()), list(.0))]
    Invalid(Vec<Problem>),
}

/// `${…}` that stands for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownPlaceholder {
    /// As written, `${` and `}` included.
    pub text: String,
    /// The template's first line with it, from 1.
    pub line: Option<usize>,
    /// The most similar ones that exist.
    pub nearest: Vec<String>,
}

impl fmt::Display for UnknownPlaceholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text.escape_debug())?;
        if let Some(line) = self.line {
            write!(f, " in line {line}")?;
        }
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
                "write `${MODULES.<name>}` or `${MODULES.<name>.<platform>}` with a name of modules.json"
            }
            Self::NoSuchPlatform { .. } => "run build-modules for it, or leave out --platform",
            Self::NotUtf8(_) => "save the file as UTF-8",
            _ => return None,
        };
        Some(hint.into())
    }
}
