//! Counts the content that programs send to a server over HTTP/1.1: a relay on a loopback port that passes everything on
//! as it is. Heads of requests are not counted, and every body must state its length, as ours do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;

/// A running relay. Its threads end with the program.
pub(crate) struct CountingProxy {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl CountingProxy {
    /// Relays connections to `server`.
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A connection that breaks is told by the programs at its ends.
                thread::spawn(move || relay(&client, server, &counter));
            }
        });
        Ok(Self { address, sent })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes of content went to the server since this was asked last.
    pub(crate) fn take_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

fn relay(client: &TcpStream, server: SocketAddr, sent: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || pass(&from_server, &to_client, |_| ()));
    let mut bodies = Bodies::default();
    let forth = pass(client, &server, |bytes| {
        sent.fetch_add(bodies.count(bytes), Ordering::SeqCst);
    });
    let _ = back.join();
    forth
}

/// Passes bytes on until one side has no more, and tells the other side so.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut look: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        look(bytes);
        to.write_all(bytes)?;
    }
    to.shutdown(Shutdown::Write)
}

/// Where in a stream of requests we are.
#[derive(Default)]
struct Bodies {
    /// The head that has begun.
    head: Vec<u8>,
    /// What is left of the body that has begun.
    left: u64,
}

impl Bodies {
    /// How many of the stream's next bytes belong to bodies.
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut counted = 0;
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            if self.left > 0 {
                let taken = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                counted += taken as u64;
                self.left -= taken as u64;
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            self.head.push(first);
            rest = after;
            if self.head.ends_with(b"\r\n\r\n") {
                self.left = content_length(&String::from_utf8_lossy(&self.head));
                self.head.clear();
            }
        }
        counted
    }
}

/// What a request's head says of its body's length; 0 where it has none (RFC 9112 §6.3).
fn content_length(head: &str) -> u64 {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_from_heads_wherever_the_stream_is_cut() {
        let stream = b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345HEAD /b HTTP/1.1\r\n\r\nPOST /c HTTP/1.1\r\ncontent-length:2\r\n\r\nab";
        for piece in [1, 2, 7, 1000] {
            let mut bodies = Bodies::default();
            let counted: u64 = stream.chunks(piece).map(|bytes| bodies.count(bytes)).sum();
            assert_eq!(counted, 7, "{piece}");
        }
    }

    #[test]
    fn what_is_sent_is_counted_and_answered() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = CountingProxy::start(server.local_addr().unwrap()).unwrap();
        let answering = thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut asked = Vec::new();
            connection.read_to_end(&mut asked).unwrap();
            connection.write_all(b"the answer").unwrap();
            asked
        });
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nwho").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answering.join().unwrap().ends_with(b"\r\n\r\nwho"));
        assert_eq!(answer, b"the answer");
        assert_eq!((proxy.take_sent(), proxy.take_sent()), (3, 0));
    }
}
