//! A speaker that writes what is said as WAV files: `001-red-apple.wav`, `002-banana.wav`, …

use std::io::Write as _;
use std::path::{Path, PathBuf};

use mynah_contracts::Label;

use super::{Speaker, SpeakerError, Utterance};
use crate::replace::replace_file;

/// The longest part of a label that goes into a file name, in bytes; names may have 255.
const MAX_NAME_BYTES: usize = 150;

/// A folder with one WAV file per utterance, numbered in the order they were said.
///
/// A file of the same name from an earlier run is replaced; other files are left alone.
pub struct WavFolder {
    folder: PathBuf,
}

impl WavFolder {
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> Result<Self, SpeakerError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| SpeakerError::Folder { folder: folder.to_path_buf(), source })?;
        Ok(Self { folder: folder.to_path_buf() })
    }
}

impl Speaker for WavFolder {
    fn say(&mut self, utterance: Utterance<'_>) -> Result<(), SpeakerError> {
        let bytes = utterance.clip.bytes()?;
        let path = self.folder.join(file_name(utterance.number, utterance.label));
        replace_file(&path, |file| file.write_all(&bytes))
            .map_err(|source| SpeakerError::Write { path, source })
    }

    fn problem(&self) -> Option<String> {
        // What goes wrong here goes wrong in `say`, which returns it.
        None
    }

    fn is_busy(&self) -> bool {
        // What was said is written.
        false
    }

    fn finish(&mut self) {}
}

/// A name that is safe on any file system and still reads like the label.
fn file_name(number: u64, label: &Label) -> String {
    let mut name = String::new();
    for c in label.as_str().chars() {
        let safe = if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
        if name.len() + safe.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        name.push(safe);
    }
    format!("{number:03}-{name}.wav")
}

#[cfg(test)]
mod tests {
    use mynah_testkit::{tiny_labels, tiny_speech};
    use proptest::prelude::*;

    use super::*;
    use crate::speech::Clips;

    #[test]
    fn each_utterance_becomes_a_file() {
        let temporary = tempfile::tempdir().unwrap();
        let (speech, out) = (temporary.path().join("speech"), temporary.path().join("deep/out"));
        tiny_speech(&speech, &tiny_labels()).unwrap();
        let (clips, _) = Clips::open(&speech, &tiny_labels()).unwrap();
        let mut speaker = WavFolder::open(&out).unwrap();
        for (number, label) in [(1, 0), (2, 1), (3, 0)] {
            let clip = clips.get(label).unwrap();
            speaker.say(Utterance { number, label: &tiny_labels()[label], clip }).unwrap();
        }
        speaker.finish();
        let mut names: Vec<_> = std::fs::read_dir(&out)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["001-red.wav", "002-green.wav", "003-red.wav"]);
        assert_eq!(std::fs::read(out.join("002-green.wav")).unwrap(), clips.get(1).unwrap().bytes().unwrap());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_bad_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(WavFolder::open(&file.path().join("x")), Err(SpeakerError::Folder { .. })));
    }

    proptest! {
        #[test]
        fn names_are_safe(text in ".{1,100}") {
            if let Ok(label) = text.parse::<Label>() {
                let name = file_name(7, &label);
                prop_assert!(name.len() < 200 && name.starts_with("007-"));
                prop_assert_eq!(Path::new(&name).extension().unwrap(), "wav");
                prop_assert!(!name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', ' ']));
            }
        }
    }
}
