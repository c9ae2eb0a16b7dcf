//! `train-model`: a dataset → a training, with reports and gates.

use std::fmt;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Adopter, Artifact as _, Diagnosis, EmbedRequest, Fault, FaultKind, Shard, TrainRequest, Trainer,
    Training, to_json,
};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::azure::customvision::{Course, CustomVisionTrainer, Place};
use crate::dataset;
use crate::install;
use crate::report::{self, Report};
use crate::staging::StagedFolder;
use crate::step::{Context, Outcome, OutputSpec, Step};
use crate::steps::{custom_vision, shards};

/// The step. What needs an inference engine is handed in by whoever links one.
pub struct TrainModel {
    /// Makes the embedded trainer from a backbone's ONNX file.
    pub embedded: fn(&Path) -> Box<dyn Trainer>,
    /// Judges what a service trained and exported.
    pub adopter: &'static dyn Adopter,
}

/// What is to be trained.
#[derive(Debug)]
pub struct Plan {
    dataset: PathBuf,
    out: PathBuf,
    seed: u64,
    min_accuracy: Option<f64>,
    holdout: Option<PathBuf>,
    by: Who,
}

/// Who trains, and with what.
#[derive(Debug)]
enum Who {
    Embedded { cache: PathBuf, backbone: Option<PathBuf>, shard: Option<Shard>, parts: Option<PathBuf> },
    CustomVision(Place, Course),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { cache, backbone, shard, parts } => {
                if let Some(shard) = shard {
                    writeln!(f, "only embed part {shard} of the photos")?;
                }
                if let Some(parts) = parts {
                    writeln!(f, "take in the embeddings below {}", parts.display())?;
                }
                match backbone {
                    Some(backbone) => writeln!(f, "backbone {}", backbone.display())?,
                    None => writeln!(f, "backbone {}, as installed", install::BACKBONE)?,
                }
                writeln!(f, "keep embeddings in {}", cache.display())
            }
            Self::CustomVision(place, course) => {
                writeln!(f, "{place}")?;
                if let Some(fold) = course.held_out {
                    writeln!(f, "send all photos but those of fold {fold}, which judge the model")?;
                } else {
                    writeln!(f, "send all photos")?;
                }
                if course.prune {
                    writeln!(f, "remove images whose photos left the dataset")?;
                }
                writeln!(f, "keep {} unpublished iterations", course.keep_iterations)?;
                writeln!(f, "wait up to {} minutes for the training", course.timeout.as_secs() / 60)
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.by {
            Who::Embedded { .. } => "the embedded trainer",
            Who::CustomVision(..) => "Custom Vision",
        };
        writeln!(f, "train on {} with {who}, seed {}", self.dataset.display(), self.seed)?;
        write!(f, "{}", self.by)?;
        if let Some(holdout) = &self.holdout {
            writeln!(f, "evaluate the final model on {}", holdout.display())?;
        }
        if let Some(least) = self.min_accuracy {
            writeln!(f, "fail below an accuracy of {least}")?;
        }
        write!(f, "write {}", self.out.join(Training::FILE).display())
    }
}

/// A gate was missed.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
struct GateMissed {
    failure: String,
    reports: String,
}

impl Diagnosis for GateMissed {
    fn kind(&self) -> FaultKind {
        FaultKind::Failed
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "look at the mistakes in `{}`; add photos of the labels that are confused, or lower `--min-accuracy`",
            self.reports
        ))
    }
}

impl Step for TrainModel {
    const NAME: &'static str = "train-model";
    const TASK: &'static str = "TrainModel";
    const ABOUT: &'static str = "Learns the labels of a dataset and says how well";
    const DETAILS: &'static str = "\
Reads dataset.json and its photos, writes training.json, the trained head, a few probe photos, and the
reports: report.md, report.html, confusion.png, junit.xml.

A frozen backbone turns each photo into an embedding, a linear head learns the labels from them. Every
figure comes from 5-fold cross-validation; the shipped head is then fitted on all photos. Embeddings are
kept, so that training again after adding ten photos embeds ten photos. Equal inputs and an equal seed
give equal bytes.

Large datasets are embedded by several machines: each runs with --shard 1/4, 2/4 and so on, and one takes
their folders in with --embeddings. The outcome is the same to the byte.

With --trainer custom-vision the photos go to that Azure service, except for one fifth. What the service
trained is exported, and judged on that fifth by the code that runs on the device. Only what the project
lacks is sent; where nothing changed the last iteration is used. Stopped at any point and run again, it
goes on from what is there.

Below --min-accuracy the step fails, says which labels are confused, leaves an earlier training as it
was, and writes the reports beside it, into <out>-rejected.

Example:
  train-model --dataset work/dataset --out work/training --min-accuracy 0.9
  CUSTOM_VISION_KEY=… train-model --dataset work/dataset --out work/training --trainer custom-vision \\
    --endpoint https://westeurope.api.cognitive.microsoft.com/ --project animals";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required("dataset", OptionKind::Path, "The folder that import-images wrote."),
        OptionSpec::required("out", OptionKind::Path, "The folder to write the training to."),
        custom_vision::TRAINER,
        OptionSpec::optional(
            "minAccuracy",
            OptionKind::Number { min: 0.0, max: 1.0 },
            "Fail when the accuracy on photos that were not learnt from, 0 to 1, is below this.",
        ),
        OptionSpec::with_default(
            "seed",
            OptionKind::Integer { min: 0, max: u64::MAX },
            "1",
            "Where randomness is drawn from: equal seeds give equal models.",
        ),
        OptionSpec::optional(
            "holdout",
            OptionKind::Path,
            "Photos kept apart, imported by import-images: the final model is evaluated on them too.",
        ),
        OptionSpec::optional(
            "cache",
            OptionKind::Path,
            "Where embeddings are kept from run to run. Without it: `cache` beside the training's folder.",
        ),
        OptionSpec::optional(
            "backbone",
            OptionKind::Path,
            "The backbone's ONNX file. Without it: the one installed with this program.",
        ),
        OptionSpec::optional(
            "shard",
            OptionKind::Text,
            "Only embed a part of the photos, such as `2/4`, the second of four: `out` gets its embeddings and no \
             training. So several agents share the work.",
        ),
        OptionSpec::optional(
            "embeddings",
            OptionKind::Path,
            "A folder with what such parts wrote, each in a folder of its own: taken in before training.",
        ),
        custom_vision::ENDPOINT,
        custom_vision::PROJECT,
        custom_vision::DOMAIN,
        custom_vision::CONNECTION,
        custom_vision::KEY,
        custom_vision::HOLDOUT_FOLD,
        custom_vision::PRUNE_IMAGES,
        custom_vision::KEEP_ITERATIONS,
        custom_vision::TIMEOUT,
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "accuracy", about: "The accuracy on photos that were not learnt from, 0 to 1." },
        OutputSpec { name: "macroF1", about: "The macro F1 score on those photos, 0 to 1." },
        OutputSpec { name: "datasetDigest", about: "The digest of what was learnt from." },
        OutputSpec { name: "training", about: "The folder of the training." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        let out = inputs.required_path("out")?;
        let beside = out.parent().unwrap_or(Path::new("")).join("cache");
        Ok(Plan {
            dataset: inputs.required_path("dataset")?,
            seed: inputs.integer("seed")?.unwrap_or_default(),
            min_accuracy: inputs.number("minAccuracy")?,
            holdout: inputs.path("holdout")?,
            by: match custom_vision::chosen(inputs)? {
                Some((place, course)) => {
                    for (name, value) in
                        [("shard", inputs.text("shard")?), ("embeddings", inputs.text("embeddings")?)]
                    {
                        if let Some(value) = value {
                            return Err(inputs
                                .refused(name, value, "nothing, since Custom Vision trains,")
                                .into());
                        }
                    }
                    Who::CustomVision(place, course)
                }
                None => Who::Embedded {
                    cache: inputs.path("cache")?.unwrap_or(beside),
                    backbone: inputs.path("backbone")?,
                    shard: match inputs.text("shard")? {
                        None => None,
                        Some(text) => Some(Shard::parse(text).ok_or_else(|| {
                            inputs.refused("shard", text, "a part such as `2/4`, up to `99/99`,")
                        })?),
                    },
                    parts: inputs.path("embeddings")?,
                },
            },
            out,
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let photos = dataset::load(&plan.dataset)?;
        if let Who::Embedded { cache, backbone, shard, parts } = &plan.by {
            if let Some(parts) = parts {
                let taken = shards::take_in(parts, &photos, cache)?;
                tracing::info!("took in {taken} files of embeddings from {}", parts.display());
            }
            if let Some(shard) = *shard {
                let backbone = backbone.clone().map_or_else(|| install::find(install::BACKBONE), Ok)?;
                let staged = StagedFolder::begin(&plan.out, shards::MARK)?;
                let request = EmbedRequest {
                    dataset: &photos,
                    dataset_folder: &plan.dataset,
                    cache,
                    shard,
                    out: staged.path(),
                };
                let count = (self.embedded)(&backbone).embed(&request, context.monitor)?;
                staged.write(shards::MARK, &shards::mark(&photos, shard))?;
                staged.publish()?;
                return Ok(Outcome {
                    headline: format!("embedded {count} of {} photos, part {shard}", photos.photos.len()),
                    variables: vec![("datasetDigest", photos.digest.to_string())],
                    ..Outcome::default()
                });
            }
        }
        let holdout = plan
            .holdout
            .as_deref()
            .map(|folder| dataset::load(folder).map(|held| (held, folder)))
            .transpose()?;
        let staged = StagedFolder::begin(&plan.out, Training::FILE)?;

        let no_cache = PathBuf::new();
        let embedded;
        let cloud;
        let (trainer, cache): (&dyn Trainer, &Path) = match &plan.by {
            Who::Embedded { cache, backbone, .. } => {
                let backbone = backbone.clone().map_or_else(|| install::find(install::BACKBONE), Ok)?;
                embedded = (self.embedded)(&backbone);
                (&*embedded, cache)
            }
            Who::CustomVision(place, course) => {
                cloud = CustomVisionTrainer { place, course, env: context.env, adopter: self.adopter };
                (&cloud, &no_cache)
            }
        };
        let request = TrainRequest {
            dataset: &photos,
            dataset_folder: &plan.dataset,
            holdout: holdout.as_ref().map(|(held, folder)| (held, *folder)),
            cache,
            seed: plan.seed,
            out: staged.path(),
        };
        let mut training = trainer.train(&request, context.monitor)?;
        training.created.clone_from(&context.created);

        let gates: Vec<_> = report::accuracy_gate(&training, plan.min_accuracy).into_iter().collect();
        let report = Report {
            training: &training,
            dataset: &photos,
            dataset_folder: &plan.dataset,
            holdout: request.holdout,
            gates: &gates,
        };
        let failure = gates.iter().find_map(|gate| gate.failure(&training));
        let (folder, missed) = if let Some(failure) = failure {
            let rejected = rejected_place(&plan.out);
            let staged = StagedFolder::begin(&rejected, "report.md")?;
            report.write_all(staged.path())?;
            let folder = staged.publish()?;
            let reports =
                plan.out.with_file_name(folder.file_name().unwrap_or_default()).display().to_string();
            (folder, Some(GateMissed { failure, reports }.into()))
        } else {
            report.write_all(staged.path())?;
            staged.write(Training::FILE, &to_json(&training))?;
            (staged.publish()?, None)
        };

        let summary = &training.cross_validation.summary;
        Ok(Outcome {
            headline: format!(
                "trained on {} photos of {} labels: accuracy {:.1} %, macro F1 {:.1} % {}",
                training.custom_vision.as_ref().map_or(training.dataset.photos, |model| model.photos),
                training.labels.len(),
                summary.accuracy * 100.0,
                summary.macro_f1 * 100.0,
                match summary.folds {
                    0 => format!("on {} photos kept apart", summary.photos),
                    folds => format!("in {folds}-fold cross-validation"),
                }
            ),
            variables: vec![
                ("accuracy", format!("{:.6}", summary.accuracy)),
                ("macroF1", format!("{:.6}", summary.macro_f1)),
                ("datasetDigest", photos.digest.to_string()),
                ("training", folder.display().to_string()),
            ],
            summary: Some(folder.join("report.md")),
            test_results: Some(folder.join("junit.xml")),
            missed,
        })
    }
}

/// Where the reports of a training go that missed a gate.
fn rejected_place(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push("-rejected");
    out.with_file_name(name)
}
