//! Azure Speech: text to speech over its REST interface, at build time, so that no device needs a key.

use std::time::Duration;

pub use mynah_contracts::azure_speech::DEFAULT_VOICE;
use mynah_contracts::azure_speech::{FORMAT, FORMAT_HEADER, KEY_HEADER, PATH, ssml, with_length};
use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Monitor};

use crate::http::{Body, Client, HttpError, Repeat, Request, Url, block_on};
use crate::secret::Secret;
use crate::speech::wav;

/// For one sentence with all its tries; a free resource allows 20 a minute.
const DEADLINE: Duration = Duration::from_mins(3);

/// Why nothing was spoken.
#[derive(Debug, thiserror::Error)]
pub enum AzureSpeechError {
    /// The region or address is none.
    #[error("`{0}` is neither a region of Azure Speech nor an address")]
    Place(String),
    /// No key was given.
    #[error("the key of Azure Speech is missing")]
    NoKey,
    /// The service refused.
    #[error("cannot speak `{text}` with the voice `{voice}` of Azure Speech")]
    Refused {
        /// The words.
        text: String,
        /// The voice.
        voice: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// What came is no clip.
    #[error("what Azure Speech made of `{text}` {problem}")]
    Clip {
        /// The words.
        text: String,
        /// What is wrong.
        problem: wav::WavProblem,
    },
    /// The network cannot be used.
    #[error(transparent)]
    Http(HttpError),
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<HttpError> for AzureSpeechError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<Cancelled> for AzureSpeechError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Diagnosis for AzureSpeechError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Place(_) | Self::NoKey => FaultKind::BadInput,
            Self::Refused { source, .. } if source.status() == Some(400) => FaultKind::BadInput,
            Self::Refused { source, .. } | Self::Http(source) => source.kind(),
            Self::Clip { .. } => FaultKind::ServiceRefused,
            Self::Cancelled => FaultKind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Place(_) => {
                "give --azure-speech a region such as `westeurope`, or the address of the resource"
            }
            Self::NoKey => "set SPEECH_KEY to a key of the resource; it is not taken from the command line",
            Self::Refused { source, .. } => match source.status() {
                Some(400) => "the voice may not exist there: see the service's list of voices, and --voice",
                Some(401 | 403) => "check SPEECH_KEY, and that the key belongs to this region",
                _ => return source.hint(),
            },
            Self::Http(source) => return source.hint(),
            Self::Clip { .. } => "run the same command again",
            Self::Cancelled => return Cancelled.hint(),
        };
        Some(hint.into())
    }
}

/// A Speech resource.
#[derive(Clone, Debug)]
pub struct AzureSpeech {
    client: Client,
    url: Url,
    key: Secret,
}

/// Reads a region such as `westeurope`, or the address of a resource.
///
/// # Errors
/// When it is neither.
pub fn place(text: &str) -> Result<Url, AzureSpeechError> {
    let refused = || AzureSpeechError::Place(text.chars().take(80).flat_map(char::escape_debug).collect());
    if text.contains("://") {
        let mut url = Url::parse(text).map_err(|_| refused())?;
        if url.host_str().is_none() || !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
            return Err(refused());
        }
        if url.path().trim_end_matches('/').is_empty() {
            url.set_path(PATH);
        }
        return Ok(url);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(refused());
    }
    Url::parse(&format!("https://{text}.tts.speech.microsoft.com{PATH}")).map_err(|_| refused())
}

impl AzureSpeech {
    /// The resource at `url`, see [`place`].
    pub fn new(client: Client, url: Url, key: Secret) -> Self {
        Self { client, url, key }
    }

    /// What makes its clips, with their form: two clips of the same name, voice and words are the same.
    pub fn name(&self) -> &'static str {
        "azure-speech riff-24khz-16bit-mono-pcm"
    }

    /// Speaks `text` and gives the bytes of a WAV file.
    ///
    /// # Errors
    /// When the service refuses or gives no clip, or someone asks to stop.
    pub fn speak(
        &self,
        text: &str,
        voice: &str,
        language: Option<&str>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<u8>, AzureSpeechError> {
        let request = Request::post(self.url.clone())
            .secret_header(KEY_HEADER, &self.key)
            .header(FORMAT_HEADER, FORMAT)
            .body("application/ssml+xml", Body::Bytes(ssml(text, voice, language).into_bytes()))
            // The same words twice are the same clip.
            .repeat(Repeat::Always)
            .within(DEADLINE);
        let spoken =
            block_on(monitor, async { Ok::<_, AzureSpeechError>(self.client.send(&request).await) })?;
        let refused =
            |source| AzureSpeechError::Refused { text: text.to_owned(), voice: voice.to_owned(), source };
        let bytes = spoken.map_err(refused)?.into_bytes();
        let clip = |problem| AzureSpeechError::Clip { text: text.to_owned(), problem };
        let bytes = with_length(bytes);
        wav::check(&bytes).map_err(clip)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Quiet;
    use mynah_testkit::faults::Fault;
    use mynah_testkit::speech::SpeechService;

    fn speak(double: &SpeechService, key: &str, voice: &str) -> Result<Vec<u8>, AzureSpeechError> {
        let served = double.start(0).unwrap();
        let policy = crate::http::Policy { first_wait: Duration::from_millis(5), ..Default::default() };
        let speech = AzureSpeech::new(
            Client::new(policy).unwrap(),
            place(&served.url()).unwrap(),
            Secret::new(key.to_owned()),
        );
        let spoken = speech.speak("Tom & <Jerry>", voice, None, &Quiet);
        assert_eq!(double.wire.violations(), Vec::<String>::new());
        spoken
    }

    #[test]
    fn words_become_a_clip_whatever_they_are_made_of() {
        let double = SpeechService::default();
        double.wire.faults.script(
            "POST",
            "/cognitiveservices/v1",
            Fault::Refuse { status: 429, retry_after: Some(0) },
            1,
        );
        double.wire.faults.script("POST", "/cognitiveservices/v1", Fault::Cut, 1);
        let bytes = speak(&double, SpeechService::KEY, DEFAULT_VOICE).unwrap();
        assert_eq!(wav::check(&bytes).unwrap().rate, 24_000);
        assert_eq!(double.spoken().last().unwrap(), &(DEFAULT_VOICE.to_owned(), "Tom & <Jerry>".to_owned()));
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |key: &str, voice: &str| speak(&SpeechService::default(), key, voice).unwrap_err();
        let wrong = refused("another-key-9411", DEFAULT_VOICE);
        assert_eq!(wrong.kind(), FaultKind::ServiceRefused);
        assert!(wrong.hint().unwrap().contains("SPEECH_KEY"));
        assert!(!mynah_contracts::error_chain(&wrong).contains("another-key-9411"));
        let unknown = refused(SpeechService::KEY, "xx-XX-NobodyNeural");
        assert_eq!(unknown.kind(), FaultKind::BadInput);
        assert!(unknown.to_string().contains("xx-XX-NobodyNeural"));
    }

    #[test]
    fn a_region_or_an_address() {
        let url = |text: &str| place(text).map(|url| url.to_string());
        assert_eq!(
            url("westeurope").unwrap(),
            "https://westeurope.tts.speech.microsoft.com/cognitiveservices/v1"
        );
        assert_eq!(url("https://a.example/").unwrap(), "https://a.example/cognitiveservices/v1");
        assert_eq!(url("https://a.example/tts/v1").unwrap(), "https://a.example/tts/v1");
        for bad in ["", "West Europe", "a.b", "ftp://a", "https://a/?k=1"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
