//! The wire of Azure Speech's text to speech: what a request holds, and the clip that comes back.

/// The form of a clip: what a device plays without a decoder. 16 kHz is none that the service offers.
pub const FORMAT: &str = "riff-24khz-16bit-mono-pcm";

/// The voice where none is asked for.
pub const DEFAULT_VOICE: &str = "en-US-JennyNeural";

/// The path of the interface.
pub const PATH: &str = "/cognitiveservices/v1";

/// The header that names the form of a clip.
pub const FORMAT_HEADER: &str = "x-microsoft-outputformat";

/// The header with the resource's key.
pub const KEY_HEADER: &str = "ocp-apim-subscription-key";

/// The words as Speech Synthesis Markup Language (W3C, version 1.0).
pub fn ssml(text: &str, voice: &str, language: Option<&str>) -> String {
    let of_voice = language_of(voice);
    let language = escaped(language.unwrap_or(&of_voice));
    format!(
        "<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='{language}'>\
         <voice name='{}'>{}</voice></speak>",
        escaped(voice),
        escaped(text)
    )
}

/// `en-AU-NatashaNeural` → `en-AU`.
fn language_of(voice: &str) -> String {
    let mut parts = voice.split('-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(language), Some(region), Some(_)) => format!("{language}-{region}"),
        _ => "en-US".into(),
    }
}

/// Text as XML holds it; what XML 1.0 cannot hold becomes a space.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push(' '),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Writes the lengths into the header of a file that was streamed: whoever writes while it speaks knows them only
/// at the end, and writes 0 or the largest number.
pub fn with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let is_open = |length: [u8; 4]| matches!(u32::from_le_bytes(length), 0 | 0x7fff_0000..);
    let mut at = 12;
    while let Some((head, after)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<8>) {
        let [a, b, c, d, length @ ..] = *head;
        if [a, b, c, d] != *b"data" {
            let length = u32::from_le_bytes(length) as usize;
            at = at.saturating_add(8).saturating_add(length).saturating_add(length % 2);
            continue;
        }
        // Samples are two bytes.
        let samples = after.len() / 2 * 2;
        if is_open(length)
            && let (Ok(data), Ok(whole)) = (u32::try_from(samples), u32::try_from(at + samples))
        {
            bytes.truncate(at + 8 + samples);
            if let Some(place) = bytes.get_mut(at + 4..at + 8) {
                place.copy_from_slice(&data.to_le_bytes());
            }
            if let Some(place) = bytes.get_mut(4..8) {
                place.copy_from_slice(&whole.to_le_bytes());
            }
        }
        break;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_stands_whole_in_one_well_formed_document(text in "\\PC{0,40}", voice in "[A-Za-z'<&\"-]{1,12}") {
            let document = ssml(&text, &voice, None);
            let parsed = roxmltree::Document::parse(&document).unwrap();
            let element = parsed.root_element().first_element_child().unwrap();
            prop_assert_eq!(element.text().unwrap_or_default(), text.replace(['\u{FFFE}', '\u{FFFF}'], " "));
            prop_assert_eq!(element.attribute("name").unwrap(), voice);
        }
    }
}
