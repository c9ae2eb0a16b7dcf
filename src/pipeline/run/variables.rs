//! The variables of a running job: macros (`$(name)`), the environment of programs, what is secret.

use std::collections::BTreeMap;

use super::value::Value;

/// How deep the values of variables may name other variables.
const MAX_DEPTH: usize = 10;

/// A variable.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) secret: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, if self.secret { "***" } else { &self.value })
    }
}

/// The variables of a job, by their names in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(BTreeMap<String, Variable>);

impl Table {
    /// Sets a variable. One that was secret stays secret.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>, secret: bool) {
        let key = name.to_lowercase();
        let secret = secret || self.0.get(&key).is_some_and(|variable| variable.secret);
        self.0.insert(key, Variable { name: name.to_owned(), value: value.into(), secret });
    }

    /// The variable of a name, in any letter case.
    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(&name.to_lowercase())
    }

    /// All of them, in the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Variable> {
        self.0.values()
    }

    /// `text` with its macros replaced; those that nothing is known of stay, as on an agent.
    pub(super) fn expand(&self, text: &str) -> String {
        self.expand_below(text, 0)
    }

    fn expand_below(&self, text: &str, depth: usize) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let name = from[2..].split_once(')').map(|(name, _)| name);
            if let Some((name, variable)) = name.and_then(|name| Some((name, self.get(name)?))) {
                if depth < MAX_DEPTH {
                    out.push_str(&self.expand_below(&variable.value, depth + 1));
                } else {
                    out.push_str(&variable.value);
                }
                rest = &from[name.len() + 3..];
            } else {
                out.push_str("$(");
                rest = &from[2..];
            }
        }
        out.push_str(rest);
        out
    }

    /// What `variables` means in an expression.
    pub(super) fn value(&self) -> Value {
        let pair = |variable: &Variable| (variable.name.clone(), Value::Text(self.expand(&variable.value)));
        Value::Map(self.all().map(pair).collect())
    }
}

/// A variable's name in the environment (agent source, `VarUtil.ConvertToEnvVariableFormat`).
pub(super) fn in_environment(name: &str) -> String {
    name.replace(['.', ' '], "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn macros_are_replaced_in_any_letter_case_and_through_each_other() {
        let mut table = Table::default();
        table.set("Pipeline.Workspace", "/w", false);
        table.set("work", "$(pipeline.workspace)/mynah", false);
        table.set("loop", "$(loop)x", false);
        assert_eq!(
            table.expand("$(WORK)/a $(nothing) $(date +%s) $(work"),
            "/w/mynah/a $(nothing) $(date +%s) $(work"
        );
        assert!(table.expand("$(loop)").ends_with('x'));
        assert_eq!(in_environment("Build.Source Branch"), "BUILD_SOURCE_BRANCH");
    }

    #[test]
    fn a_secret_stays_one_and_shows_nothing() {
        let mut table = Table::default();
        table.set("key", "hunter22", true);
        table.set("KEY", "hunter23", false);
        assert!(table.get("Key").unwrap().secret);
        assert!(!format!("{table:?}").contains("hunter23"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[$()a é]{0,20}") {
            let mut table = Table::default();
            table.set("a", "$(é)", false);
            let _ = table.expand(&text);
        }
    }
}
