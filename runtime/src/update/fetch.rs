//! Fetching a model package: its card first, which says what else there is and how it must hash. What was fetched
//! stays, so that a fetch that broke off goes on where it stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use mynah_contracts::{Artifact as _, FileRef, ModelCard, Sha256Digest, from_json};
use mynah_model::MAX_MODEL_BYTES;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Keys, UpdateError, Wish};
use crate::web;

/// How long one attempt at one file may take: slow lines are slow.
const TIME: Duration = Duration::from_mins(30);
/// How often a file is tried.
const ATTEMPTS: u32 = 5;
/// The wait before the second attempt; it doubles.
const WAIT: Duration = Duration::from_millis(500);
/// The largest card, in bytes.
const MAX_CARD: u64 = 16 << 20;
/// The largest labels file or probe, in bytes.
const MAX_OTHER: u64 = 64 << 20;
/// The ending of a file that is not whole yet.
const PART: &str = "part";

/// What stands in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Fetches everything into `folder`. The card is believed before anything it names is fetched.
pub(super) fn package(wish: &Wish, keys: &Keys, folder: &Path) -> Result<(), UpdateError> {
    let place = Place::of(&wish.url)?;
    std::fs::create_dir_all(folder)?;
    let agent = web::config(TIME).build().new_agent();
    let card_path = folder.join(ModelCard::FILE);
    let believed = |bytes: &[u8]| {
        let got = Sha256Digest::of(bytes);
        if got != wish.card {
            return Err(UpdateError::Digest { got, expected: wish.card });
        }
        if keys.vouch_for(bytes, &wish.signature) { Ok(()) } else { Err(UpdateError::Signature) }
    };
    let bytes = match std::fs::read(&card_path) {
        Ok(bytes) if Sha256Digest::of(&bytes) == wish.card => bytes,
        _ => {
            fetch(&agent, &wish.url, &card_path, ModelCard::FILE, MAX_CARD)?;
            let part = card_path.with_extension(PART);
            let bytes = std::fs::read(&part)?;
            believed(&bytes).inspect_err(|_| drop(std::fs::remove_file(&part)))?;
            std::fs::rename(&part, &card_path)?;
            bytes
        }
    };
    believed(&bytes)?;
    let card: ModelCard = from_json(&bytes)?;
    let others = std::iter::once(&card.labels_file).chain(card.probes.iter().map(|probe| &probe.file));
    for (file, limit) in others.map(|file| (file, MAX_OTHER)).chain([(&card.model, MAX_MODEL_BYTES)]) {
        fetch_file(&agent, &place, file, folder, limit)?;
    }
    Ok(())
}

/// Where a package is: what stands before and after a file's name.
struct Place<'a> {
    base: &'a str,
    query: &'a str,
}

impl<'a> Place<'a> {
    fn of(url: &'a str) -> Result<Self, UpdateError> {
        let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let rest = path
            .strip_prefix("https://")
            .or_else(|| path.strip_prefix("http://"))
            .ok_or(UpdateError::Address)?;
        let (base, name) = path.rsplit_once('/').ok_or(UpdateError::Address)?;
        if name.is_empty() || !rest.contains('/') {
            return Err(UpdateError::Address);
        }
        Ok(Self { base, query })
    }

    /// A file beside the card; what stands in the query, such as a signature for the whole container, holds for it too.
    fn file(&self, path: &str) -> String {
        format!("{}/{}{}", self.base, utf8_percent_encode(path, PATH), self.query)
    }
}

fn fetch_file(
    agent: &ureq::Agent,
    place: &Place<'_>,
    file: &FileRef,
    folder: &Path,
    limit: u64,
) -> Result<(), UpdateError> {
    let path = file.path.below(folder);
    if digest(&path).is_ok_and(|found| found == file.sha256) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let name = file.path.as_str();
    fetch(agent, &place.file(name), &path, name, limit.min(file.bytes))?;
    let part = path.with_extension(PART);
    if digest(&part)? != file.sha256 {
        std::fs::remove_file(&part)?;
        return Err(UpdateError::File { file: name.to_owned() });
    }
    File::open(&part)?.sync_all()?;
    Ok(std::fs::rename(&part, &path)?)
}

fn digest(path: &Path) -> io::Result<Sha256Digest> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Sha256Digest::of(&bytes))
}

/// Fetches one file to its name with another ending, at most `limit` bytes, going on where an attempt broke off.
fn fetch(agent: &ureq::Agent, url: &str, path: &Path, name: &str, limit: u64) -> Result<(), UpdateError> {
    let mut wait = WAIT;
    for attempt in 1.. {
        match attempt_at(agent, url, &path.with_extension(PART), name, limit) {
            Err(UpdateError::Fetch { source, .. }) if attempt < ATTEMPTS && is_passing(&source) => {
                tracing::info!("fetching `{name}` broke off: {source}; it goes on");
                std::thread::sleep(wait);
                wait *= 2;
            }
            done => return done,
        }
    }
    Ok(())
}

/// Whether another attempt may succeed.
fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => *status == 408 || *status == 429 || *status >= 500,
        ureq::Error::BadUri(_) | ureq::Error::Tls(_) => false,
        _ => true,
    }
}

fn attempt_at(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    name: &str,
    limit: u64,
) -> Result<(), UpdateError> {
    let failed = |source| UpdateError::Fetch { file: name.to_owned(), source: Box::new(source) };
    let too_large = || UpdateError::TooLarge { file: name.to_owned(), max: limit };
    let have = part.metadata().map_or(0, |metadata| metadata.len());
    if have > 0 && have >= limit {
        // As much as there can be: whole, or wrong, which its digest says.
        return Ok(());
    }
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = match request.call() {
        // Nothing lies beyond what is here.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        response => response.map_err(failed)?,
    };
    let goes_on = response.status() == 206 && have > 0;
    let mut file =
        OpenOptions::new().create(true).write(true).append(goes_on).truncate(!goes_on).open(part)?;
    let mut length = if goes_on { have } else { 0 };
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = reader.read(&mut piece).map_err(|error| failed(error.into()))?;
        if read == 0 {
            file.flush()?;
            return Ok(());
        }
        length += read as u64;
        if length > limit {
            drop(file);
            std::fs::remove_file(part)?;
            return Err(too_large());
        }
        file.write_all(piece.get(..read).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use mynah_testkit::tiny_model_package;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    /// Serves a folder; breaks off the first answer for the model in its middle. Notes what it was asked for.
    fn serve(folder: PathBuf) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut broke_off = false;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).unwrap();
                let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap().to_owned();
                let range = request.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("range: bytes=")?
                        .trim_end_matches('-')
                        .parse::<usize>()
                        .ok()
                });
                log.lock().unwrap().push(format!("{path} {}", range.unwrap_or(0)));
                let name = path.trim_start_matches("/m/").split('?').next().unwrap();
                let Ok(content) = std::fs::read(folder.join(name)) else {
                    let _ = stream.write_all(
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                    continue;
                };
                let rest = &content[range.unwrap_or(0)..];
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    rest.len()
                );
                let sent = if name == "model.onnx" && !broke_off { rest.len() / 2 } else { rest.len() };
                broke_off |= sent < rest.len();
                let _ = stream.write_all(&[head.as_bytes(), &rest[..sent]].concat());
            }
        });
        (address, asked)
    }

    struct Scene {
        folder: tempfile::TempDir,
        address: String,
        asked: Arc<Mutex<Vec<String>>>,
        keys: Keys,
        wish: Wish,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("served");
        tiny_model_package(&package).unwrap();
        let card = std::fs::read(package.join("model.json")).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let keys = Keys::parse(&STANDARD.encode(pair.public_key())).unwrap();
        let (address, asked) = serve(package);
        let wish = Wish::parse(&json!({
            "url": format!("{address}/m/model.json?sig=a%2Fb"),
            "sha256": Sha256Digest::of(&card).to_string(),
            "signature": STANDARD.encode(pair.sign(&card)),
        }))
        .unwrap();
        Scene { folder, address, asked, keys, wish }
    }

    #[test]
    fn a_package_is_fetched_and_a_fetch_that_breaks_off_goes_on() {
        let scene = scene();
        let into = scene.folder.path().join("store/x");
        package(&scene.wish, &scene.keys, &into).unwrap();
        let opened = mynah_model::ModelPackage::open(&into).unwrap();
        opened.self_test(&into).unwrap();
        let asked = scene.asked.lock().unwrap().clone();
        let of_model: Vec<_> =
            asked.iter().filter(|line| line.starts_with("/m/model.onnx?sig=a%2Fb ")).collect();
        assert_eq!(of_model.len(), 2, "{asked:?}");
        assert!(of_model[0].ends_with(" 0") && !of_model[1].ends_with(" 0"), "{of_model:?}");
        // What is there is not fetched again.
        package(&scene.wish, &scene.keys, &into).unwrap();
        assert_eq!(scene.asked.lock().unwrap().len(), asked.len());
    }

    #[test]
    fn nothing_is_believed_without_digest_and_signature() {
        let scene = scene();
        let into = scene.folder.path().join("store/y");
        let forged = Wish { signature: vec![0; 64], ..scene.wish.clone() };
        assert!(matches!(package(&forged, &scene.keys, &into), Err(UpdateError::Signature)));
        let other = Wish { card: Sha256Digest::of(b"x"), ..scene.wish.clone() };
        assert!(matches!(package(&other, &scene.keys, &into), Err(UpdateError::Digest { .. })));
        let asked = scene.asked.lock().unwrap().clone();
        assert!(asked.iter().all(|line| line.starts_with("/m/model.json")), "{asked:?}");
        std::fs::write(scene.folder.path().join("served/labels.txt"), "red\nblue\ngrey\n").unwrap();
        assert!(matches!(
            package(&scene.wish, &scene.keys, &into),
            Err(UpdateError::File { .. } | UpdateError::TooLarge { .. })
        ));
        let gone = Wish { url: format!("{}/m/none/model.json", scene.address), ..scene.wish };
        assert!(matches!(
            package(&gone, &scene.keys, &scene.folder.path().join("z")),
            Err(UpdateError::Fetch { .. })
        ));
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for bad in ["", "ftp://h/model.json", "http://h", "https://h/"] {
            assert!(matches!(Place::of(bad), Err(UpdateError::Address)), "{bad}");
        }
        assert_eq!(
            Place::of("https://h/a/model.json?x=1").unwrap().file("probes/a b.png"),
            "https://h/a/probes/a%20b.png?x=1"
        );
    }
}
