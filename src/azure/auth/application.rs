//! Signing in as an application: a service principal with a secret, a certificate or a federated token
//! (Microsoft identity platform, OAuth 2.0 client credentials flow).

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::Token;
use super::certificate::Certificate;
use super::error::AuthError;
use crate::agent::{Connection, Env};
use crate::http::{Client, Repeat, Request};
use crate::secret::Secret;

/// RFC 7523, 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An application in a tenant, and how it proves to be itself.
#[derive(Debug)]
pub(super) struct Application {
    who: String,
    tenant: String,
    endpoint: Url,
    client_id: String,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Secret(Secret),
    Certificate(Certificate),
    /// A file with a token that someone else keeps fresh, as in Kubernetes.
    File(PathBuf),
    /// A token the pipeline gives for its service connection.
    Pipeline(Box<PipelineToken>),
}

/// Where a pipeline gives federated tokens.
#[derive(Debug)]
struct PipelineToken {
    endpoint: Url,
    job_token: Secret,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Federated {
    oidc_token: String,
}

impl Application {
    /// The application of `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`, if the environment also holds its proof.
    pub(super) fn of_environment(env: &Env) -> Result<Option<Self>, AuthError> {
        let (Some(tenant), Some(client_id)) = (env.get("AZURE_TENANT_ID"), env.get("AZURE_CLIENT_ID")) else {
            return Ok(None);
        };
        let who = format!("the application `{}`", client_id.escape_debug());
        let proof = if let Some(secret) = env.get("AZURE_CLIENT_SECRET") {
            Proof::Secret(Secret::new(secret))
        } else if let Some(path) = env.get("AZURE_CLIENT_CERTIFICATE_PATH") {
            let pem = std::fs::read_to_string(path)
                .map_err(|source| AuthError::File { path: path.into(), source })?;
            Proof::Certificate(Certificate::read(&pem, &who)?)
        } else if let Some(path) = env.get("AZURE_FEDERATED_TOKEN_FILE") {
            Proof::File(path.into())
        } else {
            return Ok(None);
        };
        Ok(Some(Self::new(who, tenant, client_id, &authority(env, None), proof)?))
    }

    /// The application of an Azure service connection.
    pub(super) fn of_connection(env: &Env, connection: &Connection) -> Result<Self, AuthError> {
        let who = format!("the service connection `{}`", connection.id());
        let tenant = connection.required("TENANTID")?.expose();
        let client_id = connection.required("SERVICEPRINCIPALID")?.expose();
        let proof = match connection.scheme() {
            "WorkloadIdentityFederation" => Proof::Pipeline(Box::new(PipelineToken::of(env, connection)?)),
            "ServicePrincipal" | "" => {
                let kind = connection.parameter("AUTHENTICATIONTYPE").map(Secret::expose).unwrap_or_default();
                if kind.eq_ignore_ascii_case("spnCertificate") {
                    let pem = connection.required("SERVICEPRINCIPALCERTIFICATE")?;
                    Proof::Certificate(Certificate::read(pem.expose(), &who)?)
                } else {
                    Proof::Secret(connection.required("SERVICEPRINCIPALKEY")?.clone())
                }
            }
            _ => return Err(connection.unsupported().into()),
        };
        Self::new(who, tenant, client_id, &authority(env, Some(connection)), proof)
    }

    fn new(
        who: String,
        tenant: &str,
        client_id: &str,
        authority: &str,
        proof: Proof,
    ) -> Result<Self, AuthError> {
        let refused = |name: &str, value: &str, expected| AuthError::Variable {
            name: name.to_owned(),
            value: value.escape_debug().to_string(),
            expected,
        };
        if tenant.is_empty() || !tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
            return Err(refused("tenant", tenant, "a tenant's id or domain name"));
        }
        let endpoint = Url::parse(&format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')))
            .map_err(|_| refused("authority", authority, "an https address"))?;
        Ok(Self { who, tenant: tenant.to_owned(), endpoint, client_id: client_id.to_owned(), proof })
    }

    pub(super) fn who(&self) -> &str {
        &self.who
    }

    pub(super) async fn fetch(&self, client: &Client, scope: &str) -> Result<Token, AuthError> {
        let failed = |source| AuthError::SignIn { who: self.who.clone(), source };
        let (kind, proof) = match &self.proof {
            Proof::Secret(secret) => ("client_secret", secret.clone()),
            Proof::Certificate(certificate) => {
                let audience = self.endpoint.as_str();
                ("client_assertion", certificate.assertion(&self.client_id, audience, &self.who)?)
            }
            Proof::File(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| AuthError::File { path: path.clone(), source })?;
                ("client_assertion", Secret::new(text.trim()))
            }
            Proof::Pipeline(pipeline) => ("client_assertion", pipeline.fetch(client).await.map_err(failed)?),
        };
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("scope", scope),
            (kind, proof.expose()),
        ];
        if kind == "client_assertion" {
            fields.push(("client_assertion_type", ASSERTION));
        }
        // Asking twice gives two tokens, which harms nobody.
        let request = Request::post(self.endpoint.clone()).form(&fields).repeat(Repeat::Always);
        let granted: Granted =
            client.send(&request).await.and_then(|response| response.json()).map_err(failed)?;
        tracing::debug!("the tenant `{}` gave a token for `{scope}`", self.tenant.escape_debug());
        Ok(Token::ending_in(Secret::new(granted.access_token), granted.expires_in))
    }
}

impl PipelineToken {
    fn of(env: &Env, connection: &Connection) -> Result<Self, AuthError> {
        let job_token = [
            "ENDPOINT_AUTH_PARAMETER_SYSTEMVSSCONNECTION_ACCESSTOKEN",
            "SYSTEM_ACCESSTOKEN",
            "SECRET_SYSTEM_ACCESSTOKEN",
        ]
        .into_iter()
        .find_map(|name| env.get(name))
        .ok_or(AuthError::NoJobToken("SYSTEM_ACCESSTOKEN"))?;
        let needed = |name: &'static str| env.get(name).ok_or(AuthError::NoJobToken(name));
        let address = match env.get("SYSTEM_OIDCREQUESTURI") {
            Some(address) => address.to_owned(),
            // Servers that do not set it have the operation all the same (Azure DevOps REST, `oidctoken`).
            None => format!(
                "{}/{}/_apis/distributedtask/hubs/{}/plans/{}/jobs/{}/oidctoken",
                needed("SYSTEM_COLLECTIONURI")?.trim_end_matches('/'),
                needed("SYSTEM_TEAMPROJECTID")?,
                needed("SYSTEM_HOSTTYPE")?,
                needed("SYSTEM_PLANID")?,
                needed("SYSTEM_JOBID")?,
            ),
        };
        let mut endpoint = Url::parse(&address).map_err(|_| AuthError::Variable {
            name: "SYSTEM_OIDCREQUESTURI".into(),
            value: address.escape_debug().to_string(),
            expected: "an https address",
        })?;
        endpoint
            .query_pairs_mut()
            .append_pair("api-version", "7.1")
            .append_pair("serviceConnectionId", connection.id());
        Ok(Self { endpoint, job_token: Secret::new(job_token) })
    }

    async fn fetch(&self, client: &Client) -> Result<Secret, crate::http::HttpError> {
        let request = Request::post(self.endpoint.clone())
            .bearer(&self.job_token)
            .header("content-type", "application/json")
            // Without it a refusal may be a redirection to a page for people.
            .header("x-tfs-fedauthredirect", "Suppress")
            .repeat(Repeat::Always);
        let federated: Federated = client.send(&request).await?.json()?;
        Ok(Secret::new(federated.oidc_token))
    }
}

/// The authority of a connection's or the environment's cloud.
pub(crate) fn authority(env: &Env, connection: Option<&Connection>) -> String {
    let of_cloud = |name: &str| match name {
        "AzureChinaCloud" => Some("https://login.chinacloudapi.cn"),
        "AzureUSGovernment" => Some("https://login.microsoftonline.us"),
        _ => None,
    };
    connection
        .and_then(|connection| {
            connection
                .data("ACTIVEDIRECTORYAUTHORITY")
                .or_else(|| connection.data("ENVIRONMENTAUTHORITYURL"))
                .or_else(|| connection.data("ENVIRONMENT").and_then(of_cloud))
        })
        .or_else(|| env.get("AZURE_AUTHORITY_HOST"))
        .map_or_else(
            || "https://login.microsoftonline.com".to_owned(),
            // The variable may be a bare host name.
            |host| if host.contains("://") { host.to_owned() } else { format!("https://{host}") },
        )
}
