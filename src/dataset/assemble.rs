//! All files together: duplicates, refusals, folds. From what was found to what is recorded, without any I/O.

use std::collections::{BTreeMap, BTreeSet};

use mynah_contracts::{
    Dataset, Label, LabelCount, NearDuplicate, Photo, RelativePath, SchemaVersion, Sha256Digest, SkipReason,
    Skipped, Tool,
};

use super::error::{ImportError, MIN_LABELS, MIN_PHOTOS};
use super::folds::{self, Dealt};
use super::inspect::{Facts, Inspected};
use super::near;
use super::scan::{Candidate, Scan};

/// A dataset, and what its reader should be told.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) dataset: Dataset,
    /// Labels whose photos all look alike: cross-validation cannot judge them.
    pub(super) alike: Vec<Label>,
}

/// What a scan comes down to: every file is a photo that is kept, or left out for a reason.
pub(super) struct Sorted<'a> {
    kept: BTreeMap<Sha256Digest, Kept<'a>>,
    /// Every label that a folder names, with its kept photos.
    counts: BTreeMap<&'a Label, u32>,
    /// By source.
    pub(super) skipped: Vec<Skipped>,
}

/// A photo that is kept.
struct Kept<'a> {
    label: &'a Label,
    digest: Sha256Digest,
    source: &'a str,
    facts: Facts,
}

/// Takes duplicates out; `inspected` holds one entry for each candidate, in order.
///
/// Of photos with the same bytes under one label the one whose source comes first is kept. Under two labels
/// none is: nobody can say which label is wrong.
pub(super) fn sort_out(scan: &Scan, inspected: Vec<Inspected>) -> Sorted<'_> {
    let mut skipped = scan.skipped.clone();
    let mut counts: BTreeMap<&Label, u32> = BTreeMap::new();
    let mut kept: BTreeMap<Sha256Digest, Kept<'_>> = BTreeMap::new();
    let mut same: BTreeMap<Sha256Digest, Vec<&Candidate>> = BTreeMap::new();
    for (candidate, inspected) in scan.candidates.iter().zip(&inspected) {
        counts.entry(&candidate.label).or_default();
        if let Inspected::Photo { digest, .. } = inspected {
            same.entry(*digest).or_default().push(candidate);
        }
    }
    // Candidates come in the order of their sources.
    for (candidate, inspected) in scan.candidates.iter().zip(inspected) {
        let mut skip = |reason, detail| {
            skipped.push(Skipped { source: candidate.source.clone(), reason, detail });
        };
        let (digest, facts) = match inspected {
            Inspected::Photo { digest, facts } => (digest, facts),
            Inspected::Unusable { reason, detail } => {
                skip(reason, detail);
                continue;
            }
        };
        let copies = same.get(&digest).map_or(&[][..], Vec::as_slice);
        if let Some(other) = copies.iter().find(|copy| copy.label != candidate.label) {
            let detail = format!("the same bytes as `{}`, which has another label", other.source);
            skip(SkipReason::Contradictory, detail);
        } else if let Some(first) = kept.get(&digest) {
            skip(SkipReason::Duplicate, format!("the same bytes as `{}`", first.source));
        } else {
            *counts.entry(&candidate.label).or_default() += 1;
            let (label, source) = (&candidate.label, candidate.source.as_str());
            kept.insert(digest, Kept { label, digest, source, facts });
        }
    }
    skipped.sort_by(|a, b| a.source.cmp(&b.source));
    Sorted { kept, counts, skipped }
}

/// Makes the dataset of what was found in `place`.
pub(super) fn assemble(
    place: &str,
    sorted: Sorted<'_>,
    seed: u64,
    strict: bool,
) -> Result<Assembled, ImportError> {
    refuse(place, &sorted, strict)?;
    let Sorted { kept, counts, skipped } = sorted;

    let mut kept: Vec<Kept<'_>> = kept.into_values().collect();
    kept.sort_by(|a, b| (a.label, a.digest).cmp(&(b.label, b.digest)));
    let looks: Vec<_> = kept.iter().map(|photo| (photo.label, photo.facts.likeness)).collect();
    let neighbours = near::neighbours(&looks);
    let dealt: Vec<Dealt<'_>> = kept
        .iter()
        .zip(&neighbours.groups)
        .map(|(photo, &group)| Dealt { label: photo.label, digest: photo.digest, group })
        .collect();
    let (folds, alike) = folds::deal(&dealt, seed);
    let files = file_names(&kept);
    let mut near_duplicates: Vec<NearDuplicate> = neighbours
        .across
        .iter()
        .filter_map(|&(a, b, distance)| {
            let (a, b) = (kept.get(a)?.source, kept.get(b)?.source);
            Some(NearDuplicate { first: a.min(b).into(), second: a.max(b).into(), distance })
        })
        .collect();
    near_duplicates.sort_by(|a, b| (a.distance, &a.first, &a.second).cmp(&(b.distance, &b.first, &b.second)));
    let photos: Vec<Photo> = kept
        .iter()
        .zip(files)
        .zip(folds)
        .map(|((photo, file), fold)| Photo {
            sha256: photo.digest,
            label: photo.label.clone(),
            file,
            source: photo.source.into(),
            format: photo.facts.format,
            width: photo.facts.width,
            height: photo.facts.height,
            bytes: photo.facts.bytes,
            likeness: photo.facts.likeness.to_string(),
            fold,
        })
        .collect();
    let dataset = Dataset {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        seed,
        digest: Dataset::content_digest(seed, &photos),
        labels: counts.iter().map(|(&label, &photos)| LabelCount { label: label.clone(), photos }).collect(),
        photos,
        skipped,
        near_duplicates,
        snapshot: None,
    };
    Ok(Assembled { dataset, alike: alike.into_iter().cloned().collect() })
}

/// The reasons to make no dataset of what was found.
fn refuse(place: &str, sorted: &Sorted<'_>, strict: bool) -> Result<(), ImportError> {
    let Sorted { counts, skipped, .. } = sorted;
    let defects: Vec<Skipped> =
        skipped.iter().filter(|skipped| skipped.reason.is_defect()).cloned().collect();
    if strict && !defects.is_empty() {
        return Err(ImportError::Defects(defects));
    }
    if counts.values().all(|&count| count == 0) {
        return Err(ImportError::NoPhotos { place: place.into(), skipped: skipped.len() });
    }
    if counts.len() < MIN_LABELS
        && let Some((&only, _)) = counts.first_key_value()
    {
        return Err(ImportError::FewLabels(only.clone()));
    }
    let few: Vec<(Label, u32)> = counts
        .iter()
        .filter(|&(_, &count)| count < MIN_PHOTOS)
        .map(|(&label, &count)| (label.clone(), count))
        .collect();
    if few.is_empty() { Ok(()) } else { Err(ImportError::FewPhotos(few)) }
}

/// Where the copies lie: `<label>/<first 16 digits>.<ext>`, with all digits where 16 do not tell photos apart.
fn file_names(photos: &[Kept<'_>]) -> Vec<RelativePath> {
    let name = |photo: &Kept<'_>, digits: usize| {
        let hex = photo.digest.hex();
        let stem = hex.get(..digits).unwrap_or(&hex);
        format!("{}/{stem}.{}", photo.label, photo.facts.format.extension())
    };
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for photo in photos {
        let short = name(photo, SHORT);
        if !seen.insert(short.clone()) {
            shared.insert(short);
        }
    }
    photos
        .iter()
        .filter_map(|photo| {
            let short = name(photo, SHORT);
            let digits = if shared.contains(&short) { 64 } else { SHORT };
            // A label has no slash, and a digest is digits: always a path below the folder.
            RelativePath::new(name(photo, digits)).ok()
        })
        .collect()
}

/// How many digits of its digest name a photo's copy.
pub(super) const SHORT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::{Artifact as _, FOLDS, ImageFormat};

    fn digest(n: u32) -> Sha256Digest {
        Sha256Digest::of(&n.to_le_bytes())
    }

    /// A photo that looks like `looks` (and like no other number).
    fn photo(digest: Sha256Digest, looks: u32) -> Inspected {
        let likeness = Sha256Digest::of(&looks.to_be_bytes()).hex().parse().unwrap();
        let facts = Facts { format: ImageFormat::Jpeg, width: 32, height: 32, bytes: 9, likeness };
        Inspected::Photo { digest, facts }
    }

    fn found(files: &[&str]) -> Scan {
        let candidates = files.iter().map(|file| Candidate {
            path: file.into(),
            source: (*file).into(),
            label: file.split('/').next().unwrap().parse().unwrap(),
            settled: None,
        });
        Scan { candidates: candidates.collect(), skipped: Vec::new() }
    }

    /// Five photos of `a`, five of `b`, all different.
    fn ten() -> (Vec<String>, Vec<Inspected>) {
        let names = (0..10).map(|i| format!("{}/{i}.jpg", if i < 5 { "a" } else { "b" })).collect();
        (names, (0..10).map(|i| photo(digest(i), i)).collect())
    }

    fn run(names: &[String], inspected: Vec<Inspected>, strict: bool) -> Result<Assembled, ImportError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = found(&names);
        assemble("photos", sort_out(&found, inspected), 1, strict)
    }

    #[test]
    fn a_dataset_holds_together() {
        let (names, inspected) = ten();
        let Assembled { dataset, alike } = run(&names, inspected, true).unwrap();
        dataset.validate().unwrap();
        assert!(alike.is_empty());
        assert!(dataset.photos.is_sorted_by_key(|photo| (photo.label.clone(), photo.sha256)));
        for label in ["a", "b"] {
            let mut folds: Vec<u8> =
                dataset.photos.iter().filter(|p| p.label.as_str() == label).map(|p| p.fold).collect();
            folds.sort_unstable();
            assert_eq!(folds, (0..FOLDS).collect::<Vec<_>>());
        }
        let first = &dataset.photos[0];
        assert_eq!(first.file.as_str(), format!("a/{}.jpg", &first.sha256.hex()[..16]));
    }

    #[test]
    fn duplicates_are_dropped_in_one_label_and_left_out_under_two() {
        let (mut names, mut inspected) = ten();
        names.insert(5, "a/9.jpg".into());
        inspected.insert(5, photo(digest(2), 2));
        let dataset = run(&names, inspected.clone(), true).unwrap().dataset;
        assert_eq!(dataset.skipped.len(), 1);
        assert_eq!(dataset.skipped[0].source, "a/9.jpg");
        assert_eq!(dataset.skipped[0].detail, "the same bytes as `a/2.jpg`");
        for (name, n) in [("a/91.jpg", 50), ("b/93.jpg", 2), ("b/94.jpg", 50)] {
            let at = names.partition_point(|other| other.as_str() < name);
            names.insert(at, name.into());
            inspected.insert(at, photo(digest(n), n));
        }
        names.push("b/95.jpg".into());
        inspected.push(photo(digest(51), 51));
        let error = run(&names, inspected.clone(), true).unwrap_err().to_string();
        assert!(
            error.contains("`b/94.jpg`: the same bytes as `a/91.jpg`, which has another label"),
            "{error}"
        );
        // Photo 2 stands twice under `a` and once under `b`: all three go, and four of `a` are too few.
        let error = run(&names, inspected, false).unwrap_err().to_string();
        assert!(error.ends_with("`a` (4)"), "{error}");
    }

    #[test]
    fn near_duplicates_share_a_fold_or_are_reported() {
        let (mut names, mut inspected) = ten();
        inspected[1] = photo(digest(1), 0);
        names.push("b/like.jpg".into());
        inspected.push(photo(digest(77), 4));
        let dataset = run(&names, inspected, true).unwrap().dataset;
        let fold = |source: &str| dataset.photos.iter().find(|p| p.source == source).unwrap().fold;
        assert_eq!(fold("a/0.jpg"), fold("a/1.jpg"));
        assert_eq!(
            dataset.near_duplicates,
            [NearDuplicate { first: "a/4.jpg".into(), second: "b/like.jpg".into(), distance: 0 }]
        );
    }

    #[test]
    fn a_label_of_one_look_is_told() {
        let (names, mut inspected) = ten();
        for (i, entry) in inspected.iter_mut().enumerate().take(5) {
            *entry = photo(digest(i as u32), 0);
        }
        assert_eq!(run(&names, inspected, true).unwrap().alike, ["a".parse().unwrap()]);
    }

    #[test]
    fn too_little_is_refused_with_names_and_counts() {
        let (names, inspected) = ten();
        let error = run(&names[..5], inspected[..5].to_vec(), false).unwrap_err();
        assert!(matches!(error, ImportError::FewLabels(_)), "{error}");
        let error = run(&names[..9], inspected[..9].to_vec(), false).unwrap_err();
        assert!(error.to_string().ends_with("`b` (4)"), "{error}");
        let error = run(&[], Vec::new(), false).unwrap_err();
        assert!(matches!(error, ImportError::NoPhotos { .. }), "{error}");
        let mut broken = inspected;
        broken[9] = Inspected::Unusable { reason: SkipReason::Corrupt, detail: "cut".into() };
        let error = run(&names, broken.clone(), false).unwrap_err();
        assert!(matches!(error, ImportError::FewPhotos(_)), "{error}");
        let error = run(&names, broken, true).unwrap_err();
        assert!(error.to_string().contains("`b/9.jpg`: cut"), "{error}");
    }

    #[test]
    fn digests_that_begin_alike_get_names_of_their_own() {
        let (names, mut inspected) = ten();
        let mut bytes = *digest(0).as_bytes();
        bytes[31] ^= 1;
        inspected[1] = photo(Sha256Digest::from_bytes(bytes), 1);
        let dataset = run(&names, inspected, true).unwrap().dataset;
        let files: BTreeSet<_> = dataset.photos.iter().map(|photo| photo.file.as_str()).collect();
        assert_eq!(files.len(), 10);
        assert_eq!(files.iter().filter(|file| file.len() == "a/.jpg".len() + 64).count(), 2);
    }
}
