//! The agent's own programs, called as they are documented (Microsoft Learn, "Run a self-hosted agent in Docker";
//! options by the agent's source): `config.sh`, `config.sh remove`, `run.sh`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use mynah::secret::Secret;
use serde::Deserialize;

use crate::credential::Token;
use crate::handover::{OPTION_PREFIX, is_private};
use crate::settings::Settings;

/// The process that asks for jobs.
pub const LISTENER: &str = "Agent.Listener";

/// The process that carries a job out.
pub const WORKER: &str = "Agent.Worker";

/// What `run.sh` ends with when the agent brought itself up to date instead of taking a job (agent source,
/// `ReturnCode`).
pub const UPDATED: [i32; 2] = [3, 4];

/// The agent's programs in its folder.
#[derive(Debug)]
pub struct Agent<'a> {
    settings: &'a Settings,
    /// Options that came as variables; only `config.sh` gets them.
    options: BTreeMap<String, Secret>,
}

impl<'a> Agent<'a> {
    /// The agent of `settings`; of `secrets`, `config.sh` gets those that are its own.
    pub fn new(settings: &'a Settings, secrets: &BTreeMap<String, Secret>) -> Self {
        let options = secrets
            .iter()
            .filter(|(name, _)| name.to_ascii_uppercase().starts_with(OPTION_PREFIX))
            .map(|(name, secret)| (name.clone(), secret.clone()))
            .collect();
        Self { settings, options }
    }

    /// Registers. The token goes by variable: another user sees a command line, nobody else's environment.
    pub fn configure(&self, token: &Token) -> Command {
        let settings = self.settings;
        let mut command = self.with_token("config.sh", token);
        command
            .args(["--unattended", "--acceptTeeEula", "--replace"])
            .args(["--url", &settings.organization.to_string()])
            .args(["--auth", "PAT"])
            .args(["--pool", &settings.pool])
            .args(["--agent", &settings.name])
            .args(["--work", &settings.work]);
        command
    }

    /// Unregisters.
    pub fn remove(&self, token: &Token) -> Command {
        let mut command = self.with_token("config.sh", token);
        command.args(["remove", "--unattended", "--auth", "PAT"]);
        command
    }

    /// Takes jobs, or one.
    pub fn run(&self, once: bool) -> Command {
        let mut command = self.script("run.sh");
        if once {
            command.arg("--once");
        }
        command
    }

    fn with_token(&self, script: &str, token: &Token) -> Command {
        let mut command = self.script(script);
        for (name, secret) in &self.options {
            command.env(name, secret.expose());
        }
        command.env(format!("{OPTION_PREFIX}TOKEN"), token.secret.expose());
        command
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.settings.home.join(name));
        command.current_dir(&self.settings.home);
        // Application sign-in is this program's business too, unless a job is meant to have it by its own means.
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|name| is_private(name) || name == "AZURE_FEDERATED_TOKEN_FILE")
            {
                command.env_remove(variable);
            }
        }
        command
    }

    /// The number under which `config.sh` registered the agent.
    pub fn id(&self) -> Option<i64> {
        registered(&self.settings.home)
    }
}

/// The agent's number in the file that `config.sh` writes in `home`.
pub fn registered(home: &Path) -> Option<i64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Written {
        agent_id: i64,
    }
    let text = fs::read_to_string(home.join(".agent")).ok()?;
    let written: Written = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    Some(written.agent_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_the_agents_file() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(registered(home.path()), None);
        fs::write(home.path().join(".agent"), "\u{feff}{\"agentId\":7,\"agentName\":\"pod-1\"}").unwrap();
        assert_eq!(registered(home.path()), Some(7));
        fs::write(home.path().join(".agent"), "{").unwrap();
        assert_eq!(registered(home.path()), None);
    }
}
