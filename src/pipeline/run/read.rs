//! Reads an expanded document: the pipeline and its stages, and what everything in it has in common.

use std::path::PathBuf;

use super::expand::Expanded;
use super::expression::{Expression, Mention};
use super::functions;
use super::plan::{Pipeline, Stage, Text, Variables};
use crate::pipeline::check::Finding;
use crate::pipeline::document::{Content, Node};
use crate::pipeline::tasks::meant;

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
    pub(super) cannot: Vec<Finding>,
}

impl Reader<'_> {
    fn finding(&self, at: &Node, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding::error(self.files, at, problem, hint)
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

    /// What comes after what must be there, and must end.
    pub(super) fn order(&mut self, node: &Node, what: &str, names: &[(String, Vec<String>)]) {
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

    /// A condition, whose names and functions are checked before anything runs.
    pub(super) fn condition(&mut self, node: &Node, names: &[&str]) -> Option<Expression> {
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

    pub(super) fn variables(&mut self, node: &Node) -> Variables {
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

    pub(super) fn number(&mut self, node: &Node, key: &str) -> Option<u64> {
        let value = node.get(key)?;
        let number = value.text().and_then(|text| text.trim().parse().ok());
        if number.is_none() {
            self.wrong(value, format!("`{key}` is no whole number"), "write one, without quotes");
        }
        number
    }
}

/// A text, or the texts of a list.
pub(super) fn texts(node: &Node) -> impl Iterator<Item = &str> {
    node.text().into_iter().chain(node.children().filter_map(Node::text)).filter(|text| !text.is_empty())
}

fn is_function(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    functions::is_known(&name)
        || ["succeeded", "failed", "canceled", "succeededorfailed"].contains(&name.as_str())
}
