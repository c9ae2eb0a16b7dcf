//! Why a request came to nothing, and what its reader can do.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mynah_contracts::{Diagnosis, FaultKind};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::redact::clean;

/// Headers that name a request in a service's own records, the most telling first.
const REQUEST_IDS: &[&str] = &[
    "x-ms-request-id",
    "apim-request-id",
    "x-vss-e2eid",
    "activityid",
    "x-ms-correlation-request-id",
    "x-request-id",
    "request-id",
    "iothub-errorcode",
];

/// How far clocks may differ, in seconds: the strictest service allows five minutes.
const FORGIVEN: i64 = 300;

/// What the client library says of a proxy that wants another user or password.
const PROXY_REFUSES: &str = "proxy authorization required";

/// For a proxy that lets nobody through.
const PROXY_PASSWORD: &str = "give the proxy's user and password in HTTPS_PROXY, or set the agent up with \
                              `--proxyusername` and `--proxypassword`";

/// Why a request came to nothing. Requests are shown as method and redacted URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The service answered, but not with what was asked for.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// No connection, no name, no trust.
    #[error("cannot reach the service for `{request}`")]
    Unreachable {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke or went silent before the answer was complete.
    #[error("no complete answer to `{request}`")]
    Interrupted {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("no answer to `{request}` within {} s", .limit.as_secs_f32())]
    Deadline {
        /// The request.
        request: String,
        /// The deadline.
        limit: Duration,
    },
    /// The answer is larger than anything expected.
    #[error("the answer to `{request}` is larger than {limit} bytes")]
    TooLarge {
        /// The request.
        request: String,
        /// The most that is read.
        limit: u64,
    },
    /// The answer is not the JSON that was expected.
    #[error("cannot understand the answer to `{request}`")]
    Unexpected {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It would go over the network unencrypted.
    #[error("`{request}` is not encrypted")]
    Plain {
        /// The request.
        request: String,
    },
    /// A header or body that cannot be written.
    #[error("cannot send `{request}`: its {what} holds what cannot be sent")]
    Unsendable {
        /// The request.
        request: String,
        /// The part, without its value.
        what: String,
    },
    /// A redirection to nowhere, or without end.
    #[error("`{request}` is redirected to where it cannot go")]
    Redirection {
        /// The request.
        request: String,
    },
    /// A file to be sent cannot be read.
    #[error("cannot read `{path}` to send it")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer cannot be stored.
    #[error("cannot store the answer to `{request}`")]
    Sink {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No client can be made, as without certificates to trust.
    #[error("cannot prepare for encrypted connections")]
    Setup(#[source] reqwest::Error),
    /// An agent's proxy without an address.
    #[error("the proxy in AGENT_PROXYURL is no address that begins with `http://` or `https://`")]
    AgentProxy,
    /// No threads for the network.
    #[error("cannot start the network's threads")]
    Runtime(#[source] io::Error),
}

/// A service's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Method and redacted URL.
    pub request: String,
    /// The status.
    pub status: u16,
    /// The service's name for what is wrong, such as `AuthenticationFailed`.
    pub code: Option<String>,
    /// The service's words: one line, bounded.
    pub message: Option<String>,
    /// What the service calls this request in its records.
    pub request_id: Option<String>,
    /// How often it was tried.
    pub tries: u32,
    /// How long the last answer asked to wait.
    pub retry_after: Option<Duration>,
    /// By how many seconds the service's clock is ahead of this machine's, where it told the time.
    pub ahead: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` was answered with {}", self.request, self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, " ({})", message.trim_end_matches('.'))?;
        }
        if self.tries > 1 {
            write!(f, ", {} times", self.tries)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request id `{id}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Reads what the service says in headers and body.
    pub(super) fn read(request: String, status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(clean);
        let (code, message) = words(body);
        Self {
            request,
            status,
            code: header("x-ms-error-code").or(code),
            message,
            request_id: REQUEST_IDS.iter().find_map(|name| header(name)).filter(|id| !id.is_empty()),
            tries: 1,
            retry_after: super::policy::retry_after(headers),
            ahead: super::policy::date(headers)
                .map(|date| date.as_second() - jiff::Timestamp::now().as_second()),
        }
    }
}

impl Refusal {
    /// Whether this machine's clock differs from the service's by more than signatures and tokens forgive.
    pub fn clock_is_off(&self) -> bool {
        self.ahead.is_some_and(|seconds| seconds.abs() > FORGIVEN)
    }
}

/// Code and message in the shapes the services we speak to use.
fn words(body: &[u8]) -> (Option<String>, Option<String>) {
    let shown = |text: &str| Some(clean(text)).filter(|text| !text.is_empty());
    let Ok(text) = std::str::from_utf8(body) else { return (None, None) };
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let inner = value
            .get("errors")
            .and_then(|errors| errors.get(0))
            .or_else(|| value.get("error").filter(|error| error.is_object()))
            .unwrap_or(&value);
        let field = |names: &[&str]| {
            names.iter().find_map(|name| inner.get(*name).and_then(Value::as_str)).and_then(shown)
        };
        return (
            field(&["code", "error", "errorCode", "typeKey"]),
            field(&["message", "error_description", "Message", "detail"]),
        );
    }
    if text.starts_with('<') {
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (inner, _) = rest.split_once(&format!("</{name}>"))?;
            // Storage repeats request id and time in further lines.
            shown(inner.lines().next()?)
        };
        return (element("Code"), element("Message"));
    }
    (None, shown(text))
}

impl HttpError {
    pub(super) fn interrupted(request: &str, source: reqwest::Error) -> Self {
        Self::Interrupted { request: request.to_owned(), source: source.without_url() }
    }

    /// Whether a proxy refuses whoever asks, which it will do again.
    pub(super) fn is_refused_by_proxy(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if mentions(source, PROXY_REFUSES))
    }

    /// The service's refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The status of the service's refusal.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// The code of the service's refusal.
    pub fn code(&self) -> Option<&str> {
        self.refusal().and_then(|refusal| refusal.code.as_deref())
    }
}

impl Diagnosis for HttpError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Plain { .. } | Self::Unsendable { .. } | Self::AgentProxy => FaultKind::BadInput,
            Self::File { .. } | Self::Sink { .. } | Self::Setup(_) | Self::Runtime(_) => FaultKind::Failed,
            _ => FaultKind::ServiceRefused,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused(refusal) => match refusal.status {
                400 | 401 | 403 if refusal.clock_is_off() => "the clock of this machine is off; set it right",
                401 => "check that the key, token or sign-in is right and has not expired",
                403 => {
                    "check that the key or signature is right and that whoever signs in has the role it needs"
                }
                404 => "check the address and the names in it",
                407 => PROXY_PASSWORD,
                408 | 429 => {
                    "the service is busy; run the same command again later, it goes on from what is finished"
                }
                500.. => {
                    "the service has trouble; run the same command again later, it goes on from what is finished"
                }
                _ => return None,
            },
            Self::Unreachable { source, .. } if mentions(source, "certificate") => {
                "the service's certificate is not trusted here; add its authority to the system's certificates or name it in SSL_CERT_FILE"
            }
            Self::Unreachable { source, .. } if mentions(source, PROXY_REFUSES) => PROXY_PASSWORD,
            Self::AgentProxy => {
                "set the agent up anew with `--proxyurl http://host:port`, or set HTTPS_PROXY for the step"
            }
            Self::Unreachable { .. } => {
                "check the address, the network, and HTTPS_PROXY and NO_PROXY where there is a proxy"
            }
            Self::Interrupted { .. } | Self::Deadline { .. } => {
                "check the network and run the same command again; it goes on from what is finished"
            }
            Self::Plain { .. } => "give an address that begins with https://",
            Self::Unsendable { .. } => {
                "keys and tokens are one line of plain text; check for a stray line end"
            }
            Self::Setup(_) => {
                "install the system's certificates (package ca-certificates) or name a file in SSL_CERT_FILE"
            }
            _ => return None,
        };
        Some(hint.into())
    }
}

fn mentions(error: &reqwest::Error, word: &str) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.to_string().to_ascii_lowercase().contains(word) {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_services_words_are_understood() {
        let said = |body: &str| {
            let (code, message) = words(body.as_bytes());
            (code.unwrap_or_default(), message.unwrap_or_default())
        };
        let is = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(said(r#"{"code":"NotFoundProject","message":"no"}"#), is("NotFoundProject", "no"));
        assert_eq!(said(r#"{"error":{"code":"401","message":"key"}}"#), is("401", "key"));
        assert_eq!(
            said(r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid\r\nTrace"}"#),
            is("invalid_client", "AADSTS7000215: Invalid Trace")
        );
        assert_eq!(said(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), is("DENIED", "no"));
        assert_eq!(said(r#"{"Message":"ErrorCode:DeviceNotFound;x"}"#), is("", "ErrorCode:DeviceNotFound;x"));
        assert_eq!(
            said(
                "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Bad.\nRequestId:1</Message></Error>"
            ),
            is("AuthenticationFailed", "Bad.")
        );
        assert_eq!(said("upstream gone"), is("", "upstream gone"));
        assert_eq!(said(""), is("", ""));
        assert_eq!(said("[[["), is("", "[[["));
    }
}
