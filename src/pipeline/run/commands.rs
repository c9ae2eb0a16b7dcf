//! What a program says: lines for people, and logging commands for the agent.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::environment::is_agents;
use super::job::file_name;
use super::plan::{Action, Step};
use super::runner::Runner;
use super::store::Verdict;
use crate::agent::command::Command;
use crate::agent::console::Severity;
use crate::secret::Masks;

/// The most errors and warnings of a step that are shown as such.
const MAX_ISSUES: usize = 10;

/// What a program asked the agent for.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) variables: Vec<Set>,
    pub(super) paths: Vec<String>,
    /// Files with results of tests, and whether failed ones fail the step.
    pub(super) test_results: Vec<(PathBuf, bool)>,
    /// The result it gave itself; the worst, if several.
    pub(super) result: Option<Verdict>,
    /// Whether it wrote anything to standard error.
    pub(super) on_stderr: bool,
}

/// A variable that is set.
#[derive(PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) secret: bool,
    pub(super) is_output: bool,
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, if self.secret { "***" } else { &self.value })
    }
}

/// Listens to one step.
pub(super) struct Speaker<'r> {
    runner: &'r Runner<'r>,
    title: String,
    job: String,
    number: usize,
    /// The output variables of a task of ours, which may set nothing else.
    outputs: Option<Vec<&'static str>>,
    log: Option<File>,
    logs: PathBuf,
    issues: [usize; 2],
}

impl<'r> Speaker<'r> {
    /// What the step says is also written below `logs`.
    pub(super) fn new(runner: &'r Runner<'r>, step: &Step, job: &str, logs: &Path, number: usize) -> Self {
        let outputs = match &step.action {
            Action::Task { task, .. } => Some(task.outputs.iter().map(|output| output.name).collect()),
            _ => None,
        };
        // A log that cannot be written is no reason to fail the step.
        let log = File::options().create(true).append(true).open(logs.join(format!("{number:02}.txt"))).ok();
        Self {
            runner,
            title: step.title.clone(),
            job: job.replace([' ', '/'], ""),
            number,
            outputs,
            log,
            logs: logs.to_owned(),
            issues: [0, 0],
        }
    }

    /// Takes a line in.
    pub(super) fn line(&mut self, line: &str, is_error: bool, said: &mut Said) {
        said.on_stderr |= is_error && !line.trim().is_empty();
        if !Command::begins_in(line) {
            self.note(line);
            self.runner.console.log(Severity::Info, &format!("  {line}"));
            return;
        }
        match Command::parse(line) {
            Some(command) => {
                // The value may be a secret that nobody knows of yet.
                self.note(&format!("##[command]{}", command.name));
                if let Err(problem) = self.command(&command, said) {
                    self.say(Severity::Error, &format!("{}: {problem}", command.name));
                    said.result = said.result.max(Some(Verdict::Failed));
                }
            }
            None => self.say(Severity::Warning, "a line looks like a logging command and is none"),
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            // See `new`.
            let _ = writeln!(log, "{}", Masks::process().hide(line));
        }
    }

    fn say(&mut self, severity: Severity, text: &str) {
        self.note(text);
        self.runner.console.log(severity, &format!("  {text}"));
    }

    fn command(&mut self, command: &Command, said: &mut Said) -> Result<(), String> {
        let data = command.data.as_str();
        match command.name.as_str() {
            "task.setvariable" => return self.set_variable(command, said),
            "task.setsecret" => mask(data),
            "task.logissue" | "task.issue" => {
                let (severity, kind) = match command.property("type").map(str::to_ascii_lowercase).as_deref()
                {
                    Some("error") => (Severity::Error, 0),
                    Some("warning") => (Severity::Warning, 1),
                    _ => return Err("`type` is neither error nor warning".into()),
                };
                self.issues[kind] += 1;
                // An agent shows so many as issues; the rest are lines.
                let severity = if self.issues[kind] > MAX_ISSUES { Severity::Info } else { severity };
                self.say(severity, data);
            }
            "task.setprogress" => {
                let value = command.property("value").and_then(|value| value.trim().parse::<u64>().ok());
                let value = value.ok_or("`value` is no number from 0 to 100")?.min(100);
                let what = if data.is_empty() { &self.title } else { data };
                self.runner.console.progress(what, value, 100);
            }
            "task.complete" => {
                let result = match command.property("result").map(str::to_ascii_lowercase).as_deref() {
                    Some("succeeded") => Verdict::Succeeded,
                    Some("succeededwithissues") => Verdict::SucceededWithIssues,
                    Some("failed") => Verdict::Failed,
                    Some("canceled") => Verdict::Canceled,
                    Some("skipped") => Verdict::Skipped,
                    _ => return Err("`result` is none that there is".into()),
                };
                said.result = said.result.max(Some(result));
            }
            "task.debug" => {
                self.note(data);
                self.runner.console.log(Severity::Debug, data);
            }
            "task.uploadsummary" => self.keep(data, "summaries")?,
            "task.addattachment" => {
                for name in ["type", "name"] {
                    command.property(name).ok_or_else(|| format!("`{name}` is missing"))?;
                }
                self.keep(data, "attachments")?;
            }
            "task.uploadfile" => {
                let to = self.logs.join(format!("{:02}-{}", self.number, file_name(Path::new(data))));
                fs::copy(data, to).map_err(|error| format!("cannot keep `{data}`: {error}"))?;
            }
            "task.prependpath" => said.paths.push(data.to_owned()),
            "artifact.upload" => {
                let name = command.property("artifactname").ok_or("`artifactname` is missing")?;
                self.runner.run.publish(name, Path::new(data)).map_err(|error| error.to_string())?;
            }
            "results.publish" => {
                let kind = command.property("type").unwrap_or_default();
                if !kind.eq_ignore_ascii_case("junit") {
                    self.say(Severity::Warning, &format!("results of the kind `{kind}` are not read here"));
                    return Ok(());
                }
                let files = command.property("resultfiles").unwrap_or(data);
                let fail = command.says("failtaskonfailedtests");
                said.test_results.extend(files.split(',').map(|file| (PathBuf::from(file.trim()), fail)));
            }
            "build.addbuildtag" => self.say(Severity::Info, &format!("tag: {}", data.trim())),
            "build.updatebuildnumber" => said.variables.push(Set {
                name: "Build.BuildNumber".into(),
                value: data.to_owned(),
                secret: false,
                is_output: false,
            }),
            // Nobody looks at these on this machine.
            "task.logdetail"
            | "task.settaskvariable"
            | "telemetry.publish"
            | "artifact.associate"
            | "build.uploadlog"
            | "build.uploadsummary" => {}
            other => match other.split('.').next() {
                Some("task" | "artifact" | "build" | "results") => {
                    return Err("there is no such command".into());
                }
                _ => self.say(Severity::Warning, &format!("`{other}` is not known here")),
            },
        }
        Ok(())
    }

    fn set_variable(&mut self, command: &Command, said: &mut Said) -> Result<(), String> {
        let name =
            command.property("variable").filter(|name| !name.is_empty()).ok_or("`variable` is missing")?;
        let secret = command.says("issecret");
        if secret {
            mask(&command.data);
        }
        let mut is_output = command.says("isoutput");
        if let Some(outputs) = &self.outputs {
            is_output = outputs.iter().any(|output| output.eq_ignore_ascii_case(name));
            if !is_output {
                self.say(Severity::Warning, &format!("the task may not set the variable `{name}`"));
                return Ok(());
            }
        }
        if is_agents(name) {
            self.say(Severity::Warning, &format!("the variable `{name}` is the agent's and stays as it is"));
            return Ok(());
        }
        said.variables.push(Set { name: name.to_owned(), value: command.data.clone(), secret, is_output });
        Ok(())
    }

    /// Keeps a copy of a file in a folder of the run.
    fn keep(&self, file: &str, folder: &str) -> Result<(), String> {
        let file = Path::new(file);
        let folder = self.runner.run.below(folder).map_err(|error| error.to_string())?;
        let to = folder.join(format!("{}-{:02}-{}", self.job, self.number, file_name(file)));
        fs::copy(file, to).map(drop).map_err(|error| format!("cannot keep `{}`: {error}", file.display()))
    }
}

/// Masks a secret, and each line of one that has several.
fn mask(secret: &str) {
    let masks = Masks::process();
    masks.add(secret);
    if secret.contains('\n') {
        secret.lines().for_each(|line| masks.add(line));
    }
}
