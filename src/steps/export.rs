//! `export-model`: a training → one self-contained model package, checked before it is accepted.

use std::fmt;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Adopter, Artifact as _, ExportRequest, Exporter, Fault, ModelCard, TrainerKind, Training, Weights,
    to_json,
};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::azure::customvision::{CustomVisionExporter, ExtraFormat};
use crate::dataset;
use crate::install;
use crate::staging::StagedFolder;
use crate::step::{Context, Outcome, OutputSpec, Step};
use crate::steps::custom_vision;

/// The step. What needs an inference engine is handed in by whoever links one.
pub struct ExportModel {
    /// Makes the embedded trainer's exporter from a backbone's ONNX file.
    pub embedded: fn(&Path) -> Box<dyn Exporter>,
    /// Packs what a service trained and exported.
    pub adopter: &'static dyn Adopter,
}

/// What is to be exported.
#[derive(Debug)]
pub struct Plan {
    training: PathBuf,
    out: PathBuf,
    weights: Weights,
    dataset: Option<PathBuf>,
    backbone: Option<PathBuf>,
    connection: Option<String>,
    also: Vec<ExtraFormat>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.weights {
            Weights::F16 => "16-bit",
            Weights::F32 => "32-bit",
        };
        writeln!(f, "make one ONNX model of {} with {bits} weights", self.training.display())?;
        writeln!(f, "check it on the training's probes")?;
        if let Some(dataset) = &self.dataset {
            writeln!(f, "check it on every photo of {}", dataset.display())?;
        }
        for format in &self.also {
            writeln!(f, "keep the export to {format} beside it")?;
        }
        write!(f, "write {}", self.out.join(ModelCard::FILE).display())
    }
}

impl Step for ExportModel {
    const NAME: &'static str = "export-model";
    const TASK: &'static str = "ExportModel";
    const ABOUT: &'static str = "Makes one self-contained ONNX model of a training, and checks it";
    const DETAILS: &'static str = "\
Reads training.json, writes model.onnx (pixels → probabilities, valid for onnxruntime too), labels.txt,
model.json and the probe photos. Before the package is accepted the probes, and with --dataset every
photo, run through the device's own code and must give training's probabilities within 0.001.

A training of Custom Vision is exported by the service and brought into the same form: probabilities in
the dataset's order of labels, 32-bit arithmetic. --weights and --backbone do not apply to it. The key
comes from CUSTOM_VISION_KEY or the secret input `customVisionKey`; without one, the sign-in to Azure is
used. What else the service's export holds is kept below custom-vision/.

Example:
  export-model --training work/training --dataset work/dataset --out work/model";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required("training", OptionKind::Path, "The folder that train-model wrote."),
        OptionSpec::required("out", OptionKind::Path, "The folder to write the model package to."),
        OptionSpec::optional(
            "dataset",
            OptionKind::Path,
            "The dataset it was trained on: the exported model is checked on every photo of it.",
        ),
        OptionSpec::with_default(
            "weights",
            OptionKind::Choice(&["f16", "f32"]),
            "f16",
            "How weights are stored: `f16` halves the file, `f32` suits tools that read no 16-bit floats.",
        ),
        OptionSpec::optional(
            "backbone",
            OptionKind::Path,
            "The backbone's ONNX file. Without it: the one installed with this program.",
        ),
        custom_vision::CONNECTION,
        custom_vision::KEY,
        OptionSpec::optional(
            "also",
            OptionKind::Text,
            "Custom Vision: further formats to keep beside the model: `tensorflow`, `docker`, `coreml`, separated by \
             commas.",
        ),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "modelDigest", about: "The SHA-256 of model.onnx." },
        OutputSpec { name: "modelBytes", about: "The size of model.onnx in bytes." },
        OutputSpec { name: "model", about: "The folder of the model package." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        Ok(Plan {
            training: inputs.required_path("training")?,
            out: inputs.required_path("out")?,
            weights: if inputs.choice("weights")? == Some("f32") { Weights::F32 } else { Weights::F16 },
            dataset: inputs.path("dataset")?,
            backbone: inputs.path("backbone")?,
            connection: inputs
                .text(custom_vision::KEY.name)
                .and_then(|_| inputs.text(custom_vision::CONNECTION.name))?
                .map(str::to_owned),
            also: match inputs.text("also")? {
                None => Vec::new(),
                Some(text) => ExtraFormat::parse_list(text).ok_or_else(|| {
                    inputs.refused("also", text, "a list of `tensorflow`, `docker`, `coreml`")
                })?,
            },
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let training: Training = artifact::load(&plan.training)?;
        let check = plan
            .dataset
            .as_deref()
            .map(|folder| dataset::load(folder).map(|photos| (photos, folder)))
            .transpose()?;
        let embedded;
        let cloud;
        let exporter: &dyn Exporter = match training.trainer {
            TrainerKind::Embedded => {
                let backbone = plan.backbone.clone().map_or_else(|| install::find(install::BACKBONE), Ok)?;
                embedded = (self.embedded)(&backbone);
                &*embedded
            }
            TrainerKind::CustomVision => {
                cloud = CustomVisionExporter {
                    connection: plan.connection.as_deref(),
                    also: &plan.also,
                    env: context.env,
                    adopter: self.adopter,
                };
                &cloud
            }
        };
        let staged = StagedFolder::begin(&plan.out, ModelCard::FILE)?;
        let request = ExportRequest {
            training: &training,
            training_folder: &plan.training,
            weights: plan.weights,
            check: check.as_ref().map(|(photos, folder)| (photos, *folder)),
            out: staged.path(),
        };
        let mut card = exporter.export(&request, context.monitor)?;
        card.created.clone_from(&context.created);
        staged.write(ModelCard::FILE, &to_json(&card))?;
        let folder = staged.publish()?;
        Ok(Outcome {
            headline: format!(
                "exported {} labels in {:.1} MB, checked on {} photos: {}",
                card.labels.len(),
                card.model.bytes as f64 / 1e6,
                check.as_ref().map_or(card.probes.len(), |(photos, _)| photos.photos.len()),
                card.digest()
            ),
            variables: vec![
                ("modelDigest", card.digest().to_string()),
                ("modelBytes", card.model.bytes.to_string()),
                ("model", folder.display().to_string()),
            ],
            ..Outcome::default()
        })
    }
}
