//! Where blobs lie: `https://account.blob.core.windows.net/container/prefix`, or path-style
//! `http://127.0.0.1:10000/account/container/prefix` as an emulator has it.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

use super::error::LocationError;

/// Everything but what RFC 3986 calls unreserved.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same, with the slash left alone: it parts a blob's name into folders.
const IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// A container, and the part of it below a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The container's URL without a trailing slash: path-style services take one for another container.
    container: Url,
    account: Option<String>,
    /// Empty, or a folder with a trailing slash.
    prefix: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.container)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", utf8_percent_encode(self.prefix.trim_end_matches('/'), IN_PATH))?;
        }
        Ok(())
    }
}

impl Location {
    /// Whether `text` is meant as a URL, not as a path.
    pub fn is_url(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_some_and(|scheme| scheme == "https" || scheme == "http")
    }

    /// Reads a container's URL with an optional prefix; slashes at its end make no difference.
    ///
    /// # Errors
    /// No URL, no container, and credentials in the URL: it is shown in logs and written into artifacts.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let mut url = Url::parse(text).map_err(LocationError::Url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(LocationError::Credentials("a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(LocationError::Credentials("a query, such as a shared access signature"));
        }
        let host = url.host().ok_or(LocationError::NoContainer)?;
        let by_path = match &host {
            Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        let by_host = match &host {
            Host::Domain(name) if !by_path => name
                .split_once('.')
                .filter(|(_, rest)| rest.starts_with("blob."))
                .map(|(account, _)| account.to_owned()),
            _ => None,
        };
        let path = url.path().to_owned();
        let mut segments: Vec<&str> = path.split('/').skip(1).collect();
        while segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        let mut segments = segments.into_iter();
        let by_path = if by_path { Some(segments.next().ok_or(LocationError::NoContainer)?) } else { None };
        let container = segments.next().filter(|name| !name.is_empty()).ok_or(LocationError::NoContainer)?;
        let rest: Vec<&str> = segments.collect();
        let mut prefix = percent_decode_str(&rest.join("/"))
            .decode_utf8()
            .map_err(|_| LocationError::NotText)?
            .into_owned();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        let root =
            by_path.map_or_else(|| format!("/{container}"), |account| format!("/{account}/{container}"));
        let account = by_path.map(str::to_owned).or(by_host);
        url.set_path(&root);
        Ok(Self { container: url, account, prefix })
    }

    /// The storage account, where the URL tells it.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// What every blob's name begins with: empty, or a folder and a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The container's URL.
    pub(super) fn container(&self) -> &Url {
        &self.container
    }

    /// The container's name.
    pub fn container_name(&self) -> &str {
        self.container.path_segments().and_then(Iterator::last).unwrap_or_default()
    }

    /// A blob's URL. None where no URL leads to it: `.` and `..` are taken out of every URL on its way.
    pub(super) fn blob(&self, name: &str) -> Option<Url> {
        if name.split('/').any(|segment| segment == "." || segment == "..") {
            return None;
        }
        let mut url = self.container.clone();
        url.set_path(&format!("{}/{}", self.container.path(), utf8_percent_encode(name, IN_PATH)));
        Some(url)
    }

    /// Whether `name` is one that `Location::blob` has a URL for.
    pub fn reaches(&self, name: &str) -> bool {
        self.blob(name).is_some()
    }

    /// Scheme, host and port, and for path-style services the account: what a connection string calls `BlobEndpoint`.
    pub(super) fn endpoint(&self) -> String {
        let whole = self.container.as_str();
        whole.rsplit_once('/').map_or(whole, |(endpoint, _)| endpoint).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_style_and_path_style_are_told_apart() {
        let read = |text: &str| {
            let location = Location::parse(text).unwrap();
            (
                location.account().unwrap_or_default().to_owned(),
                location.container_name().to_owned(),
                location.prefix().to_owned(),
                location.to_string(),
            )
        };
        let is = |account: &str, container: &str, prefix: &str, shown: &str| {
            (account.to_owned(), container.to_owned(), prefix.to_owned(), shown.to_owned())
        };
        let at = "https://acc.blob.core.windows.net/photos";
        assert_eq!(read(at), is("acc", "photos", "", at));
        assert_eq!(read(&format!("{at}///")), is("acc", "photos", "", at));
        let deep = format!("{at}/a%20b/%C3%BC");
        assert_eq!(read(&format!("{deep}/")), is("acc", "photos", "a b/ü/", &deep));
        let custom = "https://photos.contoso.example/c";
        assert_eq!(read(custom), is("", "c", "", custom));
        let emulated = "http://127.0.0.1:10000/devstoreaccount1/c";
        assert_eq!(read(&format!("{emulated}/")), is("devstoreaccount1", "c", "", emulated));
        assert_eq!(read("http://localhost:1/acc/c/x").2, "x/");
        assert_eq!(Location::parse(emulated).unwrap().endpoint(), "http://127.0.0.1:10000/devstoreaccount1");
        assert_eq!(Location::parse(at).unwrap().endpoint(), "https://acc.blob.core.windows.net");
    }

    #[test]
    fn what_is_no_location_is_refused_without_showing_secrets() {
        for (text, part) in [
            ("https://acc.blob.core.windows.net", "container"),
            ("https://acc.blob.core.windows.net//", "container"),
            ("http://127.0.0.1:10000/devstoreaccount1", "container"),
            ("https://acc.blob.core.windows.net/c?sv=1&sig=verysecret", "signature"),
            ("https://me:verysecret@acc.blob.core.windows.net/c", "user or password"),
            ("https://", "host"),
        ] {
            let error = Location::parse(text).unwrap_err();
            let text = mynah_contracts::error_chain(&error);
            assert!(text.contains(part) && !text.contains("verysecret"), "{text}");
        }
    }

    #[test]
    fn names_are_carried_as_they_are() {
        let location = Location::parse("https://acc.blob.core.windows.net/c").unwrap();
        let url = |name: &str| location.blob(name).map(|url| url.path().to_owned());
        assert_eq!(url("a%2Fb#?/ü ##vso[.jpg").unwrap(), "/c/a%252Fb%23%3F/%C3%BC%20%23%23vso%5B.jpg");
        assert_eq!(url("a//b.jpg").unwrap(), "/c/a//b.jpg");
        assert_eq!((url("a/../b"), url("./b")), (None, None));
        assert!(location.reaches("a/..b"));
    }

    proptest! {
        #[test]
        fn a_names_url_decodes_to_the_name(name in "[ -~äß漢%/\\\\]{1,24}") {
            let location = Location::parse("http://127.0.0.1:1/acc/c").unwrap();
            if let Some(url) = location.blob(&name) {
                let decoded = percent_decode_str(url.path()).decode_utf8().unwrap().into_owned();
                prop_assert_eq!(decoded, format!("/acc/c/{name}"));
            }
        }
    }
}
