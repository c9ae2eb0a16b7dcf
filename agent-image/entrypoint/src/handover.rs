//! Takes the secrets out of the environment this process was started with.
//!
//! The kernel shows the environment a program was started with in `/proc/PID/environ` for as long as it runs, to every
//! process of the same user, whatever the program does to its variables later. So the program starts itself once
//! more: the secrets go through an anonymous pipe on standard input, the environment of the second start has none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use mynah::secret::Secret;
use mynah_contracts::{Diagnosis, FaultKind};
use rustix::process::DumpableBehavior;

/// Tells the second start that the secrets wait on standard input.
const MARK: &str = "MYNAH_AGENT_HANDOVER";

/// What a pipe holds without a reader; Linux gives 64 KiB at least.
const MOST: usize = 32 * 1024;

/// What goes only to `config.sh`: the agent's own way to take options from variables.
pub const OPTION_PREFIX: &str = "VSTS_AGENT_INPUT_";

/// Why the secrets could not be taken out of the environment.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// More than a pipe holds.
    #[error("the secrets in the environment have {0} bytes, {MOST} at most are taken")]
    TooLarge(usize),
    /// A secret that is no text.
    #[error("`{0}` is not UTF-8 text")]
    NotText(String),
    /// The program cannot start itself again, or read what it handed itself.
    #[error("cannot take the secrets out of the environment")]
    Io(#[source] io::Error),
    /// What arrived is not what was sent.
    #[error("`{MARK}` is set, but standard input holds no secrets")]
    NotHanded(#[source] serde_json::Error),
}

impl Diagnosis for HandoverError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io(_) => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotHanded(_) => Some(format!("unset `{MARK}`; this program sets it for itself")),
            Self::TooLarge(_) | Self::NotText(_) => Some("give the token as one line of plain text".into()),
            Self::Io(_) => None,
        }
    }
}

/// Whether a variable may hold a secret of the agent.
fn is_secret(name: &str) -> bool {
    name == "AZP_TOKEN" || name == "AZP_CLIENTSECRET" || name.to_ascii_uppercase().starts_with(OPTION_PREFIX)
}

/// The secrets of the environment, by name. Where there are some, it does not return but starts this program again
/// without them; the second start gets them here.
///
/// # Errors
/// The program cannot be started again, or was handed what it did not send.
pub fn take() -> Result<BTreeMap<String, Secret>, HandoverError> {
    if std::env::var_os(MARK).is_some() {
        return receive();
    }
    let mut secrets = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        if is_secret(&name) && !value.is_empty() {
            let value = value.into_string().map_err(|_| HandoverError::NotText(name.clone()))?;
            secrets.insert(name, value);
        }
    }
    if secrets.is_empty() { Ok(BTreeMap::new()) } else { Err(start_again(&secrets)) }
}

/// Ends in another start of this program; what it gives is why not.
fn start_again(secrets: &BTreeMap<String, String>) -> HandoverError {
    let again = || {
        let text = serde_json::to_vec(secrets).map_err(io::Error::other)?;
        if text.len() > MOST {
            return Ok(HandoverError::TooLarge(text.len()));
        }
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(&text)?;
        drop(writer);
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(reader).env(MARK, "1");
        for name in secrets.keys() {
            command.env_remove(name);
        }
        Err(command.exec())
    };
    again().unwrap_or_else(HandoverError::Io)
}

fn receive() -> Result<BTreeMap<String, Secret>, HandoverError> {
    let mut text = Vec::new();
    io::stdin().lock().take(MOST as u64 + 1).read_to_end(&mut text).map_err(HandoverError::Io)?;
    let secrets: BTreeMap<String, String> =
        serde_json::from_slice(&text).map_err(HandoverError::NotHanded)?;
    Ok(secrets.into_iter().map(|(name, value)| (name, Secret::new(value.trim()))).collect())
}

/// Hides this process' memory from others of the same user, debuggers and core files included.
///
/// # Errors
/// The kernel refuses.
pub fn hide_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Variables of this program that a job has no business with.
pub fn is_private(name: &str) -> bool {
    is_secret(name)
        || name == MARK
        || name.starts_with("MYNAH_AGENT_")
        || matches!(name, "AZP_TOKEN_FILE" | "AZP_CLIENTID" | "AZP_TENANTID")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_a_secret_is_taken_and_the_rest_left() {
        for secret in ["AZP_TOKEN", "AZP_CLIENTSECRET", "VSTS_AGENT_INPUT_TOKEN", "vsts_agent_input_password"]
        {
            assert!(is_secret(secret) && is_private(secret), "{secret}");
        }
        for open in ["AZP_URL", "AZP_POOL", "PATH", "AZP_WORK"] {
            assert!(!is_private(open), "{open}");
        }
        assert!(is_private("AZP_TOKEN_FILE") && !is_secret("AZP_TOKEN_FILE"));
    }
}
