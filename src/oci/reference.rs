//! Names of images: `registry.example/mynah/runtime@sha256:…` (distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use mynah_contracts::Sha256Digest;

/// The most characters of a repository's name that registries accept.
const MAX_CHARS: usize = 255;

/// The registry of names that give none.
const DOCKER_HUB: &str = "docker.io";

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

/// An image by tag or digest, as a Dockerfile's `FROM` and `docker pull` write it. What they leave out is
/// filled in: `debian` is `docker.io/library/debian:latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256Digest>,
}

/// The text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image such as `registry.example/name:tag` or `registry.example/name@sha256:…`")]
pub struct ImageReferenceError(String);

impl ImageReference {
    /// The registry: a host, perhaps with a port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path in the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where one is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of an index or a manifest, where one is named. It then decides, whatever the tag.
    pub fn digest(&self) -> Option<Sha256Digest> {
        self.digest
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        let refuse = || ImageReferenceError(text.chars().take(80).flat_map(char::escape_debug).collect());
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| refuse())?)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag, one before it a port.
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name.get(slash..).and_then(|last| last.split_once(':')) {
            Some((last, tag)) => (name.get(..slash + last.len()).unwrap_or_default(), Some(tag)),
            None => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((registry, path)) if is_registry(registry) => (registry, path.to_owned()),
            Some(_) => (DOCKER_HUB, name.to_owned()),
            None => (DOCKER_HUB, format!("library/{name}")),
        };
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let is_tag = |tag: &str| {
            tag.len() <= 128
                && tag.bytes().next().is_some_and(is_word)
                && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
        };
        let valid = repository.len() <= MAX_CHARS
            && repository.split('/').all(is_component)
            && tag.is_none_or(is_tag);
        if !valid {
            return Err(refuse());
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(Into::into), digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
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
    fn what_an_image_s_name_leaves_out_is_filled_in() {
        let digest = Sha256Digest::of(b"");
        for (short, long) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim".to_owned()),
            ("user/app:1", "docker.io/user/app:1".to_owned()),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest".to_owned()),
            ("mcr.example/a/b:1.6", "mcr.example/a/b:1.6".to_owned()),
            (&format!("a@{digest}"), format!("docker.io/library/a@{digest}")),
            (&format!("a:1@{digest}"), format!("docker.io/library/a:1@{digest}")),
        ] {
            assert_eq!(short.parse::<ImageReference>().unwrap().to_string(), long);
        }
        for bad in ["", ":", "a:", "A", "a b", "a/", "/a", "a@sha256:1", "a:b:c", "a:-b", "a//b", "$BASE"] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
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
