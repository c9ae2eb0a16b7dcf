//! What is wrong with a pipeline as a whole: its templates, pools, artifacts and output variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::document::{Node, Place};
use super::step;
use super::tasks::{Task, meant};

/// How deep templates may include each other, as Azure Pipelines allows.
const MAX_DEPTH: usize = 100;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It will fail.
    Error,
    /// It may not be what is meant.
    Warning,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl Finding {
    /// An error at `node`, whose file is one of `files`.
    pub(super) fn error(
        files: &[PathBuf],
        node: &Node,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            file: files.get(node.source).cloned().unwrap_or_default(),
            place: node.place,
            severity: Severity::Error,
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Place { line, column } = self.place;
        write!(f, "{}:{line}:{column}: {word}: {}; {}", self.file.display(), self.problem, self.hint)
    }
}

/// The agents a job runs on, as far as the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Unknown,
    X64,
    Arm64,
    Arm,
    Other,
}

impl Pool {
    pub(super) fn of(node: &Node) -> Self {
        if let Some(image) = node.text_of("vmImage") {
            return match image.to_ascii_lowercase() {
                image if image.starts_with("ubuntu") => Self::X64,
                image if image.starts_with("windows") || image.starts_with("macos") => Self::Other,
                _ => Self::Unknown,
            };
        }
        let Some(demands) = node.get("demands") else { return Self::Unknown };
        let words = demands.text().into_iter().chain(demands.children().filter_map(Node::text));
        for demand in words {
            let demand = demand.to_ascii_lowercase().replace(' ', "");
            match demand.as_str() {
                "agent.osarchitecture-equalsarm64" => return Self::Arm64,
                "agent.osarchitecture-equalsarm" => return Self::Arm,
                "agent.osarchitecture-equalsx64" => return Self::X64,
                "agent.os-equalswindows_nt" | "agent.os-equalsdarwin" => return Self::Other,
                _ => {}
            }
        }
        Self::Unknown
    }
}

/// Collects findings of one file.
pub(super) struct Report<'a> {
    file: &'a Path,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    pub(super) fn error(&mut self, place: Place, problem: String, hint: impl Into<String>) {
        self.add(Severity::Error, place, problem, hint.into());
    }

    pub(super) fn warning(&mut self, place: Place, problem: String, hint: impl Into<String>) {
        self.add(Severity::Warning, place, problem, hint.into());
    }

    fn add(&mut self, severity: Severity, place: Place, problem: String, hint: String) {
        self.findings.push(Finding { file: self.file.to_owned(), place, severity, problem, hint });
    }
}

/// What a pipeline's files say to one another.
#[derive(Default)]
struct Whole {
    findings: Vec<Finding>,
    /// Artifacts that are published.
    published: BTreeSet<String>,
    /// Whether an artifact is published whose name is only known when the pipeline runs.
    publishes_unknown: bool,
    /// Artifacts of this very run that are downloaded.
    downloaded: Vec<(PathBuf, Place, String)>,
    /// Our steps that have names.
    names: BTreeMap<String, &'static Task>,
    /// References to output variables: step, variable.
    references: Vec<(PathBuf, Place, String, String)>,
    seen: BTreeSet<PathBuf>,
}

/// Looks at a pipeline and at the templates it includes from files. `read` gives a file's text.
///
/// # Errors
/// When the pipeline cannot be read; a template that cannot is a finding.
pub fn check<E: fmt::Display>(
    file: &Path,
    mut read: impl FnMut(&Path) -> Result<String, E>,
) -> Result<Vec<Finding>, E> {
    let text = read(file)?;
    let mut whole = Whole::default();
    whole.file(file, &text, &mut read, 0, Pool::Unknown);
    whole.artifacts();
    whole.outputs();
    whole.findings.sort();
    whole.findings.dedup();
    Ok(whole.findings)
}

impl Whole {
    fn file<E: fmt::Display>(
        &mut self,
        file: &Path,
        text: &str,
        read: &mut impl FnMut(&Path) -> Result<String, E>,
        depth: usize,
        pool: Pool,
    ) {
        if !self.seen.insert(file.to_owned()) || depth > MAX_DEPTH {
            return;
        }
        match Node::parse(text) {
            Ok(node) => self.node(file, &node, pool, read, depth),
            Err(error) => {
                let place = error.location().map_or(Place { line: 1, column: 1 }, |location| Place {
                    line: location.line(),
                    column: location.column(),
                });
                let said = error.without_snippet().to_string();
                let problem = format!("this is no YAML: {}", said.lines().next().unwrap_or_default());
                self.report(file).error(place, problem, "mend it first; the rest was not looked at");
            }
        }
    }

    fn report<'a>(&'a mut self, file: &'a Path) -> Report<'a> {
        Report { file, findings: &mut self.findings }
    }

    fn node<E: fmt::Display>(
        &mut self,
        file: &Path,
        node: &Node,
        pool: Pool,
        read: &mut impl FnMut(&Path) -> Result<String, E>,
        depth: usize,
    ) {
        let pool = node.get("pool").map_or(pool, Pool::of);
        if let Some(text) = node.text() {
            self.text(file, node.place, text);
        }
        if let Some(reference) = node.get("task")
            && let Some(name) = reference.text()
        {
            let mut report = Report { file, findings: &mut self.findings };
            if let Some(task) = step::check(node, reference.place, name, pool, &mut report)
                && let Some(name) = node.text_of("name")
            {
                self.names.insert(name.to_owned(), task);
            }
            self.artifact_task(file, node, name);
        }
        self.artifact_step(file, node);
        if let Some(steps) = node.get("steps").filter(|_| pool == Pool::X64) {
            step::export_alone(steps, &mut self.report(file));
        }
        if let Some(template) = node.get("template")
            && let Some(name) = template.text()
            && !name.contains("${{")
            && !name.contains('@')
        {
            let path = file.parent().unwrap_or(Path::new("")).join(name.trim_start_matches('/'));
            match read(&path) {
                Ok(text) => self.file(&path, &text, read, depth + 1, pool),
                Err(problem) => {
                    let problem = format!("cannot read the template `{name}`: {problem}");
                    let hint = "its path starts at the folder of the file that names it";
                    self.report(file).error(template.place, problem, hint);
                }
            }
        }
        for child in node.children() {
            self.node(file, child, pool, read, depth);
        }
    }

    /// `publish:` and `download:`.
    fn artifact_step(&mut self, file: &Path, node: &Node) {
        if node.get("publish").is_some() {
            self.publish(node.text_of("artifact"));
        }
        if node.text_of("download").is_some_and(|from| from.eq_ignore_ascii_case("current")) {
            self.download(file, node.get("artifact"));
        }
    }

    /// The tasks of Azure Pipelines that publish and download.
    fn artifact_task(&mut self, file: &Path, node: &Node, name: &str) {
        let task = name.split('@').next().unwrap_or(name).to_ascii_lowercase();
        let Some(inputs) = node.get("inputs") else { return };
        let artifact = ["artifact", "artifactName"].iter().find_map(|name| inputs.get(name));
        match task.as_str() {
            "publishpipelineartifact" | "publishbuildartifacts" => {
                self.publish(artifact.and_then(Node::text));
            }
            "downloadpipelineartifact" => {
                let from = ["buildType", "source"].iter().find_map(|name| inputs.text_of(name));
                if from.is_none_or(|from| from.eq_ignore_ascii_case("current")) {
                    self.download(file, artifact);
                }
            }
            _ => {}
        }
    }

    fn publish(&mut self, artifact: Option<&str>) {
        match artifact {
            Some(name) if !is_open(name) => {
                self.published.insert(name.to_owned());
            }
            _ => self.publishes_unknown = true,
        }
    }

    fn download(&mut self, file: &Path, artifact: Option<&Node>) {
        if let Some(node) = artifact
            && let Some(name) = node.text()
            && !name.is_empty()
            && !is_open(name)
        {
            self.downloaded.push((file.to_owned(), node.place, name.to_owned()));
        }
    }

    /// Remembers the output variables a text reads: `$(step.variable)`, `variables['step.variable']` and
    /// `outputs['job.step.variable']`.
    fn text(&mut self, file: &Path, place: Place, text: &str) {
        let macros = between(text, "$(", ")");
        let quoted = between(text, "['", "']");
        for (inside, may_have_job) in macros.map(|m| (m, false)).chain(quoted.map(|q| (q, true))) {
            let parts: Vec<&str> = inside.split('.').collect();
            let reference = match parts[..] {
                [step, variable] => Some((step, variable)),
                [_, step, variable] if may_have_job => Some((step, variable)),
                _ => None,
            };
            if let Some((step, variable)) = reference {
                self.references.push((file.to_owned(), place, step.to_owned(), variable.to_owned()));
            }
        }
    }

    /// What is downloaded must be published somewhere.
    fn artifacts(&mut self) {
        if self.publishes_unknown {
            return;
        }
        for (file, place, name) in std::mem::take(&mut self.downloaded) {
            if !self.published.contains(&name) {
                let problem = format!("the artifact `{name}` is downloaded, and nothing here publishes it");
                let names: Vec<String> = self.published.iter().cloned().collect();
                let hint = if names.is_empty() {
                    "publish it with `publish:` in an earlier job".to_owned()
                } else {
                    meant(&name, names)
                };
                self.report(&file).error(place, problem, hint);
            }
        }
    }

    /// What is read of our steps must be what they set.
    fn outputs(&mut self) {
        for (file, place, step, variable) in std::mem::take(&mut self.references) {
            let Some(task) = self.names.get(&step).copied() else { continue };
            if !task.outputs.iter().any(|output| output.name.eq_ignore_ascii_case(&variable)) {
                let problem = format!("the step `{step}` ({}) sets no `{variable}`", task.name);
                let hint = meant(&variable, task.outputs.iter().map(|output| output.name.to_owned()));
                self.report(&file).error(place, problem, hint);
            }
        }
    }
}

/// Whether a value is only known when the pipeline runs.
pub(super) fn is_open(text: &str) -> bool {
    ["${{", "$(", "$["].iter().any(|start| text.contains(start))
}

/// The texts between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &'static str, end: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split_once(end).map(|(inside, _)| inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned()).ok_or("no such file")
        };
        let findings = check(Path::new(files[0].0), read).unwrap();
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn artifacts_are_matched_across_jobs_and_templates() {
        let main = "jobs:\n  - job: a\n    steps:\n      - publish: out\n        artifact: model\n  - template: t/b.yml\n";
        let broken = "jobs:\n  - job: b\n    steps:\n      - download: current\n        artifact: modell\n";
        assert_eq!(
            found(&[("p.yml", main), ("t/b.yml", broken)]),
            [
                "t/b.yml:5:19: error: the artifact `modell` is downloaded, and nothing here publishes it; was `model` meant?"
            ]
        );
        let good = broken.replace("modell", "model");
        assert!(found(&[("p.yml", main), ("t/b.yml", &good)]).is_empty());
        let open = main.replace("artifact: model", "artifact: ${{ parameters.name }}");
        assert!(found(&[("p.yml", &open), ("t/b.yml", broken)]).is_empty());
        assert!(found(&[("p.yml", main)])[0].contains("cannot read the template `t/b.yml`: no such file"));
    }

    #[test]
    fn output_variables_are_those_the_step_sets() {
        let text = "steps:\n  - task: ImportImages@0\n    name: import\n    inputs: {source: a, out: b}\n  - script: echo $(import.photoz) $(import.photos) $(other.x)\n    condition: eq(variables['import.changd'], 'true')\n";
        let found = found(&[("p.yml", text)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains(
                "5:13: error: the step `import` (ImportImages) sets no `photoz`; was `photos` meant?"
            ),
            "{found:?}"
        );
        assert!(found[1].contains("was `changed` meant?"));
    }

    #[test]
    fn a_file_that_is_no_yaml_is_one_finding() {
        let found = found(&[("p.yml", "steps:\n  - task: [a\n")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("this is no YAML"), "{found:?}");
    }

    #[test]
    fn templates_that_include_each_other_end() {
        assert!(found(&[("a.yml", "steps:\n  - template: a.yml\n")]).is_empty());
    }
}
