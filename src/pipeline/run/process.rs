//! A step's program: its lines as they come, ended as an agent ends it.

use std::io::{BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::child::{read_line, spawn};

/// How often is looked whether somebody asked to stop.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a program has after SIGINT, and then after SIGTERM (agent source, `ProcessInvoker`).
const AFTER_INT: Duration = Duration::from_millis(7500);
const AFTER_TERM: Duration = Duration::from_millis(2500);

/// How long what a program left behind may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The most bytes of one line that are kept.
const LINE_BYTES: usize = 256 * 1024;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, with this exit code; a signal counts as 128 and its number.
    With(i32),
    /// It took too long.
    TooLong,
    /// Somebody asked to stop.
    Cancelled,
}

/// One line, and whether it is of standard error.
struct Line {
    text: String,
    is_error: bool,
}

/// Runs a program to its end and gives `each` its lines. The program and what it starts are a group of their own, of
/// which nothing is left afterwards.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(
    command: &mut Command,
    limit: Option<Duration>,
    cancelled: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&str, bool),
) -> std::io::Result<Ended> {
    use std::os::unix::process::CommandExt as _;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group(spawn(command)?);
    let (sender, lines) = mpsc::channel();
    let readers = [
        group.0.stdout.take().map(|stream| forward(stream, false, sender.clone())),
        group.0.stderr.take().map(|stream| forward(stream, true, sender)),
    ];
    let started = Instant::now();
    let mut ending: Option<(Ended, Instant)> = None;
    let mut exited: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) => each(&line.text, line.is_error),
            Err(RecvTimeoutError::Disconnected) if exited.is_some() => break,
            // Its streams are closed, and it goes on.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(GLANCE),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if exited.is_none() {
            exited = group.0.try_wait()?.map(|status| (status, Instant::now()));
        }
        match (&ending, &exited) {
            (_, Some((_, since))) if since.elapsed() > LAST_WORDS => {
                group.signal(Signal::KILL);
                break;
            }
            (None, None) => {
                let late = limit.is_some_and(|limit| started.elapsed() > limit);
                let why = if cancelled() { Some(Ended::Cancelled) } else { late.then_some(Ended::TooLong) };
                if let Some(why) = why {
                    group.signal(Signal::INT);
                    ending = Some((why, Instant::now()));
                }
            }
            (Some((_, since)), None) if since.elapsed() > AFTER_INT + AFTER_TERM => {
                group.signal(Signal::KILL);
            }
            (Some((_, since)), None) if since.elapsed() > AFTER_INT => group.signal(Signal::TERM),
            _ => {}
        }
    }
    // What it left behind would hold the readers up.
    group.signal(Signal::KILL);
    for reader in readers.into_iter().flatten() {
        // A reader ends with its stream.
        let _ = reader.join();
    }
    for line in lines.try_iter() {
        each(&line.text, line.is_error);
    }
    Ok(match (ending, exited) {
        (Some((why, _)), _) => why,
        (None, Some((status, _))) => Ended::With(code(status)),
        (None, None) => Ended::With(-1),
    })
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn forward(stream: impl Read + Send + 'static, is_error: bool, to: Sender<Line>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut bytes = Vec::new();
        while read_line(&mut lines, &mut bytes, LINE_BYTES).is_ok_and(|more| more) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            bytes.clear();
            if to.send(Line { text, is_error }).is_err() {
                return;
            }
        }
    })
}

/// A program and what it started; killed when nobody waits for them any more.
struct Group(Child);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Fails only where all of them ended meanwhile.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str, limit: Option<Duration>, cancelled: bool) -> (Ended, Vec<(String, bool)>) {
        let mut said = Vec::new();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let ended = run(&mut command, limit, &|| cancelled, &mut |line, is_error| {
            said.push((line.to_owned(), is_error));
        });
        (ended.unwrap(), said)
    }

    #[test]
    fn lines_and_exit_codes_come_through() {
        let (ended, mut said) = ran("echo one; echo two >&2; printf three; exit 3", None, false);
        said.sort();
        assert_eq!(ended, Ended::With(3));
        assert_eq!(said, [("one".into(), false), ("three".into(), false), ("two".into(), true)]);
        assert_eq!(ran("kill -9 $$", None, false).0, Ended::With(137));
    }

    #[test]
    fn what_takes_too_long_or_is_not_wanted_ends_with_all_it_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! > {}; wait", file.path().display());
        assert_eq!(ran(&script, Some(Duration::from_millis(300)), false).0, Ended::TooLong);
        let child = std::fs::read_to_string(file.path()).unwrap();
        let there = || std::path::Path::new(&format!("/proc/{}/cmdline", child.trim())).exists();
        let deadline = Instant::now() + Duration::from_secs(20);
        while there() && Instant::now() < deadline {
            // A zombie that nobody waits for has an empty command line.
            if std::fs::read(format!("/proc/{}/cmdline", child.trim())).is_ok_and(|line| line.is_empty()) {
                break;
            }
            thread::sleep(GLANCE);
        }
        assert!(
            std::fs::read(format!("/proc/{}/cmdline", child.trim())).map_or(true, |line| line.is_empty()),
            "{child} runs on"
        );
        assert_eq!(ran("sleep 600", None, true).0, Ended::Cancelled);
    }

    #[test]
    fn what_a_program_leaves_behind_holds_nobody_up() {
        let (ended, said) = ran("sleep 600 & echo done", None, false);
        assert_eq!((ended, said.len()), (Ended::With(0), 1));
    }
}
