//! How words are heard.

#[cfg(feature = "sound-card")]
mod card;
mod command;
mod queue;
mod wav_folder;

use std::io;
use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind, Label};
use mynah_photo::file::FileError;

pub use wav_folder::WavFolder;

use command::CommandPlayer;
use queue::QueueSpeaker;

use crate::settings::SpeakerSpec;
use crate::speech::Clip;

/// One thing to say.
#[derive(Clone, Copy, Debug)]
pub struct Utterance<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// What is seen.
    pub label: &'a Label,
    /// The words.
    pub clip: &'a Clip,
}

/// Makes words heard without keeping frames waiting.
pub trait Speaker {
    /// Says it, or sees to it that it is said soon.
    ///
    /// # Errors
    /// It will not be heard.
    fn say(&mut self, utterance: Utterance<'_>) -> Result<(), SpeakerError>;

    /// What keeps it from being heard at present, in words.
    fn problem(&self) -> Option<String>;

    /// Whether something is being said, or waits to be.
    fn is_busy(&self) -> bool;

    /// Says what is still waiting, within a bounded time, and ends.
    fn finish(&mut self);
}

/// Why something is not heard.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// The folder for what is said cannot be made.
    #[error("cannot make the folder `{folder}` for what is said")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of one utterance cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The clip is no longer what it was.
    #[error(transparent)]
    Clip(#[from] FileError),
    /// There is no such program.
    #[error("the speaker's program `{program}` is not installed")]
    NoProgram {
        /// As given.
        program: String,
    },
    /// This program was built without sound cards.
    #[error("this program was built without sound cards")]
    NoCards,
    /// The thread that plays cannot be started.
    #[error("cannot start the speaker")]
    Start(#[source] io::Error),
}

impl Diagnosis for SpeakerError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Folder { .. } | Self::NoProgram { .. } | Self::NoCards | Self::Clip(_) => {
                FaultKind::BadInput
            }
            Self::Write { .. } | Self::Start(_) => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram { program } => Some(format!(
                "install `{program}`, or choose another way with `--speaker wav:DIR` or `--speaker none`"
            )),
            Self::Folder { .. } | Self::Write { .. } => {
                Some("name a folder this user may write to, on a disk with room: `--speaker wav:DIR`".into())
            }
            Self::NoCards => Some(
                "play through a program with `--speaker 'command:aplay -q'`, or build it with the feature `sound-card`"
                    .into(),
            ),
            Self::Clip(error) => error.hint(),
            Self::Start(_) => None,
        }
    }
}

/// The speaker that `spec` names; `volume`, 0 to 1, is a sound card's. `None` where words are printed only. `search` is the `PATH` of programs.
///
/// # Errors
/// It cannot be had: the folder cannot be made, the program is not installed.
pub fn open(
    spec: &SpeakerSpec,
    volume: f32,
    search: Option<&std::ffi::OsStr>,
) -> Result<Option<Box<dyn Speaker>>, SpeakerError> {
    Ok(match spec {
        SpeakerSpec::None => None,
        SpeakerSpec::Wav(folder) => Some(Box::new(WavFolder::open(folder)?)),
        SpeakerSpec::Command { program, arguments } => {
            Some(Box::new(QueueSpeaker::start(CommandPlayer::find(program, arguments, search)?)?))
        }
        SpeakerSpec::Card(name) => Some(card(name.as_ref(), volume)?),
    })
}

#[cfg(feature = "sound-card")]
fn card(name: Option<&String>, volume: f32) -> Result<Box<dyn Speaker>, SpeakerError> {
    Ok(Box::new(QueueSpeaker::start(card::CardPlayer::new(name.cloned(), volume))?))
}

#[cfg(not(feature = "sound-card"))]
fn card(_: Option<&String>, _: f32) -> Result<Box<dyn Speaker>, SpeakerError> {
    Err(SpeakerError::NoCards)
}
