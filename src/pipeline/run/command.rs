//! The command line of `mynah pipeline run`, and what is looked at before anything starts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::Fault;

use super::environment::{from_the_beginning, has_connection};
use super::error::RunError;
use super::expand::{Expanded, Expander};
use super::plan::Pipeline;
use super::read::{Here, plan};
use super::runner::{Options, Runner};
use super::variables::in_environment;
use crate::agent::{Console, Env};
use crate::child::CREDENTIALS;
use crate::entry;
use crate::pipeline::check::{Finding, Severity, check};
use crate::pipeline::document::Place;
use crate::pipeline::tasks::meant;
use crate::secret::Masks;

const DETAILS: &str = "\
Runs the stages, jobs and steps of a pipeline on this machine, one after the other, with the task programs that are
installed beside this one: templates, conditions, variables, artifacts, caches and deployment jobs as Azure Pipelines
has them. The sources are not copied: steps work in the present folder, or in the one that --sources names.

What cannot be done here is named with file and line before anything starts: other tasks, containers, agents that run
no Linux. A service connection is used if the environment holds it as an agent hands it over (ENDPOINT_…); with
--connection NAME a task signs in as this machine does. Approvals and checks of environments are not asked.

Artifacts, logs and summaries of each run stay in <out>/runs/<number>; a later run finds them, and what the task
Cache keeps, again. With --stage only those stages run, after what the others came to in earlier runs.

Example:
  mynah pipeline run azure-pipelines.yml --parameter source=samples/photos
  mynah pipeline run release.yml --variable hub=HUB --connection mynah-hub --resource ci=mynah-pipeline";

fn pairs(name: &'static str, value: &'static str, help: &'static str) -> clap::Arg {
    clap::Arg::new(name).long(name).value_name(value).action(clap::ArgAction::Append).help(help)
}

fn folder(name: &'static str, default: &'static str, help: &'static str) -> clap::Arg {
    clap::Arg::new(name)
        .long(name)
        .value_name("DIR")
        .default_value(default)
        .value_parser(clap::value_parser!(PathBuf))
        .help(help)
}

/// The subcommand `run`.
pub fn run_command() -> clap::Command {
    entry::shell("run", "Run a pipeline on this machine, as an agent would", DETAILS)
        .arg(
            clap::Arg::new("FILE")
                .value_name("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("The YAML file of the pipeline"),
        )
        .arg(folder("out", "mynah-pipeline", "Where artifacts, logs, caches and workspaces are kept"))
        .arg(folder("sources", ".", "The folder that an agent would check out"))
        .arg(pairs("parameter", "NAME=VALUE", "A parameter of the pipeline; objects as YAML"))
        .arg(pairs("variable", "NAME=VALUE", "A variable, also one of a variable group"))
        .arg(pairs("secret", "NAME", "A secret variable; its value is the environment's NAME, in upper case"))
        .arg(pairs(
            "connection",
            "NAME",
            "Sign in as this machine does where this service connection is named",
        ))
        .arg(pairs("resource", "ALIAS=DIR", "The `--out` folder of another pipeline's runs, by its alias"))
        .arg(pairs("stage", "NAME", "Run only this stage"))
        .arg(
            clap::Arg::new("skip")
                .long("skip")
                .action(clap::ArgAction::SetTrue)
                .help("Leave out what cannot be done on this machine"),
        )
}

/// Runs a pipeline.
///
/// # Errors
/// Bad input when the pipeline is wrong or cannot run here, which is told before anything starts; otherwise when it
/// fails, a service refuses, or somebody asks to stop.
pub fn run_pipeline(
    matches: &clap::ArgMatches,
    console: &(dyn Console + Sync),
    env: &Env,
) -> Result<(), Fault> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    let words =
        |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let sources = path("sources");
    let options = Options {
        file: path("FILE"),
        out: path("out"),
        sources: std::path::absolute(&sources).unwrap_or(sources),
        variables: split(&words("variable"), "--variable")?,
        secrets: secrets(&words("secret"), env)?,
        stages: words("stage"),
        resources: split(&words("resource"), "--resource")?
            .into_iter()
            .map(|(alias, folder)| (alias, folder.into()))
            .collect(),
        connections: words("connection"),
    };
    // What a person signs in with on this machine is not shown, whatever a script writes.
    for (name, value) in env.variables() {
        let ends = ["_KEY", "_SECRET", "_TOKEN", "_PASSWORD", "CONNECTION_STRING"];
        if CREDENTIALS.contains(&name) || ends.iter().any(|end| name.ends_with(end)) {
            Masks::process().add(value);
        }
    }
    let parameters = split(&words("parameter"), "--parameter")?;
    let file = options.file.clone();
    let wrong = |findings: Vec<Finding>| {
        for finding in &findings {
            console.result(&finding.to_string());
        }
        RunError::Wrong { file: file.clone(), count: findings.len() }
    };
    let pipeline = read(&options, &parameters, env).map_err(wrong)?;
    for name in &options.stages {
        let names: Vec<String> = pipeline.stages.iter().map(|stage| stage.name.clone()).collect();
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let hint = meant(name, names);
            return Err(RunError::Stage { file, name: name.clone(), hint }.into());
        }
    }
    let mut cannot = pipeline.cannot.clone();
    cannot.extend(lacking(&pipeline, &options));
    for finding in &cannot {
        console.result(&finding.to_string());
    }
    if !cannot.is_empty() && !matches.get_flag("skip") {
        return Err(RunError::Cannot { file, count: cannot.len() }.into());
    }
    Runner::new(&options, &pipeline, console, env)?.run()
}

/// The pipeline, or what is wrong with it.
fn read(options: &Options, parameters: &[(String, String)], env: &Env) -> Result<Pipeline, Vec<Finding>> {
    let from_disk = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let unread = |problem: String| {
        let place = Place { line: 1, column: 1 };
        let hint = "name the YAML file of a pipeline".to_owned();
        let problem = format!("cannot read it: {problem}");
        vec![Finding { file: options.file.clone(), place, severity: Severity::Error, problem, hint }]
    };
    let found = check(&options.file, from_disk).map_err(unread)?;
    let errors: Vec<Finding> =
        found.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut variables = from_the_beginning(&options.file);
    variables.extend(options.variables.iter().cloned());
    let read = |path: &Path| from_disk(path);
    let expanded: Expanded =
        Expander::new(&options.sources, &read).pipeline(&options.file, parameters, &variables)?;
    let here = Here {
        connection: &|name| {
            options.connections.iter().any(|known| known.eq_ignore_ascii_case(name))
                || has_connection(env, name)
        },
        resource: &|alias| options.resources.iter().any(|(known, _)| known.eq_ignore_ascii_case(alias)),
    };
    plan(&expanded, &here)
}

/// What the pipeline needs that only Azure DevOps has, and that was not given.
fn lacking(pipeline: &Pipeline, options: &Options) -> Vec<Finding> {
    let mut found = Vec::new();
    let jobs = || pipeline.stages.iter().flat_map(|stage| &stage.jobs);
    let all = || {
        let stages = pipeline.stages.iter().map(|stage| &stage.variables);
        std::iter::once(&pipeline.variables).chain(stages).chain(jobs().map(|job| &job.variables))
    };
    let mut known: BTreeSet<String> =
        all().flat_map(|variables| &variables.values).map(|(name, _)| name.to_lowercase()).collect();
    let given = options.variables.iter().chain(&options.secrets);
    known.extend(given.map(|(name, _)| name.to_lowercase()));
    // What scripts set is only known when they run.
    let open: Vec<String> = pipeline
        .macros()
        .into_keys()
        .filter(|name| !name.contains('.') && !name.contains(' ') && !known.contains(&name.to_lowercase()))
        .collect();
    for (_, finding) in all().flat_map(|variables| &variables.groups) {
        if !open.is_empty() {
            let names = open.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let problem = format!("{}, and nothing here says what {names} are", finding.problem);
            found.push(Finding { problem, ..finding.clone() });
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `NAME=VALUE`, as often as it was given.
fn split(words: &[String], option: &'static str) -> Result<Vec<(String, String)>, RunError> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
            _ => Err(RunError::Pair { option, text: word.clone() }),
        })
        .collect()
}

/// The values of secret variables, which only the environment holds.
fn secrets(names: &[String], env: &Env) -> Result<Vec<(String, String)>, RunError> {
    names
        .iter()
        .map(|name| {
            let variable = in_environment(name);
            match env.get(&variable) {
                Some(value) => {
                    Masks::process().add(value);
                    Ok((name.clone(), value.to_owned()))
                }
                None => Err(RunError::Secret { name: name.clone(), variable }),
            }
        })
        .collect()
}
