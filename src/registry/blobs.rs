//! Blobs of a repository: asking for them, sending them, fetching them.
//!
//! Small blobs go in one request, large ones in chunks of which the registry says how much it has; what broke off
//! goes on from there. A lost answer is looked up before anything is sent again.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mynah_contracts::{Hasher, Sha256Digest};

use super::RegistryError;
use super::session::{Scope, Session};
use super::upload;
use crate::http::{Body, HttpError, Method, Repeat, Request, Response, Url};
use crate::oci::spec::Descriptor;

/// How often in a row an upload may come no further before it is given up.
pub(super) const ATTEMPTS: u32 = 5;

/// The longest wait a registry may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// One repository of a registry.
pub(crate) struct Repository<'a> {
    pub(crate) session: &'a Session,
    /// The path in the registry.
    pub(crate) path: &'a str,
    pub(crate) scope: &'a Scope,
}

/// Where a blob's bytes are.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// In a file.
    File(&'a Path),
    /// In memory.
    Bytes(&'a [u8]),
}

impl Content<'_> {
    fn part(self, offset: u64, length: u64) -> Body {
        match self {
            Self::File(path) => Body::File { path: path.to_owned(), offset, length },
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let count = usize::try_from(length).unwrap_or(usize::MAX);
                Body::Bytes(bytes.iter().skip(start).take(count).copied().collect())
            }
        }
    }
}

/// What became of taking a blob over from another repository.
pub(crate) enum Mount {
    /// It is there.
    Done,
    /// It is not; the registry may have opened an upload for it (distribution-spec, "Mounting a blob").
    Refused(Option<Url>),
}

/// How an attempt to upload ended.
enum Attempt {
    Done,
    /// The session is gone or in an unknown state; a new one may do better.
    Again(RegistryError),
    /// No attempt will do better.
    Never(RegistryError),
}

impl Repository<'_> {
    /// The repository with its registry.
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.session.address.name(), self.path)
    }

    fn url(&self, rest: &str) -> Url {
        self.session.address.api(&format!("{}/{rest}", self.path))
    }

    fn blob_url(&self, digest: Sha256Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    /// Whether the repository has the blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub(crate) async fn has_blob(&self, digest: Sha256Digest) -> Result<bool, RegistryError> {
        let doing = format!("look for the blob `{digest}` in `{}`", self.shown());
        let request = Request::new(Method::HEAD, self.blob_url(digest)).also(&[404]);
        let answer = self.session.send(request, self.scope, &doing).await?;
        if answer.status() == 404 {
            return Ok(false);
        }
        self.believe(&answer, digest, &doing)?;
        Ok(true)
    }

    /// Takes the blob over from another repository of the registry, `from`.
    ///
    /// A refusal is no failure: the blob is then sent, in the session the registry may have opened instead.
    pub(crate) async fn mount(&self, digest: Sha256Digest, from: &str) -> Mount {
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let request = Request::post(url.clone()).repeat(Repeat::Always);
        let doing = format!("take the blob `{digest}` over from `{from}`");
        match self.session.send(request, self.scope, &doing).await {
            Ok(answer) if answer.status() == 201 => Mount::Done,
            Ok(answer) => Mount::Refused(upload::location(&url, answer.header("location"))),
            Err(error) => {
                tracing::debug!("{}", mynah_contracts::error_chain(&error));
                Mount::Refused(None)
            }
        }
    }

    /// Sends the blob whose bytes are `content`, in the session `opened` if there is one. `sent` is told how many
    /// bytes the registry has taken.
    ///
    /// # Errors
    /// When the registry refuses it, or it came no further several times in a row.
    pub(crate) async fn upload(
        &self,
        blob: &Descriptor,
        content: Content<'_>,
        mut opened: Option<Url>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let doing = format!("push the blob `{}` to `{}`", blob.digest, self.shown());
        let mut failures = 0;
        loop {
            let location = match opened.take() {
                Some(location) => location,
                None => self.begin(&doing).await?,
            };
            let attempt = if blob.size <= self.session.pace.chunk {
                let body = content.part(0, blob.size);
                self.end(&location, blob, Some(body), &doing).await
            } else {
                self.in_chunks(location, blob, content, sent, &doing).await
            };
            let error = match attempt {
                Attempt::Done => break,
                Attempt::Never(error) => return Err(error),
                Attempt::Again(error) => error,
            };
            failures += 1;
            // The work may have been done and only the answer lost.
            if self.has_blob(blob.digest).await? {
                break;
            }
            if failures >= ATTEMPTS {
                return Err(error);
            }
            self.pause(&error, failures).await;
        }
        sent(blob.size);
        Ok(())
    }

    /// Opens an upload and gives its address.
    async fn begin(&self, doing: &str) -> Result<Url, RegistryError> {
        let url = self.url("blobs/uploads/");
        // An upload opened twice costs the registry nothing.
        let request = Request::post(url.clone()).repeat(Repeat::Always);
        let answer = self.session.send(request, self.scope, doing).await?;
        self.next(&url, &answer, doing)
    }

    /// The newest address of an upload.
    fn next(&self, asked: &Url, answer: &Response, doing: &str) -> Result<Url, RegistryError> {
        upload::location(asked, answer.header("location"))
            .ok_or_else(|| self.session.odd(doing, "with no place of its own to send the bytes to"))
    }

    /// The request that ends an upload, with bytes where none were sent before.
    async fn end(&self, location: &Url, blob: &Descriptor, body: Option<Body>, doing: &str) -> Attempt {
        let url = upload::with_digest(location, &blob.digest.to_string());
        let mut request = Request::put(url).repeat(Repeat::Never);
        if let Some(body) = body {
            request = request.body("application/octet-stream", body);
        }
        match self.session.send(request, self.scope, doing).await {
            Ok(answer) => match self.believe(&answer, blob.digest, doing) {
                Ok(()) => Attempt::Done,
                Err(error) => Attempt::Never(error),
            },
            Err(error) => judge(error),
        }
    }

    /// Chunk after chunk, each from where the registry says it is.
    async fn in_chunks(
        &self,
        mut location: Url,
        blob: &Descriptor,
        content: Content<'_>,
        sent: &(dyn Fn(u64) + Sync),
        doing: &str,
    ) -> Attempt {
        let mut offset = 0;
        let mut failures = 0;
        while offset < blob.size {
            let length = self.session.pace.chunk.min(blob.size - offset);
            let request = Request::new(Method::PATCH, location.clone())
                .repeat(Repeat::Never)
                .header("content-range", &format!("{offset}-{}", offset + length - 1))
                .body("application/octet-stream", content.part(offset, length))
                .also(&[416]);
            let outcome = self.session.send(request, self.scope, doing).await;
            let error = match outcome {
                Ok(answer) if answer.status() != 416 => {
                    match self.next(&location, &answer, doing) {
                        Ok(next) => location = next,
                        Err(error) => return Attempt::Never(error),
                    }
                    // What the registry says it has counts, where it says so.
                    let received = upload::received(answer.header("range")).unwrap_or(offset + length);
                    if received > offset && received <= blob.size {
                        offset = received;
                        failures = 0;
                        sent(offset);
                        continue;
                    }
                    self.session.odd(doing, format!("with {received} bytes received of {}", offset + length))
                }
                Ok(_) => self.session.odd(doing, "with 416: it has other bytes than we sent"),
                Err(error) => match judge(error) {
                    Attempt::Again(error) => error,
                    other => return other,
                },
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Attempt::Never(error);
            }
            self.pause(&error, failures).await;
            match self.progress(&location, blob.size, doing).await {
                Some((next, received)) => (location, offset) = (next, received),
                None => return Attempt::Again(error),
            }
        }
        self.end(&location, blob, None, doing).await
    }

    /// Where an upload goes on, and how much the registry has; nothing where it knows no such upload.
    async fn progress(&self, location: &Url, size: u64, doing: &str) -> Option<(Url, u64)> {
        let answer = self.session.send(Request::get(location.clone()), self.scope, doing).await.ok()?;
        let received = upload::received(answer.header("range"))?;
        // Some registries give no new address with the status; the old one is then the newest.
        let next = upload::location(location, answer.header("location")).unwrap_or_else(|| location.clone());
        (received <= size).then_some((next, received))
    }

    /// Fetches a blob into `to`, and checks that it is the one asked for.
    ///
    /// # Errors
    /// When it cannot be fetched, is not the one, or `to` refuses.
    pub(crate) async fn fetch(
        &self,
        blob: &Descriptor,
        to: &mut (dyn Write + Send),
    ) -> Result<(), RegistryError> {
        let doing = format!("fetch the blob `{}` from `{}`", blob.digest, self.shown());
        let failed = |source| self.session.failed(&doing, source);
        let mut incoming =
            self.session.open(Request::get(self.blob_url(blob.digest)), self.scope, &doing).await?;
        let mut hasher = Hasher::new();
        let mut count = 0_u64;
        while let Some(bytes) = incoming.chunk().await.map_err(failed)? {
            let bytes = bytes.as_ref();
            count += bytes.len() as u64;
            if count > blob.size {
                return Err(self.session.odd(&doing, format!("with more than {} bytes", blob.size)));
            }
            hasher.update(bytes);
            to.write_all(bytes)
                .map_err(|source| failed(HttpError::Sink { request: doing.clone(), source }))?;
        }
        let found = hasher.finish();
        if found == blob.digest { Ok(()) } else { Err(self.lie(&doing, blob.digest, found.to_string())) }
    }

    /// Waits before the next attempt: as long as the registry asks for, within reason.
    pub(super) async fn pause(&self, error: &RegistryError, failures: u32) {
        let asked = match error {
            RegistryError::Request { source, .. } => source.refusal().and_then(|refusal| refusal.retry_after),
            _ => None,
        };
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let own = self.session.pace.first_wait.saturating_mul(doubled);
        tokio::time::sleep(asked.unwrap_or(own).min(LONGEST_WAIT)).await;
    }

    /// Compares the digest a registry states, where it does, with the one that must be.
    fn believe(&self, answer: &Response, expected: Sha256Digest, doing: &str) -> Result<(), RegistryError> {
        match answer.header("docker-content-digest") {
            Some(stated) if stated != expected.to_string() => {
                Err(self.lie(doing, expected, stated.chars().take(80).collect()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn lie(&self, doing: &str, expected: Sha256Digest, found: String) -> RegistryError {
        RegistryError::OtherDigest {
            registry: self.session.address.name().into(),
            what: doing.into(),
            expected,
            found,
        }
    }
}

fn judge(error: RegistryError) -> Attempt {
    if may_do_better(&error) { Attempt::Again(error) } else { Attempt::Never(error) }
}

/// Whether another attempt may do better.
pub(super) fn may_do_better(error: &RegistryError) -> bool {
    let RegistryError::Request { source, .. } = error else { return false };
    match source {
        // 404: the upload is unknown. 408, 429, 5xx: the registry, or a proxy before it, is busy.
        HttpError::Refused(refusal) => matches!(refusal.status, 404 | 408 | 416 | 429 | 500..=599),
        HttpError::Unreachable { .. } | HttpError::Interrupted { .. } | HttpError::Deadline { .. } => true,
        _ => false,
    }
}
