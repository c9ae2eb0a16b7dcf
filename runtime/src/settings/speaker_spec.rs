//! The text that says how words are heard: a sound card, a folder, a program.

use std::fmt;
use std::path::PathBuf;

use super::path;

/// How words are heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpeakerSpec {
    /// One WAV file per utterance, in this folder.
    Wav(PathBuf),
    /// A program that plays the file named by its last argument.
    Command {
        /// The program: a name looked up in `PATH`, or a path.
        program: String,
        /// The arguments before the file.
        arguments: Vec<String>,
    },
    /// A sound card: the first whose name holds this, or the default one.
    Card(Option<String>),
    /// Words are printed only.
    None,
}

impl SpeakerSpec {
    /// What is taken where nothing is said: the default sound card, which may be missing or come later, in a program
    /// that has them.
    pub(super) const fn unasked() -> Self {
        if cfg!(feature = "sound-card") { Self::Card(None) } else { Self::None }
    }

    /// Reads the text. A command's parts are separated by white space; no shell looks at them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        if text == "card" {
            return Ok(Self::Card(None));
        }
        if let Some(name) = text.strip_prefix("card:") {
            return if name.is_empty() {
                Err("`card:` is followed by part of a sound card's name".into())
            } else {
                Ok(Self::Card(Some(name.to_owned())))
            };
        }
        if let Some(folder) = text.strip_prefix("wav:") {
            return if folder.is_empty() {
                Err("`wav:` is followed by a folder".into())
            } else {
                Ok(Self::Wav(path(folder)?))
            };
        }
        if let Some(command) = text.strip_prefix("command:") {
            let mut parts = command.split_whitespace().map(str::to_owned);
            return match parts.next() {
                Some(program) if !command.contains('\0') => {
                    Ok(Self::Command { program, arguments: parts.collect() })
                }
                _ => Err("`command:` is followed by a program, such as `command:aplay -q`".into()),
            };
        }
        Err("a speaker is written `card`, `card:NAME`, `wav:DIR`, `command:PROGRAM` or `none`".into())
    }
}

impl fmt::Display for SpeakerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wav(folder) => write!(f, "wav:{}", folder.display()),
            Self::Command { program, arguments } => {
                write!(f, "command:{program}")?;
                arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
            }
            Self::Card(None) => f.write_str("card"),
            Self::Card(Some(name)) => write!(f, "card:{name}"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_are_read_as_they_are_written() {
        for text in ["card", "card:USB Audio", "wav:out dir", "command:aplay -q -D default", "none"] {
            assert_eq!(SpeakerSpec::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "wav:", "card:", "command:", "command:  ", "aplay", "None"] {
            assert!(SpeakerSpec::parse(bad).is_err(), "{bad:?}");
        }
    }
}
