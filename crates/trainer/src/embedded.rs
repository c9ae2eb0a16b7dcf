//! The embedded trainer: frozen backbone, linear head, on this machine.

use std::path::{Path, PathBuf};

use mynah_contracts::{
    Backbone as BackboneRef, Dataset, DatasetRef, EmbedRequest, Evaluation, Fault, Head as HeadRef, Label,
    Monitor, Photo, Probe, SchemaVersion, Tool, TrainRequest, Trainer, TrainerKind, Training,
};
use mynah_photo::file::read_verified;

use crate::augment::Augmentations;
use crate::backbone::{Backbone, BackboneSpec, KNOWN};
use crate::calibration::{calibrate, probabilities};
use crate::cross_validation::{CrossValidation, CrossValidationError, Samples, cross_validate};
use crate::embed::{embed, store};
use crate::evaluation::{Prediction, evaluate};
use crate::head::{Examples, FINAL_GRADIENT, Fit, Head, fit};
use crate::head_file::{self, relative};
use crate::{TrainerError, matrix::Matrix};

/// At most so many probes of one label.
const PROBES_PER_LABEL: usize = 2;
/// At most so many probes.
const MAX_PROBES: usize = 24;

/// Trains and exports on this machine: embeddings of a frozen backbone, a linear head.
///
/// Everything is a function of the photos, the folds and the backbone: nothing is drawn from the seed, and neither
/// the number of threads nor the cache's state changes a bit of the outcome.
#[derive(Clone, Debug)]
pub struct Embedded {
    pub(crate) backbone: PathBuf,
    pub(crate) known: &'static [BackboneSpec],
    augmentations: Augmentations,
    pub(crate) cache: Option<PathBuf>,
}

impl Embedded {
    /// With the backbone whose ONNX file is at `backbone`.
    pub fn new(backbone: impl Into<PathBuf>) -> Self {
        Self { backbone: backbone.into(), known: KNOWN, augmentations: Augmentations::default(), cache: None }
    }

    /// With these changed copies of each photo.
    #[must_use]
    pub fn with_augmentations(self, augmentations: Augmentations) -> Self {
        Self { augmentations, ..self }
    }

    /// Lets the exporter take the embeddings it checks against from the cache that training used
    /// ([`TrainRequest::cache`]) instead of computing them again.
    #[must_use]
    pub fn with_cache(self, cache: impl Into<PathBuf>) -> Self {
        Self { cache: Some(cache.into()), ..self }
    }

    pub(crate) fn open_backbone(&self) -> Result<Backbone, TrainerError> {
        Backbone::open_among(&self.backbone, self.known)
    }
}

impl Trainer for Embedded {
    fn train(&self, request: &TrainRequest<'_>, monitor: &dyn Monitor) -> Result<Training, Fault> {
        Ok(train(self, request, monitor)?)
    }

    fn embed(&self, request: &EmbedRequest<'_>, monitor: &dyn Monitor) -> Result<usize, Fault> {
        Ok(embed_part(self, request, monitor)?)
    }
}

/// Embeds a part of the photos as [`train`] will want them.
fn embed_part(
    trainer: &Embedded,
    request: &EmbedRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<usize, TrainerError> {
    let backbone = trainer.open_backbone()?;
    // How often a photo is changed depends on all there are.
    let augmentations = trainer.augmentations.of(request.dataset.photos.len());
    let photos = request.dataset.photos.iter().enumerate();
    let part = Dataset {
        photos: photos.filter(|(at, _)| request.shard.holds(*at)).map(|(_, photo)| photo.clone()).collect(),
        ..request.dataset.clone()
    };
    let cached = Some(request.cache);
    let embeddings = embed(&backbone, &augmentations, (&part, request.dataset_folder), cached, monitor)?;
    store(&backbone, &augmentations, &part, &embeddings, request.out)?;
    Ok(part.photos.len())
}

fn train(
    trainer: &Embedded,
    request: &TrainRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<Training, TrainerError> {
    let TrainRequest { dataset, dataset_folder, .. } = *request;
    let labels = dataset.label_names();
    if labels.len() < 2 {
        return Err(TrainerError::TooFewLabels { labels: labels.len() });
    }
    let backbone = trainer.open_backbone()?;
    // Before the long work, so that a mistyped folder is told at once.
    let holdout = match request.holdout {
        Some((holdout, folder)) => Some((holdout, folder, truth(holdout, &labels)?)),
        None => None,
    };
    let augmentations = trainer.augmentations.of(dataset.photos.len());
    let samples = Samples {
        embeddings: embed(
            &backbone,
            &augmentations,
            (dataset, dataset_folder),
            Some(request.cache),
            monitor,
        )?,
        copies: 1 + augmentations.len(),
        truth: truth(dataset, &labels)?,
        folds: dataset.photos.iter().map(|photo| photo.fold).collect(),
        labels: labels.len(),
    };

    let found = validate(&samples, monitor)?;
    let calibration = calibrate(&found.held_out(&samples));
    let cross_validation = {
        let predictions: Vec<Prediction<'_>> = dataset
            .photos
            .iter()
            .zip(&samples.truth)
            .zip(&found.logits)
            .map(|((photo, &truth), logits)| Prediction {
                photo,
                truth,
                probabilities: probabilities(logits, calibration.temperature),
            })
            .collect();
        evaluate(&predictions, &labels, calibration.reject_threshold, found.folds)
    };

    let Fit { head, iterations, .. } = fit_all(&samples, &found, monitor)?;
    let answer = |embedding: &[f32]| probabilities(&head.logits(embedding), calibration.temperature);
    let holdout = match holdout {
        Some((holdout, folder, truth)) => {
            let embeddings = embed(&backbone, &[], (holdout, folder), Some(request.cache), monitor)?;
            Some(evaluate_apart(holdout, &truth, &embeddings, &labels, calibration.reject_threshold, answer))
        }
        None => None,
    };
    let probes = chosen_probes(dataset)
        .into_iter()
        .map(|(index, photo)| {
            write_probe(photo, dataset_folder, request.out, answer(samples.original(index)))
        })
        .collect::<Result<_, _>>()?;
    let head_file = write_head(&head, request.out)?;

    let BackboneSpec { name, sha256, embedding_length, preprocess, .. } = backbone.spec;
    Ok(Training {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        created: None,
        trainer: TrainerKind::Embedded,
        seed: request.seed,
        dataset: DatasetRef { digest: dataset.digest, photos: dataset.photos.len() as u32 },
        labels,
        preprocess,
        backbone: Some(BackboneRef { name: name.to_owned(), sha256, embedding_length }),
        augmentations: augmentations.iter().map(ToString::to_string).collect(),
        head: Some(HeadRef { file: head_file, l2: found.l2, iterations }),
        custom_vision: None,
        calibration,
        cross_validation,
        holdout,
        probes,
    })
}

/// Each photo's label as an index into `labels`, which are sorted.
pub(crate) fn truth(dataset: &Dataset, labels: &[Label]) -> Result<Vec<usize>, TrainerError> {
    dataset
        .photos
        .iter()
        .map(|photo| {
            labels
                .binary_search(&photo.label)
                .map_err(|_| TrainerError::StrangeLabel { label: photo.label.clone() })
        })
        .collect()
}

fn validate(samples: &Samples, monitor: &dyn Monitor) -> Result<CrossValidation, TrainerError> {
    let progress = |done, total| monitor.progress("cross-validating", done, total);
    let found = cross_validate(samples, &progress, &|| monitor.cancelled()).map_err(|error| match error {
        CrossValidationError::TooFewFolds { folds } => TrainerError::TooFewFolds { folds },
        CrossValidationError::Cancelled(_) => TrainerError::Cancelled,
    })?;
    tracing::debug!(l2 = found.l2, path = ?found.path, "cross-validated");
    Ok(found)
}

/// The head that is shipped: learnt from all photos.
fn fit_all(samples: &Samples, found: &CrossValidation, monitor: &dyn Monitor) -> Result<Fit, TrainerError> {
    let rows = samples.all_rows();
    let examples = Examples { embeddings: &samples.embeddings, rows: &rows, labels: samples.labels };
    let fit = fit(examples, found.l2, FINAL_GRADIENT, Some(&found.start), &|| monitor.cancelled())
        .map_err(|_| TrainerError::Cancelled)?;
    if !fit.converged {
        tracing::warn!(gradient = fit.gradient, iterations = fit.iterations, "the head has not converged");
    }
    Ok(fit)
}

fn evaluate_apart(
    holdout: &Dataset,
    truth: &[usize],
    embeddings: &Matrix,
    labels: &[Label],
    reject_threshold: f32,
    answer: impl Fn(&[f32]) -> Vec<f32>,
) -> Evaluation {
    let predictions: Vec<Prediction<'_>> = holdout
        .photos
        .iter()
        .zip(truth)
        .enumerate()
        .map(|(row, (photo, &truth))| Prediction { photo, truth, probabilities: answer(embeddings.row(row)) })
        .collect();
    evaluate(&predictions, labels, reject_threshold, 0)
}

/// A few photos of each label, the smallest files: they travel with the model.
pub(crate) fn chosen_probes(dataset: &Dataset) -> Vec<(usize, &Photo)> {
    let mut chosen: Vec<(usize, usize, &Photo)> = Vec::new();
    for count in &dataset.labels {
        let mut photos: Vec<(usize, &Photo)> =
            dataset.photos.iter().enumerate().filter(|(_, photo)| photo.label == count.label).collect();
        photos.sort_by_key(|(_, photo)| (photo.bytes, photo.sha256));
        let ranked = photos.into_iter().take(PROBES_PER_LABEL).enumerate();
        chosen.extend(ranked.map(|(rank, (index, photo))| (rank, index, photo)));
    }
    // Where there is no room for all: first one of each label.
    chosen.sort_by_key(|(rank, index, _)| (*rank, *index));
    chosen.truncate(MAX_PROBES);
    chosen.sort_by_key(|(_, index, _)| *index);
    chosen.into_iter().map(|(_, index, photo)| (index, photo)).collect()
}

pub(crate) fn write_probe(
    photo: &Photo,
    folder: &Path,
    out: &Path,
    probabilities: Vec<f32>,
) -> Result<Probe, TrainerError> {
    let bytes = read_verified(&photo.file.below(folder), &photo.sha256)?;
    let name = format!("probes/{}.{}", &photo.sha256.hex()[..16], photo.format.extension());
    let file = mynah_contracts::FileRef::new(relative(name)?, &bytes);
    write(out, &file.path, &bytes)?;
    Ok(Probe { file, label: photo.label.clone(), probabilities })
}

fn write_head(head: &Head, out: &Path) -> Result<mynah_contracts::FileRef, TrainerError> {
    let bytes = head_file::to_bytes(head)?;
    let file = head_file::reference(&bytes)?;
    write(out, &file.path, &bytes)?;
    Ok(file)
}

/// Writes a file below `folder`, with the folders above it.
pub(crate) fn write(
    folder: &Path,
    path: &mynah_contracts::RelativePath,
    bytes: &[u8],
) -> Result<(), TrainerError> {
    let path = path.below(folder);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(TrainerError::io("create", parent))?;
    }
    std::fs::write(&path, bytes).map_err(TrainerError::io("write", &path))
}
