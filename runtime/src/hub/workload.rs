//! The workload API of IoT Edge: the security daemon signs for a module and says whom it may trust.
//!
//! HTTP over a unix socket. One request a connection, answers of a few kilobytes.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::sas::quote;

/// How long an answer may take.
const TIME: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// The daemon, asked on behalf of one module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// The socket.
    pub socket: PathBuf,
    /// The version of the API.
    pub api_version: String,
    /// The module.
    pub module: String,
    /// Which of the module's lives this is.
    pub generation: String,
}

impl Workload {
    /// The signature of `text` with the module's key, in base64.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub(super) fn sign(&self, text: &str) -> io::Result<String> {
        #[derive(Deserialize)]
        struct Signed {
            digest: String,
        }
        let path = format!("/modules/{}/genid/{}/sign", quote(&self.module), quote(&self.generation));
        let body = json!({ "keyId": "primary", "algo": "HMACSHA256", "data": STANDARD.encode(text) });
        let signed: Signed = parse(&self.ask("POST", &path, body.to_string().as_bytes())?)?;
        Ok(signed.digest)
    }

    /// The certificates a module trusts, as PEM.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub(super) fn trust_bundle(&self) -> io::Result<Vec<u8>> {
        #[derive(Deserialize)]
        struct Bundle {
            certificate: String,
        }
        let bundle: Bundle = parse(&self.ask("GET", "/trust-bundle", b"")?)?;
        // The specification says base64, daemons send the text itself.
        if bundle.certificate.contains("-----BEGIN") {
            return Ok(bundle.certificate.into_bytes());
        }
        STANDARD
            .decode(bundle.certificate.trim())
            .map_err(|_| io::Error::other("the trust bundle is not PEM"))
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIME))?;
        stream.set_write_timeout(Some(TIME))?;
        let head = format!(
            "{method} {path}?api-version={} HTTP/1.1\r\nHost: workload\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            quote(&self.api_version),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        body_of(&answer)
    }
}

/// The body of an answer with a status of success.
fn body_of(answer: &[u8]) -> io::Result<Vec<u8>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) =
        end.and_then(|end| Some((answer.get(..end)?, answer.get(end + 4..)?))).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the security daemon's answer ends early")
        })?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let body = if head.lines().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"))
    {
        unchunk(body).ok_or_else(|| io::Error::other("the security daemon's answer is cut wrongly"))?
    } else {
        body.to_vec()
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(body);
    }
    let said: String =
        String::from_utf8_lossy(&body).chars().take(200).flat_map(char::escape_debug).collect();
    Err(io::Error::other(format!("the security daemon answers {status}: {said}")))
}

/// A body of chunks as one piece (RFC 9112, 7.1).
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length..)?.strip_prefix(b"\r\n")?;
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_daemon_is_asked_as_it_expects() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("workload.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let answers = [
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"digest\":\"abc\"\r\n1\r\n}\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n{\"certificate\":\"-----BEGIN CERTIFICATE-----\\n\"}",
                "HTTP/1.1 404 Not Found\r\n\r\n{\"message\":\"no such module\"}",
            ];
            answers.map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 2048];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            })
        });
        let workload = Workload {
            socket,
            api_version: "2022-08-03".into(),
            module: "cam era".into(),
            generation: "1".into(),
        };
        assert_eq!(workload.sign("x\n1").unwrap(), "abc");
        assert!(workload.trust_bundle().unwrap().starts_with(b"-----BEGIN"));
        let error = workload.sign("x").unwrap_err().to_string();
        assert!(error.contains("404") && error.contains("no such module"), "{error}");
        let requests = daemon.join().unwrap();
        assert!(
            requests[0]
                .starts_with("POST /modules/cam%20era/genid/1/sign?api-version=2022-08-03 HTTP/1.1\r\n")
        );
        assert!(
            requests[0].ends_with(r#"{"algo":"HMACSHA256","data":"eAox","keyId":"primary"}"#),
            "{}",
            requests[0]
        );
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        for answer in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]
        {
            assert!(body_of(answer.as_bytes()).is_err());
        }
    }
}
