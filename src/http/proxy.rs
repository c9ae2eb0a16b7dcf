//! The proxy an agent was set up with, for tasks whose environment names none itself.
//!
//! An agent tells its tasks the proxy's address, user and password, and a JSON list of regular expressions for the
//! addresses it is not to be used for (Azure Pipelines, "Run a self-hosted agent behind a web proxy"). This machine
//! itself is never one, as with the agent.

use regex_lite::{Regex, RegexBuilder};
use reqwest::{Proxy, Url};
use tracing::warn;

use super::HttpError;
use super::redact::shown_url;
use crate::agent::Env;
use crate::secret::Secret;

/// Where the agent tells its proxy.
const ADDRESS: &str = "AGENT_PROXYURL";

/// What everybody else reads; any of them is nearer to the task than the agent's.
const OWN: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// An agent's proxy.
#[derive(Debug)]
pub(super) struct AgentProxy {
    address: Url,
    user: Option<(String, Secret)>,
    except: Vec<Regex>,
}

impl AgentProxy {
    /// The agent's proxy, where there is an agent with one and the environment has no other.
    ///
    /// # Errors
    /// What the agent tells is no address of a proxy.
    pub(super) fn of(env: &Env) -> Result<Option<Self>, HttpError> {
        let Some(text) = env.get(ADDRESS).filter(|_| OWN.iter().all(|name| env.get(name).is_none())) else {
            return Ok(None);
        };
        let address = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or(HttpError::AgentProxy)?;
        let user = env.get("AGENT_PROXYUSERNAME").map(|user| {
            let password = ["AGENT_PROXYPASSWORD", "SECRET_AGENT_PROXYPASSWORD"];
            let password = password.iter().find_map(|name| env.get(name)).unwrap_or_default();
            (user.to_owned(), Secret::new(password))
        });
        Ok(Some(Self { address, user, except: except(env.get("AGENT_PROXYBYPASSLIST").unwrap_or("[]")) }))
    }

    /// Whether requests to `url` go through it.
    fn serves(&self, url: &Url) -> bool {
        let this_machine = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => true,
        };
        !this_machine && !self.except.iter().any(|pattern| pattern.is_match(url.as_str()))
    }

    /// As the client takes it.
    pub(super) fn into_proxy(self) -> Proxy {
        tracing::debug!("the agent's proxy is {}", shown_url(&self.address));
        let user = self.user.clone();
        let proxy = Proxy::custom(move |url| self.serves(url).then(|| self.address.clone()));
        match user {
            Some((user, password)) => proxy.basic_auth(&user, password.expose()),
            None => proxy,
        }
    }
}

/// Patterns of addresses; one that cannot be read excepts nothing, as with the agent.
fn except(list: &str) -> Vec<Regex> {
    let patterns: Vec<String> = serde_json::from_str(list).unwrap_or_else(|_| {
        warn!("AGENT_PROXYBYPASSLIST is no list of patterns: the agent's proxy is used for all addresses");
        Vec::new()
    });
    let read = |pattern: &String| {
        let read = RegexBuilder::new(pattern).case_insensitive(true).build().ok();
        if read.is_none() {
            warn!("the pattern `{}` of AGENT_PROXYBYPASSLIST cannot be read", pattern.escape_debug());
        }
        read
    };
    patterns.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(pairs: &[(&str, &str)]) -> Result<Option<AgentProxy>, HttpError> {
        AgentProxy::of(&pairs.iter().copied().collect())
    }

    #[test]
    fn it_serves_all_but_this_machine_and_what_is_excepted() {
        let list = r#"["github\\.com", "(broken", "^https://.*\\.internal/"]"#;
        let pairs = [(ADDRESS, "http://proxy.example:8080"), ("AGENT_PROXYBYPASSLIST", list)];
        let proxy = proxy(&pairs).unwrap().unwrap();
        for (url, served) in [
            ("https://acc.blob.core.windows.net/c", true),
            ("https://GitHub.com/x", false),
            ("https://hub.internal/x", false),
            ("http://hub.internal.example/x", true),
            ("http://localhost:10000/", false),
            ("http://127.0.0.9:10000/", false),
            ("http://[::1]:10000/", false),
        ] {
            assert_eq!(proxy.serves(&Url::parse(url).unwrap()), served, "{url}");
        }
    }

    #[test]
    fn what_the_step_says_itself_comes_first_and_nonsense_is_refused() {
        assert!(proxy(&[]).unwrap().is_none());
        for own in OWN {
            assert!(
                proxy(&[(ADDRESS, "http://proxy.example"), (own, "http://mine.example")]).unwrap().is_none()
            );
        }
        for nonsense in ["proxy.example:8080", "socks5://proxy.example", "http://"] {
            assert!(matches!(proxy(&[(ADDRESS, nonsense)]), Err(HttpError::AgentProxy)), "{nonsense}");
        }
        let odd = [(ADDRESS, "http://proxy.example"), ("AGENT_PROXYBYPASSLIST", "github.com")];
        assert!(proxy(&odd).unwrap().unwrap().except.is_empty());
    }
}
