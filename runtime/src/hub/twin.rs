//! Desired properties to settings, each accepted or refused by itself, and what is reported of that. Pure.

use std::collections::BTreeMap;

use mynah_contracts::error_chain;
use serde_json::{Map, Value, json};

use crate::settings::{Given, Settings, definitions};

/// What desired properties amount to.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The settings that hold now.
    pub(crate) given: Given,
    /// The same, in types.
    pub(crate) settings: Settings,
    /// What is reported of each property: its value, 200 or 400, the version, and why not.
    pub(crate) answers: Map<String, Value>,
}

/// Judges the desired properties against the settings others gave. Properties that are refused leave the setting as it
/// was in `before`. `check` says what is wrong with settings beyond their form.
pub(crate) fn judge(
    base: &Given,
    desired: &Map<String, Value>,
    settings: &Settings,
    check: impl Fn(&Settings) -> Result<(), String>,
) -> Judgement {
    let version = desired.get("$version").and_then(Value::as_i64).unwrap_or(0);
    let mut answers = Map::new();
    let mut wanted: Vec<(&'static str, String, String)> = Vec::new();
    let mut refuse = |property: &str, value: Value, why: String| {
        answers.insert(property.to_owned(), json!({ "value": value, "ac": 400, "av": version, "ad": why }));
    };
    for (property, value) in desired.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null())
    {
        let Some(definition) = definitions().find(|definition| definition.property() == *property) else {
            refuse(property, Value::Null, "there is no such property".into());
            continue;
        };
        if !definition.live {
            refuse(property, current(base, definition.name), "it cannot change while the device runs".into());
            continue;
        }
        if let Some(text) = text(value) {
            wanted.push((definition.name, property.clone(), text));
        } else {
            let why = "a number, a text, a list of texts, or an object of label and number is needed";
            refuse(property, current(base, definition.name), why.into());
        }
    }
    let attempt = |accepted: &BTreeMap<&'static str, String>| {
        let given = base.with_hub(accepted);
        let settings = Settings::parse(&given).map_err(|error| error_chain(&error))?;
        check(&settings)?;
        Ok::<_, String>((given, settings))
    };
    let all: BTreeMap<_, _> = wanted.iter().map(|(name, _, text)| (*name, text.clone())).collect();
    let mut accepted = BTreeMap::new();
    let mut refused = BTreeMap::new();
    match attempt(&all) {
        Ok(_) => accepted = all,
        // One by one: a value that is wrong must not keep the others out.
        Err(_) => {
            for (name, property, text) in &wanted {
                let mut more = accepted.clone();
                more.insert(*name, text.clone());
                match attempt(&more) {
                    Ok(_) => accepted = more,
                    Err(why) => {
                        refused.insert(property.clone(), why);
                    }
                }
            }
        }
    }
    let (given, settings) = attempt(&accepted).unwrap_or_else(|_| (base.clone(), settings.clone()));
    for (name, property, _) in &wanted {
        let value = current(&given, name);
        let answer = match refused.get(property) {
            None => json!({ "value": value, "ac": 200, "av": version }),
            Some(why) => json!({ "value": value, "ac": 400, "av": version, "ad": why }),
        };
        answers.insert(property.clone(), answer);
    }
    Judgement { given, settings, answers }
}

/// The value a setting has, as a property.
fn current(given: &Given, name: &str) -> Value {
    given.text(name).map_or(Value::Null, |text| {
        text.parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Value::String(crate::secret::redacted(text)), Value::Number)
    })
}

/// A property's value as the text of a setting.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(items?.join(";"))
        }
        Value::Object(pairs) => {
            let pairs: Option<Vec<String>> =
                pairs.iter().map(|(label, value)| Some(format!("{label}={}", value.as_f64()?))).collect();
            Some(pairs?.join(";"))
        }
        Value::Bool(_) | Value::Null => None,
    }
}

/// Brings the desired properties at hand up to date with a patch: `null` removes (RFC 7396).
pub(crate) fn merge(desired: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (desired.get_mut(&name), value) {
            (_, Value::Null) => {
                desired.remove(&name);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                desired.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (Given, Settings) {
        let flags = [("model", "m"), ("source", "dir:f"), ("threshold", "0.8")];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let given = Given::collect(&flags, &BTreeMap::new()).unwrap();
        let settings = Settings::parse(&given).unwrap();
        (given, settings)
    }

    fn judged(desired: Value) -> Judgement {
        let (given, settings) = base();
        let Value::Object(desired) = desired else { panic!("an object") };
        judge(&given, &desired, &settings, |settings| {
            if settings.decision.reset_labels.is_empty() { Ok(()) } else { Err("no such label".into()) }
        })
    }

    #[test]
    fn good_values_hold_and_bad_ones_leave_the_old() {
        let judgement = judged(json!({
            "threshold": 0.9, "thresholdExit": 0.85, "votes": 99, "pause": "2", "resetLabels": ["hand"],
            "model": "other", "colour": "red", "margin": true, "labelThresholds": { "pear": 0.5 }, "$version": 7,
        }));
        assert_eq!(judgement.settings.decision.threshold, Some(0.9));
        assert_eq!(judgement.settings.decision.threshold_exit, Some(0.85));
        assert_eq!(judgement.settings.decision.votes, 3);
        assert_eq!(judgement.settings.decision.label_thresholds, [("pear".parse().unwrap(), 0.5)]);
        let code = |name: &str| judgement.answers[name]["ac"].as_i64().unwrap();
        for (name, expected) in [
            ("threshold", 200),
            ("thresholdExit", 200),
            ("pause", 200),
            ("labelThresholds", 200),
            ("votes", 400),
            ("resetLabels", 400),
            ("model", 400),
            ("colour", 400),
            ("margin", 400),
        ] {
            assert_eq!(code(name), expected, "{name}: {:?}", judgement.answers);
        }
        assert_eq!(judgement.answers["votes"]["value"], json!(3.0));
        assert_eq!(judgement.answers["votes"]["av"], 7);
        assert!(judgement.answers["votes"]["ad"].as_str().unwrap().contains("from 1 to 5"));
        assert_eq!(judgement.answers["resetLabels"]["ad"], "no such label");
    }

    #[test]
    fn what_is_taken_back_falls_to_what_others_gave() {
        let mut desired = Map::new();
        let patch = |value: Value| value.as_object().unwrap().clone();
        merge(&mut desired, patch(json!({ "threshold": 0.9, "labelThresholds": { "a": 0.1, "b": 0.2 } })));
        merge(&mut desired, patch(json!({ "threshold": null, "labelThresholds": { "a": null } })));
        assert_eq!(Value::Object(desired.clone()), json!({ "labelThresholds": { "b": 0.2 } }));
        assert_eq!(judged(Value::Object(desired)).settings.decision.threshold, Some(0.8));
    }
}
