//! Sightings as JSON lines: one line per frame, whole and flushed before the next frame is looked at.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind, Sighting};

use crate::settings::SightingsTo;

/// Why sightings cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum SightingsError {
    /// The file cannot be made.
    #[error("cannot begin the file of sightings `{path}`")]
    Create {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line cannot be written.
    #[error("cannot write a sighting to {to}")]
    Write {
        /// Where, in words.
        to: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Diagnosis for SightingsError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Create { .. } => FaultKind::BadInput,
            Self::Write { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some("name a file this user may write, on a disk with room: `--sightings FILE`".into())
    }
}

/// Where sightings go.
pub struct SightingLog {
    to: SightingsTo,
    file: Option<File>,
    /// The length of the whole lines in the file, in bytes.
    whole: u64,
    /// The line at hand; kept so that its memory is taken once.
    line: Vec<u8>,
}

impl SightingLog {
    /// Begins the file anew, with the folders above it.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(to: &SightingsTo) -> Result<Self, SightingsError> {
        let file = match to {
            SightingsTo::Stdout => None,
            SightingsTo::File(path) => {
                let create = || {
                    if let Some(folder) = path.parent() {
                        std::fs::create_dir_all(folder)?;
                    }
                    File::create(path)
                };
                Some(create().map_err(|source| SightingsError::Create { path: path.clone(), source })?)
            }
        };
        Ok(Self { to: to.clone(), file, whole: 0, line: Vec::new() })
    }

    /// Appends one line and flushes it. Where that fails, what was written of the line is taken back.
    ///
    /// # Errors
    /// The line is lost; the next may succeed.
    pub fn record(&mut self, sighting: &Sighting) -> Result<(), SightingsError> {
        self.line.clear();
        let written =
            serde_json::to_writer(&mut self.line, sighting).map_err(io::Error::from).and_then(|()| {
                self.line.push(b'\n');
                if let Some(file) = &mut self.file {
                    file.write_all(&self.line).inspect_err(|_| {
                        // Where this fails too, the error at hand has told enough.
                        let _ = file.set_len(self.whole);
                        let _ = file.seek(SeekFrom::Start(self.whole));
                    })
                } else {
                    let mut out = io::stdout().lock();
                    out.write_all(&self.line).and_then(|()| out.flush())
                }
            });
        written.map_err(|source| SightingsError::Write {
            to: match &self.to {
                SightingsTo::Stdout => "standard output".into(),
                SightingsTo::File(path) => format!("`{}`", path.display()),
            },
            source,
        })?;
        self.whole += self.line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mynah_contracts::Sha256Digest;

    use super::*;

    fn sighting(frame: u64) -> Sighting {
        Sighting {
            time: "2026-01-01T00:00:00.000Z".into(),
            frame,
            image: None,
            label: None,
            best: "red".parse().unwrap(),
            probability: 0.5,
            said: None,
            model: Sha256Digest::of(b"model"),
        }
    }

    #[test]
    fn each_line_is_there_as_soon_as_it_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/sightings.jsonl");
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(&path, "from an earlier run\n").unwrap();
        let mut log = SightingLog::open(&SightingsTo::File(path.clone())).unwrap();
        for frame in 0..3 {
            log.record(&sighting(frame)).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<Sighting> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines, (0..=frame).map(sighting).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_full_disk_is_told_and_a_file_that_cannot_be_made_is_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: PathBuf| SightingLog::open(&SightingsTo::File(path));
        assert!(matches!(open(folder.path().to_path_buf()), Err(SightingsError::Create { .. })));
        if cfg!(target_os = "linux") {
            let mut log = open("/dev/full".into()).unwrap();
            let error = log.record(&sighting(0)).unwrap_err();
            assert_eq!(error.to_string(), "cannot write a sighting to `/dev/full`");
        }
    }
}
