//! What is said for each label: a speech map, a JSON file with a voice, a sentence per label and one for the rest.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Label;

/// What stands for the label in the sentence for labels that have none of their own.
const PLACEHOLDER: &str = "{label}";

/// The longest sentence, in characters: about a minute and a half of speech.
const MAX_CHARS: usize = 1000;

/// Why bytes are no speech map.
#[derive(Debug, thiserror::Error)]
pub enum SpeechMapProblem {
    /// They are not of its form.
    #[error("it is no speech map")]
    Form(#[source] serde_json::Error),
    /// What it says cannot be; completes the sentence "the speech map …".
    #[error("it {0}")]
    Content(String),
}

/// What is said, and in which voice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpeechMap {
    /// The voice, such as `en-AU-NatashaNeural`.
    pub voice: Option<String>,
    /// The language, such as `en-AU`.
    pub language: Option<String>,
    /// The sentence for labels that have none of their own.
    default: Option<String>,
    sentences: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    voice: Option<String>,
    language: Option<String>,
    default: Option<String>,
    #[serde(default)]
    map: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    value: String,
}

impl SpeechMap {
    /// Reads a speech map.
    ///
    /// # Errors
    /// It is no speech map, or says what cannot be, such as the same label twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpeechMapProblem> {
        // Editors that add a byte order mark are tolerated, as with templates.
        let bytes = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
        let file = serde_json::from_slice(bytes).map_err(SpeechMapProblem::Form)?;
        Self::check(file).map_err(SpeechMapProblem::Content)
    }

    fn check(file: File) -> Result<Self, String> {
        let named = |what: &str, text: Option<String>, plain: fn(char) -> bool| match text {
            Some(text) if text.is_empty() || !text.chars().all(plain) || text.starts_with('-') => {
                Err(format!("names the {what} `{}`, which cannot be one", text.escape_debug()))
            }
            text => Ok(text),
        };
        let voice = named("voice", file.voice, is_of_voice)?;
        let language = named("language", file.language, |c| c.is_ascii_alphanumeric() || c == '-')?;
        let sentence = |of: &str, text: String| {
            if text.trim().is_empty() {
                return Err(format!("says nothing for {of}"));
            }
            let chars = text.chars().count();
            if chars > MAX_CHARS {
                return Err(format!("has {chars} characters for {of}, {MAX_CHARS} are allowed"));
            }
            if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
                return Err(format!("has a control character in the sentence for {of}"));
            }
            Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let default = file.default.map(|text| sentence("`default`", text)).transpose()?;
        if let Some(text) = &default
            && text.replace(PLACEHOLDER, "").contains(['{', '}'])
        {
            return Err(format!("has braces in `default` other than `{PLACEHOLDER}`"));
        }
        let mut sentences = BTreeMap::new();
        for Entry { key, value } in file.map {
            let shown = format!("`{}`", key.escape_debug());
            let value = sentence(&shown, value)?;
            if sentences.insert(key, value).is_some() {
                return Err(format!("has {shown} twice"));
            }
        }
        Ok(Self { voice, language, default, sentences })
    }

    /// What is said for a label: its own sentence, the default with the label in it, or the label itself.
    pub fn sentence(&self, label: &Label) -> String {
        if let Some(sentence) = self.sentences.get(label.as_str()) {
            return sentence.clone();
        }
        self.default
            .as_ref()
            .map_or_else(|| label.spoken(), |text| text.replace(PLACEHOLDER, &label.spoken()))
    }

    /// Keys that are no label of these: they are never said.
    pub fn unused(&self, labels: &[Label]) -> Vec<&str> {
        let is_label = |key: &String| labels.iter().any(|label| label.as_str() == key);
        self.sentences.keys().filter(|key| !is_label(key)).map(String::as_str).collect()
    }
}

/// Whether a character may stand in the name of a voice of espeak-ng or Azure Speech: `de+f3`, `en-US-AvaNeural`.
pub fn is_of_voice(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<SpeechMap, String> {
        SpeechMap::parse(text.as_bytes()).map_err(|error| match error {
            SpeechMapProblem::Form(source) => source.to_string(),
            SpeechMapProblem::Content(what) => what,
        })
    }

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    #[test]
    fn each_label_has_its_sentence() {
        let map = read(
            r#"{"voice": "en-AU-NatashaNeural", "default": "I see a {label}", "map": [{"key": "Panda", "value": " Here comes\n the panda "}, {"key": "Starting scanner", "value": "Good day"}]}"#,
        )
        .unwrap();
        assert_eq!(map.sentence(&label("Panda")), "Here comes the panda");
        assert_eq!(map.sentence(&label("red_apple")), "I see a red apple");
        assert_eq!(map.unused(&[label("Panda")]), ["Starting scanner"]);
        assert_eq!(SpeechMap::default().sentence(&label("red_apple")), "red apple");
        assert!(read("\u{FEFF}{}").is_ok());
    }

    #[test]
    fn what_cannot_be_said_is_refused_in_words() {
        for (text, says) in [
            ("[]", "expected struct"),
            (r#"{"vioce": "x"}"#, "unknown field"),
            (r#"{"voice": "-x"}"#, "the voice `-x`"),
            (r#"{"voice": "a b"}"#, "the voice `a b`"),
            (r#"{"language": ""}"#, "the language ``"),
            (r#"{"default": "a {lable}"}"#, "braces"),
            (r#"{"map": [{"key": "a", "value": " "}]}"#, "nothing for `a`"),
            (r#"{"map": [{"key": "a", "value": "x"}, {"key": "a", "value": "y"}]}"#, "`a` twice"),
            ("{\"map\": [{\"key\": \"a\", \"value\": \"\\u0007\"}]}", "control character"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in ".{0,80}") {
            let _ = read(&text);
        }
    }
}
