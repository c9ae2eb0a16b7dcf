//! A camera that is watched: unplugged, silent, frozen or dark, it is noticed, told, and opened again with
//! back-off. Never a silent hang.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use mynah_contracts::error_chain;
use mynah_photo::RgbImage;

use super::raw_frame::RawFrame;
use super::rhythm::Rhythm;
use super::{FrameSource, LOOK, Next, SourceError};
use crate::clock::Clock;

/// The shortest wait before a camera is opened again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The mean of all channels, of 255, below which a picture is black: a lens cap, not a dark room.
const BLACK: u64 = 4;
/// So many frames alike are a frozen picture.
const ALIKE: u32 = 3;

/// A camera that was opened.
pub trait Camera: Send {
    /// The newest frame, waiting for one up to `wait`; `None` = none came.
    ///
    /// # Errors
    /// The camera is lost and must be opened again.
    fn frame(&mut self, wait: Duration) -> Result<Option<RawFrame>, CameraError>;

    /// What it gives, in words, such as `640×480 MJPG at 30/s`.
    fn form(&self) -> String;

    /// The time between two frames, where it says so.
    fn interval(&self) -> Option<Duration> {
        None
    }
}

/// Why a camera gives no frames.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct CameraError {
    what: String,
    #[source]
    source: Option<std::io::Error>,
}

impl CameraError {
    /// In words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// In words, with the operating system's.
    pub fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// Opens the camera; called on a thread of its own, since names and devices can take their time.
pub type Opener = Arc<dyn Fn() -> Result<Box<dyn Camera>, CameraError> + Send + Sync>;

/// When a camera counts as broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Without a frame for this long it is lost; one that is slow by its nature may take three of its intervals.
    pub silent: Duration,
    /// Giving the same bytes, or black, for this long and for more than three frames it is frozen; zero = never.
    pub still: Duration,
    /// Without a good frame for this long the device gives up, so that whoever runs it can start it anew; zero = never.
    pub give_up: Duration,
}

enum State {
    /// Closed until this uptime.
    Closed { until: Duration },
    /// Being opened.
    Opening(Receiver<Result<Box<dyn Camera>, CameraError>>),
    /// Open.
    Open(Box<dyn Camera>),
}

/// A camera under watch.
pub struct Watched {
    name: String,
    opener: Opener,
    patience: Patience,
    clock: Rc<dyn Clock>,
    state: State,
    /// What is wrong, until a good frame comes.
    problem: Option<String>,
    wait: Duration,
    rhythm: Rhythm,
    /// When the last frame came, or the camera was opened.
    heard: Duration,
    /// When a frame last differed from the one before, and how many came since that did not.
    moved: (Duration, u32),
    /// When a frame was last not black, and how many came since that were.
    lit: (Duration, u32),
    /// When all was last well.
    well: Duration,
    /// The last frame's hash.
    last: Option<u64>,
    /// How often a frame since the opening differed from the one before it.
    changes: u64,
    reopened: u64,
}

impl Watched {
    /// Nothing is opened yet. `name` is for people.
    pub fn new(name: String, opener: Opener, patience: Patience, clock: Rc<dyn Clock>) -> Self {
        let now = clock.uptime();
        Self {
            name,
            opener,
            patience,
            clock,
            state: State::Closed { until: now },
            problem: None,
            wait: FIRST_WAIT,
            rhythm: Rhythm::new(patience.silent),
            heard: now,
            moved: (now, 0),
            lit: (now, 0),
            well: now,
            last: None,
            changes: 0,
            reopened: 0,
        }
    }

    /// Closes the camera, tells why, and has it opened again later.
    fn lost(&mut self, now: Duration, why: String) {
        if self.problem.as_ref() != Some(&why) {
            tracing::warn!("the camera `{}`: {why}", self.name);
        }
        self.problem = Some(why);
        self.state = State::Closed { until: now + self.wait };
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    fn open(&mut self, now: Duration) {
        let (send, receive) = channel();
        let opener = self.opener.clone();
        let started = std::thread::Builder::new().name("camera".into()).spawn(move || {
            // Nobody waits any more when the device has stopped.
            let _ = send.send(opener());
        });
        match started {
            Ok(_) => self.state = State::Opening(receive),
            Err(error) => self.lost(now, format!("no thread to open it: {error}")),
        }
    }

    fn opened(&mut self, now: Duration, camera: Box<dyn Camera>) {
        tracing::info!("the camera `{}` is open: {}", self.name, camera.form());
        (self.heard, self.moved, self.lit) = (now, (now, 0), (now, 0));
        (self.last, self.changes) = (None, 0);
        self.rhythm.opened(camera.interval());
        self.state = State::Open(camera);
    }

    /// Looks at a frame that came: it may still be no good.
    fn frame(&mut self, now: Duration, raw: RawFrame) -> Next {
        self.heard = now;
        self.rhythm.frame(now);
        let mut hasher = DefaultHasher::new();
        raw.bytes().hash(&mut hasher);
        let hash = hasher.finish();
        if self.last.replace(hash) == Some(hash) {
            self.moved.1 += 1;
        } else {
            self.moved = (now, 0);
            self.changes += 1;
        }
        let next = Next::of(Ok(raw));
        let Next::Picture { image, .. } = &next else { return next };
        if is_black(image) {
            self.lit.1 += 1;
        } else {
            self.lit = (now, 0);
        }
        let still = self.patience.still;
        if still > Duration::ZERO {
            for ((since, frames), what) in
                [(self.moved, "the picture is frozen"), (self.lit, "the picture is black")]
            {
                if frames >= ALIKE && now.saturating_sub(since) >= still {
                    self.lost(now, what.to_owned());
                    return Next::Waiting;
                }
            }
        }
        // A frozen camera would seem well at each opening: only a second, different picture ends a problem.
        if self.problem.is_none() || self.changes >= 2 || still.is_zero() {
            self.recovered(now);
        }
        next
    }

    fn recovered(&mut self, now: Duration) {
        if self.problem.take().is_some() {
            self.reopened += 1;
            tracing::info!("the camera `{}` is back", self.name);
        }
        self.wait = FIRST_WAIT;
        self.well = now;
    }
}

impl FrameSource for Watched {
    fn next_frame(&mut self) -> Next {
        let now = self.clock.uptime();
        let lasted = now.saturating_sub(self.well);
        let give_up = self.patience.give_up;
        if give_up > Duration::ZERO && lasted >= give_up.max(self.silence()) {
            return Next::Lost(SourceError::GaveUp {
                camera: self.name.clone(),
                seconds: lasted.as_secs(),
                problem: self.problem.clone().unwrap_or_else(|| "it gives no frames".into()),
            });
        }
        match &mut self.state {
            State::Closed { until } => {
                let left = until.saturating_sub(now);
                if left.is_zero() {
                    self.open(now);
                } else {
                    self.clock.pause(left.min(LOOK));
                }
                Next::Waiting
            }
            State::Opening(receive) => {
                match receive.recv_timeout(LOOK) {
                    Ok(Ok(camera)) => self.opened(now, camera),
                    Ok(Err(error)) => self.lost(now, error_chain(&error)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => self.lost(now, "opening it failed".into()),
                }
                Next::Waiting
            }
            State::Open(camera) => match camera.frame(LOOK) {
                Ok(Some(raw)) => {
                    let now = self.clock.uptime();
                    self.frame(now, raw)
                }
                Ok(None) => {
                    let now = self.clock.uptime();
                    let silence = self.rhythm.silence();
                    if now.saturating_sub(self.heard) >= silence {
                        // A connection may be dead without saying so, so it is not waited for any longer.
                        self.rhythm.was_silent();
                        self.lost(now, format!("it has given no frame for {} s", silence.as_secs()));
                    }
                    Next::Waiting
                }
                Err(error) => {
                    self.lost(now, error_chain(&error));
                    Next::Waiting
                }
            },
        }
    }

    fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| format!("the camera `{}`: {problem}", self.name))
    }

    fn silence(&self) -> Duration {
        if self.problem.is_none() { self.rhythm.silence() } else { Duration::ZERO }
    }

    fn reopened(&self) -> u64 {
        self.reopened
    }
}

/// Whether there is next to no light in the picture; a sample of it decides.
fn is_black(image: &RgbImage) -> bool {
    let step = (image.pixels().len() / 4096).max(1) | 1;
    let (sum, count) = image
        .pixels()
        .iter()
        .step_by(step)
        .fold((0_u64, 0_u64), |(sum, count), &value| (sum + u64::from(value), count + 1));
    sum < BLACK * count
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use mynah_testkit::{RED, solid_colour_jpeg};

    use super::*;
    use crate::clock::ManualClock;

    /// What a scripted camera does next.
    #[derive(Clone)]
    enum Act {
        Frame(u64),
        Black(u64),
        Nothing,
        Lose,
    }

    struct Scripted {
        acts: VecDeque<Act>,
        interval: Option<Duration>,
    }

    impl Camera for Scripted {
        fn frame(&mut self, _: Duration) -> Result<Option<RawFrame>, CameraError> {
            match self.acts.pop_front().unwrap_or(Act::Nothing) {
                Act::Frame(seed) => Ok(Some(RawFrame::Jpeg(solid_colour_jpeg(RED, seed)))),
                Act::Black(seed) => {
                    let mut pixels = vec![0; 16 * 16 * 3];
                    pixels[0] = seed as u8;
                    Ok(RgbImage::new(16, 16, pixels).map(RawFrame::Rgb))
                }
                Act::Nothing => Ok(None),
                Act::Lose => Err(CameraError::io("it was unplugged", std::io::Error::from_raw_os_error(19))),
            }
        }

        fn form(&self) -> String {
            "scripted".into()
        }

        fn interval(&self) -> Option<Duration> {
            self.interval
        }
    }

    const PATIENCE: Patience =
        Patience { silent: Duration::from_secs(5), still: Duration::from_secs(10), give_up: Duration::ZERO };

    /// Plays one script per opening, a step a second; `None` = it cannot be opened. Gives what came of it, a
    /// character a step, and what was wrong at the end.
    fn play(patience: Patience, openings: &[Option<&[Act]>], steps: usize) -> (String, Option<String>, u64) {
        play_at(None, patience, openings, steps)
    }

    /// As [`play`], with a camera that promises a frame each `interval`.
    fn play_at(
        interval: Option<Duration>,
        patience: Patience,
        openings: &[Option<&[Act]>],
        steps: usize,
    ) -> (String, Option<String>, u64) {
        let scripts: VecDeque<_> = openings.iter().map(|script| script.map(<[Act]>::to_vec)).collect();
        let scripts = Mutex::new(scripts);
        let opener: Opener = Arc::new(move || match scripts.lock().unwrap().pop_front() {
            Some(Some(acts)) => Ok(Box::new(Scripted { acts: acts.into(), interval }) as Box<dyn Camera>),
            _ => Err(CameraError::new("it is busy")),
        });
        let clock = Rc::new(ManualClock::default());
        let mut watched = Watched::new("test".into(), opener, patience, clock.clone());
        let mut seen = String::new();
        for _ in 0..steps {
            seen.push(match watched.next_frame() {
                Next::Picture { .. } => 'p',
                Next::Waiting => '.',
                Next::Lost(_) => 'X',
                _ => '!',
            });
            if matches!(watched.state, State::Open(_)) {
                clock.advance(Duration::from_secs(1));
            }
        }
        (seen, watched.problem(), watched.reopened())
    }

    #[test]
    fn a_camera_that_was_unplugged_comes_back() {
        let lost = [Act::Frame(1), Act::Frame(2), Act::Lose];
        let again: Vec<_> = (3..60).map(Act::Frame).collect();
        let (seen, problem, reopened) = play(PATIENCE, &[Some(&lost), None, Some(&again)], 40);
        assert!(seen.matches('p').count() >= 4, "{seen}");
        assert_eq!((problem, reopened), (None, 1));
    }

    #[test]
    fn what_is_wrong_is_told_while_it_is() {
        let (_, problem, _) = play(PATIENCE, &[Some(&[Act::Frame(1), Act::Lose])], 4);
        let problem = problem.unwrap();
        assert!(problem.starts_with("the camera `test`: it was unplugged: No such device"), "{problem}");
        let (_, problem, _) = play(PATIENCE, &[None], 3);
        assert_eq!(problem.as_deref(), Some("the camera `test`: it is busy"));
    }

    #[test]
    fn silence_is_noticed() {
        let (seen, problem, _) = play(PATIENCE, &[Some(&[Act::Frame(1)])], 10);
        assert_eq!(seen.matches('p').count(), 1);
        assert_eq!(problem.as_deref(), Some("the camera `test`: it has given no frame for 5 s"));
    }

    #[test]
    fn a_frozen_or_black_picture_is_noticed_and_not_taken_for_well_after_opening() {
        let frozen = vec![Act::Frame(7); 30];
        let (seen, problem, reopened) = play(PATIENCE, &[Some(&frozen), Some(&frozen[..1])], 20);
        assert!(seen.matches('p').count() <= 12, "{seen}");
        assert_eq!((problem.as_deref(), reopened), (Some("the camera `test`: the picture is frozen"), 0));
        let black: Vec<_> = (0..30).map(Act::Black).collect();
        let (_, problem, _) = play(PATIENCE, &[Some(&black)], 14);
        assert_eq!(problem.as_deref(), Some("the camera `test`: the picture is black"));
        let patient = Patience { still: Duration::ZERO, ..PATIENCE };
        assert_eq!(play(patient, &[Some(&frozen)], 20).1, None);
    }

    #[test]
    fn a_camera_that_stays_away_ends_the_device_where_that_is_asked_for() {
        let impatient = Patience { give_up: Duration::from_mins(1), ..PATIENCE };
        let (seen, _, _) = play(impatient, &[], 500);
        assert!(seen.contains('X'), "{seen}");
        // Between two frames of a slow one nothing is given up.
        let view = slow(0, 5, |number| number as u64);
        let (seen, _, _) = play_at(Some(Duration::from_mins(2)), impatient, &[Some(&view)], 250);
        assert_eq!((seen.matches('p').count(), seen.contains('X')), (5, false), "{seen}");
    }

    /// One frame a minute, the first after `wait` seconds.
    fn slow(wait: usize, minutes: usize, seed: impl Fn(usize) -> u64) -> Vec<Act> {
        let minute = |number| [vec![Act::Frame(seed(number))], vec![Act::Nothing; 59]].concat();
        [vec![Act::Nothing; wait], (0..minutes).flat_map(minute).collect()].concat()
    }

    #[test]
    fn one_frame_a_minute_is_neither_silence_nor_frozen() {
        let minute = Some(Duration::from_mins(1));
        let view = slow(0, 30, |number| number as u64);
        let (seen, problem, reopened) = play_at(minute, PATIENCE, &[Some(&view)], 1700);
        assert_eq!((seen.matches('p').count(), problem, reopened), (29, None, 0), "{seen}");
        // Twice the same is no sign of anything; more often is.
        let (seen, problem, _) =
            play_at(minute, PATIENCE, &[Some(&slow(0, 30, |number| number as u64 / 3))], 1700);
        assert_eq!((seen.matches('p').count(), problem), (29, None), "{seen}");
        let (_, problem, _) = play_at(minute, PATIENCE, &[Some(&slow(0, 30, |_| 7))], 185);
        assert_eq!(problem.as_deref(), Some("the camera `test`: the picture is frozen"));
        // Where it was told how slow the camera is, it needs no promise.
        let patient = Patience { silent: Duration::from_mins(3), ..PATIENCE };
        let (seen, problem, reopened) = play(patient, &[Some(&view)], 1700);
        assert_eq!((seen.matches('p').count(), problem, reopened), (29, None, 0), "{seen}");
    }

    #[test]
    fn how_slow_a_camera_is_is_found_out() {
        let view = slow(59, 30, |number| number as u64);
        let (seen, problem, reopened) = play(PATIENCE, &[Some(view.as_slice()); 5], 2000);
        assert_eq!((problem, reopened), (None, 1), "{seen}");
        assert!(seen.matches('p').count() >= 25, "{seen}");
        // A fast one that falls silent is still missed at once.
        let fast: Vec<_> = (0..100).map(Act::Frame).collect();
        let (seen, problem, _) = play(PATIENCE, &[Some(&fast)], 108);
        assert_eq!(problem.as_deref(), Some("the camera `test`: it has given no frame for 5 s"), "{seen}");
    }
}
