//! Counts what programs send to a server: a relay on a loopback port that passes everything on as it is.

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

    /// How many bytes went to the server since this was asked last, requests' heads among them.
    pub(crate) fn take_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

fn relay(client: &TcpStream, server: SocketAddr, sent: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || pass(&from_server, &to_client, &AtomicU64::new(0)));
    let forth = pass(client, &server, sent);
    let _ = back.join();
    forth
}

/// Passes bytes on until one side has no more, and tells the other side so.
fn pass(mut from: &TcpStream, mut to: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        count.fetch_add(read as u64, Ordering::SeqCst);
        to.write_all(buffer.get(..read).unwrap_or_default())?;
    }
    to.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        client.write_all(b"the question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!((answering.join().unwrap(), answer), (b"the question".to_vec(), b"the answer".to_vec()));
        assert_eq!((proxy.take_sent(), proxy.take_sent()), (12, 0));
    }
}
