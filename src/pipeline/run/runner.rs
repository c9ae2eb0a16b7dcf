//! A pipeline's stages and jobs, one after the other in the order of what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mynah_contracts::{Cancelled, Fault};

use super::error::RunError;
use super::expression::{Expression, ExpressionError, Scope as _};
use super::job::{JobRun, Leg};
use super::plan::{Copies, Job, Pipeline, Stage, Text, Variables};
use super::status::{self, Surroundings};
use super::store::{JobRecord, Record, Run, StageRecord, Store, Verdict};
use super::value::Value;
use super::variables::Table;
use crate::agent::console::Severity;
use crate::agent::{Console, Env};

/// How a pipeline is to be run.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) file: PathBuf,
    /// The folder of all runs.
    pub(super) out: PathBuf,
    /// What an agent checks out.
    pub(super) sources: PathBuf,
    pub(super) variables: Vec<(String, String)>,
    /// Names of secret variables and their values.
    pub(super) secrets: Vec<(String, String)>,
    /// The stages to run; all if there are none.
    pub(super) stages: Vec<String>,
    /// The folders of the runs of other pipelines, by their aliases.
    pub(super) resources: Vec<(String, PathBuf)>,
    /// Service connections in whose place this machine's own credentials are used.
    pub(super) connections: Vec<String>,
}

/// Runs a pipeline.
pub(super) struct Runner<'a> {
    pub(super) options: &'a Options,
    pub(super) pipeline: &'a Pipeline,
    pub(super) console: &'a (dyn Console + Sync),
    pub(super) env: &'a Env,
    pub(super) store: Store,
    pub(super) run: Run,
    /// The folders of runs that resources name.
    pub(super) resources: BTreeMap<String, Store>,
    stages: BTreeMap<String, StageRecord>,
    jobs_begun: usize,
    /// Whether a service refused what the first failed step asked of it.
    refused: Option<bool>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        options: &'a Options,
        pipeline: &'a Pipeline,
        console: &'a (dyn Console + Sync),
        env: &'a Env,
    ) -> Result<Self, Fault> {
        let store = Store::open(&options.out)?;
        let mut resources = BTreeMap::new();
        for (alias, folder) in &options.resources {
            resources.insert(alias.to_lowercase(), Store::open(folder)?);
        }
        let run = store.begin()?;
        Ok(Self {
            options,
            pipeline,
            console,
            env,
            store,
            run,
            resources,
            stages: BTreeMap::new(),
            jobs_begun: 0,
            refused: None,
        })
    }

    /// Runs it to its end and writes down what it came to.
    pub(super) fn run(mut self) -> Result<(), Fault> {
        let outcome = self.stages();
        let cancelled = self.console.cancelled();
        let ran: Vec<Verdict> = self.stages.values().map(|stage| stage.result).collect();
        let result = match &outcome {
            Err(_) if cancelled => Verdict::Canceled,
            Err(_) => Verdict::Failed,
            Ok(()) => ran.into_iter().max().unwrap_or(Verdict::Skipped),
        };
        let result = if result == Verdict::Skipped { Verdict::Succeeded } else { result };
        let pipeline = self.options.file.display().to_string();
        self.run.finish(&Record { pipeline: pipeline.clone(), result, stages: self.stages.clone() })?;
        outcome?;
        match result {
            Verdict::Failed => Err(RunError::Failed {
                pipeline,
                stages: self
                    .stages
                    .iter()
                    .filter(|(_, stage)| stage.result == Verdict::Failed)
                    .map(|(name, _)| shown(name))
                    .collect(),
                logs: self.run.below("logs")?,
                refused: self.refused == Some(true),
            }
            .into()),
            Verdict::Canceled => Err(Cancelled.into()),
            _ => {
                self.console.result(&format!("run {} of {pipeline}: {}", self.run.number, result.name()));
                Ok(())
            }
        }
    }

    fn stages(&mut self) -> Result<(), Fault> {
        let pipeline = self.pipeline;
        let names: Vec<(&str, &[String])> =
            pipeline.stages.iter().map(|stage| (stage.name.as_str(), stage.after.as_slice())).collect();
        for name in in_order(&names) {
            let Some(stage) = pipeline.stages.iter().find(|stage| stage.name == name) else { continue };
            let wanted = self.options.stages.is_empty()
                || self.options.stages.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            if wanted {
                let record = self.stage(stage, &names)?;
                if stage.name != "__default" {
                    self.console.result(&format!("stage {name}: {}", record.result.name()));
                }
                self.stages.insert(stage.name.clone(), record);
            } else if let Some(record) = self.store.stage(name, self.run.number)? {
                // As where a single stage is run again: what the others came to stays.
                self.stages.insert(stage.name.clone(), record);
            }
        }
        Ok(())
    }

    fn stage(&mut self, stage: &Stage, names: &[(&str, &[String])]) -> Result<StageRecord, Fault> {
        let before = reached(&stage.name, names);
        let known: Vec<(&str, Verdict)> = before
            .iter()
            .map(|name| (*name, self.stages.get(*name).map_or(Verdict::Skipped, |stage| stage.result)))
            .collect();
        let direct = |show: fn(&StageRecord) -> Value| {
            let of = |name: &String| {
                let found = self.stages.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(name, record)| (name.clone(), show(record)))
            };
            Value::Map(stage.after.iter().filter_map(of).collect())
        };
        let (dependencies, by_job) = (direct(status::stage), direct(status::stage_by_job));
        let mut table = Table::default();
        let scope = Surroundings {
            variables: Value::Null,
            dependencies,
            stage_dependencies: by_job.clone(),
            before: known,
        };
        Self::declare(&mut table, &self.pipeline.variables, &scope)?;
        Self::declare(&mut table, &stage.variables, &scope)?;
        self.given(&mut table);
        let scope = Surroundings { variables: table.value(), ..scope };
        if !holds(stage.condition.as_ref(), &scope)? {
            self.console.log(Severity::Info, &format!("stage {}: skipped by its condition", stage.name));
            return Ok(StageRecord { result: Verdict::Skipped, jobs: BTreeMap::new() });
        }
        let names: Vec<(&str, &[String])> =
            stage.jobs.iter().map(|job| (job.name.as_str(), job.after.as_slice())).collect();
        let mut record = StageRecord { result: Verdict::Skipped, jobs: BTreeMap::new() };
        for name in in_order(&names) {
            let Some(job) = stage.jobs.iter().find(|job| job.name == name) else { continue };
            let done = self.job(stage, job, &names, &record, &by_job)?;
            let mut result = done.result;
            if result == Verdict::Failed && job.continue_on_error {
                result = Verdict::SucceededWithIssues;
            }
            record.result = record.result.max(result);
            record.jobs.insert(job.name.clone(), JobRecord { result, ..done });
        }
        Ok(record)
    }

    fn job(
        &mut self,
        stage: &Stage,
        job: &Job,
        names: &[(&str, &[String])],
        record: &StageRecord,
        stages: &Value,
    ) -> Result<JobRecord, Fault> {
        let result_of = |name: &&str| record.jobs.get(*name).map_or(Verdict::Skipped, |job| job.result);
        let before: Vec<(&str, Verdict)> =
            reached(&job.name, names).into_iter().map(|name| (name, result_of(&name))).collect();
        let direct = job.after.iter().filter_map(|name| {
            let found = record.jobs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(name, record)| (name.clone(), status::job(record)))
        });
        let scope = Surroundings {
            variables: Value::Null,
            dependencies: Value::Map(direct.collect()),
            stage_dependencies: stages.clone(),
            before,
        };
        let mut table = Table::default();
        for variables in [&self.pipeline.variables, &stage.variables, &job.variables] {
            Self::declare(&mut table, variables, &scope)?;
        }
        self.given(&mut table);
        let scope = Surroundings { variables: table.value(), ..scope };
        let skipped = JobRecord { result: Verdict::Skipped, outputs: BTreeMap::new() };
        if job.left_out {
            self.console.log(Severity::Warning, &format!("the job {} is left out", job.name));
            return Ok(skipped);
        }
        if !holds(job.condition.as_ref(), &scope)? {
            self.console.log(Severity::Info, &format!("job {}: skipped by its condition", job.name));
            return Ok(skipped);
        }
        if let Some(environment) = &job.environment {
            let text = format!("the environment {environment}: its approvals and checks are not asked here");
            self.console.log(Severity::Info, &text);
        }
        let mut done = JobRecord { result: Verdict::Succeeded, outputs: BTreeMap::new() };
        for leg in legs(&job.copies) {
            self.jobs_begun += 1;
            let work = JobRun::new(self, stage, job, &leg, table.clone(), self.jobs_begun)?;
            let ended = work.run(job)?;
            if let Some(refused) = ended.refused {
                self.refused.get_or_insert(refused);
            }
            done.result = done.result.max(ended.result);
            let prefix = if job.environment.is_some() { Some(job.name.clone()) } else { leg.name };
            done.outputs.extend(ended.outputs.into_iter().map(|(name, value)| match &prefix {
                Some(prefix) => (format!("{prefix}.{name}"), value),
                None => (name, value),
            }));
        }
        Ok(done)
    }

    fn declare(table: &mut Table, variables: &Variables, scope: &Surroundings<'_>) -> Result<(), RunError> {
        for (name, text) in &variables.values {
            let value = match text {
                Text::Plain(text) => text.clone(),
                Text::Computed(expression) => {
                    let seen = Surroundings {
                        variables: table.value(),
                        dependencies: scope.dependencies.clone(),
                        stage_dependencies: scope.stage_dependencies.clone(),
                        before: scope.before.clone(),
                    };
                    let value = expression.value(&seen).map_err(|source| RunError::Expression {
                        what: format!("the variable `{name}`"),
                        source,
                    })?;
                    value.to_text().unwrap_or_else(|| value.to_json())
                }
            };
            table.set(name, value, false);
        }
        Ok(())
    }

    /// What the command line says comes last.
    fn given(&self, table: &mut Table) {
        for (name, value) in &self.options.variables {
            table.set(name, value.as_str(), false);
        }
        for (name, value) in &self.options.secrets {
            table.set(name, value.as_str(), true);
        }
    }

    /// What an agent checks out.
    pub(super) fn sources(&self) -> &Path {
        &self.options.sources
    }
}

/// Whether a condition holds; without one, all before it must have succeeded.
fn holds(condition: Option<&Expression>, scope: &Surroundings<'_>) -> Result<bool, RunError> {
    match condition {
        None => Ok(scope.function("succeeded", &[]).is_some_and(|value| value.holds())),
        Some(condition) => condition
            .value(scope)
            .map(|value| value.holds())
            .map_err(|source: ExpressionError| RunError::Expression { what: "a condition".into(), source }),
    }
}

fn legs(copies: &Copies) -> Vec<Leg> {
    match copies {
        Copies::Once => vec![Leg { name: None, position: 1, total: 1, variables: Vec::new() }],
        Copies::Parallel(total) => (1..=*total)
            .map(|position| Leg {
                name: Some(format!("Job{position}")),
                position,
                total: *total,
                variables: Vec::new(),
            })
            .collect(),
        Copies::Matrix(legs) => legs
            .iter()
            .zip(1..)
            .map(|((name, variables), position)| Leg {
                name: Some(name.clone()),
                position,
                total: legs.len() as u32,
                variables: variables.clone(),
            })
            .collect(),
    }
}

/// The names, each behind those it depends on, otherwise as written.
fn in_order<'n>(names: &[(&'n str, &[String])]) -> Vec<&'n str> {
    let mut done: Vec<&str> = Vec::new();
    while let Some((name, _)) = names.iter().find(|(name, after)| {
        !done.contains(name)
            && after.iter().all(|other| done.iter().any(|done| done.eq_ignore_ascii_case(other)))
    }) {
        done.push(name);
    }
    done
}

/// All that `name` depends on, directly or not.
fn reached<'n>(name: &str, names: &[(&'n str, &'n [String])]) -> Vec<&'n str> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let after = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        for other in after.into_iter().flat_map(|(_, after)| *after) {
            let known = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(other));
            if let Some((known, _)) = known
                && found.insert(*known)
            {
                open.push((*known).to_owned());
            }
        }
    }
    found.into_iter().collect()
}

/// A stage's name for people; a pipeline without stages has one without a name.
fn shown(name: &str) -> String {
    if name == "__default" { "its jobs".into() } else { name.to_owned() }
}
