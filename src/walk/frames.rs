//! Frames for a device when nobody gave any: some of the photos it learnt from.

use std::path::{Path, PathBuf};

use mynah_contracts::{Dataset, Fault};

use crate::staging::StagedFolder;

/// How many photos of each label are shown.
const PER_LABEL: usize = 2;

/// What marks the folder as ours to replace.
const MARKER: &str = ".frames";

/// Copies the first photos of each label into `place` and gives the folder.
pub(super) fn choose(dataset: &Dataset, folder: &Path, place: &Path) -> Result<PathBuf, Fault> {
    let staged = StagedFolder::begin(place, MARKER)?;
    staged.write(MARKER, b"")?;
    for count in &dataset.labels {
        let photos = dataset.photos.iter().filter(|photo| photo.label == count.label).take(PER_LABEL);
        for (number, photo) in photos.enumerate() {
            let bytes = mynah_photo::file::read_verified(&photo.file.below(folder), &photo.sha256)?;
            staged.write(&format!("{}-{}.{}", photo.label, number + 1, photo.format.extension()), &bytes)?;
        }
    }
    Ok(staged.publish()?)
}
