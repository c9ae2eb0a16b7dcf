//! A service connection, as the agent hands it to a task whose input names it.
//!
//! The input's value is the connection's id; what belongs to it is in `ENDPOINT_URL_<id>`, `ENDPOINT_AUTH_<id>`
//! (JSON), `ENDPOINT_AUTH_SCHEME_<id>`, `ENDPOINT_AUTH_PARAMETER_<id>_<KEY>` and `ENDPOINT_DATA_<id>_<KEY>`, the keys
//! in upper case (agent source, `Handler.AddEndpointsToEnvironment`).

use std::collections::BTreeMap;

use mynah_contracts::{Diagnosis, FaultKind};
use serde::Deserialize;

use super::Env;
use crate::secret::Secret;

/// A service connection.
#[derive(Clone, Debug)]
pub struct Connection {
    id: String,
    scheme: String,
    url: Option<String>,
    parameters: BTreeMap<String, Secret>,
    data: BTreeMap<String, String>,
}

/// Why a service connection cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The agent gave nothing under this id.
    #[error("the service connection `{0}` is not known to this job")]
    Unknown(String),
    /// Something that belongs to it is not there.
    #[error("the service connection `{id}` has no `{key}`")]
    Missing {
        /// The connection.
        id: String,
        /// What is missing.
        key: &'static str,
    },
    /// Its way of signing in is not one we know.
    #[error("the service connection `{id}` signs in by `{scheme}`, which is not supported")]
    Scheme {
        /// The connection.
        id: String,
        /// Its scheme.
        scheme: String,
    },
}

impl Diagnosis for ConnectionError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown(_) => {
                "name the service connection in the task's input, and authorise the pipeline to use it".into()
            }
            Self::Missing { .. } => {
                "open the service connection in the project's settings, then verify and save it".into()
            }
            Self::Scheme { .. } => {
                "use a connection with workload identity federation, a service principal or a managed identity".into()
            }
        })
    }
}

#[derive(Deserialize)]
struct Authorization {
    #[serde(default)]
    scheme: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Option<String>>,
}

impl Connection {
    /// Reads the connection `id` out of what the agent gave this process.
    ///
    /// # Errors
    /// [`ConnectionError::Unknown`] where the agent gave nothing under this id.
    pub fn read(env: &Env, id: &str) -> Result<Self, ConnectionError> {
        // The agent writes ids as it got them: GUIDs in lower case.
        let spelled = [id.to_owned(), id.to_ascii_lowercase(), id.to_ascii_uppercase()];
        let known = |id: &&String| {
            ["ENDPOINT_AUTH_", "ENDPOINT_AUTH_SCHEME_", "ENDPOINT_URL_"]
                .iter()
                .any(|prefix| env.get(&format!("{prefix}{id}")).is_some())
                || env.starting_with(&format!("ENDPOINT_AUTH_PARAMETER_{id}_")).next().is_some()
        };
        let Some(id) = spelled.iter().find(known) else {
            return Err(ConnectionError::Unknown(id.escape_debug().to_string()));
        };
        let whole = env
            .get(&format!("ENDPOINT_AUTH_{id}"))
            .and_then(|text| serde_json::from_str::<Authorization>(text).ok());
        let mut data: BTreeMap<String, String> = env
            .starting_with(&format!("ENDPOINT_DATA_{id}_"))
            .map(|(key, value)| (key.to_ascii_uppercase(), value.to_owned()))
            .collect();
        let mut parameters = BTreeMap::new();
        let mut take = |key: String, value: String| {
            if is_public(&key) {
                data.insert(key, value);
            } else {
                parameters.insert(key, secret(value));
            }
        };
        let mut scheme = env.get(&format!("ENDPOINT_AUTH_SCHEME_{id}")).map(str::to_owned);
        if let Some(whole) = whole {
            scheme = scheme.or(whole.scheme);
            for (key, value) in whole.parameters {
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    take(key.to_ascii_uppercase(), value);
                }
            }
        }
        for (key, value) in env.starting_with(&format!("ENDPOINT_AUTH_PARAMETER_{id}_")) {
            take(key.to_ascii_uppercase(), value.to_owned());
        }
        Ok(Self {
            id: id.clone(),
            scheme: scheme.unwrap_or_default(),
            url: env.get(&format!("ENDPOINT_URL_{id}")).map(str::to_owned),
            parameters,
            data,
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it signs in, such as `WorkloadIdentityFederation`; empty where the agent does not say.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The service's address.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// A parameter of the sign-in; `key` in upper case.
    pub fn parameter(&self, key: &str) -> Option<&Secret> {
        self.parameters.get(key)
    }

    /// A parameter that must be there.
    pub fn required(&self, key: &'static str) -> Result<&Secret, ConnectionError> {
        self.parameter(key).ok_or_else(|| ConnectionError::Missing { id: self.id.clone(), key })
    }

    /// Something else about it, or a parameter that is no secret; `key` in upper case.
    pub fn data(&self, key: &str) -> Option<&str> {
        self.data.get(key).map(String::as_str)
    }

    /// The error about a way of signing in that nobody here knows.
    pub fn unsupported(&self) -> ConnectionError {
        ConnectionError::Scheme { id: self.id.clone(), scheme: self.scheme.escape_debug().to_string() }
    }
}

/// Parameters of the sign-in that are no secrets. Masked, a registry's name would be struck out of every image's.
const PUBLIC: [&str; 7] =
    ["CLUSTERCONTEXT", "EMAIL", "ISCREATEDFROMSECRETYAML", "LOGINSERVER", "REGISTRY", "SCHEME", "USERNAME"];

/// Whether a parameter of the sign-in is no secret; `key` in upper case.
pub(super) fn is_public(key: &str) -> bool {
    PUBLIC.contains(&key)
}

/// Ids and subscriptions stand among the parameters too; the agent masks them all, and so do we.
fn secret(value: impl Into<std::sync::Arc<str>>) -> Secret {
    Secret::new(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-1111-2222-3333-444455556666";

    #[test]
    fn variables_and_json_are_read_and_ids_in_any_case() {
        let auth = r#"{"scheme":"ServicePrincipal","parameters":{"tenantid":"t-1","serviceprincipalkey":"json-key","gone":null}}"#;
        let env: Env = [
            (format!("ENDPOINT_AUTH_{ID}"), auth.to_owned()),
            (format!("ENDPOINT_AUTH_PARAMETER_{ID}_SERVICEPRINCIPALKEY"), "variable-key".to_owned()),
            (format!("ENDPOINT_DATA_{ID}_SUBSCRIPTIONID"), "s".to_owned()),
            (format!("ENDPOINT_URL_{ID}"), "https://management.example/".to_owned()),
        ]
        .into_iter()
        .collect();
        let connection = Connection::read(&env, &ID.to_uppercase()).unwrap();
        assert_eq!(connection.id(), ID);
        assert_eq!(connection.scheme(), "ServicePrincipal");
        assert_eq!(connection.url(), Some("https://management.example/"));
        assert_eq!(connection.required("TENANTID").unwrap().expose(), "t-1");
        assert_eq!(connection.parameter("SERVICEPRINCIPALKEY").unwrap().expose(), "variable-key");
        assert_eq!(connection.data("SUBSCRIPTIONID"), Some("s"));
        assert_eq!(connection.parameter("GONE"), None);
        assert_eq!(
            connection.required("X").unwrap_err().to_string(),
            format!("the service connection `{ID}` has no `X`")
        );
        assert!(!format!("{connection:?}").contains("variable-key"));
    }

    #[test]
    fn a_registry_and_its_user_are_no_secrets() {
        let env: Env = [
            (format!("ENDPOINT_AUTH_PARAMETER_{ID}_REGISTRY"), "registry-9411.example"),
            (format!("ENDPOINT_AUTH_PARAMETER_{ID}_PASSWORD"), "password-9411"),
            (format!("ENDPOINT_AUTH_SCHEME_{ID}"), "UsernamePassword"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
        let connection = Connection::read(&env, ID).unwrap();
        assert_eq!(connection.data("REGISTRY"), Some("registry-9411.example"));
        assert_eq!(connection.parameter("REGISTRY"), None);
        assert_eq!(env.secrets(), ["password-9411"]);
        let hidden = crate::secret::Masks::process().hide("registry-9411.example password-9411").into_owned();
        assert_eq!(hidden, "registry-9411.example ***");
    }

    #[test]
    fn what_the_job_was_not_given_is_unknown() {
        let error = Connection::read(&Env::default(), "mine").unwrap_err();
        assert_eq!(error, ConnectionError::Unknown("mine".into()));
        assert!(error.hint().unwrap().contains("authorise"));
    }
}
