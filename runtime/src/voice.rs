//! From a decision to words: the label's clip to the speaker where both are there, the printed word in any case.

use mynah_contracts::{Label, error_chain};

use crate::speaker::{Speaker, Utterance};
use crate::speech::Clips;

/// The labels, their clips and the speaker, if any.
pub(crate) struct Voice {
    labels: Vec<Label>,
    clips: Clips,
    speaker: Option<Box<dyn Speaker>>,
    /// How many words have been said.
    said: u64,
    /// Whether it was told how to get a voice.
    hinted: bool,
    /// Why the last utterance was not heard.
    problem: Option<String>,
}

impl Voice {
    pub(crate) fn new(labels: Vec<Label>, clips: Clips, speaker: Option<Box<dyn Speaker>>) -> Self {
        Self { labels, clips, speaker, said: 0, hinted: false, problem: None }
    }

    /// Speaks for another model from now on.
    pub(crate) fn change(&mut self, labels: Vec<Label>, clips: Clips) {
        (self.labels, self.clips) = (labels, clips);
    }

    /// Whether any label can be heard.
    pub(crate) fn is_audible(&self) -> bool {
        self.speaker.is_some() && (0..self.labels.len()).any(|label| self.clips.get(label).is_some())
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
        let name = self.labels.get(label)?;
        self.said += 1;
        let clip = self.clips.get(label);
        let words = clip.map_or_else(|| name.spoken(), |clip| clip.text.clone());
        tracing::info!("says: {words}");
        if quiet {
            return Some(words);
        }
        match (&mut self.speaker, clip) {
            (Some(speaker), Some(clip)) => {
                let heard = speaker.say(Utterance { number: self.said, label: name, clip });
                self.problem = heard.err().map(|error| error_chain(&error));
                if let Some(problem) = &self.problem {
                    tracing::warn!("`{name}` was not heard: {problem}");
                }
            }
            (speaker, _) if !self.hinted => {
                self.hinted = true;
                tracing::info!("{}", hint(speaker.is_some()));
            }
            _ => {}
        }
        Some(words)
    }

    /// Says what is still waiting.
    pub(crate) fn finish(&mut self) {
        if let Some(speaker) = &mut self.speaker {
            speaker.finish();
        }
    }
}

/// How to get a voice, in one line.
const fn hint(has_speaker: bool) -> &'static str {
    if has_speaker {
        "to hear it: install espeak-ng, build the modules again and give their clips with --speech DIR"
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

        fn finish(&mut self) {}
    }

    #[test]
    fn only_labels_with_a_clip_are_heard_but_all_are_said() {
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()[..2]).unwrap();
        let clips = Clips::open(folder.path(), &tiny_labels()).unwrap().0;
        let notes = Rc::new(RefCell::new(Vec::new()));
        let mut voice = Voice::new(tiny_labels().to_vec(), clips, Some(Box::new(Notes(notes.clone()))));
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
        let mut voice = Voice::new(tiny_labels().to_vec(), clips, Some(Box::new(Notes(Rc::default()))));
        voice.say(1, false);
        assert_eq!(voice.problem().as_deref(), Some("the speaker's program `x` is not installed"));
    }
}
