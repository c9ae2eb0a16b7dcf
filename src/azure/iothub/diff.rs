//! What a deployment would change, for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::content::Content;

/// The longest value that is shown, in characters.
const SHOWN: usize = 120;

/// The lines in which `new` differs from `old`: `+` comes, `-` goes, `~` changes. Passwords are not shown, but
/// that one changes is.
pub(super) fn diff(old: Option<&Content>, new: &Content) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    if let Some(old) = old {
        flatten(&old.shown(), String::new(), &mut before);
    }
    flatten(&new.shown(), String::new(), &mut after);
    let mut lines = Vec::new();
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        match (before.get(path), after.get(path)) {
            (None, Some(value)) => lines.push(format!("+ {path} = {}", short(value))),
            (Some(value), None) => lines.push(format!("- {path} = {}", short(value))),
            (Some(old), Some(new)) if old != new => {
                lines.push(format!("~ {path} = {} → {}", short(old), short(new)));
            }
            _ => {}
        }
    }
    if lines.is_empty() && old.is_some_and(|old| old != new) {
        lines.push("~ a registry's password".into());
    }
    lines
}

fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let key = key.escape_debug();
                let path = if path.is_empty() { key.to_string() } else { format!("{path} › {key}") };
                flatten(value, path, into);
            }
        }
        other => {
            into.insert(path, other.clone());
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    format!("{}…", text.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(desired: &Value) -> Content {
        Content::of_manifest(&json!({"modulesContent": {"$edgeAgent": {"properties.desired": desired}}}))
    }

    #[test]
    fn changes_are_told_by_place_and_passwords_are_not() {
        let registries = |password: &str| json!({"acr": {"password": password}});
        let old = content(
            &json!({"modules": {"a": {"image": "a:1"}, "b": {"image": "b:1"}}, "r": registries("hunter22")}),
        );
        let new = content(
            &json!({"modules": {"a": {"image": "a:2"}, "c": {"image": "c:1"}}, "r": registries("hunter22")}),
        );
        assert_eq!(
            diff(Some(&old), &new),
            [
                "~ $edgeAgent › properties.desired › modules › a › image = \"a:1\" → \"a:2\"",
                "- $edgeAgent › properties.desired › modules › b › image = \"b:1\"",
                "+ $edgeAgent › properties.desired › modules › c › image = \"c:1\"",
            ]
        );
        assert!(diff(Some(&new), &new).is_empty());
        let rotated = content(
            &json!({"modules": {"a": {"image": "a:2"}, "c": {"image": "c:1"}}, "r": registries("hunter33")}),
        );
        assert_eq!(diff(Some(&new), &rotated), ["~ a registry's password"]);
        assert!(diff(None, &new).iter().all(|line| line.starts_with('+') && !line.contains("hunter")));
    }
}
