//! The address of an organisation: `AZP_URL`.

use std::fmt;

use mynah::http::Url;
use mynah_contracts::{Diagnosis, FaultKind};

/// The service in the cloud.
const CLOUD: &str = "dev.azure.com";

/// Where an organisation (or a server's collection) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization(Url);

/// What is wrong with an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrganizationError {
    /// No address.
    #[error("`AZP_URL` is `{0}`, which is no address")]
    NoAddress(String),
    /// Unencrypted.
    #[error("`AZP_URL` is `{0}`, which is not encrypted")]
    Plain(String),
    /// A user, query or fragment: what a browser shows, or a token in the address.
    #[error("`AZP_URL` holds more than an address: {0}")]
    Extra(&'static str),
    /// The service without an organisation.
    #[error("`AZP_URL` names no organisation")]
    NoOrganization,
    /// A page inside an organisation.
    #[error("`AZP_URL` names a page inside the organisation `{organization}`")]
    Page {
        /// The organisation's own address.
        organization: String,
    },
}

impl Diagnosis for OrganizationError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Page { organization } => format!("set `AZP_URL` to `{organization}`"),
            _ => format!("set `AZP_URL` to `https://{CLOUD}/ORGANIZATION`"),
        })
    }
}

impl Organization {
    /// Reads an address as people copy it.
    ///
    /// # Errors
    /// What is no address of an organisation.
    pub fn parse(text: &str) -> Result<Self, OrganizationError> {
        let text = text.trim();
        let shown = || text.escape_debug().to_string();
        let mut url = Url::parse(text).map_err(|_| OrganizationError::NoAddress(shown()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OrganizationError::Extra("a user or token before `@`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(OrganizationError::Extra("a part after `?` or `#`"));
        }
        let host = url.host_str().ok_or_else(|| OrganizationError::NoAddress(shown()))?.to_owned();
        let local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            "http" => return Err(OrganizationError::Plain(shown())),
            _ => return Err(OrganizationError::NoAddress(shown())),
        }
        let path: Vec<String> =
            url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if host == CLOUD {
            match path.as_slice() {
                [] => return Err(OrganizationError::NoOrganization),
                [_] => {}
                [organization, ..] => {
                    return Err(OrganizationError::Page {
                        organization: format!("https://{CLOUD}/{organization}"),
                    });
                }
            }
        } else if host.ends_with(".visualstudio.com")
            && !matches!(path.as_slice(), [] | [_])
            && path.first().is_some_and(|first| first != "DefaultCollection")
        {
            return Err(OrganizationError::Page { organization: format!("https://{host}") });
        }
        url.set_path(&path.join("/"));
        Ok(Self(url))
    }

    /// The address of a resource below it, such as `_apis/distributedtask/pools`.
    pub fn at(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().append_pair("api-version", "7.1");
        url
    }
}

impl fmt::Display for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_as_people_copy_them() {
        for (text, address) in [
            ("https://dev.azure.com/contoso", "https://dev.azure.com/contoso"),
            (" https://dev.azure.com/contoso/\n", "https://dev.azure.com/contoso"),
            ("https://contoso.visualstudio.com/", "https://contoso.visualstudio.com"),
            (
                "https://tfs.contoso.com/tfs/DefaultCollection/",
                "https://tfs.contoso.com/tfs/DefaultCollection",
            ),
            ("http://127.0.0.1:8080/contoso", "http://127.0.0.1:8080/contoso"),
        ] {
            assert_eq!(Organization::parse(text).unwrap().to_string(), address);
        }
        let at = Organization::parse("https://dev.azure.com/contoso/").unwrap().at(&["_apis", "a b"]);
        assert_eq!(at.as_str(), "https://dev.azure.com/contoso/_apis/a%20b?api-version=7.1");
    }

    #[test]
    fn what_is_no_organisation_is_told_apart() {
        use OrganizationError::{Extra, NoAddress, NoOrganization, Page, Plain};
        let error = |text| Organization::parse(text).unwrap_err();
        assert_eq!(error("contoso"), NoAddress("contoso".into()));
        assert_eq!(error("ftp://dev.azure.com/contoso"), NoAddress("ftp://dev.azure.com/contoso".into()));
        assert_eq!(error("http://dev.azure.com/contoso"), Plain("http://dev.azure.com/contoso".into()));
        assert_eq!(error("https://dev.azure.com/"), NoOrganization);
        assert!(matches!(error("https://me:pat@dev.azure.com/contoso"), Extra(_)));
        assert!(matches!(error("https://dev.azure.com/contoso?x=1"), Extra(_)));
        let page = error("https://dev.azure.com/contoso/edge/_build");
        assert_eq!(page, Page { organization: "https://dev.azure.com/contoso".into() });
        assert_eq!(page.hint().unwrap(), "set `AZP_URL` to `https://dev.azure.com/contoso`");
    }

    proptest! {
        #[test]
        fn what_was_read_is_read_again_the_same(text in "https://[a-z]{1,8}\\.[a-z]{2,5}(/[a-z0-9%._-]{0,6}){0,4}") {
            if let Ok(first) = Organization::parse(&text) {
                prop_assert_eq!(Organization::parse(&first.to_string()).unwrap(), first);
            }
        }
    }
}
