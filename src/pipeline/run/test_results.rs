//! Results of tests in the form of JUnit, counted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::store::is_meant;

/// Larger files are no results that anybody reads.
const MAX_BYTES: u64 = 64 << 20;

/// What a file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tests passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Counts a file's test cases, or says why that cannot be done.
pub(super) fn read(file: &Path) -> Result<Counts, String> {
    let bytes = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if bytes > MAX_BYTES {
        return Err("the file is too large to be read".into());
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let document = roxmltree::Document::parse(&text).map_err(|error| error.to_string())?;
    let mut counts = Counts::default();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let has = |name: &str| case.children().any(|child| child.has_tag_name(name));
        if has("failure") || has("error") {
            counts.failed += 1;
        } else if has("skipped") {
            counts.skipped += 1;
        } else {
            counts.passed += 1;
        }
    }
    Ok(counts)
}

/// The files below `folder` that patterns mean, in order; a single absolute path is one itself.
pub(super) fn find(folder: &Path, patterns: &str) -> Vec<PathBuf> {
    let direct = folder.join(patterns.trim());
    if direct.is_file() {
        return vec![direct];
    }
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.strip_prefix(folder).is_ok_and(|below| is_meant(below, patterns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_counted_by_how_they_ended() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("deep")).unwrap();
        let file = root.path().join("deep/TEST-a.xml");
        fs::write(
            &file,
            "<testsuites><testsuite><testcase/><testcase><failure/></testcase><testcase><skipped/></testcase></testsuite></testsuites>",
        )
        .unwrap();
        assert_eq!(find(root.path(), "**/TEST-*.xml"), std::slice::from_ref(&file));
        assert_eq!(find(root.path(), "deep/TEST-a.xml"), std::slice::from_ref(&file));
        assert_eq!(read(&file).unwrap().to_string(), "1 tests passed, 1 failed, 1 skipped");
        fs::write(&file, "<a>").unwrap();
        assert!(read(&file).is_err());
        assert!(read(root.path()).is_err());
    }
}
