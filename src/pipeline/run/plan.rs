//! What a pipeline asks for: stages, jobs and steps, and what cannot be done here.

use std::collections::BTreeMap;

use super::expression::Expression;
use crate::pipeline::check::Finding;
use crate::pipeline::tasks::Task;

/// A pipeline.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    pub(super) variables: Variables,
    pub(super) stages: Vec<Stage>,
    /// Other pipelines whose artifacts it downloads.
    pub(super) resources: Vec<String>,
    /// What cannot be done on this machine; such steps and jobs may be left out.
    pub(super) cannot: Vec<Finding>,
}

/// Variables as written, in their order, and groups that are kept elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    pub(super) values: Vec<(String, Text)>,
    pub(super) groups: Vec<(String, Finding)>,
}

/// A text with macros, or an expression that is computed when it is needed (`$[ … ]`).
#[derive(Clone, Debug)]
pub(super) enum Text {
    Plain(String),
    Computed(Expression),
}

/// A stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) after: Vec<String>,
    pub(super) condition: Option<Expression>,
    pub(super) variables: Variables,
    pub(super) jobs: Vec<Job>,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) after: Vec<String>,
    pub(super) condition: Option<Expression>,
    pub(super) continue_on_error: bool,
    pub(super) minutes: Option<u64>,
    pub(super) variables: Variables,
    pub(super) copies: Copies,
    pub(super) phases: Phases,
    /// The environment of a deployment job.
    pub(super) environment: Option<String>,
    /// Whether it cannot run here.
    pub(super) left_out: bool,
}

/// How often a job runs.
#[derive(Debug)]
pub(super) enum Copies {
    Once,
    Parallel(u32),
    Matrix(Vec<(String, Vec<(String, String)>)>),
}

/// What a job does: steps, and for a deployment what follows on success and on failure.
#[derive(Debug, Default)]
pub(super) struct Phases {
    pub(super) steps: Vec<Vec<Step>>,
    pub(super) on_success: Vec<Step>,
    pub(super) on_failure: Vec<Step>,
}

/// A step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: Option<String>,
    pub(super) title: String,
    pub(super) enabled: bool,
    pub(super) condition: Option<Expression>,
    pub(super) continue_on_error: bool,
    pub(super) minutes: Option<u64>,
    pub(super) retries: u32,
    pub(super) env: Vec<(String, String)>,
    pub(super) action: Action,
}

/// What a step does. Texts still hold their macros.
#[derive(Debug)]
pub(super) enum Action {
    Script {
        text: String,
        folder: Option<String>,
        fail_on_stderr: bool,
    },
    Task {
        task: &'static Task,
        inputs: Vec<(String, String)>,
    },
    Publish {
        path: String,
        artifact: Option<String>,
    },
    Download {
        from: From,
        artifact: Option<String>,
        patterns: String,
        to: Option<String>,
    },
    Cache {
        key: String,
        restore: Vec<String>,
        path: String,
        hit: Option<String>,
    },
    TestResults {
        files: String,
        folder: Option<String>,
        fail: bool,
    },
    /// The sources are there already.
    Checkout,
    /// Nothing: it was asked for, or it cannot be done here.
    Nothing,
}

/// Whose artifacts are downloaded.
#[derive(Debug)]
pub(super) enum From {
    /// This run's.
    Current,
    /// An earlier run's of this pipeline.
    Earlier,
    /// Another pipeline's, by its alias.
    Resource(String),
}

impl Pipeline {
    /// The macros of a text in task inputs, with where they were met, for whoever looks for unknown names.
    pub(super) fn macros(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut note = |text: &str, title: &str| {
            for part in text.split("$(").skip(1) {
                if let Some((name, _)) = part.split_once(')') {
                    found.entry(name.to_owned()).or_insert_with(|| title.to_owned());
                }
            }
        };
        let jobs = self.stages.iter().flat_map(|stage| &stage.jobs);
        for step in jobs.flat_map(|job| job.phases.steps.iter().flatten()) {
            if let Action::Task { inputs, .. } = &step.action {
                for (_, value) in inputs {
                    note(value, &step.title);
                }
            }
            for (_, value) in &step.env {
                note(value, &step.title);
            }
        }
        found
    }
}
