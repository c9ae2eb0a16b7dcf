//! The security daemon: signs what it is given and names the authority to trust.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{DEVICE, GENERATION, HUB, MODULE};

/// The module's key.
const KEY: &[u8] = b"the module's key";

/// Answers at `socket` for as long as the process lives, with `authority` (PEM) as what is to be trusted. What no
/// correct client asks is not answered.
///
/// # Errors
/// The socket cannot be made.
pub fn security_daemon(socket: &Path, authority: String) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::Builder::new().name("security daemon".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away, or asked nonsense, has its answer in the closed connection.
            let _ = serve(stream, &authority);
        }
    })?;
    Ok(())
}

fn serve(mut stream: UnixStream, authority: &str) -> Result<()> {
    let mut bytes = [0; 4096];
    let length = stream.read(&mut bytes)?;
    let request = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    let body = if request.starts_with("GET /trust-bundle?api-version=") {
        json!({ "certificate": authority })
    } else {
        let sign = format!("POST /modules/{MODULE}/genid/{GENERATION}/sign?");
        ensure!(request.starts_with(&sign), "nobody asks for {request}");
        let (_, asked) = request.split_once("\r\n\r\n").context("a request without a body")?;
        let asked: Value = serde_json::from_str(asked)?;
        let data = STANDARD.decode(asked["data"].as_str().context("nothing to sign")?)?;
        let resource = format!("{HUB}%2Fdevices%2F{DEVICE}%2Fmodules%2F{MODULE}\n");
        ensure!(data.starts_with(resource.as_bytes()), "another module's password is asked for");
        let mut key = Hmac::<Sha256>::new_from_slice(KEY)?;
        key.update(&data);
        json!({ "digest": STANDARD.encode(key.finalize().into_bytes()) })
    };
    let body = body.to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Ok(stream.write_all(answer.as_bytes())?)
}
