//! Credentials as `docker login` keeps them: `config.json`, and the programs it names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::Monitor;
use serde::Deserialize;

use super::RegistryError;
use super::credentials::Credentials;
use crate::agent::Env;
use crate::child;
use crate::secret::Secret;

/// How long a program that keeps credentials may take: it may ask its user.
const HELPER_LIMIT: Duration = Duration::from_mins(1);

/// The user name by which helpers say that the password is an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// The user name by which Azure Container Registry says the same.
const AZURE_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// The file `config.json` (docker's and podman's `auth.json` share the form).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// What is kept for `registry` (its name in references), in the first file that has something.
///
/// # Errors
/// A file that is there cannot be read or understood, or its helper fails.
pub(crate) fn find(
    registry: &str,
    env: &Env,
    monitor: &dyn Monitor,
) -> Result<Option<Credentials>, RegistryError> {
    for path in files(env) {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(source) => return Err(RegistryError::CredentialFile { path, source }),
        };
        if let Some(found) = in_file(&text, registry, &path, monitor)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The files, in the order they are looked at.
fn files(env: &Env) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(env.get("REGISTRY_AUTH_FILE").map(PathBuf::from));
    files.extend(env.get("DOCKER_CONFIG").map(|folder| Path::new(folder).join("config.json")));
    files.extend(env.get("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("containers/auth.json")));
    files.extend(env.get("HOME").map(|home| Path::new(home).join(".docker/config.json")));
    files
}

fn in_file(
    text: &[u8],
    registry: &str,
    path: &Path,
    monitor: &dyn Monitor,
) -> Result<Option<Credentials>, RegistryError> {
    let broken = |what: &str| RegistryError::CredentialFile {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, what),
    };
    // The parser's own words could quote a password.
    let file: ConfigFile = serde_json::from_slice(text).map_err(|error| {
        broken(&format!("not valid JSON at line {} column {}", error.line(), error.column()))
    })?;
    let named = |key: &str| host_of(key) == registry;
    let helper = file.cred_helpers.iter().find(|(key, _)| named(key)).map(|(_, helper)| helper);
    if let Some(helper) = helper {
        return ask_helper(helper, registry, &broken, monitor);
    }
    if let Some((_, entry)) = file.auths.iter().find(|(key, _)| named(key)) {
        let found = entry.credentials().map_err(|problem| broken(&format!("{problem} for `{registry}`")))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    match &file.creds_store {
        Some(helper) => ask_helper(helper, registry, &broken, monitor),
        None => Ok(None),
    }
}

/// The host of a key, which may be a URL: Docker Hub's is `https://index.docker.io/v1/`.
pub(super) fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match key.split_once('/').map_or(key, |(host, _)| host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = filled(&self.auth) {
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| "`auth` is not base64")?;
            let text = String::from_utf8(bytes).map_err(|_| "`auth` is not text")?;
            // Older versions ended it with NULs.
            let pair = text.trim_end_matches('\0').split_once(':').ok_or("`auth` has no colon")?;
            return Ok(Some(with_password(pair.0, pair.1)));
        }
        Ok(filled(&self.username)
            .zip(filled(&self.password))
            .map(|(user, password)| with_password(&user, &password)))
    }
}

fn with_password(user: &str, password: &str) -> Credentials {
    if matches!(user, IDENTITY_TOKEN_USER | AZURE_TOKEN_USER) {
        return Credentials::IdentityToken(Secret::new(password));
    }
    Credentials::Password { user: user.into(), password: Secret::new(password) }
}

/// Runs `docker-credential-<helper> get` (docker-credential-helpers protocol).
fn ask_helper(
    helper: &str,
    registry: &str,
    broken: &dyn Fn(&str) -> RegistryError,
    monitor: &dyn Monitor,
) -> Result<Option<Credentials>, RegistryError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if helper.is_empty() || !helper.chars().all(plain) {
        return Err(broken("it names a credential helper that is no program's name"));
    }
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    let ended = child::run(command.arg("get"), server.as_bytes(), HELPER_LIMIT, monitor)
        .map_err(|error| broken(&mynah_contracts::error_chain(&error)))?;
    if !ended.status.success() {
        // It says so on standard output; every other failure is one.
        return if ended.stdout.contains("credentials not found") {
            Ok(None)
        } else {
            Err(broken(&format!("`{program}` failed ({})", ended.status)))
        };
    }
    let answer: HelperAnswer = serde_json::from_str(&ended.stdout)
        .map_err(|_| broken(&format!("`{program}` gave no valid answer")))?;
    Ok(Some(with_password(&answer.username, &answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Quiet;

    fn found(config: &str, registry: &str) -> Option<Credentials> {
        in_file(config.as_bytes(), registry, Path::new("config.json"), &Quiet).unwrap()
    }

    fn shown(found: Option<Credentials>) -> String {
        match found {
            Some(Credentials::Password { user, password }) => format!("{user} with {}", password.expose()),
            Some(Credentials::IdentityToken(token)) => format!("token {}", token.expose()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_registry_is_found_however_its_key_is_written() {
        let auth = STANDARD.encode("ada:pass:word");
        for key in ["r.example", "https://r.example", "https://r.example/v2/"] {
            let config = format!(r#"{{"auths":{{"other.example":{{}},"{key}":{{"auth":"{auth}"}}}}}}"#);
            assert_eq!(shown(found(&config, "r.example")), "ada with pass:word", "{key}");
            assert!(found(&config, "example").is_none());
        }
        let config = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(shown(found(&config, "docker.io")), "ada with pass:word");
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        let config = r#"{"auths":{"r.example":{"identitytoken":"refresh-me"}}}"#;
        assert_eq!(shown(found(config, "r.example")), "token refresh-me");
        let auth = STANDARD.encode(format!("{AZURE_TOKEN_USER}:refresh-me"));
        let config = format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(shown(found(&config, "r.example")), "token refresh-me");
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        for broken in [
            r#"{"auths":{"r.example":{"auth":"!hunter22"}}}"#,
            r#"{"auths":{"r.example":{"auth":"hunter22"#,
            r#"{"credsStore":"../../bin/sh"}"#,
            r#"{"credsStore":"no-such-helper-hunter"}"#,
        ] {
            let error =
                in_file(broken.as_bytes(), "r.example", Path::new("config.json"), &Quiet).unwrap_err();
            let text = mynah_contracts::error_chain(&error);
            assert!(text.contains("config.json") && !text.contains("hunter22"), "{text}");
        }
    }
}
