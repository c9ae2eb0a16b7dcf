//! A folder served over HTTP, as a container of blobs is.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Serves the files of `folder` for as long as the process lives, and gives the address of the folder.
///
/// # Errors
/// No port is free.
pub fn serve_folder(folder: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::Builder::new().name("files".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever went away is not missed.
            let _ = answer(stream, &folder);
        }
    })?;
    Ok(address)
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    let length = stream.read(&mut bytes)?;
    let request = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, content) = match std::fs::read(folder.join(name)) {
        Ok(content) => ("200 OK", content),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    stream.write_all(&content)
}
