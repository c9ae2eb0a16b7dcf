//! How a failure is told: what class it is, what to do next.

use std::error::Error;
use std::fmt;

/// The class of a failure; it decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The work itself went wrong: exit code 1.
    Failed,
    /// The input is wrong, and whoever gave it can mend it: exit code 2.
    BadInput,
    /// A service refused: exit code 3.
    ServiceRefused,
    /// Someone asked to stop: exit code 130.
    Cancelled,
}

impl FaultKind {
    /// The process' exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::BadInput => 2,
            Self::ServiceRefused => 3,
            Self::Cancelled => 130,
        }
    }
}

/// An error that knows its class and what its reader can do about it.
pub trait Diagnosis: Error + Send + Sync {
    /// The class.
    fn kind(&self) -> FaultKind;

    /// What to do next, as one sentence, where there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Any [`Diagnosis`], as steps return it.
pub struct Fault(Box<dyn Diagnosis>);

impl Fault {
    /// The class.
    pub fn kind(&self) -> FaultKind {
        self.0.kind()
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// The error itself.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        // The trait's supertrait gives the upcast.
        &*self.0
    }

    /// [`error_chain`] of the error.
    pub fn chain(&self) -> String {
        error_chain(self.error())
    }
}

/// The message of `error` and its causes, outermost first, joined by `: `.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl<D: Diagnosis + 'static> From<D> for Fault {
    fn from(diagnosis: D) -> Self {
        Self(Box::new(diagnosis))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

/// Someone asked to stop, and the work stopped between two units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Diagnosis for Cancelled {
    fn kind(&self) -> FaultKind {
        FaultKind::Cancelled
    }

    fn hint(&self) -> Option<String> {
        Some("run the same command again: it goes on from what is finished".into())
    }
}
