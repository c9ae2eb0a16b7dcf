//! Where frames come from.

mod folder;
mod http_camera;
mod live_pipe;
mod natural_order;
mod pace;
mod raw_frame;
mod recording;
mod rhythm;
mod splitter;
pub mod v4l2;
mod watched;
mod yuv;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mynah_contracts::{Diagnosis, FaultKind};
use mynah_photo::{DecodeError, RgbImage};

pub use folder::Folder;
pub use natural_order::natural_order;
pub use raw_frame::RawFrame;
pub use watched::{Camera, CameraError, Opener, Patience, Watched};

use crate::clock::Clock;
use crate::settings::{CameraName, SourceSpec};

/// How long a source waits for a frame before it lets the device look at other things.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// A stream of frames. It waits until the next one is due, and returns early when the device is asked to stop.
pub trait FrameSource {
    /// The next frame.
    fn next_frame(&mut self) -> Next;

    /// What keeps frames from coming at present.
    fn problem(&self) -> Option<String> {
        None
    }

    /// How long it may give nothing while all is well: a slow camera is none that is gone.
    fn silence(&self) -> Duration {
        Duration::ZERO
    }

    /// How often it was lost and came back.
    fn reopened(&self) -> u64 {
        0
    }
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
        /// The bytes it was made of, where a camera gave it as JPEG.
        jpeg: Option<Vec<u8>>,
    },
    /// None yet, though more will come.
    Waiting,
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
    /// No frame will follow, and that is a fault.
    Lost(SourceError),
}

impl Next {
    /// A camera's or recording's frame as what the device takes.
    fn of(frame: Result<RawFrame, DecodeError>) -> Self {
        match frame.and_then(RawFrame::decode) {
            Ok((image, jpeg)) => Self::Picture { image, name: None, jpeg },
            Err(error) => Self::Unreadable { name: None, error: error.into() },
        }
    }
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
    /// The recording cannot be opened.
    #[error("cannot open the recording `{path}`")]
    Recording {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no thread to be had.
    #[error("cannot start the thread that reads the pipe")]
    Thread(#[source] io::Error),
    /// A camera stayed away.
    #[error("no good picture from the camera `{camera}` for {seconds} s: {problem}")]
    GaveUp {
        /// Which.
        camera: String,
        /// For how long.
        seconds: u64,
        /// What was wrong last.
        problem: String,
    },
}

impl Diagnosis for SourceError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::GaveUp { .. } | Self::Thread(_) => FaultKind::Failed,
            Self::List { .. } | Self::Empty { .. } | Self::Recording { .. } => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::List { .. } => {
                "name a folder of pictures that this user may read: `--source dir:FOLDER`".into()
            }
            Self::Recording { .. } => {
                "name a file or pipe that this user may read, or - for standard input".into()
            }
            Self::Thread(_) => "raise the limit of threads of this user or container".into(),
            Self::GaveUp { .. } => {
                "look at its cable; `mynah-runtime --list-devices` shows the cameras of this machine".into()
            }
            Self::Empty { others, .. } => format!(
                "put JPEG, PNG, BMP, GIF or WebP pictures into it; their content decides, not their names; \
                 {others} files of other kinds are there"
            ),
        })
    }
}

/// Opens the source that `spec` names. A camera is opened later, and again whenever it was lost.
///
/// # Errors
/// It is not there, or has nothing to give.
pub fn open(
    spec: &SourceSpec,
    patience: Patience,
    clock: Rc<dyn Clock>,
) -> Result<Box<dyn FrameSource>, SourceError> {
    Ok(match spec {
        SourceSpec::Folder { path, hold, fps } => Box::new(Folder::open(path, *hold, *fps, clock)?),
        SourceSpec::Recording(spec) => recording::open(spec, patience.silent, clock)?,
        SourceSpec::Camera(spec) => {
            let name = match &spec.name {
                CameraName::Any => "first".into(),
                CameraName::Path(path) => path.display().to_string(),
                CameraName::Card(name) | CameraName::Bus(name) => name.clone(),
            };
            let spec = spec.clone();
            Box::new(Watched::new(name, Arc::new(move || v4l2::open(&spec)), patience, clock))
        }
        SourceSpec::Stream(address) => {
            let address = address.clone();
            let name = address.host.clone();
            Box::new(Watched::new(name, Arc::new(move || http_camera::open(&address)), patience, clock))
        }
    })
}
