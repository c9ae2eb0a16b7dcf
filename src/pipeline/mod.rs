//! Pipelines that use our tasks, looked at before they are pushed.
//!
//! The language service of an editor knows the form of a pipeline; this knows our tasks: what they take, what they
//! need together, what they leave for later steps, and on which agents they run.

mod check;
mod command;
mod document;
mod run;
mod step;
mod tasks;

pub use check::{Finding, Severity, check};
pub use command::{check_command, run_check};
pub use document::Place;
pub use run::{run_command, run_pipeline};
