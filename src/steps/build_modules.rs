//! `build-modules`: a model package → OCI image layouts and `modules.json`.

mod clips;
mod runtime_module;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use mynah_contracts::{Artifact as _, Fault, ModuleSet, Platform, SchemaVersion, Tool, to_json};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::azure::speech as azure_speech;
use crate::http::Url;
use crate::modules::{self, Builder, Surroundings};
use crate::oci::OciError;
use crate::oci::image::Created;
use crate::oci::layer_cache::LayerCache;
use crate::oci::reference::Repository;
use crate::publish::{self, Ahead, Places, Publishing};
use crate::registry::{RegistryImages, SignIn};
use crate::speech;
use crate::staging;
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
    debug: bool,
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
            let also = if self.debug { ", also their images for debugging" } else { "" };
            writeln!(f, "build the modules in {}{also}", modules.display())?;
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
            "debug",
            OptionKind::Switch,
            "Also build the images that module.json has for platforms such as `amd64.debug`, as modules called \
             `<name>.debug`.",
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
            debug: inputs.switch("debug")?,
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
        thread::scope(|scope| {
            // Other modules' names are known only once they were looked for.
            let ahead = match plan.model {
                Some(_) => plan.publishing.sign_in(RUNTIME_MODULE, scope, context)?,
                None => None,
            };
            build(plan, ahead, context)
        })
    }
}

fn build(plan: &Plan, ahead: Option<Ahead<'_>>, context: &Context<'_>) -> Result<Outcome, Fault> {
    let created = context.created.as_deref().and_then(moment);
    let cache = LayerCache::new(&plan.cache);
    let sign_in = SignIn::new(context.env.clone(), None, plan.publishing.is_insecure());
    let bases = RegistryImages::new(sign_in, plan.cache.join("bases"), context.monitor);
    let mut modules = Vec::new();
    let mut changed = false;
    if let Some(model) = &plan.model {
        let (module, new) = runtime_module::build(plan, model, &cache, &bases, created.as_ref(), context)?;
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
        let mut debugged = !plan.debug;
        for source in modules::find(folder, &variable)? {
            if source.name == RUNTIME_MODULE || source.name == SPEECH {
                let problem = "is a name that build-modules uses itself: rename the folder".into();
                return Err(OciError::Unsupported { what: source.name, problem }.into());
            }
            let debugging = if plan.debug { source.for_debugging(&plan.platforms) } else { None };
            debugged |= debugging.is_some();
            let debugging = debugging.as_ref().map(|(source, platforms)| (source, platforms.as_slice()));
            for (source, platforms) in [(&source, plan.platforms.as_slice())].into_iter().chain(debugging) {
                let (module, new) = source.build(&plan.out, &Surroundings { platforms, ..around })?;
                tracing::info!("`{}`: {}", module.name, module.pinned());
                modules.push(module);
                changed |= new;
            }
        }
        if !debugged {
            tracing::warn!(
                "no module.json has an image for debugging for these platforms, such as `amd64.debug`"
            );
        }
    }
    let names: Vec<_> = modules.iter().map(|module| format!("`{}`", module.name)).collect();
    let mut set = ModuleSet { schema_version: SchemaVersion::CURRENT, tool: Tool::current(), modules };
    let places = Places { out: &plan.out, cache: &plan.cache };
    let published = plan.publishing.run(&mut set, places, ahead, context)?;
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
