//! The registry's answers, strict where clients are often sloppy.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use mynah_contracts::Sha256Digest;
use serde_json::{Value, json};

use super::guard::{Grant, Guard};
use super::{Inside, Stage};

/// The largest manifest taken, as registries do (distribution-spec, "Pushing Manifests").
const MAX_MANIFEST: usize = 4 << 20;

/// A request, read whole.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// Where in a repository a path points.
enum Place<'a> {
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Manifest(&'a str),
    Referrers(&'a str),
}

impl Asked<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The repository and the place in it.
    fn place(&self) -> Option<(&str, Place<'_>)> {
        let rest = self.path.strip_prefix("/v2/")?;
        let (head, last) = rest.rsplit_once('/')?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return Some((name, if last.is_empty() { Place::Uploads } else { Place::Upload(last) }));
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            return Some((name, Place::Blob(last)));
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return Some((name, Place::Manifest(last)));
        }
        head.strip_suffix("/referrers").map(|name| (name, Place::Referrers(last)))
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        match (self.method, self.path) {
            ("GET", "/v2/") => return Some(Stage::Ping),
            (_, "/token" | "/oauth2/token") => return Some(Stage::Token),
            (_, "/oauth2/exchange") => return Some(Stage::Exchange),
            _ => {}
        }
        Some(match (self.method, self.place()?.1) {
            ("HEAD", Place::Blob(_)) => Stage::HeadBlob,
            ("GET", Place::Blob(_)) => Stage::GetBlob,
            ("POST", Place::Uploads) => Stage::StartUpload,
            ("GET", Place::Upload(_)) => Stage::UploadStatus,
            ("PATCH", Place::Upload(_)) => Stage::Chunk,
            ("PUT", Place::Upload(_)) => Stage::FinishUpload,
            ("HEAD", Place::Manifest(_)) => Stage::HeadManifest,
            ("GET", Place::Manifest(_)) => Stage::GetManifest,
            ("PUT", Place::Manifest(_)) => Stage::PutManifest,
            ("GET", Place::Referrers(_)) => Stage::Referrers,
            _ => return None,
        })
    }

    /// A parameter of the query, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        parameters(self.query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn form(&self, name: &str) -> Option<String> {
        let text = std::str::from_utf8(self.body).ok()?;
        parameters(text).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// `a=b&c=d`, percent-decoded.
fn parameters(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
                (b'%', Some(byte)) => {
                    bytes.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                (b'+', _) => {
                    bytes.push(b' ');
                    rest = after;
                }
                _ => {
                    bytes.push(first);
                    rest = after;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// An answer whose body is at hand.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.headers.insert(name, value);
        }
        self
    }

    fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = bytes.into();
        self
    }

    fn refuse(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        Self::new(status).with("content-type", "application/json").body(body)
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

pub(super) fn scripted(status: u16, headers: &[(&'static str, String)], body: String) -> Answer {
    headers.iter().fold(Answer::new(status).body(body), |answer, (name, value)| answer.with(name, value))
}

pub(super) fn with_digest(answer: Answer, digest: &str) -> Answer {
    answer.with("docker-content-digest", digest)
}

pub(super) fn with_other_bytes(answer: Answer) -> Answer {
    let bytes: Vec<u8> = answer.body.iter().map(|byte| byte ^ 1).collect();
    answer.body(bytes)
}

/// What the registry answers when nothing goes wrong.
pub(super) fn answer(host: &str, guard: &Guard, inside: &mut Inside, asked: &Asked<'_>) -> Answer {
    match asked.path {
        "/token" | "/oauth2/token" | "/oauth2/exchange" => return token(host, guard, inside, asked),
        path if path.ends_with("/oauth2/v2.0/token") => return entra(guard, asked),
        _ => {}
    }
    let place = asked.place();
    let grant = place.as_ref().map(|(name, _)| {
        let action = if matches!(asked.method, "GET" | "HEAD") { "pull" } else { "push" };
        ((*name).to_owned(), action.to_owned())
    });
    if let Some(refusal) = unauthorised(host, guard, inside, asked, grant.as_ref()) {
        return refusal;
    }
    let Some((name, place)) = place else {
        return match asked.path {
            "/v2/" => Answer::new(200).body("{}"),
            _ => Answer::refuse(404, "NOT_FOUND", "no such path"),
        };
    };
    match (asked.method, place) {
        ("GET" | "HEAD", Place::Blob(digest)) => get_blob(inside, asked, name, digest),
        ("POST", Place::Uploads) => start_upload(guard, inside, asked, name),
        ("GET" | "PATCH" | "PUT", Place::Upload(number)) => upload(inside, asked, name, number),
        ("GET" | "HEAD", Place::Manifest(reference)) => get_manifest(inside, asked, name, reference),
        ("PUT", Place::Manifest(reference)) => put_manifest(inside, asked, name, reference),
        ("GET", Place::Referrers(digest)) if inside.store.knows_referrers => {
            let manifests = inside.store.referrers(name, digest);
            let index = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": manifests,
            });
            Answer::new(200)
                .with("content-type", "application/vnd.oci.image.index.v1+json")
                .body(index.to_string())
        }
        ("GET", Place::Referrers(_)) => Answer::new(404).body("404 page not found"),
        _ => Answer::refuse(405, "UNSUPPORTED", "the operation is unsupported"),
    }
}

/// The refusal of a request without the rights it needs.
fn unauthorised(
    host: &str,
    guard: &Guard,
    inside: &Inside,
    asked: &Asked<'_>,
    grant: Option<&Grant>,
) -> Option<Answer> {
    let authorization = asked.header("authorization");
    let challenge = match guard {
        Guard::Open => return None,
        Guard::Basic { user, password } => {
            if authorization == Some(Guard::basic_header(user, password).as_str()) {
                return None;
            }
            r#"Basic realm="a strict, small registry""#.to_owned()
        }
        Guard::Bearer { .. } | Guard::Entra { .. } => {
            let allowed = match grant {
                Some(grant) => inside.tokens.allow(authorization, grant),
                // Whoever asks for the API itself is told who gives tokens.
                None => asked.path != "/v2/" || inside.tokens.know(authorization),
            };
            if allowed {
                return None;
            }
            let realm = if matches!(guard, Guard::Bearer { .. }) { "token" } else { "oauth2/token" };
            // `pull,push` in one scope: a client that splits at commas loses half of it.
            let scope = grant.map(|(name, action)| {
                let actions = if action == "pull" { "pull" } else { "pull,push" };
                format!(r#",scope="repository:{name}:{actions}""#)
            });
            let scope = scope.unwrap_or_default();
            format!(r#"Bearer realm="http://{host}/{realm}",service="{host}"{scope}"#)
        }
    };
    let refusal = Answer::refuse(401, "UNAUTHORIZED", "authentication required");
    Some(refusal.with("www-authenticate", &challenge))
}

/// The token services.
fn token(host: &str, guard: &Guard, inside: &mut Inside, asked: &Asked<'_>) -> Answer {
    let give = |token: String| {
        let body = json!({ "token": token, "access_token": token, "expires_in": 300 });
        Answer::new(200).with("content-type", "application/json").body(body.to_string())
    };
    match (guard, asked.method, asked.path) {
        (Guard::Bearer { user, password, anonymous_pull }, "GET", "/token") => {
            let scopes = parameters(asked.query).into_iter().filter(|(key, _)| key == "scope");
            let scope = scopes.map(|(_, value)| value).collect::<Vec<_>>().join(" ");
            if asked.parameter("service").as_deref() != Some(host) {
                return Answer::refuse(400, "DENIED", "no such service");
            }
            match asked.header("authorization") {
                Some(given) if given == Guard::basic_header(user, password) => {
                    give(inside.tokens.give(&scope, false))
                }
                None if *anonymous_pull => give(inside.tokens.give(&scope, true)),
                _ => Answer::refuse(401, "UNAUTHORIZED", "incorrect username or password"),
            }
        }
        (Guard::Entra { token }, "POST", "/oauth2/exchange") => {
            let right = asked.form("grant_type").as_deref() == Some("access_token")
                && asked.form("service").as_deref() == Some(host)
                && asked.form("access_token").as_deref() == Some(token);
            if !right {
                return Answer::refuse(401, "UNAUTHORIZED", "the token is not accepted");
            }
            Answer::new(200).body(json!({ "refresh_token": Guard::REFRESH }).to_string())
        }
        (Guard::Entra { .. }, "POST", "/oauth2/token") => {
            let right = asked.form("grant_type").as_deref() == Some("refresh_token")
                && asked.form("service").as_deref() == Some(host)
                && asked.form("refresh_token").as_deref() == Some(Guard::REFRESH);
            if !right {
                return Answer::refuse(401, "UNAUTHORIZED", "the refresh token is not accepted");
            }
            give(inside.tokens.give(&asked.form("scope").unwrap_or_default(), false))
        }
        _ => Answer::refuse(404, "NOT_FOUND", "no such path"),
    }
}

/// The sign-in of Microsoft Entra, for whoever has a secret.
fn entra(guard: &Guard, asked: &Asked<'_>) -> Answer {
    match guard {
        Guard::Entra { token } if asked.method == "POST" && asked.form("client_secret").is_some() => {
            let body = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" });
            Answer::new(200).with("content-type", "application/json").body(body.to_string())
        }
        _ => Answer::refuse(404, "NOT_FOUND", "no such path"),
    }
}

fn get_blob(inside: &Inside, asked: &Asked<'_>, name: &str, digest: &str) -> Answer {
    let Ok(parsed) = digest.parse() else {
        return Answer::refuse(400, "DIGEST_INVALID", "the digest is invalid");
    };
    let Some(bytes) = inside.store.blob(name, parsed) else {
        return Answer::refuse(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let answer = Answer::new(200).with("docker-content-digest", digest);
    if asked.method == "HEAD" {
        return answer.with("content-length", &bytes.len().to_string());
    }
    answer.body(bytes)
}

fn start_upload(guard: &Guard, inside: &mut Inside, asked: &Asked<'_>, name: &str) -> Answer {
    let mount = asked.parameter("mount").zip(asked.parameter("from"));
    if let Some((digest, from)) = mount {
        let allowed = match guard {
            Guard::Bearer { .. } | Guard::Entra { .. } => {
                inside.tokens.allow(asked.header("authorization"), &(from.clone(), "pull".into()))
            }
            _ => true,
        };
        let found = digest.parse().ok().and_then(|digest| inside.store.blob(&from, digest));
        if let Some(bytes) = found.filter(|_| allowed) {
            inside.store.put_blob(name, bytes);
            return Answer::new(201).with("docker-content-digest", &digest);
        }
    }
    let number = inside.store.open(name);
    accepted(inside, name, number)
}

/// 202, with the newest `Location` (relative, as the specification allows) and what has been received.
fn accepted(inside: &mut Inside, name: &str, number: u64) -> Answer {
    let Some(upload) = inside.store.upload(number) else {
        return Answer::refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    };
    upload.state += 1;
    let last = upload.bytes.len().saturating_sub(1);
    Answer::new(202)
        .with("location", &format!("/v2/{name}/blobs/uploads/{number}?_state={}", upload.state))
        .with("range", &format!("0-{last}"))
}

fn upload(inside: &mut Inside, asked: &Asked<'_>, name: &str, number: &str) -> Answer {
    let unknown = || Answer::refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    let Ok(number) = number.parse::<u64>() else { return unknown() };
    let Some(found) = inside.store.upload(number) else { return unknown() };
    let state = asked.parameter("_state").and_then(|state| state.parse::<u64>().ok());
    // Whoever lost an answer asks for the status with an older `Location`.
    if found.repository != name || (asked.method != "GET" && state != Some(found.state)) {
        return unknown();
    }
    if asked.method == "GET" {
        let mut answer = accepted(inside, name, number);
        answer.status = StatusCode::NO_CONTENT;
        return answer;
    }
    if asked.method == "PATCH" {
        let start = asked.header("content-range").and_then(|range| {
            let (start, end) = range.split_once('-')?;
            let (start, end): (usize, usize) = (start.parse().ok()?, end.parse().ok()?);
            (end.checked_sub(start)? + 1 == asked.body.len()).then_some(start)
        });
        if start != Some(found.bytes.len()) {
            let mut answer = accepted(inside, name, number);
            answer.status = StatusCode::RANGE_NOT_SATISFIABLE;
            return answer;
        }
        found.bytes.extend_from_slice(asked.body);
        return accepted(inside, name, number);
    }
    let Some(mut upload) = inside.store.close(number) else { return unknown() };
    upload.bytes.extend_from_slice(asked.body);
    let promised = asked.parameter("digest").and_then(|digest| digest.parse::<Sha256Digest>().ok());
    let digest = Sha256Digest::of(&upload.bytes);
    if promised != Some(digest) {
        return Answer::refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    inside.store.put_blob(name, upload.bytes);
    Answer::new(201)
        .with("docker-content-digest", &digest.to_string())
        .with("location", &format!("/v2/{name}/blobs/{digest}"))
}

fn get_manifest(inside: &Inside, asked: &Asked<'_>, name: &str, reference: &str) -> Answer {
    let Some((media_type, bytes)) = inside.store.manifest(name, reference) else {
        return Answer::refuse(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    let accepts = asked.headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
    if !accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim() == media_type) {
        return Answer::refuse(404, "MANIFEST_UNKNOWN", "no manifest of an accepted type");
    }
    let digest = Sha256Digest::of(&bytes).to_string();
    let answer = Answer::new(200).with("content-type", &media_type).with("docker-content-digest", &digest);
    if asked.method == "HEAD" {
        return answer.with("content-length", &bytes.len().to_string());
    }
    answer.body(bytes)
}

fn put_manifest(inside: &mut Inside, asked: &Asked<'_>, name: &str, reference: &str) -> Answer {
    let invalid = |message: &str| Answer::refuse(400, "MANIFEST_INVALID", message);
    let digest = Sha256Digest::of(asked.body);
    let tag = match reference.parse::<Sha256Digest>() {
        Ok(named) if named == digest => None,
        Ok(_) => return Answer::refuse(400, "DIGEST_INVALID", "the digest is not that of the content"),
        Err(_) => Some(reference),
    };
    if asked.body.len() > MAX_MANIFEST {
        return Answer::refuse(413, "SIZE_INVALID", "the manifest is too large");
    }
    let Ok(manifest) = serde_json::from_slice::<Value>(asked.body) else { return invalid("no JSON") };
    let Some(media_type) = asked.header("content-type") else { return invalid("no content type") };
    if manifest["mediaType"].as_str().is_some_and(|stated| stated != media_type) {
        return invalid("the content type is not the manifest's media type");
    }
    let missing = inside.store.missing(name, &manifest);
    if !missing.is_empty() {
        return Answer::refuse(404, "MANIFEST_BLOB_UNKNOWN", &missing.join(" "));
    }
    inside.store.put_manifest(name, tag, media_type, asked.body.to_vec());
    let answer = Answer::new(201).with("docker-content-digest", &digest.to_string());
    match manifest["subject"]["digest"].as_str() {
        Some(subject) if inside.store.knows_referrers => answer.with("oci-subject", subject),
        _ => answer,
    }
}
