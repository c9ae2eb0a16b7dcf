//! What this machine can reach: registry, hub, the agents' server, cluster; and what their clocks say of ours.

use std::time::Duration;

use mynah_contracts::{Cancelled, Diagnosis, Fault, error_chain};
use url::Url;

use super::{Finding, State};
use crate::agent::{Env, Inputs};
use crate::cluster::{Access, Api, ClusterError};
use crate::http::{Client, HttpError, Policy, Request, block_on};
use crate::step::Context;

/// How long a service may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How far clocks may differ, in seconds: the strictest service allows five minutes.
const FORGIVEN: i64 = 300;

/// Any of these shows that the service is there.
const ANSWERS: [u16; 10] = [301, 302, 303, 307, 308, 400, 401, 403, 404, 405];

/// What is to be asked.
pub(super) struct Asked {
    registry: Option<Url>,
    hub: Option<Url>,
    agent: Option<Url>,
    /// A cluster, or why it cannot be asked.
    cluster: Option<Result<Access, ClusterError>>,
}

impl Asked {
    pub(super) fn new(inputs: &Inputs, env: &Env) -> Result<Self, Fault> {
        let service = |name: &str, path: &str| -> Result<Option<Url>, Fault> {
            let Some(text) = inputs.text(name)? else { return Ok(None) };
            let url = address(text, path);
            Ok(Some(url.ok_or_else(|| inputs.refused(name, text, "a host or a URL"))?))
        };
        let agent = match service("agentUrl", "_apis/connectionData")? {
            None => env.get("AZP_URL").and_then(|text| address(text, "_apis/connectionData")),
            named => named,
        };
        let file = inputs.path("kubeconfig")?;
        let named = file.is_some() || env.get("KUBECONFIG").is_some();
        let context = inputs.text("context")?;
        let cluster = named.then(|| Access::discover(env, None, file.as_deref(), context));
        Ok(Self { registry: service("registry", "v2/")?, hub: service("hub", "")?, agent, cluster })
    }

    pub(super) fn look(self, context: &Context<'_>) -> Result<Vec<Finding>, Fault> {
        let policy = Policy { tries: 1, deadline: LIMIT, connect: LIMIT, ..Policy::default() };
        let client = Client::new(policy)?;
        let found: Result<Vec<Finding>, Stopped> = block_on(context.monitor, async {
            let now = context.now;
            let mut found = Vec::new();
            let services = [
                ("registry", "--registry", &self.registry, "images can neither be pushed nor pulled"),
                ("hub", "--hub", &self.hub, "devices get no deployment, and their words do not arrive"),
                ("agent", "--agent-url", &self.agent, "agents cannot register or take jobs"),
            ];
            for (check, option, url, effect) in services {
                found.push(match url {
                    Some(url) => service(&client, check, url, effect, now).await,
                    None => Finding::skipped(check, option),
                });
            }
            found.push(match self.cluster {
                Some(access) => cluster(access).await,
                None => Finding::skipped("cluster", "--kubeconfig"),
            });
            Ok(found)
        });
        Ok(found?)
    }
}

/// `host`, `host:port` or a URL, with `path` behind it.
fn address(text: &str, path: &str) -> Option<Url> {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let base = Url::parse(&format!("{}/", whole.trim_end_matches('/'))).ok()?;
    (matches!(base.scheme(), "https" | "http") && base.has_host()).then_some(())?;
    base.join(path).ok()
}

async fn service(
    client: &Client,
    check: &'static str,
    url: &Url,
    effect: &str,
    now: fn() -> jiff::Timestamp,
) -> Finding {
    let host = url.host_str().unwrap_or_default().to_owned();
    let answer = client.send(&Request::get(url.clone()).also(&ANSWERS)).await;
    match answer {
        Ok(answer) => {
            if check == "agent" && answer.status() == 404 {
                return Finding::new(check, State::Problem, format!("{host} has no such organisation"))
                    .but(effect, "check the organisation in the URL: `https://dev.azure.com/ORGANISATION`");
            }
            let ahead = answer.header("date").and_then(|date| ahead(date, now()));
            match ahead.filter(|seconds| seconds.abs() > FORGIVEN) {
                Some(seconds) => {
                    let cause = format!(
                        "{host} answers, its clock differs from this machine's by {} s",
                        seconds.abs()
                    );
                    Finding::new(check, State::Problem, cause)
                        .but("sign-in is refused", "set this machine's clock: `timedatectl set-ntp true`")
                }
                None => Finding::good(check, format!("{host} answers")),
            }
        }
        Err(error) => {
            let remedy = error.hint().unwrap_or_else(|| "check the address and the network".into());
            Finding::new(check, State::Problem, error_chain(&error)).but(effect, remedy)
        }
    }
}

/// By how many seconds the other clock is ahead.
fn ahead(date: &str, now: jiff::Timestamp) -> Option<i64> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(date.as_second() - now.as_second())
}

async fn cluster(access: Result<Access, ClusterError>) -> Finding {
    let asked = async {
        let api = Api::connect(access?).await?;
        let version = tokio::time::timeout(LIMIT, api.version()).await;
        let version = version.map_err(|_| ClusterError::Silent { server: api.server() })??;
        Ok::<_, ClusterError>((api.server(), version))
    };
    match asked.await {
        Ok((server, version)) => Finding::good("cluster", format!("{server} answers as {version}")),
        Err(error) => {
            let remedy = error.hint().unwrap_or_else(|| "check the kubeconfig and the network".into());
            Finding::new("cluster", State::Problem, error_chain(&error))
                .but("nothing can be deployed to it", remedy)
        }
    }
}

/// Why the services were not looked at.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl Diagnosis for Stopped {
    fn kind(&self) -> mynah_contracts::FaultKind {
        match self {
            Self::Cancelled(cancelled) => cancelled.kind(),
            Self::Http(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_urls_become_addresses() {
        for (text, expected) in [
            ("registry.example", Some("https://registry.example/v2/")),
            ("http://127.0.0.1:5000", Some("http://127.0.0.1:5000/v2/")),
            ("https://dev.example/mine/", Some("https://dev.example/mine/v2/")),
            ("ftp://a", None),
            ("", None),
        ] {
            assert_eq!(address(text, "v2/").map(String::from).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn clocks_are_compared() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(ahead("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(37));
        assert_eq!(ahead("yesterday", now), None);
    }
}
