//! `mynah run`: the six steps in one process, with their embedded defaults.

mod frames;
mod table;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Adopter, Dataset, DeploymentRecord, Diagnosis, Exporter, Fault, FaultKind, ModelCard, ModuleSet,
    Sighting, Trainer, Training,
};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::install;
use crate::step::{Context, Outcome, Step};
use crate::steps::build_modules::BuildModules;
use crate::steps::custom_vision;
use crate::steps::deploy_modules::DeployModules;
use crate::steps::export::ExportModel;
use crate::steps::generate_manifest::GenerateManifest;
use crate::steps::import::ImportImages;
use crate::steps::train::TrainModel;

/// The name of the positional argument.
pub const PHOTOS: &str = "photos";

/// What `--help` adds.
pub const DETAILS: &str = "\
Without PHOTOS the samples that come with mynah are used. PHOTOS is a folder with one folder of photos per
label: photos/apple/1.jpg, photos/pear/old/2.png, … At least 2 labels, at least 5 photos in each.

What each step wrote stands below --out: dataset/, training/ (look at report.html), model/, images/,
deployment.json, device/ (spoken/*.wav, sightings.jsonl). Run it again after adding photos: only what
changed is done again.

Examples:
  mynah run
  mynah run photos --frames new-photos --out work --min-accuracy 0.9";

/// The options of `mynah run`, beside its photos.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default("out", OptionKind::Path, "mynah-out", "The folder for everything that is made."),
    OptionSpec::optional(
        "frames",
        OptionKind::Path,
        "A folder of pictures the device is to look at. Best are photos it has not learnt from.",
    ),
    OptionSpec::with_default(
        "seed",
        OptionKind::Integer { min: 0, max: u64::MAX },
        "1",
        "Where randomness is drawn from: equal seeds give equal models.",
    ),
    OptionSpec::optional(
        "minAccuracy",
        OptionKind::Number { min: 0.0, max: 1.0 },
        "Stop when the accuracy on photos that were not learnt from, 0 to 1, is below this.",
    ),
    OptionSpec::with_default(
        "weights",
        OptionKind::Choice(&["f16", "f32"]),
        "f16",
        "How the model's weights are stored: `f16` halves the file.",
    ),
    OptionSpec::optional("strict", OptionKind::Switch, "Stop at damaged photos instead of leaving them out."),
    custom_vision::TRAINER,
    custom_vision::ENDPOINT,
    custom_vision::PROJECT,
    custom_vision::DOMAIN,
    custom_vision::CONNECTION,
    custom_vision::HOLDOUT_FOLD,
    custom_vision::PRUNE_IMAGES,
    custom_vision::KEEP_ITERATIONS,
    custom_vision::TIMEOUT,
];

/// The walk. The trainer and the exporter are made by whoever links them, from the backbone's path.
pub struct Walk {
    /// Makes the embedded trainer.
    pub trainer: fn(&Path) -> Box<dyn Trainer>,
    /// Makes its exporter.
    pub exporter: fn(&Path) -> Box<dyn Exporter>,
    /// Judges and packs what a service trained.
    pub adopter: &'static dyn Adopter,
}

/// What is to be walked.
#[derive(Debug)]
pub struct Plan {
    photos: Option<PathBuf>,
    frames: Option<PathBuf>,
    out: PathBuf,
    seed: String,
    min_accuracy: Option<String>,
    weights: &'static str,
    strict: bool,
    /// Who trains, and what it needs to know, as options of train-model.
    training: Vec<(&'static str, String)>,
}

impl Plan {
    /// Makes the plan of `mynah run` from its options.
    pub fn new(photos: Option<PathBuf>, inputs: &Inputs) -> Result<Self, Fault> {
        inputs.integer("seed")?;
        inputs.number("minAccuracy")?;
        custom_vision::chosen(inputs)?;
        let mut training = Vec::new();
        for spec in [custom_vision::TRAINER].iter().chain(&custom_vision::OF_TRAINING) {
            training.extend(inputs.text(spec.name)?.map(|value| (spec.name, value.to_owned())));
        }
        Ok(Self {
            photos,
            frames: inputs.path("frames")?,
            out: inputs.required_path("out")?,
            seed: inputs.required("seed")?.to_owned(),
            min_accuracy: inputs.text("minAccuracy")?.map(str::to_owned),
            weights: inputs.choice("weights")?.unwrap_or("f16"),
            strict: inputs.switch("strict")?,
            training,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let photos = self
            .photos
            .as_ref()
            .map_or_else(|| "the samples".to_owned(), |photos| photos.display().to_string());
        let frames = match (&self.frames, &self.photos) {
            (Some(frames), _) => frames.display().to_string(),
            (None, None) => "the samples' frames".to_owned(),
            (None, Some(_)) => "some of the photos".to_owned(),
        };
        writeln!(f, "1 import-images     {photos}")?;
        let trainer = self.training.first().map_or("embedded", |(_, who)| who.as_str());
        writeln!(f, "2 train-model       {trainer}, seed {}", self.seed)?;
        writeln!(f, "3 export-model      {} weights", self.weights)?;
        writeln!(f, "4 build-modules     for this machine")?;
        writeln!(f, "5 generate-manifest built-in template")?;
        writeln!(f, "6 deploy-modules    on this machine, looking at {frames}")?;
        write!(f, "everything below {}", self.out.display())
    }
}

/// The sightings of a device could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`")]
struct SightingsError {
    path: String,
    #[source]
    source: io::Error,
}

impl Diagnosis for SightingsError {
    fn kind(&self) -> FaultKind {
        FaultKind::Failed
    }
}

impl Walk {
    /// Walks the six steps and gives the table that a person reads at the end.
    pub fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<String, Fault> {
        let samples = if plan.photos.is_none() { Some(install::find(install::SAMPLES)?) } else { None };
        let photos =
            plan.photos.clone().or_else(|| samples.as_ref().map(|s| s.join("photos"))).unwrap_or_default();
        let place = |name: &str| plan.out.join(name);
        let text = |path: &Path| path.display().to_string();
        let (dataset, training, model, images) =
            (place("dataset"), place("training"), place("model"), place("images"));
        let (manifest, device) = (place("deployment.json"), place("device"));

        let mut import =
            vec![("source", text(&photos)), ("out", text(&dataset)), ("seed", plan.seed.clone())];
        if plan.strict {
            import.push(("strict", "true".into()));
        }
        take(1, &ImportImages, import, context)?;

        let mut train = vec![
            ("dataset", text(&dataset)),
            ("out", text(&training)),
            ("cache", text(&place("cache"))),
            ("seed", plan.seed.clone()),
        ];
        train.extend(plan.min_accuracy.clone().map(|least| ("minAccuracy", least)));
        train.extend(plan.training.clone());
        take(2, &TrainModel { embedded: self.trainer, adopter: self.adopter }, train, context)?;

        let mut export =
            vec![("training", text(&training)), ("out", text(&model)), ("weights", plan.weights.to_owned())];
        let connection = plan.training.iter().find(|(name, _)| *name == custom_vision::CONNECTION.name);
        export.extend(connection.cloned());
        take(3, &ExportModel { embedded: self.exporter, adopter: self.adopter }, export, context)?;

        let mut build = vec![("model", text(&model)), ("out", text(&images))];
        build.extend(samples.as_ref().map(|samples| ("clips", text(&samples.join("speech")))));
        take(4, &BuildModules, build, context)?;

        let generate = vec![("images", text(&images)), ("out", text(&manifest))];
        take(5, &GenerateManifest, generate, context)?;

        let photos: Dataset = artifact::load(&dataset)?;
        let frames = match (&plan.frames, &samples) {
            (Some(frames), _) => frames.clone(),
            (None, Some(samples)) => samples.join("frames"),
            (None, None) => {
                tracing::info!("no --frames: the device looks at some of the photos it learnt from");
                frames::choose(&photos, &dataset, &place("frames"))?
            }
        };
        let deploy = vec![
            ("manifest", text(&manifest)),
            ("images", text(&images)),
            ("frames", text(&frames)),
            ("out", text(&device)),
        ];
        take(6, &DeployModules, deploy, context)?;

        let record: DeploymentRecord = artifact::load(&device)?;
        let sightings = match &record.sightings {
            Some(file) => read_sightings(&file.below(&device))?,
            None => Vec::new(),
        };
        let walked = table::Walked {
            dataset: &photos,
            training: &artifact::load::<Training>(&training)?,
            model: &artifact::load::<ModelCard>(&model)?,
            modules: &artifact::load::<ModuleSet>(&images)?,
            manifest: &manifest,
            device: &device,
            report: &training.join("report.html"),
            sightings: &sightings,
            seen_before: plan.frames.is_none() && samples.is_none(),
        };
        Ok(table::render(&walked))
    }
}

/// Takes one step.
fn take<S: Step>(
    number: u8,
    step: &S,
    options: Vec<(&str, String)>,
    context: &Context<'_>,
) -> Result<Outcome, Fault> {
    if context.monitor.cancelled() {
        return Err(mynah_contracts::Cancelled.into());
    }
    tracing::info!("{number}/6 {}", S::NAME);
    let plan = S::plan(&Inputs::from_pairs(S::OPTIONS, options))?;
    let outcome = step.run(&plan, context)?;
    tracing::info!("    {}", outcome.headline);
    match outcome.missed {
        Some(fault) => Err(fault),
        None => Ok(outcome),
    }
}

fn read_sightings(file: &Path) -> Result<Vec<Sighting>, SightingsError> {
    let failed = |source| SightingsError { path: file.display().to_string(), source };
    fs::read_to_string(file)
        .map_err(failed)?
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| failed(error.into())))
        .collect()
}
