//! One job: a workspace of its own, its variables, its steps one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mynah_contracts::{Cancelled, Fault, Sha256Digest};

use super::commands::{Said, Speaker};
use super::environment;
use super::error::RunError;
use super::plan::{Action, From, Job, Phases, Stage, Step};
use super::process::{self, Ended};
use super::runner::Runner;
use super::status::Surroundings;
use super::store::{self, StoreError, Verdict};
use super::test_results;
use super::value::Value;
use super::variables::Table;
use crate::agent::console::Severity;

/// One copy of a job.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) name: Option<String>,
    pub(super) position: u32,
    pub(super) total: u32,
    pub(super) variables: Vec<(String, String)>,
}

/// What a copy of a job came to.
#[derive(Debug)]
pub(super) struct JobEnd {
    pub(super) result: Verdict,
    pub(super) outputs: BTreeMap<String, String>,
    /// Whether a service refused what the first failed step asked of it; nothing where none failed.
    pub(super) refused: Option<bool>,
}

/// A job at work.
pub(super) struct JobRun<'r> {
    runner: &'r Runner<'r>,
    title: String,
    table: Table,
    /// Folders that steps put before the search path, the last one first.
    path: Vec<String>,
    outputs: BTreeMap<String, String>,
    result: Verdict,
    refused: Option<bool>,
    workspace: PathBuf,
    sources: PathBuf,
    logs: PathBuf,
    steps_begun: usize,
    /// What the task `Cache` keeps when the job has succeeded.
    kept: Vec<(String, PathBuf)>,
    started: Instant,
}

/// How a step went before `continueOnError` is looked at.
struct StepEnd {
    result: Verdict,
    refused: bool,
}

impl<'r> JobRun<'r> {
    pub(super) fn new(
        runner: &'r Runner<'r>,
        stage: &Stage,
        job: &Job,
        leg: &Leg,
        mut table: Table,
        number: usize,
    ) -> Result<Self, Fault> {
        let workspace = runner.store.workspace(number)?;
        let own = workspace.join("s");
        let checks_out = |step: &Step| matches!(step.action, Action::Checkout);
        let declines = |step: &Step| {
            matches!(step.action, Action::Nothing) && step.title.eq_ignore_ascii_case("checkout")
        };
        let mut steps = job.phases.steps.iter().flatten();
        // Deployment jobs check nothing out by themselves.
        let has_sources = match job.environment {
            Some(_) => steps.any(checks_out),
            None => !steps.any(declines),
        };
        let sources = if has_sources { runner.sources().to_owned() } else { own };
        for (name, value) in &leg.variables {
            table.set(name, value.as_str(), false);
        }
        let tools = runner.store.tools()?;
        let place = environment::Place { workspace: &workspace, sources: &sources, tools: &tools };
        for (name, value) in environment::predefined(runner.run.number, stage, job, leg, &place) {
            table.set(&name, value, false);
        }
        let mut title = if stage.name == "__default" {
            job.name.clone()
        } else {
            format!("{} / {}", stage.name, job.name)
        };
        if let Some(leg) = &leg.name {
            title = format!("{title} {leg}");
        }
        let logs = runner.run.below("logs")?.join(title.replace([' ', '/'], "-").replace("---", "-"));
        fs::create_dir_all(&logs).map_err(|source| StoreError::Io {
            what: "create",
            path: logs.display().to_string(),
            source,
        })?;
        Ok(Self {
            runner,
            title,
            table,
            path: Vec::new(),
            outputs: BTreeMap::new(),
            result: Verdict::Succeeded,
            refused: None,
            workspace,
            sources,
            logs,
            steps_begun: 0,
            kept: Vec::new(),
            started: Instant::now(),
        })
    }

    /// Runs the steps.
    ///
    /// # Errors
    /// When somebody asks to stop, or the folder of runs cannot be used. A step that fails is no error.
    pub(super) fn run(mut self, job: &Job) -> Result<JobEnd, Fault> {
        let limit = job.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let Phases { steps, on_success, on_failure } = &job.phases;
        if job.environment.is_some() && !downloads(job) {
            self.download_all()?;
        }
        for phase in steps {
            // Each hook of a deployment begins where the one before succeeded.
            if self.result.is_good() {
                self.steps(phase, limit)?;
            }
        }
        let failed = self.result;
        let after = if failed.is_good() { on_success } else { on_failure };
        if !after.is_empty() {
            // A hook is a job of its own: what failed before it is not asked by its steps.
            self.result = Verdict::Succeeded;
            self.steps(after, limit)?;
            self.result = self.result.max(failed);
        }
        if self.result.is_good() {
            for (key, path) in std::mem::take(&mut self.kept) {
                self.runner.store.keep(&key, self.runner.run.number, &path)?;
            }
        }
        Ok(JobEnd { result: self.result, outputs: self.outputs, refused: self.refused })
    }

    fn steps(&mut self, steps: &[Step], limit: Option<Duration>) -> Result<(), Fault> {
        for step in steps {
            if self.runner.console.cancelled() {
                return Err(Cancelled.into());
            }
            self.steps_begun += 1;
            let title = format!("{}: {}", self.title, self.table.expand(&step.title));
            if !step.enabled || !self.wanted(step)? {
                self.runner.console.log(Severity::Info, &format!("{title} (skipped)"));
                continue;
            }
            self.runner.console.log(Severity::Info, &title);
            let mut end = self.step(step, limit)?;
            for attempt in 0..step.retries {
                if end.result != Verdict::Failed {
                    break;
                }
                let text = format!("{title}: attempt {} of {}", attempt + 2, step.retries + 1);
                self.runner.console.log(Severity::Warning, &text);
                end = self.step(step, limit)?;
            }
            let result = match end.result {
                Verdict::Failed if step.continue_on_error => Verdict::SucceededWithIssues,
                result => result,
            };
            if result == Verdict::Failed {
                self.refused.get_or_insert(end.refused);
            }
            self.result = self.result.max(result);
            self.table.set("Agent.JobStatus", self.result.name(), false);
        }
        Ok(())
    }

    fn wanted(&self, step: &Step) -> Result<bool, RunError> {
        let scope = Surroundings {
            variables: self.table.value(),
            dependencies: Value::Null,
            stage_dependencies: Value::Null,
            before: vec![("", self.result)],
        };
        let Some(condition) = &step.condition else { return Ok(self.result.is_good()) };
        let value = condition.value(&scope).map_err(|source| RunError::Expression {
            what: format!("the condition of `{}`", step.title),
            source,
        })?;
        Ok(value.holds())
    }

    fn step(&mut self, step: &Step, limit: Option<Duration>) -> Result<StepEnd, Fault> {
        let done = match &step.action {
            Action::Nothing | Action::Checkout => Ok(()),
            Action::Script { .. } | Action::Task { .. } => return self.program(step, limit),
            Action::Publish { path, artifact } => self.publish(path, artifact.as_deref()),
            Action::Download { from, artifact, patterns, to } => {
                self.download(from, artifact.as_deref(), patterns, to.as_deref())
            }
            Action::Cache { key, restore, path, hit } => self.cache(key, restore, path, hit.as_deref()),
            Action::TestResults { files, folder, fail } => {
                let folder = self.place(&self.table.expand(folder.as_deref().unwrap_or("")));
                let files = self.table.expand(files);
                let found = test_results::find(&folder, &files);
                return Ok(self.test_results(&found, *fail));
            }
        };
        match done {
            Ok(()) => Ok(StepEnd { result: Verdict::Succeeded, refused: false }),
            // The disk is everybody's business, the rest this step's.
            Err(error @ StoreError::Io { .. }) => Err(error.into()),
            Err(error) => {
                let fault = Fault::from(error);
                let hint = fault.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                self.runner.console.log(Severity::Error, &format!("{}{hint}", fault.chain()));
                Ok(StepEnd { result: Verdict::Failed, refused: false })
            }
        }
    }

    /// A path as a step means it: from the sources.
    fn place(&self, path: &str) -> PathBuf {
        self.sources.join(path.trim())
    }

    fn publish(&self, path: &str, artifact: Option<&str>) -> Result<(), StoreError> {
        let from = self.place(&self.table.expand(path));
        // Without a name the service takes one of the job's.
        let name = artifact.map_or_else(|| self.title.replace(" / ", "."), |name| self.table.expand(name));
        let place = self.runner.run.publish(&name, &from)?;
        self.runner.console.log(Severity::Info, &format!("published {name} as {}", place.display()));
        Ok(())
    }

    fn download(
        &self,
        from: &From,
        artifact: Option<&str>,
        patterns: &str,
        to: Option<&str>,
    ) -> Result<(), StoreError> {
        let Runner { run, store, resources, .. } = self.runner;
        let patterns = self.table.expand(patterns);
        let artifact = artifact.map(|name| self.table.expand(name));
        let names = match (&artifact, from) {
            (Some(name), _) => vec![name.clone()],
            (None, From::Current) => run.artifacts(),
            (None, From::Earlier) => store.newest_artifacts()?,
            (None, From::Resource(alias)) => {
                resources.get(&alias.to_lowercase()).map_or(Ok(Vec::new()), store::Store::newest_artifacts)?
            }
        };
        let base = match (to, from) {
            (Some(to), _) => self.place(&self.table.expand(to)),
            (None, From::Resource(alias)) => self.workspace.join(alias),
            (None, _) => self.workspace.clone(),
        };
        for name in names {
            let folder = match from {
                // Where one stage is run alone, what others published in earlier runs is there as well.
                From::Current => run.artifact(&name).or_else(|error| {
                    if self.runner.options.stages.is_empty() {
                        Err(error)
                    } else {
                        store.earlier(&name, run.number)
                    }
                })?,
                From::Earlier => store.earlier(&name, run.number)?,
                From::Resource(alias) => match resources.get(&alias.to_lowercase()) {
                    Some(store) => store.earlier(&name, u64::MAX)?,
                    None => {
                        return Err(StoreError::NoArtifact { name, place: format!("the resource {alias}") });
                    }
                },
            };
            // The task puts a named artifact right into its target, the step below the artifact's name.
            let target = if to.is_some() && artifact.is_some() { base.clone() } else { base.join(&name) };
            // Where several are asked for, patterns begin with their names.
            let named = if artifact.is_some() { Path::new("") } else { Path::new(&name) };
            let files = store::download(&folder, &target, named, &patterns)?;
            if files > 0 || artifact.is_some() {
                let text = format!("{files} files of {name} are in {}", target.display());
                self.runner.console.log(Severity::Info, &text);
            }
        }
        Ok(())
    }

    /// What a deployment job is given without asking.
    fn download_all(&self) -> Result<(), StoreError> {
        self.download(&From::Current, None, "**", None)?;
        for alias in &self.runner.pipeline.resources {
            self.download(&From::Resource(alias.clone()), None, "**", None)?;
        }
        Ok(())
    }

    fn cache(
        &mut self,
        key: &str,
        restore: &[String],
        path: &str,
        hit: Option<&str>,
    ) -> Result<(), StoreError> {
        let fingerprint = |text: &str| {
            let text = self.table.expand(text);
            let segments: Vec<String> = text.split('|').map(|segment| self.segment(segment.trim())).collect();
            segments.join("|")
        };
        let key = fingerprint(key);
        let restore: Vec<String> = restore.iter().map(|line| fingerprint(line)).collect();
        let path = self.place(&self.table.expand(path));
        let found = self.runner.store.restore(&key, &restore, &path)?;
        let (text, value) = match found {
            Some(true) => ("the cache has this very key", "true"),
            Some(false) => ("the cache has an earlier state", "inexact"),
            None => ("the cache has nothing yet", "false"),
        };
        self.runner.console.log(Severity::Info, text);
        if let Some(hit) = hit {
            self.table.set(hit, value, false);
        }
        if found != Some(true) {
            self.kept.push((key, path));
        }
        Ok(())
    }

    /// A part of a cache's key: a text in quotes, the digest of a file, or a word.
    fn segment(&self, segment: &str) -> String {
        if let Some(text) = segment.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return text.to_owned();
        }
        if segment.contains(['/', '.', '*']) {
            let mut content = Vec::new();
            for file in test_results::find(&self.sources, segment) {
                content.extend(
                    fs::read(&file).map(|bytes| *Sha256Digest::of(&bytes).as_bytes()).unwrap_or_default(),
                );
            }
            return Sha256Digest::of(&content).hex();
        }
        segment.to_owned()
    }

    fn test_results(&self, files: &[PathBuf], fail: bool) -> StepEnd {
        let mut result = Verdict::Succeeded;
        for file in files {
            match test_results::read(file) {
                Ok(counts) => {
                    self.runner.console.log(Severity::Info, &format!("{}: {counts}", file.display()));
                    if fail && counts.failed > 0 {
                        result = Verdict::Failed;
                    }
                }
                Err(problem) => {
                    self.runner.console.log(Severity::Warning, &format!("{}: {problem}", file.display()));
                }
            }
        }
        StepEnd { result, refused: false }
    }

    /// A script or a task of ours.
    fn program(&mut self, step: &Step, limit: Option<Duration>) -> Result<StepEnd, Fault> {
        let temporary = self.workspace.join("_temp");
        let (runner, number) = (self.runner, self.steps_begun);
        let prepared = match &step.action {
            Action::Script { text, folder, .. } => {
                let folder = self.place(&self.table.expand(folder.as_deref().unwrap_or("")));
                let file = temporary.join(format!("{number}.sh"));
                let text = self.table.expand(text);
                fs::write(&file, text).map_err(|source| StoreError::Io {
                    what: "write",
                    path: file.display().to_string(),
                    source,
                })?;
                environment::script(&self.context(), step, &file, &folder)
            }
            Action::Task { task, inputs } => environment::task(&self.context(), step, task, inputs),
            _ => return Ok(StepEnd { result: Verdict::Succeeded, refused: false }),
        };
        let mut command = match prepared {
            Ok(command) => command,
            Err(problem) => {
                runner.console.log(Severity::Error, &problem);
                return Ok(StepEnd { result: Verdict::Failed, refused: false });
            }
        };
        let of_step = step.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let left = limit.map(|limit| limit.saturating_sub(self.started.elapsed()));
        let time = match (of_step, left) {
            (Some(step), Some(job)) => Some(step.min(job)),
            (step, job) => step.or(job),
        };
        let mut speaker = Speaker::new(runner, step, &self.title, &self.logs, number);
        let mut said = Said::default();
        let ended =
            process::run(&mut command, time, &|| runner.console.cancelled(), &mut |line, is_error| {
                speaker.line(line, is_error, &mut said);
            });
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let program = command.get_program().to_string_lossy().into_owned();
                runner.console.log(Severity::Error, &format!("cannot start `{program}`: {error}"));
                return Ok(StepEnd { result: Verdict::Failed, refused: false });
            }
        };
        let complaint = match ended {
            Ended::Cancelled => return Err(Cancelled.into()),
            Ended::TooLong => Some("it took longer than it may".to_owned()),
            Ended::With(0) => None,
            Ended::With(code) => Some(format!("it ended with exit code {code}")),
        };
        let stderr = matches!(step.action, Action::Script { fail_on_stderr: true, .. }) && said.on_stderr;
        let mut result = said.result.unwrap_or(Verdict::Succeeded);
        if let Some(complaint) = complaint {
            runner.console.log(Severity::Error, &format!("{}: {complaint}", step.title));
            result = Verdict::Failed;
        } else if stderr {
            runner.console.log(Severity::Error, &format!("{}: it wrote to standard error", step.title));
            result = Verdict::Failed;
        }
        self.take(step, said);
        let refused = matches!(step.action, Action::Task { .. }) && ended == Ended::With(3);
        // What a task calls cancelled or skipped fails the step here, or leaves it as it is.
        let result =
            if result == Verdict::Canceled { Verdict::Failed } else { result.max(Verdict::Succeeded) };
        Ok(StepEnd { result, refused })
    }

    fn context(&self) -> environment::Context<'_> {
        environment::Context {
            env: self.runner.env,
            connections: &self.runner.options.connections,
            table: &self.table,
            path: &self.path,
            sources: &self.sources,
        }
    }

    /// What a program said to the agent.
    fn take(&mut self, step: &Step, said: Said) {
        for variable in said.variables {
            let name = match (&step.name, variable.is_output) {
                (Some(step), true) => format!("{step}.{}", variable.name),
                // Nobody can name an output of a step without a name.
                (None, true) => continue,
                (_, false) => variable.name,
            };
            if variable.is_output && !variable.secret {
                self.outputs.insert(name.clone(), variable.value.clone());
            }
            self.table.set(&name, variable.value, variable.secret);
        }
        for folder in said.paths {
            self.path.insert(0, folder);
        }
        for (file, fail) in said.test_results {
            if self.test_results(std::slice::from_ref(&file), fail).result == Verdict::Failed {
                self.result = Verdict::Failed;
            }
        }
    }
}

fn downloads(job: &Job) -> bool {
    let is = |step: &Step| {
        matches!(step.action, Action::Download { .. })
            || (matches!(step.action, Action::Nothing) && step.title.starts_with("Download"))
    };
    job.phases.steps.iter().flatten().any(is)
}

/// A path's last part, for names of files.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
