//! `mynah doctor`: what keeps this machine from seeing, speaking, building and deploying; each finding with its cause,
//! its effect and its remedy. It looks and asks, and changes nothing.

mod machine;
mod services;

use std::fmt::Write as _;
use std::path::PathBuf;

use mynah_contracts::Fault;
use serde::Serialize;

use crate::agent::{Console, Env, Inputs, OptionKind, OptionSpec};
use crate::entry;
use crate::step::Context;

const DETAILS: &str = "\
Looks at the camera, the sound card, the clock and the processor of this machine, and at what is named: a
model, a registry, a hub, a server of Azure DevOps, a cluster. Nothing is changed, and nothing is sent but
the question whether someone is there. What is not named is left out.

Ends with 0 where nothing is wrong, with 1 where something is, with 2 where it was asked wrongly.

Examples:
  mynah doctor
  mynah doctor --model work/model --registry registry.example --hub mynah.azure-devices.net
  mynah doctor --kubeconfig /etc/rancher/k3s/k3s.yaml --json";

/// What can be told of one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It works.
    Good,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Problem,
    /// It was not looked at.
    Skipped,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Skipped => "skipped",
        }
    }
}

/// What was found out about one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at, such as `camera`.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub cause: String,
    /// What does not work because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, cause: impl Into<String>) -> Self {
        Self { check, state, cause: cause.into(), effect: None, remedy: None }
    }

    fn good(check: &'static str, cause: impl Into<String>) -> Self {
        Self::new(check, State::Good, cause)
    }

    fn skipped(check: &'static str, option: &str) -> Self {
        Self::new(check, State::Skipped, format!("not looked at: give {option}"))
    }

    fn but(mut self, effect: &str, remedy: impl Into<String>) -> Self {
        self.effect = Some(effect.to_owned());
        self.remedy = Some(remedy.into());
        self
    }
}

/// The options.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::optional("model", OptionKind::Path, "The folder that export-model wrote."),
    OptionSpec::optional("registry", OptionKind::Text, "The host of the registry of images."),
    OptionSpec::optional("hub", OptionKind::Text, "The host of the IoT Hub."),
    OptionSpec::optional(
        "agentUrl",
        OptionKind::Text,
        "The organisation's URL, such as `https://dev.azure.com/mine`; without it AZP_URL, where that is set.",
    ),
    OptionSpec::optional(
        "kubeconfig",
        OptionKind::Path,
        "The kubeconfig of the cluster; without it KUBECONFIG, where that is set.",
    ),
    OptionSpec::optional("context", OptionKind::Text, "The context of the kubeconfig."),
    OptionSpec::with_default(
        "root",
        OptionKind::Path,
        "/",
        "The root folder of the machine to look at, such as a card that is mounted here.",
    ),
    OptionSpec::optional("json", OptionKind::Switch, "Write the findings as JSON."),
];

/// The subcommand.
pub fn command() -> clap::Command {
    Inputs::arguments(
        entry::shell("doctor", "Tell what keeps this machine from working, and what mends it", DETAILS),
        OPTIONS,
    )
}

/// Looks at everything, tells it and says whether something is wrong.
///
/// # Errors
/// When an option is wrong or someone asks to stop.
pub fn run(matches: &clap::ArgMatches, env: &Env, console: &dyn Console) -> Result<bool, Fault> {
    let inputs = Inputs::collect(OPTIONS, matches, env);
    let root = inputs.required_path("root")?;
    if !root.is_dir() {
        return Err(inputs.refused("root", &root.display().to_string(), "a folder").into());
    }
    let context = Context { monitor: console, env, created: None, now: jiff::Timestamp::now };
    let mut findings = machine::look(&root, &machine::Myself::now());
    findings.push(machine::model(inputs.path("model")?.as_deref()));
    findings.extend(services::Asked::new(&inputs, env)?.look(&context)?);
    let told = if inputs.switch("json")? { json(&findings) } else { text(&findings) };
    console.result(told.trim_end());
    Ok(findings.iter().any(|finding| finding.state == State::Problem))
}

fn json(findings: &[Finding]) -> String {
    // Text and names only: it can always be written.
    serde_json::to_string_pretty(&serde_json::json!({ "findings": findings })).unwrap_or_default()
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for finding in findings {
        let _ = writeln!(text, "{:<10} {:<8} {}", finding.check, finding.state.word(), finding.cause);
        for (name, said) in [("effect", &finding.effect), ("remedy", &finding.remedy)] {
            if let Some(said) = said {
                let _ = writeln!(text, "{:<10} {name:<8} {said}", "");
            }
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    let _ = match (problems, warnings) {
        (0, 0) => writeln!(text, "nothing is wrong"),
        _ => writeln!(text, "problems: {problems}, warnings: {warnings}"),
    };
    text
}

/// A path below another root, as it is called on the machine itself.
fn shown(root: &std::path::Path, path: &std::path::Path) -> String {
    let inside =
        path.strip_prefix(root).map_or_else(|_| path.to_owned(), |rest| PathBuf::from("/").join(rest));
    inside.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_with_effect_and_remedy() {
        let findings = [
            Finding::good("clock", "it is set"),
            Finding::new("camera", State::Problem, "there is none").but("nothing is seen", "plug one in"),
        ];
        assert_eq!(
            text(&findings),
            "clock      good     it is set\n\
             camera     problem  there is none\n           effect   nothing is seen\n           remedy   plug one in\n\
             problems: 1, warnings: 0\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(json["findings"][1]["remedy"], "plug one in");
        assert_eq!(json["findings"][0].get("effect"), None);
    }
}
