//! A speaker on a thread of its own: at most one clip plays, the newest waits, an older one that waited gives way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Speaker, SpeakerError, Utterance};
use crate::speech::Clip;

/// A word that has waited longer is no longer true.
const STALE: Duration = Duration::from_secs(2);

/// How often a player that cannot play is asked whether it can again.
const RETRY: Duration = Duration::from_secs(5);

/// What plays a clip.
pub(super) trait Player: Send {
    /// Makes ready; asked for at the start, and again while there is a problem.
    ///
    /// # Errors
    /// Says why nothing can be heard.
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Plays the clip to its end.
    ///
    /// # Errors
    /// Says why it was not heard.
    fn play(&mut self, clip: &Clip) -> Result<(), String>;
}

/// A player with its thread.
pub(super) struct QueueSpeaker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What the frame loop and the player share.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    playing: bool,
    closed: bool,
    /// Why the last clip was not heard.
    unheard: Option<String>,
    /// Why nothing can be heard.
    unready: Option<String>,
}

struct Waiting {
    clip: Clip,
    since: Instant,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a clip, an end, or, while there is a problem, for the time to try again.
    fn wait(&self) -> (Option<Waiting>, bool) {
        let idle = |state: &mut State| state.waiting.is_none() && !state.closed;
        let mut state = self.lock();
        state = if state.unready.is_some() {
            self.changed.wait_timeout_while(state, RETRY, idle).unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
        };
        state.playing = state.waiting.is_some();
        (state.waiting.take(), state.closed)
    }
}

impl QueueSpeaker {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) fn start(player: impl Player + 'static) -> Result<Self, SpeakerError> {
        let desk = Arc::new(Desk::default());
        let shared = desk.clone();
        let thread = std::thread::Builder::new()
            .name("speaker".into())
            .spawn(move || serve(player, &shared))
            .map_err(SpeakerError::Start)?;
        Ok(Self { desk, thread: Some(thread) })
    }
}

fn serve(mut player: impl Player, desk: &Desk) {
    loop {
        let unready = player.prepare().err();
        let changed = {
            let mut state = desk.lock();
            let changed = state.unready != unready;
            state.unready.clone_from(&unready);
            changed
        };
        match &unready {
            Some(problem) if changed => tracing::warn!("words are not heard: {problem}"),
            None if changed => tracing::info!("words are heard again"),
            _ => {}
        }
        let (waiting, closed) = desk.wait();
        let Some(waiting) = waiting else {
            if closed {
                return;
            }
            continue;
        };
        if waiting.since.elapsed() > STALE {
            tracing::warn!("unsaid, since it waited too long: {}", waiting.clip.text);
            desk.lock().playing = false;
            continue;
        }
        let unheard = player.play(&waiting.clip).err();
        if let Some(problem) = &unheard {
            tracing::warn!("cannot play `{}`: {problem}", waiting.clip.path.display());
        }
        let mut state = desk.lock();
        (state.unheard, state.playing) = (unheard, false);
    }
}

impl Speaker for QueueSpeaker {
    fn say(&mut self, utterance: Utterance<'_>) -> Result<(), SpeakerError> {
        let newest = Waiting { clip: utterance.clip.clone(), since: Instant::now() };
        if let Some(older) = self.desk.lock().waiting.replace(newest) {
            tracing::warn!("unsaid, since something newer is to be said: {}", older.clip.text);
        }
        self.desk.changed.notify_all();
        Ok(())
    }

    fn problem(&self) -> Option<String> {
        let state = self.desk.lock();
        state.unready.clone().or_else(|| state.unheard.clone())
    }

    fn is_busy(&self) -> bool {
        let state = self.desk.lock();
        state.playing || state.waiting.is_some()
    }

    fn finish(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the speaker's thread ended with a panic");
        }
    }
}

impl Drop for QueueSpeaker {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// Is ready when told to be.
    struct Shy {
        ready: Arc<AtomicBool>,
        asked: Arc<AtomicUsize>,
    }

    impl Player for Shy {
        fn prepare(&mut self) -> Result<(), String> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.ready.load(Ordering::SeqCst) { Ok(()) } else { Err("no card".into()) }
        }

        fn play(&mut self, _: &Clip) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_player_that_is_not_ready_is_a_problem_from_the_start() {
        let (ready, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut speaker = QueueSpeaker::start(Shy { ready: ready.clone(), asked: asked.clone() }).unwrap();
        while speaker.problem().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(speaker.problem().as_deref(), Some("no card"));
        ready.store(true, Ordering::SeqCst);
        while speaker.problem().is_some() {
            std::thread::sleep(Duration::from_millis(20));
        }
        speaker.finish();
        assert!(asked.load(Ordering::SeqCst) >= 2);
    }
}
