//! Secrets: text that works but is never shown.
//!
//! A [`Secret`] enters the process' [`Masks`] when it is made. The consoles look there before every line: an agent
//! is told to mask the value before anything that could hold it is written, and it is struck out of what is written.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped in a URL's query: all but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Shorter values would blot out ordinary text.
const SHORTEST: usize = 4;

/// A key, password or token. Its `Debug` shows nothing, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a secret in; from here on no console of this process writes it.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Masks::process().add(&text);
        Self(text)
    }

    /// Takes in text that stands where secrets stand but need not be masked: a signature's date, or what signs a
    /// single request and is never shown.
    pub fn unmasked(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, to be sent to where it belongs and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What must not be written.
#[derive(Debug, Default)]
pub struct Masks(RwLock<Known>);

#[derive(Default)]
struct Known {
    /// In the order they became known.
    arrived: Vec<String>,
    /// Longest first, so that a secret inside another does not leave the other's rest behind.
    longest_first: Vec<String>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} masks", self.arrived.len())
    }
}

impl Masks {
    /// No masks yet.
    pub const fn new() -> Self {
        Self(RwLock::new(Known { arrived: Vec::new(), longest_first: Vec::new() }))
    }

    /// The masks of this process.
    pub fn process() -> &'static Self {
        static PROCESS: Masks = Masks::new();
        &PROCESS
    }

    /// Adds a value, also as it stands in a URL. Values of fewer than four characters are not masked.
    pub fn add(&self, secret: &str) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let in_url = utf8_percent_encode(secret, RESERVED).to_string();
        for text in [secret.to_owned(), in_url] {
            if text.trim().len() < SHORTEST || known.arrived.contains(&text) {
                continue;
            }
            let at = known.longest_first.partition_point(|other| other.len() >= text.len());
            known.longest_first.insert(at, text.clone());
            known.arrived.push(text);
        }
    }

    /// The values that became known after the first `seen`.
    pub fn after(&self, seen: usize) -> Vec<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.arrived.get(seen..).unwrap_or_default().to_vec()
    }

    /// `text` with `***` in the place of every known value.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.longest_first.iter().fold(Cow::Borrowed(text), |text, secret| {
            if text.contains(secret.as_str()) {
                Cow::Owned(text.replace(secret.as_str(), "***"))
            } else {
                text
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_is_known_from_its_making() {
        let secret = Secret::new("open/sesame-9411");
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(secret.expose(), "open/sesame-9411");
        assert_eq!(
            Masks::process().hide("say open/sesame-9411 or ?k=open%2Fsesame-9411"),
            "say *** or ?k=***"
        );
    }

    #[test]
    fn the_longest_goes_first_and_crumbs_are_left_alone() {
        let masks = Masks::new();
        for text in ["hunter22", "long/hunter22/key", "ab", "hunter22"] {
            masks.add(text);
        }
        assert_eq!(masks.hide("long/hunter22/key, hunter22, ab"), "***, ***, ab");
        assert_eq!(masks.after(0), ["hunter22", "long/hunter22/key", "long%2Fhunter22%2Fkey"]);
        assert_eq!(masks.after(1).len(), 2);
        assert!(masks.after(9).is_empty());
    }
}
