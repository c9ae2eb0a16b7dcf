//! Makes clips on a thread of its own and keeps them: what was made once is there after a restart, also without network.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mynah_contracts::{Sha256Digest, error_chain};

use super::clips::check;
use super::{Clip, Engine};
use crate::replace::replace_file;

/// A clip that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// Whose it is: a position in the labels, told back with the clip.
    pub(crate) label: usize,
    /// What is to be said.
    pub(crate) words: String,
    pub(crate) voice: Option<String>,
    pub(crate) language: Option<String>,
}

/// What became of an order: its clip, or why there is none.
pub(crate) type Made = (Order, Result<Clip, String>);

/// The thread's front.
pub(crate) struct Maker {
    desk: Arc<Desk>,
    made: Receiver<Made>,
}

#[derive(Default)]
struct Desk {
    orders: Mutex<(VecDeque<Order>, bool)>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Order>, bool)> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order; `None` when nobody wants any more.
    fn next(&self) -> Option<Order> {
        let idle = |state: &mut (VecDeque<Order>, bool)| state.0.is_empty() && !state.1;
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        state.0.pop_front().filter(|_| !state.1)
    }
}

impl Maker {
    /// Starts the thread. Clips are kept in `cache`, or until the device ends.
    ///
    /// # Errors
    /// No thread or no folder is to be had.
    pub(crate) fn start(engine: Engine, cache: Option<&Path>) -> std::io::Result<Self> {
        let (folder, temporary) = if let Some(folder) = cache {
            std::fs::create_dir_all(folder)?;
            (folder.to_owned(), None)
        } else {
            let temporary = tempfile::tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        };
        let desk = Arc::new(Desk::default());
        let (send, made) = channel();
        let shared = desk.clone();
        std::thread::Builder::new().name("words".into()).spawn(move || {
            serve(&engine, &folder, &shared, &send);
            drop(temporary);
        })?;
        Ok(Self { desk, made })
    }

    /// Forgets what was ordered and orders these.
    pub(crate) fn order_all(&self, orders: impl IntoIterator<Item = Order>) {
        self.desk.lock().0 = orders.into_iter().collect();
        self.desk.changed.notify_all();
    }

    /// Orders one before all others.
    pub(crate) fn order_first(&self, order: Order) {
        let mut state = self.desk.lock();
        state.0.retain(|other| *other != order);
        state.0.push_front(order);
        self.desk.changed.notify_all();
    }

    /// The next that is done, waiting for it up to `wait`.
    pub(crate) fn made(&self, wait: Duration) -> Option<Made> {
        self.made.recv_timeout(wait).ok()
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // A program that is speaking is not waited for.
        self.desk.lock().1 = true;
        self.desk.changed.notify_all();
    }
}

fn serve(engine: &Engine, folder: &Path, desk: &Desk, send: &Sender<Made>) {
    while let Some(order) = desk.next() {
        let made = make(engine, folder, &order);
        if send.send((order, made)).is_err() {
            return;
        }
    }
}

/// The clip from the folder, or made now and kept there.
fn make(engine: &Engine, folder: &Path, order: &Order) -> Result<Clip, String> {
    let place = place(engine, folder, order);
    if let Ok(bytes) = std::fs::read(&place)
        && let Ok(clip) = clip(&bytes, &place, order)
    {
        return Ok(clip);
    }
    let spoken = engine.speak(&order.words, order.voice.as_deref(), order.language.as_deref());
    let bytes = spoken.map_err(|error| error_chain(&error))?;
    let clip = clip(&bytes, &place, order)?;
    replace_file(&place, |file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .map_err(|error| format!("cannot keep the clip `{}`: {error}", place.display()))?;
    Ok(clip)
}

fn clip(bytes: &[u8], place: &Path, order: &Order) -> Result<Clip, String> {
    let length = check(bytes, place).map_err(|error| error_chain(&error))?;
    let sha256 = Sha256Digest::of(bytes);
    Ok(Clip { text: order.words.clone(), path: place.to_owned(), sha256, length })
}

/// Where a clip is kept: its name is everything that makes it differ from others.
fn place(engine: &Engine, folder: &Path, order: &Order) -> PathBuf {
    let Order { words, voice, language, .. } = order;
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let all = [engine.name(), text(voice), text(language), words.clone()].join("\0");
    folder.join(format!("{}.wav", Sha256Digest::of(all.as_bytes()).hex()))
}

#[cfg(test)]
mod tests {
    use mynah_testkit::speech::SpeechService;

    use super::*;
    use crate::secret::Secret;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn order(words: &str) -> Order {
        let voice = Some("de-DE-KatjaNeural".to_owned());
        Order { label: 3, words: words.to_owned(), voice, language: None }
    }

    fn azure(url: &str, key: &str) -> Engine {
        Engine::Azure { url: format!("{url}/cognitiveservices/v1"), key: Secret::new(key) }
    }

    #[test]
    fn what_azure_spoke_once_is_there_after_a_restart_without_a_network() {
        let cache = tempfile::tempdir().unwrap();
        let service = SpeechService::default();
        let served = service.start(0).unwrap();
        let url = served.url();
        let maker = Maker::start(azure(&url, SpeechService::KEY), Some(cache.path())).unwrap();
        maker.order_all([order("ein Apfel"), order("eine Birne")]);
        let first = maker.made(PATIENCE).unwrap();
        assert_eq!((first.0.label, first.0.words.as_str()), (3, "ein Apfel"));
        assert!(maker.made(PATIENCE).unwrap().1.is_ok());
        assert_eq!(service.spoken()[0], ("de-DE-KatjaNeural".into(), "ein Apfel".into()));
        assert_eq!(service.wire.violations(), Vec::<String>::new());
        drop((maker, served));

        let again = Maker::start(azure(&url, SpeechService::KEY), Some(cache.path())).unwrap();
        again.order_all([order("ein Apfel")]);
        let clip = again.made(PATIENCE).unwrap().1.unwrap();
        assert_eq!(Ok(&clip), first.1.as_ref());
        assert!(clip.bytes().unwrap().starts_with(b"RIFF"));
        again.order_all([order("neu")]);
        let error = again.made(PATIENCE).unwrap().1.unwrap_err();
        assert!(error.contains("Azure Speech does not speak"), "{error}");
    }

    #[test]
    fn a_clip_that_was_damaged_is_made_again_and_a_refusal_holds_no_key() {
        let cache = tempfile::tempdir().unwrap();
        let service = SpeechService::default();
        let served = service.start(0).unwrap();
        let good = azure(&served.url(), SpeechService::KEY);
        std::fs::write(place(&good, cache.path(), &order("x")), "RIFF").unwrap();
        assert!(make(&good, cache.path(), &order("x")).is_ok());
        assert_eq!(service.spoken().len(), 1);
        let error = make(&azure(&served.url(), "another-key-9411"), cache.path(), &order("y")).unwrap_err();
        assert!(error.contains("401") && !error.contains("9411"), "{error}");
    }

    #[test]
    fn a_program_speaks_and_one_that_fails_is_told() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        mynah_testkit::tiny_speech(&folder.path().join("speech"), &mynah_testkit::tiny_labels()).unwrap();
        let program = folder.path().join("piper");
        let model = folder.path().join("voice.onnx");
        let script = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let piper = Engine::Piper { program: program.clone(), model };
        // It is asked as Piper is: the model, the file, the words on standard input.
        script(&format!(
            "[ \"$1 $3\" = '-m -f' ] && [ \"$(cat)\" = '-x' ] && cp {}/speech/clips/0.wav \"$4\"",
            folder.path().display()
        ));
        assert_eq!(make(&piper, folder.path(), &order("-x")).unwrap().text, "-x");
        script("echo 'no such voice' >&2; exit 3");
        let error = make(&piper, folder.path(), &order("y")).unwrap_err();
        assert!(error.contains("exit status: 3: no such voice"), "{error}");
        script("exit 0");
        assert!(make(&piper, folder.path(), &order("y")).unwrap_err().contains("cannot run"));
    }
}
