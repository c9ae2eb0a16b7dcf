//! Reads the jobs of a stage and their steps.

use super::actions;
use super::plan::{Copies, Job, Phases, Step};
use super::read::{Reader, texts};
use crate::pipeline::check::Pool;
use crate::pipeline::document::{Content, Node};

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

impl Reader<'_> {
    /// The jobs of a stage or a pipeline; steps alone are one.
    pub(super) fn jobs(&mut self, node: &Node, pool: Option<&Node>) -> Vec<Job> {
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
            self.other_strategy(node, &name);
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

    /// Tells of a deployment that is not of `runOnce`.
    fn other_strategy(&mut self, node: &Node, name: &str) {
        let Some(strategy) = node.get("strategy") else {
            let known = "`runOnce`, `rolling` and `canary` are known; only `runOnce` runs here";
            return self.wrong(node, format!("the deployment job `{name}` has no strategy"), known);
        };
        self.keys(strategy, "the strategy of a deployment", &["runOnce", "rolling", "canary"]);
        for (kind, over) in [
            ("rolling", "in turns over the machines of its environment"),
            ("canary", "in growing shares of what runs in its environment"),
        ] {
            if let Some(at) = strategy.get(kind) {
                self.cannot(
                    at,
                    format!("the deployment job `{name}` is `{kind}`: it deploys {over}"),
                    "this machine knows nothing of an environment; only `runOnce` runs here",
                );
            }
        }
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
}
