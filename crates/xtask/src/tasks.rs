//! The tasks a pipeline author sees, made from the steps' declared options: `task.json`, `README.md`, and the
//! entries with which a YAML editor knows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mynah::agent::{OptionKind, OptionSpec};
use mynah::step::{OutputSpec, Step};
use mynah::steps::{
    build_modules::BuildModules, deploy_modules::DeployModules, export::ExportModel,
    generate_manifest::GenerateManifest, import::ImportImages, train::TrainModel,
};
use serde_json::{Map, Value, json};

use crate::forms::{FORMS, Form};

/// The oldest agent that has Node 20.
const AGENT: &str = "3.232.1";

/// The group of the optional inputs that belong nowhere else.
const MORE: &str = "more";

/// What a step declares.
struct Declared {
    name: &'static str,
    task: &'static str,
    about: &'static str,
    details: &'static str,
    options: &'static [OptionSpec],
    outputs: &'static [OutputSpec],
}

impl Declared {
    const fn of<S: Step>() -> Self {
        Self {
            name: S::NAME,
            task: S::TASK,
            about: S::ABOUT,
            details: S::DETAILS,
            options: S::OPTIONS,
            outputs: S::OUTPUTS,
        }
    }
}

const STEPS: [Declared; 6] = [
    Declared::of::<ImportImages>(),
    Declared::of::<TrainModel>(),
    Declared::of::<ExportModel>(),
    Declared::of::<BuildModules>(),
    Declared::of::<GenerateManifest>(),
    Declared::of::<DeployModules>(),
];

/// Where a task is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// For everybody.
    Public,
    /// For trying before that: own ids and names, so that both can be installed.
    Test,
}

/// A task with its form.
pub(crate) struct Task {
    step: &'static Declared,
    form: &'static Form,
}

impl Task {
    /// The six tasks, in the order of the walk.
    pub(crate) fn all() -> Result<Vec<Self>> {
        STEPS
            .iter()
            .map(|step| {
                let form = FORMS
                    .iter()
                    .find(|form| form.task == step.task)
                    .with_context(|| format!("{} has no form", step.task))?;
                let task = Self { step, form };
                task.names_only_options()?;
                Ok(task)
            })
            .collect()
    }

    /// The task's name, which is also its folder's.
    pub(crate) fn task(&self) -> &'static str {
        self.step.task
    }

    /// The program's name.
    pub(crate) fn program(&self) -> &'static str {
        self.step.name
    }

    /// A form that names an option the step no longer has is a mistake.
    fn names_only_options(&self) -> Result<()> {
        let form = self.form;
        let named = (form.labels.iter().chain(form.shown).chain(form.help))
            .map(|(name, _)| *name)
            .chain(form.groups.iter().flat_map(|group| group.options.iter().copied()))
            .chain(form.first.iter().copied());
        for name in named {
            // `connection` is shared wording: not every step takes one.
            ensure!(
                name == "connection" || self.step.options.iter().any(|option| option.name == name),
                "the form of {} names `{name}`, which is no option of it",
                form.task
            );
        }
        Ok(())
    }

    /// `task.json`.
    pub(crate) fn definition(&self, channel: Channel) -> Result<Value> {
        let Self { step, form } = self;
        let (id, suffix, title) = match channel {
            Channel::Public => (form.id, "", form.title.to_owned()),
            Channel::Test => (form.test_id, "-test", format!("{} (test)", form.title)),
        };
        ensure!(title.chars().count() <= 40, "the title of {} is longer than 40 characters", form.task);
        let mut groups: Vec<Value> = form
            .groups
            .iter()
            .map(|group| {
                let mut value =
                    json!({"name": group.name, "displayName": group.title, "isExpanded": group.shown.is_some()});
                if let Some(shown) = group.shown {
                    value["visibleRule"] = shown.into();
                }
                value
            })
            .collect();
        let inputs: Vec<Value> = self.ordered().into_iter().map(|option| self.input(option)).collect();
        if inputs.iter().any(|input| input["groupName"] == MORE) {
            groups.push(json!({"name": MORE, "displayName": "More", "isExpanded": false}));
        }
        let version: Vec<u64> =
            env!("CARGO_PKG_VERSION").split('.').map(str::parse).collect::<Result<_, _>>()?;
        let [major, minor, patch] = version[..] else { bail!("the version is not of the form 1.2.3") };
        let outputs: Vec<Value> = (step.outputs.iter())
            .map(|output| json!({"name": output.name, "description": self.in_words(output.about)}))
            .collect();
        let allowed: Vec<&str> = step.outputs.iter().map(|output| output.name).collect();
        Ok(json!({
            "$schema": "https://raw.githubusercontent.com/Microsoft/azure-pipelines-task-lib/master/tasks.schema.json",
            "id": id,
            "name": format!("{}{suffix}", step.task),
            "friendlyName": title,
            "description": format!("{}.", step.about),
            "helpMarkDown": "See the extension's page for every input and for pipelines to copy.",
            "category": form.category,
            "visibility": ["Build", "Release"],
            "runsOn": ["Agent", "DeploymentGroup"],
            "author": "Mynah",
            "version": {"Major": major, "Minor": minor, "Patch": patch},
            "minimumAgentVersion": AGENT,
            "instanceNameFormat": form.step_name,
            "groups": groups,
            "inputs": inputs,
            "outputVariables": outputs,
            "execution": {"Node24": {"target": "index.js"}, "Node20_1": {"target": "index.js"}},
            "restrictions": {"settableVariables": {"allowed": allowed}},
        }))
    }

    /// The options as the form shows them: required ones, what decides about others, the groups, the rest.
    fn ordered(&self) -> Vec<&'static OptionSpec> {
        let rank = |option: &OptionSpec| {
            let of = |names: &[&str]| names.iter().position(|name| *name == option.name);
            let mut groups = self.form.groups.iter().enumerate();
            let group = groups.find_map(|(at, group)| Some((2 + at, of(group.options)?)));
            match (option.required, of(self.form.first), group) {
                (true, ..) => (0, 0),
                (_, Some(at), _) => (1, at),
                (_, _, Some(place)) => place,
                _ => (usize::MAX, 0),
            }
        };
        let mut options: Vec<_> = self.step.options.iter().collect();
        options.sort_by_key(|option| rank(option));
        options
    }

    fn input(&self, option: &OptionSpec) -> Value {
        let form = self.form;
        let of = |list: &[(&'static str, &'static str)]| {
            list.iter().find(|(name, _)| *name == option.name).map(|(_, text)| *text)
        };
        let label = of(form.labels).map_or_else(|| words(option.name), str::to_owned);
        let help = of(form.help).map_or_else(|| self.in_words(option.help), str::to_owned);
        let mut input = json!({
            "name": option.name,
            "label": label,
            "type": self.kind(option),
            "required": option.required,
            "helpMarkDown": help,
        });
        match (option.kind, option.default) {
            (OptionKind::Switch, default) => input["defaultValue"] = (default == Some("true")).into(),
            (_, Some(default)) => input["defaultValue"] = default.into(),
            (_, None) => {}
        }
        if let OptionKind::Choice(choices) = option.kind {
            input["options"] = choices.iter().map(|word| ((*word).to_owned(), json!(word))).collect();
        }
        if let Some(rule) = of(form.shown) {
            input["visibleRule"] = rule.into();
        }
        if !option.required && !form.first.contains(&option.name) {
            let group = form.groups.iter().find(|group| group.options.contains(&option.name));
            input["groupName"] = group.map_or(MORE, |group| group.name).into();
        }
        input
    }

    /// The type of an input's field.
    ///
    /// Paths are text: for a `filePath` left empty the agent hands over the folder of the sources, and it makes a
    /// URL a path below that folder. Relative ones mean the same either way, since a task starts in that folder.
    fn kind(&self, option: &OptionSpec) -> String {
        match option.kind {
            OptionKind::Switch => "boolean".into(),
            OptionKind::Choice(_) => "pickList".into(),
            _ if option.name == "connection" => format!("connectedService:{}", self.form.connection),
            _ if option.name == "registryConnection" => "connectedService:dockerregistry".into(),
            _ if option.name == "clusterConnection" => "connectedService:kubernetes".into(),
            _ => "string".into(),
        }
    }

    /// Text for the command line, in the words of a form: `--min-accuracy` is the input `minAccuracy` there.
    fn in_words(&self, text: &str) -> String {
        let mut flags: Vec<_> = self.step.options.iter().map(|option| (option.flag(), option.name)).collect();
        // A flag that another one begins with comes after it.
        flags.sort_by_key(|(flag, _)| std::cmp::Reverse(flag.len()));
        flags.into_iter().fold(text.to_owned(), |text, (flag, name)| {
            text.replace(&format!("--{flag}"), &format!("`{name}`"))
        })
    }

    /// `README.md`.
    fn readme(&self) -> Result<String> {
        let Self { step, form } = self;
        let definition = self.definition(Channel::Public)?;
        let mut text = format!("# {}\n\n{}.\n\n", form.title, step.about);
        for line in self.prose().lines() {
            let _ = writeln!(text, "{}", line.replace('<', "\\<"));
        }
        let _ = write!(text, "\n## Copy this\n\n```yaml\n{}```\n\n## Inputs\n\n", form.example);
        text.push_str("| input | what it is | default |\n|---|---|---|\n");
        for input in definition["inputs"].as_array().into_iter().flatten() {
            let default = match &input["defaultValue"] {
                Value::String(default) => format!("`{default}`"),
                Value::Bool(default) => format!("`{default}`"),
                _ if input["required"] == true => "required".into(),
                _ => String::new(),
            };
            let mut help = input["helpMarkDown"].as_str().unwrap_or_default().replace('|', "\\|");
            if let Some(options) = input["options"].as_object() {
                let words: Vec<_> = options.keys().map(|word| format!("`{word}`")).collect();
                let _ = write!(help, " One of {}.", words.join(", "));
            }
            let _ =
                writeln!(text, "| `{}` | {help} | {default} |", input["name"].as_str().unwrap_or_default());
        }
        text.push_str(
            "\nThe same option on the command line has dashes: `minAccuracy` is `--min-accuracy`.\n",
        );
        text.push_str("\n## Output variables\n\n| variable | what it holds |\n|---|---|\n");
        for output in step.outputs {
            let _ = writeln!(text, "| `{}` | {} |", output.name, self.in_words(output.about));
        }
        text.push_str(
            "\nGive the step a `name`, then a later step of the job reads `$(name.variable)`. The exit code says what \
             happened: 0 done, 1 failed, 2 bad input, 3 a service refused, 130 cancelled.\n",
        );
        Ok(text)
    }

    /// The step's details without the examples for a command line.
    fn prose(&self) -> String {
        let details = self.step.details;
        let end = ["\n\nExample", "\n\nExamples"].iter().filter_map(|mark| details.find(mark)).min();
        self.in_words(&details[..end.unwrap_or(details.len())])
    }
}

/// A name in words: `minAccuracy` → `Min accuracy`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for (at, c) in name.chars().enumerate() {
        match (at, c.is_ascii_uppercase()) {
            (0, _) => text.push(c.to_ascii_uppercase()),
            (_, true) => text.extend([' ', c.to_ascii_lowercase()]),
            _ => text.push(c),
        }
    }
    text
}

/// The generated files and what belongs into them.
fn files() -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for task in Task::all()? {
        let folder = Path::new("tasks").join(task.task());
        files.insert(folder.join("task.json"), pretty(&task.definition(Channel::Public)?)?);
        files.insert(folder.join("README.md"), task.readme()?);
    }
    Ok(files)
}

/// JSON as it stands in the repository.
pub(crate) fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes `task.json` and `README.md` of every task.
pub(crate) fn write() -> Result<()> {
    for (file, text) in files()? {
        fs::write(crate::root().join(file), text)?;
    }
    Ok(())
}

/// Fails where a file differs from what the steps declare, or an icon is missing.
pub(crate) fn check() -> Result<()> {
    for (file, text) in files()? {
        let there = fs::read_to_string(crate::root().join(&file)).unwrap_or_default();
        ensure!(there == text, "{} is not what the steps declare; run `cargo xtask tasks`", file.display());
    }
    for task in Task::all()? {
        let icon = crate::root().join("tasks").join(task.task()).join("icon.png");
        ensure!(icon.is_file(), "{} has no icon", task.task());
    }
    crate::say("tasks: up to date");
    Ok(())
}

/// The schema of pipelines, with our tasks added to those it knows.
///
/// The schema is not plain JSON Schema: an entry in `definitions.task.properties.task` makes the task's name known,
/// one in `definitions.task` its inputs.
pub(crate) fn pipeline_schema(mut schema: Value) -> Result<Value> {
    for task in Task::all()? {
        let definition = task.definition(Channel::Public)?;
        let reference = format!("{}@{}", task.task(), definition["version"]["Major"]);
        let mut inputs = Map::new();
        let mut required = Vec::new();
        for input in definition["inputs"].as_array().into_iter().flatten() {
            let name = input["name"].as_str().unwrap_or_default();
            let mut entry = match (&input["type"], input["options"].as_object()) {
                (Value::String(kind), _) if kind == "boolean" => json!({"type": "boolean"}),
                (_, Some(options)) => {
                    let words: Vec<_> = options.keys().collect();
                    // An expression or a variable, whose value nobody knows yet, is a word as well.
                    let unknown = json!({"type": "string", "pattern": r"^\$[({\[]"});
                    json!({"anyOf": [{"enum": words, "ignoreCase": "all"}, unknown], "ignoreCase": "key"})
                }
                _ => json!({"type": "string"}),
            };
            entry["description"] = input["label"].clone();
            entry["ignoreCase"] = entry.get("ignoreCase").cloned().unwrap_or_else(|| "key".into());
            if input["required"] == true && input.get("defaultValue").is_none() {
                required.push(name.to_owned());
            }
            inputs.insert(name.to_owned(), entry);
        }
        let named =
            json!({"description": definition["friendlyName"], "ignoreCase": "value", "enum": [reference]});
        let entry = json!({
            "properties": {
                "task": {"description": definition["description"], "ignoreCase": "value", "pattern": format!("^{reference}$")},
                "inputs": {
                    "description": format!("{} inputs", task.task()),
                    "properties": inputs,
                    "additionalProperties": false,
                    "required": required,
                },
            },
            "firstProperty": ["task"],
            "required": ["task", "inputs"],
        });
        for (pointer, entry) in
            [("/definitions/task/properties/task/anyOf", named), ("/definitions/task/anyOf", entry)]
        {
            let list = schema.pointer_mut(pointer).and_then(Value::as_array_mut);
            list.with_context(|| format!("the schema of pipelines has no {pointer}"))?.insert(0, entry);
        }
    }
    Ok(schema)
}

/// Reads the schema of pipelines from `service` and writes it with our tasks to `out`.
pub(crate) fn write_pipeline_schema(service: &Path, out: &Path) -> Result<()> {
    let text = fs::read_to_string(service).with_context(|| format!("cannot read {}", service.display()))?;
    let schema = serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
    fs::write(out, serde_json::to_string(&pipeline_schema(schema)?)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_option_is_an_input_and_every_output_may_be_set() {
        for task in Task::all().unwrap() {
            let definition = task.definition(Channel::Public).unwrap();
            let names = |key: &str| -> Vec<String> {
                let list = definition[key].as_array().unwrap().iter();
                list.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
            };
            let mut inputs = names("inputs");
            let mut options: Vec<_> = task.step.options.iter().map(|option| option.name.to_owned()).collect();
            inputs.sort();
            options.sort();
            assert_eq!(inputs, options, "{}", task.task());
            assert_eq!(
                json!(names("outputVariables")),
                definition["restrictions"]["settableVariables"]["allowed"]
            );
            // The agent's variable of an input is the one the step reads.
            for option in task.step.options {
                assert!(option.name.chars().all(|c| c.is_ascii_alphanumeric()), "{}", option.name);
            }
        }
    }

    #[test]
    fn ids_are_all_different_and_channels_can_be_installed_side_by_side() {
        let mut seen = std::collections::BTreeSet::new();
        for task in Task::all().unwrap() {
            for channel in [Channel::Public, Channel::Test] {
                let definition = task.definition(channel).unwrap();
                for key in ["id", "name", "friendlyName"] {
                    assert!(seen.insert(definition[key].to_string()), "{key} {}", definition[key]);
                }
                assert!(definition["friendlyName"].as_str().unwrap().chars().count() <= 40);
            }
        }
    }

    #[test]
    fn flags_become_inputs_in_words() {
        let train = Task::all().unwrap().remove(1);
        assert_eq!(train.in_words("Below --min-accuracy it fails"), "Below `minAccuracy` it fails");
        assert_eq!(words("targetCondition"), "Target condition");
    }

    #[test]
    fn a_rule_names_an_input_that_decides() {
        for task in Task::all().unwrap() {
            let definition = task.definition(Channel::Public).unwrap();
            let rules = ["groups", "inputs"].into_iter().flat_map(|key| definition[key].as_array().unwrap());
            for rule in rules.filter_map(|entry| entry["visibleRule"].as_str()) {
                let name = rule.split(' ').next().unwrap();
                let input = definition["inputs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|input| input["name"] == name)
                    .unwrap();
                assert!(input.get("groupName").is_none(), "{name} decides, and is hidden in a group");
                if let Some((_, value)) = rule.split_once(" = ") {
                    assert!(input["options"].get(value).is_some(), "{rule}");
                }
            }
        }
    }
}
