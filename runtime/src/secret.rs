//! Text that must not be shown: passwords, tokens, keys.

use std::fmt;

/// A secret; its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The text without what stands between `//` and `@` in it: an address may hold a password.
pub fn redacted(text: &str) -> String {
    let Some((before, after)) = text.split_once("//") else { return text.to_owned() };
    let authority = after.find(['/', '?', '#', ' ']).unwrap_or(after.len());
    match after.get(..authority).and_then(|part| part.rfind('@')) {
        Some(at) => format!("{before}//…{}", after.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_show() {
        assert_eq!(format!("{:?}", Secret::new("x")), "Secret(…)");
        assert_eq!(redacted("http://u:p@w@host:80/a@b"), "http://…@host:80/a@b");
        for text in ["http://host/a@b", "dir:a//b/c@d", "plain", "v4l2:/dev/video0"] {
            assert_eq!(redacted(text), text);
        }
    }
}
