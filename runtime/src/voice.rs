//! From a decision to words: the label's clip to the speaker where both are there, the printed word in any case.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mynah_contracts::{Label, SpeechMap, error_chain};

use crate::speaker::{Speaker, Utterance};
use crate::speech::{Clip, Clips, Maker, Order};

/// A word whose clip comes later is no longer true.
const LATE: Duration = Duration::from_secs(2);

/// How long the last words are waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The labels, their clips and the speaker, if any.
pub(crate) struct Voice {
    labels: Vec<Label>,
    /// Made before the device was deployed.
    clips: Clips,
    /// Made on the device.
    made: Vec<Option<Clip>>,
    maker: Option<Maker>,
    /// The language, if it is another than the clips'.
    map: Option<SpeechMap>,
    speaker: Option<Box<dyn Speaker>>,
    /// What was said while its clip was still being made.
    late: VecDeque<Late>,
    /// How many words have been said.
    said: u64,
    /// Whether it was told how to get a voice.
    hinted: bool,
    /// Why the last utterance was not heard.
    problem: Option<String>,
}

struct Late {
    label: usize,
    number: u64,
    since: Instant,
}

impl Voice {
    pub(crate) fn new(
        labels: Vec<Label>,
        clips: Clips,
        map: Option<SpeechMap>,
        speaker: Option<Box<dyn Speaker>>,
        maker: Option<Maker>,
    ) -> Self {
        let mut voice = Self {
            labels: Vec::new(),
            clips: Clips::none(),
            made: Vec::new(),
            // Without a speaker nobody would hear what is made.
            maker: maker.filter(|_| speaker.is_some()),
            map,
            speaker,
            late: VecDeque::new(),
            said: 0,
            hinted: false,
            problem: None,
        };
        voice.change(labels, clips);
        voice
    }

    /// Speaks for another model from now on.
    pub(crate) fn change(&mut self, labels: Vec<Label>, clips: Clips) {
        (self.labels, self.clips) = (labels, clips);
        self.make_what_lacks();
    }

    /// Speaks another language from now on.
    pub(crate) fn speak(&mut self, map: Option<SpeechMap>) {
        self.map = map;
        self.make_what_lacks();
    }

    fn make_what_lacks(&mut self) {
        self.made = vec![None; self.labels.len()];
        self.late.clear();
        if let Some(maker) = &self.maker {
            let lacking = (0..self.labels.len()).filter(|&label| self.clip(label).is_none());
            maker.order_all(lacking.filter_map(|label| self.order(label)));
        }
    }

    /// What is said for a label.
    fn words(&self, label: usize) -> Option<String> {
        let name = self.labels.get(label)?;
        Some(match &self.map {
            Some(map) => map.sentence(name),
            None => self.clips.get(label).map_or_else(|| name.spoken(), |clip| clip.text.clone()),
        })
    }

    /// The clip of what is said for a label.
    fn clip(&self, label: usize) -> Option<&Clip> {
        let words = self.words(label)?;
        let before = self.clips.get(label).filter(|clip| clip.text == words);
        before.or_else(|| self.made.get(label)?.as_ref())
    }

    fn order(&self, label: usize) -> Option<Order> {
        let words = self.words(label)?;
        let voice = self.map.as_ref().and_then(|map| map.voice.clone());
        let language = self.map.as_ref().and_then(|map| map.language.clone());
        Some(Order { label, words, voice, language })
    }

    /// Whether any label can be heard.
    pub(crate) fn is_audible(&self) -> bool {
        self.speaker.is_some()
            && (self.maker.is_some() || (0..self.labels.len()).any(|label| self.clip(label).is_some()))
    }

    /// How many words have been said.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// What keeps words from being heard at present.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.clone().or_else(|| self.speaker.as_ref()?.problem())
    }

    /// Says the label at this position and returns the words; without a voice, or while it is to be quiet, they are
    /// printed only.
    pub(crate) fn say(&mut self, label: usize, quiet: bool) -> Option<String> {
        let words = self.words(label)?;
        self.said += 1;
        tracing::info!("says: {words}");
        if quiet {
            return Some(words);
        }
        let late = Late { label, number: self.said, since: Instant::now() };
        let lacking = self.clip(label).is_none();
        match (&self.maker, self.order(label)) {
            (Some(maker), Some(order)) if lacking => {
                maker.order_first(order);
                self.late.push_back(late);
            }
            _ if lacking || self.speaker.is_none() => self.hint(),
            _ => self.utter(&late),
        }
        Some(words)
    }

    fn utter(&mut self, late: &Late) {
        let clip = self.clip(late.label).cloned();
        let (Some(speaker), Some(clip), Some(name)) = (&mut self.speaker, clip, self.labels.get(late.label))
        else {
            return;
        };
        let heard = speaker.say(Utterance { number: late.number, label: name, clip: &clip });
        self.problem = heard.err().map(|error| error_chain(&error));
        if let Some(problem) = &self.problem {
            tracing::warn!("`{name}` was not heard: {problem}");
        }
    }

    fn hint(&mut self) {
        if !self.hinted {
            self.hinted = true;
            tracing::info!("{}", hint(self.speaker.is_some()));
        }
    }

    /// Takes over clips that were made, and says what waited for them.
    pub(crate) fn attend(&mut self) {
        self.take_made(Duration::ZERO);
        self.say_late();
    }

    /// Takes over what was made, waiting for the first up to `wait`.
    fn take_made(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some((order, made)) = self.maker.as_ref().and_then(|maker| maker.made(wait)) {
            wait = Duration::ZERO;
            // It may be of another model or language.
            if self.order(order.label).as_ref() != Some(&order) {
                continue;
            }
            match made {
                Ok(clip) => {
                    if let Some(place) = self.made.get_mut(order.label) {
                        *place = Some(clip);
                    }
                    self.problem = None;
                }
                Err(why) => {
                    let problem = format!("no clip can be made of `{}`: {why}", order.words);
                    if self.problem.as_ref() != Some(&problem) {
                        tracing::warn!("{problem}");
                    }
                    self.problem = Some(problem);
                    self.late.retain(|late| late.label != order.label);
                }
            }
        }
    }

    fn say_late(&mut self) {
        while let Some(late) = self.late.front() {
            if self.clip(late.label).is_none() && late.since.elapsed() <= LATE {
                return;
            }
            let Some(late) = self.late.pop_front() else { return };
            if self.clip(late.label).is_some() {
                self.utter(&late);
            } else if let Some(words) = self.words(late.label) {
                tracing::warn!("unsaid, since its clip took too long: {words}");
            }
        }
    }

    /// Whether something is being said, or waits to be.
    pub(crate) fn is_speaking(&self) -> bool {
        !self.late.is_empty() || self.speaker.as_ref().is_some_and(|speaker| speaker.is_busy())
    }

    /// Says what is still waiting.
    pub(crate) fn finish(&mut self) {
        let started = Instant::now();
        while !self.late.is_empty() && started.elapsed() < LAST_WORDS {
            self.take_made(Duration::from_millis(50));
            self.say_late();
        }
        if let Some(speaker) = &mut self.speaker {
            speaker.finish();
        }
    }
}

/// How to get a voice, in one line.
const fn hint(has_speaker: bool) -> &'static str {
    if has_speaker {
        "to hear it: install espeak-ng, or give the clips that build-modules made with --speech DIR"
    } else {
        "to hear it: give clips with --speech DIR and a speaker, --speaker wav:DIR or --speaker 'command:aplay -q'"
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use mynah_testkit::{tiny_labels, tiny_speech};

    use super::*;
    use crate::speaker::SpeakerError;

    /// Notes what it is asked to say; fails for `green`.
    struct Notes(Rc<RefCell<Vec<String>>>);

    impl Speaker for Notes {
        fn say(&mut self, utterance: Utterance<'_>) -> Result<(), SpeakerError> {
            self.0.borrow_mut().push(format!("{} {}", utterance.number, utterance.label));
            if utterance.label.as_str() == "green" {
                return Err(SpeakerError::NoProgram { program: "x".into() });
            }
            Ok(())
        }

        fn problem(&self) -> Option<String> {
            None
        }

        fn is_busy(&self) -> bool {
            false
        }

        fn finish(&mut self) {}
    }

    #[test]
    fn only_labels_with_a_clip_are_heard_but_all_are_said() {
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()[..2]).unwrap();
        let clips = Clips::open(folder.path(), &tiny_labels()).unwrap().0;
        let notes = Rc::new(RefCell::new(Vec::new()));
        let mut voice =
            Voice::new(tiny_labels().to_vec(), clips, None, Some(Box::new(Notes(notes.clone()))), None);
        assert!(voice.is_audible());
        let said: Vec<_> = [0, 2, 1, 0, 9].into_iter().map(|label| voice.say(label, false)).collect();
        assert_eq!(said.iter().flatten().collect::<Vec<_>>(), ["red", "blue", "green", "red"]);
        assert_eq!(*notes.borrow(), ["1 red", "3 green", "4 red"]);
        assert_eq!((voice.said(), voice.problem()), (4, None));
        assert_eq!(voice.say(0, true).as_deref(), Some("red"));
        assert_eq!((voice.said(), notes.borrow().len()), (5, 3), "quiet: not heard");
    }

    #[test]
    fn a_speaker_that_fails_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()).unwrap();
        let clips = Clips::open(folder.path(), &tiny_labels()).unwrap().0;
        let mut voice =
            Voice::new(tiny_labels().to_vec(), clips, None, Some(Box::new(Notes(Rc::default()))), None);
        voice.say(1, false);
        assert_eq!(voice.problem().as_deref(), Some("the speaker's program `x` is not installed"));
    }

    #[test]
    fn another_language_is_spoken_by_an_engine_until_it_is_taken_back() {
        use crate::secret::Secret;
        use crate::speech::Engine;
        let service = mynah_testkit::speech::SpeechService::default();
        let served = service.start(0).unwrap();
        let url = format!("{}/cognitiveservices/v1", served.url());
        let key = Secret::new(mynah_testkit::speech::SpeechService::KEY);
        let maker = Maker::start(Engine::Azure { url, key }, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()).unwrap();
        let clips = Clips::open(folder.path(), &tiny_labels()).unwrap().0;
        let notes = Rc::new(RefCell::new(Vec::new()));
        let speaker: Box<dyn Speaker> = Box::new(Notes(notes.clone()));
        let mut voice = Voice::new(tiny_labels().to_vec(), clips, None, Some(speaker), Some(maker));
        assert_eq!(voice.say(0, false).as_deref(), Some("red"));
        let german = br#"{"voice": "de-DE-KatjaNeural", "map": [{"key": "red", "value": "das ist rot"}]}"#;
        voice.speak(Some(SpeechMap::parse(german).unwrap()));
        assert_eq!(voice.say(0, false).as_deref(), Some("das ist rot"));
        // Its clip is still being made; the last words are waited for.
        assert!(voice.is_speaking());
        voice.finish();
        assert_eq!(*notes.borrow(), ["1 red", "2 red"]);
        assert_eq!(service.spoken()[0], ("de-DE-KatjaNeural".into(), "das ist rot".into()));
        voice.speak(None);
        assert_eq!(voice.say(0, false).as_deref(), Some("red"));
        assert_eq!(voice.problem(), None);
    }
}
