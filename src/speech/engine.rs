//! What can speak: a program on this machine, or a service.

use mynah_contracts::Monitor;

use super::{Espeak, SpeechError};
use crate::azure::speech::{self, AzureSpeech, AzureSpeechError};

/// An engine that makes clips of words.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The program espeak-ng.
    Espeak(Espeak),
    /// The service Azure Speech.
    Azure(AzureSpeech),
}

impl Engine {
    /// Its name, with whatever makes its clips differ: version or form.
    pub fn name(&self) -> &str {
        match self {
            Self::Espeak(espeak) => espeak.name(),
            Self::Azure(azure) => azure.name(),
        }
    }

    /// The voice to use where a speech map names one, or nobody names any.
    ///
    /// espeak-ng names its voices by language: of `en-AU-NatashaNeural` it takes `en`.
    pub fn voice_for<'a>(&self, of_map: Option<&'a str>) -> &'a str {
        match (self, of_map) {
            (Self::Azure(_), None) => speech::DEFAULT_VOICE,
            (Self::Espeak(_), None) => "en",
            (Self::Azure(_), Some(voice)) => voice,
            (Self::Espeak(_), Some(voice)) => {
                let mut parts = voice.splitn(3, '-');
                match (parts.next(), parts.nth(1)) {
                    (Some(language), Some(_)) => language,
                    _ => voice,
                }
            }
        }
    }

    /// Speaks `text` and gives the bytes of a WAV file. `language` is a hint that not every engine takes.
    ///
    /// # Errors
    /// When the engine fails, knows no such voice, or someone asks to stop.
    pub fn speak(
        &self,
        text: &str,
        voice: &str,
        language: Option<&str>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<u8>, SpeechError> {
        match self {
            Self::Espeak(espeak) => espeak.speak(text, voice, monitor),
            Self::Azure(azure) => azure.speak(text, voice, language, monitor).map_err(|error| match error {
                AzureSpeechError::Cancelled => SpeechError::Cancelled,
                error => SpeechError::Azure(error),
            }),
        }
    }
}
