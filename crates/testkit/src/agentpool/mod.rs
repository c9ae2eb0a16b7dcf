//! A double of an organisation's agent pools: the documented REST API of pools and agents, version 7.1, and beside it
//! the way the stand-in agent ([`package`]) gets its jobs, which is like the real one's but its own.
//!
//! It has a state (agents, sessions, jobs) and is strict: a field it does not know, a missing version, a session or a
//! job that is not the agent's are refused.

mod package;
mod routes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

pub use package::package;

use crate::wire::{Served, Wire};

/// The one organisation.
pub const ORGANIZATION: &str = "contoso";
/// A token that is accepted, with anything behind it: so each of several agents on one machine can have its own.
pub const TOKEN: &str = "pat-of-contoso-7bq4x2m9k1";
/// A token that may not manage pools.
pub const POWERLESS: &str = "pat-without-the-scope-3f8";

/// The pools of [`ORGANIZATION`]; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct AgentPools {
    /// What was said, and what is to go wrong.
    pub wire: Arc<Wire>,
    state: Arc<(Mutex<State>, Condvar)>,
}

/// A job to be given to an agent.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Text that the job looks for in every environment, command line and file it can read.
    pub needles: Vec<String>,
    /// Whether it goes on until [`AgentPools::finish`].
    pub held: bool,
    /// Whether it leaves a process behind that ignores SIGTERM.
    pub leaves: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pools: BTreeMap<i64, String>,
    agents: BTreeMap<i64, Agent>,
    jobs: BTreeMap<u64, (Job, Stage)>,
    queue: VecDeque<u64>,
    /// Which agent has which session.
    sessions: BTreeMap<String, i64>,
    expired: BTreeSet<String>,
    bearers: BTreeSet<String>,
    next: u64,
    clock_is_off: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pool: i64,
    name: String,
    enabled: bool,
    /// What its own process signs with.
    key: String,
    job: Option<u64>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// No agent has it.
    Queued,
    /// An agent has it.
    Running,
    /// It may end.
    Released,
    /// It ended: the result, and what the job reported.
    Ended(String, Value),
}

impl Default for State {
    fn default() -> Self {
        Self {
            pools: BTreeMap::from([(1, "Default".to_owned()), (7, "raspberry".to_owned())]),
            agents: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            sessions: BTreeMap::new(),
            expired: BTreeSet::new(),
            bearers: BTreeSet::new(),
            next: 1,
            clock_is_off: false,
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn online(&self, agent: i64) -> bool {
        self.sessions.values().any(|id| *id == agent)
    }
}

impl AgentPools {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves it on `port` (0: any free one).
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(&self, port: u16) -> Result<Served> {
        Served::start(routes::routes(self.clone()), Arc::clone(&self.wire), port)
    }

    /// The names of the registered agents.
    pub fn agents(&self) -> Vec<String> {
        self.lock().agents.values().map(|agent| agent.name.clone()).collect()
    }

    /// The names of the agents that listen for jobs.
    pub fn online(&self) -> Vec<String> {
        let state = self.lock();
        let online = state.agents.iter().filter(|(id, _)| state.online(**id));
        online.map(|(_, agent)| agent.name.clone()).collect()
    }

    /// Registers someone else's agent, with a session if it is `online`.
    pub fn add_agent(&self, name: &str, online: bool) {
        let mut state = self.lock();
        let id = i64::try_from(state.number()).unwrap_or_default();
        let key = format!("agent-key-{id}");
        state.agents.insert(id, Agent { pool: 1, name: name.to_owned(), enabled: true, key, job: None });
        if online {
            state.sessions.insert(format!("session-{id}"), id);
        }
    }

    /// Ends the session of the agent called `name`, as the service does some time after its process was killed.
    pub fn end_session(&self, name: &str) {
        let mut state = self.lock();
        let ids: Vec<i64> =
            state.agents.iter().filter(|(_, agent)| agent.name == name).map(|(id, _)| *id).collect();
        state.sessions.retain(|_, id| !ids.contains(id));
    }

    /// Queues a job and gives its number.
    pub fn queue(&self, job: Job) -> u64 {
        let mut state = self.lock();
        let number = state.number();
        state.jobs.insert(number, (job, Stage::Queued));
        state.queue.push_back(number);
        number
    }

    /// Lets a held job end.
    pub fn finish(&self, job: u64) {
        if let Some((_, stage @ (Stage::Queued | Stage::Running))) = self.lock().jobs.get_mut(&job) {
            *stage = Stage::Released;
        }
    }

    /// Takes a job that no agent has back out of the queue.
    pub fn withdraw(&self, job: u64) {
        self.lock().queue.retain(|queued| *queued != job);
    }

    /// How far a job is.
    pub fn stage(&self, job: u64) -> Option<Stage> {
        self.lock().jobs.get(&job).map(|(_, stage)| stage.clone())
    }

    /// Waits until `condition` holds, for `limit` at most; whether it does. It is looked at after every exchange.
    pub fn until(&self, limit: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = std::time::Instant::now() + limit;
        while !condition(self) {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            let state = self.lock();
            // Whether it was an exchange or the time is seen by the condition.
            drop(self.state.1.wait_timeout(state, left.min(Duration::from_millis(200))));
        }
        true
    }

    /// Refuses a token from now on.
    pub fn expire(&self, token: &str) {
        self.lock().expired.insert(token.to_owned());
    }

    /// Makes the answers carry a time that is years away.
    pub fn set_clock_off(&self) {
        self.lock().clock_is_off = true;
    }

    /// The bearer tokens with which pools were asked for.
    pub fn bearers(&self) -> Vec<String> {
        self.lock().bearers.iter().cloned().collect()
    }
}
