//! Spoken words: one WAV clip per label, made before the device is built, so that the device needs neither
//! a voice nor a network.
//!
//! What is said stands in a [`SpeechMap`]. A clip comes from a folder the user gives, from an earlier output, from
//! Azure Speech where that is asked for, or from `espeak-ng` where it is installed. A label without any is no
//! error: the device then prints its word.

mod engine;
mod espeak;
mod map;
pub mod wav;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{
    Artifact as _, ArtifactError, Cancelled, Clip, Diagnosis, FaultKind, FileRef, Label, Monitor,
    RelativePath, SchemaVersion, Sha256Digest, Speech, from_json,
};

use crate::azure::speech::AzureSpeechError;
use crate::child::RunError;
pub use engine::Engine;
pub use espeak::Espeak;
pub use map::{SpeechMapError, read_map};
pub use mynah_contracts::{SpeechMap, is_of_voice};

/// The largest clip taken, in bytes: a minute and a half of speech.
const MAX_CLIP_BYTES: u64 = 4 << 20;

/// Why clips could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// The file system refused.
    #[error("cannot {action} `{path}`", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The given folder's `speech.json` is refused.
    #[error("the clips in `{folder}` cannot be used", folder = folder.display())]
    Card {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        #[source]
        source: ArtifactError,
    },
    /// A clip is not what `speech.json` says.
    #[error("the clip `{path}` {problem}", path = path.display())]
    Clip {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The engine ran and failed.
    #[error("`espeak-ng` cannot speak `{text}` with the voice `{voice}`: {said}")]
    Engine {
        /// The words.
        text: String,
        /// The voice.
        voice: String,
        /// What it said.
        said: String,
    },
    /// The engine did not run to its end.
    #[error("cannot make a clip for `{text}`")]
    Run {
        /// The words.
        text: String,
        /// What happened.
        #[source]
        source: RunError,
    },
    /// Azure Speech did not speak.
    #[error(transparent)]
    Azure(AzureSpeechError),
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SpeechError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnosis for SpeechError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => FaultKind::BadInput,
            Self::Card { .. } | Self::Clip { .. } | Self::Engine { .. } => FaultKind::BadInput,
            Self::Io { .. } | Self::Run { .. } => FaultKind::Failed,
            Self::Azure(error) => error.kind(),
            Self::Cancelled => FaultKind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Engine { .. } => Some("`espeak-ng --voices` lists the voices for --voice".into()),
            Self::Card { .. } | Self::Clip { .. } => Some("mend the folder, or leave out --clips".into()),
            Self::Azure(error) => error.hint(),
            Self::Cancelled => Cancelled.hint(),
            _ => None,
        }
    }
}

/// What to speak, and how.
pub struct Request<'a> {
    /// The labels, in the model's order.
    pub labels: &'a [Label],
    /// A folder with `speech.json` and clips that are taken where label and words match.
    pub given: Option<&'a Path>,
    /// An earlier output, whose clips are taken where engine, voice and words match.
    pub earlier: &'a Path,
    /// What is said for each label.
    pub map: &'a SpeechMap,
    /// The engine, where there is one.
    pub engine: Option<&'a Engine>,
    /// The engine's voice.
    pub voice: &'a str,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub struct Spoken {
    /// The clips; nothing where no label has one.
    pub speech: Option<Speech>,
    /// The labels without a clip.
    pub silent: Vec<Label>,
}

impl Request<'_> {
    /// Writes the clips and `speech.json` into `out`, an existing empty folder.
    ///
    /// # Errors
    /// When a given clip is broken, the engine fails, or the disk refuses.
    pub fn make(&self, out: &Path, monitor: &dyn Monitor) -> Result<Spoken, SpeechError> {
        let given = self.given.map(Source::open).transpose()?;
        // An earlier output that cannot be read is made again.
        let earlier = Source::open(self.earlier).ok();
        let mut clips = Vec::new();
        let mut silent = Vec::new();
        let mut engines: Vec<&str> = Vec::new();
        let mut voice = self.voice;
        for (done, label) in self.labels.iter().enumerate() {
            if monitor.cancelled() {
                return Err(SpeechError::Cancelled);
            }
            monitor.progress("speaking labels", done as u64, self.labels.len() as u64);
            let text = self.map.sentence(label);
            let (by, name, bytes) = if let Some((source, bytes)) = from_given(given.as_ref(), label, &text)? {
                if self.engine.is_none() {
                    voice = &source.card.voice;
                }
                (source.card.engine.as_str(), recording_name(&bytes), bytes)
            } else if let Some(engine) = self.engine {
                let name = made_name(engine.name(), self.voice, self.map.language.as_deref(), &text);
                let bytes = match made(&clips, &name, out, earlier.as_ref()) {
                    Some(bytes) => bytes,
                    None => engine.speak(&text, self.voice, self.map.language.as_deref(), monitor)?,
                };
                (engine.name(), name, bytes)
            } else {
                silent.push(label.clone());
                continue;
            };
            if !engines.contains(&by) {
                engines.push(by);
            }
            clips.push(write_clip(out, label, text, name, &bytes)?);
        }
        monitor.progress("speaking labels", self.labels.len() as u64, self.labels.len() as u64);
        let speech = (!clips.is_empty()).then(|| Speech {
            schema_version: SchemaVersion::CURRENT,
            engine: engines.join(" + "),
            voice: voice.to_owned(),
            clips,
        });
        if let Some(speech) = &speech {
            let path = out.join(Speech::FILE);
            fs::write(&path, mynah_contracts::to_json(speech)).map_err(SpeechError::io("write", &path))?;
        }
        Ok(Spoken { speech, silent })
    }
}

fn from_given<'a>(
    given: Option<&'a Source>,
    label: &Label,
    text: &str,
) -> Result<Option<(&'a Source, Vec<u8>)>, SpeechError> {
    let Some(source) = given else { return Ok(None) };
    let Some(clip) = source.card.clips.iter().find(|clip| clip.label == *label && clip.text == text) else {
        return Ok(None);
    };
    Ok(Some((source, source.read(clip)?)))
}

/// A spoken clip's file is named after what made it, so that a later run knows whether it would make the
/// same, and two labels with the same words share it.
fn made_name(engine: &str, voice: &str, language: Option<&str>, text: &str) -> String {
    let language = language.map(|language| format!("\0{language}")).unwrap_or_default();
    file_name(format!("{engine}\0{voice}{language}\0{text}").as_bytes())
}

/// A recording's file is named after its content: two labels with the same words may have two.
fn recording_name(bytes: &[u8]) -> String {
    file_name(bytes)
}

fn file_name(of: &[u8]) -> String {
    format!("{}.wav", Sha256Digest::of(of).hex().get(..16).unwrap_or_default())
}

/// The clip of this name, where this run or an earlier one made it.
fn made(clips: &[Clip], name: &str, out: &Path, earlier: Option<&Source>) -> Option<Vec<u8>> {
    if clips.iter().any(|clip| clip.file.path.as_str() == name) {
        return fs::read(out.join(name)).ok();
    }
    let earlier = earlier?;
    let clip = earlier.card.clips.iter().find(|clip| clip.file.path.as_str() == name)?;
    earlier.read(clip).ok()
}

fn write_clip(
    out: &Path,
    label: &Label,
    text: String,
    name: String,
    bytes: &[u8],
) -> Result<Clip, SpeechError> {
    let path = out.join(&name);
    fs::write(&path, bytes).map_err(SpeechError::io("write", &path))?;
    let relative = RelativePath::new(name).map_err(|problem| SpeechError::Clip { path, problem })?;
    Ok(Clip { label: label.clone(), text, file: FileRef::new(relative, bytes) })
}

/// A folder of clips.
struct Source {
    folder: PathBuf,
    card: Speech,
}

impl Source {
    fn open(folder: &Path) -> Result<Self, SpeechError> {
        let path = folder.join(Speech::FILE);
        let bytes = fs::read(&path).map_err(SpeechError::io("read", &path))?;
        let card =
            from_json(&bytes).map_err(|source| SpeechError::Card { folder: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), card })
    }

    fn read(&self, clip: &Clip) -> Result<Vec<u8>, SpeechError> {
        let path = clip.file.path.below(&self.folder);
        let wrong = |problem: String| SpeechError::Clip { path: path.clone(), problem };
        let size = fs::metadata(&path).map_err(SpeechError::io("read", &path))?.len();
        if size > MAX_CLIP_BYTES {
            return Err(wrong(format!("has {size} bytes, {MAX_CLIP_BYTES} are allowed")));
        }
        let bytes = fs::read(&path).map_err(SpeechError::io("read", &path))?;
        if Sha256Digest::of(&bytes) != clip.file.sha256 {
            return Err(wrong("is not the one its speech.json names".into()));
        }
        wav::check(&bytes).map_err(|problem| wrong(problem.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "speech_tests.rs"]
mod tests;
