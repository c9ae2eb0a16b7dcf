//! A camera behind a pipe, such as `rpicam-vid` or `ffmpeg`: all it sends is read at once, only the newest frame is
//! looked at. So whoever writes never waits for the device, and no frame waits behind older ones.

use std::fs::File;
use std::io::{self, Read as _};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use mynah_photo::DecodeError;

use super::pace::Pace;
use super::raw_frame::RawFrame;
use super::recording::PIECE;
use super::rhythm::Rhythm;
use super::splitter::Splitter;
use super::{FrameError, FrameSource, LOOK, Next, SourceError};
use crate::clock::Clock;

/// The newest frame of a pipe.
pub(super) struct LivePipe {
    desk: Arc<Desk>,
    pace: Option<Pace>,
    clock: Rc<dyn Clock>,
    /// When the last frame came.
    seen: Duration,
    rhythm: Rhythm,
}

/// Where the reader leaves what it read.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The newest frame; a damaged one only where no other is there.
    newest: Option<Result<RawFrame, DecodeError>>,
    /// Why reading stopped, to be told once.
    fault: Option<io::Error>,
    ended: bool,
}

impl Desk {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

impl LivePipe {
    /// Reads the file on a thread of its own from now on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        file: File,
        splitter: Box<dyn Splitter>,
        pace: Option<Pace>,
        patience: Duration,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let desk = Arc::new(Desk::default());
        let shared = desk.clone();
        std::thread::Builder::new()
            .name("pipe".into())
            .spawn(move || {
                let fault = read(file, splitter, &shared).err();
                shared.change(|state| (state.fault, state.ended) = (fault, true));
            })
            .map_err(SourceError::Thread)?;
        Ok(Self { desk, pace, seen: clock.uptime(), rhythm: Rhythm::new(patience), clock })
    }
}

/// Reads to the end, or until nobody looks any more.
fn read(mut file: File, mut splitter: Box<dyn Splitter>, desk: &Arc<Desk>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while Arc::strong_count(desk) > 1 {
        let length = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        splitter.feed(piece.get(..length).unwrap_or_default());
        while let Some(frame) = splitter.next() {
            desk.change(|state| {
                if frame.is_ok() || state.newest.is_none() {
                    state.newest = Some(frame);
                }
            });
        }
    }
    if splitter.is_within_a_frame() {
        tracing::warn!("the pipe ends within a frame");
    }
    Ok(())
}

impl FrameSource for LivePipe {
    fn next_frame(&mut self) -> Next {
        let nothing = |state: &mut State| state.newest.is_none() && !state.ended;
        let state = self.desk.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.desk.changed.wait_timeout_while(state, LOOK, nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.newest.is_none() {
            return match state.fault.take() {
                Some(error) => Next::Unreadable { name: None, error: FrameError::Read(error) },
                None if state.ended => Next::End,
                None => Next::Waiting,
            };
        }
        // What comes until the next is due is newer.
        drop(state);
        if !self.pace.as_mut().is_none_or(Pace::is_due) {
            return Next::Waiting;
        }
        let newest = self.desk.state.lock().unwrap_or_else(PoisonError::into_inner).newest.take();
        self.seen = self.clock.uptime();
        self.rhythm.frame(self.seen);
        newest.map_or(Next::Waiting, Next::of)
    }

    fn problem(&self) -> Option<String> {
        let silent = self.clock.uptime().saturating_sub(self.seen);
        (silent >= self.silence()).then(|| format!("the pipe has given no frame for {} s", silent.as_secs()))
    }

    fn silence(&self) -> Duration {
        self.rhythm.silence().max(self.pace.as_ref().map_or(Duration::ZERO, Pace::silence))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use mynah_testkit::{BLUE, RED, solid_colour_jpeg};

    use super::*;
    use crate::clock::ManualClock;
    use crate::source::splitter::JpegSplitter;

    fn live() -> (LivePipe, io::PipeWriter, Rc<ManualClock>) {
        let (reader, writer) = io::pipe().unwrap();
        let clock = Rc::new(ManualClock::default());
        let file = File::from(OwnedFd::from(reader));
        let splitter = Box::new(JpegSplitter::default());
        let patience = Duration::from_secs(5);
        (LivePipe::start(file, splitter, None, patience, clock.clone()).unwrap(), writer, clock)
    }

    /// What comes after all waiting.
    fn next(source: &mut LivePipe) -> Next {
        loop {
            match source.next_frame() {
                Next::Waiting => {}
                other => return other,
            }
        }
    }

    #[test]
    fn a_writer_never_waits_and_only_the_newest_is_looked_at() {
        let (mut source, mut writer, _) = live();
        // Far more than a pipe holds, while nobody looks: it would stand still here.
        for seed in 0..2000 {
            writer.write_all(&solid_colour_jpeg(RED, seed % 8)).unwrap();
        }
        let newest = solid_colour_jpeg(BLUE, 1);
        writer.write_all(&newest).unwrap();
        drop(writer);
        let mut looked = 0;
        loop {
            let Next::Picture { jpeg, .. } = next(&mut source) else { panic!("a picture was expected") };
            looked += 1;
            if jpeg.as_ref() == Some(&newest) {
                break;
            }
        }
        // Those that a reader has not come to yet may be seen first, but never the queue of all.
        assert!(looked < 200, "{looked}");
        assert!(matches!(next(&mut source), Next::End));
    }

    #[test]
    fn silence_and_damage_are_told() {
        let (mut source, mut writer, clock) = live();
        assert!(matches!(source.next_frame(), Next::Waiting));
        assert_eq!(source.problem(), None);
        clock.advance(Duration::from_secs(5));
        assert_eq!(source.problem().as_deref(), Some("the pipe has given no frame for 5 s"));
        let whole = solid_colour_jpeg(RED, 1);
        writer.write_all(&whole[..300]).unwrap();
        writer.write_all(&whole).unwrap();
        while !matches!(next(&mut source), Next::Picture { .. }) {}
        assert_eq!(source.problem(), None);
        drop(writer);
        assert!(matches!(next(&mut source), Next::End));
    }
}
