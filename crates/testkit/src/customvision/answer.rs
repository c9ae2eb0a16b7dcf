//! Requests taken apart, refusals in the service's form.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    pub(super) message: String,
    /// Whether no correct client would have asked so.
    pub(super) breaks_contract: bool,
}

impl Refusal {
    /// 400: the state does not allow it; a correct client meets this.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), breaks_contract: false }
    }

    /// 400: no correct client asks so.
    pub(super) fn wrong(code: &'static str, message: impl Into<String>) -> Self {
        Self { breaks_contract: true, ..Self::bad(code, message) }
    }

    /// 404.
    pub(super) fn absent(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::bad(code, message) }
    }

    /// 401, in the form of the gateway before the service.
    pub(super) fn wrong_key() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "401",
            message: "Access denied due to invalid subscription key or wrong API endpoint.".into(),
            breaks_contract: false,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let inner = json!({ "code": self.code, "message": self.message });
        let gateway = self.status == StatusCode::UNAUTHORIZED;
        let body = if gateway { json!({ "error": inner }) } else { inner };
        let id = [("apim-request-id", "5e5a4f6e-0000-4000-8000-000000000001")];
        (self.status, id, Json(body)).into_response()
    }
}

/// 200 with JSON.
pub(super) fn ok(body: &impl Serialize) -> Response {
    Json(body).into_response()
}

/// A request's query and body; what is looked at is noted.
pub(super) struct Ask {
    query: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
    content_type: String,
    body: Bytes,
}

impl Ask {
    pub(super) fn read(parts: &Parts, body: &Bytes) -> Result<Self, String> {
        let Query(pairs): Query<Vec<(String, String)>> =
            Query::try_from_uri(&parts.uri).map_err(|error| error.to_string())?;
        let mut query = BTreeMap::new();
        for (name, value) in pairs {
            if query.insert(name.clone(), value).is_some() {
                return Err(format!("the query names `{name}` twice"));
            }
        }
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Self { query, read: RefCell::default(), content_type, body: body.clone() })
    }

    /// A query parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.read.borrow_mut().insert(name.to_owned());
        self.query.get(name).map(String::as_str)
    }

    /// A query parameter that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Refusal::wrong("BadRequestRequiredParamIsNull", format!("`{name}` is missing")))
    }

    /// A query parameter that is a comma-separated list of at most `most`.
    pub(super) fn list(&self, name: &str, most: usize) -> Result<Vec<String>, Refusal> {
        let items: Vec<String> = self
            .get(name)
            .unwrap_or_default()
            .split(',')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        if items.len() > most {
            let message = format!("`{name}` lists {}, {most} are allowed", items.len());
            return Err(Refusal::wrong("BadRequestExceededBatchSize", message));
        }
        Ok(items)
    }

    /// A query parameter that is a number of at most `most`.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
            Refusal::wrong("BadRequest", format!("`{name}` is `{text}`, at most {most} is allowed"))
        })
    }

    /// Query parameters nobody looked at.
    pub(super) fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.query.keys().filter(|name| !read.contains(*name)).cloned().collect()
    }

    /// The body as JSON of exactly this form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if !self.content_type.starts_with("application/json") {
            let message = format!("the content type is `{}`", self.content_type);
            return Err(Refusal::wrong("UnsupportedMediaType", message));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::wrong("BadRequest", format!("the body is wrong: {error}")))
    }

    /// Whether there is a body.
    pub(super) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// How many bytes the body has.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The files of a `multipart/form-data` body (RFC 7578): field name, file name, bytes.
    pub(super) fn multipart(&self) -> Result<Vec<(String, String, Vec<u8>)>, Refusal> {
        let wrong = |what: &str| Refusal::wrong("BadRequestImageStream", what);
        let boundary = self
            .content_type
            .strip_prefix("multipart/form-data")
            .and_then(|rest| rest.split_once("boundary="))
            .map(|(_, boundary)| boundary.trim_matches('"').to_owned())
            .ok_or_else(|| wrong("the body is no multipart/form-data"))?;
        let opening = format!("--{boundary}");
        let delimiter = format!("\r\n{opening}");
        let rest = self.body.strip_prefix(opening.as_bytes()).ok_or_else(|| wrong("no first boundary"))?;
        let mut files = Vec::new();
        let mut rest = rest;
        while let Some(part) = rest.strip_prefix(b"\r\n") {
            let end = find(part, delimiter.as_bytes()).ok_or_else(|| wrong("a part does not end"))?;
            let (part, after) = part.split_at(end);
            let head = find(part, b"\r\n\r\n").ok_or_else(|| wrong("a part has no header"))?;
            let (head, content) = part.split_at(head);
            let head = String::from_utf8_lossy(head).into_owned();
            let named = |name: &str| {
                let (_, rest) = head.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let field = named("; name").ok_or_else(|| wrong("a part has no name"))?;
            let content = content.get(4..).unwrap_or_default().to_vec();
            files.push((field, named("filename").unwrap_or_default(), content));
            rest = after.get(delimiter.len()..).unwrap_or_default();
        }
        if rest.starts_with(b"--") { Ok(files) } else { Err(wrong("no last boundary")) }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
