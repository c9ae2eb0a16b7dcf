//! In which words a device speaks: one speech map per language, in a folder.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, SpeechMap, SpeechMapProblem};

/// The largest speech map, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why there are no words in a language.
#[derive(Debug, thiserror::Error)]
pub enum PhrasesError {
    /// The folder or a file cannot be read.
    #[error("cannot read the speech maps `{path}`")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no speech map.
    #[error("cannot use the speech map `{path}`")]
    Map {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: SpeechMapProblem,
    },
    /// None is in this language.
    #[error("there is no speech map for the language `{language}`")]
    NoLanguage {
        /// Which.
        language: String,
    },
}

impl Diagnosis for PhrasesError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("`speech-maps` is a folder of files such as `{\"voice\": \"de-DE-KatjaNeural\", \"default\": \"Ich sehe {label}\"}`".into())
    }
}

/// The speech map for `language` (`de`, or `de-DE`) in the folder `maps`; `None` = no language is asked for, words are
/// as the clips have them.
///
/// A map is in the language it names, or its voice's.
///
/// # Errors
/// A map cannot be read, or none is in this language.
pub fn phrases(maps: Option<&Path>, language: Option<&str>) -> Result<Option<SpeechMap>, PhrasesError> {
    let Some(language) = language else { return Ok(None) };
    if let Some(folder) = maps {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| PhrasesError::Read { path, source }
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(read(folder))? {
            files.push(entry.map_err(read(folder))?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        for path in files {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(&path).map_err(read(&path))?;
            file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(read(&path))?;
            let map = SpeechMap::parse(&bytes).map_err(|source| PhrasesError::Map { path, source })?;
            if is_in(&map, language) {
                return Ok(Some(map));
            }
        }
    }
    Err(PhrasesError::NoLanguage { language: language.to_owned() })
}

fn is_in(map: &SpeechMap, language: &str) -> bool {
    let of = map.language.as_deref().or(map.voice.as_deref()).unwrap_or_default().to_ascii_lowercase();
    let wanted = language.to_ascii_lowercase();
    of.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_found_by_its_language_or_its_voices() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.json", r#"{"voice": "zh-CN-XiaoxiaoNeural", "default": "这是{label}"}"#);
        write("b.json", r#"{"language": "de-AT", "voice": "de+f3", "default": "Das ist {label}"}"#);
        write("readme.txt", "not a map");
        let said = |language: &str| {
            let map = phrases(Some(folder.path()), Some(language)).map_err(|error| error.to_string())?;
            Ok::<_, String>(map.unwrap().sentence(&"pear".parse().unwrap()))
        };
        assert_eq!(said("zh-CN").unwrap(), "这是pear");
        assert_eq!(said("DE").unwrap(), "Das ist pear");
        assert_eq!(said("d").unwrap_err(), "there is no speech map for the language `d`");
        assert_eq!(phrases(None, None).unwrap(), None);
        assert!(matches!(phrases(None, Some("de")), Err(PhrasesError::NoLanguage { .. })));
        write("c.json", "[]");
        assert!(said("ko").unwrap_err().contains("c.json"));
    }
}
