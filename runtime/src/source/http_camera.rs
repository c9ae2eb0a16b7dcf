//! A camera of the network that sends JPEG after JPEG over HTTP: IP cameras, mjpg-streamer, ustreamer, ESP32-CAM.
//!
//! One request, one endless answer. The client speaks HTTP/1.0, so that nobody cuts the answer into chunks, and a
//! read that waits too long returns, which the clients made for answers that end cannot promise.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::raw_frame::RawFrame;
use super::splitter::{JpegSplitter, Splitter as _};
use super::watched::{Camera, CameraError};
use crate::settings::StreamAddress;

/// How long a connection, and the head of the answer, may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;
/// How many pieces are read at most before a frame is handed over: more than the kernel holds back for a reader that
/// was busy (6 MB where nobody set it otherwise), so that the newest is reached, and an end where a camera is faster
/// than its reader.
const MAX_PIECES: usize = 256;

/// A stream of pictures.
struct HttpCamera {
    stream: TcpStream,
    splitter: JpegSplitter,
    piece: Vec<u8>,
}

/// Connects, asks, and reads the head of the answer.
///
/// # Errors
/// Nobody answers, or not with a stream of pictures.
pub(super) fn open(address: &StreamAddress) -> Result<Box<dyn Camera>, CameraError> {
    let failed = |what: &str| {
        let what = format!("{what} `{}`", address.host);
        move |error: io::Error| CameraError::io(what, error)
    };
    let addresses = (address.host.as_str(), address.port).to_socket_addrs().map_err(failed("cannot find"))?;
    let mut last = None;
    let mut connected = None;
    for to in addresses.take(4) {
        match TcpStream::connect_timeout(&to, CONNECT) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = Some(error),
        }
    }
    let Some(mut stream) = connected else {
        return Err(failed("cannot connect to")(last.unwrap_or_else(|| io::ErrorKind::NotFound.into())));
    };
    stream.set_write_timeout(Some(CONNECT)).map_err(failed("cannot use the connection to"))?;
    stream.write_all(request(address).as_bytes()).map_err(failed("cannot ask"))?;
    let rest = read_head(&mut stream).map_err(failed("no pictures from"))?;
    let mut splitter = JpegSplitter::default();
    splitter.feed(&rest);
    Ok(Box::new(HttpCamera { stream, splitter, piece: vec![0; PIECE] }))
}

fn request(address: &StreamAddress) -> String {
    let authorization = address.credentials.as_ref().map_or_else(String::new, |credentials| {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials.expose()))
    });
    format!(
        "GET {} HTTP/1.0\r\nHost: {}:{}\r\nUser-Agent: mynah-runtime/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg\r\n{authorization}\r\n",
        address.path,
        address.host,
        address.port,
        env!("CARGO_PKG_VERSION"),
    )
}

/// Reads up to the empty line, checks the status, and gives what came after it.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let started = Instant::now();
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            check_status(&head)?;
            return Ok(rest);
        }
        let left = CONNECT.saturating_sub(started.elapsed());
        if head.len() > MAX_HEAD || left.is_zero() {
            return Err(io::Error::other("the head of its answer does not end"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => head.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
}

fn check_status(head: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let line = text.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/") && status == "200" {
        return Ok(());
    }
    let shown: String = line.chars().take(80).flat_map(char::escape_debug).collect();
    Err(io::Error::other(format!("it answers `{shown}`")))
}

impl HttpCamera {
    /// Reads once; `false` = nothing came in time.
    fn read(&mut self, wait: Option<Duration>) -> Result<bool, CameraError> {
        let lost = |error| CameraError::io("the connection broke", error);
        match wait {
            Some(wait) => self
                .stream
                .set_nonblocking(false)
                .and_then(|()| self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))),
            None => self.stream.set_nonblocking(true),
        }
        .map_err(lost)?;
        match self.stream.read(&mut self.piece) {
            Ok(0) => Err(CameraError::new("it ended its stream")),
            Ok(length) => {
                self.splitter.feed(self.piece.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(lost(error)),
        }
    }

    /// The newest whole frame; damaged ones are passed over, since the next is on its way.
    fn newest(&mut self) -> Option<RawFrame> {
        let mut newest = None;
        while let Some(frame) = self.splitter.next() {
            newest = frame.ok().or(newest);
        }
        newest
    }
}

impl Camera for HttpCamera {
    fn frame(&mut self, wait: Duration) -> Result<Option<RawFrame>, CameraError> {
        let started = Instant::now();
        let mut newest = self.newest();
        while newest.is_none() {
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() || !self.read(Some(left))? {
                return Ok(None);
            }
            newest = self.newest();
        }
        // What has come meanwhile is newer; a stream that ended is told with the next frame.
        for _ in 0..MAX_PIECES {
            if !self.read(None).unwrap_or(false) {
                break;
            }
            newest = self.newest().or(newest);
        }
        Ok(newest)
    }

    fn form(&self) -> String {
        "JPEG over HTTP".into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mynah_testkit::{GREEN, RED, solid_colour_jpeg};

    use super::*;

    /// Answers one request with these bytes and closes; gives the request.
    fn serve(answer: Vec<u8>) -> (StreamAddress, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            // The client may have had enough before the end.
            let _ = stream.write_all(&answer);
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        (StreamAddress::parse(&format!("http://user:pass@127.0.0.1:{port}/?action=stream")).unwrap(), server)
    }

    fn frames(address: &StreamAddress) -> (usize, String) {
        let mut camera = open(address).unwrap();
        let mut count = 0;
        loop {
            match camera.frame(Duration::from_secs(5)) {
                Ok(frame) => count += usize::from(frame.is_some()),
                Err(error) => return (count, error.to_string()),
            }
        }
    }

    #[test]
    fn a_stream_is_asked_for_and_its_newest_picture_taken() {
        let head =
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n\r\n--x\r\n\r\n";
        let answer = [
            head.to_vec(),
            solid_colour_jpeg(RED, 1),
            b"\r\n--x\r\n\r\n".to_vec(),
            solid_colour_jpeg(GREEN, 2),
        ];
        let (address, server) = serve(answer.concat());
        let (count, end) = frames(&address);
        assert!((1..=2).contains(&count), "{count}");
        assert_eq!(end, "it ended its stream");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /?action=stream HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("Authorization: Basic dXNlcjpwYXNz\r\n"), "{request}");
    }

    #[test]
    fn a_camera_faster_than_its_reader_is_seen_as_it_is_now() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = StreamAddress::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (tell, filled) = std::sync::mpsc::channel();
        // All that fits between the two, since the reader was busy; then the newest.
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
            let old = solid_colour_jpeg(RED, 1);
            stream.set_nonblocking(true).unwrap();
            let mut sent = 0;
            // The picture that was begun is brought to its end below.
            let rest = loop {
                let mut left = old.as_slice();
                while let Ok(length) = stream.write(left) {
                    left = &left[length..];
                    if left.is_empty() {
                        break;
                    }
                }
                if !left.is_empty() {
                    break left.to_vec();
                }
                sent += 1;
            };
            stream.set_nonblocking(false).unwrap();
            tell.send(()).unwrap();
            stream.write_all(&[rest, solid_colour_jpeg(GREEN, 2)].concat()).unwrap();
            // The camera stays until its reader goes.
            let _ = stream.read(&mut request);
            sent
        });
        let mut camera = open(&address).unwrap();
        filled.recv().unwrap();
        let newest = solid_colour_jpeg(GREEN, 2);
        let mut frames = 0;
        // The newest may come a moment later than the reader, but nobody looks at each of the others.
        while camera.frame(Duration::from_secs(5)).unwrap() != Some(RawFrame::Jpeg(newest.clone())) {
            frames += 1;
        }
        drop(camera);
        let sent = server.join().unwrap();
        assert!(sent > 500 && frames < sent / 50, "{frames} of {sent} pictures were looked at");
    }

    #[test]
    fn an_answer_without_pictures_is_told_and_credentials_are_not() {
        for (answer, says) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "it answers `HTTP/1.1 401 Unauthorized`"),
            ("SSH-2.0\r\n\r\n", "it answers `SSH-2.0`"),
            ("", "unexpected end of file"),
        ] {
            let (address, server) = serve(answer.into());
            let error = mynah_contracts::error_chain(&open(&address).err().unwrap());
            assert!(error.contains(says) && !error.contains("pass@"), "{error}");
            server.join().unwrap();
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = StreamAddress::parse(&format!("http://{closed}/")).unwrap();
        assert!(open(&address).err().unwrap().to_string().starts_with("cannot connect to"));
    }
}
