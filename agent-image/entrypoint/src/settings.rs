//! What an agent's container is told by its environment: the names that the images of others use too.

use std::path::PathBuf;
use std::time::Duration;

use mynah::agent::Env;
use mynah_contracts::{Diagnosis, FaultKind};

use crate::organization::{Organization, OrganizationError};

/// What is done after the agent is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Jobs, until someone asks to stop.
    Serve,
    /// One job.
    Once,
    /// Nothing: the agent stays registered and offline, so that jobs for a pool without agents can be queued.
    Placeholder,
    /// The agent of this name is only unregistered.
    Remove,
}

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `AZP_URL`.
    pub organization: Organization,
    /// `AZP_POOL`, else `Default`.
    pub pool: String,
    /// `AZP_AGENT_NAME`, else the host's name.
    pub name: String,
    /// `AZP_WORK`, else `_work`: below the agent's folder unless it is absolute.
    pub work: String,
    /// `MYNAH_AGENT_PACKAGE`, else `/opt/agent`: the agent as it was published.
    pub package: PathBuf,
    /// `MYNAH_AGENT_HOME`, else `/azp`: where the agent runs.
    pub home: PathBuf,
    /// `MYNAH_AGENT_DRAIN_SECONDS`, else 3540: how long a job may go on after someone asked to stop.
    pub drain: Duration,
    /// `MYNAH_AGENT_NAME_SECONDS`, else 120: how long an online agent of the same name is waited for, since a
    /// container that was killed stays online until its session ends.
    pub name_wait: Duration,
}

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable that must be there.
    #[error("`AZP_URL` is not set")]
    NoUrl,
    /// The address.
    #[error(transparent)]
    Organization(#[from] OrganizationError),
    /// Not a number of seconds.
    #[error("`{name}` is `{value}`, whole seconds up to 604800 are expected")]
    Seconds {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A name that would be taken for an option, or holds what cannot be shown.
    #[error("`{name}` is `{value}`, which is no name")]
    Name {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Diagnosis for SettingsError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoUrl => "set `AZP_URL` to `https://dev.azure.com/ORGANIZATION`".into(),
            Self::Organization(error) => return error.hint(),
            Self::Seconds { .. } => "keep it below the pod's `terminationGracePeriodSeconds`".into(),
            Self::Name { .. } => "a name does not begin with `-` and has no line ends".into(),
        })
    }
}

impl Settings {
    /// Reads the environment; `host` is this machine's name.
    ///
    /// # Errors
    /// A variable that is missing or makes no sense.
    pub fn read(env: &Env, host: &str) -> Result<Self, SettingsError> {
        let organization = Organization::parse(env.get("AZP_URL").ok_or(SettingsError::NoUrl)?)?;
        let path = |name: &str, default: &str| PathBuf::from(env.get(name).unwrap_or(default));
        Ok(Self {
            organization,
            pool: name(env, "AZP_POOL", "Default")?,
            name: name(env, "AZP_AGENT_NAME", host)?,
            work: name(env, "AZP_WORK", "_work")?,
            package: path("MYNAH_AGENT_PACKAGE", "/opt/agent"),
            home: path("MYNAH_AGENT_HOME", "/azp"),
            drain: seconds(env, "MYNAH_AGENT_DRAIN_SECONDS", 3540)?,
            name_wait: seconds(env, "MYNAH_AGENT_NAME_SECONDS", 120)?,
        })
    }
}

fn name(env: &Env, name: &'static str, default: &str) -> Result<String, SettingsError> {
    let value = env.get(name).unwrap_or(default).trim();
    if value.is_empty() || value.starts_with('-') || value.chars().any(char::is_control) {
        return Err(SettingsError::Name { name, value: value.escape_debug().to_string() });
    }
    Ok(value.to_owned())
}

fn seconds(env: &Env, name: &'static str, default: u64) -> Result<Duration, SettingsError> {
    let Some(text) = env.get(name) else { return Ok(Duration::from_secs(default)) };
    let seconds = text.trim().parse::<u64>().ok().filter(|seconds| *seconds <= 604_800);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| SettingsError::Seconds { name, value: text.escape_debug().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("AZP_URL", "https://dev.azure.com/contoso");

    #[test]
    fn defaults_are_those_of_the_known_images() {
        let settings = Settings::read(&Env::from_iter([URL]), "pod-1").unwrap();
        assert_eq!((settings.pool.as_str(), settings.name.as_str()), ("Default", "pod-1"));
        assert_eq!(settings.work, "_work");
        assert_eq!(settings.drain, Duration::from_mins(59));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = |pairs: &[(&str, &str)]| {
            Settings::read(&pairs.iter().copied().collect(), "pod-1").unwrap_err().to_string()
        };
        assert_eq!(error(&[]), "`AZP_URL` is not set");
        assert_eq!(error(&[URL, ("AZP_POOL", "--once")]), "`AZP_POOL` is `--once`, which is no name");
        assert_eq!(
            error(&[URL, ("AZP_AGENT_NAME", "a\nb")]),
            "`AZP_AGENT_NAME` is `a\\nb`, which is no name"
        );
        assert!(error(&[URL, ("MYNAH_AGENT_DRAIN_SECONDS", "1h")]).contains("is `1h`, whole seconds"));
    }
}
