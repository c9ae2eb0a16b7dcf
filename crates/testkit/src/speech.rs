//! A double of Azure Speech's text to speech: tokens, voices, and real WAV files with a tone in place of words.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use roxmltree::Document;
use serde_json::json;

use crate::clips::tone;
use crate::wire::{Served, Wire};

/// The forms the service offers that are WAV files of 16-bit PCM.
const FORMATS: [(&str, u32); 5] = [
    ("riff-8khz-16bit-mono-pcm", 8_000),
    ("riff-22050hz-16bit-mono-pcm", 22_050),
    ("riff-24khz-16bit-mono-pcm", 24_000),
    ("riff-44100hz-16bit-mono-pcm", 44_100),
    ("riff-48khz-16bit-mono-pcm", 48_000),
];

/// The voices it has.
const VOICES: [&str; 4] =
    ["en-US-JennyNeural", "en-AU-NatashaNeural", "zh-CN-XiaoxiaoNeural", "de-DE-KatjaNeural"];

/// What the token endpoint gives.
const TOKEN: &str = "a-token-of-ten-minutes";

/// The service; its clones are the same one.
#[derive(Clone, Default)]
pub struct SpeechService {
    /// The record of what was asked, and what is to go wrong.
    pub wire: Arc<Wire>,
    spoken: Arc<Mutex<Vec<(String, String)>>>,
}

impl SpeechService {
    /// The key it knows.
    pub const KEY: &'static str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

    /// Serves it on `port` (0: any free one).
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(&self, port: u16) -> Result<Served> {
        let routes = Router::new()
            .route("/sts/v1.0/issueToken", post(issue_token))
            .route("/cognitiveservices/voices/list", get(voices))
            .route("/cognitiveservices/v1", post(speak))
            .with_state(self.clone());
        Served::start(routes, Arc::clone(&self.wire), port)
    }

    /// Voice and words of everything it spoke.
    pub fn spoken(&self) -> Vec<(String, String)> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_signed_in(headers: &HeaderMap, by_token: bool) -> bool {
    let by_key = text(headers, "ocp-apim-subscription-key") == Some(SpeechService::KEY);
    by_key
        || (by_token
            && text(headers, "authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(TOKEN))
}

async fn issue_token(headers: HeaderMap) -> Response {
    if is_signed_in(&headers, false) {
        TOKEN.into_response()
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn voices(headers: HeaderMap) -> Response {
    if !is_signed_in(&headers, true) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let list: Vec<_> = VOICES
        .iter()
        .map(|voice| json!({"ShortName": voice, "SampleRateHertz": "24000", "VoiceType": "Neural", "Status": "GA"}))
        .collect();
    Json(list).into_response()
}

async fn speak(State(service): State<SpeechService>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_signed_in(&headers, true) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match said(&headers, &body) {
        Ok((voice, words, rate)) => {
            // The length of the tone follows that of the words, so that clips differ.
            let Ok(clip) = tone(330.0 + words.len() as f32, rate) else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            service.spoken.lock().unwrap_or_else(PoisonError::into_inner).push((voice, words));
            ([(header::CONTENT_TYPE, "audio/x-wav")], as_stream(clip)).into_response()
        }
        Err((status, Some(violation))) => {
            service.wire.violation(violation);
            status.into_response()
        }
        Err((status, None)) => status.into_response(),
    }
}

/// The service writes while it speaks: the header's lengths are not known then.
fn as_stream(mut clip: Vec<u8>) -> Vec<u8> {
    for at in [4, 40] {
        if let Some(length) = clip.get_mut(at..at + 4) {
            length.fill(0xff);
        }
    }
    clip
}

type Refused = (StatusCode, Option<String>);

/// Voice, words and sample rate of a request, or how it is refused and what no correct client sends.
fn said(headers: &HeaderMap, body: &[u8]) -> Result<(String, String, u32), Refused> {
    let wrong = |what: &str| (StatusCode::BAD_REQUEST, Some(what.to_owned()));
    if text(headers, "content-type") != Some("application/ssml+xml") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("the body is not announced as SSML".into())));
    }
    if !text(headers, "user-agent").is_some_and(|agent| (1..255).contains(&agent.len())) {
        return Err(wrong("the user agent is missing or too long"));
    }
    let format = text(headers, "x-microsoft-outputformat").unwrap_or_default();
    let rate = FORMATS.iter().find(|(name, _)| *name == format).map(|(_, rate)| *rate);
    let rate = rate.ok_or_else(|| wrong(&format!("the format `{format}` is not offered")))?;
    let body = std::str::from_utf8(body).map_err(|_| wrong("the body is not UTF-8"))?;
    let document = Document::parse(body).map_err(|error| wrong(&format!("the body is no XML: {error}")))?;
    let root = document.root_element();
    let voice = root.children().find(|node| node.tag_name().name() == "voice");
    let (Some(voice), "speak", Some("1.0")) = (voice, root.tag_name().name(), root.attribute("version"))
    else {
        return Err(wrong("the body is no SSML with a voice"));
    };
    let name = voice.attribute("name").unwrap_or_default();
    if !VOICES.contains(&name) {
        return Err((StatusCode::BAD_REQUEST, None));
    }
    Ok((name.to_owned(), voice.text().unwrap_or_default().to_owned(), rate))
}
