//! A recording as a source: MJPEG or YUV4MPEG2 from a file, a pipe or standard input, every frame in order.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mynah_photo::DecodeError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::live_pipe::LivePipe;
use super::pace::Pace;
use super::raw_frame::RawFrame;
use super::rhythm::Rhythm;
use super::splitter::{JpegSplitter, Splitter, Y4mSplitter};
use super::{FrameError, FrameSource, LOOK, Next, SourceError};
use crate::clock::Clock;
use crate::settings::{RecordingForm, RecordingSpec};

/// How much is read at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Opens a recording: every frame in order, or, where it is live, the newest only.
///
/// # Errors
/// It cannot be opened.
pub(super) fn open(
    spec: &RecordingSpec,
    patience: Duration,
    clock: Rc<dyn Clock>,
) -> Result<Box<dyn FrameSource>, SourceError> {
    let opened = match &spec.path {
        Some(path) => File::open(path),
        None => rustix::io::dup(io::stdin()).map(|stdin: OwnedFd| File::from(stdin)).map_err(io::Error::from),
    };
    let file = opened.map_err(|source| SourceError::Recording {
        path: spec.path.clone().unwrap_or_else(|| PathBuf::from("-")),
        source,
    })?;
    let splitter: Box<dyn Splitter> = match spec.form {
        RecordingForm::Mjpeg => Box::new(JpegSplitter::default()),
        RecordingForm::Y4m => Box::new(Y4mSplitter::default()),
    };
    let pace = spec.fps.map(|fps| Pace::new(fps, clock.clone()));
    Ok(if spec.live {
        Box::new(LivePipe::start(file, splitter, pace, patience, clock)?)
    } else {
        Box::new(Recording::of(file, splitter, pace, patience, clock))
    })
}

/// A stream of frames that ends.
struct Recording {
    file: File,
    splitter: Box<dyn Splitter>,
    pace: Option<Pace>,
    /// The frame that is due next.
    ready: Option<Result<RawFrame, DecodeError>>,
    piece: Vec<u8>,
    ended: bool,
    clock: Rc<dyn Clock>,
    /// When the last bytes came.
    fed: Duration,
    rhythm: Rhythm,
}

impl Recording {
    /// The frames of an open file. A pipe that gives nothing for `patience` is reported.
    pub(super) fn of(
        file: File,
        splitter: Box<dyn Splitter>,
        pace: Option<Pace>,
        patience: Duration,
        clock: Rc<dyn Clock>,
    ) -> Self {
        Self {
            file,
            splitter,
            pace,
            ready: None,
            piece: vec![0; PIECE],
            ended: false,
            fed: clock.uptime(),
            rhythm: Rhythm::new(patience),
            clock,
        }
    }

    /// Reads the next bytes; `false` = none came within [`LOOK`].
    fn read(&mut self) -> io::Result<bool> {
        let mut ready = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK.subsec_nanos()) };
        match poll(&mut ready, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let length = self.file.read(&mut self.piece)?;
        self.ended = length == 0;
        self.splitter.feed(self.piece.get(..length).unwrap_or_default());
        self.fed = self.clock.uptime();
        Ok(true)
    }
}

impl FrameSource for Recording {
    fn next_frame(&mut self) -> Next {
        loop {
            if self.ready.is_none() {
                self.ready = self.splitter.next();
                if self.ready.is_some() {
                    self.rhythm.frame(self.clock.uptime());
                }
            }
            match &self.ready {
                Some(_) if !self.pace.as_mut().is_none_or(Pace::is_due) => return Next::Waiting,
                Some(_) => return self.ready.take().map_or(Next::Waiting, Next::of),
                None if self.ended => {
                    if self.splitter.is_within_a_frame() {
                        tracing::warn!("the recording ends within a frame");
                    }
                    return Next::End;
                }
                None => match self.read() {
                    Ok(true) => {}
                    Ok(false) => return Next::Waiting,
                    Err(error) => {
                        self.ended = true;
                        return Next::Unreadable { name: None, error: FrameError::Read(error) };
                    }
                },
            }
        }
    }

    fn problem(&self) -> Option<String> {
        let silent = self.clock.uptime().saturating_sub(self.fed);
        (!self.ended && self.ready.is_none() && silent >= self.rhythm.silence())
            .then(|| format!("the recording has given nothing for {} s", silent.as_secs()))
    }

    fn silence(&self) -> Duration {
        self.rhythm.silence().max(self.pace.as_ref().map_or(Duration::ZERO, Pace::silence))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use mynah_testkit::{GREEN, RED, solid_colour_jpeg};

    use super::*;
    use crate::clock::ManualClock;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn every_frame_of_a_file_comes_in_order_and_then_the_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let frames = [solid_colour_jpeg(RED, 1), solid_colour_jpeg(GREEN, 2), solid_colour_jpeg(RED, 3)];
        file.write_all(&frames.concat()).unwrap();
        file.write_all(&frames[0][..300]).unwrap();
        let clock = Rc::new(ManualClock::default());
        let spec = RecordingSpec {
            path: Some(file.path().into()),
            form: RecordingForm::Mjpeg,
            fps: Some(2.0),
            live: false,
        };
        let mut source = open(&spec, PATIENCE, clock.clone()).unwrap();
        for frame in &frames {
            let Next::Picture { jpeg, .. } = source.next_frame() else { panic!("a frame was expected") };
            assert_eq!(jpeg.as_ref(), Some(frame));
        }
        assert!(matches!(source.next_frame(), Next::End));
        assert_eq!(clock.uptime(), Duration::from_secs(1));
    }

    #[test]
    fn a_pipe_that_gives_nothing_is_told_and_does_not_hang() {
        let (reader, mut writer) = io::pipe().unwrap();
        let clock = Rc::new(ManualClock::default());
        let file = File::from(OwnedFd::from(reader));
        let mut source = Recording::of(file, Box::new(Y4mSplitter::default()), None, PATIENCE, clock.clone());
        assert!(matches!(source.next_frame(), Next::Waiting));
        assert_eq!(source.problem(), None);
        clock.advance(PATIENCE);
        assert_eq!(source.problem().as_deref(), Some("the recording has given nothing for 5 s"));
        writer.write_all(b"YUV4MPEG2 W2 H2 Cmono\nFRAME\n\x10\x10\x10\x10").unwrap();
        assert!(matches!(source.next_frame(), Next::Picture { .. }));
        assert_eq!(source.problem(), None);
        // One frame a minute is told once; from then on it is known.
        clock.advance(Duration::from_mins(1));
        assert!(source.problem().is_some());
        for _ in 0..3 {
            writer.write_all(b"FRAME\n\x10\x10\x10\x10").unwrap();
            assert!(matches!(source.next_frame(), Next::Picture { .. }));
            clock.advance(Duration::from_mins(1));
            assert_eq!(source.problem(), None);
        }
        clock.advance(Duration::from_mins(2));
        assert!(source.problem().is_some());
        drop(writer);
        assert!(matches!(source.next_frame(), Next::End));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        for live in [false, true] {
            let path = Some("/no/such/file".into());
            let spec = RecordingSpec { path, form: RecordingForm::Y4m, fps: None, live };
            let error = open(&spec, PATIENCE, Rc::new(ManualClock::default())).err().unwrap();
            assert_eq!(error.to_string(), "cannot open the recording `/no/such/file`");
        }
    }
}
