//! Which cluster, whom to trust, who signs in.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::ClusterError;
use super::exec::Exec;
use super::kubeconfig::{self, Kubeconfig};
use crate::agent::{Connection, Env};
use crate::http::Tls;
use crate::secret::Secret;

/// Where a pod finds who it is (Kubernetes, "Accessing the Kubernetes API from a Pod").
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Who signs in.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// Nobody by a header: a client certificate, or none at all.
    Nobody,
    /// A token.
    Bearer(Secret),
    /// A token in a file, which someone else renews.
    TokenFile(PathBuf),
    /// A program that gives tokens or certificates.
    Exec(Exec),
}

/// A cluster and who signs in to it.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) server: Url,
    pub(super) tls: Tls,
    pub(super) credential: Credential,
}

impl Access {
    /// The way into the cluster: a pipeline's service connection, a kubeconfig that is named, `KUBECONFIG`, the pod's own
    /// account, or `~/.kube/config`, the first there is.
    ///
    /// # Errors
    /// When there is none, or the first cannot be used.
    pub fn discover(
        env: &Env,
        connection: Option<&str>,
        file: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self, ClusterError> {
        if let Some(id) = connection {
            return Self::of_connection(&Connection::read(env, id)?, context);
        }
        if let Some(file) = file {
            return kubeconfig::read(file, context);
        }
        if let Some(list) = env.get("KUBECONFIG") {
            // kubectl merges several; the first that is there is taken here.
            let files: Vec<PathBuf> =
                std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
            if let Some(first) = files.iter().find(|path| path.is_file()).or(files.first()) {
                return kubeconfig::read(first, context);
            }
        }
        if let (Some(host), Some(port)) =
            (env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT"))
        {
            return Self::in_cluster(host, port, Path::new(IN_CLUSTER));
        }
        let home = env.get("HOME").map(|home| Path::new(home).join(".kube/config"));
        match home.filter(|path| path.is_file()) {
            Some(path) => kubeconfig::read(&path, context),
            None => Err(ClusterError::NoCluster),
        }
    }

    /// The server: scheme, host and port.
    pub fn server(&self) -> String {
        self.server.origin().ascii_serialization()
    }

    fn in_cluster(host: &str, port: &str, folder: &Path) -> Result<Self, ClusterError> {
        let refused = |why: &str| ClusterError::Kubeconfig { place: "the pod".into(), why: why.into() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let server = Url::parse(&format!("https://{host}:{port}"))
            .map_err(|_| refused("KUBERNETES_SERVICE_HOST and _PORT are no address"))?;
        let path = folder.join("ca.crt");
        let authority = std::fs::read(&path).map_err(|source| ClusterError::Io { path, source })?;
        let tls = Tls { authority: Some(authority), identity: None };
        Ok(Self { server, tls, credential: Credential::TokenFile(folder.join("token")) })
    }

    /// A service connection of Azure DevOps, of the type Kubernetes.
    ///
    /// By service account, token and certificate are kept as the Secret has them, in base64 (task source,
    /// `createKubeconfig`).
    fn of_connection(connection: &Connection, context: Option<&str>) -> Result<Self, ClusterError> {
        let place = format!("the service connection `{}`", connection.id().escape_debug());
        let refused = |why: &str| ClusterError::Kubeconfig { place: place.clone(), why: why.into() };
        let kind = connection.data("AUTHORIZATIONTYPE").unwrap_or("Kubeconfig");
        match kind {
            "Kubeconfig" => {
                let text = connection.required("KUBECONFIG")?;
                let context = context.or(connection.data("CLUSTERCONTEXT"));
                Kubeconfig { text: text.expose(), place: place.clone(), folder: None }.access(context)
            }
            "ServiceAccount" => {
                let server = connection.url().and_then(|url| Url::parse(url).ok()).filter(Url::has_host);
                let server = server.ok_or_else(|| refused("its server is no URL"))?;
                let token = STANDARD
                    .decode(connection.required("APITOKEN")?.expose().trim())
                    .ok()
                    .and_then(|token| String::from_utf8(token).ok())
                    .ok_or_else(|| refused("its token is not in base64, as a Secret has it"))?;
                let authority = match connection.parameter("SERVICEACCOUNTCERTIFICATE") {
                    Some(packed) => Some(
                        STANDARD
                            .decode(packed.expose().trim())
                            .map_err(|_| refused("its certificate is not in base64"))?,
                    ),
                    None => None,
                };
                let credential = Credential::Bearer(Secret::new(token.trim()));
                Ok(Self { server, tls: Tls { authority, identity: None }, credential })
            }
            _ => Err(connection.unsupported().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-1111-2222-3333-444455556666";

    fn connection(pairs: &[(&str, &str)]) -> Result<Access, ClusterError> {
        let env: Env =
            pairs.iter().map(|(name, value)| (name.replace("ID", ID), (*value).to_owned())).collect();
        Access::discover(&env, Some(ID), None, None)
    }

    #[test]
    fn a_service_account_comes_as_its_secret_has_it() {
        let access = connection(&[
            ("ENDPOINT_URL_ID", "https://pi.local:6443"),
            ("ENDPOINT_DATA_ID_AUTHORIZATIONTYPE", "ServiceAccount"),
            ("ENDPOINT_AUTH_SCHEME_ID", "Token"),
            ("ENDPOINT_AUTH_PARAMETER_ID_APITOKEN", "dG9rZW4tOTQxMw=="),
            ("ENDPOINT_AUTH_PARAMETER_ID_SERVICEACCOUNTCERTIFICATE", "Y2VydA=="),
        ])
        .unwrap();
        assert_eq!(access.server(), "https://pi.local:6443");
        assert_eq!(access.tls.authority.as_deref(), Some(b"cert".as_slice()));
        assert!(matches!(&access.credential, Credential::Bearer(token) if token.expose() == "token-9413"));
    }

    #[test]
    fn other_connections_are_told_apart() {
        let no_url = [
            ("ENDPOINT_DATA_ID_AUTHORIZATIONTYPE", "ServiceAccount"),
            ("ENDPOINT_AUTH_PARAMETER_ID_APITOKEN", "dG9rZW4tOTQxMw=="),
        ];
        assert!(connection(&no_url).unwrap_err().to_string().contains("no URL"));
        let azure = [
            ("ENDPOINT_AUTH_SCHEME_ID", "Kubernetes"),
            ("ENDPOINT_DATA_ID_AUTHORIZATIONTYPE", "AzureSubscription"),
        ];
        assert!(connection(&azure).unwrap_err().to_string().contains("not supported"));
        let none = [("ENDPOINT_AUTH_SCHEME_ID", "Kubernetes")];
        assert!(connection(&none).unwrap_err().to_string().contains("`KUBECONFIG`"));
    }

    #[test]
    fn a_pod_is_itself_and_nobody_is_told_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), "cert").unwrap();
        let access = Access::in_cluster("fd00::1", "443", folder.path()).unwrap();
        assert_eq!(access.server(), "https://[fd00::1]");
        let error = Access::discover(&Env::default(), None, None, None).unwrap_err();
        assert!(matches!(error, ClusterError::NoCluster));
    }
}
