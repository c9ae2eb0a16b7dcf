//! Names of Kubernetes objects.

/// The most characters of a module's name: what is derived from it adds up to eleven more, and 63 are allowed.
const MAX: usize = 52;

/// A DNS label (RFC 1035) from any name; nothing where not one of its characters can stand in one.
pub(super) fn label(name: &str) -> Option<String> {
    let plain: String = name
        .chars()
        .filter_map(|c| match c {
            'a'..='z' | '0'..='9' => Some(c),
            'A'..='Z' => Some(c.to_ascii_lowercase()),
            '_' | '-' | '.' | '/' => Some('-'),
            _ => None,
        })
        .collect();
    let plain = plain.trim_matches('-');
    let begun =
        if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("m-{plain}") } else { plain.into() };
    let cut: String = begun.chars().take(MAX).collect();
    let label = cut.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// Whether a text may be the key of an annotation: `[prefix/]name`, the name at most 63 characters.
pub(super) fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    let ends = |text: &str, also: &[u8]| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    name.len() <= 63
        && ends(name, b"-_.")
        && (!key.contains('/')
            || (prefix.len() <= 253 && prefix == prefix.to_ascii_lowercase() && ends(prefix, b"-.")))
}

/// Whether a text may be the value of a label.
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || (is_qualified(value) && !value.contains('/'))
}

/// Whether a text may be a key of a `ConfigMap` that becomes a variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The key of a `Secret` for a variable of any name.
pub(super) fn secret_key(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.chars().map(|c| if allowed(c) { c } else { '_' }).take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn module_names_become_labels() {
        for (name, expected) in [
            ("CameraCapture", Some("cameracapture")),
            ("camera_capture", Some("camera-capture")),
            ("001Module", Some("m-001module")),
            ("/dev/i2c-1", Some("dev-i2c-1")),
            ("_-_", None),
        ] {
            assert_eq!(label(name).as_deref(), expected, "{name}");
        }
        assert_eq!(label(&"x".repeat(90)).unwrap().len(), MAX);
    }

    #[test]
    fn keys_are_judged_as_the_api_server_does() {
        for (key, good) in [
            ("a", true),
            ("a.b/c_d", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("A.b/c", false),
            ("a b", false),
        ] {
            assert_eq!(is_qualified(key), good, "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_label_is_one(name in "\\PC{0,90}") {
            if let Some(label) = label(&name) {
                prop_assert!(label.len() <= MAX && label.starts_with(|c: char| c.is_ascii_lowercase()));
                prop_assert!(!label.ends_with('-') && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }
    }
}
