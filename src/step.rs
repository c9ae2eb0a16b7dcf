//! The shape of a step: options as typed → a validated plan → the work → what it tells the next step.

use std::fmt;
use std::path::PathBuf;

use mynah_contracts::{Fault, Monitor};

use crate::agent::{Env, Inputs, OptionSpec};

/// One of the six steps.
///
/// Everything about a step's options is declared here once; the command line, the agent's inputs, the
/// help and the reference are made from the declaration.
pub trait Step {
    /// The binary's name, such as `import-images`.
    const NAME: &'static str;
    /// The task's name in a pipeline, such as `ImportImages`.
    const TASK: &'static str;
    /// One sentence for lists.
    const ABOUT: &'static str;
    /// What `--help` adds: what is read, what is written, an example.
    const DETAILS: &'static str;
    /// The options, in the order they are shown.
    const OPTIONS: &'static [OptionSpec];
    /// The output variables.
    const OUTPUTS: &'static [OutputSpec];

    /// What the options mean, validated; shown by `--dry-run`.
    type Plan: fmt::Display;

    /// Makes the plan. Pure: reads no file and no clock.
    fn plan(inputs: &Inputs) -> Result<Self::Plan, Fault>;

    /// What `--dry-run` shows: the plan, or what it would change at a service. Changes nothing.
    fn preview(&self, plan: &Self::Plan, _: &Context<'_>) -> Result<String, Fault> {
        Ok(plan.to_string())
    }

    /// Does the work.
    fn run(&self, plan: &Self::Plan, context: &Context<'_>) -> Result<Outcome, Fault>;
}

/// An output variable of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Its name, such as `modelDigest`.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
}

/// What a step is given beside its plan.
pub struct Context<'a> {
    /// Shows progress, and says when to stop.
    pub monitor: &'a dyn Monitor,
    /// The environment this process was started with: credentials, proxies, the agent's variables.
    pub env: &'a Env,
    /// The time to write into artifacts, RFC 3339: from `SOURCE_DATE_EPOCH`, absent without it, so that
    /// equal inputs give equal bytes.
    pub created: Option<String>,
    /// The present time.
    pub now: fn() -> jiff::Timestamp,
}

/// What a finished step tells.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was done, in a line.
    pub headline: String,
    /// Output variables: names out of [`Step::OUTPUTS`], and values.
    pub variables: Vec<(&'static str, String)>,
    /// A Markdown file for the run's summary page.
    pub summary: Option<PathBuf>,
    /// A JUnit file for the run's test page.
    pub test_results: Option<PathBuf>,
    /// A gate that was missed: all the above is told, then the step fails with it.
    pub missed: Option<Fault>,
}
