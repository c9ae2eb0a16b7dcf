//! Replacing a file as a whole: readers see the old one or the new one, never half of one.

use std::fs::File;
use std::io;
use std::path::Path;

/// Writes to a temporary name beside `path`, then renames it to `path`.
///
/// The file is readable by those the process' umask allows, since others are to read what a device reports.
///
/// # Errors
/// The folder takes no file, or writing fails; `path` is then as it was.
pub(crate) fn replace_file(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mynah-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace_file(&path, |file| file.write_all(b"old")).unwrap();
        replace_file(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("full"))
        })
        .unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
