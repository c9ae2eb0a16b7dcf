//! `deploy-modules`: a deployment manifest → a device that runs it, seen healthy, and
//! `deployment-record.json`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mynah_contracts::{Artifact as _, DeploymentRecord, Fault, ModuleSet, to_json};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::device::{Deployed, LocalDevice};
use crate::staging;
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The step.
pub struct DeployModules;

/// What is to be deployed, and where to.
#[derive(Debug)]
pub struct Plan {
    manifest: PathBuf,
    images: PathBuf,
    frames: PathBuf,
    out: PathBuf,
    hold: u64,
    wait: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "deploy {} to this machine", self.manifest.display())?;
        writeln!(f, "start its runtime from the images in {}", self.images.display())?;
        writeln!(f, "show it the frames in {}, {} times each", self.frames.display(), self.hold)?;
        writeln!(f, "wait up to {} s for each sign of life", self.wait.as_secs())?;
        write!(f, "write {}", self.out.join(DeploymentRecord::FILE).display())
    }
}

impl Step for DeployModules {
    const NAME: &'static str = "deploy-modules";
    const TASK: &'static str = "DeployModules";
    const ABOUT: &'static str = "Deploys a manifest to a device and waits until it runs this very model";
    const DETAILS: &'static str = "\
Reads a deployment manifest and writes deployment-record.json once the device was seen healthy.

The target `local` is this machine: the image is verified, unpacked and started on a folder of frames.
It leaves sightings.jsonl (what was seen), spoken/ (what was said, as WAV files) and status.json. The
program runs as this user, without a container.

Example:
  deploy-modules --manifest work/deployment.json --images work/images --frames frames --out work/device";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required("manifest", OptionKind::Path, "The file that generate-manifest wrote."),
        OptionSpec::with_default("target", OptionKind::Choice(&["local"]), "local", "Where to deploy to."),
        OptionSpec::required("images", OptionKind::Path, "The folder that build-modules wrote."),
        OptionSpec::required("frames", OptionKind::Path, "The folder of pictures the device looks at."),
        OptionSpec::required(
            "out",
            OptionKind::Path,
            "The folder for the record and what the device leaves.",
        ),
        OptionSpec::with_default(
            "hold",
            OptionKind::Integer { min: 1, max: 1000 },
            "3",
            "How many times each picture is shown: a device speaks when a label stays.",
        ),
        OptionSpec::with_default(
            "wait",
            OptionKind::Integer { min: 1, max: 86_400 },
            "60",
            "How many seconds the device may report nothing new before the step fails.",
        ),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "record", about: "The file deployment-record.json." },
        OutputSpec { name: "sightings", about: "The file with what the device saw." },
        OutputSpec { name: "modelDigest", about: "The model the device reported." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        // Its only word so far, so that pipelines may already name it.
        inputs.choice("target")?;
        Ok(Plan {
            manifest: inputs.required_path("manifest")?,
            images: inputs.required_path("images")?,
            frames: inputs.required_path("frames")?,
            out: inputs.required_path("out")?,
            hold: inputs.integer("hold")?.unwrap_or(3),
            wait: Duration::from_secs(inputs.integer("wait")?.unwrap_or(60)),
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let modules: ModuleSet = artifact::load(&plan.images)?;
        let device = LocalDevice {
            manifest: &plan.manifest,
            images: &plan.images,
            modules: &modules,
            frames: &plan.frames,
            hold: plan.hold,
            wait: plan.wait,
            out: &plan.out,
        };
        let Deployed { record, status } = device.deploy(context.monitor, context.now)?;
        let out = std::path::absolute(&plan.out).unwrap_or_else(|_| plan.out.clone());
        let file = out.join(DeploymentRecord::FILE);
        staging::write_file(&file, &to_json(&record))?;
        let mut variables = vec![("record", file.display().to_string())];
        if let Some(sightings) = &record.sightings {
            variables.push(("sightings", sightings.below(&out).display().to_string()));
        }
        if let Some(model) = status.model {
            variables.push(("modelDigest", model.to_string()));
        }
        Ok(Outcome {
            headline: format!(
                "deployed to this machine: {} frames seen, {} words said{}",
                status.frames,
                status.utterances,
                if status.speaker.is_some() { "" } else { ", without a voice" }
            ),
            variables,
            ..Outcome::default()
        })
    }
}
