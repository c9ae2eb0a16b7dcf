//! `deploy-modules`: a deployment manifest → a device that runs it, seen healthy, and
//! `deployment-record.json`.

mod iot_hub;
mod kubernetes;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mynah_contracts::{Artifact as _, DeploymentRecord, Fault, ModuleSet, to_json};

use crate::agent::{InputError, Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::device::{Deployed, LocalDevice};
use crate::staging;
use crate::step::{Context, Outcome, OutputSpec, Step};
use iot_hub::HubPlan;
use kubernetes::ClusterPlan;

/// The longest wait for a device.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// The step.
pub struct DeployModules;

/// What is to be deployed, and where to.
#[derive(Debug)]
pub struct Plan {
    manifest: PathBuf,
    out: PathBuf,
    target: Target,
}

/// Where to.
#[derive(Debug)]
enum Target {
    Local(LocalPlan),
    IotHub(HubPlan),
    Kubernetes(ClusterPlan),
}

/// A deployment to this machine.
#[derive(Debug)]
struct LocalPlan {
    images: PathBuf,
    frames: PathBuf,
    hold: u64,
    wait: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deploy {} ", self.manifest.display())?;
        match &self.target {
            Target::Local(local) => write!(f, "{local}")?,
            Target::IotHub(hub) => write!(f, "{hub}")?,
            Target::Kubernetes(cluster) => write!(f, "{cluster}")?,
        }
        write!(f, "write {}", self.out.join(DeploymentRecord::FILE).display())
    }
}

impl fmt::Display for LocalPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "to this machine")?;
        writeln!(f, "start its runtime from the images in {}", self.images.display())?;
        writeln!(f, "show it the frames in {}, {} times each", self.frames.display(), self.hold)?;
        writeln!(f, "wait up to {} s for each sign of life", self.wait.as_secs())
    }
}

impl Step for DeployModules {
    const NAME: &'static str = "deploy-modules";
    const TASK: &'static str = "DeployModules";
    const ABOUT: &'static str = "Deploys a manifest to a device and waits until it runs this very model";
    const DETAILS: &'static str = "\
Reads a deployment manifest and writes deployment-record.json once the devices were seen healthy.

The target `local` is this machine: the image is verified, unpacked and started on a folder of frames.
It leaves sightings.jsonl (what was seen), spoken/ (what was said, as WAV files) and status.json. The
program runs as this user, without a container.

The target `iot-hub` is one device of an Azure IoT Hub (--device), or all that fulfil a condition
(--target-condition), by an automatic deployment above the earlier one, which goes once the new one runs.
Devices that do not come to run it get the earlier one again. Deploying what runs already changes nothing.
Who signs in: the connection string in IOTHUB_CONNECTION_STRING, or a Microsoft Entra identity, found as
other Azure tools find it. Devices pull images as MYNAH_PULL_USER with MYNAH_PULL_PASSWORD, where those are
set. With --dry-run it asks the hub and shows what would change.

The target `kubernetes` is a cluster, such as K3s on a Raspberry Pi; the manifest is then what
generate-manifest wrote with --format kubernetes. The whole of it is tried first, then applied on the
server's side, watched until it runs, and asked which model it runs. What does not come to run is taken
back; what the manifest no longer has is deleted, except volumes and what others made. With --canary the
nodes with a label run it before all others do. Who signs in: the service connection, --kubeconfig,
KUBECONFIG, the pod's own account, ~/.kube/config, the first there is.

Examples:
  deploy-modules --manifest work/deployment.json --images work/images --frames frames --out work/device
  deploy-modules --manifest work/deployment.json --target iot-hub --device pi-1 --merge --out work/deployed
  deploy-modules --manifest work/deployment.json --target iot-hub --hub mynah --out work/deployed \\
    --target-condition \"tags.room = 'hall'\" --wait 20m
  deploy-modules --manifest work/objects.yaml --target kubernetes --canary room=hall --out work/deployed";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required("manifest", OptionKind::Path, "The file that generate-manifest wrote."),
        OptionSpec::with_default(
            "target",
            OptionKind::Choice(&["local", "iot-hub", "kubernetes"]),
            "local",
            "Where to deploy to.",
        ),
        OptionSpec::required(
            "out",
            OptionKind::Path,
            "The folder for the record and what the device leaves.",
        ),
        OptionSpec::optional(
            "wait",
            OptionKind::Text,
            "How long, such as `90s` or `10m`: at `local` the device may report nothing new, by default 60s; \
             at `iot-hub` the devices may take to run the deployment, by default 10m; at `kubernetes` the pods, \
             by default 5m.",
        ),
        OptionSpec::optional(
            "images",
            OptionKind::Path,
            "The folder that build-modules wrote. Needed by `local`.",
        ),
        OptionSpec::optional(
            "frames",
            OptionKind::Path,
            "The folder of pictures the device looks at. Needed by `local`.",
        ),
        OptionSpec::with_default(
            "hold",
            OptionKind::Integer { min: 1, max: 1000 },
            "3",
            "How many times each picture is shown, at `local`: a device speaks when a label stays.",
        ),
        OptionSpec::optional(
            "hub",
            OptionKind::Text,
            "The hub's name or host. Not needed with a connection string.",
        ),
        OptionSpec::optional(
            "connection",
            OptionKind::Text,
            "The service connection that signs in to the hub: one of Azure, or one whose password is the hub's \
             connection string.",
        ),
        OptionSpec::optional("device", OptionKind::Text, "The device to deploy to, at `iot-hub`."),
        OptionSpec::optional(
            "targetCondition",
            OptionKind::Text,
            "Which devices to deploy to, at `iot-hub`, such as `tags.room = 'hall'`; `*` is all.",
        ),
        OptionSpec::with_default(
            "deployment",
            OptionKind::Text,
            "mynah",
            "The name of the automatic deployment, or of what a cluster keeps of it: lower-case letters, digits and `-`.",
        ),
        OptionSpec::with_default(
            "priority",
            OptionKind::Integer { min: 0, max: 2_147_483_000 },
            "10",
            "Its priority among the hub's deployments; the highest wins.",
        ),
        OptionSpec::optional(
            "merge",
            OptionKind::Switch,
            "Keep the devices' other modules: merged with what one device has, layered over what many have.",
        ),
        OptionSpec::optional(
            "replace",
            OptionKind::Switch,
            "Remove other modules of the device. Without this and --merge a device that has some is refused.",
        ),
        OptionSpec::optional(
            "registryConnection",
            OptionKind::Text,
            "The service connection of the registry, with whose user and password devices pull the images.",
        ),
        OptionSpec::optional(
            "clusterConnection",
            OptionKind::Text,
            "The service connection of the type Kubernetes that signs in to the cluster.",
        ),
        OptionSpec::optional(
            "kubeconfig",
            OptionKind::Path,
            "The kubeconfig that says which cluster and who.",
        ),
        OptionSpec::optional(
            "context",
            OptionKind::Text,
            "The context of the kubeconfig. Without it: its current one.",
        ),
        OptionSpec::optional(
            "canary",
            OptionKind::Text,
            "`<key>=<value>`, the label of the nodes that are to run it before all others do, at `kubernetes`.",
        ),
        OptionSpec::optional(
            "force",
            OptionKind::Switch,
            "Take over fields of the cluster's objects that others manage. Without this they are an error.",
        ),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "record", about: "The file deployment-record.json." },
        OutputSpec { name: "sightings", about: "The file with what the device saw, at `local`." },
        OutputSpec { name: "modelDigest", about: "The model the device reported, at `local`." },
        OutputSpec {
            name: "changed",
            about: "Whether anything was changed, at `iot-hub` and `kubernetes`: `true` or `false`.",
        },
        OutputSpec { name: "configuration", about: "The configuration's id, of an automatic deployment." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        let target = match inputs.choice("target")? {
            Some("iot-hub") => Target::IotHub(HubPlan::new(inputs)?),
            Some("kubernetes") => Target::Kubernetes(ClusterPlan::new(inputs)?),
            _ => Target::Local(LocalPlan {
                images: inputs.required_path("images")?,
                frames: inputs.required_path("frames")?,
                hold: inputs.integer("hold")?.unwrap_or(3),
                wait: wait(inputs)?.unwrap_or(Duration::from_mins(1)),
            }),
        };
        Ok(Plan { manifest: inputs.required_path("manifest")?, out: inputs.required_path("out")?, target })
    }

    fn preview(&self, plan: &Plan, context: &Context<'_>) -> Result<String, Fault> {
        match &plan.target {
            Target::Local(_) => Ok(plan.to_string()),
            Target::IotHub(hub) => hub.preview(&plan.manifest, context),
            Target::Kubernetes(cluster) => cluster.preview(&plan.manifest, context),
        }
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        match &plan.target {
            Target::Local(local) => local.run(plan, context),
            Target::IotHub(hub) => hub.run(&plan.manifest, &plan.out, context),
            Target::Kubernetes(cluster) => cluster.run(&plan.manifest, &plan.out, context),
        }
    }
}

impl LocalPlan {
    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let modules: ModuleSet = artifact::load(&self.images)?;
        let device = LocalDevice {
            manifest: &plan.manifest,
            images: &self.images,
            modules: &modules,
            frames: &self.frames,
            hold: self.hold,
            wait: self.wait,
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

/// The option `deployment`.
fn deployment(inputs: &Inputs) -> Result<&str, InputError> {
    let name = inputs.required("deployment")?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.len() > 64 || !name.bytes().all(plain) || name.starts_with('-') || name.ends_with('-') {
        let allowed = "up to 64 lower-case letters, digits and `-`,";
        return Err(inputs.refused("deployment", name, allowed));
    }
    Ok(name)
}

/// The option `wait`: a number of seconds, or one with `s`, `m` or `h`.
fn wait(inputs: &Inputs) -> Result<Option<Duration>, InputError> {
    let Some(text) = inputs.text("wait")? else { return Ok(None) };
    let parsed = duration(text).filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT);
    parsed
        .map(Some)
        .ok_or_else(|| inputs.refused("wait", text, "a time from `1s` to `24h`, such as `90s` or `10m`,"))
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_or_is_in_seconds() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "m", "1.5m", "10 m", "-1", "10d", "99999999999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    fn plan(options: &[(&str, &str)]) -> Result<Plan, Fault> {
        let given = [("manifest", "m.json"), ("out", "out")].iter().chain(options);
        let given = given.map(|(name, value)| (*name, (*value).to_owned()));
        DeployModules::plan(&Inputs::from_pairs(DeployModules::OPTIONS, given))
    }

    #[test]
    fn each_target_asks_for_what_it_needs() {
        let local = plan(&[("images", "i"), ("frames", "f")]).unwrap().to_string();
        assert!(local.starts_with("deploy m.json to this machine\n") && local.contains("60 s"), "{local}");
        let hub = plan(&[("target", "iot-hub"), ("device", "pi-1"), ("merge", "true")]).unwrap().to_string();
        assert!(hub.contains("to the device `pi-1`") && hub.contains("beside"), "{hub}");
        for (options, says) in [
            (&[("images", "i")][..], "`--frames`"),
            (&[("target", "iot-hub")], "`--device`"),
            (&[("target", "iot-hub"), ("device", "a"), ("targetCondition", "*")], "--target-condition"),
            (
                &[("target", "iot-hub"), ("device", "a"), ("merge", "true"), ("replace", "true")],
                "`--replace`",
            ),
            (&[("target", "iot-hub"), ("device", "a"), ("wait", "soon")], "`--wait`"),
            (&[("target", "iot-hub"), ("targetCondition", "*"), ("deployment", "My one")], "`--deployment`"),
            (&[("target", "iot-hub"), ("device", "a"), ("hub", "no hub")], "no hub"),
            (&[("target", "moon")], "`iot-hub`"),
            (&[("target", "kubernetes"), ("canary", "hall")], "`--canary`"),
            (&[("target", "kubernetes"), ("deployment", "My one")], "`--deployment`"),
            (&[("target", "kubernetes"), ("kubeconfig", "k"), ("clusterConnection", "c")], "`--kubeconfig`"),
        ] {
            let fault = plan(options).unwrap_err();
            assert!(fault.chain().contains(says), "{options:?}: {fault}");
            assert_eq!(fault.kind(), mynah_contracts::FaultKind::BadInput);
        }
    }
}
