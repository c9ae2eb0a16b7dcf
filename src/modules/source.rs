//! A module's folder → one image per platform in a layout.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Fault, Module, Monitor, Platform, RelativePath, Tool};

use super::options::BuildOptions;
use super::{Builder, ModuleError, ModuleJson};
use crate::dockerfile::DockerfileError;
use crate::dockerfile::build::{self, Request};
use crate::dockerfile::instruction::{Dockerfile, Instruction};
use crate::dockerfile::parse;
use crate::oci::base::BaseImages;
use crate::oci::image::{Created, ImageParts, write_index};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::reference::ImageReference;
use crate::oci::spec::annotation;

/// The file that says a folder is a module.
const FILE: &str = "module.json";

/// What the name of a platform ends with whose image is for debugging, and the name of the module made of those.
const DEBUG: &str = ".debug";

/// A module's source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleSource {
    /// Its folder's name: `${MODULES.<name>}`.
    pub name: String,
    folder: PathBuf,
    repository: String,
    version: String,
    /// Dockerfiles by platform.
    dockerfiles: BTreeMap<Platform, PathBuf>,
    /// Those of the images for debugging: `amd64.debug`.
    for_debugging: BTreeMap<Platform, PathBuf>,
    context: PathBuf,
    options: BuildOptions,
}

/// What building a module is given.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// For which platforms.
    pub platforms: &'a [Platform],
    /// Finds base images in registries.
    pub bases: &'a dyn BaseImages,
    /// A builder for Dockerfiles with `RUN`.
    pub builder: Option<Builder>,
    /// Compressed layers of earlier runs.
    pub cache: &'a LayerCache,
    /// The time images carry.
    pub created: Option<&'a Created>,
    /// Shows progress, and says when to stop.
    pub monitor: &'a dyn Monitor,
}

/// The modules in the folders of `folder`, by name.
///
/// # Errors
/// When there is none, or one's `module.json` cannot be used.
pub fn find(
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<ModuleSource>, ModuleError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(ModuleError::io("read", folder))? {
        let place = entry.map_err(ModuleError::io("read", folder))?.path();
        let file = place.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => found.push(ModuleSource::new(&place, &file, &bytes, variable)?),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(ModuleError::io("read", &file)(error)),
        }
    }
    if found.is_empty() {
        return Err(ModuleError::NoModules(folder.to_owned()));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl ModuleSource {
    fn new(
        folder: &Path,
        file: &Path,
        bytes: &[u8],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ModuleError> {
        let content = |problem: String| ModuleError::Content { path: file.to_owned(), problem };
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(ModuleError::Name(folder.to_owned()));
        }
        let ModuleJson { image, .. } = ModuleJson::parse(bytes, file, variable)?;
        let reference: ImageReference =
            image.repository.parse().map_err(|error| content(format!("`image.repository`: {error}")))?;
        if image.repository.contains('@') || reference.tag() != Some("latest") {
            return Err(content(format!(
                "`image.repository` is `{}`: the tag is not its business",
                image.repository
            )));
        }
        // Names such as `windows-amd64` are for other tools.
        let mut dockerfiles = BTreeMap::new();
        let mut for_debugging = BTreeMap::new();
        for (platform, path) in &image.tag.platforms {
            let (files, platform) = match platform.strip_suffix(DEBUG) {
                Some(platform) => (&mut for_debugging, platform),
                None => (&mut dockerfiles, platform.as_str()),
            };
            if let Ok(platform) = platform.parse() {
                files.insert(platform, folder.join(path));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            repository: format!("{}/{}", reference.registry(), reference.repository()),
            version: image.tag.version,
            dockerfiles,
            for_debugging,
            context: folder.join(&image.context_path),
            options: BuildOptions::parse(&image.build_options).map_err(content)?,
        })
    }

    /// The module of the images for debugging, which manifests name `${MODULES.<name>.debug}`, with those of
    /// `platforms` that `module.json` has one for; nothing where there is none.
    pub fn for_debugging(&self, platforms: &[Platform]) -> Option<(Self, Vec<Platform>)> {
        let there = |platform: &Platform| self.for_debugging.contains_key(platform);
        let platforms: Vec<Platform> = platforms.iter().copied().filter(there).collect();
        let source = Self {
            name: format!("{}{DEBUG}", self.name),
            dockerfiles: self.for_debugging.clone(),
            for_debugging: BTreeMap::new(),
            ..self.clone()
        };
        (!platforms.is_empty()).then_some((source, platforms))
    }

    /// Builds the module's image below `out`. Says whether anything changed there.
    ///
    /// # Errors
    /// When a platform has no Dockerfile, one cannot be carried out, or the disk refuses. What an earlier run
    /// built stays whole.
    pub fn build(&self, out: &Path, around: &Surroundings<'_>) -> Result<(Module, bool), Fault> {
        for ignored in &self.options.ignored {
            tracing::info!("`{}`: the build option `{ignored}` changes nothing here", self.name);
        }
        // Before any work: the folder may be someone else's.
        let mut layout = LayoutWriter::open(&out.join(&self.name))?;
        let annotations = self.annotations(around.created);
        let mut manifests = Vec::new();
        let mut images = Vec::new();
        for (index, &platform) in around.platforms.iter().enumerate() {
            around.monitor.progress(
                &format!("building {}", self.name),
                index as u64,
                around.platforms.len() as u64,
            );
            let (descriptor, image) = self.platform(platform, &mut layout, &annotations, around)?;
            manifests.push(descriptor);
            images.push(image);
        }
        let index = write_index(&mut layout, manifests, annotations)?;
        let tag = format!("{}-{}", self.version, index.digest.hex().get(..12).unwrap_or_default());
        let layout_path = RelativePath::new(&self.name)
            .map_err(|problem| ModuleError::Content { path: self.folder.join(FILE), problem })?;
        let changed = layout.finish(index.clone(), &tag)?;
        let module = Module {
            name: self.name.clone(),
            repository: self.repository.clone(),
            tag,
            layout: layout_path,
            index: (&index).into(),
            platforms: images,
            model: None,
        };
        Ok((module, changed))
    }

    fn platform(
        &self,
        platform: Platform,
        layout: &mut LayoutWriter,
        annotations: &BTreeMap<String, String>,
        around: &Surroundings<'_>,
    ) -> Result<(crate::oci::spec::Descriptor, mynah_contracts::PlatformImage), Fault> {
        let file = self.dockerfiles.get(&platform).ok_or_else(|| {
            let available: Vec<_> = self.dockerfiles.keys().map(|platform| platform.as_str()).collect();
            let available = if available.is_empty() { "none of ours".into() } else { available.join(", ") };
            ModuleError::NoPlatform { path: self.folder.join(FILE), platform, available }
        })?;
        let text = fs::read_to_string(file).map_err(ModuleError::io("read", file))?;
        let dockerfile =
            parse::parse(&text).map_err(|(line, problem)| DockerfileError::at(file, line)(problem))?;
        if let (Some(builder), Some(_)) = (around.builder, first_run(&dockerfile)) {
            let scratch = tempfile::tempdir().map_err(ModuleError::io("write", &std::env::temp_dir()))?;
            let order = super::builder::Order {
                file,
                context: &self.context,
                platform,
                options: &self.options,
                scratch: scratch.path(),
            };
            let base = builder.build(&order, around.monitor)?;
            let parts = ImageParts {
                platform,
                base: &base.layers,
                layers: Vec::new(),
                config: base.config.clone(),
                annotations: annotations.clone(),
                created: around.created,
            };
            return Ok(parts.write(layout, around.cache)?);
        }
        let request = Request {
            file,
            dockerfile: &dockerfile,
            context: &self.context,
            platform,
            arguments: &self.options.arguments,
            target: self.options.target.as_deref(),
            bases: around.bases,
            created: around.created,
            monitor: around.monitor,
        };
        let built = build::build(&request)?;
        for name in &built.unused {
            tracing::warn!("`{}`: the build argument `{name}` is not asked for by any ARG", self.name);
        }
        let mut config = built.config;
        config.config.labels.extend(self.options.labels.clone());
        let parts = ImageParts {
            platform,
            base: &built.base,
            layers: built.layers,
            config,
            annotations: annotations.clone(),
            created: around.created,
        };
        Ok(parts.write(layout, around.cache)?)
    }

    fn annotations(&self, created: Option<&Created>) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::from([
            (annotation::TITLE.to_owned(), self.name.clone()),
            (annotation::VERSION.to_owned(), self.version.clone()),
            ("dev.mynah.tool.version".to_owned(), Tool::current().version),
        ]);
        if let Some(created) = created {
            texts.insert(annotation::CREATED.to_owned(), created.text.clone());
        }
        texts
    }
}

/// The line of the first `RUN`.
fn first_run(dockerfile: &Dockerfile) -> Option<usize> {
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    instructions.filter(|(_, instruction)| *instruction == Instruction::Run).map(|(line, _)| *line).next()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
