//! What is wrong with one step that uses a task of ours.

use super::check::{Pool, Report, is_open};
use super::document::{Node, Place};
use super::tasks::{TASKS, Task, major, meant};
use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::nearest::nearest;

/// Looks at a step; gives its task if it is one of ours.
pub(super) fn check(
    step: &Node,
    place: Place,
    reference: &str,
    pool: Pool,
    report: &mut Report<'_>,
) -> Option<&'static Task> {
    let (name, version) = reference.split_once('@').unwrap_or((reference, ""));
    let Some(task) = Task::named(name) else {
        // Other extensions have tasks too: only what is almost one of ours is a mistake.
        let almost = nearest(name, TASKS.iter().map(|task| task.name.to_owned()).collect());
        if let Some(likely) = almost.first().filter(|likely| differs_little(name, likely)) {
            report.warning(
                place,
                format!("there is no task `{name}` of ours"),
                format!("was `{likely}` meant?"),
            );
        }
        return None;
    };
    let version_is_known = version.split('.').next() == Some(major());
    if !version_is_known && !is_open(version) {
        report.error(
            place,
            format!("`{reference}` names no version of {} that there is", task.name),
            format!("write `{}@{}`", task.name, major()),
        );
    }
    agents(task, place, pool, report);
    let empty = Node { content: super::document::Content::Null, place, source: 0 };
    let inputs = step.get("inputs").unwrap_or(&empty);
    let given = inputs.entries_under_conditions();
    for (key, value) in &given {
        let name = key.text().unwrap_or_default();
        match task.option(name) {
            Some(option) => value_of(option, value, report),
            None => report.error(
                key.place,
                format!("{} has no input `{name}`", task.name),
                meant(name, task.options.iter().map(|option| option.name.to_owned())),
            ),
        }
    }
    let has = |name: &str| {
        given.iter().any(|(key, value)| {
            key.text().is_some_and(|key| key.eq_ignore_ascii_case(name)) && value.text() != Some("")
        })
    };
    let told = |name: &str| inputs.text_of(name);
    if !inputs.is_open() {
        for option in task.options.iter().filter(|option| option.required && !has(option.name)) {
            report.error(
                inputs.place,
                format!("{} needs the input `{}`", task.name, option.name),
                sentence(option.help),
            );
        }
        together(task, step, inputs.place, &has, &told, pool, report);
    }
    Some(task)
}

/// Whether a word is a misspelling rather than another name.
fn differs_little(word: &str, name: &str) -> bool {
    let (word, name) = (word.to_ascii_lowercase(), name.to_ascii_lowercase());
    let shared = word.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
    shared * 2 >= name.len()
}

/// The first sentence of an option's help.
fn sentence(help: &str) -> String {
    let end = help.find(". ").unwrap_or(help.len());
    help[..end].trim_end_matches('.').to_owned()
}

/// Our programs run on Linux alone, and those that train are in the extension for x64 alone.
fn agents(task: &Task, place: Place, pool: Pool, report: &mut Report<'_>) {
    let on_arm = ["BuildModules", "GenerateManifest"].contains(&task.name);
    match pool {
        Pool::Other => report.error(
            place,
            format!("{} runs on Linux, this job's agents do not", task.name),
            "use `vmImage: ubuntu-24.04` or a pool of Linux agents",
        ),
        Pool::Arm64 | Pool::Arm if !on_arm => report.warning(
            place,
            format!("the extension brings no program of {} for this job's agents", task.name),
            "use an x64 pool, or agents with the program in their image",
        ),
        _ => {}
    }
}

/// The extension has the program of the export in the training task, which must be in the same job then. Steps that are
/// not known yet may hold it.
pub(super) fn export_alone(steps: &Node, report: &mut Report<'_>) {
    let task = |step: &Node, name: &str| {
        let reference = step.text_of("task").unwrap_or_default();
        reference.split('@').next().is_some_and(|task| task.eq_ignore_ascii_case(name))
    };
    let unknown = |step: &Node| step.get("template").is_some() || step.is_open();
    if steps.children().any(|step| task(step, "TrainModel") || unknown(step)) {
        return;
    }
    if let Some(export) =
        steps.children().find(|step| task(step, "ExportModel")).and_then(|step| step.get("task"))
    {
        report.warning(
            export.place,
            "ExportModel takes its program from TrainModel, which this job does not have".to_owned(),
            "let a TrainModel step with `condition: false` stand before it, or use agents with the program in their image",
        );
    }
}

/// A value must be what the option takes, as far as the file says it.
fn value_of(option: &'static OptionSpec, value: &Node, report: &mut Report<'_>) {
    let Some(text) = value.text() else {
        report.error(
            value.place,
            format!("the input `{}` is one value, this is a list or a map", option.name),
            "several are written with commas between",
        );
        return;
    };
    if is_open(text) {
        return;
    }
    let specs = std::slice::from_ref(option);
    let inputs = Inputs::from_pairs(specs, [(option.name, text.trim().to_owned())]);
    let judged = match option.kind {
        OptionKind::Switch => inputs.switch(option.name).map(drop),
        OptionKind::Choice(_) => inputs.choice(option.name).map(drop),
        OptionKind::Integer { .. } => inputs.integer(option.name).map(drop),
        OptionKind::Number { .. } => inputs.number(option.name).map(drop),
        OptionKind::Path | OptionKind::Text | OptionKind::Secret => Ok(()),
    };
    if let Err(problem) = judged {
        report.error(value.place, problem.to_string(), sentence(option.help));
    }
}

/// Inputs that need one another.
fn together<'n>(
    task: &Task,
    step: &Node,
    place: Place,
    has: &impl Fn(&str) -> bool,
    told: &impl Fn(&str) -> Option<&'n str>,
    pool: Pool,
    report: &mut Report<'_>,
) {
    let variable =
        |names: &[&str]| step.get("env").is_some_and(|env| names.iter().any(|name| env.get(name).is_some()));
    match task.name {
        "ImportImages" => {
            let remote = told("source").is_some_and(|source| source.starts_with("https://"));
            let keys = [
                "AZURE_STORAGE_CONNECTION_STRING",
                "AZURE_STORAGE_KEY",
                "AZURE_STORAGE_SAS_TOKEN",
                "AZURE_CLIENT_ID",
            ];
            if remote && !has("connection") && !variable(&keys) {
                report.warning(
                    place,
                    "the photos are in Blob Storage, and no service connection reads them".into(),
                    "give `connection`, or map a key from a secret under `env`",
                );
            }
        }
        "DeployModules" if told("target") == Some("iot-hub") => {
            let with_string = variable(&["IOTHUB_CONNECTION_STRING"]);
            if !has("connection") && !with_string {
                report.warning(
                    place,
                    "it deploys to an IoT Hub, and no service connection signs in to it".into(),
                    "give `connection`, or map `IOTHUB_CONNECTION_STRING` from a secret under `env`",
                );
            }
            if !has("hub") && !with_string {
                report.error(place, "it deploys to an IoT Hub that nothing names".into(), "give `hub`");
            }
            if has("device") == has("targetCondition") {
                report.error(
                    place,
                    "it deploys to an IoT Hub, and which devices is not clear".into(),
                    "give one of `device` and `targetCondition`",
                );
            }
        }
        "DeployModules" if told("target").is_none_or(|target| target == "local") => {
            for name in ["images", "frames"].iter().filter(|name| !has(name)) {
                report.error(
                    place,
                    format!("it deploys to this machine, which needs the input `{name}`"),
                    "give it, or choose another `target`",
                );
            }
        }
        "BuildModules" if !has("model") && !has("modules") => {
            report.error(place, "nothing says what it builds".into(), "give `model`, `modules` or both");
        }
        "BuildModules" if has("model") && !has("runtime") => {
            let own = match pool {
                Pool::X64 => "linux/amd64",
                Pool::Arm64 => "linux/arm64",
                Pool::Arm => "linux/arm/v7",
                Pool::Unknown | Pool::Other => return,
            };
            let platforms = told("platform").filter(|text| !is_open(text)).unwrap_or(own);
            if let Some(other) = platforms.split(',').map(str::trim).find(|platform| *platform != own) {
                report.warning(
                    place,
                    format!("it builds for {other} on agents that are {own}"),
                    "give `runtime`, unless the agents have mynah-runtime for that platform in their image",
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn found(text: &str) -> Vec<String> {
        let findings = super::super::check(Path::new("p.yml"), |_| Ok::<_, String>(text.to_owned())).unwrap();
        findings.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn finds(text: &str, expected: &str) {
        let found = found(text);
        assert!(found.iter().any(|finding| finding.contains(expected)), "{found:#?}");
    }

    #[test]
    fn inputs_are_those_the_step_declares() {
        finds(
            "steps:\n  - task: TrainModel@0\n    inputs:\n      dataset: d\n      out: o\n      minAccurracy: 0.9\n",
            "p.yml:6:7: error: TrainModel has no input `minAccurracy`; was `minAccuracy` meant?",
        );
        finds(
            "steps:\n  - task: TrainModel@0\n    inputs:\n      dataset: d\n      out: o\n      minAccuracy: 90\n",
            "p.yml:6:20: error: `--min-accuracy` (input `minAccuracy`) is `90`, a number from 0 to 1 is expected",
        );
        finds("steps:\n  - task: TrainModel@0\n    inputs:\n      out: o\n", "needs the input `dataset`");
        finds("steps:\n  - task: ExportModel@0\n", "needs the input `training`");
        finds("steps:\n  - task: BuildModules@0\n    inputs: {out: o}\n", "give `model`, `modules` or both");
        finds("steps:\n  - task: ImportImage@0\n", "was `ImportImages` meant?");
        finds("steps:\n  - task: ImportImages@3\n    inputs: {source: a, out: b}\n", "write `ImportImages@");
    }

    #[test]
    fn what_is_not_known_yet_is_left_alone() {
        let text = "steps:\n  - task: TrainModel@0\n    inputs:\n      dataset: $(d)\n      ${{ if eq(1, 1) }}:\n        out: o\n      minAccuracy: ${{ parameters.a }}\n  - task: Bash@3\n    inputs: {script: ls}\n";
        assert!(found(text).is_empty(), "{:?}", found(text));
    }

    #[test]
    fn agents_must_have_the_program() {
        let job = |pool: &str, more: &str| {
            format!(
                "pool:\n  {pool}\nsteps:\n  - task: BuildModules@0\n    inputs: {{model: m, out: o{more}}}\n"
            )
        };
        finds(&job("vmImage: windows-2025", ""), "runs on Linux, this job's agents do not");
        finds(
            &job("vmImage: ubuntu-24.04", ", platform: linux/arm64"),
            "builds for linux/arm64 on agents that are linux/amd64",
        );
        assert!(found(&job("vmImage: ubuntu-24.04", ", platform: linux/arm64, runtime: r")).is_empty());
        let arm = "name: pis\n  demands: Agent.OSArchitecture -equals ARM64";
        assert!(found(&job(arm, ", platform: linux/arm64")).is_empty());
        finds(
            &format!("pool:\n  {arm}\nsteps:\n  - task: TrainModel@0\n    inputs: {{dataset: d, out: o}}\n"),
            "brings no program of TrainModel",
        );
    }

    #[test]
    fn the_export_finds_its_program_in_its_job() {
        let job = |pool: &str, step: &str| {
            format!(
                "pool: {{{pool}}}\nsteps:\n{step}  - task: ExportModel@0\n    inputs: {{training: t, out: o}}\n"
            )
        };
        let hosted = "vmImage: ubuntu-24.04";
        finds(&job(hosted, ""), "warning: ExportModel takes its program from TrainModel");
        for step in [
            "  - task: TrainModel@0\n    condition: false\n    inputs: {dataset: d, out: o}\n",
            "  - template: train.yml\n",
            "  - ${{ if eq(1, 1) }}:\n    - script: ls\n",
        ] {
            let found = found(&job(hosted, step));
            assert!(!found.iter().any(|finding| finding.contains("ExportModel takes")), "{found:?}");
        }
        assert!(found(&job("name: ours", "")).is_empty());
    }

    #[test]
    fn a_service_needs_somebody_who_signs_in() {
        let step = |more: &str| {
            format!(
                "steps:\n  - task: DeployModules@0\n    inputs: {{manifest: m, out: o, target: iot-hub, device: pi{more}}}\n"
            )
        };
        finds(&step(", hub: mynah"), "no service connection signs in to it");
        finds(&step(""), "an IoT Hub that nothing names");
        finds(&step(", targetCondition: '*', hub: h"), "which devices is not clear");
        assert!(found(&step(", hub: h, connection: c")).is_empty());
        finds(
            "steps:\n  - task: ImportImages@0\n    inputs: {source: 'https://a.example/b', out: o}\n",
            "no service connection reads them",
        );
        finds(
            "steps:\n  - task: DeployModules@0\n    inputs: {manifest: m, out: o}\n",
            "needs the input `frames`",
        );
    }

    #[test]
    fn our_own_pipelines_have_no_findings() {
        for file in ["azure-pipelines.yml", "custom-vision.yml", "release.yml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(file);
            let findings = super::super::check(&path, |path| std::fs::read_to_string(path)).unwrap();
            assert!(findings.is_empty(), "{findings:#?}");
        }
    }
}
