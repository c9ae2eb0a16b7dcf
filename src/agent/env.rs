//! The environment a process was started with, read once.

use std::collections::BTreeMap;

/// A snapshot of environment variables.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// This process' environment. Variables that are not UTF-8 cannot be inputs and are left out.
    pub fn capture() -> Self {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The variable's value; an empty one counts as absent, as on an agent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that begin with `prefix`, the rest of their names and their values; empty ones count as absent.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .map_while(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
            .filter(|(_, value)| !value.is_empty())
    }

    /// Every variable with its value, empty ones too, in the order of their names.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether an Azure Pipelines agent started this process: it sets `TF_BUILD=True` for every task.
    pub fn is_agent(&self) -> bool {
        self.get("TF_BUILD").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The values that must not be shown: the agent's secret variables and the credentials of service
    /// connections. Shorter values than four characters would blot out ordinary text.
    pub fn secrets(&self) -> Vec<String> {
        let secret = |name: &str| {
            let name = name.to_ascii_uppercase();
            let parameter =
                name.strip_prefix("ENDPOINT_AUTH_PARAMETER_").and_then(|rest| rest.rsplit('_').next());
            if parameter.is_some_and(super::connection::is_public) {
                return false;
            }
            name.starts_with("SECRET_")
                || (name.starts_with("ENDPOINT_AUTH_") && !name.starts_with("ENDPOINT_AUTH_SCHEME_"))
                || name.starts_with("SECUREFILE_TICKET_")
                || matches!(name.as_str(), "SYSTEM_ACCESSTOKEN" | "AGENT_PROXYPASSWORD")
        };
        let mut values: Vec<String> = self
            .0
            .iter()
            .filter(|(name, value)| secret(name) && value.trim().len() >= 4)
            .map(|(_, value)| value.clone())
            .collect();
        // Longest first, so that a secret inside another does not leave the other's rest behind.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        values
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Env {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_absent() {
        let env = Env::from_iter([("INPUT_SOURCE", "")]);
        assert_eq!(env.get("INPUT_SOURCE"), None);
    }

    #[test]
    fn secrets_are_credentials_and_not_schemes_or_crumbs() {
        let env = Env::from_iter([
            ("SECRET_KEY", "hunter22"),
            ("ENDPOINT_AUTH_SCHEME_X", "ServicePrincipal"),
            ("ENDPOINT_AUTH_PARAMETER_X_KEY", "long-hunter22-key"),
            ("SECRET_TINY", "ab"),
            ("PATH", "/usr/bin"),
        ]);
        assert_eq!(env.secrets(), ["long-hunter22-key", "hunter22"]);
    }
}
