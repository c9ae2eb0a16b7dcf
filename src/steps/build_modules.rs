//! `build-modules`: a model package → OCI image layouts and `modules.json`.

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
use crate::oci::image::{Created, write_index};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::reference::Repository;
use crate::oci::runtime_image::Contents;
use crate::oci::{OciError, elf};
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
    model: PathBuf,
    out: PathBuf,
    cache: PathBuf,
    platform: Platform,
    runtime: Option<PathBuf>,
    clips: Option<PathBuf>,
    speech_map: Option<PathBuf>,
    azure_speech: Option<Url>,
    voice: Option<String>,
    repository: Repository,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "build `{RUNTIME_MODULE}` for {} from the model in {}",
            self.platform,
            self.model.display()
        )?;
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
        write!(f, "write {}", self.out.join(ModuleSet::FILE).display())
    }
}

/// The device's runtime is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error("the program `{RUNTIME_MODULE}` was not found")]
struct NoRuntime;

impl Diagnosis for NoRuntime {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(format!("name it with --runtime, or build it with `cargo build --release -p {RUNTIME_MODULE}`"))
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

Example:
  build-modules --model work/model --out work/images";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required("model", OptionKind::Path, "The folder that export-model wrote."),
        OptionSpec::required("out", OptionKind::Path, "The folder to write modules.json and the layouts to."),
        OptionSpec::optional(
            "platform",
            OptionKind::Choice(&["linux/amd64", "linux/arm64", "linux/arm/v7"]),
            "The platform to build for. Without it: this machine's. Another one needs --runtime.",
        ),
        OptionSpec::optional(
            "runtime",
            OptionKind::Path,
            "The mynah-runtime program for the platform. Without it: the one installed with this program.",
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
        let host = Platform::host();
        let platform = match inputs.choice("platform")? {
            Some(text) => text.parse().ok(),
            None => host,
        };
        let platform = match platform {
            Some(platform) if host == Some(platform) || runtime.is_some() => platform,
            Some(platform) => {
                let allowed = "this machine's platform, or --runtime with a program for another,";
                return Err(inputs.refused("platform", platform.as_str(), allowed).into());
            }
            None => {
                return Err(inputs
                    .refused("platform", "", "a platform, since this machine is none of ours,")
                    .into());
            }
        };
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
            model: inputs.required_path("model")?,
            out,
            cache: inputs.path("cache")?.unwrap_or(beside),
            platform,
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
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let model: ModelCard = artifact::load(&plan.model)?;
        let program = plan.runtime.clone().or_else(find_runtime).ok_or(NoRuntime)?;
        elf::check_platform(&program, plan.platform)?;
        // Before anything is written: the folder may be someone else's.
        let place = plan.out.join(RUNTIME_MODULE);
        let mut layout = LayoutWriter::open(&place)?;
        let (speech, clips_changed) = speak(plan, &model.labels, context)?;
        let clips = plan.out.join(SPEECH);
        let contents = Contents {
            platform: plan.platform,
            base: None,
            program: &program,
            model: &model,
            model_folder: &plan.model,
            speech: speech.as_ref().map(|speech| (speech, clips.as_path())),
            created: context.created.as_deref().and_then(moment),
        };
        let (descriptor, image) =
            contents.write(&mut layout, &LayerCache::new(&plan.cache), RUNTIME_MODULE, context.monitor)?;
        let index = write_index(&mut layout, vec![descriptor], contents.annotations(RUNTIME_MODULE))?;
        let version = Tool::current().version;
        let tag = format!("{version}-{}", index.digest.hex().get(..12).unwrap_or_default());
        let module = Module {
            name: RUNTIME_MODULE.into(),
            repository: plan.repository.to_string(),
            tag: tag.clone(),
            layout: RelativePath::new(RUNTIME_MODULE)
                .map_err(|problem| OciError::Unsupported { what: RUNTIME_MODULE.into(), problem })?,
            index: (&index).into(),
            platforms: vec![image],
            model: Some(model.digest()),
        };
        let image = module.pinned();
        let image_changed = layout.finish(index.clone(), &tag)?;
        let set = ModuleSet {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            modules: vec![module],
        };
        let changed = write_if_different(&plan.out.join(ModuleSet::FILE), &to_json(&set))?
            || image_changed
            || clips_changed;
        let said = if changed { "built" } else { "unchanged:" };
        Ok(Outcome {
            headline: format!("{said} `{RUNTIME_MODULE}` for {}, image {image}", plan.platform),
            variables: vec![
                (
                    "images",
                    std::path::absolute(&plan.out).unwrap_or_else(|_| plan.out.clone()).display().to_string(),
                ),
                ("image", image),
                ("imageDigest", index.digest.to_string()),
                ("imageTag", tag),
            ],
            ..Outcome::default()
        })
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
