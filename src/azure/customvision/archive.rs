//! The zip of an export, taken apart without trusting it: nothing is written by its names, nothing is unpacked
//! beyond a limit.

use std::io::{Cursor, Read as _};

use mynah_contracts::Label;
use zip::ZipArchive;

/// The most members that are looked at; an export has a handful.
const MEMBERS: usize = 10_000;

/// The largest member that is read, in bytes.
const LARGEST: u64 = 512 << 20;

/// Why an export's zip is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a zip, or a damaged one.
    #[error("the export is not a whole zip file")]
    Damaged(#[source] zip::result::ZipError),
    /// More members than any export has.
    #[error("the export's zip has {0} members, at most {MEMBERS} are looked at")]
    Members(usize),
    /// A name that leads out of the folder it would be unpacked to, or a link.
    #[error("the export's zip holds `{0}`, which leads out of its folder")]
    Escape(String),
    /// A member that unpacks to more than any export holds.
    #[error("the member `{name}` of the export's zip unpacks to more than {} MiB", LARGEST >> 20)]
    Bomb {
        /// Its name.
        name: String,
    },
    /// A member that should be there is not.
    #[error("the export's zip has no `{name}`, it holds {found}")]
    Missing {
        /// The name.
        name: &'static str,
        /// What there is.
        found: String,
    },
    /// A line of `labels.txt` is no label.
    #[error("line {line} of the export's `labels.txt` is no label")]
    Label {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: mynah_contracts::LabelError,
    },
}

/// An export's zip whose names have been looked at.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The members' names, in the directory's order.
    names: Vec<String>,
}

impl<'a> Archive<'a> {
    /// Opens a zip and looks at all its names.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(ArchiveError::Damaged)?;
        if zip.len() > MEMBERS {
            return Err(ArchiveError::Members(zip.len()));
        }
        let mut names = Vec::new();
        for at in 0..zip.len() {
            let member = zip.by_index_raw(at).map_err(ArchiveError::Damaged)?;
            let name = member.name().map_err(ArchiveError::Damaged)?.into_owned();
            // The library takes `/etc/passwd` for `etc/passwd`; who packed it meant something else.
            let absolute = name.starts_with(['/', '\\']);
            if absolute || member.enclosed_name().is_none() || member.is_symlink() {
                return Err(ArchiveError::Escape(name.escape_debug().to_string()));
            }
            names.push(name);
        }
        Ok(Self { zip, names })
    }

    /// The bytes of the member with this file name, at whatever depth: of several the one nearest the root, of
    /// those the first in the alphabet.
    pub(super) fn read(&mut self, name: &'static str) -> Result<Vec<u8>, ArchiveError> {
        self.find(name)?.ok_or_else(|| {
            let mut found: Vec<&String> = self.names.iter().collect();
            found.sort_unstable();
            let found: Vec<String> =
                found.iter().take(10).map(|name| format!("`{}`", name.escape_debug())).collect();
            let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
            ArchiveError::Missing { name, found }
        })
    }

    /// As [`Archive::read`], for a member that need not be there.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let nearest = self
            .names
            .iter()
            .enumerate()
            .filter(|(_, member)| member.rsplit('/').next() == Some(name))
            .min_by_key(|(_, member)| (member.matches('/').count(), *member));
        let Some((at, member)) = nearest else { return Ok(None) };
        let entry = self.zip.by_index(at).map_err(ArchiveError::Damaged)?;
        let mut bytes = Vec::new();
        // What the directory says of sizes is not trusted: one byte more than allowed is enough to know.
        entry
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ArchiveError::Damaged(zip::result::ZipError::Io(error)))?;
        if bytes.len() as u64 > LARGEST {
            return Err(ArchiveError::Bomb { name: member.escape_debug().to_string() });
        }
        Ok(Some(bytes))
    }
}

/// The lines of `labels.txt`: one label each, in the order of the outputs.
pub(super) fn labels(bytes: &[u8]) -> Result<Vec<Label>, ArchiveError> {
    let text = String::from_utf8_lossy(bytes);
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| line.parse().map_err(|source| ArchiveError::Label { line: at + 1, source }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn members_are_found_at_any_depth_the_nearest_first() {
        let bytes =
            zip(&[("b/deep/model.onnx", b"deep"), ("b/model.onnx", b"near"), ("labels.txt", b"a\r\nb\r\n")]);
        let mut archive = Archive::open(&bytes).unwrap();
        assert_eq!(archive.read("model.onnx").unwrap(), b"near");
        let found = labels(&archive.read("labels.txt").unwrap()).unwrap();
        assert_eq!(found.iter().map(Label::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(archive.find("metadata_properties.json").unwrap(), None);
        let missing = archive.read("model.pb").unwrap_err().to_string();
        assert!(missing.contains("no `model.pb`") && missing.contains("`b/model.onnx`"), "{missing}");
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../model.onnx", "/etc/passwd", "a/../../b"] {
            let error = Archive::open(&zip(&[("labels.txt", b"a"), (name, b"x")])).err().unwrap().to_string();
            assert!(error.contains("leads out"), "{name}: {error}");
        }
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("model.onnx", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        assert!(matches!(Archive::open(&bytes), Err(ArchiveError::Escape(_))));
    }

    #[test]
    fn a_cut_zip_a_changed_member_and_a_bad_label_are_told() {
        let bytes = zip(&[("model.onnx", &[7; 4000])]);
        assert!(matches!(Archive::open(&bytes[..bytes.len() / 2]), Err(ArchiveError::Damaged(_))));
        assert!(matches!(Archive::open(b"<html>not found</html>"), Err(ArchiveError::Damaged(_))));
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file("model.onnx", stored).unwrap();
        writer.write_all(b"abcdefgh").unwrap();
        let mut changed = writer.finish().unwrap().into_inner();
        let at = changed.windows(8).position(|window| window == b"abcdefgh").unwrap();
        changed[at] ^= 1;
        assert!(matches!(Archive::open(&changed).unwrap().read("model.onnx"), Err(ArchiveError::Damaged(_))));
        let error = labels(b"\xef\xbb\xbfcat\n\na/b\n").unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }

    proptest! {
        #[test]
        fn damage_never_panics(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
            let mut bytes = zip(&[("app/model.onnx", &[1; 300]), ("labels.txt", b"a\nb\n")]);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(mut archive) = Archive::open(&bytes) {
                let _ = archive.find("model.onnx");
                let _ = archive.find("labels.txt").map(|found| found.map(|bytes| labels(&bytes).is_ok()));
            }
        }
    }
}
