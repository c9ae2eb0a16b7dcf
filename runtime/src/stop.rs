//! Being asked to stop, by a signal or by the program itself.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use mynah_contracts::{Diagnosis, FaultKind};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// SIGINT: a person at a terminal.
    Interrupted,
    /// SIGTERM: a service manager or container engine, in good order.
    Terminated,
}

/// The operating system does not let us listen for signals.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for signals")]
pub struct SignalError(#[from] io::Error);

impl Diagnosis for SignalError {
    fn kind(&self) -> FaultKind {
        FaultKind::Failed
    }
}

/// Whether a stop was asked for; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<Option<StopReason>>, Condvar)>);

impl Stop {
    /// Not asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asked by the first SIGINT or SIGTERM from now on; a second one ends the process at once.
    ///
    /// # Errors
    /// The operating system refuses the handlers or the thread that waits for them.
    pub fn on_signals() -> Result<Self, SignalError> {
        let stop = Self::new();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let asked = stop.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if asked.asked().is_some() {
                    // It cannot return but by an error, and then the drain goes on.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                asked.ask(if signal == SIGINT { StopReason::Interrupted } else { StopReason::Terminated });
            }
        })?;
        Ok(stop)
    }

    /// Asks to stop; the first reason stays.
    pub fn ask(&self, reason: StopReason) {
        let (asked, changed) = &*self.0;
        asked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        changed.notify_all();
    }

    /// The reason, once asked.
    pub fn asked(&self) -> Option<StopReason> {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `length`, or less if a stop is asked for.
    pub fn wait(&self, length: Duration) {
        let (asked, changed) = &*self.0;
        let guard = asked.lock().unwrap_or_else(PoisonError::into_inner);
        // The guard is only waited on: the answer is read with `asked`.
        drop(changed.wait_timeout_while(guard, length, |reason| reason.is_none()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_ends_waiting() {
        let stop = Stop::new();
        assert_eq!(stop.asked(), None);
        stop.ask(StopReason::Terminated);
        stop.clone().ask(StopReason::Interrupted);
        // Would hang for an hour if it did not return at once.
        stop.wait(Duration::from_hours(1));
        assert_eq!(stop.asked(), Some(StopReason::Terminated));
    }
}
