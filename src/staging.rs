//! Output folders that are whole or absent: written beside their place, then put there at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind};

/// A folder being written. Dropped before [`StagedFolder::publish`], it leaves nothing behind.
pub struct StagedFolder {
    partial: tempfile::TempDir,
    place: PathBuf,
}

/// Why an output folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The place holds something that is not an earlier output of the step.
    #[error("`{place}` is not empty and holds no `{marker}`: it is not an earlier output of this step")]
    Foreign {
        /// The place.
        place: String,
        /// What an earlier output would hold.
        marker: &'static str,
    },
    /// The file system refused.
    #[error("cannot write `{path}`")]
    Io {
        /// The file or folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Diagnosis for StagingError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Foreign { .. } => FaultKind::BadInput,
            Self::Io { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some("name another folder with `--out`, or empty this one".into()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk and run the same command again".into())
            }
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
                    .then(|| "name a folder with `--out` that this user can write".into())
            }
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StagingError {
    let path = path.display().to_string();
    move |source| StagingError::Io { path, source }
}

impl StagedFolder {
    /// Begins an output for `place`. What is there may be replaced only if it is empty or holds `marker`,
    /// the artifact by which an earlier output of the same step is known.
    pub fn begin(place: &Path, marker: &'static str) -> Result<Self, StagingError> {
        let place = std::path::absolute(place).map_err(failed(place))?;
        let occupied = match fs::read_dir(&place) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(&place)(error)),
        };
        if occupied && !place.join(marker).is_file() {
            return Err(StagingError::Foreign { place: place.display().to_string(), marker });
        }
        let parent = place.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(failed(parent))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.partial-");
        remove_orphans(parent, &prefix);
        let partial = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed(parent))?;
        Ok(Self { partial, place })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StagingError> {
        let path = self.path().join(name);
        fs::write(&path, bytes).map_err(failed(&path))
    }

    /// Puts the folder in its place: all files reach the disk first, then one rename replaces the earlier
    /// output.
    pub fn publish(self) -> Result<PathBuf, StagingError> {
        sync_tree(self.path())?;
        set_readable(self.path())?;
        let place = self.place;
        if place.exists() {
            // The exchange leaves either output in the place at every moment; where the file system has no
            // such call, the place is empty for a moment.
            let exchanged = rustix::fs::renameat_with(
                rustix::fs::CWD,
                self.partial.path(),
                rustix::fs::CWD,
                &place,
                rustix::fs::RenameFlags::EXCHANGE,
            );
            if exchanged.is_ok() {
                // What is now under the temporary name is the earlier output.
                drop(self.partial);
                sync_folder(place.parent());
                return Ok(place);
            }
            fs::remove_dir_all(&place).map_err(failed(&place))?;
        }
        fs::rename(self.partial.path(), &place).map_err(failed(&place))?;
        // It is no longer there to be removed.
        let _ = self.partial.keep();
        sync_folder(place.parent());
        Ok(place)
    }
}

/// Writes one file so that its name never shows half of it. What a killed run left of the same file goes.
///
/// The content reaches the disk before the name does. Which of the two files, the earlier or this one, the name stands
/// for after a power cut is left open: both are whole, and what is written here can be made again from its inputs.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StagingError> {
    use io::Write as _;
    let path = std::path::absolute(path).map_err(failed(path))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let prefix = format!(".{}.partial-", path.file_name().unwrap_or_default().to_string_lossy());
    remove_files_of_the_dead(parent, &prefix);
    let mut partial = tempfile::Builder::new()
        .prefix(&format!("{prefix}{}-", std::process::id()))
        .tempfile_in(parent)
        .map_err(failed(parent))?;
    partial.write_all(bytes).and_then(|()| partial.as_file().sync_all()).map_err(failed(&path))?;
    partial.as_file().set_permissions(readable_file()).map_err(failed(&path))?;
    partial.persist(&path).map(drop).map_err(|error| failed(&path)(error.error))
}

fn readable_file() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

/// Temporary folders are private to their owner; a published one is read by later jobs.
fn set_readable(folder: &Path) -> Result<(), StagingError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed(folder))
}

/// What a killed run left; another run may remove the same.
fn remove_orphans(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Removes `prefix`, a process' number, `-` and anything, where there is no such process any more: another thread,
/// or another run, may be writing the same file right now.
fn remove_files_of_the_dead(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(prefix)?.split('-').next());
        let process = process.and_then(|number| rustix::process::Pid::from_raw(number.parse().ok()?));
        if process.is_some_and(|process| {
            rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH)
        }) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_tree(folder: &Path) -> Result<(), StagingError> {
    for entry in walkdir::WalkDir::new(folder).follow_links(false) {
        let entry = entry.map_err(|error| failed(folder)(error.into()))?;
        if entry.file_type().is_file() {
            File::open(entry.path()).and_then(|file| file.sync_all()).map_err(failed(entry.path()))?;
        }
    }
    Ok(())
}

/// A folder whose entries are not yet on the disk is no failure: the rename itself was made.
fn sync_folder(folder: Option<&Path>) {
    if let Some(Ok(folder)) = folder.map(File::open) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_output_is_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("training");
        for round in ["one", "two"] {
            let staged = StagedFolder::begin(&place, "training.json").unwrap();
            staged.write("training.json", round.as_bytes()).unwrap();
            staged.write(round, b"").unwrap();
            assert_eq!(staged.publish().unwrap(), place);
        }
        assert_eq!(fs::read(place.join("training.json")).unwrap(), b"two");
        assert!(!place.join("one").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "years").unwrap();
        let error = StagedFolder::begin(root.path(), "training.json").err().unwrap();
        assert_eq!(error.kind(), FaultKind::BadInput);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dropped_output_leaves_nothing_and_an_orphan_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("model");
        fs::create_dir(root.path().join(".model.partial-dead")).unwrap();
        drop(StagedFolder::begin(&place, "model.json").unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_written_whole_and_only_what_the_dead_left_of_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let alive = format!(".record.json.partial-{}-x", std::process::id());
        let dead = format!(".record.json.partial-{}-x", child.id());
        for name in [&alive, &dead, ".other.json.partial-1-x", ".record.json.partial-mine"] {
            fs::write(root.path().join(name), "half").unwrap();
        }
        write_file(&root.path().join("record.json"), b"whole").unwrap();
        assert_eq!(fs::read(root.path().join("record.json")).unwrap(), b"whole");
        let mut left: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = [".other.json.partial-1-x", ".record.json.partial-mine", "record.json", &alive]
            .map(str::to_owned);
        expected.sort();
        assert_eq!(left, expected);
    }
}
