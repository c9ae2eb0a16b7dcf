//! The speech engine eSpeak NG, as a program of its own: its licence (GPL-3.0) stays with it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mynah_contracts::Monitor;

use super::{SpeechError, wav};
use crate::child::{self, RunError};

/// How long one call may take; a label takes a few milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// An installed eSpeak NG.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Espeak {
    program: PathBuf,
    name: String,
}

impl Espeak {
    /// Finds it on the search path. Nothing where it is not installed or does not run.
    pub fn find(monitor: &dyn Monitor) -> Option<Self> {
        Self::at("espeak-ng".into(), monitor)
    }

    fn at(program: PathBuf, monitor: &dyn Monitor) -> Option<Self> {
        let ended = child::run(Command::new(&program).arg("--version"), b"", LIMIT, monitor).ok()?;
        // `eSpeak NG text-to-speech: 1.51  Data at: …`: the version without this machine's folders.
        let version = ended.stdout.split_once(':')?.1.split_whitespace().next()?;
        let plain = version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        (ended.status.success() && plain).then(|| Self { program, name: format!("espeak-ng {version}") })
    }

    /// Its name with its version, such as `espeak-ng 1.51`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Speaks `text` into a WAV file and gives its bytes.
    ///
    /// The words go through standard input: a label that begins with `-` is no option there.
    ///
    /// # Errors
    /// When the engine fails, knows no such voice, or takes too long.
    pub fn speak(&self, text: &str, voice: &str, monitor: &dyn Monitor) -> Result<Vec<u8>, SpeechError> {
        let folder = tempfile::tempdir().map_err(|source| SpeechError::Io {
            action: "write",
            path: std::env::temp_dir(),
            source,
        })?;
        let file = folder.path().join("clip.wav");
        let mut command = Command::new(&self.program);
        // `-b 1` is UTF-8; `-v` and `-w` each take the argument that follows, whatever it is.
        command.args(["-b", "1", "-v", voice, "-w"]).arg(&file).arg("--stdin");
        let ended =
            child::run(&mut command, text.as_bytes(), LIMIT, monitor).map_err(|source| match source {
                RunError::Cancelled => SpeechError::Cancelled,
                source => SpeechError::Run { text: text.to_owned(), source },
            })?;
        let refused =
            |said: String| SpeechError::Engine { text: text.to_owned(), voice: voice.to_owned(), said };
        if !ended.status.success() {
            let line = ended.stderr.lines().rev().find(|line| !line.trim().is_empty());
            return Err(refused(
                line.map_or_else(|| ended.status.to_string(), |line| line.trim().to_owned()),
            ));
        }
        let bytes = fs::read(&file).map_err(|_| refused("it wrote no file".into()))?;
        wav::check(&bytes).map_err(|problem| refused(format!("what it wrote {problem}")))?;
        Ok(bytes)
    }
}

#[cfg(test)]
impl Espeak {
    /// A stand-in program.
    pub(super) fn stand_in(program: PathBuf) -> Option<Self> {
        Self::at(program, &mynah_contracts::Quiet)
    }
}
