//! `status.json`: how the device is, for whoever deployed it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mynah_contracts::{
    DeviceState, DeviceStatus, Diagnosis, FaultKind, SchemaVersion, Sha256Digest, to_json,
};

use crate::clock::{Clock, rfc3339};
use crate::replace::replace_file;

/// Counts alone are written no more often than this.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why the status cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status `{path}`")]
pub struct StatusError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Diagnosis for StatusError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("name a file in a folder this user may write to: `--status FILE`".into())
    }
}

/// The status at hand and the file it is written to.
pub struct StatusFile {
    path: Option<PathBuf>,
    clock: Rc<dyn Clock>,
    now: DeviceStatus,
    /// What the file holds, and since when (the clock's uptime).
    written: Option<(DeviceStatus, Duration)>,
    /// Whether the last write failed.
    failing: bool,
}

impl StatusFile {
    /// Writes "starting", making the folders above the file; without a path nothing is ever written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: Option<&Path>, clock: Rc<dyn Clock>) -> Result<Self, StatusError> {
        let now = DeviceStatus {
            schema_version: SchemaVersion::CURRENT,
            version: env!("CARGO_PKG_VERSION").into(),
            state: DeviceState::Starting,
            model: None,
            frames: 0,
            unreadable_frames: 0,
            utterances: 0,
            speaker: None,
            problem: None,
            updated: String::new(),
        };
        let mut status =
            Self { path: path.map(Path::to_path_buf), clock, now, written: None, failing: false };
        if let Some(path) = path {
            let failed = |source| StatusError { path: path.to_path_buf(), source };
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            status.write(path).map_err(failed)?;
        }
        Ok(status)
    }

    /// The status at hand.
    pub fn get(&self) -> &DeviceStatus {
        &self.now
    }

    /// The model is loaded and trusted.
    pub fn running(&mut self, model: Sha256Digest, speaker: Option<String>) {
        self.update(|now| {
            now.state = DeviceState::Running;
            now.model = Some(model);
            now.speaker = speaker;
        });
    }

    /// The end, with what is to be known of it.
    pub fn end(&mut self, state: DeviceState, problem: Option<String>) {
        self.update(|now| {
            now.state = state;
            if problem.is_some() {
                now.problem = problem;
            }
        });
    }

    /// Changes the status. A change of state or problem is written at once, one of counts within
    /// the interval or with the next change after it.
    pub fn update(&mut self, change: impl FnOnce(&mut DeviceStatus)) {
        change(&mut self.now);
        let Some(path) = self.path.clone() else { return };
        let due = self.written.as_ref().is_none_or(|(before, at)| {
            (before.state, &before.problem, &before.model)
                != (self.now.state, &self.now.problem, &self.now.model)
                || (*before != self.now && self.clock.uptime().saturating_sub(*at) >= INTERVAL)
        });
        if due {
            match self.write(&path) {
                Ok(()) => self.failing = false,
                // A device goes on without its status; once is enough to say so.
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::warn!("cannot write the status `{}`: {error}", path.display());
                }
                Err(_) => {}
            }
        }
    }

    fn write(&mut self, path: &Path) -> io::Result<()> {
        self.now.updated = rfc3339(self.clock.timestamp());
        let bytes = to_json(&self.now);
        // Also after a failure: a full disk is not asked again with every frame.
        self.written = Some((self.now.clone(), self.clock.uptime()));
        replace_file(path, |file| file.write_all(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use mynah_contracts::from_json;

    use super::*;
    use crate::clock::ManualClock;

    fn read(path: &Path) -> DeviceStatus {
        from_json(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn states_are_written_at_once_and_counts_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/status.json");
        let clock = Rc::new(ManualClock::default());
        let mut status = StatusFile::open(Some(&path), clock.clone()).unwrap();
        assert_eq!(read(&path).state, DeviceState::Starting);

        status.running(Sha256Digest::of(b"m"), Some("wav:out".into()));
        assert_eq!(
            (read(&path).state, read(&path).model),
            (DeviceState::Running, Some(Sha256Digest::of(b"m")))
        );

        status.update(|now| now.frames = 1);
        assert_eq!(read(&path).frames, 0);
        clock.advance(INTERVAL);
        status.update(|now| now.frames = 2);
        assert_eq!(read(&path).frames, 2);
        assert_eq!(read(&path).updated, "1970-01-01T00:00:01.000Z");

        status.update(|now| (now.frames, now.problem) = (3, Some("no voice".into())));
        assert_eq!((read(&path).frames, read(&path).problem.as_deref()), (3, Some("no voice")));
        status.update(|now| now.frames = 4);
        status.end(DeviceState::Finished, None);
        assert_eq!((read(&path).frames, read(&path).problem.as_deref()), (4, Some("no voice")));
    }

    #[test]
    fn a_status_that_cannot_be_written_is_told_at_the_start_and_gone_without_later() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Rc::new(ManualClock::default());
        assert!(StatusFile::open(Some(folder.path()), clock.clone()).is_err());
        let path = folder.path().join("gone/status.json");
        let mut status = StatusFile::open(Some(&path), clock).unwrap();
        std::fs::remove_dir_all(folder.path().join("gone")).unwrap();
        status.end(DeviceState::Finished, None);
        assert_eq!(status.get().state, DeviceState::Finished);
    }
}
