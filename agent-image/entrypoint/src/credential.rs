//! How the agent proves who it is: a token, a token in a file, or a token of Microsoft Entra for an application.

use std::fs;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah::agent::Env;
use mynah::azure::auth::{AuthError, TokenSource};
use mynah::http::{Client, HttpError, block_on};
use mynah::secret::Secret;
use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Monitor};
use rustix::fs::Access;

/// What a token of Microsoft Entra is for: Azure DevOps, by its fixed application id.
const AZURE_DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";

/// Tokens are a few kilobytes at most.
const LONGEST: u64 = 16 * 1024;

/// Who registers the agent.
#[derive(Debug)]
pub enum Credential {
    /// A personal access token.
    Token(Secret),
    /// A personal access token that also lies in a file, until [`Credential::wipe`].
    File(PathBuf, Secret),
    /// An application that signs in with Microsoft Entra.
    Application(TokenSource),
}

/// A token for one use.
#[derive(Clone, Debug)]
pub struct Token {
    /// What `config.sh` takes as a token.
    pub secret: Secret,
    /// The authorization scheme and its credentials (RFC 9110, 11.6.2).
    pub authorization: (&'static str, Secret),
}

/// Why nobody can be signed in.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// None is there.
    #[error("no way to sign in is given")]
    None,
    /// More than one is there.
    #[error("both {0} and {1} are given")]
    Several(&'static str, &'static str),
    /// A service principal with something missing.
    #[error("`{0}` is missing for the service principal")]
    Incomplete(&'static str),
    /// The file of the token.
    #[error("cannot read the token in `{path}`")]
    File {
        /// `AZP_TOKEN_FILE`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no token.
    #[error("`{0}` holds no token")]
    Empty(PathBuf),
    /// The file would stay where jobs can read it.
    #[error("the token in `{path}` cannot be removed, so every job could read it")]
    Stays {
        /// `AZP_TOKEN_FILE`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Microsoft Entra.
    #[error(transparent)]
    SignIn(#[from] AuthError),
    /// No client can be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Diagnosis for CredentialError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::SignIn(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::Cancelled(error) => error.kind(),
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None => "set `AZP_TOKEN`, `AZP_TOKEN_FILE`, or `AZP_CLIENTID`, `AZP_CLIENTSECRET` and `AZP_TENANTID`, or use workload identity".into(),
            Self::Several(..) => "keep one of them".into(),
            Self::Incomplete(_) => "a service principal needs `AZP_CLIENTID`, `AZP_CLIENTSECRET` and `AZP_TENANTID`".into(),
            Self::File { .. } => "check `AZP_TOKEN_FILE`; the file is removed once the agent is registered, so a container that starts again needs it anew".into(),
            Self::Empty(_) => "write the token into the file as one line".into(),
            Self::Stays { .. } => "a mounted secret cannot be removed: hand the token over as `AZP_TOKEN` (in Kubernetes by `secretKeyRef`), which no job sees, or copy it to a folder that can be written".into(),
            Self::SignIn(error) => return error.hint(),
            Self::Http(error) => return error.hint(),
            Self::Cancelled(_) => return None,
        })
    }
}

impl Credential {
    /// Finds the one way to sign in; nothing is sent yet. The secrets are those that
    /// [`handover`](crate::handover) took out of the environment.
    ///
    /// # Errors
    /// None, several or half a way; a file that cannot be read, or not be removed later.
    pub fn discover(
        env: &Env,
        token: Option<&Secret>,
        client_secret: Option<&Secret>,
        client: &Client,
    ) -> Result<Self, CredentialError> {
        let file = env.get("AZP_TOKEN_FILE");
        let principal = env.get("AZP_CLIENTID").is_some() || client_secret.is_some();
        match (token, file, principal) {
            (Some(_), Some(_), _) => Err(CredentialError::Several("`AZP_TOKEN`", "`AZP_TOKEN_FILE`")),
            (Some(_), _, true) => Err(CredentialError::Several("`AZP_TOKEN`", "a service principal")),
            (_, Some(_), true) => Err(CredentialError::Several("`AZP_TOKEN_FILE`", "a service principal")),
            (Some(token), None, false) => Ok(Self::Token(token.clone())),
            (None, Some(file), false) => Self::of_file(Path::new(file)),
            (None, None, true) => {
                let id = env.get("AZP_CLIENTID").ok_or(CredentialError::Incomplete("AZP_CLIENTID"))?;
                let tenant = env.get("AZP_TENANTID").ok_or(CredentialError::Incomplete("AZP_TENANTID"))?;
                let secret = client_secret.ok_or(CredentialError::Incomplete("AZP_CLIENTSECRET"))?;
                let mut pairs = vec![
                    ("AZURE_CLIENT_ID", id),
                    ("AZURE_TENANT_ID", tenant),
                    ("AZURE_CLIENT_SECRET", secret.expose()),
                ];
                pairs.extend(env.get("AZURE_AUTHORITY_HOST").map(|host| ("AZURE_AUTHORITY_HOST", host)));
                Self::application(&pairs.into_iter().collect(), client)
            }
            (None, None, false) if env.get("AZURE_FEDERATED_TOKEN_FILE").is_some() => {
                Self::application(env, client)
            }
            (None, None, false) => Err(CredentialError::None),
        }
    }

    fn application(env: &Env, client: &Client) -> Result<Self, CredentialError> {
        for name in ["AZURE_TENANT_ID", "AZURE_CLIENT_ID"] {
            if env.get(name).is_none() {
                return Err(CredentialError::Incomplete(name));
            }
        }
        Ok(Self::Application(TokenSource::discover(env, client, None)?))
    }

    fn of_file(path: &Path) -> Result<Self, CredentialError> {
        let failed = |source| CredentialError::File { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.len() > LONGEST {
            return Err(failed(io::Error::other("the file is too large for a token")));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        if text.trim().is_empty() {
            return Err(CredentialError::Empty(path.to_owned()));
        }
        // Said before anything is registered, not when a job is about to see it.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        rustix::fs::access(folder, Access::WRITE_OK)
            .map_err(|error| CredentialError::Stays { path: path.to_owned(), source: error.into() })?;
        Ok(Self::File(path.to_owned(), Secret::new(text.trim())))
    }

    /// A token; an application's is fetched anew where the last is near its end.
    ///
    /// # Errors
    /// Microsoft Entra refuses, or someone asked to stop.
    pub fn token(&self, monitor: &dyn Monitor) -> Result<Token, CredentialError> {
        match self {
            Self::Token(secret) | Self::File(_, secret) => {
                let basic = Secret::new(STANDARD.encode(format!(":{}", secret.expose())));
                Ok(Token { secret: secret.clone(), authorization: ("Basic", basic) })
            }
            Self::Application(source) => {
                let secret = block_on(monitor, async {
                    source.token(AZURE_DEVOPS).await.map_err(CredentialError::from)
                })?;
                Ok(Token { secret: secret.clone(), authorization: ("Bearer", secret) })
            }
        }
    }

    /// Removes the token from the disk, after writing over it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn wipe(&self) -> Result<(), CredentialError> {
        let Self::File(path, _) = self else { return Ok(()) };
        let wipe = || -> io::Result<()> {
            // A file that someone else removed is as good.
            let mut file = match fs::OpenOptions::new().write(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // It may still be removed where it cannot be written.
                Err(_) => return fs::remove_file(path),
                Ok(file) => file,
            };
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&vec![0; usize::try_from(length).unwrap_or_default()])?;
            file.sync_all()?;
            fs::remove_file(path)
        };
        wipe().map_err(|source| CredentialError::Stays { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use mynah::http::Policy;

    use super::*;

    fn discover(pairs: &[(&str, &str)], token: Option<&str>) -> Result<Credential, CredentialError> {
        let client = Client::new(Policy::default()).unwrap();
        let env: Env = pairs.iter().copied().collect();
        Credential::discover(&env, token.map(Secret::new).as_ref(), None, &client)
    }

    #[test]
    fn exactly_one_way_is_taken() {
        assert!(matches!(discover(&[], Some("pat-12345")), Ok(Credential::Token(_))));
        assert!(matches!(discover(&[], None), Err(CredentialError::None)));
        let both = discover(&[("AZP_CLIENTID", "x")], Some("pat-12345"));
        assert!(matches!(both, Err(CredentialError::Several(..))));
        let half = discover(&[("AZP_CLIENTID", "x")], None);
        assert!(matches!(half, Err(CredentialError::Incomplete("AZP_TENANTID"))));
        let identity = [("AZURE_FEDERATED_TOKEN_FILE", "/nowhere"), ("AZURE_CLIENT_ID", "x")];
        assert!(matches!(discover(&identity, None), Err(CredentialError::Incomplete("AZURE_TENANT_ID"))));
    }

    #[test]
    fn a_file_is_read_and_then_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let name = path.to_str().unwrap();
        let missing = discover(&[("AZP_TOKEN_FILE", name)], None);
        assert!(matches!(missing, Err(CredentialError::File { .. })));
        fs::write(&path, " \n").unwrap();
        assert!(matches!(discover(&[("AZP_TOKEN_FILE", name)], None), Err(CredentialError::Empty(_))));
        fs::write(&path, "file-token-1\n").unwrap();
        let credential = discover(&[("AZP_TOKEN_FILE", name)], None).unwrap();
        assert_eq!(credential.token(&mynah_contracts::Quiet).unwrap().secret.expose(), "file-token-1");
        assert!(path.exists());
        credential.wipe().unwrap();
        assert!(!path.exists());
        credential.wipe().unwrap();
    }
}
