//! The life of an agent: registered, at work, drained, unregistered.
//!
//! Whatever happens after the first call of `config.sh`, the last thing done is to unregister: an agent that nobody
//! runs stays in its pool otherwise, and jobs are queued for it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use mynah::agent::Console;
use mynah::agent::console::Severity;
use mynah::http::{Client, HttpError};
use mynah::secret::Secret;
use mynah_contracts::{Diagnosis, FaultKind, Quiet, error_chain};
use rustix::process::{Pid, Signal};

use crate::agent::{Agent, LISTENER, UPDATED, WORKER, registered};
use crate::credential::{Credential, CredentialError, Token};
use crate::package::{self, PackageError};
use crate::pools::{Pool, Pools, PoolsError, Registered};
use crate::settings::{Mode, Settings};
use crate::supervisor::{Exit, Supervisor, Turn};
use crate::{memory, processes};

/// How often `config.sh` is started before registering is given up.
const REGISTRATIONS: u32 = 5;

/// How often `config.sh remove` is started.
const REMOVALS: u32 = 3;

/// How long one of them may take.
const CONFIG: Duration = Duration::from_mins(5);

/// How long it may go on once someone asked to stop.
const CONFIG_STOPPING: Duration = Duration::from_mins(1);

/// Before the second registration; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long an agent without a job may take to end.
const FAREWELL: Duration = Duration::from_secs(30);

/// How often it is looked whether a job has ended.
const GLANCE: Duration = Duration::from_millis(250);

/// How often an online agent of the same name is looked at.
const NAME_GLANCE: Duration = Duration::from_secs(5);

/// Why an agent's life went wrong.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The package or a folder.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Signing in.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The service.
    #[error(transparent)]
    Pools(#[from] PoolsError),
    /// No client can be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another agent has the name.
    #[error("an agent `{name}` is online in pool `{pool}` already")]
    NameTaken {
        /// `AZP_AGENT_NAME`.
        name: String,
        /// `AZP_POOL`.
        pool: String,
    },
    /// A program of the agent cannot be started.
    #[error("cannot start the agent's `{program}`")]
    Start {
        /// `config.sh` or `run.sh`.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `config.sh` failed every time.
    #[error("cannot register agent `{name}`: `config.sh` ended with {exit}")]
    Register {
        /// `AZP_AGENT_NAME`.
        name: String,
        /// The last end.
        exit: Exit,
    },
    /// The agent ended though nobody asked it to.
    #[error("agent `{name}` ended with {exit}")]
    Ended {
        /// `AZP_AGENT_NAME`.
        name: String,
        /// How.
        exit: Exit,
    },
    /// The agent is still in its pool.
    #[error("cannot unregister agent `{name}`: it stays in pool `{pool}`, offline")]
    Stale {
        /// `AZP_AGENT_NAME`.
        name: String,
        /// `AZP_POOL`.
        pool: String,
        /// What the service said.
        #[source]
        source: Box<LifeError>,
    },
}

impl Diagnosis for LifeError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Package(error) => error.kind(),
            Self::Credential(error) => error.kind(),
            Self::Pools(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::NameTaken { .. } => FaultKind::BadInput,
            Self::Start { .. } | Self::Register { .. } | Self::Ended { .. } => FaultKind::Failed,
            Self::Stale { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Package(error) => return error.hint(),
            Self::Credential(error) => return error.hint(),
            Self::Pools(error) => return error.hint(),
            Self::Http(error) => return error.hint(),
            Self::NameTaken { .. } => "give each pod a name of its own: leave `AZP_AGENT_NAME` out, or take it from `metadata.name`".into(),
            Self::Start { .. } => "the image lacks what the agent's scripts need (bash), or the package is for another processor".into(),
            Self::Register { .. } => "its own words are above; the logs are in `_diag` of the agent's folder".into(),
            Self::Ended { exit, .. } if exit.killed() => "it was killed: most likely the container's memory limit; raise `resources.limits.memory`".into(),
            Self::Ended { .. } => "its own words are above; `a session for this agent already exists` means that two pods have one name".into(),
            Self::Stale { name, .. } => format!("start a container under the name `{name}` again, which takes the registration over, or delete the agent under Organization settings, Agent pools"),
        })
    }
}

/// Lives an agent's life; comes back when it is unregistered.
///
/// # Errors
/// Why it could not be registered, ended early, or could not be unregistered.
pub fn live(
    settings: &Settings,
    mode: Mode,
    credential: &Credential,
    secrets: &BTreeMap<String, Secret>,
    client: Client,
    supervisor: &mut Supervisor,
    console: &(dyn Console + Sync),
) -> Result<(), LifeError> {
    let pools = Pools::new(client, settings.organization.clone());
    let former = registered(&settings.home);
    if mode != Mode::Remove {
        package::lay_out(&settings.package, &settings.home)?;
        package::writable(&settings.home.join(&settings.work), "the agent's work")?;
    }
    let pool = {
        let token = credential.token(console)?;
        pools.find(&settings.pool, &token, console)?
    };
    let mut life =
        Life { settings, credential, agent: Agent::new(settings, secrets), pools, pool, supervisor, console };
    match mode {
        Mode::Remove => life.gone(|_| true),
        Mode::Placeholder => {
            life.name_is_free(former)?;
            life.register()?;
            life.say(&format!("agent `{}` stays registered as a placeholder", settings.name));
            Ok(credential.wipe()?)
        }
        Mode::Serve | Mode::Once => {
            life.name_is_free(former)?;
            if console.cancelled() {
                life.say("asked to stop before anything was registered");
                return Ok(());
            }
            let lived = life.register().and_then(|()| life.work(mode == Mode::Once));
            let left = life.unregister();
            lived.and(left)
        }
    }
}

struct Life<'a> {
    settings: &'a Settings,
    credential: &'a Credential,
    agent: Agent<'a>,
    pools: Pools,
    pool: Pool,
    supervisor: &'a mut Supervisor,
    console: &'a (dyn Console + Sync),
}

impl Life<'_> {
    fn say(&self, text: &str) {
        self.console.log(Severity::Info, text);
    }

    fn warn(&self, text: &str) {
        self.console.log(Severity::Warning, text);
    }

    /// Waits while an online agent has our name; `former` is who we were before this container started again.
    fn name_is_free(&mut self, former: Option<i64>) -> Result<(), LifeError> {
        let (name, pool) = (self.settings.name.clone(), self.settings.pool.clone());
        let until = Instant::now() + self.settings.name_wait;
        let mut told = false;
        loop {
            let token = self.credential.token(self.console)?;
            let found = self.pools.agent(&self.pool, &name, &token, self.console)?;
            let Some(other) = found.filter(|other| other.online() && Some(other.id) != former) else {
                return Ok(());
            };
            if Instant::now() >= until {
                return Err(LifeError::NameTaken { name, pool });
            }
            if !told {
                told = true;
                self.warn(&format!(
                    "agent `{}` (number {}) is online in pool `{pool}` already: another pod has this name, or was killed a moment ago; waiting up to {} s",
                    other.name.escape_debug(),
                    other.id,
                    self.settings.name_wait.as_secs()
                ));
            }
            let left = until.saturating_duration_since(Instant::now());
            if !self.supervisor.pause(NAME_GLANCE.min(left)) {
                return Ok(());
            }
        }
    }

    /// Runs `config.sh` until it has registered the agent.
    fn register(&mut self) -> Result<(), LifeError> {
        let mut wait = FIRST_WAIT;
        let mut tried = 1;
        loop {
            let token = self.credential.token(self.console)?;
            let exit = self.config(false, &token)?;
            if exit.well() {
                let number = self.agent.id().map(|id| format!(", number {id}")).unwrap_or_default();
                self.say(&format!(
                    "registered agent `{}` in pool `{}`{number}",
                    self.settings.name, self.settings.pool
                ));
                return Ok(());
            }
            if self.console.cancelled() {
                return Ok(());
            }
            if tried == REGISTRATIONS {
                return Err(LifeError::Register { name: self.settings.name.clone(), exit });
            }
            self.warn(&format!(
                "`config.sh` ended with {exit}; trying again in {} s ({tried} of {REGISTRATIONS})",
                wait.as_secs()
            ));
            if !self.supervisor.pause(wait) {
                return Ok(());
            }
            // An expired token or a deleted pool is better told in words than by trying again.
            self.pools.find(&self.settings.pool, &token, self.console)?;
            wait *= 2;
            tried += 1;
        }
    }

    /// One call of `config.sh`. A stop in between does not break it off: half a registration is worse than a late end.
    fn config(&mut self, remove: bool, token: &Token) -> Result<Exit, LifeError> {
        let mut command = if remove { self.agent.remove(token) } else { self.agent.configure(token) };
        let pid = self
            .supervisor
            .spawn(&mut command)
            .map_err(|source| LifeError::Start { program: "config.sh", source })?;
        let mut until = Instant::now() + CONFIG;
        loop {
            match self.supervisor.wait(pid, Some(until)) {
                Turn::Ended(exit) => return Ok(exit),
                Turn::AskedToStop => until = until.min(Instant::now() + CONFIG_STOPPING),
                Turn::TimeUp => {
                    self.warn("`config.sh` does not end; it is killed");
                    self.supervisor.signal_group(pid, Signal::KILL);
                    until = Instant::now() + FAREWELL;
                }
            }
        }
    }

    /// Takes jobs until there is nothing more to do.
    fn work(&mut self, once: bool) -> Result<(), LifeError> {
        if self.console.cancelled() {
            self.say("asked to stop before the first job");
            return Ok(());
        }
        self.credential.wipe()?;
        let kills = memory::kills();
        let ended = self.serve(once);
        let killed = memory::kills().saturating_sub(kills);
        if killed > 0 {
            self.warn(&format!(
                "the container's memory limit killed {killed} process(es) while the agent was at work; raise `resources.limits.memory`"
            ));
        }
        match ended? {
            Some(exit) if !exit.well() => Err(LifeError::Ended { name: self.settings.name.clone(), exit }),
            _ => Ok(()),
        }
    }

    /// Runs `run.sh`; how it ended, if by itself.
    fn serve(&mut self, once: bool) -> Result<Option<Exit>, LifeError> {
        loop {
            let pid = self
                .supervisor
                .spawn(&mut self.agent.run(once))
                .map_err(|source| LifeError::Start { program: "run.sh", source })?;
            match self.supervisor.wait(pid, None) {
                Turn::Ended(Exit::Code(code)) if UPDATED.contains(&code) => {
                    self.say("the agent brought itself up to date; starting it again");
                    if !self.supervisor.pause(NAME_GLANCE) {
                        return Ok(None);
                    }
                }
                Turn::Ended(exit) => return Ok(Some(exit)),
                Turn::AskedToStop | Turn::TimeUp => {
                    self.drain(pid);
                    return Ok(None);
                }
            }
        }
    }

    /// Lets the job end, then the agent. A second signal, or the end of patience, ends the job too.
    fn drain(&mut self, pid: Pid) {
        self.say(&format!(
            "asked to stop: taking no new job, a running one has {} s (another signal ends it)",
            self.settings.drain.as_secs()
        ));
        let until = Instant::now() + self.settings.drain;
        if let Err(error) = self.disable() {
            self.warn(&format!("cannot keep new jobs from the agent: {}", error_chain(&error)));
        }
        while self.busy(pid) {
            match self.supervisor.wait(pid, Some(until.min(Instant::now() + GLANCE))) {
                Turn::Ended(_) => return,
                Turn::AskedToStop => {
                    self.warn("asked to stop again: the job is cancelled");
                    break;
                }
                Turn::TimeUp if Instant::now() >= until => {
                    self.warn("the job did not end in time: it is cancelled");
                    break;
                }
                Turn::TimeUp => {}
            }
        }
        // As Ctrl-C does: the listener ends its session, and a job first, as cancelled.
        let listener = processes::below(pid).into_iter().find(|process| process.program == LISTENER);
        let _ = rustix::process::kill_process(listener.map_or(pid, |process| process.pid), Signal::INT);
        let mut farewell = Instant::now() + FAREWELL;
        loop {
            match self.supervisor.wait(pid, Some(farewell)) {
                Turn::Ended(_) => return,
                Turn::AskedToStop => {}
                Turn::TimeUp => {
                    self.warn("the agent does not end; it is killed");
                    self.supervisor.signal_group(pid, Signal::KILL);
                    farewell = Instant::now() + FAREWELL;
                }
            }
        }
    }

    fn disable(&self) -> Result<(), LifeError> {
        let token = self.credential.token(&Quiet)?;
        let id = match self.agent.id() {
            Some(id) => Some(id),
            None => self.pools.agent(&self.pool, &self.settings.name, &token, &Quiet)?.map(|agent| agent.id),
        };
        if let Some(id) = id {
            self.pools.disable(&self.pool, id, &token, &Quiet)?;
        }
        Ok(())
    }

    /// Whether a job is running, or given to the agent and about to.
    fn busy(&self, pid: Pid) -> bool {
        let works = || processes::below(pid).iter().any(|process| process.program == WORKER);
        if works() {
            return true;
        }
        let assigned = || -> Result<bool, LifeError> {
            let token = self.credential.token(&Quiet)?;
            let agent = self.pools.agent(&self.pool, &self.settings.name, &token, &Quiet)?;
            Ok(agent.is_some_and(|agent| agent.assigned_request.is_some()))
        };
        // Where the service does not answer, what runs here is what counts.
        assigned().unwrap_or_else(|_| works())
    }

    /// Ends what is left, then takes the agent out of its pool.
    fn unregister(&mut self) -> Result<(), LifeError> {
        self.supervisor.end_all();
        let number = self.agent.id();
        let mut wait = FIRST_WAIT;
        for tried in 1..=REMOVALS {
            if number.is_none() {
                break;
            }
            let removed = match self.credential.token(&Quiet) {
                Ok(token) => self.config(true, &token)?.well(),
                Err(error) => {
                    self.warn(&error_chain(&error));
                    false
                }
            };
            if removed {
                break;
            }
            if tried < REMOVALS {
                self.warn(&format!("`config.sh remove` failed; trying again in {} s", wait.as_secs()));
                self.supervisor.pause(wait);
                wait *= 2;
            }
        }
        // Without a number, an agent of our name that is online is someone else's: ours never got so far.
        self.gone(|agent| number.map_or(!agent.online(), |number| number == agent.id))
    }

    /// Sees to it that the pool has no agent of our name that is `ours`.
    fn gone(&self, ours: impl Fn(&Registered) -> bool) -> Result<(), LifeError> {
        let (name, pool) = (&self.settings.name, &self.settings.pool);
        let gone = || -> Result<(), LifeError> {
            let token = self.credential.token(&Quiet)?;
            match self.pools.agent(&self.pool, name, &token, &Quiet)? {
                Some(agent) if ours(&agent) => Ok(self.pools.delete(&self.pool, agent.id, &token, &Quiet)?),
                _ => Ok(()),
            }
        };
        gone().map_err(|source| LifeError::Stale {
            name: name.clone(),
            pool: pool.clone(),
            source: Box::new(source),
        })?;
        self.say(&format!("agent `{name}` is unregistered"));
        Ok(())
    }
}
