//! Photos to embeddings: every core takes the next photo, nothing holds all of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mynah_contracts::{Dataset, Monitor, Photo};
use mynah_model::{ModelError, Network, input_values};
use mynah_photo::file::read_verified;
use mynah_photo::{Limits, RgbImage, decode};
use rayon::prelude::*;

use crate::TrainerError;
use crate::augment::Augmentation;
use crate::backbone::{Backbone, BackboneSpec};
use crate::cache::Shelf;
use crate::matrix::Matrix;

/// The embeddings of a dataset's photos: for each photo a row for the photo as it is, then one for each
/// augmentation. What `cache` holds is not computed again, and what is computed is added to it.
///
/// # Errors
/// Names the photo that is missing, was changed or cannot be decoded, or the part of the cache that cannot be
/// written; [`TrainerError::Cancelled`] when `monitor` says so.
pub fn embed(
    backbone: &Backbone,
    augmentations: &[Augmentation],
    (dataset, folder): (&Dataset, &Path),
    cache: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Matrix, TrainerError> {
    let spec = backbone.spec();
    let columns = spec.embedding_length as usize;
    let copies = copies(spec, augmentations, cache);
    let mut matrix = Matrix::zeros(dataset.photos.len() * copies.len(), columns);
    let missing = load(dataset, &copies, &mut matrix)?;

    // One entry per photo that must be read: its rows, and which of them are missing.
    let photos = matrix
        .groups_mut(copies.len())
        .zip(&dataset.photos)
        .zip(missing.chunks_exact(copies.len()))
        .filter(|(_, missing)| missing.contains(&true));
    let work: Vec<_> = photos.collect();
    if work.is_empty() {
        return Ok(matrix);
    }
    let network = backbone.network()?;
    let total = work.len() as u64;
    tracing::debug!(photos = total, "embedding");
    monitor.progress("embedding photos", 0, total);
    let done = AtomicU64::new(0);
    work.into_par_iter().with_max_len(1).try_for_each(|((rows, photo), missing)| {
        if monitor.cancelled() {
            return Err(TrainerError::Cancelled);
        }
        let image = open(photo, folder)?;
        for ((row, copy), missing) in rows.chunks_exact_mut(columns).zip(&copies).zip(missing) {
            if *missing {
                let embedding = copy.embed(&image, photo, spec, &network)?;
                row.copy_from_slice(&embedding);
                if let Some(shelf) = &copy.shelf {
                    shelf.store(&photo.sha256, &embedding)?;
                }
            }
        }
        monitor.progress("embedding photos", done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(())
    })?;
    Ok(matrix)
}

/// What each photo has a row for, in their order.
fn copies(spec: &BackboneSpec, augmentations: &[Augmentation], cache: Option<&Path>) -> Vec<Copy> {
    std::iter::once(None)
        .chain(augmentations.iter().copied().map(Some))
        .map(|augmentation| Copy {
            augmentation,
            shelf: cache.map(|cache| {
                let name = augmentation.map_or("", Augmentation::name);
                Shelf::new(cache, &spec.sha256, &spec.preprocess, name, spec.embedding_length as usize)
            }),
        })
        .collect()
}

/// Writes what [`embed`] gave to an empty cache.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn store(
    backbone: &Backbone,
    augmentations: &[Augmentation],
    dataset: &Dataset,
    embeddings: &Matrix,
    cache: &Path,
) -> Result<(), TrainerError> {
    let copies = copies(backbone.spec(), augmentations, Some(cache));
    for (index, photo) in dataset.photos.iter().enumerate() {
        for (number, copy) in copies.iter().enumerate() {
            if let Some(shelf) = &copy.shelf {
                shelf.store(&photo.sha256, embeddings.row(index * copies.len() + number))?;
            }
        }
    }
    Ok(())
}

/// Reads and decodes a photo of the dataset in `folder`.
pub(crate) fn open(photo: &Photo, folder: &Path) -> Result<RgbImage, TrainerError> {
    let bytes = read_verified(&photo.file.below(folder), &photo.sha256)?;
    let decoded = decode(&bytes, &Limits::default())
        .map_err(|source| TrainerError::Photo { photo: photo.file.to_string(), source })?;
    Ok(decoded.image)
}

/// Fills the rows that the cache holds; says for each row whether it is missing.
fn load(dataset: &Dataset, copies: &[Copy], matrix: &mut Matrix) -> Result<Vec<bool>, TrainerError> {
    let photos: HashMap<_, _> =
        dataset.photos.iter().enumerate().map(|(index, photo)| (photo.sha256, index)).collect();
    let mut missing = vec![true; matrix.rows()];
    for (number, copy) in copies.iter().enumerate() {
        if let Some(shelf) = &copy.shelf {
            shelf.load(&photos, |photo, values| {
                let row = photo * copies.len() + number;
                matrix.row_mut(row).copy_from_slice(values);
                missing[row] = false;
            })?;
        }
    }
    Ok(missing)
}

/// One row of each photo.
struct Copy {
    augmentation: Option<Augmentation>,
    shelf: Option<Shelf>,
}

impl Copy {
    fn embed(
        &self,
        image: &RgbImage,
        photo: &Photo,
        spec: &BackboneSpec,
        network: &Network,
    ) -> Result<Vec<f32>, TrainerError> {
        let failed = |source| TrainerError::Embed { photo: photo.file.to_string(), source };
        let resize = |source| failed(ModelError::Resize { size: spec.preprocess.size, source });
        let input = match self.augmentation {
            None => input_values(image, &spec.preprocess),
            Some(augmentation) => input_values(
                &augmentation.apply(image, &photo.sha256, &spec.preprocess).map_err(resize)?,
                &spec.preprocess,
            ),
        };
        network.run(&input.map_err(failed)?).map_err(failed)
    }
}
