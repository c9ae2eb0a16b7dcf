//! kubeconfig: clusters, users and contexts (`clientcmd/api/v1` of Kubernetes).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use url::Url;

use super::ClusterError;
use super::access::{Access, Credential};
use super::exec::Exec;
use crate::http::Tls;
use crate::secret::Secret;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(default)]
    certificate_authority: Option<PathBuf>,
    #[serde(default)]
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    #[serde(default)]
    tls_server_name: Option<String>,
    #[serde(default)]
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(default)]
    token: Option<String>,
    #[serde(default, rename = "tokenFile")]
    token_file: Option<PathBuf>,
    #[serde(default)]
    client_certificate: Option<PathBuf>,
    #[serde(default)]
    client_certificate_data: Option<String>,
    #[serde(default)]
    client_key: Option<PathBuf>,
    #[serde(default)]
    client_key_data: Option<String>,
    #[serde(default)]
    exec: Option<ExecConfig>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    auth_provider: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecConfig {
    #[serde(default)]
    api_version: String,
    command: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<Variable>>,
    #[serde(default)]
    provide_cluster_info: bool,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

/// A kubeconfig's text and where it is from.
pub(super) struct Kubeconfig<'a> {
    pub(super) text: &'a str,
    /// For messages.
    pub(super) place: String,
    /// The folder that relative paths in it are below.
    pub(super) folder: Option<PathBuf>,
}

/// Reads the kubeconfig in a file.
pub(super) fn read(path: &Path, context: Option<&str>) -> Result<Access, ClusterError> {
    let io = |source| ClusterError::Io { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(io)?.len();
    let place = format!("`{}`", path.display());
    if length > LARGEST {
        return Err(ClusterError::Kubeconfig { place, why: format!("it has {length} bytes") });
    }
    let text = fs::read_to_string(path).map_err(io)?;
    Kubeconfig { text: &text, place, folder: path.parent().map(Path::to_owned) }.access(context)
}

impl Kubeconfig<'_> {
    fn refused(&self, why: impl Into<String>) -> ClusterError {
        ClusterError::Kubeconfig { place: self.place.clone(), why: why.into() }
    }

    /// What one of its contexts says; its current one where none is named.
    pub(super) fn access(&self, context: Option<&str>) -> Result<Access, ClusterError> {
        // The parser's own words would show the lines around, which hold keys.
        let file: File =
            serde_saphyr::from_str(self.text).map_err(|_| self.refused("it is no kubeconfig in YAML"))?;
        let named = context.or(file.current_context.as_deref()).filter(|name| !name.is_empty());
        let name = named.ok_or_else(|| self.refused("it names no current context"))?;
        let shown = name.escape_debug();
        let context = file.contexts.iter().find(|context| context.name == name);
        let context = context.ok_or_else(|| {
            let known: Vec<String> =
                file.contexts.iter().map(|context| format!("`{}`", context.name.escape_debug())).collect();
            self.refused(format!("it has no context `{shown}`, but {}", known.join(", ")))
        })?;
        let (cluster, user) = (&context.context.cluster, &context.context.user);
        let cluster = file.clusters.into_iter().find(|of| of.name == *cluster).map(|of| of.cluster);
        let cluster =
            cluster.ok_or_else(|| self.refused(format!("its context `{shown}` names no cluster")))?;
        let user = match file.users.into_iter().find(|of| of.name == *user) {
            Some(found) => found.user.unwrap_or_default(),
            None if user.is_empty() => User::default(),
            None => return Err(self.refused(format!("its context `{shown}` names no user"))),
        };
        self.sign_in(&cluster, user)
    }

    fn sign_in(&self, cluster: &Cluster, user: User) -> Result<Access, ClusterError> {
        let server = Url::parse(&cluster.server)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .ok_or_else(|| self.refused("its server is no URL that begins with https://"))?;
        if cluster.insecure_skip_tls_verify {
            return Err(self.refused(
                "it asks not to look at the server's certificate; put the authority's into \
                 certificate-authority-data instead",
            ));
        }
        if cluster.tls_server_name.is_some() || cluster.proxy_url.is_some() {
            return Err(self.refused(
                "it asks for tls-server-name or proxy-url, which are not supported; HTTPS_PROXY is",
            ));
        }
        let authority = self
            .bytes(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_ref())?;
        if let Some(pem) = &authority
            && !CertificateDer::pem_slice_iter(pem).any(|found| found.is_ok())
        {
            return Err(self.refused("its certificate authority is no certificate in PEM"));
        }
        if user.auth_provider.is_some() {
            return Err(self.refused("its auth-provider was taken out of Kubernetes; use exec"));
        }
        let certificate =
            self.bytes(user.client_certificate_data.as_deref(), user.client_certificate.as_ref())?;
        let key = self.bytes(user.client_key_data.as_deref(), user.client_key.as_ref())?;
        let mut tls = Tls { authority, identity: None };
        let credential = match (user.exec, user.token_file, user.token) {
            (Some(exec), ..) => Credential::Exec(self.exec(exec, &server, tls.authority.as_deref())?),
            (None, Some(file), _) => Credential::TokenFile(self.below(&file)),
            (None, None, Some(token)) if !token.trim().is_empty() => {
                Credential::Bearer(Secret::new(token.trim()))
            }
            _ if user.username.is_some() => {
                return Err(
                    self.refused("its user has a name and a password, which no cluster takes any more")
                );
            }
            _ => Credential::Nobody,
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                tls.identity = Some(
                    identity(&certificate, &key)
                        .ok_or_else(|| self.refused("its client certificate or key is not in PEM"))?,
                );
            }
            (None, None) => {}
            _ => return Err(self.refused("its user has only one of certificate and key")),
        }
        Ok(Access { server, tls, credential })
    }

    fn exec(&self, config: ExecConfig, server: &Url, authority: Option<&[u8]>) -> Result<Exec, ClusterError> {
        if !matches!(
            config.api_version.as_str(),
            "client.authentication.k8s.io/v1" | "client.authentication.k8s.io/v1beta1"
        ) {
            return Err(self.refused("its exec plugin is of a version other than v1 and v1beta1"));
        }
        // As kubectl has it: a bare name is looked up in PATH, a relative path is below the kubeconfig.
        let program = if config.command.contains('/') {
            self.below(Path::new(&config.command))
        } else {
            PathBuf::from(config.command)
        };
        let variables: BTreeMap<String, Secret> = config
            .env
            .into_iter()
            .flatten()
            // Names of regions and profiles stand there too; masked, they would be struck out of all text.
            .map(|variable| (variable.name, Secret::unmasked(&variable.value)))
            .collect();
        let cluster = config.provide_cluster_info.then(|| {
            let mut cluster = serde_json::json!({ "server": server.as_str() });
            if let Some(authority) = authority {
                cluster["certificate-authority-data"] = STANDARD.encode(authority).into();
            }
            cluster
        });
        Ok(Exec::new(program, config.args.unwrap_or_default(), variables, config.api_version, cluster))
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.folder.as_ref().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// What is written into the file in base64, or else what another file holds.
    fn bytes(&self, data: Option<&str>, path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, ClusterError> {
        if let Some(data) = data.filter(|data| !data.trim().is_empty()) {
            let packed: String = data.split_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| self.refused("its data are not in base64"))?;
            return Ok(Some(bytes));
        }
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
        let path = self.below(path);
        let bytes = fs::read(&path).map_err(|source| ClusterError::Io { path, source })?;
        Ok(Some(bytes))
    }
}

/// A certificate and its key in one PEM text; nothing where they are none.
pub(super) fn identity(certificate: &[u8], key: &[u8]) -> Option<Secret> {
    CertificateDer::from_pem_slice(certificate).ok()?;
    PrivateKeyDer::from_pem_slice(key).ok()?;
    let text = [certificate, b"\n", key].concat();
    String::from_utf8(text).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Access, ClusterError> {
        Kubeconfig { text, place: "the test".into(), folder: Some("/etc/k".into()) }.access(None)
    }

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters:\n- name: c\n  cluster: {{{cluster}}}\n\
             users:\n- name: u\n  user: {{{user}}}\ncontexts:\n- name: here\n  context: {{cluster: c, user: u}}\n"
        )
    }

    const SERVER: &str = "server: 'https://pi.local:6443'";

    #[test]
    fn each_way_to_sign_in_is_read() {
        let pem = include_str!("../azure/auth/fixture.pem");
        let data = STANDARD.encode(pem);
        let access = read(&config(
            &format!("{SERVER}, certificate-authority-data: {data}"),
            &format!("client-certificate-data: {data}, client-key-data: {data}"),
        ))
        .unwrap();
        assert_eq!(access.server.as_str(), "https://pi.local:6443/");
        assert_eq!(access.tls.authority.as_deref(), Some(pem.as_bytes()));
        assert!(access.tls.identity.is_some() && matches!(access.credential, Credential::Nobody));
        assert!(!format!("{access:?}").contains("PRIVATE"), "{access:?}");

        let access = read(&config(SERVER, "token: token-9411")).unwrap();
        assert!(matches!(&access.credential, Credential::Bearer(token) if token.expose() == "token-9411"));
        let access = read(&config(SERVER, "token: old, tokenFile: token")).unwrap();
        assert!(
            matches!(&access.credential, Credential::TokenFile(path) if path == Path::new("/etc/k/token"))
        );
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./sign-in, args: [a], \
                    env: [{name: A, value: b}], interactiveMode: Never}";
        assert!(matches!(read(&config(SERVER, exec)).unwrap().credential, Credential::Exec(_)));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_secret() {
        let good = config(SERVER, "token: token-9411");
        for (text, says) in [
            (
                good.replace("current-context: here", "current-context: there"),
                "no context `there`, but `here`",
            ),
            (good.replace("current-context: here\n", ""), "no current context"),
            (good.replace("cluster: c,", "cluster: d,"), "names no cluster"),
            (good.replace("user: u}", "user: v}"), "names no user"),
            (good.replace("https", "ftp"), "no URL"),
            (good.replace("contexts:", "contexts: ["), "no kubeconfig"),
            (config(&format!("{SERVER}, insecure-skip-tls-verify: true"), ""), "certificate"),
            (config(&format!("{SERVER}, tls-server-name: a"), ""), "tls-server-name"),
            (config(&format!("{SERVER}, certificate-authority-data: aGVsbG8="), ""), "no certificate"),
            (config(SERVER, "client-certificate-data: '!'"), "base64"),
            (config(SERVER, "client-key-data: aGVsbG8="), "only one"),
            (config(SERVER, "username: a, password: token-9411"), "a name and a password"),
            (config(SERVER, "auth-provider: {name: gcp}"), "auth-provider"),
            (
                config(SERVER, "exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: a}"),
                "version",
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("9411"), "{error}");
        }
    }
}
