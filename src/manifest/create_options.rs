//! `createOptions`: what Docker is told when it creates a container.
//!
//! A template may write it as an object; a device twin holds it as text in pieces of at most 512
//! characters: `createOptions`, `createOptions01`, `createOptions02` …

use std::fmt::Write as _;

use mynah_contracts::iot_edge::{CreateOptionsKey, CreateOptionsPiece};
use serde_json::{Map, Value};

use super::{ManifestError, Problem, content, json};

/// The most characters of one piece.
pub(super) const PIECE: usize = CreateOptionsPiece::MAX_CHARS;

/// The most pieces IoT Edge puts together: two digits count them.
const MAX_PIECES: usize = 100;

/// From here on older tools refuse: iotedgedev takes no more than 8 pieces.
const MANY_PIECES: usize = 8;

const KEY: &str = "createOptions";

/// Turns every module's options into pieces.
pub(super) fn normalise(document: &mut Value, warnings: &mut Vec<String>) -> Result<(), ManifestError> {
    let mut problems = Vec::new();
    for place in content::modules(document) {
        let pointer = format!("{}/settings", place.pointer);
        let Some(Value::Object(settings)) = document.pointer_mut(&pointer) else { continue };
        match pieces_of(settings) {
            Ok(pieces) => {
                if pieces.len() > MANY_PIECES {
                    warnings.push(format!(
                        "the createOptions of `{}` make {} pieces; iotedgedev reads at most {MANY_PIECES}",
                        place.name.escape_debug(),
                        pieces.len()
                    ));
                }
                put(settings, pieces);
            }
            Err(what) => problems.push(Problem { pointer: format!("{pointer}/{KEY}"), what }),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ManifestError::Invalid(problems)) }
}

/// The options of these settings as an object; nothing where there are none or they are none.
pub(super) fn object_of(settings: &Map<String, Value>) -> Option<Map<String, Value>> {
    match parts_of(settings).as_slice() {
        [] => None,
        [(_, Value::Object(options))] => Some(options.clone()),
        parts => {
            let text: String = parts.iter().filter_map(|(_, part)| part.as_str()).collect();
            match json::parse(&text) {
                Ok(Value::Object(options)) => Some(options),
                _ => None,
            }
        }
    }
}

/// Puts options that are text into the form of an object, so that they can be merged.
pub(super) fn open(settings: &mut Map<String, Value>) {
    if let Some(options) = object_of(settings) {
        settings.retain(|key, _| piece_number(key).is_none());
        settings.insert(KEY.into(), Value::Object(options));
    }
}

/// The pieces in their order.
fn parts_of(settings: &Map<String, Value>) -> Vec<(u32, &Value)> {
    let mut parts: Vec<(u32, &Value)> =
        settings.iter().filter_map(|(key, value)| Some((piece_number(key)?, value))).collect();
    parts.sort_by_key(|(number, _)| *number);
    parts
}

/// The options of these settings, cut into pieces; none where there are no options.
fn pieces_of(settings: &Map<String, Value>) -> Result<Vec<String>, String> {
    let text = match parts_of(settings).as_slice() {
        [] => return Ok(Vec::new()),
        [(_, options @ Value::Object(_))] => options.to_string(),
        parts => {
            let mut text = String::new();
            for (_, part) in parts {
                match part {
                    Value::String(piece) => text.push_str(piece),
                    Value::Object(_) => return Err("is an object and has further pieces".into()),
                    _ => return Err("is neither an object nor text".into()),
                }
            }
            checked(text)?
        }
    };
    let text = ascii(&text);
    let pieces: Vec<String> =
        text.as_bytes().chunks(PIECE).map(|piece| piece.iter().copied().map(char::from).collect()).collect();
    if pieces.len() > MAX_PIECES {
        return Err(format!("has {} characters, {} are allowed", text.len(), PIECE * MAX_PIECES));
    }
    Ok(pieces)
}

/// Text that must itself be a JSON object; nothing at all means no options.
fn checked(text: String) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok("{}".into());
    }
    match json::parse(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err("is not a JSON object".into()),
        Err(error) => Err(format!("is not valid JSON: {error}")),
    }
}

/// Which piece a key names: `createOptions` is 0, `createOptions07` is 7.
pub(super) fn piece_number(key: &str) -> Option<u32> {
    // Most strings are neither; the parsed type would have to be made of each.
    key.starts_with("create").then(|| CreateOptionsKey::new(key).ok()).flatten().map(|key| key.number())
}

fn put(settings: &mut Map<String, Value>, pieces: Vec<String>) {
    settings.retain(|key, _| piece_number(key).is_none());
    for (number, piece) in pieces.into_iter().enumerate() {
        let key = if number == 0 { KEY.to_owned() } else { format!("{KEY}{number:02}") };
        settings.insert(key, piece.into());
    }
}

/// The same JSON in ASCII, so that 512 characters are 512 bytes. Outside strings JSON is ASCII anyway.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn settings(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_object_becomes_compact_text() {
        let pieces = pieces_of(&settings(
            json!({"image": "x", "createOptions": {"HostConfig": {"Privileged": false}}}),
        ));
        assert_eq!(pieces.unwrap(), [r#"{"HostConfig":{"Privileged":false}}"#]);
    }

    #[test]
    fn a_long_one_is_cut_at_512_characters() {
        let long = "é".repeat(300);
        let pieces = pieces_of(&settings(json!({"createOptions": {"Env": [long]}}))).unwrap();
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [512, 512, 512, 276]);
        let mut target = Map::new();
        put(&mut target, pieces);
        let keys: Vec<_> = target.keys().collect();
        assert_eq!(keys, ["createOptions", "createOptions01", "createOptions02", "createOptions03"]);
    }

    #[test]
    fn pieces_in_a_template_are_put_together_in_their_order() {
        let input = json!({"createOptions10": "4}", "createOptions": "{\"a\":", "createOptions01": "123"});
        assert_eq!(pieces_of(&settings(input)).unwrap(), [r#"{"a":1234}"#]);
    }

    #[test]
    fn what_docker_could_not_read_is_refused() {
        for bad in [
            json!({"createOptions": "{"}),
            json!({"createOptions": "[]"}),
            json!({"createOptions": 3}),
            json!({"createOptions": {}, "createOptions01": "{}"}),
            json!({"createOptions": "x".repeat(51_201)}),
        ] {
            assert!(pieces_of(&settings(bad.clone())).is_err(), "{bad}");
        }
        let large = json!({"createOptions": {"Env": ["x".repeat(51_200)]}});
        assert!(pieces_of(&settings(large)).unwrap_err().contains("51200 are allowed"));
    }

    proptest! {
        #[test]
        fn the_pieces_say_what_the_object_said(key in "\\PC{0,20}", value in "\\PC{0,900}") {
            let options = json!({key: value});
            let pieces = pieces_of(&settings(json!({"createOptions": options.clone()}))).unwrap();
            prop_assert!(pieces.iter().all(|piece| piece.len() <= PIECE && piece.is_ascii()));
            prop_assert_eq!(serde_json::from_str::<Value>(&pieces.concat()).unwrap(), options);
        }
    }
}
