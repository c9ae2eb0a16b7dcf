//! Builders of others, for Dockerfiles that start programs inside the image.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mynah_contracts::{Fault, Monitor, Platform};

use super::ModuleError;
use super::options::BuildOptions;
use crate::child::{self, RunError};
use crate::oci::base::BaseImage;
use crate::oci::docker_archive;

/// The longest a build may take. Emulated builds take most of an hour.
const LIMIT: Duration = Duration::from_hours(4);

/// The most characters of a builder's output in an error.
const SHOWN: usize = 2000;

/// The tag under which an image is handed over.
const TAG: &str = "built";

/// A builder that is installed on this machine. For another platform than the machine's, each needs the kernel to run
/// that platform's programs (binfmt_misc).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Builder {
    /// buildah: no daemon.
    Buildah,
    /// Docker: its daemon builds, and hands the image over as `docker save` writes it.
    Docker,
}

/// What to build.
pub(super) struct Order<'a> {
    pub(super) file: &'a Path,
    pub(super) context: &'a Path,
    pub(super) platform: Platform,
    pub(super) options: &'a BuildOptions,
    pub(super) scratch: &'a Path,
}

impl Builder {
    /// The names to choose from.
    pub const NAMES: &'static [&'static str] = &["buildah", "docker"];

    /// The builder of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "buildah" => Some(Self::Buildah),
            "docker" => Some(Self::Docker),
            _ => None,
        }
    }

    /// Builds for one platform and gives the image, whose layers are below the order's scratch folder.
    pub(super) fn build(self, order: &Order<'_>, monitor: &dyn Monitor) -> Result<BaseImage, Fault> {
        match self {
            Self::Buildah => buildah(order, monitor),
            Self::Docker => docker(order, monitor),
        }
    }
}

fn buildah(order: &Order<'_>, monitor: &dyn Monitor) -> Result<BaseImage, Fault> {
    let mut command = Command::new("buildah");
    command.args(["bud", "--layers", "--timestamp", "0"]);
    let image = order.carry_out(command, monitor)?;
    let layout = order.scratch.join("layout");
    let mut push = Command::new("buildah");
    push.args(["push", "--format", "oci", &image]).arg(format!("oci:{}:{TAG}", layout.display()));
    run(&mut push, monitor)?;
    Ok(BaseImage::in_layout(&layout, Some(TAG), order.platform)?)
}

fn docker(order: &Order<'_>, monitor: &dyn Monitor) -> Result<BaseImage, Fault> {
    let mut command = Command::new("docker");
    // A statement about the build would make an index of the image, which then names two.
    command.arg("build").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
    let image = order.carry_out(command, monitor)?;
    let archive = order.scratch.join("saved.tar");
    let mut save = Command::new("docker");
    save.arg("save").arg("--output").arg(&archive).arg(&image);
    run(&mut save, monitor)?;
    Ok(docker_archive::image(&archive, &order.scratch.join("saved"), order.platform)?)
}

impl Order<'_> {
    /// Adds to `command` what buildah and Docker spell alike, runs it, and gives the image's id.
    fn carry_out(&self, mut command: Command, monitor: &dyn Monitor) -> Result<String, ModuleError> {
        let id = self.scratch.join("id");
        command.args(["--platform", self.platform.as_str()]);
        command.arg("--iidfile").arg(&id).arg("--file").arg(self.file);
        for (name, value) in &self.options.arguments {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.options.labels {
            command.arg("--label").arg(format!("{name}={value}"));
        }
        if let Some(target) = &self.options.target {
            command.arg("--target").arg(target);
        }
        command.arg(self.context);
        run(&mut command, monitor)?;
        let image = std::fs::read_to_string(&id).map_err(ModuleError::io("read", &id))?;
        Ok(image.trim().to_owned())
    }
}

fn run(command: &mut Command, monitor: &dyn Monitor) -> Result<(), ModuleError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let refuse = |problem: String| ModuleError::Builder { program: program.clone(), problem };
    let ended = child::run(command, b"", LIMIT, monitor).map_err(|error| match error {
        RunError::Cancelled => ModuleError::Cancelled,
        other => refuse(format!("cannot be used: {}", mynah_contracts::error_chain(&other))),
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let said = ended.stderr.trim();
    let start = said.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    Err(refuse(format!("failed: {}", said.get(start..).unwrap_or_default())))
}
