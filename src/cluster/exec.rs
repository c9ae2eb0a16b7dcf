//! Signing in through a program that the kubeconfig names (`client.authentication.k8s.io`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use mynah_contracts::Quiet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ClusterError;
use crate::child;
use crate::http::Tls;
use crate::secret::Secret;

/// It may speak with a slow service.
const LIMIT: Duration = Duration::from_mins(1);

/// How long before its end a token is renewed, in seconds.
const EARLY: i64 = 30;

/// A program that signs in.
#[derive(Clone)]
pub(super) struct Exec {
    program: PathBuf,
    arguments: Vec<String>,
    variables: BTreeMap<String, Secret>,
    api: String,
    cluster: Option<Value>,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exec({})", self.program.display())
    }
}

/// What it gave.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) token: Option<Secret>,
    pub(super) identity: Option<Secret>,
    until: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Option<AnswerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerStatus {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    client_certificate_data: Option<String>,
    #[serde(default)]
    client_key_data: Option<String>,
    #[serde(default)]
    expiration_timestamp: Option<String>,
}

impl Granted {
    /// Whether it still holds for a while.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until.as_second() - EARLY > now.as_second())
    }

    /// Adds the certificate it gave, if it gave one.
    pub(super) fn apply(&self, tls: &Tls) -> Tls {
        let mut tls = tls.clone();
        if self.identity.is_some() {
            tls.identity.clone_from(&self.identity);
        }
        tls
    }
}

impl Exec {
    pub(super) fn new(
        program: PathBuf,
        arguments: Vec<String>,
        variables: BTreeMap<String, Secret>,
        api: String,
        cluster: Option<Value>,
    ) -> Self {
        Self { program, arguments, variables, api, cluster }
    }

    fn failed(&self, what: impl Into<String>) -> ClusterError {
        ClusterError::Exec { program: self.program.display().to_string(), what: what.into() }
    }

    /// Runs it.
    pub(super) async fn run(&self) -> Result<Granted, ClusterError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        for (name, value) in &self.variables {
            command.env(name, value.expose());
        }
        let mut spec = json!({"interactive": false});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = cluster.clone();
        }
        let info = json!({"apiVersion": self.api, "kind": "ExecCredential", "spec": spec});
        command.env("KUBERNETES_EXEC_INFO", info.to_string());
        let ran = tokio::task::spawn_blocking(move || child::run(&mut command, b"", LIMIT, &Quiet));
        let ended = match ran.await {
            Ok(ended) => ended
                .map_err(|error| self.failed(format!("failed: {}", mynah_contracts::error_chain(&error))))?,
            Err(_) => return Err(self.failed("was interrupted")),
        };
        if !ended.status.success() {
            let said = ended.stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
            return Err(self.failed(format!(
                "ended with {}: {}",
                ended.status,
                said.unwrap_or("without a word").escape_debug()
            )));
        }
        self.read(&ended.stdout)
    }

    fn read(&self, stdout: &str) -> Result<Granted, ClusterError> {
        // What it wrote holds a token, so that the parser's words stay out of the message.
        let answer: Answer = serde_json::from_str(stdout)
            .map_err(|_| self.failed("did not write an ExecCredential in JSON"))?;
        let status = answer.status.ok_or_else(|| self.failed("wrote an ExecCredential without status"))?;
        let identity = match (&status.client_certificate_data, &status.client_key_data) {
            (Some(certificate), Some(key)) => Some(
                super::kubeconfig::identity(certificate.as_bytes(), key.as_bytes())
                    .ok_or_else(|| self.failed("gave a certificate or key that is not in PEM"))?,
            ),
            _ => None,
        };
        let token = status.token.filter(|token| !token.is_empty()).map(Secret::new);
        if token.is_none() && identity.is_none() {
            return Err(self.failed("gave neither a token nor a certificate"));
        }
        let until = match status.expiration_timestamp {
            Some(text) => Some(text.parse().map_err(|_| self.failed("gave a time of expiry that is none"))?),
            None => None,
        };
        Ok(Granted { token, identity, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Exec {
        Exec::new("sign-in".into(), Vec::new(), BTreeMap::new(), String::new(), None)
    }

    #[test]
    fn a_token_holds_until_shortly_before_its_end() {
        let text = r#"{"status": {"token": "token-9412", "expirationTimestamp": "2026-01-01T00:01:00Z"}}"#;
        let granted = exec().read(text).unwrap();
        assert!(granted.holds("2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(!granted.holds("2026-01-01T00:00:45Z".parse().unwrap()));
        assert!(!format!("{granted:?}").contains("9412"));
    }

    #[test]
    fn what_is_no_credential_is_told_without_what_was_written() {
        for (text, says) in [
            ("token-9412", "in JSON"),
            (r#"{"spec": "token-9412"}"#, "without status"),
            (r#"{"status": {"user": "token-9412"}}"#, "neither"),
            (r#"{"status": {"clientCertificateData": "token-9412", "clientKeyData": "k"}}"#, "PEM"),
            (r#"{"status": {"token": "token-9412", "expirationTimestamp": "soon"}}"#, "expiry"),
        ] {
            let error = exec().read(text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("9412"), "{error}");
        }
    }
}
