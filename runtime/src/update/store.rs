//! Which models the device has: the one in use, the one before it, those that failed. On disk, whole after a power loss.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mynah_contracts::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::replace::replace_file;

/// How many failed models are remembered.
const REFUSED: usize = 16;
const FILE: &str = "models.json";

/// What is noted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Note {
    /// The model in use; absent = the one the device was installed with.
    active: Option<Sha256Digest>,
    /// The one before it.
    previous: Option<Sha256Digest>,
    /// The model in use has yet to prove itself.
    trial: bool,
    /// The device runs; still set at the next start where it did not end in good order.
    running: bool,
    /// Models that failed, the newest last.
    refused: Vec<Sha256Digest>,
}

/// The folder of models. Each is named by the digest of its card.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    note: Note,
}

impl Store {
    /// Opens the folder. A model in trial whose device did not end in good order is given up.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let note = match std::fs::read(folder.join(FILE)) {
            // A note that cannot be read is no reason to stand still: the installed model is always there.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("the note of models cannot be read, the installed model is used: {error}");
                Note::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Note::default(),
            Err(error) => return Err(error),
        };
        let mut store = Self { folder: folder.to_path_buf(), note };
        if store.note.trial && store.note.running {
            tracing::warn!("the device ended within the trial of its model: the one before is used");
            store.give_up()?;
        }
        store.note.running = true;
        store.write()?;
        Ok(store)
    }

    fn write(&self) -> io::Result<()> {
        replace_file(&self.folder.join(FILE), |file| {
            serde_json::to_writer_pretty(&mut *file, &self.note)?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
    }

    /// Where the model with this card lies, or will.
    pub(crate) fn place(&self, card: &Sha256Digest) -> PathBuf {
        self.folder.join(card.hex())
    }

    /// The model in use, where it is not the installed one.
    pub(crate) fn active(&self) -> Option<Sha256Digest> {
        self.note.active
    }

    /// Whether the model in use has yet to prove itself.
    pub(crate) fn is_trial(&self) -> bool {
        self.note.trial
    }

    pub(crate) fn is_refused(&self, card: &Sha256Digest) -> bool {
        self.note.refused.contains(card)
    }

    /// Another model is in use from now on, in trial. Those that are neither this nor the one before are removed.
    ///
    /// # Errors
    /// It cannot be noted; the old one stays.
    pub(crate) fn take_up(&mut self, card: Sha256Digest) -> io::Result<()> {
        let before = self.note.clone();
        self.note.previous = self.note.active;
        (self.note.active, self.note.trial) = (Some(card), true);
        self.write().inspect_err(|_| self.note = before)?;
        self.clean();
        Ok(())
    }

    /// The model in use has proved itself.
    ///
    /// # Errors
    /// It cannot be noted.
    pub(crate) fn prove(&mut self) -> io::Result<()> {
        self.note.trial = false;
        self.write()
    }

    /// The model in use failed: the one before is used again, and this one never more.
    ///
    /// # Errors
    /// It cannot be noted.
    pub(crate) fn give_up(&mut self) -> io::Result<()> {
        if let Some(failed) = self.note.active.take() {
            self.note.refused.push(failed);
            let surplus = self.note.refused.len().saturating_sub(REFUSED);
            self.note.refused.drain(..surplus);
        }
        self.note.active = self.note.previous.take();
        self.note.trial = false;
        self.write()
    }

    /// The device ends in good order.
    pub(crate) fn end(&mut self) {
        self.note.running = false;
        if let Err(error) = self.write() {
            tracing::warn!("the note of models cannot be written: {error}");
        }
    }

    /// Removes what is neither in use nor kept to go back to.
    fn clean(&self) {
        let kept: Vec<String> =
            [self.note.active, self.note.previous].into_iter().flatten().map(|card| card.hex()).collect();
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_model =
                name.to_str().is_some_and(|name| name.len() == 64 && !kept.iter().any(|kept| kept == name));
            if is_model && let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::warn!("an old model cannot be removed: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Sha256Digest {
        Sha256Digest::of(name.as_bytes())
    }

    #[test]
    fn a_model_that_proved_itself_stays_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(store.active(), None);
        for name in ["a", "b", "c"] {
            std::fs::create_dir(store.place(&card(name))).unwrap();
            store.take_up(card(name)).unwrap();
            store.prove().unwrap();
        }
        // The power goes.
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.active(), Some(card("c")));
        assert!(!store.place(&card("a")).exists() && store.place(&card("b")).exists());
    }

    #[test]
    fn a_device_that_crashed_in_the_trial_goes_back_once_and_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.take_up(card("good")).unwrap();
        store.prove().unwrap();
        store.take_up(card("bad")).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((store.active(), store.is_refused(&card("bad"))), (Some(card("good")), true));
    }

    #[test]
    fn an_end_in_good_order_is_no_crash_and_giving_up_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.take_up(card("new")).unwrap();
        store.end();
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(store.active(), Some(card("new")));
        store.give_up().unwrap();
        assert_eq!((store.active(), store.is_refused(&card("new"))), (None, true));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Store::open(folder.path()).unwrap().active(), None);
    }
}
