//! The dataset's folder: what may be written to, how files get their names, what is cleared away.
//!
//! Every file is written under a temporary name and renamed. `dataset.json` comes last; what it no longer
//! names is removed only after it stands. So a process that dies at any moment leaves a valid dataset.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mynah_contracts::{Artifact as _, Dataset, Photo, Sha256Digest, from_json, write_json};
use tempfile::{NamedTempFile, TempPath};

use super::CONTACT_SHEETS;
use super::assemble::SHORT;
use super::error::ImportError;

/// The record's file name.
pub(super) const DATASET_FILE: &str = Dataset::FILE;

/// How temporary names begin.
const TEMPORARY: &str = ".mynah-import-";

/// The folder where fetched photos wait until the record names them.
const FETCHED: &str = ".mynah-import-fetched";

/// A dataset's folder that may be written to.
pub(super) struct Store {
    out: PathBuf,
    /// The folder itself, locked; nothing is kept in it for that.
    held: OnceLock<File>,
}

impl Store {
    /// Takes `out` for output: makes it, and clears what a killed import left under temporary names.
    ///
    /// Refuses a folder with other content, and one that lies within the source's folder or holds it.
    pub(super) fn open(source: Option<&Path>, out: &Path) -> Result<Self, ImportError> {
        if let Some(source) = source {
            let source = fs::canonicalize(source)
                .map_err(|error| ImportError::Source { path: source.to_path_buf(), source: error })?;
            let real = resolved(out).map_err(ImportError::io("find", out))?;
            if real.starts_with(&source) || source.starts_with(&real) {
                return Err(ImportError::Overlap { source_folder: source, out: out.to_path_buf() });
            }
        }
        let store = Self { out: out.to_path_buf(), held: OnceLock::new() };
        if out.exists()
            && !out.join(DATASET_FILE).exists()
            && !store.all_files()?.iter().all(|file| file.kind != Kind::Foreign)
        {
            return Err(ImportError::Foreign { out: out.to_path_buf() });
        }
        Ok(store)
    }

    /// What `dataset.json` says now, if there is one.
    pub(super) fn previous(&self) -> Result<Option<Dataset>, ImportError> {
        let path = self.out.join(DATASET_FILE);
        match fs::read(&path) {
            Ok(bytes) => from_json(&bytes)
                .map(Some)
                .map_err(|source| ImportError::Previous { out: self.out.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImportError::io("read", path)(error)),
        }
    }

    /// Makes the folder and keeps other imports out of it until this one has ended, however it ends. They would take
    /// each other's temporary files for leftovers.
    pub(super) fn hold(&self) -> Result<(), ImportError> {
        if self.held.get().is_some() {
            return Ok(());
        }
        make_folder(&self.out)?;
        let folder = File::open(&self.out).map_err(ImportError::io("open", &self.out))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ImportError::Busy { out: self.out.clone() }),
            // Some file systems of the network know no locks; nothing is lost but this check.
            Err(TryLockError::Error(error)) => {
                tracing::debug!("`{}` cannot be locked: {error}", self.out.display());
            }
        }
        self.held.get_or_init(|| folder);
        Ok(())
    }

    /// Makes the folder, and clears what a killed import left under temporary names. `previous` is what its record said
    /// when this import was planned.
    pub(super) fn begin(&self, previous: Option<&Dataset>) -> Result<(), ImportError> {
        self.hold()?;
        if self.previous()?.as_ref() != previous {
            return Err(ImportError::Busy { out: self.out.clone() });
        }
        for file in self.all_files()?.iter().filter(|file| file.kind == Kind::Temporary) {
            remove(&file.path)?;
        }
        Ok(())
    }

    /// Whether the photo's copy is there with the right bytes.
    pub(super) fn holds(&self, photo: &Photo) -> bool {
        let path = photo.file.below(&self.out);
        fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == photo.bytes)
            && fs::read(&path).is_ok_and(|bytes| Sha256Digest::of(&bytes) == photo.sha256)
    }

    /// Copies the photo's bytes from `from`, which must still be what was looked at.
    pub(super) fn copy(&self, photo: &Photo, from: &Path) -> Result<(), ImportError> {
        let to = photo.file.below(&self.out);
        // What was fetched is nobody else's to write to: a second name is enough, where the file system has such.
        if from.starts_with(self.fetched())
            && let Ok(linked) = self.linked(&to, from)
        {
            return persist(linked, &to);
        }
        let bytes = fs::read(from).map_err(ImportError::io("read", from))?;
        if Sha256Digest::of(&bytes) != photo.sha256 {
            return Err(ImportError::Changed { path: from.to_path_buf() });
        }
        persist(self.temporary(&to, &bytes)?, &to)
    }

    /// Where fetched photos wait; [`Store::clear`] removes what is in there.
    pub(super) fn fetched(&self) -> PathBuf {
        self.out.join(FETCHED)
    }

    /// The photo's copy.
    pub(super) fn photo_path(&self, photo: &Photo) -> PathBuf {
        photo.file.below(&self.out)
    }

    /// Where a label's contact sheet lies.
    pub(super) fn sheet_path(&self, label: &mynah_contracts::Label) -> PathBuf {
        self.out.join(CONTACT_SHEETS).join(format!("{label}.png"))
    }

    /// Writes `bytes` under a temporary name beside `to`, making the folder.
    pub(super) fn temporary(&self, to: &Path, bytes: &[u8]) -> Result<TempPath, ImportError> {
        let folder = to.parent().unwrap_or(&self.out);
        make_folder(folder)?;
        let cannot = |error| ImportError::io("write", to)(error);
        let mut file = temporary_file(folder).map_err(cannot)?;
        file.write_all(bytes).map_err(cannot)?;
        Ok(file.into_temp_path())
    }

    /// A second name for `from`, a temporary one beside `to`.
    fn linked(&self, to: &Path, from: &Path) -> io::Result<TempPath> {
        let folder = to.parent().unwrap_or(&self.out);
        fs::create_dir_all(folder)?;
        let linked =
            tempfile::Builder::new().prefix(TEMPORARY).make_in(folder, |path| fs::hard_link(from, path))?;
        Ok(linked.into_temp_path())
    }

    /// Makes `dataset.json` say `dataset`, for good even if the power fails.
    pub(super) fn commit(&self, dataset: &Dataset) -> Result<(), ImportError> {
        let to = self.out.join(DATASET_FILE);
        let cannot = |error| ImportError::io("write", &to)(error);
        let file = temporary_file(&self.out).map_err(cannot)?;
        write_json(dataset, file.as_file()).map_err(cannot)?;
        file.as_file().sync_all().map_err(cannot)?;
        persist(file.into_temp_path(), &to)?;
        sync_folder(&self.out).map_err(cannot)
    }

    /// Removes copies and contact sheets that `dataset` does not name, and label folders left empty; tells how
    /// many copies.
    pub(super) fn clear(&self, dataset: &Dataset) -> Result<u64, ImportError> {
        let photos = dataset.photos.iter().map(|photo| self.photo_path(photo));
        let sheets = dataset.labels.iter().map(|count| self.sheet_path(&count.label));
        let named: BTreeSet<PathBuf> = photos.chain(sheets).collect();
        let mut removed = 0;
        for file in self.all_files()? {
            if !matches!(file.kind, Kind::Record | Kind::Foreign) && !named.contains(&file.path) {
                remove(&file.path)?;
                removed += u64::from(file.kind == Kind::Photo);
                if let Some(folder) = file.path.parent()
                    && folder != self.out
                {
                    // Succeeds for the last file of a folder only.
                    let _ = fs::remove_dir(folder);
                }
            }
        }
        Ok(removed)
    }

    /// The files in the folder and in the folders directly below it.
    fn all_files(&self) -> Result<Vec<Present>, ImportError> {
        let mut files = Vec::new();
        for (path, is_folder) in list(&self.out)? {
            if is_folder {
                let folder = name(&path);
                let content = list(&path)?;
                files.extend(
                    content.into_iter().map(|(file, is_folder)| Present::new(file, Some(&folder), is_folder)),
                );
            } else {
                files.push(Present::new(path, None, false));
            }
        }
        Ok(files)
    }
}

/// A file (or a folder where we make none) that is there.
struct Present {
    path: PathBuf,
    kind: Kind,
}

/// What a file's name says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Temporary,
    /// A photo, or the beginning of one, that waits for the record to name it.
    Fetched,
    Record,
    Sheet,
    Photo,
    /// No import gives such a name.
    Foreign,
}

impl Present {
    fn new(path: PathBuf, folder: Option<&str>, is_folder: bool) -> Self {
        let file = name(&path);
        let kind = match folder {
            _ if is_folder => Kind::Foreign,
            Some(FETCHED) => Kind::Fetched,
            _ if file.starts_with(TEMPORARY) => Kind::Temporary,
            None if file == DATASET_FILE => Kind::Record,
            Some(CONTACT_SHEETS) if file.strip_suffix(".png").is_some() => Kind::Sheet,
            Some(_) if is_content_name(&file) => Kind::Photo,
            _ => Kind::Foreign,
        };
        Self { path, kind }
    }
}

/// Whether an import may have given this name: 16 or 64 digits of a digest and an image's extension.
fn is_content_name(file: &str) -> bool {
    file.split_once('.').is_some_and(|(stem, extension)| {
        matches!(stem.len(), SHORT | 64)
            && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && matches!(extension, "jpg" | "png" | "bmp" | "gif" | "webp")
    })
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a folder holds, and whether each is a folder; nothing if there is no folder.
fn list(folder: &Path) -> Result<Vec<(PathBuf, bool)>, ImportError> {
    let cannot = |error| ImportError::io("read the folder", folder)(error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    entries
        .map(|entry| {
            let entry = entry.map_err(cannot)?;
            Ok((entry.path(), entry.file_type().map_err(cannot)?.is_dir()))
        })
        .collect()
}

/// The real place of a path whose last parts need not exist yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for ancestor in path.ancestors() {
        if let Ok(real) = fs::canonicalize(ancestor) {
            return Ok(path.strip_prefix(ancestor).map_or(real.clone(), |rest| real.join(rest)));
        }
    }
    Ok(path)
}

fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Files other programs and users read: what the umask leaves of rw-rw-rw-, not the private default.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn make_folder(folder: &Path) -> Result<(), ImportError> {
    fs::create_dir_all(folder).map_err(ImportError::io("make the folder", folder))
}

/// Gives a temporary file its name.
pub(super) fn persist(file: TempPath, to: &Path) -> Result<(), ImportError> {
    file.persist(to).map_err(|error| ImportError::io("write", to)(error.error))
}

/// Removes a file; one that is gone is as good as removed.
pub(super) fn remove(path: &Path) -> Result<(), ImportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImportError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a rename in a folder last. Only Unix has folders that can be synchronised.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_an_import_gives_are_its_own() {
        for ours in ["0123456789abcdef.jpg", &format!("{}.webp", "0".repeat(64))] {
            assert!(is_content_name(ours), "{ours}");
        }
        for foreign in
            ["0123456789abcdef.txt", "0123456789ABCDEF.jpg", "holiday.jpg", "0123456789abcdef", "0.jpg"]
        {
            assert!(!is_content_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_foreign_folder_and_one_within_the_source_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("photos");
        fs::create_dir_all(source.join("apple")).unwrap();
        for out in [source.clone(), source.join("out"), source.join("new/deep"), root.path().to_path_buf()] {
            assert!(
                matches!(Store::open(Some(&source), &out), Err(ImportError::Overlap { .. })),
                "{}",
                out.display()
            );
        }
        let out = root.path().join("out");
        assert!(Store::open(Some(&source), &out).is_ok());
        fs::create_dir_all(out.join("apple")).unwrap();
        fs::write(out.join("apple/0123456789abcdef.jpg"), "left by a killed import").unwrap();
        fs::write(out.join("apple/.mynah-import-x"), "half").unwrap();
        let store = Store::open(Some(&source), &out).unwrap();
        store.begin(None).unwrap();
        assert!(!out.join("apple/.mynah-import-x").exists());
        fs::write(out.join("apple/diary.txt"), "mine").unwrap();
        assert!(matches!(Store::open(Some(&source), &out), Err(ImportError::Foreign { .. })));
        fs::remove_file(out.join("apple/diary.txt")).unwrap();
        fs::create_dir_all(out.join("apple/deeper")).unwrap();
        assert!(matches!(Store::open(Some(&source), &out), Err(ImportError::Foreign { .. })));
    }
}
