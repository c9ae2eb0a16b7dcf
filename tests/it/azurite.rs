//! Azurite, Microsoft's emulator of Blob Storage, where it is installed: the judge of signatures and of listings.
//!
//! `MYNAH_AZURITE` names its program `azurite-blob`; without it, it is looked for on the path (`npm install azurite`).

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The same for every Azurite, by its documentation.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
pub(crate) const CONTAINER: &str = "photos";

const VERSION: &str = "2021-12-02";

/// A running emulator with one empty container.
pub(crate) struct Azurite {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Azurite {
    /// Starts one; none, and a word on standard error, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var_os("MYNAH_AZURITE").unwrap_or_else(|| "azurite-blob".into());
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let spawned = Command::new(&program)
            .args([
                "--silent",
                "--disableTelemetry",
                "--skipApiVersionCheck",
                "--blobPort",
                &port.to_string(),
            ])
            .arg("--location")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            eprintln!(
                "SKIPPED: no `{}`; install the npm package azurite or set MYNAH_AZURITE",
                Path::new(&program).display()
            );
            return None;
        };
        let azurite = Self { child, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "azurite did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        azurite.put("", "restype=container", &[], b"");
        Some(azurite)
    }

    pub(crate) fn container(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}/{CONTAINER}", self.port)
    }

    /// Writes a blob; `path` is percent-encoded.
    pub(crate) fn upload(&self, path: &str, content: &[u8]) {
        self.put(&format!("/{path}"), "", &[("x-ms-blob-type", "BlockBlob")], content);
    }

    pub(crate) fn delete(&self, path: &str) {
        self.send("DELETE", &format!("/{path}"), "", &[], b"");
    }

    fn put(&self, path: &str, query: &str, headers: &[(&str, &str)], content: &[u8]) {
        self.send("PUT", path, query, headers, content);
    }

    /// Signs by the documented rules, written down here a second time, and sends with `curl`.
    fn send(&self, method: &str, path: &str, query: &str, headers: &[(&str, &str)], content: &[u8]) {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
            .unwrap();
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
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap();
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut body = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut body, content).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--path-as-is", "--request", method]);
        curl.arg("--header").arg(format!("authorization: SharedKey {ACCOUNT}:{signature}"));
        curl.arg("--header").arg(format!("content-type: {content_type}"));
        for (name, value) in own {
            curl.arg("--header").arg(format!("{name}: {value}"));
        }
        curl.arg("--data-binary").arg(format!("@{}", body.path().display()));
        let ended = curl.arg(format!("{}{path}?{query}", self.container())).output().unwrap();
        assert!(ended.status.success(), "{method} {path}: {}", String::from_utf8_lossy(&ended.stdout));
    }
}
