//! The first process of a container: starts others, waits for all that end, hears the signals meant for it.
//!
//! Orphans come to process 1, and to this process wherever it runs (`PR_SET_CHILD_SUBREAPER`); whoever ends is waited
//! for, or the process table would fill up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::processes;

/// How long what a job left behind may take to end by itself.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// Whether it did what it was started for.
    pub fn well(self) -> bool {
        self == Self::Code(0)
    }

    /// Whether it was killed, as the kernel does where memory ends; a shell reports its child's signal as 128 more.
    pub fn killed(self) -> bool {
        matches!(self, Self::Signal(9) | Self::Code(137))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The process that was waited for.
    Ended(Exit),
    /// Someone asked this process to stop, once for each signal.
    AskedToStop,
    /// The time.
    TimeUp,
}

/// Starts and waits.
#[derive(Debug)]
pub struct Supervisor {
    signals: Receiver<i32>,
    watched: BTreeSet<i32>,
    ended: BTreeMap<i32, Exit>,
}

impl Supervisor {
    /// Takes over the signals of this process; `stop` is set with the first that asks to stop.
    ///
    /// # Errors
    /// The system refuses signals or threads.
    pub fn start(stop: &'static AtomicBool) -> io::Result<Self> {
        let me = rustix::process::getpid();
        // Process 1 has them anyway; an emulator of another processor may not know this request.
        if !me.is_init() {
            rustix::process::set_child_subreaper(Some(me))?;
        }
        let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP])?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if signal != SIGCHLD {
                    stop.store(true, Ordering::Relaxed);
                }
                if sender.send(signal).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { signals: receiver, watched: BTreeSet::new(), ended: BTreeMap::new() })
    }

    /// Starts a program in a process group of its own, so that a terminal's Ctrl-C reaches this process alone.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, command: &mut Command) -> io::Result<Pid> {
        let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        let pid = Pid::from_child(&child);
        // Waited for in `reap`, where all are.
        drop(child);
        self.watched.insert(pid.as_raw_nonzero().get());
        Ok(pid)
    }

    /// Waits until `pid` ends, someone asks to stop, or `until` is reached.
    pub fn wait(&mut self, pid: Pid, until: Option<Instant>) -> Turn {
        self.until(Some(pid), until)
    }

    /// Waits for `time`, less if someone asks to stop: then it is false.
    pub fn pause(&mut self, time: Duration) -> bool {
        self.until(None, Some(Instant::now() + time)) == Turn::TimeUp
    }

    fn until(&mut self, pid: Option<Pid>, until: Option<Instant>) -> Turn {
        loop {
            self.reap();
            if let Some(exit) = pid.and_then(|pid| self.ended.remove(&pid.as_raw_nonzero().get())) {
                return Turn::Ended(exit);
            }
            // Without an end in sight it still looks up now and then: a signal may get lost, a child not.
            let left =
                until.map_or(Duration::from_secs(5), |until| until.saturating_duration_since(Instant::now()));
            match self.signals.recv_timeout(left) {
                Ok(SIGCHLD) => {}
                Err(RecvTimeoutError::Timeout) if until.is_none() => {}
                Ok(_) => return Turn::AskedToStop,
                Err(_) => return Turn::TimeUp,
            }
        }
    }

    /// Waits for everything that has ended, orphans of others included. Whether any child is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    if self.watched.remove(&pid) {
                        self.ended.insert(pid, exit(status));
                    }
                }
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Ends everything below this process: what a job left behind must not see what comes after it.
    pub fn end_all(&mut self) {
        let patience = Instant::now() + LEFTOVERS;
        let mut asked = BTreeSet::new();
        while self.reap() {
            let late = Instant::now() >= patience;
            let left = processes::below(rustix::process::getpid());
            for process in left {
                let signal = if late { Signal::KILL } else { Signal::TERM };
                if late || asked.insert(process.pid.as_raw_nonzero()) {
                    // It may have ended by itself in between.
                    let _ = rustix::process::kill_process(process.pid, signal);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.ended.clear();
        self.watched.clear();
    }

    /// Sends `signal` to the group of a process that [`Supervisor::spawn`] started.
    pub fn signal_group(&self, pid: Pid, signal: Signal) {
        // Nothing is left of a group that ended.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}
