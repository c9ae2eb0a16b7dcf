//! Where frames come from.

mod folder;
mod natural_order;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use mynah_contracts::{Diagnosis, FaultKind};
use mynah_photo::{DecodeError, RgbImage};

pub use folder::Folder;
pub use natural_order::natural_order;

use crate::clock::Clock;
use crate::settings::SourceSpec;

/// A stream of frames. It waits until the next one is due, and returns early when the device is asked to stop.
pub trait FrameSource {
    /// The next frame.
    fn next_frame(&mut self) -> Next;
}

/// What a source has to give.
#[derive(Debug)]
pub enum Next {
    /// A picture.
    Picture {
        /// Its pixels, upright.
        image: RgbImage,
        /// The file's name, where it came from a file.
        name: Option<String>,
    },
    /// The picture before, once more: what was made of it holds again.
    Held,
    /// A frame that was due and could not be read.
    Unreadable {
        /// The file's name, where it came from a file.
        name: Option<String>,
        /// Why.
        error: FrameError,
    },
    /// No frame will follow.
    End,
}

/// Why one frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// Its bytes are no picture we can take.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder cannot be listed.
    #[error("cannot list the frames' folder `{folder}`")]
    List {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder holds no picture.
    #[error("the frames' folder `{folder}` holds no picture")]
    Empty {
        /// Which folder.
        folder: PathBuf,
        /// How many files of other kinds it holds.
        others: usize,
    },
}

impl Diagnosis for SourceError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::List { .. } => {
                "name a folder of pictures that this user may read: `--source dir:FOLDER`".into()
            }
            Self::Empty { others, .. } => format!(
                "put JPEG, PNG, BMP, GIF or WebP pictures into it; their content decides, not their names; \
                 {others} files of other kinds are there"
            ),
        })
    }
}

/// Opens the source that `spec` names.
///
/// # Errors
/// It is not there, or has nothing to give.
pub fn open(spec: &SourceSpec, clock: Rc<dyn Clock>) -> Result<Box<dyn FrameSource>, SourceError> {
    match spec {
        SourceSpec::Folder { path, hold, fps } => Ok(Box::new(Folder::open(path, *hold, *fps, clock)?)),
    }
}
