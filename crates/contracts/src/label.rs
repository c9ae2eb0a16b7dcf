//! What a photo shows, in the words of whoever named its folder.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// A label: the name of the first folder below the dataset's root.
///
/// Text in Unicode normalisation form C, 1 to [`Label::MAX_CHARS`] characters, safe as the name of one
/// folder on any of our file systems and as one line of `labels.txt`: it is neither `.` nor `..`, holds
/// no slash, backslash, colon or control character, and has no white space at its ends. `no`, `on` and `yes` are labels
/// like any other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Label(String);

/// Why a text is not a [`Label`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing, or nothing but white space.
    #[error("a label cannot be empty")]
    Empty,
    /// More than [`Label::MAX_CHARS`] characters.
    #[error("the label `{start}…` has {chars} characters, {max} are allowed", max = Label::MAX_CHARS)]
    TooLong {
        /// Its first characters.
        start: String,
        /// How many it has.
        chars: usize,
    },
    /// `.` or `..`.
    #[error("`{0}` names a folder's own place, not a label")]
    Dots(String),
    /// A character that cannot stand in a folder's name or in a line of text.
    #[error("the label `{shown}` holds {name}, which cannot stand in a folder's name")]
    Forbidden {
        /// The label with the character escaped.
        shown: String,
        /// The character, in words.
        name: String,
    },
    /// White space before or after.
    #[error("the label `{0}` begins or ends with white space")]
    Spaced(String),
}

impl Label {
    /// The most characters a label may have.
    pub const MAX_CHARS: usize = 100;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as people say it: `_` and `-` become spaces.
    pub fn spoken(&self) -> String {
        self.0.replace(['_', '-'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The text with letter case folded away: two labels with one key cannot stand beside each other.
    pub fn case_key(&self) -> String {
        self.0.to_lowercase().nfc().collect()
    }
}

/// The first two labels of `labels` that differ only in letter case.
pub fn colliding<'a>(labels: impl IntoIterator<Item = &'a Label>) -> Option<(&'a Label, &'a Label)> {
    let mut seen = std::collections::BTreeMap::new();
    for label in labels {
        match seen.insert(label.case_key(), label) {
            Some(earlier) if earlier != label => return Some((earlier, label)),
            _ => {}
        }
    }
    None
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let text: String = text.nfc().collect();
        if text.trim().is_empty() {
            return Err(LabelError::Empty);
        }
        let chars = text.chars().count();
        if chars > Self::MAX_CHARS {
            return Err(LabelError::TooLong {
                start: text.chars().take(20).flat_map(char::escape_debug).collect(),
                chars,
            });
        }
        if text == "." || text == ".." {
            return Err(LabelError::Dots(text));
        }
        if let Some(c) =
            text.chars().find(|&c| matches!(c, '/' | '\\' | ':') || c.is_control() || is_format_control(c))
        {
            let name = match c {
                '/' => "a slash".into(),
                '\\' => "a backslash".into(),
                ':' => "a colon".into(),
                c => format!("the control character U+{:04X}", u32::from(c)),
            };
            return Err(LabelError::Forbidden { shown: text.escape_debug().to_string(), name });
        }
        if text.trim() != text {
            return Err(LabelError::Spaced(text));
        }
        Ok(Self(text))
    }
}

/// Line separators and the marks that reorder or hide text: a label must read as it is written.
fn is_format_control(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_that_yaml_would_bend_are_labels() {
        for good in ["no", "on", "yes", "Ünïcode", "red apple", "犬", "a.b", "-x"] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_cannot_be_a_folder_is_refused_in_words() {
        let long = "x".repeat(300);
        for (bad, says) in [
            ("", "empty"),
            ("  ", "empty"),
            (".", "own place"),
            ("..", "own place"),
            ("a/b", "a slash"),
            ("a\\b", "a backslash"),
            ("a\nb", "U+000A"),
            (" a", "white space"),
            (long.as_str(), "300 characters"),
            ("a\u{202E}b", "U+202E"),
        ] {
            let error = bad.parse::<Label>().unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }

    #[test]
    fn composed_and_decomposed_spellings_are_one_label() {
        assert_eq!("u\u{308}".parse::<Label>().unwrap(), "ü".parse::<Label>().unwrap());
    }

    #[test]
    fn labels_that_differ_only_in_case_collide() {
        let labels: Vec<Label> = ["Apple", "pear", "apple"].iter().map(|l| l.parse().unwrap()).collect();
        let (a, b) = colliding(&labels).unwrap();
        assert_eq!((a.as_str(), b.as_str()), ("Apple", "apple"));
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_a_label_parses_to_itself(text in ".{0,120}") {
            if let Ok(label) = text.parse::<Label>() {
                prop_assert_eq!(label.as_str().parse::<Label>().unwrap(), label.clone());
                prop_assert!(!label.as_str().contains(['/', '\n', '\0']));
            }
        }
    }
}
