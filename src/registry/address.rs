//! Where a registry is spoken to: from the name in a reference to URLs of its API.

use url::Url;

use crate::oci::reference::Repository;

/// The name of Docker Hub in references.
const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A registry's name and the root of its API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    name: String,
    root: Url,
    /// Whether unencrypted HTTP to another machine was allowed.
    pub(crate) insecure: bool,
}

impl Address {
    /// The address of `registry`, a host with or without a port. Unencrypted HTTP is spoken to this machine, and to
    /// others where `insecure`.
    ///
    /// Nothing where the text is no host.
    pub(crate) fn of(registry: &str, insecure: bool) -> Option<Self> {
        let name = match registry {
            "index.docker.io" | DOCKER_HUB_API => DOCKER_HUB,
            other => other,
        };
        let host = if name == DOCKER_HUB { DOCKER_HUB_API } else { name };
        let scheme = if insecure || is_loopback(host) { "http" } else { "https" };
        let root: Url = format!("{scheme}://{host}/").parse().ok()?;
        let plain = root.path() == "/" && root.username().is_empty() && root.query().is_none();
        plain.then(|| Self { name: name.to_owned(), root, insecure })
    }

    /// The registry as references name it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host with its port, which Azure Container Registry calls the service.
    pub(crate) fn service(&self) -> &str {
        &self.root[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// A URL of the API: `/v2/<path>`.
    pub(crate) fn api(&self, path: &str) -> Url {
        self.below(&format!("/v2/{path}"))
    }

    /// Any path of the registry. Names of repositories and digests need no escapes.
    pub(crate) fn below(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(path);
        url
    }
}

/// The registry and the path in it.
pub(crate) fn split(repository: &Repository) -> (&str, &str) {
    repository.as_str().split_once('/').unwrap_or((repository.as_str(), ""))
}

fn is_loopback(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_encryption() {
        let root = |registry, insecure| Address::of(registry, insecure).unwrap().api("a/blobs/x").to_string();
        assert_eq!(root("127.0.0.1:5000", false), "http://127.0.0.1:5000/v2/a/blobs/x");
        assert_eq!(root("localhost", false), "http://localhost/v2/a/blobs/x");
        assert_eq!(root("r.example", false), "https://r.example/v2/a/blobs/x");
        assert_eq!(root("r.example:5000", true), "http://r.example:5000/v2/a/blobs/x");
        assert_eq!(root("localhost.example", false), "https://localhost.example/v2/a/blobs/x");
    }

    #[test]
    fn docker_hub_has_three_names() {
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let address = Address::of(name, false).unwrap();
            assert_eq!((address.name(), address.service()), ("docker.io", "registry-1.docker.io"));
        }
    }

    #[test]
    fn what_is_more_than_a_host_is_none() {
        for bad in ["", "a/b", "user@host", "host?x", "ho st"] {
            assert_eq!(Address::of(bad, false), None, "{bad}");
        }
    }
}
