//! One self-contained model of an embedded training, accepted only after it has said, run by the device's own code,
//! what training said.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mynah_contracts::{
    Dataset, ExportRequest, Exporter, Fault, FileRef, Label, ModelCard, Monitor, SchemaVersion, Tool,
    Training, Weights,
};
use mynah_model::{ModelPackage, PROBE_TOLERANCE};
use mynah_photo::file::read_verified;
use mynah_photo::{Limits, RgbImage, decode};
use rayon::prelude::*;

use crate::TrainerError;
use crate::backbone::Backbone;
use crate::calibration::probabilities;
use crate::embed::{embed, open};
use crate::embedded::{Embedded, write};
use crate::head::Head;
use crate::head_file::{self, relative};
use crate::onnx::{self, Meaning};

impl Exporter for Embedded {
    fn export(&self, request: &ExportRequest<'_>, monitor: &dyn Monitor) -> Result<ModelCard, Fault> {
        Ok(export(self, request, monitor)?)
    }
}

fn export(
    exporter: &Embedded,
    request: &ExportRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<ModelCard, TrainerError> {
    let ExportRequest { training, training_folder, out, .. } = *request;
    let backbone = backbone_of(exporter, training)?;
    let head = head_of(training, training_folder, backbone.spec.embedding_length as usize)?;
    let meaning = Meaning {
        labels: &training.labels,
        preprocess: &training.preprocess,
        calibration: training.calibration,
        dataset: training.dataset.digest,
    };
    let model = onnx::assemble(&backbone, &head, meaning, request.weights)?;
    let labels: String = training.labels.iter().flat_map(|label| [label.as_str(), "\n"]).collect();
    let card = card(training, &backbone, request.weights, &model, labels.as_bytes())?;

    let package = ModelPackage::from_parts(card, &model).map_err(TrainerError::Exported)?;
    let card = package.card();
    write(out, &card.model.path, &model)?;
    write(out, &card.labels_file.path, labels.as_bytes())?;
    check_probes(&package, training_folder, out)?;
    if let Some(check) = request.check {
        check_photos(&package, (&backbone, &head), check, exporter.cache.as_deref(), monitor)?;
    }
    Ok(card.clone())
}

/// The backbone that was trained with.
fn backbone_of(exporter: &Embedded, training: &Training) -> Result<Backbone, TrainerError> {
    let expected = training.backbone.as_ref().ok_or(TrainerError::NotEmbedded { what: "backbone" })?.sha256;
    let backbone = exporter.open_backbone()?;
    if backbone.spec.sha256 == expected {
        Ok(backbone)
    } else {
        Err(TrainerError::OtherBackbone { path: backbone.path, expected, found: backbone.spec.sha256 })
    }
}

fn head_of(training: &Training, folder: &Path, columns: usize) -> Result<Head, TrainerError> {
    let file = &training.head.as_ref().ok_or(TrainerError::NotEmbedded { what: "head" })?.file;
    let bytes = read_verified(&file.path.below(folder), &file.sha256)?;
    head_file::from_bytes(&bytes, &file.path, training.labels.len(), columns)
}

fn card(
    training: &Training,
    backbone: &Backbone,
    weights: Weights,
    model: &[u8],
    labels: &[u8],
) -> Result<ModelCard, TrainerError> {
    Ok(ModelCard {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        created: None,
        trainer: training.trainer,
        dataset: training.dataset.clone(),
        labels: training.labels.clone(),
        model: FileRef::new(relative("model.onnx")?, model),
        labels_file: FileRef::new(relative("labels.txt")?, labels),
        input: backbone.spec.input.to_owned(),
        output: onnx::OUTPUT.to_owned(),
        preprocess: training.preprocess.clone(),
        weights,
        calibration: training.calibration,
        cross_validation: training.cross_validation.summary.clone(),
        backbone: training.backbone.clone(),
        probes: training.probes.clone(),
    })
}

/// Copies the probes and compares what the model says of them with what training said.
pub(crate) fn check_probes(
    package: &ModelPackage,
    training_folder: &Path,
    out: &Path,
) -> Result<(), TrainerError> {
    let differences = package
        .card()
        .probes
        .par_iter()
        .map(|probe| {
            let bytes = read_verified(&probe.file.path.below(training_folder), &probe.file.sha256)?;
            write(out, &probe.file.path, &bytes)?;
            let photo = probe.file.path.as_str();
            let decoded = decode(&bytes, &Limits::default())
                .map_err(|source| TrainerError::Photo { photo: photo.to_owned(), source })?;
            compare(package, &decoded.image, &probe.probabilities, photo)
        })
        .collect::<Result<Vec<f32>, _>>()?;
    report("probes", &differences);
    Ok(())
}

/// Compares what the model says of every photo with what the head says of its embedding.
fn check_photos(
    package: &ModelPackage,
    (backbone, head): (&Backbone, &Head),
    (dataset, folder): (&Dataset, &Path),
    cache: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<(), TrainerError> {
    let temperature = package.card().calibration.temperature;
    let embeddings = embed(backbone, &[], (dataset, folder), cache, monitor)?;
    let total = dataset.photos.len() as u64;
    let done = AtomicU64::new(0);
    let differences = dataset
        .photos
        .par_iter()
        .with_max_len(1)
        .enumerate()
        .map(|(row, photo)| {
            if monitor.cancelled() {
                return Err(TrainerError::Cancelled);
            }
            let expected = probabilities(&head.logits(embeddings.row(row)), temperature);
            let difference = compare(package, &open(photo, folder)?, &expected, photo.file.as_str())?;
            monitor.progress("checking the model", done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(difference)
        })
        .collect::<Result<Vec<f32>, _>>()?;
    report("photos", &differences);
    Ok(())
}

/// The largest difference between `expected` and what the model says of `image`.
fn compare(
    package: &ModelPackage,
    image: &RgbImage,
    expected: &[f32],
    photo: &str,
) -> Result<f32, TrainerError> {
    let got = package.classify(image).map_err(TrainerError::Exported)?;
    let mut worst: (f32, Option<(&Label, f32, f32)>) = (0.0, None);
    for ((label, &expected), &got) in package.card().labels.iter().zip(expected).zip(&got) {
        let difference = (got - expected).abs();
        if difference >= worst.0 {
            worst = (difference, Some((label, expected, got)));
        }
    }
    match worst {
        (difference, Some((label, expected, got))) if difference > PROBE_TOLERANCE => {
            Err(TrainerError::Mismatch { photo: photo.to_owned(), label: label.clone(), expected, got })
        }
        (difference, _) => Ok(difference),
    }
}

fn report(of: &str, differences: &[f32]) {
    let largest = differences.iter().copied().fold(0.0, f32::max);
    tracing::info!(of, count = differences.len(), largest, "the exported model says what training said");
}
