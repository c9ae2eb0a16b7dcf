//! Agent pools of an organisation, by their REST API (Azure DevOps, distributed task, version 7.1).
//!
//! `config.sh` and `run.sh` register and work; what is asked here is what they do not say in words: whether the
//! address, the token, the pool and the name are right, whether a job is assigned, whether an agent is really gone.

use std::error::Error as _;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use mynah::http::{Client, HttpError, Request, Response, Url, block_on};
use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Monitor};
use serde::Deserialize;
use serde_json::json;

use crate::credential::Token;
use crate::organization::Organization;

/// How far the clocks may differ, in seconds: tokens forgive five minutes.
const FORGIVEN: i64 = 300;

/// A pool of agents.
#[derive(Clone, Debug, Deserialize)]
pub struct Pool {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// An agent as the service knows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Its number, unique in the pool.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// `online` while it has a session.
    #[serde(default)]
    pub status: String,
    /// The job it was given, while it has one.
    #[serde(default)]
    pub assigned_request: Option<serde_json::Value>,
}

impl Registered {
    /// Whether a process somewhere listens for jobs under this name.
    pub fn online(&self) -> bool {
        self.status.eq_ignore_ascii_case("online")
    }
}

#[derive(Deserialize)]
struct Page<T> {
    value: Vec<T>,
}

/// Why the service did not answer what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// The name of the service cannot be looked up.
    #[error("cannot find the address of `{host}`")]
    NoName {
        /// The host in `AZP_URL`.
        host: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The service is there, the organisation is not.
    #[error("there is no organisation at `{organization}`")]
    NoOrganization {
        /// `AZP_URL`.
        organization: String,
        /// The answer.
        #[source]
        source: HttpError,
    },
    /// The token is not accepted.
    #[error(
        "`{organization}` does not accept the token: it has expired, was revoked, or is for another organisation"
    )]
    Token {
        /// `AZP_URL`.
        organization: String,
    },
    /// The token is accepted, but not for pools.
    #[error("the token may not manage the agents of `{organization}`")]
    Rights {
        /// `AZP_URL`.
        organization: String,
        /// The answer.
        #[source]
        source: HttpError,
    },
    /// No pool has the name.
    #[error("there is no agent pool `{pool}` in `{organization}`")]
    NoPool {
        /// `AZP_POOL`.
        pool: String,
        /// `AZP_URL`.
        organization: String,
        /// The pools that the token sees.
        seen: Vec<String>,
    },
    /// This machine's time is wrong.
    #[error("the clock of this machine is {} s {} that of `{organization}`", .ahead.abs(), if *.ahead > 0 { "behind" } else { "ahead of" })]
    Clock {
        /// `AZP_URL`.
        organization: String,
        /// By how many seconds the service is ahead.
        ahead: i64,
    },
    /// Any other refusal.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Diagnosis for PoolsError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NoOrganization { .. } | Self::NoPool { .. } => FaultKind::BadInput,
            Self::Clock { .. } => FaultKind::Failed,
            Self::NoName { .. } | Self::Token { .. } | Self::Rights { .. } => FaultKind::ServiceRefused,
            Self::Http(error) => error.kind(),
            Self::Cancelled(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoName { .. } => "check the spelling of `AZP_URL` (https://dev.azure.com/ORGANIZATION), and that names can be looked up here: the cluster's DNS, and the NetworkPolicy's way to it".into(),
            Self::NoOrganization { .. } => "check the organisation's name in `AZP_URL`".into(),
            Self::Token { .. } => "make a token for this organisation (user settings, personal access tokens) with the scope Agent Pools (Read & manage), and put it where `AZP_TOKEN` comes from".into(),
            Self::Rights { .. } => "the token needs the scope Agent Pools (Read & manage), and its owner must be an administrator of the pool".into(),
            Self::NoPool { seen, .. } if seen.is_empty() => "make the pool under Organization settings, Agent pools, or give the token's owner a role in it".into(),
            Self::NoPool { seen, .. } => format!("set `AZP_POOL` to one of those the token sees: {}", seen.join(", ")),
            Self::Clock { .. } => "set the clock of the node right (NTP); sign-in and certificates depend on it".into(),
            Self::Http(error) => return error.hint(),
            Self::Cancelled(_) => return None,
        })
    }
}

/// The pools of one organisation.
#[derive(Clone, Debug)]
pub struct Pools {
    client: Client,
    organization: Organization,
}

impl Pools {
    /// The pools of `organization`; nothing is sent yet.
    pub fn new(client: Client, organization: Organization) -> Self {
        Self { client, organization }
    }

    /// The pool called `name`.
    ///
    /// # Errors
    /// Whatever is wrong with address, token, name or clock, each in its own words.
    pub fn find(&self, name: &str, token: &Token, monitor: &dyn Monitor) -> Result<Pool, PoolsError> {
        let url = self.organization.at(&["_apis", "distributedtask", "pools"]);
        let named = Request::get(url.clone()).query("poolName", name);
        let response = self.ask(named, token, monitor)?;
        if let Some(ahead) = ahead(&response).filter(|ahead| ahead.abs() > FORGIVEN) {
            return Err(PoolsError::Clock { organization: self.organization.to_string(), ahead });
        }
        let pools: Page<Pool> = Self::read(&response)?;
        // The service compares names without regard to case.
        if let Some(pool) =
            pools.value.into_iter().find(|pool| pool.name.to_lowercase() == name.to_lowercase())
        {
            return Ok(pool);
        }
        let all: Page<Pool> = Self::read(&self.ask(Request::get(url), token, monitor)?)?;
        Err(PoolsError::NoPool {
            pool: name.to_owned(),
            organization: self.organization.to_string(),
            seen: all.value.into_iter().map(|pool| format!("`{}`", pool.name.escape_debug())).collect(),
        })
    }

    /// The agent called `name`, if there is one.
    ///
    /// # Errors
    /// As [`Pools::find`].
    pub fn agent(
        &self,
        pool: &Pool,
        name: &str,
        token: &Token,
        monitor: &dyn Monitor,
    ) -> Result<Option<Registered>, PoolsError> {
        let request = Request::get(self.agents(pool, None))
            .query("agentName", name)
            .query("includeAssignedRequest", "true");
        let agents: Page<Registered> = Self::read(&self.ask(request, token, monitor)?)?;
        Ok(agents.value.into_iter().find(|agent| agent.name.to_lowercase() == name.to_lowercase()))
    }

    /// Keeps new jobs from an agent; the one it has goes on.
    ///
    /// # Errors
    /// As [`Pools::find`].
    pub fn disable(
        &self,
        pool: &Pool,
        agent: i64,
        token: &Token,
        monitor: &dyn Monitor,
    ) -> Result<(), PoolsError> {
        let request = Request::new(mynah::http::Method::PATCH, self.agents(pool, Some(agent)))
            .json(&json!({"id": agent, "enabled": false}))
            .repeat(mynah::http::Repeat::Always);
        self.ask(request, token, monitor).map(drop)
    }

    /// Takes an agent out of its pool; one that is gone already is as good.
    ///
    /// # Errors
    /// As [`Pools::find`].
    pub fn delete(
        &self,
        pool: &Pool,
        agent: i64,
        token: &Token,
        monitor: &dyn Monitor,
    ) -> Result<(), PoolsError> {
        let request = Request::delete(self.agents(pool, Some(agent))).also(&[404]);
        self.ask(request, token, monitor).map(drop)
    }

    fn agents(&self, pool: &Pool, agent: Option<i64>) -> Url {
        let (pool, agent) = (pool.id.to_string(), agent.map(|id| id.to_string()));
        let mut path = vec!["_apis", "distributedtask", "pools", &pool, "agents"];
        path.extend(agent.as_deref());
        self.organization.at(&path)
    }

    fn ask(&self, request: Request, token: &Token, monitor: &dyn Monitor) -> Result<Response, PoolsError> {
        let (scheme, credentials) = &token.authorization;
        let request = request.authorization(scheme, credentials).header("accept", "application/json");
        let sent = block_on(monitor, async { self.client.send(&request).await.map_err(PoolsError::from) });
        match sent {
            // The service answers a token it does not know with a page to sign in.
            Ok(response) if response.status() == 203 || is_page(&response) => Err(self.token()),
            Err(PoolsError::Http(error)) => Err(self.explained(error)),
            other => other,
        }
    }

    fn read<T: for<'a> Deserialize<'a>>(response: &Response) -> Result<T, PoolsError> {
        Ok(response.json()?)
    }

    fn token(&self) -> PoolsError {
        PoolsError::Token { organization: self.organization.to_string() }
    }

    fn explained(&self, error: HttpError) -> PoolsError {
        let organization = self.organization.to_string();
        if let Some(refusal) = error.refusal() {
            if refusal.clock_is_off() {
                return PoolsError::Clock { organization, ahead: refusal.ahead.unwrap_or_default() };
            }
            match refusal.status {
                401 => return self.token(),
                403 => return PoolsError::Rights { organization, source: error },
                404 => return PoolsError::NoOrganization { organization, source: error },
                _ => {}
            }
        }
        if matches!(error, HttpError::Unreachable { .. }) && is_lookup(&error) {
            let host = self.organization.at(&[]).host_str().unwrap_or_default().to_owned();
            return PoolsError::NoName { host, source: error };
        }
        PoolsError::Http(error)
    }
}

/// A page for people where JSON was asked for.
fn is_page(response: &Response) -> bool {
    response.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

fn is_lookup(error: &HttpError) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if text.contains("dns error") || text.contains("failed to lookup address") {
            return true;
        }
        source = cause.source();
    }
    false
}

/// By how many seconds the service's clock is ahead of this machine's, where it tells the time.
fn ahead(response: &Response) -> Option<i64> {
    let date = DateTimeParser::new().parse_timestamp(response.header("date")?).ok()?;
    Some(date.as_second() - Timestamp::now().as_second())
}
