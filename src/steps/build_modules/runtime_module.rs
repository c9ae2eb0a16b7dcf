//! The module this project ships: the device's runtime with its words and its model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, Fault, FaultKind, ModelCard, Module, Platform, RelativePath, Tool};

use super::{Plan, RUNTIME_MODULE, SPEECH, clips};
use crate::artifact;
use crate::install;
use crate::oci::base::{BaseImage, BaseImages, layout_image};
use crate::oci::image::{Created, write_index};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::reference::ImageReferenceError;
use crate::oci::runtime_image::Contents;
use crate::oci::{OciError, elf};
use crate::step::Context;

/// The device's runtime is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error("the program `{RUNTIME_MODULE}` for {0} was not found")]
struct NoRuntime(Platform);

impl Diagnosis for NoRuntime {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "name it with --runtime, or a folder of programs by platform, or build it with `cargo build --release -p {RUNTIME_MODULE}`"
        ))
    }
}

/// Builds the device's own module. Says whether anything changed on disk.
pub(super) fn build(
    plan: &Plan,
    model_folder: &Path,
    cache: &LayerCache,
    bases: &dyn BaseImages,
    created: Option<&Created>,
    context: &Context<'_>,
) -> Result<(Module, bool), Fault> {
    let model: ModelCard = artifact::load(model_folder)?;
    let mut programs = Vec::new();
    for &platform in &plan.platforms {
        let program = program(plan.runtime.as_deref(), platform).ok_or(NoRuntime(platform))?;
        elf::check_platform(&program, platform)?;
        programs.push((platform, program));
    }
    // Before anything is written: the folder may be someone else's.
    let mut layout = LayoutWriter::open(&plan.out.join(RUNTIME_MODULE))?;
    let (speech, clips_changed) = clips::make(plan, &model.labels, context)?;
    let clips = plan.out.join(SPEECH);
    let mut manifests = Vec::new();
    let mut platforms = Vec::new();
    let mut annotations = BTreeMap::new();
    for (platform, program) in &programs {
        let base = plan.base.as_deref().map(|base| base_image(base, *platform, bases)).transpose()?;
        let contents = Contents {
            platform: *platform,
            base: base.as_ref(),
            program,
            model: &model,
            model_folder,
            speech: speech.as_ref().map(|speech| (speech, clips.as_path())),
            created: created.cloned(),
        };
        let (descriptor, image) = contents.write(&mut layout, cache, RUNTIME_MODULE, context.monitor)?;
        manifests.push(descriptor);
        platforms.push(image);
        annotations = contents.annotations(RUNTIME_MODULE);
    }
    let index = write_index(&mut layout, manifests, annotations)?;
    let version = Tool::current().version;
    let tag = format!("{version}-{}", index.digest.hex().get(..12).unwrap_or_default());
    let changed = layout.finish(index.clone(), &tag)?;
    let module = Module {
        name: RUNTIME_MODULE.into(),
        repository: plan.repository.to_string(),
        tag,
        layout: RelativePath::new(RUNTIME_MODULE)
            .map_err(|problem| OciError::Unsupported { what: RUNTIME_MODULE.into(), problem })?,
        index: (&index).into(),
        platforms,
        model: Some(model.digest()),
    };
    Ok((module, changed || clips_changed))
}

/// The image that the runtime is put on.
fn base_image(text: &str, platform: Platform, bases: &dyn BaseImages) -> Result<BaseImage, Fault> {
    if let Some(layout) = text.strip_prefix("oci:") {
        return Ok(layout_image(Path::new(""), layout, platform)?);
    }
    let reference = text.parse().map_err(|error: ImageReferenceError| OciError::Unsupported {
        what: "--base".into(),
        problem: format!("is no image: {error}"),
    })?;
    bases.resolve(&reference, platform)
}

/// The runtime for a platform: the file named, or the one in the platform's folder; else what is installed.
fn program(named: Option<&Path>, platform: Platform) -> Option<PathBuf> {
    let in_folder = format!("{}/{RUNTIME_MODULE}", platform.as_str().replace('/', "-"));
    match named {
        Some(folder) if folder.is_dir() => Some(folder.join(in_folder)).filter(|path| path.is_file()),
        Some(file) => Some(file.to_owned()),
        None => install::find(&format!("runtime/{in_folder}"))
            .ok()
            .or_else(|| find_runtime().filter(|_| Platform::host() == Some(platform))),
    }
}

/// The runtime beside this program, or on the search path.
fn find_runtime() -> Option<PathBuf> {
    let installed = install::find(RUNTIME_MODULE).ok().filter(|path| path.is_file());
    installed.or_else(|| {
        let search = std::env::var_os("PATH")?;
        std::env::split_paths(&search).map(|folder| folder.join(RUNTIME_MODULE)).find(|path| path.is_file())
    })
}
