//! What a device's agent reports of a deployment.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::Value;

use super::content::Wanted;
use super::wire::ModuleTwin;

/// Codes of `lastDesiredStatus` that no waiting mends (edgeAgent's source, `DeploymentStatusCode`): a manifest
/// that cannot be read, an empty one, one of another schema.
const FINAL: [i64; 3] = [400, 412, 417];

/// A module that ended so often does not come up by itself.
const RESTARTS: i64 = 5;

/// How a device stands to a deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Health {
    /// Not there yet; what is missing.
    Pending(Trouble),
    /// The deployment is applied and its modules run.
    Running,
    /// It will not come to run.
    Failed(Trouble),
}

/// What keeps a device from running its deployment, in its agent's words where it gave some.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trouble {
    /// The module, where it is one module's.
    pub(super) module: Option<String>,
    pub(super) reason: String,
}

impl Trouble {
    fn of_device(reason: impl Into<String>) -> Self {
        Self { module: None, reason: reason.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "module `{module}`: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Reads how the device with this agent's twin stands to the modules of a deployment.
pub(super) fn health(agent: &ModuleTwin, wanted: &BTreeMap<&str, Wanted>) -> Health {
    let (desired, reported) = (&agent.properties.desired, &agent.properties.reported);
    let image = |modules: &Value, name: &str| {
        modules.get(name)?.pointer("/settings/image")?.as_str().map(str::to_owned)
    };
    let handed_over = desired.get("modules").is_some_and(|modules| {
        wanted.iter().all(|(name, module)| image(modules, name).as_deref() == Some(module.image.as_str()))
    });
    if !handed_over {
        return Health::Pending(Trouble::of_device("the hub has not handed the deployment over yet"));
    }
    let version = desired.get("$version").and_then(Value::as_i64);
    let seen = reported.get("lastDesiredVersion").and_then(Value::as_i64);
    if version.is_none() || seen != version {
        return Health::Pending(Trouble::of_device("the agent has not reported on the deployment"));
    }
    let status = |key: &str| reported.get("lastDesiredStatus").and_then(|status| status.get(key));
    let code = status("code").and_then(Value::as_i64).unwrap_or(0);
    if code != 200 {
        let said = words(status("description"));
        let trouble = Trouble::of_device(match said {
            Some(said) => format!("the agent reports code {code}: {said}"),
            None => format!("the agent reports code {code}"),
        });
        return if FINAL.contains(&code) { Health::Failed(trouble) } else { Health::Pending(trouble) };
    }
    let modules = reported.get("modules").unwrap_or(&Value::Null);
    let mut health = Health::Running;
    for (name, wanted) in wanted {
        match module_health(modules.get(name), name, wanted, image(modules, name)) {
            Health::Running => {}
            failed @ Health::Failed(_) => return failed,
            pending @ Health::Pending(_) => health = pending,
        }
    }
    health
}

fn module_health(module: Option<&Value>, name: &str, wanted: &Wanted, image: Option<String>) -> Health {
    let trouble = |reason: String| Trouble { module: Some(name.to_owned()), reason };
    let Some(module) = module else {
        return Health::Pending(trouble("the agent does not report it".into()));
    };
    if let Some(image) = image.filter(|image| *image != wanted.image) {
        return Health::Pending(trouble(format!("still has the image `{}`", image.escape_debug())));
    }
    let state = module.get("runtimeStatus").and_then(Value::as_str).unwrap_or("unknown");
    let expected = if wanted.running { "running" } else { "stopped" };
    if state == expected || (!wanted.running && state == "failed") {
        return Health::Running;
    }
    let number = |key: &str| module.get(key).and_then(Value::as_i64).unwrap_or(0);
    let mut reason = format!("is `{}`", state.escape_debug());
    // Writing to a String cannot fail.
    if number("exitCode") != 0 {
        let _ = write!(reason, ", exit code {}", number("exitCode"));
    }
    if let Some(said) = words(module.get("statusDescription")) {
        let _ = write!(reason, ", {said}");
    }
    if number("restartCount") > 0 {
        let _ = write!(reason, ", restarted {} times", number("restartCount"));
    }
    if number("restartCount") >= RESTARTS {
        Health::Failed(trouble(reason))
    } else {
        Health::Pending(trouble(reason))
    }
}

/// An agent's words, as one bounded line.
fn words(text: Option<&Value>) -> Option<String> {
    let text = text?.as_str()?;
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line.join(" ").chars().take(300).flat_map(char::escape_debug).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn twin(desired: &Value, reported: &Value) -> ModuleTwin {
        serde_json::from_value(
            json!({"deviceId": "pi", "properties": {"desired": desired, "reported": reported}}),
        )
        .unwrap()
    }

    fn wanted() -> BTreeMap<&'static str, Wanted> {
        BTreeMap::from([("eye", Wanted { image: "eye:2".into(), running: true })])
    }

    fn of(reported: &Value) -> Health {
        let desired = json!({"$version": 4, "modules": {"eye": {"settings": {"image": "eye:2"}}}});
        health(&twin(&desired, reported), &wanted())
    }

    fn reported(code: i64, module: &Value) -> Value {
        json!({"lastDesiredVersion": 4, "lastDesiredStatus": {"code": code, "description": "no\nsuch"}, "modules": {"eye": module}})
    }

    fn module(state: &str, image: &str) -> Value {
        json!({"runtimeStatus": state, "settings": {"image": image}, "exitCode": 101, "restartCount": 2, "statusDescription": "ended"})
    }

    #[test]
    fn running_is_the_applied_version_with_its_modules_running() {
        assert_eq!(of(&reported(200, &module("running", "eye:2"))), Health::Running);
    }

    #[test]
    fn what_is_missing_is_told() {
        let says = |health: Health, says: &str| match health {
            Health::Pending(trouble) => assert!(trouble.to_string().contains(says), "{trouble}"),
            other => panic!("{other:?}"),
        };
        says(of(&json!({})), "has not reported");
        says(of(&json!({"lastDesiredVersion": 3})), "has not reported");
        says(of(&reported(500, &json!({}))), "code 500: no such");
        says(of(&reported(200, &Value::Null)), "module `eye`");
        says(of(&reported(200, &module("running", "eye:1"))), "still has the image `eye:1`");
        says(
            of(&reported(200, &module("backoff", "eye:2"))),
            "is `backoff`, exit code 101, ended, restarted 2 times",
        );
        let not_yet = twin(&json!({"$version": 4, "modules": {}}), &json!({}));
        says(health(&not_yet, &wanted()), "handed the deployment over");
    }

    #[test]
    fn what_no_waiting_mends_fails() {
        assert!(matches!(of(&reported(412, &json!({}))), Health::Failed(_)));
        let mut crashing = module("backoff", "eye:2");
        crashing["restartCount"] = json!(RESTARTS);
        assert!(matches!(of(&reported(200, &crashing)), Health::Failed(trouble) if trouble.module.is_some()));
    }

    proptest! {
        #[test]
        fn any_report_is_read(code in any::<i64>(), state in ".{0,12}", restarts in any::<i64>()) {
            let mut module = module(&state, "eye:2");
            module["restartCount"] = json!(restarts);
            let health = of(&reported(code, &module));
            prop_assert_eq!(health == Health::Running, code == 200 && state == "running");
        }
    }
}
