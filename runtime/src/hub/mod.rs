//! The device and its hub: sightings go out and survive outages on disk; desired properties and direct methods come
//! in. Edge Hub for modules of IoT Edge, IoT Hub for devices, any MQTT broker for those without Azure.
//!
//! The frame loop never waits for the network: it puts messages into the spool and takes commands from a queue.

mod batch;
mod broker;
mod sas;
mod session;
mod spool;
mod topics;
pub(crate) mod twin;
mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mynah_contracts::{Diagnosis, FaultKind, Sighting};
use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc, oneshot};

pub use batch::Batching;
pub use broker::Broker;
pub use sas::ConnectionString;
pub use workload::Workload;

use session::Shared;
use spool::Spool;

/// Why there is no connection to the hub at all.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The folder for waiting messages cannot be used.
    #[error("cannot use the folder `{folder}` for messages to the hub")]
    Spool {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread or no event loop is to be had.
    #[error("cannot start the connection to the hub")]
    Start(#[source] io::Error),
}

impl Diagnosis for HubError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Spool { .. } => FaultKind::BadInput,
            Self::Start(_) => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Spool { .. } => Some("name a folder this user may write to: `--spool DIR`".into()),
            Self::Start(_) => None,
        }
    }
}

/// What the hub wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// All desired properties, whenever one changed.
    Desired(Map<String, Value>),
    /// A direct method.
    Method {
        name: String,
        payload: Value,
        /// Takes the status and the answer.
        reply: oneshot::Sender<(u16, Value)>,
    },
}

/// What is reported to the hub, and what it has been told of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    now: Map<String, Value>,
    told: Map<String, Value>,
}

impl Report {
    fn set(&mut self, name: &str, value: Value) {
        self.now.insert(name.to_owned(), value);
    }

    /// What the hub has not been told; it counts as told from now on.
    fn take(&mut self) -> Option<Map<String, Value>> {
        let changes: Map<String, Value> = self
            .now
            .iter()
            .filter(|(name, value)| self.told.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.told.extend(changes.clone());
        (!changes.is_empty()).then_some(changes)
    }

    /// Whether the hub has been told everything.
    fn is_told(&self) -> bool {
        self.now.iter().all(|(name, value)| self.told.get(name) == Some(value))
    }

    /// The hub may have forgotten everything.
    fn forget(&mut self) {
        self.told.clear();
    }
}

/// The frame loop's end of the connection.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Why the last message was not kept.
    lost: Option<String>,
}

impl Hub {
    /// Opens the spool, at most `limit` bytes, and connects on a thread of its own. What waits goes out in `batching`.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn start(
        broker: Broker,
        folder: &Path,
        limit: u64,
        batching: Batching,
    ) -> Result<Self, HubError> {
        let spool = Spool::open(folder, limit)
            .map_err(|source| HubError::Spool { folder: folder.to_path_buf(), source })?;
        let shared = Arc::new(Shared {
            spool: Mutex::new(spool),
            batching,
            ending: AtomicBool::new(false),
            news: Notify::new(),
            report: Mutex::default(),
            connected: AtomicBool::new(false),
            problem: Mutex::default(),
        });
        let (send, commands) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .map_err(HubError::Start)?;
        let session = shared.clone();
        std::thread::Builder::new()
            .name("hub".into())
            .spawn(move || runtime.block_on(session::run(broker, session, send)))
            .map_err(HubError::Start)?;
        Ok(Self { shared, commands, lost: None })
    }

    /// Keeps a sighting until the hub has it.
    pub(crate) fn send(&mut self, sighting: &Sighting) {
        let kept = serde_json::to_vec(sighting).map_err(io::Error::from).and_then(|message| {
            self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner).push(&message)
        });
        match kept {
            Ok(()) => {
                self.lost = None;
                self.shared.news.notify_one();
            }
            Err(error) => {
                let problem = format!("a sighting was lost for the hub: {error}");
                if self.lost.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}");
                }
                self.lost = Some(problem);
            }
        }
    }

    /// Reports a property.
    pub(crate) fn report(&self, name: &str, value: Value) {
        let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.now.get(name) != Some(&value) {
            report.set(name, value);
            self.shared.news.notify_one();
        }
    }

    /// The next thing the hub wants, if any.
    pub(crate) fn command(&mut self) -> Option<Command> {
        self.commands.try_recv().ok()
    }

    /// What keeps messages from the hub at present.
    pub(crate) fn problem(&self) -> Option<String> {
        let refusal = || {
            let spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
            spool.refusal().map(str::to_owned)
        };
        self.lost
            .clone()
            .or_else(refusal)
            .or_else(|| self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whether it is connected, how many messages wait, and how many were dropped for room.
    pub(crate) fn figures(&self) -> (bool, u64, u64) {
        let spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
        (self.shared.connected.load(Ordering::Relaxed), spool.waiting(), spool.dropped())
    }

    /// Gives what waits a moment to be delivered, and has the rest reach the disk.
    pub(crate) fn finish(&self, wait: impl Fn(std::time::Duration)) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.shared.news.notify_one();
        for _ in 0..20 {
            let (connected, waiting, _) = self.figures();
            let told = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).is_told();
            if !connected || (waiting == 0 && told) {
                break;
            }
            wait(std::time::Duration::from_millis(100));
        }
        if self.figures().0 {
            // The last report is on its way.
            wait(std::time::Duration::from_millis(100));
        }
        let mut spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool.write_down();
        match spool.sync() {
            Ok(()) if spool.refusal().is_none() => {}
            Ok(()) => tracing::warn!("the messages to the hub that wait in memory are lost"),
            Err(error) => tracing::warn!("messages to the hub may be lost: {error}"),
        }
    }
}

/// What waits in a folder, oldest first.
#[cfg(test)]
pub(crate) fn waiting(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let messages = Spool::open(folder, u64::MAX)?.read(0, usize::MAX)?;
    Ok(messages.into_iter().map(|(_, message)| message).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_reported() {
        let mut report = Report::default();
        report.set("a", json!(1));
        report.set("b", json!(2));
        assert_eq!(report.take().map(|changes| changes.len()), Some(2));
        assert_eq!(report.take(), None);
        report.set("a", json!(3));
        assert_eq!(report.take(), Some(json!({ "a": 3 }).as_object().unwrap().clone()));
        report.forget();
        assert_eq!(report.take().map(|changes| changes.len()), Some(2));
    }
}
