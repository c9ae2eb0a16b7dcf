//! What a pipeline asks for: stages, jobs and steps of an expanded document, and what cannot be done here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::actions;
use super::expand::Expanded;
use super::expression::{Expression, Mention};
use super::functions;
use crate::pipeline::check::{Finding, Pool, Severity};
use crate::pipeline::document::{Content, Node};
use crate::pipeline::tasks::{Task, meant};

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

/// Reads an expanded pipeline.
///
/// # Errors
/// What is wrong with it, in the order of its lines.
pub(super) fn plan(expanded: &Expanded, here: &Here<'_>) -> Result<Pipeline, Vec<Finding>> {
    let mut reader = Reader { files: &expanded.files, here, wrong: Vec::new(), cannot: Vec::new() };
    let mut pipeline = reader.pipeline(&expanded.node);
    if reader.wrong.is_empty() {
        // A template that is included twice is told of once.
        reader.cannot.sort();
        reader.cannot.dedup();
        pipeline.cannot = reader.cannot;
        Ok(pipeline)
    } else {
        reader.wrong.sort();
        Err(reader.wrong)
    }
}

/// The keys of a step that say how it runs, not what it does.
const STEP_KEYS: [&str; 9] = [
    "name",
    "displayName",
    "condition",
    "continueOnError",
    "enabled",
    "env",
    "timeoutInMinutes",
    "retryCountOnTaskFailure",
    "target",
];

/// The keys of a job that say how it runs.
const JOB_KEYS: [&str; 16] = [
    "displayName",
    "dependsOn",
    "condition",
    "continueOnError",
    "timeoutInMinutes",
    "cancelTimeoutInMinutes",
    "variables",
    "strategy",
    "pool",
    "container",
    "services",
    "workspace",
    "uses",
    "templateContext",
    "job",
    "deployment",
];

/// What this machine has of what Azure DevOps keeps.
pub(super) struct Here<'a> {
    /// Whether there is something to sign in with for a service connection.
    pub(super) connection: &'a dyn Fn(&str) -> bool,
    /// Whether the runs of another pipeline are here, by its alias.
    pub(super) resource: &'a dyn Fn(&str) -> bool,
}

/// Collects what is wrong and what cannot be done.
pub(super) struct Reader<'a> {
    files: &'a [PathBuf],
    pub(super) here: &'a Here<'a>,
    wrong: Vec<Finding>,
    cannot: Vec<Finding>,
}

impl Reader<'_> {
    fn finding(&self, at: &Node, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            file: self.files.get(at.source).cloned().unwrap_or_default(),
            place: at.place,
            severity: Severity::Error,
            problem: problem.into(),
            hint: hint.into(),
        }
    }

    /// Something that is wrong.
    pub(super) fn wrong(&mut self, at: &Node, problem: impl Into<String>, hint: impl Into<String>) {
        let finding = self.finding(at, problem, hint);
        self.wrong.push(finding);
    }

    /// Something that cannot be done here, and is left out where that is wished.
    pub(super) fn cannot(&mut self, at: &Node, problem: impl Into<String>, hint: impl Into<String>) {
        let finding = self.finding(at, problem, hint);
        self.cannot.push(finding);
    }

    /// Names the keys of a map that nothing reads.
    pub(super) fn keys(&mut self, node: &Node, what: &str, known: &[&str]) {
        for (key, _) in node.entries() {
            let name = key.text().unwrap_or_default();
            if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                let names = known.iter().map(|name| (*name).to_owned());
                self.wrong(key, format!("{what} has no `{name}`"), meant(name, names));
            }
        }
    }

    fn pipeline(&mut self, node: &Node) -> Pipeline {
        self.keys(
            node,
            "a pipeline",
            &[
                "name",
                "trigger",
                "pr",
                "schedules",
                "resources",
                "variables",
                "pool",
                "stages",
                "jobs",
                "steps",
                "lockBehavior",
                "appendCommitMessageToRunName",
                "strategy",
                "container",
                "services",
                "workspace",
                "continueOnError",
            ],
        );
        let mut pipeline = Pipeline { variables: self.variables(node), ..Pipeline::default() };
        if let Some(resources) = node.get("resources") {
            for resource in resources.get("pipelines").into_iter().flat_map(Node::children) {
                if let Some(alias) = resource.text_of("pipeline") {
                    pipeline.resources.push(alias.to_owned());
                }
            }
        }
        let pool = node.get("pool");
        if let Some(stages) = node.get("stages") {
            for stage in stages.children() {
                let before: Vec<String> = pipeline.stages.iter().map(|stage| stage.name.clone()).collect();
                let stage = self.stage(stage, &before, pool);
                pipeline.stages.push(stage);
            }
        } else {
            let jobs = self.jobs(node, pool);
            pipeline.stages.push(Stage {
                name: "__default".into(),
                title: String::new(),
                after: Vec::new(),
                condition: None,
                variables: Variables::default(),
                jobs,
            });
        }
        if pipeline.stages.iter().all(|stage| stage.jobs.is_empty()) {
            self.wrong(node, "the pipeline has nothing to do", "give it `stages`, `jobs` or `steps`");
        }
        let names: Vec<(String, Vec<String>)> =
            pipeline.stages.iter().map(|stage| (stage.name.clone(), stage.after.clone())).collect();
        self.order(node, "stage", &names);
        pipeline
    }

    fn stage(&mut self, node: &Node, before: &[String], pool: Option<&Node>) -> Stage {
        self.keys(
            node,
            "a stage",
            &[
                "stage",
                "displayName",
                "dependsOn",
                "condition",
                "variables",
                "jobs",
                "pool",
                "lockBehavior",
                "isSkippable",
                "trigger",
                "templateContext",
            ],
        );
        let name = node.text_of("stage").filter(|name| !name.is_empty());
        if name.is_none() {
            self.wrong(node, "a stage has no name", "begin it with `- stage: NAME`");
        }
        let name = name.unwrap_or_default().to_owned();
        if before.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
            self.wrong(node, format!("there are two stages `{name}`"), "give one another name");
        }
        if node.text_of("trigger").is_some_and(|trigger| trigger.eq_ignore_ascii_case("manual")) {
            self.cannot(
                node,
                format!("the stage `{name}` waits for a person"),
                "leave `trigger: manual` out",
            );
        }
        let after = node.get("dependsOn").map_or_else(
            || before.last().cloned().into_iter().collect(),
            |node| texts(node).map(str::to_owned).collect(),
        );
        Stage {
            title: node.text_of("displayName").unwrap_or(&name).to_owned(),
            name,
            after,
            condition: self.condition(node, &["variables", "dependencies", "stageDependencies"]),
            variables: self.variables(node),
            jobs: self.jobs(node, node.get("pool").or(pool)),
        }
    }

    /// The jobs of a stage or a pipeline; steps alone are one.
    fn jobs(&mut self, node: &Node, pool: Option<&Node>) -> Vec<Job> {
        let jobs: Vec<Job> =
            if let Some(jobs) = node.get("jobs") {
                jobs.children().map(|job| self.job(job, pool)).collect()
            } else if node.get("steps").is_some() {
                let known: Vec<(Node, Node)> = node
                    .entries()
                    .iter()
                    .filter(|(key, _)| {
                        key.text().is_some_and(|key| {
                            ["steps", "strategy", "container", "services", "workspace", "continueOnError"]
                                .contains(&key)
                        })
                    })
                    .cloned()
                    .collect();
                vec![self.job(
                    &Node { content: Content::Map(known), place: node.place, source: node.source },
                    pool,
                )]
            } else {
                Vec::new()
            };
        let mut names: Vec<(String, Vec<String>)> = Vec::new();
        for job in &jobs {
            if names.iter().any(|(name, _)| name.eq_ignore_ascii_case(&job.name)) {
                self.wrong(node, format!("there are two jobs `{}`", job.name), "give one another name");
            }
            names.push((job.name.clone(), job.after.clone()));
        }
        self.order(node, "job", &names);
        jobs
    }

    /// What comes after what must be there, and must end.
    fn order(&mut self, node: &Node, what: &str, names: &[(String, Vec<String>)]) {
        for (name, after) in names {
            for other in after {
                if !names.iter().any(|(known, _)| known.eq_ignore_ascii_case(other)) {
                    let known = names.iter().map(|(name, _)| name.clone());
                    let problem = format!("the {what} `{name}` depends on `{other}`, which is not there");
                    self.wrong(node, problem, meant(other, known));
                    return;
                }
            }
        }
        let mut done: Vec<&str> = Vec::new();
        while let Some((name, _)) = names.iter().find(|(name, after)| {
            !done.contains(&name.as_str())
                && after.iter().all(|other| done.iter().any(|done| done.eq_ignore_ascii_case(other)))
        }) {
            done.push(name);
        }
        if let Some((name, _)) = names.iter().find(|(name, _)| !done.contains(&name.as_str())) {
            let problem = format!("the {what} `{name}` depends on itself");
            self.wrong(node, problem, "break the circle of `dependsOn`");
        }
    }

    fn job(&mut self, node: &Node, pool: Option<&Node>) -> Job {
        let deployment = node.get("deployment").is_some();
        let mut known = JOB_KEYS.to_vec();
        known.push(if deployment { "environment" } else { "steps" });
        self.keys(node, if deployment { "a deployment job" } else { "a job" }, &known);
        let name = node
            .text_of("job")
            .or_else(|| node.text_of("deployment"))
            .filter(|name| !name.is_empty())
            .unwrap_or("Job")
            .to_owned();
        let before = self.cannot.len();
        for key in ["container", "services"] {
            if let Some(node) = node.get(key) {
                self.cannot(
                    node,
                    format!("the job `{name}` wants a {key}"),
                    "this machine has no containers for jobs",
                );
            }
        }
        if let Some(pool) = node.get("pool").or(pool)
            && Pool::of(pool) == Pool::Other
        {
            self.cannot(
                pool,
                format!("the job `{name}` wants agents that run no Linux"),
                "this machine does",
            );
        }
        let environment = node
            .get("environment")
            .map(|node| node.text().or_else(|| node.text_of("name")).unwrap_or_default().to_owned());
        let copies = if deployment { Copies::Once } else { self.copies(node) };
        let once = node.get("strategy").and_then(|strategy| strategy.get("runOnce"));
        if deployment && once.is_none() {
            let at = node.get("strategy").unwrap_or(node);
            self.cannot(
                at,
                format!("the deployment job `{name}` is not of `runOnce`"),
                "only `runOnce` runs here",
            );
        }
        // Steps are left out one by one; what was said until here concerns the job as a whole.
        let left_out = self.cannot.len() > before;
        let phases = if let Some(once) = once.filter(|_| deployment) {
            self.deployment(once)
        } else {
            let steps = node.get("steps").map(|steps| self.steps(steps)).unwrap_or_default();
            Phases { steps: vec![steps], ..Phases::default() }
        };
        Job {
            title: node.text_of("displayName").unwrap_or(&name).to_owned(),
            name,
            after: node.get("dependsOn").into_iter().flat_map(texts).map(str::to_owned).collect(),
            condition: self.condition(node, &["variables", "dependencies", "stageDependencies"]),
            continue_on_error: self.boolean(node, "continueOnError", false),
            minutes: self.number(node, "timeoutInMinutes").filter(|minutes| *minutes > 0),
            variables: self.variables(node),
            copies,
            phases,
            environment,
            left_out,
        }
    }

    fn copies(&mut self, node: &Node) -> Copies {
        let Some(strategy) = node.get("strategy") else { return Copies::Once };
        self.keys(strategy, "the strategy of a job", &["parallel", "matrix", "maxParallel"]);
        if strategy.get("parallel").is_some() {
            let count = self.number(strategy, "parallel").unwrap_or(1);
            if !(1..=99).contains(&count) {
                self.wrong(strategy, format!("`parallel` is {count}"), "a number from 1 to 99 is expected");
            }
            return Copies::Parallel(count.clamp(1, 99) as u32);
        }
        let Some(matrix) = strategy.get("matrix") else { return Copies::Once };
        if let Some(text) = matrix.text() {
            self.cannot(matrix, format!("the matrix `{text}` is only known later"), "write its legs out");
            return Copies::Once;
        }
        let pairs = |node: &Node| {
            let pair = |(key, value): &(Node, Node)| Some((key.text()?.to_owned(), value.text()?.to_owned()));
            node.entries().iter().filter_map(pair).collect()
        };
        let legs = matrix.entries().iter();
        Copies::Matrix(
            legs.map(|(key, leg)| (key.text().unwrap_or_default().to_owned(), pairs(leg))).collect(),
        )
    }

    fn deployment(&mut self, once: &Node) -> Phases {
        let mut phases = Phases::default();
        let hooks = ["preDeploy", "deploy", "routeTraffic", "postRouteTraffic", "on"];
        self.keys(once, "`runOnce`", &hooks);
        for hook in &hooks[..4] {
            if let Some(hook) = once.get(hook) {
                self.keys(hook, "a hook of a deployment", &["steps", "pool"]);
                let steps = hook.get("steps").map(|steps| self.steps(steps)).unwrap_or_default();
                phases.steps.push(steps);
            }
        }
        if let Some(on) = once.get("on") {
            self.keys(on, "`on`", &["success", "failure"]);
            let mut of = |which: &str| {
                let steps = on.get(which).and_then(|hook| hook.get("steps"));
                steps.map(|steps| self.steps(steps)).unwrap_or_default()
            };
            phases.on_success = of("success");
            phases.on_failure = of("failure");
        }
        phases
    }

    fn steps(&mut self, node: &Node) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for node in node.children() {
            let step = self.step(node);
            if let Some(name) = &step.name
                && steps
                    .iter()
                    .any(|other| other.name.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name)))
            {
                self.wrong(node, format!("there are two steps named `{name}`"), "give one another name");
            }
            steps.push(step);
        }
        steps
    }

    fn step(&mut self, node: &Node) -> Step {
        let (action, title, more) = actions::read(node, self);
        let mut known = STEP_KEYS.to_vec();
        known.extend(more);
        self.keys(node, "this step", &known);
        if let Some(target) = node.get("target")
            && target.text() != Some("host")
        {
            self.cannot(
                target,
                "the step names a target",
                "containers and restrictions are the agent's business",
            );
        }
        let mut env = Vec::new();
        for (key, value) in node.get("env").map(Node::entries).unwrap_or_default() {
            match (key.text(), value.text()) {
                (Some(name), Some(value)) => env.push((name.to_owned(), value.to_owned())),
                _ => self.wrong(key, "a variable under `env` is no text", "write `NAME: value`"),
            }
        }
        Step {
            name: node.text_of("name").filter(|name| !name.is_empty()).map(str::to_owned),
            title: node.text_of("displayName").map_or(title, str::to_owned),
            enabled: self.boolean(node, "enabled", true),
            condition: self.condition(node, &["variables"]),
            continue_on_error: self.boolean(node, "continueOnError", false),
            minutes: self.number(node, "timeoutInMinutes").filter(|minutes| *minutes > 0),
            retries: self.number(node, "retryCountOnTaskFailure").unwrap_or(0).min(10) as u32,
            env,
            action,
        }
    }

    /// A condition, whose names and functions are checked before anything runs.
    fn condition(&mut self, node: &Node, names: &[&str]) -> Option<Expression> {
        let at = node.get("condition")?;
        let text = at.text().filter(|text| !text.trim().is_empty())?;
        let text = text.trim();
        let text = text.strip_prefix("$[").and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let expression = self.expression(at, text)?;
        let mut unknown = None;
        expression.mentions(&mut |mention| match mention {
            Mention::Name(name) if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) => {
                unknown = Some(format!("nothing is named `{name}` in this condition"));
            }
            Mention::Function(name) if !is_function(name) => {
                unknown = Some(format!("there is no function `{name}` in conditions"));
            }
            _ => {}
        });
        if let Some(problem) = unknown {
            self.wrong(at, problem, format!("names are {}", names.join(", ")));
        }
        Some(expression)
    }

    fn expression(&mut self, at: &Node, text: &str) -> Option<Expression> {
        Expression::parse(text).map_err(|error| self.wrong(at, error.to_string(), "mend the expression")).ok()
    }

    fn variables(&mut self, node: &Node) -> Variables {
        let mut variables = Variables::default();
        let Some(node) = node.get("variables") else { return variables };
        let pairs: Vec<(&Node, &Node)> = if let Content::Map(entries) = &node.content {
            entries.iter().map(|(key, value)| (key, value)).collect()
        } else {
            let mut pairs = Vec::new();
            for item in node.children() {
                if let Some(group) = item.get("group") {
                    let name = group.text().unwrap_or_default();
                    let problem = format!("the variable group `{name}` is kept in Azure DevOps");
                    let hint = "give its variables with --variable NAME=VALUE or --secret NAME";
                    variables.groups.push((name.to_owned(), self.finding(group, problem, hint)));
                    continue;
                }
                self.keys(item, "a variable", &["name", "value", "readonly", "group"]);
                if let (Some(name), Some(value)) = (item.get("name"), item.get("value")) {
                    pairs.push((name, value));
                } else {
                    self.wrong(
                        item,
                        "a variable lacks its name or its value",
                        "write `- name: …` and `value: …`",
                    );
                }
            }
            pairs
        };
        for (name, value) in pairs {
            let (Some(name), Some(text)) = (name.text(), value.text()) else {
                self.wrong(value, "a variable is no text", "write `NAME: value`");
                continue;
            };
            let computed = text.trim().strip_prefix("$[").and_then(|text| text.strip_suffix(']'));
            let text = match computed {
                Some(inside) => match self.expression(value, inside) {
                    Some(expression) => Text::Computed(expression),
                    None => continue,
                },
                None => Text::Plain(text.to_owned()),
            };
            variables.values.push((name.to_owned(), text));
        }
        variables
    }

    /// A switch, as YAML and templates write it.
    pub(super) fn boolean(&mut self, node: &Node, key: &str, default: bool) -> bool {
        let Some(value) = node.get(key) else { return default };
        match value.text().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => true,
            Some("false") => false,
            Some("") => default,
            _ => {
                self.wrong(value, format!("`{key}` is neither true nor false"), "write one of them");
                default
            }
        }
    }

    fn number(&mut self, node: &Node, key: &str) -> Option<u64> {
        let value = node.get(key)?;
        let number = value.text().and_then(|text| text.trim().parse().ok());
        if number.is_none() {
            self.wrong(value, format!("`{key}` is no whole number"), "write one, without quotes");
        }
        number
    }
}

/// A text, or the texts of a list.
fn texts(node: &Node) -> impl Iterator<Item = &str> {
    node.text().into_iter().chain(node.children().filter_map(Node::text)).filter(|text| !text.is_empty())
}

fn is_function(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    functions::is_known(&name)
        || ["succeeded", "failed", "canceled", "succeededorfailed"].contains(&name.as_str())
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
