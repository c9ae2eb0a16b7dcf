//! Imports from end to end, on pictures made here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use mynah_contracts::{Dataset, Diagnosis as _, FaultKind, Monitor, Quiet, SkipReason};
use mynah_photo::{Limits, RgbImage, encode_jpeg, encode_png};

use super::{ImportError, ImportRequest, Imported, Source, import, load, read_photo};

/// A picture of 64 × 48 blocks whose brightness is drawn from `seed`.
pub(super) fn picture(seed: u32) -> RgbImage {
    let value = |x: u32, y: u32| {
        let mixed = (seed * 4096 + (y / 8) * 64 + x / 8 + 1).wrapping_mul(2_654_435_761);
        (mixed >> 24) as u8
    };
    let pixels =
        (0..48).flat_map(|y| (0..64).flat_map(move |x| [value(x, y), 255 - value(x, y), 90])).collect();
    RgbImage::new(64, 48, pixels).unwrap()
}

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// Six photos of `apple` (one in a folder of its own), six of `pear`.
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for i in 0..6 {
            place.photo(&format!("apple/{}{i}.jpg", if i == 5 { "red/" } else { "" }), i);
            place.photo(&format!("pear/{i}.png"), 100 + i);
        }
        place
    }

    fn source(&self) -> PathBuf {
        self.root.path().join("photos")
    }

    fn out(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn photo(&self, file: &str, seed: u32) {
        let image = picture(seed);
        let bytes = if file.ends_with("png") { encode_png(&image) } else { encode_jpeg(&image, 90) };
        self.file(file, &bytes.unwrap());
    }

    fn file(&self, file: &str, bytes: &[u8]) {
        let path = self.source().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.source().join(file)).unwrap();
    }

    fn request(&self, out: &str) -> ImportRequest {
        ImportRequest {
            source: Source::Folder(self.source()),
            out: self.out(out),
            seed: 1,
            strict: false,
            limits: Limits::default(),
            trained: None,
        }
    }

    fn import(&self, out: &str) -> Result<Imported, ImportError> {
        import(&self.request(out), &Quiet)
    }

    /// What an import from nothing makes of the photos as they are now.
    fn afresh(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let out = tempfile::tempdir().unwrap();
        let request = ImportRequest { out: out.path().to_path_buf(), ..self.request("") };
        import(&request, &Quiet).unwrap();
        content(out.path())
    }
}

/// All files below `folder` with their bytes.
pub(super) fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            (entry.path().strip_prefix(folder).unwrap().to_path_buf(), fs::read(entry.path()).unwrap())
        })
        .collect()
}

pub(super) fn assert_whole(folder: &Path) -> Dataset {
    let dataset = load(folder).unwrap();
    for photo in &dataset.photos {
        read_photo(folder, photo).unwrap();
    }
    dataset
}

/// Asks to stop after a number of looks.
pub(super) struct StopAfter(pub(super) AtomicU64);

impl Monitor for StopAfter {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn photos_become_a_dataset() {
    let place = Place::new();
    place.file("apple/notes.txt", b"not a photo");
    place.file("apple/empty.jpg", b"");
    place.file("pear/cut.jpg", &encode_jpeg(&picture(7), 90).unwrap()[..900]);
    let imported = place.import("out").unwrap();
    let dataset = assert_whole(&place.out("out"));
    assert_eq!(dataset, imported.dataset);
    assert_eq!((imported.copied, imported.removed, imported.changed), (12, 0, true));
    let skipped: Vec<_> = dataset.skipped.iter().map(|s| (s.source.as_str(), s.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("apple/empty.jpg", SkipReason::Empty),
            ("apple/notes.txt", SkipReason::NotAnImage),
            ("pear/cut.jpg", SkipReason::Corrupt)
        ]
    );
    assert!(dataset.photos.iter().any(|photo| photo.source == "apple/red/5.jpg"));
    for label in ["apple", "pear"] {
        let sheet = fs::read(place.out("out").join(format!("contact-sheets/{label}.png"))).unwrap();
        let image = mynah_photo::decode(&sheet, &Limits::default()).unwrap().image;
        assert_eq!((image.width(), image.height()), (8 + 6 * 104, 8 + 104));
    }
    let strict = ImportRequest { strict: true, ..place.request("strict") };
    let error = import(&strict, &Quiet).unwrap_err();
    assert_eq!(error.kind(), FaultKind::BadInput);
    assert!(
        error.to_string().contains("`apple/empty.jpg`") && error.to_string().contains("`pear/cut.jpg`"),
        "{error}"
    );
    assert!(!place.out("strict").exists());
}

#[test]
fn a_second_import_touches_only_what_changed() {
    let place = Place::new();
    place.import("out").unwrap();
    let out = place.out("out");
    let times = || -> BTreeMap<PathBuf, _> {
        content(&out)
            .into_keys()
            .map(|file| {
                let modified = fs::metadata(out.join(&file)).unwrap().modified().unwrap();
                (file, modified)
            })
            .collect()
    };
    let before = times();
    let again = place.import("out").unwrap();
    assert_eq!((again.copied, again.removed, again.changed), (0, 0, false));
    assert_eq!(times(), before);

    // One photo comes, one goes, one moves to the other label.
    place.photo("pear/new.png", 200);
    place.remove("pear/0.png");
    fs::rename(place.source().join("apple/0.jpg"), place.source().join("pear/was_apple.jpg")).unwrap();
    let changed = place.import("out").unwrap();
    assert_eq!((changed.copied, changed.removed, changed.changed), (2, 2, true));
    assert_eq!(content(&out), place.afresh());
    let after = times();
    let untouched = before.iter().filter(|(file, time)| after.get(*file) == Some(time)).count();
    assert_eq!(untouched, 10, "the photos that stayed");

    // Only the label whose photos changed gets another sheet.
    place.photo("pear/newer.png", 201);
    let sheet = |label: &str| {
        fs::metadata(out.join(format!("contact-sheets/{label}.png"))).unwrap().modified().unwrap()
    };
    let apple = sheet("apple");
    let pear = sheet("pear");
    place.import("out").unwrap();
    assert_eq!(sheet("apple"), apple);
    assert_ne!(sheet("pear"), pear);
    assert_eq!(content(&out), place.afresh());
}

#[test]
fn a_label_that_left_leaves_nothing_behind() {
    let place = Place::new();
    for i in 0..5 {
        place.photo(&format!("plum/{i}.jpg"), 300 + i);
    }
    place.import("out").unwrap();
    fs::remove_dir_all(place.source().join("plum")).unwrap();
    fs::write(place.out("out").join("notes.txt"), "mine").unwrap();
    place.import("out").unwrap();
    assert!(!place.out("out").join("plum").exists());
    // What an import did not write it does not remove.
    assert_eq!(fs::read(place.out("out").join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn stopped_at_any_moment_the_dataset_stays_valid_and_the_next_import_ends_it() {
    let place = Place::new();
    place.import("out").unwrap();
    let first = content(&place.out("out"));
    place.photo("pear/new.png", 200);
    place.remove("apple/0.jpg");
    let afresh = place.afresh();
    for after in 0.. {
        let monitor = StopAfter(AtomicU64::new(after));
        match import(&place.request("out"), &monitor) {
            Err(ImportError::Cancelled(_)) => {
                let now = content(&place.out("out"));
                assert_eq!(now[Path::new("dataset.json")], first[Path::new("dataset.json")]);
                assert_whole(&place.out("out"));
            }
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        // The same into a folder where there was nothing.
        let _ = import(&place.request("new"), &StopAfter(AtomicU64::new(after)));
    }
    assert_eq!(content(&place.out("out")), afresh);
    place.import("new").unwrap();
    assert_eq!(content(&place.out("new")), afresh);
}

#[test]
fn what_a_killed_import_left_is_cleared() {
    let place = Place::new();
    let out = place.out("out");
    fs::create_dir_all(out.join("apple")).unwrap();
    fs::write(out.join("apple/0123456789abcdef.jpg"), "a photo that is gone").unwrap();
    fs::write(out.join("apple/.mynah-import-AbC"), "half a photo").unwrap();
    fs::write(out.join(".mynah-import-XyZ"), "half a dataset.json").unwrap();
    place.import("out").unwrap();
    assert_eq!(content(&out), place.afresh());
}

#[test]
fn a_copy_that_was_changed_is_told_when_read_and_mended_by_the_next_import() {
    let place = Place::new();
    let dataset = place.import("out").unwrap().dataset;
    let photo = &dataset.photos[3];
    let path = photo.file.below(&place.out("out"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = read_photo(&place.out("out"), photo).unwrap_err();
    assert_eq!(error.kind(), FaultKind::BadInput);
    assert!(error.to_string().contains(&photo.sha256.to_string()), "{error}");
    assert_eq!(place.import("out").unwrap().copied, 1);
    assert_whole(&place.out("out"));
    fs::remove_file(place.out("out").join("contact-sheets/apple.png")).unwrap();
    assert!(place.import("out").unwrap().changed);
    assert_eq!(content(&place.out("out")), place.afresh());
}

#[test]
fn another_seed_deals_other_folds_and_copies_nothing() {
    let place = Place::new();
    let first = place.import("out").unwrap();
    let second = import(&ImportRequest { seed: 2, ..place.request("out") }, &Quiet).unwrap();
    assert_ne!(first.dataset.digest, second.dataset.digest);
    assert_eq!((second.copied, second.changed), (0, true));
}

#[test]
fn what_cannot_be_followed_or_is_not_ours_is_refused_and_left_alone() {
    let place = Place::new();
    place.import("out").unwrap();
    let record = place.out("out").join("dataset.json");
    for (text, says) in [("{\"schemaVersion\":\"9.0\"}", "9.0"), ("{", "not a valid artifact")] {
        fs::write(&record, text).unwrap();
        let before = content(&place.out("out"));
        let error = mynah_contracts::Fault::from(place.import("out").unwrap_err());
        assert_eq!(error.kind(), FaultKind::BadInput);
        assert!(error.chain().contains(says), "{error}");
        assert_eq!(content(&place.out("out")), before);
    }
    let error = place.import("photos/inside").unwrap_err();
    assert!(matches!(error, ImportError::Overlap { .. }), "{error}");
    fs::create_dir_all(place.out("diary")).unwrap();
    fs::write(place.out("diary/1.txt"), "mine").unwrap();
    let error = place.import("diary").unwrap_err();
    assert!(matches!(error, ImportError::Foreign { .. }), "{error}");
    assert_eq!(content(&place.out("diary")).len(), 1);
}
