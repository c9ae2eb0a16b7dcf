//! Programs this one starts: without its secrets, within a time, and ended when it ends.

use std::collections::VecDeque;
use std::io::{self, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mynah_contracts::Monitor;
use rustix::process::{Pid, Signal};

/// How often a running program is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// How soon a program is looked at first: some only say their version.
const FIRST_GLANCE: Duration = Duration::from_millis(1);

/// The most bytes of a short program's output that are kept.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

/// Keeps from a program what is not its business: the inputs of our task and the agent's credentials.
pub fn without_secrets(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_private(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Variables with which people hand credentials to the steps, beside the agent's.
pub(crate) const CREDENTIALS: [&str; 6] = [
    "SYSTEM_ACCESSTOKEN",
    "CUSTOM_VISION_KEY",
    "IOTHUB_CONNECTION_STRING",
    "MYNAH_PULL_PASSWORD",
    "MYNAH_REGISTRY_PASSWORD",
    "SPEECH_KEY",
];

fn is_private(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CREDENTIALS.contains(&name.as_str())
        || ["INPUT_", "SECRET_", "ENDPOINT_", "SECUREFILE_"].iter().any(|prefix| name.starts_with(prefix))
}

/// How a short program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote on standard output, shortened.
    pub stdout: String,
    /// What it wrote on standard error, shortened.
    pub stderr: String,
}

/// Why a short program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started or watched.
    #[error("cannot run `{program}`")]
    Io {
        /// Its name.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("`{program}` did not end within {seconds} s")]
    TooLong {
        /// Its name.
        program: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Runs a short program to its end, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started, takes longer than `limit`, or someone asks to stop.
pub fn run(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
    monitor: &dyn Monitor,
) -> Result<Ended, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| RunError::Io { program: program.clone(), source };
    without_secrets(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ending(spawn(command).map_err(failed)?);
    let stdout = collect(child.0.stdout.take());
    let stderr = collect(child.0.stderr.take());
    let input = input.to_owned();
    let mut stdin = child.0.stdin.take();
    // A program that does not read must not stop us from watching it.
    let feeder = thread::spawn(move || stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&input)));
    let deadline = Instant::now() + limit;
    let mut glance = FIRST_GLANCE;
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(failed)? {
            break status;
        }
        if monitor.cancelled() {
            return Err(RunError::Cancelled);
        }
        if Instant::now() >= deadline {
            return Err(RunError::TooLong { program, seconds: limit.as_secs() });
        }
        thread::sleep(glance);
        glance = (glance * 2).min(GLANCE);
    };
    // A program that ended without reading everything is judged by its status.
    let _ = feeder.join();
    let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What cannot be read is missing from a message, nothing more.
            let _ = stream.by_ref().take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A child that is killed when nobody waits for it any more.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Both fail only where it ended meanwhile.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A program that runs on while we watch; asked to end, then killed, when dropped.
pub struct Service {
    child: Child,
    reader: Option<JoinHandle<()>>,
    last: LastLines,
    grace: Duration,
}

type LastLines = Arc<Mutex<VecDeque<String>>>;

/// How many of a service's last lines are kept for an error message.
const LAST_LINES: usize = 5;

/// How long a service that ended is listened to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The most bytes of one line that are passed on.
const LINE_BYTES: usize = 2000;

impl Service {
    /// Starts it with this standard input. Each line of its standard error goes to `tracing`; when it must
    /// end, it is given `grace` to do so by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, stdin: Stdio, grace: Duration) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        without_secrets(command)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C goes to the whole group: this program ends its child itself.
            .process_group(0);
        let mut child = spawn(command)?;
        let last = LastLines::default();
        let kept = Arc::clone(&last);
        let reader = child.stderr.take().map(|stream| thread::spawn(move || forward(stream, &kept)));
        Ok(Self { child, reader, last, grace })
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it, if it still runs, and gives its last lines.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        // A program it left behind may hold the pipe open for as long as it likes.
        let deadline = Instant::now() + LAST_WORDS;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *last).into()
    }

    fn end(&mut self) {
        let running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if !running(&mut self.child) {
            return;
        }
        self.signal(Signal::TERM);
        let deadline = Instant::now() + self.grace;
        while running(&mut self.child) {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Signals the program and what it started: they are a group of their own.
    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails only where all of them ended meanwhile.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a program that may have been written a moment ago: a process that was just forked elsewhere in
/// this one may still hold the file open for writing, until it starts its own program.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                thread::sleep(GLANCE);
            }
            outcome => return outcome,
        }
    }
}

/// Passes lines on as they come and keeps the last ones.
fn forward(stream: impl Read, last: &Mutex<VecDeque<String>>) {
    let mut lines = io::BufReader::new(stream);
    let mut line = Vec::new();
    while read_line(&mut lines, &mut line, LINE_BYTES).is_ok_and(|more| more) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if text.is_empty() {
            continue;
        }
        tracing::info!("device: {text}");
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

/// Reads up to the end of a line, keeping no more than `most` bytes of it. False at the end.
pub(crate) fn read_line(reader: &mut impl io::BufRead, line: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut any = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        let room = most.saturating_sub(line.len());
        line.extend(buffer.iter().take(taken.min(room)));
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Quiet;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn credentials_stay_here() {
        for private in [
            "INPUT_SOURCE",
            "SECRET_KEY",
            "ENDPOINT_AUTH_X",
            "endpoint_url_x",
            "SECUREFILE_TICKET_1",
            "SYSTEM_ACCESSTOKEN",
            "SPEECH_KEY",
        ] {
            assert!(is_private(private), "{private}");
        }
        assert!(!is_private("PATH") && !is_private("HOME"));
    }

    #[test]
    fn input_output_and_status_come_through() {
        let mut command = shell("cat; echo problem >&2; exit 3");
        let ended = run(&mut command, b"hello", Duration::from_secs(20), &Quiet).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("hello", "problem\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = run(&mut shell("sleep 600"), b"", Duration::from_millis(50), &Quiet).unwrap_err();
        assert!(matches!(error, RunError::TooLong { .. }));
    }

    #[test]
    fn a_missing_program_is_told_as_such() {
        let error =
            run(&mut Command::new("mynah-no-such-program"), b"", Duration::from_secs(1), &Quiet).unwrap_err();
        let RunError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_service_keeps_its_last_lines_and_ends_when_asked() {
        let script = "trap 'echo bye >&2; exit 0' TERM; for i in 1 2 3 4 5 6; do echo line $i >&2; done; \
                      echo ready >&2; while :; do sleep 0.05; done";
        let service = Service::start(&mut shell(script), Stdio::null(), Duration::from_secs(20)).unwrap();
        thread::sleep(Duration::from_millis(300));
        let lines = service.stop();
        assert_eq!(lines.last().map(String::as_str), Some("bye"));
        assert_eq!(lines.len(), LAST_LINES);
    }

    #[test]
    fn a_service_that_ignores_the_request_is_killed() {
        let script = "trap '' TERM; while :; do sleep 0.05; done";
        let mut service =
            Service::start(&mut shell(script), Stdio::null(), Duration::from_millis(50)).unwrap();
        thread::sleep(Duration::from_millis(100));
        service.end();
        assert!(service.ended().unwrap().is_some());
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let mut line = Vec::new();
        let mut reader = io::BufReader::new(io::repeat(b'x').take(100_000));
        assert!(read_line(&mut reader, &mut line, LINE_BYTES).unwrap());
        assert_eq!(line.len(), LINE_BYTES);
    }
}
