//! What an agent gives the programs of its steps: predefined variables, inputs, credentials that were asked for.
//!
//! Names and order as in the agent's source (`Handler`, `NodeHandler`, `VarUtil`): the machine's own variables, those
//! of the step's `env`, public variables, secret ones (tasks only), inputs, service connections, `PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::job::Leg;
use super::plan::{Job, Stage, Step};
use super::variables::{Table, in_environment};
use crate::agent::Env;
use crate::pipeline::tasks::Task;

/// What belongs to a task of whoever started this program, and not to the steps that are started now.
const NOT_HANDED_ON: [&str; 5] = ["INPUT_", "SECRET_", "ENDPOINT_", "SECUREFILE_", "VSTS_"];

/// The inputs that name a service connection.
pub(super) const CONNECTIONS: [&str; 2] = ["connection", "registryConnection"];

/// The folders of a job.
pub(super) struct Place<'a> {
    pub(super) workspace: &'a Path,
    pub(super) sources: &'a Path,
    pub(super) tools: &'a Path,
}

/// Where a program is started.
pub(super) struct Context<'a> {
    pub(super) env: &'a Env,
    /// Service connections in whose place this machine's own credentials are used.
    pub(super) connections: &'a [String],
    pub(super) table: &'a Table,
    pub(super) path: &'a [String],
    pub(super) sources: &'a Path,
}

/// The variables that are there before the pipeline's files are read.
pub(super) fn from_the_beginning(file: &Path) -> Vec<(String, String)> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    [
        ("Build.Reason", "Manual"),
        ("Build.SourceBranch", "refs/heads/local"),
        ("Build.SourceBranchName", "local"),
        ("Build.DefinitionName", &name),
        ("System.DefinitionId", "1"),
        ("System.TeamProject", "local"),
        ("System.TeamProjectId", "00000000-0000-0000-0000-000000000001"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The variables that an agent sets for a job.
pub(super) fn predefined(
    number: u64,
    stage: &Stage,
    job: &Job,
    leg: &Leg,
    place: &Place<'_>,
) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.display().to_string();
    let Place { workspace, sources, tools } = place;
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "ARM64",
        "arm" => "ARM",
        _ => "X64",
    };
    let stage_name = if stage.name == "__default" { "" } else { stage.name.as_str() };
    let mut all = vec![
        ("Agent.OS", "Linux".to_owned()),
        ("Agent.OSArchitecture", architecture.to_owned()),
        ("Agent.Name", "local".to_owned()),
        ("Agent.JobName", job.title.clone()),
        ("Agent.JobStatus", "Succeeded".to_owned()),
        ("Agent.TempDirectory", text(workspace.join("_temp"))),
        ("Agent.ToolsDirectory", text(tools.to_path_buf())),
        ("Agent.WorkFolder", text(workspace.parent().unwrap_or(workspace).to_owned())),
        ("Agent.BuildDirectory", text(workspace.to_path_buf())),
        ("Pipeline.Workspace", text(workspace.to_path_buf())),
        ("Build.ArtifactStagingDirectory", text(workspace.join("a"))),
        ("Build.StagingDirectory", text(workspace.join("a"))),
        ("Build.BinariesDirectory", text(workspace.join("b"))),
        ("Build.SourcesDirectory", text(sources.to_path_buf())),
        ("Build.Repository.LocalPath", text(sources.to_path_buf())),
        ("System.DefaultWorkingDirectory", text(sources.to_path_buf())),
        ("Common.TestResultsDirectory", text(workspace.join("TestResults"))),
        ("Build.BuildId", number.to_string()),
        ("Build.BuildNumber", number.to_string()),
        ("System.HostType", if job.environment.is_some() { "deployment" } else { "build" }.to_owned()),
        ("System.StageName", stage_name.to_owned()),
        ("System.StageDisplayName", stage.title.clone()),
        ("System.StageAttempt", "1".to_owned()),
        ("System.JobName", job.name.clone()),
        ("System.JobDisplayName", job.title.clone()),
        ("System.JobAttempt", "1".to_owned()),
        ("System.JobPositionInPhase", leg.position.to_string()),
        ("System.TotalJobsInPhase", leg.total.to_string()),
        ("System.Debug", "false".to_owned()),
    ];
    if let Some(environment) = &job.environment {
        all.push(("Environment.Name", environment.clone()));
        all.push(("Strategy.Name", "runOnce".to_owned()));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether a variable is the agent's, which nobody else may set.
pub(super) fn is_agents(name: &str) -> bool {
    let name = name.to_lowercase();
    ["agent.", "build.", "system.", "pipeline.", "common.", "environment.", "strategy."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        && name != "system.debug"
        && name != "build.buildnumber"
}

/// A script, in the shell that agents on Linux use.
pub(super) fn script(
    context: &Context<'_>,
    step: &Step,
    file: &Path,
    folder: &Path,
) -> Result<Command, String> {
    if !folder.is_dir() {
        return Err(format!("the working directory `{}` is not there", folder.display()));
    }
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc"]).arg(file).current_dir(folder);
    common(&mut command, context, step);
    Ok(command)
}

/// A task of ours: its program with its inputs.
pub(super) fn task(
    context: &Context<'_>,
    step: &Step,
    task: &Task,
    inputs: &[(String, String)],
) -> Result<Command, String> {
    let program = program(context, task)?;
    let mut command = Command::new(program);
    command.current_dir(context.sources);
    common(&mut command, context, step);
    for variable in context.table.all().filter(|variable| variable.secret) {
        let value = context.table.expand(&variable.value);
        command.env(format!("SECRET_{}", in_environment(&variable.name)), value);
    }
    for option in task.options {
        let given = inputs.iter().find(|(name, _)| name == option.name);
        let value = given.map_or_else(
            || option.default.unwrap_or_default().to_owned(),
            |(_, value)| context.table.expand(value).trim().to_owned(),
        );
        let value = if CONNECTIONS.contains(&option.name) && !value.is_empty() {
            connection(&mut command, context, value)
        } else {
            value
        };
        command.env(option.variable(), value);
    }
    Ok(command)
}

/// Hands on what the environment has of a service connection; nothing where this machine's own sign-in is used.
fn connection(command: &mut Command, context: &Context<'_>, name: String) -> String {
    if context.connections.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
        return String::new();
    }
    for (variable, value) in context.env.variables().filter(|(variable, _)| speaks_of(variable, &name)) {
        command.env(variable, value);
    }
    name
}

/// Whether the environment has credentials of this service connection.
pub(super) fn has_connection(env: &Env, name: &str) -> bool {
    env.variables().any(|(variable, _)| speaks_of(variable, name))
}

fn speaks_of(variable: &str, name: &str) -> bool {
    let parts = [
        "ENDPOINT_URL_",
        "ENDPOINT_AUTH_PARAMETER_",
        "ENDPOINT_AUTH_SCHEME_",
        "ENDPOINT_AUTH_",
        "ENDPOINT_DATA_",
    ];
    parts.iter().filter_map(|prefix| variable.strip_prefix(prefix)).any(|rest| {
        rest.get(..name.len()).is_some_and(|own| own.eq_ignore_ascii_case(name))
            && rest.get(name.len()..).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

/// What scripts and tasks are given alike.
fn common(command: &mut Command, context: &Context<'_>, step: &Step) {
    command.env_clear();
    let own = |name: &str| !NOT_HANDED_ON.iter().any(|prefix| name.starts_with(prefix));
    command.envs(context.env.variables().filter(|(name, _)| own(name)));
    for (name, value) in &step.env {
        command.env(name, context.table.expand(value));
    }
    for variable in context.table.all().filter(|variable| !variable.secret) {
        command.env(in_environment(&variable.name), context.table.expand(&variable.value));
    }
    command.env("TF_BUILD", "True");
    if !context.path.is_empty() {
        let before = context.path.join(":");
        let path = context.env.get("PATH").map_or(before.clone(), |path| format!("{before}:{path}"));
        command.env("PATH", path);
    }
}

/// The program of a task: beside this one, below `MYNAH_HOME`, or on the search path, in this order.
fn program(context: &Context<'_>, task: &Task) -> Result<PathBuf, String> {
    let name = task.program;
    let mut places: Vec<PathBuf> =
        std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned)).into_iter().collect();
    if let Some(home) = context.env.get("MYNAH_HOME") {
        places.push(Path::new(home).join("bin"));
    }
    places.extend(std::env::split_paths(context.env.get("PATH").unwrap_or_default()));
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        format!("the program `{name}` is neither beside this one nor below MYNAH_HOME nor on the search path")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_by_what_the_environment_has_of_it() {
        let env =
            Env::from_iter([("ENDPOINT_AUTH_PARAMETER_mynah-hub_KEY", "x"), ("ENDPOINT_URL_other", "y")]);
        assert!(has_connection(&env, "mynah-hub"));
        assert!(has_connection(&env, "OTHER"));
        assert!(!has_connection(&env, "mynah"));
        assert!(!has_connection(&env, "mynah-hubs"));
    }

    #[test]
    fn the_agents_variables_are_its_own() {
        assert!(is_agents("Build.SourcesDirectory") && is_agents("SYSTEM.jobname"));
        assert!(!is_agents("System.Debug") && !is_agents("work") && !is_agents("buildings"));
    }
}
