//! Carrying out a Dockerfile for one platform: which stages, on which bases, with which variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use mynah_contracts::{Fault, Monitor, Platform};

use crate::oci::OciError;
use crate::oci::base::{BaseImage, BaseImages, BaseLayer};
use crate::oci::image::Created;
use crate::oci::layer::{Layer, Owner};
use crate::oci::spec::{Empty, ImageConfig, PlatformFields};
use crate::oci::tree::Tree;

use super::context::Context;
use super::copy;
use super::error::{DockerfileError, FaultSource, Problem};
use super::instruction::{CopySource, Dockerfile, Instruction, Stage};
use super::settings;
use super::words;

/// What to build, and with what.
pub struct Request<'a> {
    /// The Dockerfile's place, for messages and its `.dockerignore`.
    pub file: &'a Path,
    /// What it says.
    pub dockerfile: &'a Dockerfile,
    /// The build context's folder.
    pub context: &'a Path,
    /// For which platform.
    pub platform: Platform,
    /// Values of `ARG`s.
    pub arguments: &'a BTreeMap<String, String>,
    /// The last stage to build; without it the file's last one.
    pub target: Option<&'a str>,
    /// Finds base images in registries.
    pub bases: &'a dyn BaseImages,
    /// The time that files carry.
    pub created: Option<&'a Created>,
    /// Can ask to stop.
    pub monitor: &'a dyn Monitor,
}

/// A built image, not yet written.
pub struct Built {
    /// Its settings; layers are filled in when it is written.
    pub config: ImageConfig,
    /// The base's layers.
    pub base: Vec<BaseLayer>,
    /// The layers above them, each with what made it.
    pub layers: Vec<(String, Layer)>,
    /// Arguments that were given and never asked for.
    pub unused: Vec<String>,
    /// Where the layers' files are until they are written.
    _scratch: tempfile::TempDir,
}

/// Builds an image.
///
/// # Errors
/// At the first instruction that cannot be carried out, with its line.
pub fn build(request: &Request<'_>) -> Result<Built, DockerfileError> {
    Builder::new(request)?.run()
}

/// A stage being built, or built.
struct State {
    config: ImageConfig,
    base: Vec<BaseLayer>,
    layers: Vec<(String, Layer)>,
    tree: Tree,
    /// `ARG`s in scope, by name.
    arguments: BTreeMap<String, String>,
    /// Whether this Dockerfile, not the base, set `CMD`.
    own_cmd: bool,
}

struct Builder<'a> {
    request: &'a Request<'a>,
    context: Option<Context>,
    scratch: tempfile::TempDir,
    global: BTreeMap<String, Option<String>>,
    used: BTreeSet<String>,
    stages: Vec<Option<State>>,
    images: BTreeMap<String, Arc<Tree>>,
}

impl<'a> Builder<'a> {
    fn new(request: &'a Request<'a>) -> Result<Self, DockerfileError> {
        let first = DockerfileError::at(request.file, 1);
        let scratch = tempfile::tempdir()
            .map_err(|source| first(Problem::Io { path: std::env::temp_dir(), source }))?;
        let mut builder = Self {
            request,
            context: None,
            scratch,
            global: BTreeMap::new(),
            used: BTreeSet::new(),
            stages: Vec::new(),
            images: BTreeMap::new(),
        };
        for (line, (name, default)) in &request.dockerfile.arguments {
            let value = match (request.arguments.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(
                    words::expand(default, request.dockerfile.escape, &|name| builder.global_value(name))
                        .map_err(DockerfileError::at(request.file, *line))?,
                ),
                (None, None) => None,
            };
            builder.used.insert(name.clone());
            builder.global.insert(name.clone(), value);
        }
        Ok(builder)
    }

    fn run(mut self) -> Result<Built, DockerfileError> {
        let stages = &self.request.dockerfile.stages;
        let target = self.target()?;
        let needed = self.needed(target)?;
        for (index, stage) in stages.iter().enumerate().take(target + 1) {
            let built = if needed.contains(&index) { Some(self.stage(index, stage)?) } else { None };
            self.stages.push(built);
        }
        let Some(Some(state)) = self.stages.pop() else {
            let problem = Problem::Text("the stage was not built".into());
            return Err(DockerfileError::at(self.request.file, 1)(problem));
        };
        let platform = self.request.platform;
        if state.config.platform.known() != Some(platform) {
            let line = stages.get(target).map_or(1, |stage| stage.line);
            let found = &state.config.platform;
            let problem =
                format!("the base image is for {}/{}, not for {platform}", found.os, found.architecture);
            return Err(DockerfileError::at(self.request.file, line)(Problem::Text(problem)));
        }
        let unused =
            self.request.arguments.keys().filter(|name| !self.used.contains(*name)).cloned().collect();
        let State { config, base, layers, .. } = state;
        Ok(Built { config, base, layers, unused, _scratch: self.scratch })
    }

    /// The stage to end with.
    fn target(&self) -> Result<usize, DockerfileError> {
        let stages = &self.request.dockerfile.stages;
        let Some(target) = self.request.target else { return Ok(stages.len() - 1) };
        self.earlier(target, stages.len()).ok_or_else(|| {
            let names: Vec<_> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let problem =
                format!("there is no stage `{}`, only: {}", target.escape_debug(), names.join(", "));
            DockerfileError::at(self.request.file, 1)(Problem::Text(problem))
        })
    }

    /// The stage of this name or number among the first `before`.
    fn earlier(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_ascii_lowercase();
        let stages = self.request.dockerfile.stages.get(..before).unwrap_or_default();
        stages
            .iter()
            .rposition(|stage| stage.name.as_deref() == Some(&lower))
            .or_else(|| name.parse().ok().filter(|number| *number < before))
    }

    /// The stages that the target needs. A stage can only need earlier ones, so that no circle is possible;
    /// one that names itself or a later one is told.
    fn needed(&self, target: usize) -> Result<BTreeSet<usize>, DockerfileError> {
        let stages = &self.request.dockerfile.stages;
        let mut needed = BTreeSet::from([target]);
        for index in (0..=target).rev() {
            let Some(stage) = stages.get(index).filter(|_| needed.contains(&index)) else { continue };
            let copies = stage.instructions.iter().filter_map(|(line, instruction)| match instruction {
                Instruction::Copy(copy) => Some((*line, copy.from.as_deref()?)),
                _ => None,
            });
            for (line, name) in std::iter::once((stage.line, stage.base.as_str())).chain(copies) {
                if let Some(earlier) = self.earlier(name, index) {
                    needed.insert(earlier);
                } else if let Some(later) = self.earlier(name, stages.len()) {
                    let what = if later == index { "itself" } else { "a stage that comes later" };
                    let problem = format!(
                        "the stage needs {what}, `{}`: stages would go in a circle",
                        name.escape_debug()
                    );
                    return Err(DockerfileError::at(self.request.file, line)(Problem::Text(problem)));
                }
            }
        }
        Ok(needed)
    }

    fn stage(&mut self, index: usize, stage: &Stage) -> Result<State, DockerfileError> {
        let file = self.request.file;
        let mut state = self.base(index, stage).map_err(DockerfileError::at(file, stage.line))?;
        for (line, instruction) in &stage.instructions {
            if self.request.monitor.cancelled() {
                return Err(DockerfileError::at(file, *line)(Problem::Image(OciError::Cancelled)));
            }
            self.instruction(index, &mut state, instruction).map_err(DockerfileError::at(file, *line))?;
        }
        Ok(state)
    }

    fn base(&mut self, index: usize, stage: &Stage) -> Result<State, Problem> {
        let escape = self.request.dockerfile.escape;
        let name = words::expand(&stage.base, escape, &|name| self.global_value(name))?;
        if name.is_empty() {
            return Err(Problem::Text(format!("`FROM {}` names no image: a variable is empty", stage.base)));
        }
        if let Some(earlier) = self.earlier(&name, index)
            && let Some(Some(built)) = self.stages.get(earlier)
        {
            return Ok(State {
                config: built.config.clone(),
                base: built.base.clone(),
                layers: built.layers.clone(),
                tree: built.tree.clone(),
                arguments: BTreeMap::new(),
                own_cmd: false,
            });
        }
        let platform = match &stage.platform {
            None => self.request.platform,
            Some(written) => {
                let text = words::expand(written, escape, &|name| self.global_value(name))?;
                text.parse().map_err(|error| Problem::Text(format!("`--platform`: {error}")))?
            }
        };
        let image = self.image(&name, platform)?;
        if !image.config.config.on_build.is_empty() {
            let problem =
                format!("the base image `{name}` with `ONBUILD` instructions for what is built on it");
            return Err(Problem::Unsupported(problem));
        }
        let tree = tree_of(&image).map_err(Problem::Image)?;
        Ok(State {
            config: image.config,
            base: image.layers,
            layers: Vec::new(),
            tree,
            arguments: BTreeMap::new(),
            own_cmd: false,
        })
    }

    /// An image from outside: `scratch`, a layout's folder as `oci:FOLDER[:TAG]`, or a registry's.
    fn image(&self, name: &str, platform: Platform) -> Result<BaseImage, Problem> {
        let failed =
            |fault: Fault| Problem::Base { reference: name.to_owned(), source: FaultSource { fault } };
        if name == "scratch" {
            return Ok(BaseImage::scratch(platform));
        }
        if let Some(folder) = name.strip_prefix("oci:") {
            return crate::oci::base::layout_image(self.request.context, folder, platform)
                .map_err(|error| failed(error.into()));
        }
        let reference = name.parse().map_err(|error| Problem::Text(format!("{error}")))?;
        self.request.bases.resolve(&reference, platform).map_err(failed)
    }

    fn instruction(
        &mut self,
        index: usize,
        state: &mut State,
        instruction: &Instruction,
    ) -> Result<(), Problem> {
        let escape = self.request.dockerfile.escape;
        let expanded = |state: &State, text: &str| words::expand(text, escape, &|name| variable(state, name));
        match instruction {
            Instruction::Run => return Err(Problem::Run),
            Instruction::Copy(own) => self.copy(index, state, own)?,
            Instruction::Env(pairs) => {
                // All values of one instruction see the variables as they were before it.
                let values: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| Ok((expanded(state, name)?, expanded(state, value)?)))
                    .collect::<Result<_, Problem>>()?;
                for (name, value) in values {
                    settings::set_env(&mut state.config.config, &name, &value);
                }
            }
            Instruction::Arg(arguments) => {
                for (name, default) in arguments {
                    let value = match (self.request.arguments.get(name), default) {
                        (Some(given), _) => Some(given.clone()),
                        (None, Some(default)) => Some(expanded(state, default)?),
                        (None, None) => self.global_value(name),
                    };
                    self.used.insert(name.clone());
                    if let Some(value) = value {
                        state.arguments.insert(name.clone(), value);
                    }
                }
            }
            Instruction::Label(pairs) => {
                for (name, value) in pairs {
                    let (name, value) = (expanded(state, name)?, expanded(state, value)?);
                    state.config.config.labels.insert(name, value);
                }
            }
            Instruction::Expose(ports) => {
                for port in ports {
                    for port in expanded(state, port)?.split_whitespace() {
                        settings::expose(&mut state.config.config, port)?;
                    }
                }
            }
            Instruction::Workdir(path) => {
                let path =
                    copy::absolute(state.config.config.working_dir.as_deref(), &expanded(state, path)?);
                let user = state.config.config.user.as_deref().filter(|user| !user.is_empty());
                let owner = user.map(|user| copy::owner(&state.tree, user, "USER")).transpose()?;
                let mut change = copy::Change::new(&mut state.tree, self.request.created);
                // The folder belongs to whoever will work in it.
                change.owner = owner.unwrap_or(Owner::ROOT);
                change.folder_with_parents(&path)?;
                let layer = change.into_layer();
                if !layer.is_empty() {
                    state.layers.push((format!("WORKDIR {path}"), layer));
                }
                state.config.config.working_dir = Some(path);
            }
            Instruction::User(user) => {
                let user = expanded(state, user)?;
                if user.is_empty() {
                    return Err(Problem::Text("`USER` is empty once its variables are expanded".into()));
                }
                state.config.config.user = Some(user);
            }
            Instruction::Volume(places) => {
                for place in places {
                    let place = expanded(state, place)?;
                    if place.is_empty() {
                        return Err(Problem::Text("`VOLUME` names an empty path".into()));
                    }
                    state.config.config.volumes.insert(place, Empty {});
                }
            }
            Instruction::Entrypoint(command) => {
                state.config.config.entrypoint = settings::words(&state.config.config, command);
                // Arguments of the base's program are not this one's.
                if !state.own_cmd {
                    state.config.config.cmd.clear();
                }
            }
            Instruction::Cmd(command) => {
                state.config.config.cmd = settings::words(&state.config.config, command);
                state.own_cmd = true;
            }
            Instruction::StopSignal(signal) => {
                state.config.config.stop_signal = Some(expanded(state, signal)?);
            }
            Instruction::HealthCheck(flags, command) => {
                let check = settings::health_check(&state.config.config, flags, command.as_ref())?;
                state.config.config.healthcheck = Some(check);
            }
            Instruction::Shell(shell) => state.config.config.shell.clone_from(shell),
            Instruction::Maintainer(name) => state.config.author = Some(name.clone()),
        }
        Ok(())
    }

    fn copy(
        &mut self,
        index: usize,
        state: &mut State,
        own: &super::instruction::Copy,
    ) -> Result<(), Problem> {
        let escape = self.request.dockerfile.escape;
        let value = |text: &str| words::expand(text, escape, &|name| variable(state, name));
        let mut sources = Vec::new();
        for source in &own.sources {
            sources.push(match source {
                CopySource::Path(path) => CopySource::Path(value(path)?),
                CopySource::Text(text) if text.expand => {
                    let content =
                        words::expand_document(&text.content, escape, &|name| variable(state, name))?;
                    CopySource::Text(super::instruction::Heredoc { content, ..text.clone() })
                }
                CopySource::Text(text) => CopySource::Text(text.clone()),
            });
        }
        let chown = own.chown.as_deref().map(value).transpose()?;
        let chmod = own.chmod.as_deref().map(value).transpose()?;
        let destination = value(&own.destination)?;
        let from: Option<(String, Arc<Tree>)> = match &own.from {
            None => None,
            Some(name) => Some((name.clone(), self.source_tree(index, name)?)),
        };
        if from.is_none() && self.context.is_none() {
            self.context = Some(Context::open(self.request.context, self.request.file)?);
        }
        let order = copy::Order {
            add: own.add,
            sources: &sources,
            from: from.as_ref().map(|(name, tree)| (name.as_str(), tree.as_ref())),
            context: self.context.as_ref(),
            destination: &destination,
            working_dir: state.config.config.working_dir.as_deref(),
            chown: chown.as_deref(),
            chmod: chmod.as_deref(),
            scratch: self.scratch.path(),
            created: self.request.created,
        };
        let layer = order.carry_out(&mut state.tree)?;
        let names: Vec<_> = sources
            .iter()
            .map(|source| match source {
                CopySource::Path(path) => path.as_str(),
                CopySource::Text(text) => text.name.as_str(),
            })
            .collect();
        let keyword = if own.add { "ADD" } else { "COPY" };
        state.layers.push((format!("{keyword} {} {destination}", names.join(" ")), layer));
        Ok(())
    }

    /// The files of another stage, or of an image that is no stage.
    fn source_tree(&mut self, index: usize, name: &str) -> Result<Arc<Tree>, Problem> {
        if let Some(tree) = self.images.get(name) {
            return Ok(Arc::clone(tree));
        }
        let stage = self.earlier(name, index).and_then(|earlier| self.stages.get(earlier)?.as_ref());
        let tree = if let Some(stage) = stage {
            stage.tree.clone()
        } else {
            let image = self.image(name, self.request.platform)?;
            tree_of(&image).map_err(Problem::Image)?
        };
        let tree = Arc::new(tree);
        self.images.insert(name.to_owned(), Arc::clone(&tree));
        Ok(tree)
    }

    /// A variable before the first stage: an `ARG` there, or what every build knows.
    fn global_value(&self, name: &str) -> Option<String> {
        if let Some(value) = self.global.get(name) {
            return value.clone();
        }
        let host = Platform::host().unwrap_or(self.request.platform);
        let (platform, rest) = match name.strip_prefix("TARGET") {
            Some(rest) => (self.request.platform, rest),
            None => (host, name.strip_prefix("BUILD")?),
        };
        let fields = PlatformFields::from(platform);
        match rest {
            "PLATFORM" => Some(platform.to_string()),
            "OS" => Some(fields.os),
            "ARCH" => Some(fields.architecture),
            "VARIANT" => Some(fields.variant.unwrap_or_default()),
            _ => None,
        }
    }
}

/// A variable inside a stage: the environment wins over arguments.
fn variable(state: &State, name: &str) -> Option<String> {
    settings::env(&state.config.config, name).or_else(|| state.arguments.get(name).cloned())
}

fn tree_of(image: &BaseImage) -> Result<Tree, OciError> {
    let mut tree = Tree::default();
    for layer in &image.layers {
        tree.lay(&Arc::new(layer.clone()))?;
    }
    Ok(tree)
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
