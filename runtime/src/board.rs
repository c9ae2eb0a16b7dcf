//! What the device shows to whoever asks: its last picture, what it made of it, its words, its health.
//!
//! The frame loop puts it up and never waits; servers read it at their own pace and see the newest only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mynah_contracts::{DeviceStatus, Sighting};
use mynah_model::ModelPackage;
use mynah_photo::{RgbImage, encode_jpeg};
use tokio::sync::watch;

/// How many words are remembered.
const WORDS: usize = 12;

/// How well pictures are shown that did not come as JPEG.
const QUALITY: u8 = 80;

/// The upper bounds of the histogram of inference times, in seconds.
pub(crate) const BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Over how many frames the rate is averaged.
const RATE_WEIGHT: f64 = 0.1;

/// A picture that can be shown.
pub(crate) struct Picture {
    image: RgbImage,
    jpeg: OnceLock<Option<Vec<u8>>>,
}

impl Picture {
    pub(crate) fn new(image: RgbImage, jpeg: Option<Vec<u8>>) -> Self {
        let cell = OnceLock::new();
        if jpeg.is_some() {
            let _ = cell.set(jpeg);
        }
        Self { image, jpeg: cell }
    }

    /// Its pixels.
    pub(crate) fn image(&self) -> &RgbImage {
        &self.image
    }

    /// As JPEG, made when first asked for; `None` where it cannot be one.
    pub(crate) fn jpeg(&self) -> Option<&[u8]> {
        self.jpeg.get_or_init(|| encode_jpeg(&self.image, QUALITY).ok()).as_deref()
    }
}

/// Words that were said.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub(crate) struct Word {
    /// RFC 3339.
    pub(crate) time: String,
    pub(crate) text: String,
}

/// Everything there is to see of one moment.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) status: DeviceStatus,
    /// One per label of the model.
    pub(crate) probabilities: Vec<f32>,
    pub(crate) sighting: Option<Sighting>,
    pub(crate) words: VecDeque<Word>,
    /// Frames per second, averaged.
    pub(crate) fps: f64,
    /// How often the camera was lost and came back.
    pub(crate) reopened: u64,
    /// How long its source may give nothing while all is well.
    pub(crate) silence: Duration,
    /// Whether words can be heard.
    pub(crate) audible: bool,
    /// Whether the hub is connected, how many messages wait for it, and how many were dropped for room.
    pub(crate) hub: Option<(bool, u64, u64)>,
    pub(crate) picture: Option<Arc<Picture>>,
}

/// How long inferences took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Histogram {
    pub(crate) buckets: [u64; BOUNDS.len()],
    pub(crate) count: u64,
    /// Seconds.
    pub(crate) sum: f64,
}

/// The board.
pub struct Board {
    started: Instant,
    view: watch::Sender<Arc<View>>,
    model: RwLock<Option<Arc<ModelPackage>>>,
    inference: Mutex<Histogram>,
    /// Milliseconds since the start: when the frame loop last came by, and when the last frame did.
    alive: AtomicU64,
    seen: AtomicU64,
}

impl Board {
    /// Shows a status and nothing else yet.
    pub(crate) fn new(status: DeviceStatus) -> Self {
        let view = View {
            status,
            probabilities: Vec::new(),
            sighting: None,
            words: VecDeque::new(),
            fps: 0.0,
            reopened: 0,
            silence: Duration::ZERO,
            audible: false,
            hub: None,
            picture: None,
        };
        Self {
            started: Instant::now(),
            view: watch::channel(Arc::new(view)).0,
            model: RwLock::new(None),
            inference: Mutex::default(),
            alive: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The frame loop is alive.
    pub(crate) fn beat(&self) {
        self.alive.store(self.now(), Ordering::Relaxed);
    }

    /// How long ago the frame loop was alive.
    pub(crate) fn since_beat(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.alive.load(Ordering::Relaxed)))
    }

    /// How long ago a frame was looked at; `None` = none was.
    pub(crate) fn since_frame(&self) -> Option<Duration> {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen > 0).then(|| Duration::from_millis(self.now().saturating_sub(seen)))
    }

    /// Changes what is shown.
    pub(crate) fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    /// A frame was looked at: counts for the rate.
    pub(crate) fn frame(&self) {
        let now = self.now().max(1);
        let before = self.seen.swap(now, Ordering::Relaxed);
        if before > 0 {
            let rate = 1000.0 / (now - before.min(now)).max(1) as f64;
            self.change(|view| {
                view.fps = if view.fps > 0.0 { view.fps + RATE_WEIGHT * (rate - view.fps) } else { rate };
            });
        }
    }

    /// Words were said.
    pub(crate) fn say(&self, word: Word) {
        self.change(|view| {
            view.words.push_front(word);
            view.words.truncate(WORDS);
        });
    }

    /// An inference took this long.
    pub(crate) fn inferred(&self, length: Duration) {
        let seconds = length.as_secs_f64();
        let mut histogram = self.inference.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub(crate) fn inference(&self) -> Histogram {
        *self.inference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model in use.
    pub(crate) fn model(&self) -> Option<Arc<ModelPackage>> {
        self.model.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_model(&self, model: Arc<ModelPackage>) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Some(model);
    }

    /// What is shown now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// What is shown, again whenever it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use mynah_contracts::{DeviceState, SchemaVersion};

    use super::*;

    pub(crate) fn status() -> DeviceStatus {
        DeviceStatus {
            schema_version: SchemaVersion::CURRENT,
            version: "1".into(),
            state: DeviceState::Running,
            model: None,
            frames: 0,
            unreadable_frames: 0,
            utterances: 0,
            speaker: None,
            problem: None,
            updated: String::new(),
        }
    }

    #[test]
    fn the_newest_is_shown_and_words_are_bounded() {
        let board = Board::new(status());
        assert_eq!(board.since_frame(), None);
        for number in 0..30 {
            board.say(Word { time: String::new(), text: number.to_string() });
            board.frame();
        }
        let view = board.view();
        assert_eq!((view.words.len(), view.words[0].text.as_str()), (WORDS, "29"));
        assert!(view.fps > 0.0 && board.since_frame().is_some());
    }

    #[test]
    fn times_are_counted_in_growing_buckets() {
        let board = Board::new(status());
        for millis in [1, 30, 30, 9000] {
            board.inferred(Duration::from_millis(millis));
        }
        let histogram = board.inference();
        assert_eq!((histogram.count, histogram.buckets), (4, [1, 1, 1, 3, 3, 3, 3, 3, 3]));
    }

    #[test]
    fn a_picture_becomes_a_jpeg_when_asked_for() {
        let image = RgbImage::new(16, 16, vec![200; 768]).unwrap();
        assert!(Picture::new(image.clone(), None).jpeg().unwrap().starts_with(&[0xFF, 0xD8]));
        assert_eq!(Picture::new(image, Some(vec![1, 2])).jpeg(), Some(&[1, 2][..]));
    }
}
