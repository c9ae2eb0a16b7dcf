//! `build-modules`: a model package → OCI image layouts and `modules.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Artifact as _, Diagnosis, Fault, FaultKind, Label, ModelCard, Module, ModuleSet, Platform, RelativePath,
    SchemaVersion, Speech, Tool, to_json,
};

use crate::agent::{Env, Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::azure::speech::{self as azure_speech, AzureSpeech, AzureSpeechError};
use crate::http::{Client, Policy, Url};
use crate::install;
use crate::modules::{self, Builder, Surroundings};
use crate::oci::base::{BaseImage, BaseImages, layout_image};
use crate::oci::image::{Created, write_index};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::reference::{ImageReferenceError, Repository};
use crate::oci::runtime_image::Contents;
use crate::oci::{OciError, elf};
use crate::publish::{self, Places, Publishing};
use crate::registry::{RegistryImages, SignIn};
use crate::secret::Secret;
use crate::speech::{self, Engine, Espeak, SpeechMap};
use crate::staging::{self, StagedFolder};
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The module this project ships; also the folder of its layout.
pub const RUNTIME_MODULE: &str = "mynah-runtime";

/// The folder of the clips, below the output.
const SPEECH: &str = "speech";

/// The step.
pub struct BuildModules;

/// What is to be built.
#[derive(Debug)]
pub struct Plan {
    model: Option<PathBuf>,
    out: PathBuf,
    cache: PathBuf,
    platforms: Vec<Platform>,
    runtime: Option<PathBuf>,
    base: Option<String>,
    modules: Option<PathBuf>,
    builder: Option<Builder>,
    clips: Option<PathBuf>,
    speech_map: Option<PathBuf>,
    azure_speech: Option<Url>,
    voice: Option<String>,
    repository: Repository,
    publishing: Publishing,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platforms: Vec<_> = self.platforms.iter().map(|platform| platform.as_str()).collect();
        writeln!(f, "for {}", platforms.join(", "))?;
        if let Some(modules) = &self.modules {
            writeln!(f, "build the modules in {}", modules.display())?;
        }
        let Some(model) = &self.model else {
            writeln!(f, "keep compressed layers in {}", self.cache.display())?;
            return write!(f, "write {}", self.out.join(ModuleSet::FILE).display());
        };
        writeln!(f, "build `{RUNTIME_MODULE}` from the model in {}", model.display())?;
        if let Some(base) = &self.base {
            writeln!(f, "on the base {base}")?;
        }
        match &self.runtime {
            Some(runtime) => writeln!(f, "with the runtime {}", runtime.display())?,
            None => writeln!(f, "with the runtime installed beside this program")?,
        }
        if let Some(clips) = &self.clips {
            writeln!(f, "take clips from {} where label and words match", clips.display())?;
        }
        if let Some(map) = &self.speech_map {
            writeln!(f, "say what {} says", map.display())?;
        }
        let voice =
            self.voice.as_ref().map(|voice| format!(", with the voice `{voice}`")).unwrap_or_default();
        match &self.azure_speech {
            Some(url) => writeln!(f, "speak other labels with Azure Speech at {url}{voice}")?,
            None => writeln!(f, "speak other labels with espeak-ng, where it is installed{voice}")?,
        }
        writeln!(f, "name the image {}", self.repository)?;
        writeln!(f, "keep compressed layers in {}", self.cache.display())?;
        write!(f, "{}", self.publishing)?;
        write!(f, "write {}", self.out.join(ModuleSet::FILE).display())
    }
}

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

impl Step for BuildModules {
    const NAME: &'static str = "build-modules";
    const TASK: &'static str = "BuildModules";
    const ABOUT: &'static str = "Builds the device's image from a model, without a daemon";
    const DETAILS: &'static str = "\
Reads model.json and the files it names, and writes one OCI image layout per module and modules.json.
The image holds the device's runtime, the spoken words and, as its last layer, the model: a retrained
model moves only its own bytes. Equal input gives equal bytes; a second run changes nothing.

Words are spoken by espeak-ng where it is installed, or with --azure-speech by Azure Speech, whose key is
taken from SPEECH_KEY; the device itself needs neither. --clips brings your own recordings: a folder with
speech.json and WAV files, 16-bit PCM, one channel. What was spoken once is not spoken again.

--push sends what a registry lacks, then the tag, and attaches the list of software and a statement of what
the image was built from; modules.json then names the image where it was pushed to.

Examples:
  build-modules --model work/model --out work/images
  build-modules --model work/model --out work/images --push registry.example/factory --sign-key key.pem";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::optional(
            "model",
            OptionKind::Path,
            "The folder that export-model wrote. Without it the device's own module is not built.",
        ),
        OptionSpec::optional(
            "modules",
            OptionKind::Path,
            "A folder of further modules: in each folder there a module.json and Dockerfiles.",
        ),
        OptionSpec::required("out", OptionKind::Path, "The folder to write modules.json and the layouts to."),
        OptionSpec::optional(
            "platform",
            OptionKind::Text,
            "The platforms to build for: linux/amd64, linux/arm64, linux/arm/v7, several with commas. Without \
             it: this machine's.",
        ),
        OptionSpec::optional(
            "runtime",
            OptionKind::Path,
            "The mynah-runtime program, or a folder with linux-amd64/mynah-runtime, linux-arm64/… and \
             linux-arm-v7/…. Without it: what is installed with this program.",
        ),
        OptionSpec::optional(
            "base",
            OptionKind::Text,
            "The image below the runtime: `oci:FOLDER[:TAG]`, or one in a registry. Without it: none.",
        ),
        OptionSpec::optional(
            "builder",
            OptionKind::Choice(Builder::NAMES),
            "The installed program that builds Dockerfiles with RUN.",
        ),
        OptionSpec::optional(
            "clips",
            OptionKind::Path,
            "A folder with speech.json and recordings, taken where label and words match.",
        ),
        OptionSpec::optional(
            "speechMap",
            OptionKind::Path,
            "A JSON file with what is said: voice, language, `default` (with `{label}`), a sentence per label.",
        ),
        OptionSpec::optional(
            "azureSpeech",
            OptionKind::Text,
            "Speak with Azure Speech of this region or address. Its key is taken from SPEECH_KEY.",
        ),
        OptionSpec::optional(
            "voice",
            OptionKind::Text,
            "The voice for all labels without a clip. Without it: the speech map's, or an English one.",
        ),
        OptionSpec::with_default(
            "repository",
            OptionKind::Text,
            "localhost/mynah/runtime",
            "The image's repository, with its registry.",
        ),
        OptionSpec::optional(
            "cache",
            OptionKind::Path,
            "Where compressed layers are kept from run to run. Without it: `cache` beside the output's folder.",
        ),
        publish::PUSH,
        publish::TAG,
        publish::ARCHIVE,
        publish::CONNECTION,
        publish::INSECURE,
        publish::SIGN_KEY,
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "images", about: "The folder with modules.json and the image layouts." },
        OutputSpec { name: "image", about: "The image, pinned: repository@digest." },
        OutputSpec { name: "imageDigest", about: "The digest of the image index." },
        OutputSpec { name: "imageTag", about: "The tag, derived from the content." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        let runtime = inputs.path("runtime")?;
        let platforms = platforms(inputs)?;
        let (model, modules) = (inputs.path("model")?, inputs.path("modules")?);
        if model.is_none() && modules.is_none() {
            // One of the two; the model is what the walk is about.
            inputs.required("model")?;
        }
        let voice = inputs.text("voice")?;
        if let Some(voice) = voice
            && (voice.starts_with('-') || !voice.chars().all(speech::is_of_voice))
        {
            let allowed = "the name of a voice such as `en`, `de+f3` or `en-US-JennyNeural`";
            return Err(inputs.refused("voice", voice, allowed).into());
        }
        let repository = inputs.required("repository")?;
        let out = inputs.required_path("out")?;
        let beside = out.parent().unwrap_or(Path::new("")).join("cache");
        Ok(Plan {
            model,
            modules,
            base: inputs.text("base")?.map(str::to_owned),
            builder: inputs.choice("builder")?.and_then(Builder::named),
            out,
            cache: inputs.path("cache")?.unwrap_or(beside),
            platforms,
            runtime,
            clips: inputs.path("clips")?,
            speech_map: inputs.path("speechMap")?,
            azure_speech: inputs.text("azureSpeech")?.map(azure_speech::place).transpose()?,
            voice: voice.map(str::to_owned),
            repository: repository.parse().map_err(|_| {
                inputs.refused(
                    "repository",
                    repository,
                    "a repository with its registry, such as `registry.example/mynah/runtime`,",
                )
            })?,
            publishing: Publishing::plan(inputs)?,
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let created = context.created.as_deref().and_then(moment);
        let cache = LayerCache::new(&plan.cache);
        let sign_in = SignIn::new(context.env.clone(), None, plan.publishing.is_insecure());
        let bases = RegistryImages::new(sign_in, plan.cache.join("bases"), context.monitor);
        let mut modules = Vec::new();
        let mut changed = false;
        if let Some(model) = &plan.model {
            let (module, new) = runtime_module(plan, model, &cache, &bases, created.as_ref(), context)?;
            modules.push(module);
            changed |= new;
        }
        if let Some(folder) = &plan.modules {
            let variable = |name: &str| context.env.get(name).map(str::to_owned);
            let around = Surroundings {
                platforms: &plan.platforms,
                bases: &bases,
                builder: plan.builder,
                cache: &cache,
                created: created.as_ref(),
                monitor: context.monitor,
            };
            for source in modules::find(folder, &variable)? {
                if source.name == RUNTIME_MODULE || source.name == SPEECH {
                    let problem = "is a name that build-modules uses itself: rename the folder".into();
                    return Err(OciError::Unsupported { what: source.name, problem }.into());
                }
                let (module, new) = source.build(&plan.out, &around)?;
                tracing::info!("`{}`: {}", module.name, module.pinned());
                modules.push(module);
                changed |= new;
            }
        }
        let names: Vec<_> = modules.iter().map(|module| format!("`{}`", module.name)).collect();
        let mut set = ModuleSet { schema_version: SchemaVersion::CURRENT, tool: Tool::current(), modules };
        let places = Places { out: &plan.out, cache: &plan.cache };
        let published = plan.publishing.run(&mut set, places, context)?;
        let first = set.modules.first().map(|first| (first.pinned(), first.index.digest, first.tag.clone()));
        let published = published.map(|published| format!("; {published}")).unwrap_or_default();
        changed |= write_if_different(&plan.out.join(ModuleSet::FILE), &to_json(&set))?;
        let said = if changed { "built" } else { "unchanged:" };
        let platforms: Vec<_> = plan.platforms.iter().map(|platform| platform.as_str()).collect();
        let folder = std::path::absolute(&plan.out).unwrap_or_else(|_| plan.out.clone());
        let (image, digest, tag) =
            first.map(|(image, digest, tag)| (image, digest.to_string(), tag)).unwrap_or_default();
        Ok(Outcome {
            headline: format!(
                "{said} {} for {}, image {image}{published}",
                names.join(", "),
                platforms.join(", ")
            ),
            variables: vec![
                ("images", folder.display().to_string()),
                ("image", image),
                ("imageDigest", digest),
                ("imageTag", tag),
            ],
            ..Outcome::default()
        })
    }
}

/// Builds the device's own module. Says whether anything changed on disk.
fn runtime_module(
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
    let (speech, clips_changed) = speak(plan, &model.labels, context)?;
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

/// The platforms named, each once, in the order of [`Platform::ALL`].
fn platforms(inputs: &Inputs) -> Result<Vec<Platform>, Fault> {
    let allowed = "one of `linux/amd64`, `linux/arm64`, `linux/arm/v7`, or several with commas,";
    let Some(text) = inputs.text("platform")? else {
        let host = Platform::host().ok_or_else(|| inputs.refused("platform", "", allowed))?;
        return Ok(vec![host]);
    };
    let mut platforms: Vec<Platform> = Vec::new();
    for name in text.split(',') {
        platforms.push(name.trim().parse().map_err(|_| inputs.refused("platform", text, allowed))?);
    }
    platforms.sort();
    platforms.dedup();
    Ok(platforms)
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

/// Azure Speech with the key that the environment holds: a key on a command line is seen by everybody.
fn azure_engine(url: &Url, env: &Env) -> Result<AzureSpeech, Fault> {
    let key = ["INPUT_SPEECHKEY", "SPEECH_KEY"].iter().find_map(|name| env.get(name)).map(str::trim);
    let key = key.filter(|key| !key.starts_with("$(")).ok_or(AzureSpeechError::NoKey)?;
    Ok(AzureSpeech::new(Client::new(Policy::default())?, url.clone(), Secret::new(key)))
}

/// Makes the clips below the output. Says whether anything changed there.
fn speak(plan: &Plan, labels: &[Label], context: &Context<'_>) -> Result<(Option<Speech>, bool), Fault> {
    let place = plan.out.join(SPEECH);
    let map = plan.speech_map.as_deref().map(SpeechMap::read).transpose()?.unwrap_or_default();
    for key in map.unused(labels) {
        tracing::info!("the speech map has a sentence for `{}`, which is no label", key.escape_debug());
    }
    let engine = match &plan.azure_speech {
        Some(url) => Some(Engine::Azure(azure_engine(url, context.env)?)),
        None => Espeak::find(context.monitor).map(Engine::Espeak),
    };
    let voice = match (&plan.voice, &engine) {
        (Some(voice), _) => voice,
        (None, Some(engine)) => engine.voice_for(map.voice.as_deref()),
        (None, None) => map.voice.as_deref().unwrap_or("en"),
    };
    let staged = StagedFolder::begin(&place, Speech::FILE)?;
    let request = speech::Request {
        labels,
        given: plan.clips.as_deref(),
        earlier: &place,
        map: &map,
        engine: engine.as_ref(),
        voice,
    };
    let spoken = request.make(staged.path(), context.monitor)?;
    if !spoken.silent.is_empty() {
        let labels: Vec<_> = spoken.silent.iter().map(|label| format!("`{label}`")).collect();
        tracing::warn!(
            "no voice for {}: the device will print these words; install espeak-ng (`apt-get install espeak-ng`) or give --clips a folder of recordings, then build again",
            labels.join(", ")
        );
    }
    let Some(speech) = spoken.speech else {
        // Clips of an earlier build would look like this one's.
        let stale = place.join(Speech::FILE).is_file();
        if stale {
            fs::remove_dir_all(&place).map_err(OciError::io("remove", &place))?;
        }
        return Ok((None, stale));
    };
    if same_clips(&place, &speech) {
        return Ok((Some(speech), false));
    }
    staged.publish()?;
    Ok((Some(speech), true))
}

/// Whether `folder` holds just these clips already, intact.
fn same_clips(folder: &Path, speech: &Speech) -> bool {
    let same = |path: PathBuf, bytes: &dyn Fn(&[u8]) -> bool| fs::read(path).is_ok_and(|there| bytes(&there));
    let files = fs::read_dir(folder).map_or(0, Iterator::count);
    let mut named: Vec<_> = speech.clips.iter().map(|clip| &clip.file.path).collect();
    named.sort();
    named.dedup();
    files == named.len() + 1
        && same(folder.join(Speech::FILE), &|there| there == to_json(speech))
        && speech.clips.iter().all(|clip| {
            same(clip.file.path.below(folder), &|there| {
                mynah_contracts::Sha256Digest::of(there) == clip.file.sha256
            })
        })
}

fn write_if_different(path: &Path, bytes: &[u8]) -> Result<bool, Fault> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    staging::write_file(path, bytes)?;
    Ok(true)
}

fn moment(created: &str) -> Option<Created> {
    let seconds = created.parse::<jiff::Timestamp>().ok()?.as_second();
    Some(Created { epoch: u64::try_from(seconds).ok()?, text: created.to_owned() })
}

#[cfg(test)]
#[path = "build_modules_tests.rs"]
mod tests;
