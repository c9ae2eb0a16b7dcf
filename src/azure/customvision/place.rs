//! Where a project is, and how to sign in.

use std::fmt;

use reqwest::Url;

use super::VisionError;
use crate::agent::Env;
use crate::azure::auth::{TokenSource, scope};
use crate::http::{Client, Request};
use crate::secret::Secret;

/// The API's path below a resource's endpoint.
const API: &str = "/customvision/v3.3/training";

/// The variables that may hold the training key, the task's secret input first.
const KEY_VARIABLES: [&str; 2] = ["INPUT_CUSTOMVISIONKEY", "CUSTOM_VISION_KEY"];

/// A resource's endpoint, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The endpoint.
    endpoint: Url,
    /// The project's name.
    pub project: String,
    /// Which kind of model is trained.
    pub domain: Domain,
    /// The service connection to sign in with, by its id.
    pub connection: Option<String>,
}

/// The name of a domain, such as `General (compact)`. Only compact ones can be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    /// The name, if it is one of a compact domain.
    pub fn parse(name: &str) -> Option<Self> {
        name.contains("(compact)").then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Place {
    /// A project at `endpoint`, the address that the portal shows: with or without a slash at its end, with or
    /// without the API's path.
    ///
    /// # Errors
    /// An endpoint that is no web address, or holds a user, a query or another path; a name that is none.
    pub fn parse(
        endpoint: &str,
        project: &str,
        domain: Domain,
        connection: Option<String>,
    ) -> Result<Self, VisionError> {
        let wrong = |what: &str| VisionError::Endpoint {
            endpoint: endpoint.chars().take(200).flat_map(char::escape_debug).collect(),
            what: what.to_owned(),
        };
        let mut url = Url::parse(endpoint.trim()).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
            return Err(wrong("it does not begin with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong("it holds more than a host"));
        }
        let path = url.path().trim_matches('/').to_ascii_lowercase();
        if !path.is_empty() && !path.starts_with("customvision") {
            return Err(wrong("it holds a path that is not Custom Vision's"));
        }
        url.set_path("");
        url.set_fragment(None);
        let project = project.trim();
        if project.is_empty() || project.chars().any(char::is_control) {
            return Err(VisionError::ProjectName { name: project.escape_debug().to_string() });
        }
        Ok(Self { endpoint: url, project: project.to_owned(), domain, connection })
    }

    /// The endpoint as text, with a slash at its end.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    /// The address of a call, whose path begins with a slash.
    pub(super) fn call(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{API}{path}"));
        url
    }

    /// Whether the service runs on this machine, as its double does.
    pub(super) fn is_here(&self) -> bool {
        match self.endpoint.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "project `{}` ({}) at {}", self.project, self.domain.0, self.endpoint)
    }
}

/// What a request is signed with.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    Key(Secret),
    Token(TokenSource),
}

impl Credential {
    /// The training key of the environment; without one, the sign-in to Azure.
    pub(super) fn find(place: &Place, env: &Env, client: &Client) -> Result<Self, VisionError> {
        let key = KEY_VARIABLES.iter().find_map(|name| env.get(name));
        if let (Some(key), None) = (key, &place.connection) {
            return Ok(Self::Key(Secret::new(key.trim())));
        }
        Ok(Self::Token(TokenSource::discover(env, client, place.connection.as_deref())?))
    }

    pub(super) async fn sign(&self, request: Request) -> Result<Request, VisionError> {
        Ok(match self {
            Self::Key(key) => request.secret_header("training-key", key),
            Self::Token(source) => request.bearer(&source.token(scope::COGNITIVE_SERVICES).await?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(endpoint: &str) -> Result<Place, VisionError> {
        Place::parse(endpoint, "animals", Domain::parse("General (compact)").unwrap(), None)
    }

    #[test]
    fn an_endpoint_is_taken_in_each_form_the_portal_shows() {
        for endpoint in [
            "https://westeurope.api.cognitive.microsoft.com",
            "https://westeurope.api.cognitive.microsoft.com/",
            " https://westeurope.api.cognitive.microsoft.com/customvision/v3.3/Training/ ",
        ] {
            let place = parse(endpoint).unwrap();
            assert_eq!(place.endpoint(), "https://westeurope.api.cognitive.microsoft.com/");
            assert_eq!(
                place.call("/projects").as_str(),
                "https://westeurope.api.cognitive.microsoft.com/customvision/v3.3/training/projects"
            );
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_reason() {
        for (endpoint, says) in [
            ("westeurope", "relative URL"),
            ("ftp://host", "https://"),
            ("https://user:pass@host/", "more than a host"),
            ("https://host/?key=1", "more than a host"),
            ("https://host/vision/v2", "path"),
        ] {
            let error = parse(endpoint).unwrap_err().to_string();
            assert!(error.contains(says), "{endpoint}: {error}");
        }
        let domain = || Domain::parse("General (compact)").unwrap();
        assert!(Place::parse("https://host", " ", domain(), None).is_err());
        assert!(Domain::parse("General").is_none());
    }
}
