//! Builders of others, for Dockerfiles that start programs inside the image.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mynah_contracts::{Fault, Monitor, Platform};

use super::ModuleError;
use super::options::BuildOptions;
use crate::child::{self, RunError};
use crate::oci::base::BaseImage;

/// The longest a build may take. Emulated builds take most of an hour.
const LIMIT: Duration = Duration::from_hours(4);

/// The most characters of a builder's output in an error.
const SHOWN: usize = 2000;

/// The tag under which an image is handed over.
const TAG: &str = "built";

/// A builder that is installed on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Builder {
    /// buildah: no daemon; for another platform it needs the kernel to run that platform's programs.
    Buildah,
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
    pub const NAMES: &'static [&'static str] = &["buildah"];

    /// The builder of this name.
    pub fn named(name: &str) -> Option<Self> {
        (name == "buildah").then_some(Self::Buildah)
    }

    /// Builds for one platform and gives the image, whose layers are below the order's scratch folder.
    pub(super) fn build(self, order: &Order<'_>, monitor: &dyn Monitor) -> Result<BaseImage, Fault> {
        let Self::Buildah = self;
        let id = order.scratch.join("id");
        let layout = order.scratch.join("layout");
        let mut command = Command::new("buildah");
        command.args(["bud", "--layers", "--timestamp", "0", "--platform", order.platform.as_str()]);
        command.arg("--iidfile").arg(&id).arg("--file").arg(order.file);
        for (name, value) in &order.options.arguments {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        for (name, value) in &order.options.labels {
            command.arg("--label").arg(format!("{name}={value}"));
        }
        if let Some(target) = &order.options.target {
            command.arg("--target").arg(target);
        }
        command.arg(order.context);
        run(&mut command, monitor)?;
        let image = std::fs::read_to_string(&id).map_err(ModuleError::io("read", &id))?;
        let mut push = Command::new("buildah");
        push.args(["push", "--format", "oci", image.trim()]).arg(format!("oci:{}:{TAG}", layout.display()));
        run(&mut push, monitor)?;
        Ok(BaseImage::in_layout(&layout, Some(TAG), order.platform)?)
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
