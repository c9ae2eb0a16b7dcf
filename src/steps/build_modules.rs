//! `build-modules`: a model package → OCI image layouts and `modules.json`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Artifact as _, Diagnosis, Fault, FaultKind, Label, ModelCard, Module, ModuleSet, Platform, RelativePath,
    SchemaVersion, Speech, Tool, to_json,
};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::install;
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::reference::Repository;
use crate::oci::runtime_image::{self, Contents, Created};
use crate::oci::{OciError, elf};
use crate::speech::{self, Espeak};
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
    voice: String,
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
        writeln!(f, "speak other labels with the espeak-ng voice `{}`, where it is installed", self.voice)?;
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

Words are spoken by espeak-ng where it is installed; --clips brings your own recordings: a folder with
speech.json and WAV files, 16-bit PCM, one channel.

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
        OptionSpec::with_default(
            "voice",
            OptionKind::Text,
            "en",
            "The espeak-ng voice for all other labels.",
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
        let voice = inputs.required("voice")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+');
        if voice.starts_with('-') || !voice.chars().all(plain) {
            return Err(inputs.refused("voice", voice, "the name of a voice such as `en` or `de+f3`").into());
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
            voice: voice.to_owned(),
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
            program: &program,
            model: &model,
            model_folder: &plan.model,
            speech: speech.as_ref().map(|speech| (speech, clips.as_path())),
            created: context.created.as_deref().and_then(moment),
        };
        let (descriptor, image) =
            contents.write(&mut layout, &LayerCache::new(&plan.cache), RUNTIME_MODULE, context.monitor)?;
        let index =
            runtime_image::write_index(&mut layout, vec![descriptor], contents.annotations(RUNTIME_MODULE))?;
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

/// Makes the clips below the output. Says whether anything changed there.
fn speak(plan: &Plan, labels: &[Label], context: &Context<'_>) -> Result<(Option<Speech>, bool), Fault> {
    let place = plan.out.join(SPEECH);
    let engine = Espeak::find(context.monitor);
    let staged = StagedFolder::begin(&place, Speech::FILE)?;
    let request = speech::Request {
        labels,
        given: plan.clips.as_deref(),
        earlier: &place,
        engine: engine.as_ref(),
        voice: &plan.voice,
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
