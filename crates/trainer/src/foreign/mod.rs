//! Classifiers that another tool trained, taken in: the graph in our form ([`graph`]), judged by the device's own
//! code on photos they have not learnt from, packed as ours.

mod error;
mod graph;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mynah_contracts::{
    AdoptRequest, Adopted, Adopter, Calibration, Dataset, Evaluation, ExportRequest, Fault, FileRef,
    Geometry, Label, ModelCard, Monitor, Photo, Preprocess, ResizeFilter, SchemaVersion, Tool,
};
use mynah_model::{ModelPackage, Network, input_values};
use prost::Message as _;
use rayon::prelude::*;
use tract_onnx::pb::StringStringEntryProto;

use self::graph::{Normal, OUTPUT, PixelRange, normalise};
use crate::TrainerError;
use crate::calibration::{best, reject_threshold};
use crate::embed::open;
use crate::embedded::{chosen_probes, truth, write, write_probe};
use crate::evaluation::{Prediction, evaluate};
use crate::export::check_probes;
use crate::head_file::relative;

pub use error::ForeignError;

/// Photos by which the range of pixel values is told.
const RANGE_PHOTOS: usize = 24;

/// How much better, in mean negative log likelihood, another range than the declared one must explain the photos.
/// A wrong range costs whole units: its outputs hardly depend on the picture.
const RANGE_MARGIN: f64 = 0.1;

/// How far a row of probabilities may be from adding up to 1; 16-bit weights cost about a thousandth.
const SUM_TOLERANCE: f32 = 0.01;

/// Takes classifiers in that came as ONNX with an image input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreign;

impl Adopter for Foreign {
    fn adopt(&self, request: &AdoptRequest<'_>, monitor: &dyn Monitor) -> Result<Adopted, Fault> {
        Ok(adopt(request, monitor)?)
    }

    fn pack(
        &self,
        request: &ExportRequest<'_>,
        onnx: &[u8],
        outputs: &[Label],
        monitor: &dyn Monitor,
    ) -> Result<ModelCard, Fault> {
        Ok(pack(request, onnx, outputs, monitor)?)
    }
}

fn adopt(request: &AdoptRequest<'_>, monitor: &dyn Monitor) -> Result<Adopted, ForeignError> {
    let AdoptRequest { dataset, dataset_folder, held_out, holdout, .. } = *request;
    let labels = dataset.label_names();
    let normal = normalise(request.onnx, request.outputs, &labels)?;
    let bytes = normal.model.encode_to_vec();
    let network = Network::from_onnx(&bytes, &normal.input, OUTPUT, normal.size)?;

    let preprocess = told_range(&normal, &network, request, &labels)?;
    let classifier = Classifier { network: &network, preprocess: &preprocess };
    let held: Vec<&Photo> = dataset.photos.iter().filter(|photo| Some(photo.fold) == held_out).collect();
    let kept_apart = holdout
        .map(|(dataset, folder)| -> Result<_, ForeignError> {
            // Told before the long work where a label is unknown.
            truth(dataset, &labels)?;
            let photos: Vec<&Photo> = dataset.photos.iter().collect();
            classifier.predict(&photos, folder, &labels, monitor)
        })
        .transpose()?;
    let judged = match (held.is_empty(), &kept_apart) {
        (false, _) => classifier.predict(&held, dataset_folder, &labels, monitor)?,
        (true, Some(kept_apart)) => kept_apart.clone(),
        (true, None) => return Err(ForeignError::NothingHeldOut),
    };
    let reject_threshold = threshold(&judged);
    let sum_up = |predictions: &[Prediction<'_>]| -> Evaluation {
        evaluate(predictions, &labels, reject_threshold, 0)
    };
    let probes = chosen_probes(dataset)
        .into_iter()
        .map(|(_, photo)| {
            let probabilities = classifier.classify(photo, dataset_folder)?;
            Ok(write_probe(photo, dataset_folder, request.out, probabilities)?)
        })
        .collect::<Result<_, ForeignError>>()?;
    Ok(Adopted {
        calibration: Calibration { temperature: 1.0, reject_threshold },
        evaluation: sum_up(&judged),
        holdout: kept_apart.filter(|_| !held.is_empty()).map(|kept_apart| sum_up(&kept_apart)),
        probes,
        preprocess,
    })
}

/// A network with what makes its input.
#[derive(Clone, Copy)]
struct Classifier<'a> {
    network: &'a Network,
    preprocess: &'a Preprocess,
}

impl Classifier<'_> {
    fn classify(self, photo: &Photo, folder: &Path) -> Result<Vec<f32>, ForeignError> {
        let image = open(photo, folder)?;
        let probabilities = self.network.run(&input_values(&image, self.preprocess)?)?;
        let sum: f32 = probabilities.iter().sum();
        let fits = probabilities.iter().all(|p| (-SUM_TOLERANCE..=1.0 + SUM_TOLERANCE).contains(p));
        if !fits || (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(ForeignError::NotProbabilities { photo: photo.file.to_string(), sum });
        }
        // What 16 bits rounded beyond its bounds is brought back.
        Ok(probabilities.into_iter().map(|p| p.clamp(0.0, 1.0)).collect())
    }

    fn predict<'p>(
        self,
        photos: &[&'p Photo],
        folder: &Path,
        labels: &[Label],
        monitor: &dyn Monitor,
    ) -> Result<Vec<Prediction<'p>>, ForeignError> {
        let total = photos.len() as u64;
        let done = AtomicU64::new(0);
        photos
            .par_iter()
            .with_max_len(1)
            .map(|photo| {
                if monitor.cancelled() {
                    return Err(TrainerError::Cancelled.into());
                }
                let probabilities = self.classify(photo, folder)?;
                let truth = place(labels, &photo.label)?;
                monitor.progress(
                    "judging the exported model",
                    done.fetch_add(1, Ordering::Relaxed) + 1,
                    total,
                );
                Ok(Prediction { photo, truth, probabilities })
            })
            .collect()
    }
}

/// The label's place among the sorted labels.
fn place(labels: &[Label], label: &Label) -> Result<usize, ForeignError> {
    labels.binary_search(label).map_err(|_| TrainerError::StrangeLabel { label: label.clone() }.into())
}

fn threshold(predictions: &[Prediction<'_>]) -> f32 {
    let told: Vec<(f32, bool)> = predictions
        .iter()
        .map(|prediction| {
            let (label, probability) = best(&prediction.probabilities);
            (probability, label == prediction.truth)
        })
        .collect();
    reject_threshold(&told)
}

/// The preprocessing with the range of pixel values that the graph really takes.
///
/// Exports have been seen whose metadata say 0 to 1 while the graph itself divides by 255: with the declared range
/// such a model gives the same answer for every picture. A few photos with known labels tell.
fn told_range(
    normal: &Normal,
    network: &Network,
    request: &AdoptRequest<'_>,
    labels: &[Label],
) -> Result<Preprocess, ForeignError> {
    let photos = range_photos(request.dataset, request.held_out);
    let images = photos
        .par_iter()
        .map(|photo| Ok((place(labels, &photo.label)?, open(photo, request.dataset_folder)?)))
        .collect::<Result<Vec<_>, ForeignError>>()?;
    let mut found: Option<(f64, PixelRange)> = None;
    let declared_first = std::iter::once(normal.range)
        .chain(PixelRange::ALL.into_iter().filter(|range| *range != normal.range));
    for range in declared_first {
        let preprocess = preprocess(normal, range);
        let losses = images
            .par_iter()
            .map(|(truth, image)| {
                let probabilities = network.run(&input_values(image, &preprocess)?)?;
                let of_truth = probabilities.get(*truth).copied().unwrap_or(0.0);
                Ok(-f64::from(of_truth).max(1e-6).ln())
            })
            .collect::<Result<Vec<f64>, ForeignError>>();
        let loss = match losses {
            Ok(losses) => losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            // Numbers far outside what a graph was made for may overflow 16 bits; the declared range must work.
            Err(_) if found.is_some() => continue,
            Err(error) => return Err(error),
        };
        if found.is_none_or(|(least, _)| loss + RANGE_MARGIN < least) {
            found = Some((loss, range));
        }
    }
    let range = found.map_or(normal.range, |(_, range)| range);
    if range != normal.range {
        tracing::warn!(
            "the exported model says it takes pixel values as {:?}, the photos show that it takes them as {range:?}",
            normal.range
        );
    }
    Ok(preprocess(normal, range))
}

/// A few photos of each label in turn, of those that the classifier learnt from.
fn range_photos(dataset: &Dataset, held_out: Option<u8>) -> Vec<&Photo> {
    let mut ranked: Vec<(usize, &Photo)> = dataset
        .labels
        .iter()
        .flat_map(|count| {
            let own = dataset.photos.iter().filter(|photo| photo.label == count.label);
            own.filter(|photo| Some(photo.fold) != held_out).enumerate()
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(RANGE_PHOTOS).map(|(_, photo)| photo).collect()
}

/// The whole picture brought to the input's size, as the service's own samples do it (Pillow's bicubic filter).
fn preprocess(normal: &Normal, range: PixelRange) -> Preprocess {
    let (mean, scale) = range.mean_and_scale();
    Preprocess {
        size: normal.size,
        geometry: Geometry::Squash,
        filter: ResizeFilter::CatmullRom,
        channels: normal.channels,
        mean: [mean; 3],
        scale: [scale; 3],
    }
}

fn pack(
    request: &ExportRequest<'_>,
    onnx: &[u8],
    outputs: &[Label],
    monitor: &dyn Monitor,
) -> Result<ModelCard, ForeignError> {
    let ExportRequest { training, training_folder, out, check, .. } = *request;
    let Normal { mut model, input, weights, .. } = normalise(onnx, outputs, &training.labels)?;
    let tool = Tool::current();
    let properties = [
        ("labels", json(&training.labels)),
        ("preprocess", json(&training.preprocess)),
        ("temperature", json(&training.calibration.temperature)),
        ("rejectThreshold", json(&training.calibration.reject_threshold)),
        ("dataset", training.dataset.digest.to_string()),
        ("mynahVersion", tool.version.clone()),
    ];
    model.metadata_props = properties
        .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value })
        .into_iter()
        // What the service says of its graph stays with it, but not what would now be wrong.
        .chain(model.metadata_props.into_iter().filter(|property| !property.key.starts_with("Image.")))
        .collect();
    model.doc_string = "image classifier that Custom Vision trained: picture in, probabilities out".into();
    let bytes = model.encode_to_vec();
    let lines: String = training.labels.iter().flat_map(|label| [label.as_str(), "\n"]).collect();
    let card = ModelCard {
        schema_version: SchemaVersion::CURRENT,
        tool,
        created: None,
        trainer: training.trainer,
        dataset: training.dataset.clone(),
        labels: training.labels.clone(),
        model: FileRef::new(relative("model.onnx")?, &bytes),
        labels_file: FileRef::new(relative("labels.txt")?, lines.as_bytes()),
        input,
        output: OUTPUT.to_owned(),
        preprocess: training.preprocess.clone(),
        weights,
        calibration: training.calibration,
        cross_validation: training.cross_validation.summary.clone(),
        backbone: None,
        probes: training.probes.clone(),
    };
    let package = ModelPackage::from_parts(card, &bytes).map_err(TrainerError::Exported)?;
    write(out, &package.card().model.path, &bytes)?;
    write(out, &package.card().labels_file.path, lines.as_bytes())?;
    check_probes(&package, training_folder, out)?;
    if let Some((dataset, folder)) = check {
        check_dataset(&package, dataset, folder, monitor)?;
    }
    Ok(package.card().clone())
}

/// Runs every photo of a dataset through the package: each must get probabilities.
fn check_dataset(
    package: &ModelPackage,
    dataset: &Dataset,
    folder: &Path,
    monitor: &dyn Monitor,
) -> Result<(), ForeignError> {
    let total = dataset.photos.len() as u64;
    let done = AtomicU64::new(0);
    dataset.photos.par_iter().with_max_len(1).try_for_each(|photo| {
        if monitor.cancelled() {
            return Err(TrainerError::Cancelled.into());
        }
        let sum: f32 = package.classify(&open(photo, folder)?)?.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(ForeignError::NotProbabilities { photo: photo.file.to_string(), sum });
        }
        monitor.progress("checking the model", done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(())
    })
}

/// Text, numbers and lists of them: nothing that JSON could refuse.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
