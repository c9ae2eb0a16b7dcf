//! Reading a dataset back: what later steps do with what an import wrote.

use std::path::Path;

use mynah_contracts::{Dataset, Photo};
use mynah_photo::file::{FileError, read_verified};

use crate::artifact::{self, LoadError};

/// Reads `dataset.json` in `folder` and checks that it holds together. The photos are checked when they are
/// read: [`read_photo`].
pub fn load(folder: &Path) -> Result<Dataset, LoadError> {
    artifact::load(folder)
}

/// The bytes of a photo of the dataset in `folder`, if they are those that were imported.
pub fn read_photo(folder: &Path, photo: &Photo) -> Result<Vec<u8>, FileError> {
    read_verified(&photo.file.below(folder), &photo.sha256)
}
