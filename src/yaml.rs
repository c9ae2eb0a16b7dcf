//! YAML, written so that readers of YAML 1.1 and 1.2 understand the same: a text that one of them would take for
//! something else (`no`, `0755`, `12:30`) is quoted, and nothing is folded.

use serde::Serialize;

/// Writes documents, separated by `---`.
///
/// # Errors
/// When a value cannot be written as YAML, such as a map with keys that are no text.
pub fn to_string<T: Serialize>(documents: &[T]) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string_with_options(document, options())?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

fn options() -> serde_saphyr::SerializerOptions {
    serde_saphyr::ser_options! { prefer_block_scalars: false, yaml_12: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn words_that_yaml_bends_are_quoted() {
        for word in [
            "no", "on", "yes", "0755", "1e3", "12:30:00", "null", "~", "", " a", "a: b", "# c", "1.10",
            "0x1F",
        ] {
            let text = to_string(&[json!({ "a": word })]).unwrap();
            assert!(text.contains('"') || text.contains('\''), "{text}");
        }
        assert_eq!(
            to_string(&[json!({"a": "b"}), json!({"c": [1, true]})]).unwrap(),
            "---\na: b\n---\nc:\n- 1\n- true\n"
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(key in "\\PC{1,20}", value in "[\\PC\\n\\t]{0,90}") {
            let document = json!({ key: [value] });
            let text = to_string(std::slice::from_ref(&document)).unwrap();
            prop_assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), document);
        }
    }
}
