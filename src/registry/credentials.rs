//! Who signs in to a registry: a service connection, the environment, what `docker login` keeps, Azure, or nobody.

use mynah_contracts::Monitor;

use super::RegistryError;
use super::address::Address;
use super::docker_config;
use crate::agent::{Connection, ConnectionError, Env};
use crate::azure::auth::{TokenSource, scope};
use crate::http::Client;
use crate::secret::Secret;

/// The ends of the names of Azure Container Registries, in the three clouds.
const AZURE_REGISTRIES: [&str; 3] = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];

/// The variable with the user.
const USER: &str = "MYNAH_REGISTRY_USER";

/// The variable with the password, or a token in its place.
const PASSWORD: &str = "MYNAH_REGISTRY_PASSWORD";

/// How to sign in.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// Nobody: public repositories, or registries that let anyone in.
    Anonymous,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token of the registry's token service.
    IdentityToken(Secret),
    /// A Microsoft Entra identity with a role on an Azure Container Registry.
    Entra {
        /// Gives its tokens.
        source: TokenSource,
        /// Its tenant, where that is known.
        tenant: Option<String>,
    },
}

/// How this process signs in to registries.
#[derive(Clone)]
pub struct SignIn {
    env: Env,
    connection: Option<String>,
    insecure: bool,
}

impl SignIn {
    /// With what `env` holds, or with its service connection `connection` and nothing else. With `insecure`,
    /// registries other than this machine are spoken to without encryption too.
    pub fn new(env: Env, connection: Option<String>, insecure: bool) -> Self {
        Self { env, connection, insecure }
    }

    pub(super) fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Who signs in to the registry at `address`.
    ///
    /// # Errors
    /// When the service connection is unknown, incomplete or for another registry, and when what is kept cannot be
    /// read.
    pub(super) fn credentials(
        &self,
        address: &Address,
        client: &Client,
        monitor: &dyn Monitor,
    ) -> Result<Credentials, RegistryError> {
        if let Some(id) = &self.connection {
            return self.of_connection(id, address, client);
        }
        match (self.env.get(USER), self.env.get(PASSWORD)) {
            (Some(user), Some(password)) => {
                return Ok(Credentials::Password { user: user.into(), password: Secret::new(password) });
            }
            (None, None) => {}
            (user, _) => {
                let (there, missing) = if user.is_some() { (USER, PASSWORD) } else { (PASSWORD, USER) };
                return Err(RegistryError::Credentials {
                    source_of_them: format!("the variable `{there}`"),
                    problem: format!("needs `{missing}` beside it"),
                });
            }
        }
        if let Some(kept) = docker_config::find(address.name(), &self.env, monitor)? {
            return Ok(kept);
        }
        if is_azure(address.name()) {
            let source = TokenSource::discover(&self.env, client, None)?;
            return Ok(Credentials::Entra {
                source,
                tenant: self.env.get("AZURE_TENANT_ID").map(Into::into),
            });
        }
        Ok(Credentials::Anonymous)
    }

    fn of_connection(
        &self,
        id: &str,
        address: &Address,
        client: &Client,
    ) -> Result<Credentials, RegistryError> {
        let connection = Connection::read(&self.env, id)?;
        let refuse = |problem: String| RegistryError::Credentials {
            source_of_them: format!("the service connection `{}`", connection.id()),
            problem,
        };
        // Credentials go to the registry they were made for, and to no other.
        if let Some(registry) = connection.data("LOGINSERVER").or_else(|| connection.data("REGISTRY")) {
            let host = docker_config::host_of(registry);
            if Address::of(host, false).is_none_or(|made_for| made_for.name() != address.name()) {
                return Err(refuse(format!("is for the registry `{host}`, not for `{}`", address.name())));
            }
        }
        // Connections of the type Azure Container Registry may hold their scheme among the parameters.
        let scheme = connection.data("SCHEME").unwrap_or_else(|| connection.scheme());
        let (user, password) = match scheme {
            "WorkloadIdentityFederation" | "ManagedServiceIdentity" => {
                let tenant = connection.parameter("TENANTID").map(|tenant| tenant.expose().to_owned());
                let source = TokenSource::discover(&self.env, client, Some(id))?;
                return Ok(Credentials::Entra { source, tenant });
            }
            "ServicePrincipal" => {
                let user = connection.required("SERVICEPRINCIPALID")?.expose();
                (user, connection.required("SERVICEPRINCIPALKEY")?)
            }
            _ => {
                let missing = || ConnectionError::Missing { id: connection.id().to_owned(), key: "USERNAME" };
                (connection.data("USERNAME").ok_or_else(missing)?, connection.required("PASSWORD")?)
            }
        };
        Ok(Credentials::Password { user: user.to_owned(), password: password.clone() })
    }
}

impl Credentials {
    /// A Microsoft Entra token for the exchange.
    ///
    /// # Errors
    /// When nobody can be signed in.
    pub(super) async fn entra_token(source: &TokenSource) -> Result<Secret, RegistryError> {
        Ok(source.token(scope::CONTAINER_REGISTRY).await?)
    }
}

fn is_azure(registry: &str) -> bool {
    AZURE_REGISTRIES.iter().any(|end| registry.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Policy;
    use mynah_contracts::{Diagnosis as _, FaultKind, Quiet};

    fn found(
        pairs: &[(&str, &str)],
        connection: Option<&str>,
        registry: &str,
    ) -> Result<Credentials, RegistryError> {
        let sign_in = SignIn::new(pairs.iter().copied().collect(), connection.map(Into::into), false);
        let address = Address::of(registry, false).unwrap();
        sign_in.credentials(&address, &Client::new(Policy::default()).unwrap(), &Quiet)
    }

    fn password(found: Credentials) -> (String, String) {
        match found {
            Credentials::Password { user, password } => (user, password.expose().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_environment_is_taken_whole_or_not_at_all() {
        let both = [(USER, "ada"), (PASSWORD, "pass-word")];
        assert_eq!(password(found(&both, None, "r.example").unwrap()), ("ada".into(), "pass-word".into()));
        let error = found(&both[..1], None, "r.example").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the variable `MYNAH_REGISTRY_USER` needs `MYNAH_REGISTRY_PASSWORD` beside it"
        );
        assert!(matches!(found(&[], None, "r.example"), Ok(Credentials::Anonymous)));
        assert!(matches!(found(&[], None, "mine.azurecr.io"), Ok(Credentials::Entra { .. })));
    }

    #[test]
    fn a_service_connection_signs_in_to_its_own_registry_only() {
        let env = [
            ("ENDPOINT_AUTH_SCHEME_abc", "UsernamePassword"),
            ("ENDPOINT_AUTH_PARAMETER_abc_REGISTRY", "https://index.docker.io/v1/"),
            ("ENDPOINT_AUTH_PARAMETER_abc_USERNAME", "ada-of-hub"),
            ("ENDPOINT_AUTH_PARAMETER_abc_PASSWORD", "pass-word"),
        ];
        let hub = found(&env, Some("abc"), "docker.io").unwrap();
        assert_eq!(password(hub), ("ada-of-hub".into(), "pass-word".into()));
        let error = found(&env, Some("abc"), "r.example").unwrap_err();
        assert!(
            error.to_string().contains("is for the registry `docker.io`, not for `r.example`"),
            "{error}"
        );
        assert_eq!(error.kind(), FaultKind::BadInput);
        assert_eq!(found(&env, Some("other"), "docker.io").unwrap_err().kind(), FaultKind::BadInput);
    }

    #[test]
    fn connections_to_azure_sign_in_by_key_or_by_identity() {
        let with = |scheme: (&'static str, &'static str), rest: &[(&'static str, &'static str)]| {
            let mut env = vec![("ENDPOINT_AUTH_PARAMETER_a_LOGINSERVER", "mine.azurecr.io"), scheme];
            env.extend_from_slice(rest);
            found(&env, Some("a"), "mine.azurecr.io").unwrap()
        };
        let key = with(
            ("ENDPOINT_AUTH_SCHEME_a", "ServicePrincipal"),
            &[
                ("ENDPOINT_AUTH_PARAMETER_a_SERVICEPRINCIPALID", "application-id"),
                ("ENDPOINT_AUTH_PARAMETER_a_SERVICEPRINCIPALKEY", "application-key"),
            ],
        );
        assert_eq!(password(key), ("application-id".into(), "application-key".into()));
        let federated = with(
            ("ENDPOINT_AUTH_SCHEME_a", "WorkloadIdentityFederation"),
            &[
                ("ENDPOINT_AUTH_PARAMETER_a_TENANTID", "tenant-1"),
                ("ENDPOINT_AUTH_PARAMETER_a_SERVICEPRINCIPALID", "application-id"),
                ("SYSTEM_ACCESSTOKEN", "job-token"),
                ("SYSTEM_OIDCREQUESTURI", "https://dev.example/oidc"),
            ],
        );
        assert!(matches!(federated, Credentials::Entra { tenant: Some(tenant), .. } if tenant == "tenant-1"));
    }
}
