//! Reading a dataset back: what later steps do with what an import wrote.

use std::fs;
use std::path::Path;

use mynah_contracts::{Artifact as _, Dataset, Monitor, Photo, from_json};
use mynah_photo::file::{self, FileError};
use rayon::prelude::*;

use super::error::LoadError;
use super::import::Counted;

/// Reads `dataset.json` in `folder` and checks that it holds together. The photos are checked one by one when
/// they are read ([`read_photo`]), or all at once by [`verify`].
pub fn load(folder: &Path) -> Result<Dataset, LoadError> {
    let path = folder.join(Dataset::FILE);
    let bytes = fs::read(&path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
    from_json(&bytes).map_err(|source| LoadError::Artifact { path, source })
}

/// The bytes of a photo of the dataset in `folder`, if they are those that were imported.
pub fn read_photo(folder: &Path, photo: &Photo) -> Result<Vec<u8>, FileError> {
    file::read_verified(&photo.file.below(folder), &photo.sha256)
}

/// Checks that all photos are those that were imported.
pub fn verify(folder: &Path, dataset: &Dataset, monitor: &dyn Monitor) -> Result<(), LoadError> {
    let counted = Counted::new(monitor, "checking photos", dataset.photos.len());
    dataset.photos.par_iter().try_for_each(|photo| {
        counted.next()?;
        read_photo(folder, photo).map(drop).map_err(LoadError::Photo)
    })
}
