//! Names of images: `registry.example/mynah/runtime@sha256:…` (distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use mynah_contracts::Sha256Digest;

/// The most characters of a repository's name that registries accept.
const MAX_CHARS: usize = 255;

/// A repository, with its registry: `localhost/mynah/runtime`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repository(String);

/// The text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a repository with its registry: lower-case letters, digits, `.`, `_`, `-` and `/`, such as `registry.example/mynah/runtime`"
)]
pub struct RepositoryError(String);

impl Repository {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self, RepositoryError> {
        let valid = text.len() <= MAX_CHARS
            && text
                .split_once('/')
                .is_some_and(|(registry, path)| is_registry(registry) && path.split('/').all(is_component));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(RepositoryError(text.chars().take(80).flat_map(char::escape_debug).collect()))
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host, which is `localhost` or has a dot or a port; anything else would be read as a path on a default
/// registry.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let named = host == "localhost" || host.contains('.') || port.is_some();
    let labels = host.split('.').all(|label| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    });
    named && labels && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let at_end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.bytes().all(allowed)
        && at_end(text.bytes().next())
        && at_end(text.bytes().next_back())
        && text
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

/// An image pinned by its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedImage {
    /// The repository, as written.
    pub repository: String,
    /// The digest of an image index or manifest.
    pub digest: Sha256Digest,
}

impl PinnedImage {
    /// Reads `repository[:tag]@sha256:…`; nothing where no digest is named.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = text.split_once('@')?;
        // A colon after the last slash begins a tag, one before it a port.
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let end = name.get(slash..)?.find(':').map_or(name.len(), |at| slash + at);
        Some(Self { repository: name.get(..end)?.to_owned(), digest: digest.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_registries_are_known() {
        for good in
            ["localhost/mynah/runtime", "registry.example/a", "host:5000/a_b/c__d/e--f.g", "127.0.0.1:5000/x"]
        {
            assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
        }
        let long = format!("localhost/{}", "a".repeat(250));
        for bad in [
            "",
            "runtime",
            "mynah/runtime",
            "localhost/",
            "localhost/A",
            "localhost/a..b",
            "localhost/a___b",
            "localhost/-a",
            "localhost/a@b",
            "localhost:0/a",
            "host:x/a",
            "-h.x/a",
            "a..b/c",
            &long,
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pinned_image_is_taken_apart() {
        let digest = Sha256Digest::of(b"");
        for name in ["localhost:5000/a/b", "localhost:5000/a/b:tag"] {
            let pinned = PinnedImage::parse(&format!("{name}@{digest}")).unwrap();
            assert_eq!(pinned, PinnedImage { repository: "localhost:5000/a/b".into(), digest });
        }
        assert_eq!(PinnedImage::parse("mcr.example/a:1.0"), None);
        assert_eq!(PinnedImage::parse("a@sha256:short"), None);
    }
}
