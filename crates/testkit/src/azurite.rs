//! Azurite, Microsoft's emulator of Blob Storage, where it is installed: the judge of signatures and of listings.
//!
//! `MYNAH_AZURITE` names its program `azurite-blob`; without it, it is looked for on the path (`npm install azurite`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The account, the same for every Azurite, by its documentation.
pub const ACCOUNT: &str = "devstoreaccount1";
/// The account's key, published with it.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// The container that [`Azurite::start`] makes.
pub const CONTAINER: &str = "photos";

const VERSION: &str = "2021-12-02";

/// What the emulator writes its accesses to, below its folder.
const LOG: &str = "access.log";

/// A running emulator with one empty container; it ends when this is dropped.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Azurite {
    /// The program that is started.
    pub fn program() -> OsString {
        std::env::var_os("MYNAH_AZURITE").unwrap_or_else(|| "azurite-blob".into())
    }

    /// Starts one; none where it is not installed.
    ///
    /// # Errors
    /// It is installed and does not start.
    pub fn start() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join(LOG))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let spawned = Command::new(Self::program())
            .args(["--disableTelemetry", "--skipApiVersionCheck", "--blobPort", &port.to_string()])
            .arg("--location")
            .arg(folder.path())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else { return Ok(None) };
        let azurite = Self { child, port, folder };
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "azurite did not start within a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        azurite.send("PUT", "", "restype=container", &[], b"")?;
        Ok(Some(azurite))
    }

    /// The container's URL.
    pub fn container(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}/{CONTAINER}", self.port)
    }

    /// How often a blob was asked for, by the emulator's own log. Listings do not count.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn downloads(&self) -> Result<usize> {
        let log = fs::read_to_string(self.folder.path().join(LOG))?;
        let blobs = format!("\"GET /{ACCOUNT}/{CONTAINER}/");
        Ok(log.lines().filter(|line| line.contains(&blobs)).count())
    }

    /// Writes a blob; `path` is percent-encoded.
    ///
    /// # Errors
    /// The emulator refuses it.
    pub fn upload(&self, path: &str, content: &[u8]) -> Result<()> {
        self.send("PUT", &format!("/{path}"), "", &[("x-ms-blob-type", "BlockBlob")], content)
    }

    /// Removes a blob; `path` is percent-encoded.
    ///
    /// # Errors
    /// The emulator refuses it, or there is no such blob.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.send("DELETE", &format!("/{path}"), "", &[], b"")
    }

    /// Signs by the documented rules, written down here a second time, and sends with `curl`.
    fn send(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        content: &[u8],
    ) -> Result<()> {
        let now = jiff::Timestamp::now();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now)?;
        let mut own: Vec<(&str, &str)> = headers.to_vec();
        own.extend([("x-ms-date", date.as_str()), ("x-ms-version", VERSION)]);
        own.sort_unstable();
        let length = if content.is_empty() { String::new() } else { content.len().to_string() };
        let lines: Vec<String> = own.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = lines.concat();
        let resource = format!("/{ACCOUNT}/{ACCOUNT}/{CONTAINER}{path}");
        let query_lines = query.replacen('=', ":", 1);
        let query_lines = if query.is_empty() { String::new() } else { format!("\n{query_lines}") };
        let content_type = "application/octet-stream";
        let text = format!(
            "{method}\n\n\n{length}\n\n{content_type}\n\n\n\n\n\n\n{canonical}{resource}{query_lines}"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(KEY)?)?;
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut body = tempfile::NamedTempFile::new()?;
        body.write_all(content)?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--path-as-is", "--request", method]);
        curl.arg("--header").arg(format!("authorization: SharedKey {ACCOUNT}:{signature}"));
        curl.arg("--header").arg(format!("content-type: {content_type}"));
        for (name, value) in own {
            curl.arg("--header").arg(format!("{name}: {value}"));
        }
        curl.arg("--data-binary").arg(format!("@{}", Path::new(body.path()).display()));
        let ended =
            curl.arg(format!("{}{path}?{query}", self.container())).output().context("cannot start curl")?;
        let said = String::from_utf8_lossy(&ended.stdout);
        ensure!(ended.status.success(), "{method} {path}: {said}");
        Ok(())
    }
}
