//! Signing in as whoever is signed in to the Azure CLI.

use std::process::Command;
use std::time::Duration;

use mynah_contracts::Quiet;
use serde::Deserialize;

use super::Token;
use super::error::AuthError;
use crate::child;
use crate::secret::Secret;

/// It is a slow starter.
const LIMIT: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Granted {
    access_token: String,
    /// Seconds since 1970; older versions have only a local time in `expiresOn`.
    #[serde(rename = "expires_on", default)]
    expires_on: Option<u64>,
}

pub(super) async fn fetch(scope: &str) -> Result<Token, AuthError> {
    let scope = scope.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("az");
        command.args(["account", "get-access-token", "--output", "json", "--scope", &scope]);
        child::run(&mut command, b"", LIMIT, &Quiet)
    });
    let ended = match ran.await {
        Ok(ended) => ended.map_err(AuthError::NoCli)?,
        Err(_) => return Err(AuthError::Cli("it was interrupted".into())),
    };
    if !ended.status.success() {
        let first = ended.stderr.lines().map(str::trim).find(|line| !line.is_empty());
        return Err(AuthError::Cli(first.unwrap_or("it failed without a word").to_owned()));
    }
    let granted: Granted = serde_json::from_str(&ended.stdout)
        .map_err(|_| AuthError::Cli("its answer is not the JSON that was expected".into()))?;
    let secret = Secret::new(granted.access_token);
    // Without a time it is asked again for the next request.
    Ok(Token::ending_at(secret, granted.expires_on.unwrap_or_default()))
}
