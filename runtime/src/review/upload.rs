//! Uploading what was kept, to a container of Azure Blob Storage, by a shared access signature that may do that only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mynah_contracts::REVIEW_FOLDER;

use super::{forget, paths, waiting};
use crate::secret::Secret;
use crate::web;

/// How long one picture may take.
const TIME: Duration = Duration::from_mins(5);
/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(15);
/// The version of the service's interface.
const VERSION: &str = "2021-12-02";
/// A container and the right to write to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Its address.
    base: String,
    /// The signature.
    query: Secret,
}

impl Container {
    /// Reads the address of a container with its signature: `https://ACCOUNT.blob.core.windows.net/CONTAINER?sv=…&sig=…`.
    ///
    /// # Errors
    /// It is none; an unencrypted one is allowed on this machine only.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (base, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let (scheme, rest) = base.split_once("://").unwrap_or(("", ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_here =
            matches!(host.rsplit_once(':').map_or(host, |(name, _)| name), "127.0.0.1" | "localhost");
        if !(scheme == "https" || (scheme == "http" && is_here)) {
            return Err("an address with https:// is needed".into());
        }
        if host.is_empty() || host.contains('@') || path.trim_matches('/').is_empty() {
            return Err("the address of a container is needed".into());
        }
        if !query.split('&').any(|pair| pair.starts_with("sig=")) {
            return Err("the address has no shared access signature".into());
        }
        Ok(Self { base: base.trim_end_matches('/').to_owned(), query: Secret::new(query) })
    }

    fn blob(&self, name: &str) -> String {
        format!("{}/{name}?{}", self.base, self.query.expose())
    }
}

/// The thread that uploads, seen from outside.
pub(super) struct Uploader {
    news: Sender<()>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Uploader {
    pub(super) fn start(folder: PathBuf, container: Container) -> io::Result<Self> {
        let (news, told) = channel();
        let problem = Arc::new(Mutex::new(None));
        let shared = problem.clone();
        std::thread::Builder::new().name("review".into()).spawn(move || {
            serve(&folder, &container, &told, &shared);
        })?;
        Ok(Self { news, problem })
    }

    /// There is something to upload.
    pub(super) fn wake(&self) {
        // A thread that ended has told why.
        let _ = self.news.send(());
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Uploads what is there and what comes, until the device has ended.
fn serve(folder: &Path, container: &Container, told: &Receiver<()>, problem: &Mutex<Option<String>>) {
    let mut wait = FIRST_WAIT;
    loop {
        let failed = upload_all(folder, container).err();
        let mut known = problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &failed
            && known.as_ref() != Some(why)
        {
            tracing::warn!("{why}");
        }
        known.clone_from(&failed);
        drop(known);
        let told = if failed.is_some() {
            let told = sleep(told, wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            told
        } else {
            wait = FIRST_WAIT;
            told.recv().is_ok()
        };
        if !told {
            return;
        }
    }
}

/// Waits without regard to news; whether anyone is left to bring some.
fn sleep(told: &Receiver<()>, mut wait: Duration) -> bool {
    const STEP: Duration = Duration::from_secs(1);
    while !wait.is_zero() {
        if matches!(told.recv_timeout(STEP.min(wait)), Err(RecvTimeoutError::Disconnected)) {
            return false;
        }
        wait = wait.saturating_sub(STEP);
    }
    true
}

fn upload_all(folder: &Path, container: &Container) -> Result<(), String> {
    let here = |error: io::Error| format!("the pictures for review in `{}`: {error}", folder.display());
    let agent = web::config(TIME).max_redirects(0).build().new_agent();
    for name in waiting(folder).map_err(here)? {
        // The sighting comes last: where it is, its picture is too.
        let [note, picture] = paths(folder, &name);
        // In the container the time tells which is which.
        let blob = name.split_once('-').map_or(name.as_str(), |(_, blob)| blob);
        for (path, kind) in [(picture, "image/jpeg"), (note, "application/json")] {
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                // It gave way to a newer one meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(here(error)),
            };
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            put(&agent, container, &format!("{}/{blob}.{ending}", day(blob)), kind, &bytes)?;
        }
        forget(folder, &name).map_err(here)?;
    }
    Ok(())
}

/// The folder of a day: `_review/2026-01-02`.
fn day(name: &str) -> String {
    match (name.get(..4), name.get(4..6), name.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{REVIEW_FOLDER}/{year}-{month}-{day}"),
        _ => REVIEW_FOLDER.to_owned(),
    }
}

fn put(
    agent: &ureq::Agent,
    container: &Container,
    name: &str,
    kind: &str,
    bytes: &[u8],
) -> Result<(), String> {
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let answer = agent
        .put(container.blob(name))
        .header("x-ms-version", VERSION)
        .header("x-ms-date", date)
        .header("x-ms-blob-type", "BlockBlob")
        .header("content-type", kind)
        // One that is there already came before the power went.
        .header("if-none-match", "*")
        .send(bytes);
    match answer {
        Ok(_) | Err(ureq::Error::StatusCode(409)) => Ok(()),
        Err(ureq::Error::StatusCode(status)) => {
            Err(format!("the container for review answers `{name}` with {status}"))
        }
        Err(error) => {
            let why = error.to_string().replace(container.query.expose(), "…");
            Err(format!("pictures for review cannot be uploaded: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_and_their_signature_is_not_shown() {
        let container = Container::parse("https://a.blob.core.windows.net/photos?sv=1&sig=geheim\n").unwrap();
        assert_eq!(
            container.blob("_review/x.jpg"),
            "https://a.blob.core.windows.net/photos/_review/x.jpg?sv=1&sig=geheim"
        );
        assert!(!format!("{container:?}").contains("geheim"));
        for bad in [
            "",
            "https://a/photos",
            "http://a.example/photos?sig=x",
            "https://a.example?sig=x",
            "https://u@a.example/c?sig=x",
            "ftp://a/c?sig=x",
        ] {
            assert!(!Container::parse(bad).unwrap_err().contains("sig=x"), "{bad}");
        }
        assert_eq!(day("20260102T030405000Z-1"), "_review/2026-01-02");
    }
}
