//! Custom Vision, Azure's training service for image classifiers, as a trainer and an exporter beside our own.
//!
//! ```text
//! place     where the project is, and the key or sign-in
//! api       the calls of the training API 3.3 that we make, with its types in `wire`
//! photos    what the service takes: limits, and photos in a form that it takes
//! workspace project, tags and images brought in line with a dataset: only what differs is sent
//! training  an iteration trained or reused, waited for; old ones removed
//! export    an export queued or found, waited for, fetched; `archive` takes it apart
//! ```
//!
//! Everything can be stopped at any point and run again: what is there is found by name or by the digest in an
//! image's metadata, and nothing is made twice. One fold of the dataset is never sent; the exported model is judged
//! on it by the device's own code.

mod api;
mod archive;
mod error;
mod export;
mod pace;
mod photos;
mod place;
mod training;
mod wire;
mod workspace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{
    AdoptRequest, Adopter, CustomVisionModel, Dataset, DatasetRef, ExportRequest, Exporter, Fault, Label,
    ModelCard, Monitor, SchemaVersion, ServiceMetrics, Sha256Digest, Tool, TrainRequest, Trainer,
    TrainerKind, Training,
};

use self::api::Api;
use self::archive::Archive;
use self::workspace::Workspace;
use crate::agent::Env;
use crate::http;

pub use self::error::VisionError;
pub use self::export::ExtraFormat;
pub use self::place::{Domain, Place};

/// The folder of a model package that holds what came with the service's export.
pub const EXTRAS: &str = "custom-vision";

/// How a training is to go.
#[derive(Clone, Debug)]
pub struct Course {
    /// Which fold of the dataset the service never gets.
    pub held_out: Option<u8>,
    /// Whether images leave the project when their photos left the dataset.
    pub prune: bool,
    /// How many unpublished iterations are kept, the new one included.
    pub keep_iterations: usize,
    /// How long the service may take to train.
    pub timeout: Duration,
}

/// Trains with Custom Vision.
pub struct CustomVisionTrainer<'a> {
    /// Where.
    pub place: &'a Place,
    /// How.
    pub course: &'a Course,
    /// Where the key or the sign-in comes from.
    pub env: &'a Env,
    /// Judges what the service exports.
    pub adopter: &'a dyn Adopter,
}

/// Exports what Custom Vision trained.
pub struct CustomVisionExporter<'a> {
    /// The service connection to sign in with, by its id.
    pub connection: Option<&'a str>,
    /// Formats to keep beside the model.
    pub also: &'a [ExtraFormat],
    /// Where the key or the sign-in comes from.
    pub env: &'a Env,
    /// Packs what the service exports.
    pub adopter: &'a dyn Adopter,
}

/// What the service made of a dataset.
struct Made {
    model: CustomVisionModel,
    graph: Graph,
}

/// What an export holds that a package is made of.
struct Graph {
    onnx: Vec<u8>,
    outputs: Vec<Label>,
    /// What else it holds, kept as it is.
    extras: Vec<(&'static str, Vec<u8>)>,
}

/// The members of an export that are kept beside the model.
const KEPT: [&str; 2] = ["metadata_properties.json", "cvexport.manifest"];

impl Trainer for CustomVisionTrainer<'_> {
    fn train(&self, request: &TrainRequest<'_>, monitor: &dyn Monitor) -> Result<Training, Fault> {
        let Made { model, graph } = http::block_on(monitor, self.make(request, monitor))?;
        let TrainRequest { dataset, dataset_folder, holdout, out, .. } = *request;
        let adopted = self.adopter.adopt(
            &AdoptRequest {
                onnx: &graph.onnx,
                outputs: &graph.outputs,
                dataset,
                dataset_folder,
                held_out: self.course.held_out,
                holdout,
                out,
            },
            monitor,
        )?;
        Ok(Training {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            created: None,
            trainer: TrainerKind::CustomVision,
            seed: request.seed,
            dataset: DatasetRef { digest: dataset.digest, photos: dataset.photos.len() as u32 },
            labels: dataset.label_names(),
            preprocess: adopted.preprocess,
            backbone: None,
            augmentations: Vec::new(),
            head: None,
            custom_vision: Some(model),
            calibration: adopted.calibration,
            cross_validation: adopted.evaluation,
            holdout: adopted.holdout,
            probes: adopted.probes,
        })
    }
}

impl CustomVisionTrainer<'_> {
    async fn make(&self, request: &TrainRequest<'_>, monitor: &dyn Monitor) -> Result<Made, VisionError> {
        let Course { held_out, prune, keep_iterations, timeout } = *self.course;
        let api = Api::new(self.place, self.env)?;
        let photos: (&Dataset, &Path) = (request.dataset, request.dataset_folder);
        let workspace: Workspace =
            workspace::bring_in_line(&api, self.place, photos, held_out, prune, monitor).await?;
        tell(&workspace);
        let iteration = training::trained(&api, &workspace, keep_iterations, timeout, monitor).await?;
        let project = &workspace.project;
        let metrics = api.performance(&project.id, &iteration.id).await?;
        let of = export::Of { project: &project.id, iteration: &iteration.id, name: &iteration.name };
        let graph = fetch_graph(&api, of).await?;
        training::prune(&api, &project.id, keep_iterations).await?;
        let model = CustomVisionModel {
            endpoint: self.place.endpoint().to_owned(),
            project: project.id.clone(),
            project_name: project.name.clone(),
            domain: self.place.domain.name().to_owned(),
            iteration: iteration.id,
            iteration_name: iteration.name,
            photos: workspace.photos as u32,
            held_out_fold: held_out,
            exported: Sha256Digest::of(&graph.onnx),
            metrics: ServiceMetrics {
                precision: metrics.precision,
                recall: metrics.recall,
                average_precision: metrics.average_precision,
            },
        };
        Ok(Made { model, graph })
    }
}

fn tell(workspace: &Workspace) {
    let summary = &workspace.summary;
    tracing::info!(
        "project `{}`: {} photos were there, {} sent, {} relabelled, {} removed",
        workspace.project.name,
        summary.present,
        summary.uploaded,
        summary.retagged,
        summary.removed
    );
    if summary.foreign > 0 {
        tracing::debug!("{} images of the project are not from a dataset of ours", summary.foreign);
    }
}

async fn fetch_graph(api: &Api, of: export::Of<'_>) -> Result<Graph, VisionError> {
    let zip = export::fetch(api, of, "ONNX").await?;
    let unpack = || {
        let mut archive = Archive::open(&zip)?;
        let onnx = archive.read("model.onnx")?;
        let outputs = archive::labels(&archive.read("labels.txt")?)?;
        let mut extras = Vec::new();
        for name in KEPT {
            extras.extend(archive.find(name)?.map(|bytes| (name, bytes)));
        }
        Ok(Graph { onnx, outputs, extras })
    };
    unpack().map_err(|source| VisionError::Archive { iteration: of.name.to_owned(), source })
}

impl Exporter for CustomVisionExporter<'_> {
    fn export(&self, request: &ExportRequest<'_>, monitor: &dyn Monitor) -> Result<ModelCard, Fault> {
        let Some(model) = &request.training.custom_vision else { return Err(VisionError::NotOurs.into()) };
        let (graph, also) = http::block_on(monitor, self.fetch(model))?;
        if Sha256Digest::of(&graph.onnx) != model.exported {
            // The probes still say whether it answers as the model that was judged.
            tracing::warn!("the service gives other bytes for this export than when it was judged");
        }
        let card = self.adopter.pack(request, &graph.onnx, &graph.outputs, monitor)?;
        let extras = graph.extras.iter().map(|(name, bytes)| (*name, bytes));
        let also = also.iter().map(|(format, bytes)| (format.file(), bytes));
        write_extras(&request.out.join(EXTRAS), extras.chain(also))?;
        Ok(card)
    }
}

impl CustomVisionExporter<'_> {
    async fn fetch(
        &self,
        model: &CustomVisionModel,
    ) -> Result<(Graph, Vec<(ExtraFormat, Vec<u8>)>), VisionError> {
        // Both become parts of addresses.
        let is_id =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_id(&model.project) || !is_id(&model.iteration) {
            return Err(VisionError::NotOurs);
        }
        let domain = Domain::parse(&model.domain).ok_or(VisionError::NotOurs)?;
        let connection = self.connection.map(str::to_owned);
        let place = Place::parse(&model.endpoint, &model.project_name, domain, connection)?;
        let api = Api::new(&place, self.env)?;
        let of =
            export::Of { project: &model.project, iteration: &model.iteration, name: &model.iteration_name };
        let graph = fetch_graph(&api, of).await?;
        let mut also = Vec::new();
        for format in self.also {
            let zip = export::fetch(&api, of, format.platform()).await?;
            Archive::open(&zip)
                .map_err(|source| VisionError::Archive { iteration: of.name.to_owned(), source })?;
            also.push((*format, zip));
        }
        Ok((graph, also))
    }
}

fn write_extras<'a>(
    folder: &Path,
    files: impl Iterator<Item = (&'a str, &'a Vec<u8>)>,
) -> Result<(), VisionError> {
    let failed = |path: PathBuf| move |source| VisionError::Write { path, source };
    std::fs::create_dir_all(folder).map_err(failed(folder.to_owned()))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(failed(path.clone()))?;
    }
    Ok(())
}
