//! What a step of a pipeline does: scripts, our tasks, artifacts, caches; what else there is is named.

use super::environment::CONNECTIONS;
use super::plan::{Action, From};
use super::read::Reader;
use crate::pipeline::check::is_open;
use crate::pipeline::document::Node;
use crate::pipeline::tasks::Task;

/// What the step does, what it is called where it has no name, and which keys it has for that.
pub(super) fn read(node: &Node, reader: &mut Reader<'_>) -> (Action, String, Vec<&'static str>) {
    let value = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let given = |key: &str| value(key).filter(|text| !text.is_empty());
    if let Some(task) = node.get("task") {
        let name = task.text().unwrap_or_default();
        return (by_task(node, task, name, reader), name.to_owned(), vec!["task", "inputs"]);
    }
    for (key, title) in [("script", "CmdLine"), ("bash", "Bash")] {
        if let Some(text) = value(key) {
            let action = Action::Script {
                text,
                folder: given("workingDirectory"),
                fail_on_stderr: reader.boolean(node, "failOnStderr", false),
            };
            return (action, title.into(), vec![key, "workingDirectory", "failOnStderr"]);
        }
    }
    if let Some(path) = value("publish") {
        let title = format!("Publish {path}");
        return (Action::Publish { path, artifact: given("artifact") }, title, vec!["publish", "artifact"]);
    }
    if let Some(from) = value("download") {
        let keys = vec!["download", "artifact", "patterns"];
        let from = match from.to_ascii_lowercase().as_str() {
            "none" => return (Action::Nothing, "Download nothing".into(), keys),
            "current" => From::Current,
            _ if !(reader.here.resource)(&from) => {
                let hint = format!("give the folder of its runs with --resource {from}=DIR");
                reader.cannot(node, format!("the runs of the pipeline `{from}` are not known here"), hint);
                return (Action::Nothing, "Download".into(), keys);
            }
            _ => From::Resource(from),
        };
        let patterns = given("patterns").unwrap_or_else(|| "**".into());
        let action = Action::Download { from, artifact: given("artifact"), patterns, to: None };
        return (action, "Download".into(), keys);
    }
    if let Some(what) = node.get("checkout") {
        if !matches!(what.text().map(str::to_ascii_lowercase).as_deref(), Some("self" | "none")) {
            reader.cannot(what, "another repository is checked out", "only `self` and `none` are known here");
        }
        let keys = vec![
            "checkout",
            "clean",
            "fetchDepth",
            "fetchTags",
            "fetchFilter",
            "lfs",
            "submodules",
            "path",
            "persistCredentials",
            "workspaceRepo",
        ];
        let none = what.text().is_some_and(|what| what.eq_ignore_ascii_case("none"));
        return (if none { Action::Nothing } else { Action::Checkout }, "Checkout".into(), keys);
    }
    for key in ["pwsh", "powershell", "reviewApp", "getPackage"] {
        if let Some(at) = node.get(key) {
            reader.cannot(at, format!("steps of `{key}` do not run here"), "use `bash` or `script`");
            let keys =
                vec![key, "workingDirectory", "failOnStderr", "errorActionPreference", "ignoreLASTEXITCODE"];
            return (Action::Nothing, key.to_owned(), keys);
        }
    }
    reader.wrong(
        node,
        "this step says not what it does",
        "begin it with `task`, `script`, `bash`, `publish` or `download`",
    );
    (
        Action::Nothing,
        String::new(),
        vec!["task", "script", "bash", "publish", "download", "checkout", "inputs"],
    )
}

fn by_task(node: &Node, at: &Node, reference: &str, reader: &mut Reader<'_>) -> Action {
    let name = reference.split('@').next().unwrap_or(reference);
    let empty =
        Node { content: crate::pipeline::document::Content::Null, place: at.place, source: at.source };
    let inputs = node.get("inputs").unwrap_or(&empty);
    let first = |keys: &[&str]| {
        keys.iter().find_map(|key| inputs.text_of(key)).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let text = |keys: &[&str]| first(keys).unwrap_or_default();
    if let Some(task) = Task::named(name) {
        let mut given = Vec::new();
        for (key, value) in inputs.entries() {
            let name = key.text().unwrap_or_default();
            match (task.option(name), value.text()) {
                (Some(option), Some(text)) => {
                    let named = CONNECTIONS.contains(&option.name) && !text.is_empty() && !is_open(text);
                    if named && !(reader.here.connection)(text) {
                        let problem = format!("the service connection `{text}` is kept in Azure DevOps");
                        let hint = format!("--connection {text} signs in as this machine does");
                        reader.cannot(value, problem, hint);
                        return Action::Nothing;
                    }
                    given.push((option.name.to_owned(), text.to_owned()));
                }
                _ => reader.wrong(
                    key,
                    format!("{} has no input `{name}`", task.name),
                    "see its page for the inputs",
                ),
            }
        }
        return Action::Task { task, inputs: given };
    }
    match name.to_ascii_lowercase().as_str() {
        "bash" | "cmdline" => {
            let file = name.eq_ignore_ascii_case("bash")
                && inputs.text_of("targetType").is_none_or(|kind| kind.eq_ignore_ascii_case("filePath"));
            let text = if file {
                // The file is a program of the pipeline's author, its arguments are shell words as in the task.
                format!("bash '{}' {}", text(&["filePath"]).replace('\'', "'\\''"), text(&["arguments"]))
            } else {
                text(&["script"])
            };
            let fail_on_stderr = reader.boolean(inputs, "failOnStderr", false);
            Action::Script { text, folder: first(&["workingDirectory"]), fail_on_stderr }
        }
        "publishpipelineartifact" => Action::Publish {
            path: text(&["targetPath", "path"]),
            artifact: first(&["artifact", "artifactName"]),
        },
        "publishbuildartifacts" => Action::Publish {
            path: first(&["PathtoPublish"]).unwrap_or_else(|| "$(Build.ArtifactStagingDirectory)".into()),
            artifact: first(&["ArtifactName"]).or_else(|| Some("drop".into())),
        },
        "downloadpipelineartifact" => {
            let current =
                first(&["buildType", "source"]).is_none_or(|from| from.eq_ignore_ascii_case("current"));
            let another = first(&["definition", "pipeline"])
                .filter(|definition| !current && !definition.eq_ignore_ascii_case("$(System.DefinitionId)"));
            if let Some(other) = another {
                let hint = "name it under `resources: pipelines:` and use `download:`";
                reader.cannot(at, format!("artifacts of the pipeline `{other}` are not known here"), hint);
                return Action::Nothing;
            }
            Action::Download {
                from: if current { From::Current } else { From::Earlier },
                artifact: first(&["artifact", "artifactName"]),
                patterns: first(&["patterns", "itemPattern"]).unwrap_or_else(|| "**".into()),
                to: Some(first(&["targetPath", "path"]).unwrap_or_else(|| "$(Pipeline.Workspace)".into())),
            }
        }
        "cache" => Action::Cache {
            key: text(&["key"]),
            restore: text(&["restoreKeys"])
                .lines()
                .map(str::to_owned)
                .filter(|line| !line.trim().is_empty())
                .collect(),
            path: text(&["path"]),
            hit: first(&["cacheHitVar"]),
        },
        "publishtestresults" => Action::TestResults {
            files: first(&["testResultsFiles"]).unwrap_or_else(|| "**/TEST-*.xml".into()),
            folder: first(&["searchFolder"]),
            fail: reader.boolean(inputs, "failTaskOnFailedTests", false),
        },
        _ => {
            let hint = "leave it out with --skip to try the rest";
            reader.cannot(at, format!("the task `{reference}` does not run here"), hint);
            Action::Nothing
        }
    }
}
