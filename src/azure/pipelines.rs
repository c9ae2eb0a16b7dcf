//! Azure Pipelines, as far as a trigger needs it: which runs there are, and one more
//! (Azure DevOps REST API 7.1, `Builds - List` and `Runs - Run Pipeline`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::{Diagnosis, FaultKind};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::auth::{AuthError, TokenSource, scope};
use crate::agent::Env;
use crate::http::{Client, HttpError, Request, Response};
use crate::secret::Secret;

/// The variable that holds a personal access token; the Azure CLI's extension for Azure DevOps reads the same.
pub const TOKEN_VARIABLE: &str = "AZURE_DEVOPS_EXT_PAT";

const VERSION: &str = "7.1";

/// How many of the newest runs are looked at.
const LOOKED_AT: &str = "50";

/// Which pipeline is started, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineRef {
    /// The organisation or collection, such as `https://dev.azure.com/contoso`.
    pub organization: Url,
    /// The project's name or id.
    pub project: String,
    /// The pipeline's number, the `definitionId` of its address.
    pub id: u64,
    /// The branch whose runs are looked at and started, such as `refs/heads/main`.
    pub branch: String,
    /// Parameters of the pipeline's templates.
    pub parameters: BTreeMap<String, String>,
}

/// The runs of a pipeline's branch that do the same as one we would start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The newest run's number, whatever became of it. Numbers grow with every run of an organisation.
    pub newest: Option<u64>,
    /// A run that is queued and has not started.
    pub waiting: Option<u64>,
}

/// Why a pipeline cannot be looked at or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelinesError {
    /// Nobody to sign in as.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The service refused, or did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Azure DevOps shows its sign-in page to callers that it does not know.
    #[error("Azure DevOps does not know the caller of pipeline {0}")]
    Stranger(u64),
}

impl PipelinesError {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Http(error) => error.status(),
            Self::Stranger(_) => Some(401),
            Self::Auth(_) => None,
        }
    }
}

impl Diagnosis for PipelinesError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Auth(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::Stranger(_) => FaultKind::ServiceRefused,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match (self, self.status()) {
            (Self::Auth(error), _) => return error.hint(),
            (_, Some(401)) => {
                "add the identity to the organisation's users, or give a token that has not expired and may read and execute builds"
            }
            (_, Some(403)) => "give the identity `View builds` and `Queue builds` on the pipeline",
            (_, Some(404)) => {
                "check organisation, project and the pipeline's number; what one may not see is not found either"
            }
            (_, Some(400)) => "check the branch, and that the pipeline has the parameters",
            // Whoever asks goes on asking by itself.
            (_, Some(500..)) | (Self::Stranger(_), _) => return None,
            (Self::Http(error), _) => return error.hint(),
        };
        Some(hint.into())
    }
}

/// A pipeline that can be looked at and started.
#[derive(Clone, Debug)]
pub struct Pipeline {
    client: Client,
    place: PipelineRef,
    sign_in: SignIn,
}

#[derive(Clone, Debug)]
enum SignIn {
    /// A personal access token, encoded for the `Basic` scheme.
    Personal(Secret),
    Entra(TokenSource),
}

#[derive(Deserialize)]
struct Builds {
    value: Vec<Build>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    id: u64,
    status: String,
    #[serde(default)]
    template_parameters: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Queued {
    id: u64,
}

impl Pipeline {
    /// Signs in with [`TOKEN_VARIABLE`] where it is set, else as [`TokenSource::discover`] finds; nothing is sent yet.
    ///
    /// # Errors
    /// An environment that is incomplete.
    pub fn new(place: PipelineRef, env: &Env, client: Client) -> Result<Self, AuthError> {
        let sign_in = match env.get(TOKEN_VARIABLE) {
            Some(token) => {
                let token = Secret::new(token);
                SignIn::Personal(Secret::new(STANDARD.encode(format!(":{}", token.expose()))))
            }
            None => SignIn::Entra(TokenSource::discover(env, &client, None)?),
        };
        Ok(Self { client, place, sign_in })
    }

    /// The runs there are of the branch. Runs that were given another value for one of our parameters do other work
    /// and are left out.
    ///
    /// # Errors
    /// Azure DevOps refuses or does not answer.
    pub async fn runs(&self) -> Result<Runs, PipelinesError> {
        let request = Request::get(self.url(&["build", "builds"]))
            .query("definitions", &self.place.id.to_string())
            .query("branchName", &self.place.branch)
            .query("queryOrder", "queueTimeDescending")
            .query("$top", LOOKED_AT);
        let builds: Builds = self.send(request).await?.json()?;
        let mut runs = Runs::default();
        for build in builds.value.iter().filter(|build| self.does_the_same(build)) {
            runs.newest = runs.newest.max(Some(build.id));
            if build.status == "notStarted" {
                runs.waiting = runs.waiting.max(Some(build.id));
            }
        }
        Ok(runs)
    }

    /// Queues a run and gives its number.
    ///
    /// # Errors
    /// Azure DevOps refuses, or what it made of the request is not known: then [`Pipeline::runs`] tells.
    pub async fn queue(&self) -> Result<u64, PipelinesError> {
        let id = self.place.id.to_string();
        let mut body = json!({"resources": {"repositories": {"self": {"refName": self.place.branch}}}});
        if !self.place.parameters.is_empty() {
            body["templateParameters"] = json!(self.place.parameters);
        }
        let request = Request::post(self.url(&["pipelines", &id, "runs"])).json(&body);
        let queued: Queued = self.send(request).await?.json()?;
        Ok(queued.id)
    }

    fn does_the_same(&self, build: &Build) -> bool {
        let given = build.template_parameters.as_ref();
        self.place.parameters.iter().all(|(name, value)| {
            match given.and_then(|given| given.get(name)) {
                // Not told: a run by schedule or by an older server.
                None => true,
                Some(serde_json::Value::String(text)) => text == value,
                Some(other) => {
                    serde_json::from_str(value).is_ok_and(|value: serde_json::Value| value == *other)
                }
            }
        })
    }

    fn url(&self, api: &[&str]) -> Url {
        let mut url = self.place.organization.clone();
        // An address with a host always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&self.place.project).push("_apis").extend(api);
        }
        url
    }

    async fn send(&self, request: Request) -> Result<Response, PipelinesError> {
        // Without the header a refusal is a redirection to a page for people.
        let request = request.query("api-version", VERSION).header("x-tfs-fedauthredirect", "Suppress");
        let answer = match &self.sign_in {
            SignIn::Personal(token) => self.client.send(&request.authorization("Basic", token)).await?,
            SignIn::Entra(source) => {
                let token = source.token(scope::DEVOPS).await?;
                let answer = self.client.send(&request.bearer(&token)).await;
                if answer.as_ref().is_err_and(|error| error.status() == Some(401)) {
                    // The next try, which the caller makes, has a fresh one.
                    source.forget(scope::DEVOPS).await;
                }
                answer?
            }
        };
        // 203 is the sign-in page.
        if answer.status() == 203 { Err(PipelinesError::Stranger(self.place.id)) } else { Ok(answer) }
    }
}
