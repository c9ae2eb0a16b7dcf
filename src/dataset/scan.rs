//! Finding the files: a tree of folders of any depth, whose first level names the labels.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::{Label, REVIEW_FOLDER, SkipReason, Skipped, colliding};

use super::error::ImportError;
use super::inspect::Inspected;
use super::{CONTACT_SHEETS, store};

/// A file below the source that may be a photo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    /// Where its bytes are; empty where nobody needs them any more.
    pub(super) path: PathBuf,
    /// Where it is below the source's root, with forward slashes.
    pub(super) source: String,
    /// Its first folder's name.
    pub(super) label: Label,
    /// What it is, where that is known without a look at its bytes.
    pub(super) settled: Option<Inspected>,
}

/// What a scan found, each list ordered by `source`.
#[derive(Default, Debug)]
pub(super) struct Scan {
    pub(super) candidates: Vec<Candidate>,
    pub(super) skipped: Vec<Skipped>,
}

impl Scan {
    /// Leaves a file out.
    pub(super) fn skip(&mut self, source: &str, reason: SkipReason, detail: &str) {
        self.skipped.push(Skipped { source: source.to_owned(), reason, detail: detail.to_owned() });
    }

    /// Brings the lists into order.
    ///
    /// # Errors
    /// Labels that cannot stand side by side, or that a dataset needs for itself.
    pub(super) fn finish(&mut self) -> Result<(), ImportError> {
        let labels = || self.candidates.iter().map(|candidate| &candidate.label);
        if let Some((a, b)) = colliding(labels()) {
            return Err(ImportError::CaseCollision(a.clone(), b.clone()));
        }
        let reserved =
            |label: &&Label| [CONTACT_SHEETS, store::DATASET_FILE].contains(&label.case_key().as_str());
        if let Some(label) = labels().find(reserved) {
            return Err(ImportError::ReservedLabel(label.clone()));
        }
        self.candidates.sort_by(|a, b| a.source.cmp(&b.source));
        self.skipped.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(())
    }
}

/// Walks the tree below `root`. The result does not depend on the order the file system lists names in.
///
/// Hidden files and what operating systems leave in folders are passed over. Links are followed as long as
/// they stay below `root`; each folder is visited once for a label, so circles end.
pub(super) fn scan(root: &Path) -> Result<Scan, ImportError> {
    let root = fs::canonicalize(root)
        .and_then(|root| fs::read_dir(&root).map(|_| root))
        .map_err(|source| ImportError::Source { path: root.to_path_buf(), source })?;
    let mut walk = Walk { root: &root, found: Scan::default(), bad: Vec::new() };
    for entry in list(&root, "")? {
        match walk.resolve(&entry)? {
            Target::Folder(folder) => walk.label_folder(&entry, folder)?,
            Target::File => {
                walk.skip(&entry, SkipReason::Unlabelled, "it lies beside the label folders, not in one");
            }
            Target::Unusable(why) => walk.skip(&entry, SkipReason::Unlabelled, why),
        }
    }
    let Walk { mut found, bad, .. } = walk;
    if !bad.is_empty() {
        return Err(ImportError::BadLabels(bad));
    }
    found.finish()?;
    Ok(found)
}

/// A name in a folder.
struct Entry {
    path: PathBuf,
    name: String,
    source: String,
}

/// What a name leads to.
enum Target {
    File,
    /// With its place after all links.
    Folder(PathBuf),
    Unusable(&'static str),
}

struct Walk<'a> {
    root: &'a Path,
    found: Scan,
    bad: Vec<(String, mynah_contracts::LabelError)>,
}

impl Walk<'_> {
    fn label_folder(&mut self, entry: &Entry, folder: PathBuf) -> Result<(), ImportError> {
        let mut files = Vec::new();
        let mut visited = HashSet::new();
        let mut waiting = vec![(folder, entry.path.clone(), entry.source.clone())];
        while let Some((real, path, source)) = waiting.pop() {
            if !visited.insert(real) {
                continue;
            }
            for entry in list(&path, &source)? {
                match self.resolve(&entry)? {
                    Target::File => files.push(entry),
                    Target::Folder(real) => waiting.push((real, entry.path, entry.source)),
                    Target::Unusable(why) => self.skip(&entry, SkipReason::Unreadable, why),
                }
            }
        }
        // A folder without files says nothing about labels.
        if files.is_empty() {
            return Ok(());
        }
        match entry.name.parse::<Label>() {
            Ok(label) => {
                self.found.candidates.extend(files.into_iter().map(|file| Candidate {
                    path: file.path,
                    source: file.source,
                    label: label.clone(),
                    settled: None,
                }));
            }
            Err(why) => self.bad.push((entry.name.clone(), why)),
        }
        Ok(())
    }

    fn resolve(&self, entry: &Entry) -> Result<Target, ImportError> {
        let cannot = |source| ImportError::Io { what: "look at", path: entry.path.clone(), source };
        let is_link = fs::symlink_metadata(&entry.path).map_err(cannot)?.is_symlink();
        let real = match fs::canonicalize(&entry.path) {
            Err(_) if is_link => return Ok(Target::Unusable("it is a link that leads nowhere")),
            real => real.map_err(cannot)?,
        };
        if is_link && !real.starts_with(self.root) {
            return Ok(Target::Unusable("it is a link that leaves the source's folder"));
        }
        if is_link
            && entry
                .path
                .parent()
                .and_then(|at| fs::canonicalize(at).ok())
                .is_some_and(|at| at.starts_with(&real))
        {
            return Ok(Target::Unusable("it is a link to a folder it lies in"));
        }
        let metadata = fs::metadata(&real).map_err(cannot)?;
        Ok(if metadata.is_dir() {
            Target::Folder(real)
        } else if metadata.is_file() {
            Target::File
        } else {
            Target::Unusable("it is a device or a pipe, not a file")
        })
    }

    fn skip(&mut self, entry: &Entry, reason: SkipReason, detail: &str) {
        self.found.skip(&entry.source, reason, detail);
    }
}

/// The visible names in a folder, in order.
fn list(folder: &Path, source: &str) -> Result<Vec<Entry>, ImportError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImportError::io("read the folder", folder))? {
        let name = entry.map_err(ImportError::io("read the folder", folder))?.file_name();
        if is_passed_over(&name) {
            continue;
        }
        let path = folder.join(&name);
        let name = name
            .into_string()
            .map_err(|_| ImportError::Name { shown: path.to_string_lossy().into_owned() })?;
        let source = if source.is_empty() { name.clone() } else { format!("{source}/{name}") };
        entries.push(Entry { path, name, source });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Hidden names, what operating systems and archivers leave behind, and what devices hand over to be labelled.
pub(super) fn is_passed_over(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".")
        || bytes == b"__MACOSX"
        || bytes == REVIEW_FOLDER.as_bytes()
        || bytes.eq_ignore_ascii_case(b"thumbs.db")
        || bytes.eq_ignore_ascii_case(b"desktop.ini")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn sources(scan: &Scan) -> Vec<(&str, &str)> {
        scan.candidates.iter().map(|c| (c.label.as_str(), c.source.as_str())).collect()
    }

    #[test]
    fn the_first_folder_is_the_label_at_any_depth() {
        let root = tree(&[
            "pear/1.jpg",
            "apple/red/big/2.jpg",
            "apple/1.jpg",
            "readme.txt",
            ".git/x",
            "apple/.DS_Store",
            "apple/Thumbs.db",
            "__MACOSX/apple/1.jpg",
            "_review/2026-01-02/1.jpg",
            "Ünïcode/no.png",
        ]);
        fs::create_dir(root.path().join("empty: and no label")).unwrap();
        let scan = scan(root.path()).unwrap();
        assert_eq!(
            sources(&scan),
            [
                ("apple", "apple/1.jpg"),
                ("apple", "apple/red/big/2.jpg"),
                ("pear", "pear/1.jpg"),
                ("Ünïcode", "Ünïcode/no.png")
            ]
        );
        assert_eq!(scan.skipped.len(), 1);
        assert_eq!(
            (scan.skipped[0].source.as_str(), scan.skipped[0].reason),
            ("readme.txt", SkipReason::Unlabelled)
        );
    }

    #[test]
    fn names_that_cannot_be_labels_are_all_told() {
        let long = format!("{}/1.jpg", "x".repeat(200));
        let error = scan(tree(&["a:b/1.jpg", &long, "ok/1.jpg"]).path()).unwrap_err().to_string();
        assert!(
            error.starts_with("folders whose names") && error.contains("a colon") && error.contains("200"),
            "{error}"
        );
        let error = scan(tree(&["Apple/1.jpg", "apple/1.jpg"]).path()).unwrap_err().to_string();
        assert!(error.contains("`Apple` and `apple`"), "{error}");
        let error = scan(tree(&["contact-sheets/1.jpg"]).path()).unwrap_err();
        assert!(matches!(error, ImportError::ReservedLabel(_)));
        assert!(matches!(scan(Path::new("/nowhere/at/all")), Err(ImportError::Source { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside_and_circles_end() {
        use std::os::unix::fs::symlink;
        let outside = tree(&["secret.jpg"]);
        let root = tree(&["apple/1.jpg", "pear/1.jpg"]);
        symlink(outside.path().join("secret.jpg"), root.path().join("apple/out.jpg")).unwrap();
        symlink(root.path().join("apple/1.jpg"), root.path().join("apple/in.jpg")).unwrap();
        symlink(root.path(), root.path().join("apple/circle")).unwrap();
        symlink("nowhere", root.path().join("pear/broken.jpg")).unwrap();
        symlink("../apple", root.path().join("pear/whole")).unwrap();
        let scan = scan(root.path()).unwrap();
        let skipped: Vec<_> = scan.skipped.iter().map(|s| s.source.as_str()).collect();
        assert_eq!(
            skipped,
            ["apple/circle", "apple/out.jpg", "pear/broken.jpg", "pear/whole/circle", "pear/whole/out.jpg"]
        );
        assert!(scan.skipped.iter().all(|s| s.reason == SkipReason::Unreadable));
        assert_eq!(
            sources(&scan),
            [
                ("apple", "apple/1.jpg"),
                ("apple", "apple/in.jpg"),
                ("pear", "pear/1.jpg"),
                ("pear", "pear/whole/1.jpg"),
                ("pear", "pear/whole/in.jpg")
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_text_is_shown_lossily() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tree(&["apple/1.jpg"]);
        if fs::write(root.path().join("apple").join(OsStr::from_bytes(b"a\xFFb.jpg")), "x").is_err() {
            eprintln!("SKIPPED: this file system takes only UTF-8 names");
            return;
        }
        let error = scan(root.path()).unwrap_err();
        assert!(error.to_string().contains("a\u{FFFD}b.jpg"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_order_of_making_does_not_matter(
            names in prop::collection::btree_set("[a-c]/([d-f]/){0,2}[g-k]", 1..12),
            seed in any::<u64>(),
        ) {
            let sorted: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut shuffled = sorted.clone();
            shuffled.sort_by_key(|name| name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)));
            let (a, b) = (scan(tree(&sorted).path()).unwrap(), scan(tree(&shuffled).path()).unwrap());
            prop_assert_eq!(sources(&a), sources(&b));
            prop_assert_eq!(a.candidates.len(), names.len());
            prop_assert!(a.candidates.is_sorted_by(|x, y| x.source < y.source));
        }
    }
}
