//! A caller over HTTP/1.1 that keeps its connection, may break off in the middle, and shows an answer as it came.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A connection that is kept.
pub struct Caller(BufReader<TcpStream>);

impl Caller {
    /// Calls `address`, a host and a port.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: &str) -> io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address)?)))
    }

    /// Asks, and gives the answer as [`Caller::answer`] does.
    ///
    /// # Errors
    /// The connection ends before the answer does.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<(u16, String)> {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nhost: double\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text += "\r\n";
        text += body;
        self.send(&text)?;
        self.answer()
    }

    /// Sends these bytes and no others: half a request, or one that lies.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    /// The next answer: its status, and its head in small letters with the body behind it.
    ///
    /// # Errors
    /// The connection ends before the answer does, or it is none.
    pub fn answer(&mut self) -> io::Result<(u16, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in `{head}`")))?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        Ok((status, head + &String::from_utf8_lossy(&body)))
    }
}
