//! The client: sends requests, repeats those that may be repeated.

use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use tracing::debug;

use super::policy::Budget;
use super::proxy::AgentProxy;
use super::{HttpError, Incoming, Policy, Refusal, Request, Response};
use crate::agent::Env;
use crate::secret::Secret;

/// How many redirections are followed.
const REDIRECTIONS: usize = 5;

/// How much of a refusal's body is read, in bytes.
const REFUSAL: u64 = 64 << 10;

/// How long a refusal's words are waited for.
const REFUSAL_WAIT: Duration = Duration::from_secs(10);

/// Sends requests under one [`Policy`]. Clones share connections and the budget.
///
/// Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, else from the agent; certificates from the system, or from
/// `SSL_CERT_FILE`.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    policy: Policy,
    budget: Arc<Budget>,
}

/// What a try ended in, when not in an answer.
struct Failure {
    error: HttpError,
    /// Whether another try may be made.
    again: bool,
    /// How long the service asks to wait.
    asked: Option<Duration>,
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self { error, again: false, asked: None }
    }
}

/// Whom a client trusts in place of the system's authorities, and who it is itself. Both in PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The certificates of the only authorities that are trusted; the system's where there are none.
    pub authority: Option<Vec<u8>>,
    /// This client's certificate with its private key.
    pub identity: Option<Secret>,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// Where the system has no certificates that can be read, or the agent tells a proxy that is none.
    pub fn new(policy: Policy) -> Result<Self, HttpError> {
        Self::with_tls(policy, &Tls::default())
    }

    /// Makes a client for a service with an authority of its own, or one that wants a certificate.
    ///
    /// # Errors
    /// Where a certificate or key cannot be read.
    pub fn with_tls(policy: Policy, tls: &Tls) -> Result<Self, HttpError> {
        install_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("mynah/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(policy.connect)
            .read_timeout(policy.idle)
            // Followed here, where it is known which headers another host may see.
            .redirect(reqwest::redirect::Policy::none());
        if !policy.proxy {
            builder = builder.no_proxy();
        } else if let Some(proxy) = AgentProxy::of(&Env::capture())? {
            builder = builder.proxy(proxy.into_proxy());
        }
        if let Some(pem) = &tls.authority {
            let trusted = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Setup)?;
            builder = builder.tls_certs_only(trusted);
        }
        if let Some(pem) = &tls.identity {
            let identity = reqwest::Identity::from_pem(pem.expose().as_bytes()).map_err(HttpError::Setup)?;
            builder = builder.identity(identity);
        }
        let inner = builder.build().map_err(HttpError::Setup)?;
        let budget = Arc::new(Budget::new(policy.budget));
        Ok(Self { inner, policy, budget })
    }

    /// Sends a request and reads the whole answer, of at most [`Policy::largest_body`] bytes.
    pub async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let (answer, body) = self.tried(request, true).await?;
        Ok(Response {
            request: request.shown(),
            url: answer.url().clone(),
            status: answer.status(),
            headers: answer.headers().clone(),
            body,
        })
    }

    /// Sends a request and leaves the body to be read as it arrives; nothing is repeated once it is arriving.
    pub async fn open(&self, request: &Request) -> Result<Incoming, HttpError> {
        let (response, _) = self.tried(request, false).await?;
        Ok(Incoming { request: request.shown(), response })
    }

    async fn tried(&self, request: &Request, whole: bool) -> Result<(reqwest::Response, Vec<u8>), HttpError> {
        request.check()?;
        let limit = request.deadline.unwrap_or(self.policy.deadline);
        let deadline = Instant::now() + limit;
        let most = request.tries.unwrap_or(self.policy.tries);
        let mut tries = 1;
        loop {
            let outcome = tokio::time::timeout_at(deadline, self.attempt(request, whole)).await;
            let failure = match outcome {
                Err(_) => return Err(HttpError::Deadline { request: request.shown(), limit }),
                Ok(Ok(answer)) => {
                    self.budget.answered();
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
            };
            let wait = failure.asked.unwrap_or_else(|| self.policy.back_off(tries));
            let affordable = || failure.asked.is_some() || self.budget.take();
            let again = failure.again && tries < most && Instant::now() + wait < deadline && affordable();
            if !again {
                return Err(after(failure.error, tries));
            }
            debug!(
                "{}; trying again in {:.1} s",
                mynah_contracts::error_chain(&failure.error),
                wait.as_secs_f32()
            );
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// One try, with the redirections it meets.
    async fn attempt(&self, request: &Request, whole: bool) -> Result<(reqwest::Response, Vec<u8>), Failure> {
        let mut answer = self.dispatch(request).await?;
        if matches!(request.method, Method::GET | Method::HEAD) {
            let mut at = request.clone();
            for _ in 0..REDIRECTIONS {
                if !is_redirection(answer.status()) || request.expects(answer.status().as_u16()) {
                    break;
                }
                let lost = || HttpError::Redirection { request: request.shown() };
                let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let to = location.and_then(|location| at.url.join(location).ok()).ok_or_else(lost)?;
                at = at.redirected(to);
                at.check()?;
                answer = self.dispatch(&at).await?;
            }
            if is_redirection(answer.status()) && !request.expects(answer.status().as_u16()) {
                return Err(HttpError::Redirection { request: request.shown() }.into());
            }
        }
        let status = answer.status();
        if !request.expects(status.as_u16()) {
            return Err(self.refused(request, answer).await);
        }
        let body =
            if whole { self.read(request, &mut answer, self.policy.largest_body).await? } else { Vec::new() };
        Ok((answer, body))
    }

    async fn dispatch(&self, request: &Request) -> Result<reqwest::Response, Failure> {
        let sent = request.build(&self.inner).await?.send().await;
        sent.map_err(|source| {
            let shown = request.shown();
            if source.is_builder() {
                return HttpError::Unsendable { request: shown, what: "URL".into() }.into();
            }
            // A connection that was never made has had no effect.
            if source.is_connect() {
                let error = HttpError::Unreachable { request: shown, source: source.without_url() };
                return Failure { again: !error.is_refused_by_proxy(), error, asked: None };
            }
            let error = HttpError::interrupted(&shown, source);
            Failure { error, again: request.repeatable(), asked: None }
        })
    }

    async fn read(
        &self,
        request: &Request,
        answer: &mut reqwest::Response,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(bytes)) if (body.len() + bytes.len()) as u64 > limit => {
                    return Err(HttpError::TooLarge { request: request.shown(), limit }.into());
                }
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Err(source) => {
                    let error = HttpError::interrupted(&request.shown(), source);
                    return Err(Failure { error, again: request.repeatable(), asked: None });
                }
            }
        }
    }

    async fn refused(&self, request: &Request, mut answer: reqwest::Response) -> Failure {
        let status = answer.status();
        // A refusal is one also when its words are cut, endless or late.
        let words = tokio::time::timeout(REFUSAL_WAIT, self.read(request, &mut answer, REFUSAL)).await;
        let body = words.ok().and_then(Result::ok).unwrap_or_default();
        let refusal = Refusal::read(request.shown(), status.as_u16(), answer.headers(), &body);
        let again = match status {
            // The service says that it did nothing.
            StatusCode::TOO_MANY_REQUESTS => request.repeat != super::Repeat::Never,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => request.repeatable(),
            _ => false,
        };
        Failure { again, asked: refusal.retry_after, error: Box::new(refusal).into() }
    }
}

fn after(error: HttpError, tries: u32) -> HttpError {
    match error {
        HttpError::Refused(mut refusal) => {
            refusal.tries = tries;
            HttpError::Refused(refusal)
        }
        other => other,
    }
}

fn is_redirection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The cryptography behind TLS is the process' choice, made once.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
