//! A camera of the network, as mjpg-streamer is one: JPEG after JPEG over HTTP, until someone pulls the plug.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::solid_colour_jpeg;

/// The time between two pictures.
const PACE: Duration = Duration::from_millis(50);

/// The camera; it looks at one colour, with noise, so that no two pictures are the same.
#[derive(Debug)]
pub struct NetworkCamera {
    address: SocketAddr,
    view: Arc<Mutex<View>>,
}

#[derive(Clone, Copy, Debug)]
struct View {
    colour: [u8; 3],
    plugged: bool,
}

impl NetworkCamera {
    /// Starts one that looks at `colour`.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(colour: [u8; 3]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let view = Arc::new(Mutex::new(View { colour, plugged: true }));
        let shared = view.clone();
        std::thread::Builder::new().name("camera double".into()).spawn(move || {
            for (stream, number) in listener.incoming().flatten().zip(1..) {
                let view = shared.clone();
                // Whoever went away is not missed.
                let served = std::thread::Builder::new().spawn(move || serve(stream, &view, number << 32));
                if served.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, view })
    }

    /// Where it streams.
    pub fn url(&self) -> String {
        format!("http://{}/?action=stream", self.address)
    }

    /// Looks at another colour.
    pub fn show(&self, colour: [u8; 3]) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).colour = colour;
    }

    /// Pulls the plug, or puts it in: without it, streams break off and nobody is answered.
    pub fn plug(&self, plugged: bool) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).plugged = plugged;
    }
}

fn serve(mut stream: TcpStream, view: &Mutex<View>, first: u64) -> std::io::Result<()> {
    let now = || *view.lock().unwrap_or_else(PoisonError::into_inner);
    if !now().plugged {
        return Ok(());
    }
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    stream.write_all(
        b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=boundarydonotcross\r\n\r\n",
    )?;
    let mut seed = first;
    while let View { colour, plugged: true } = now() {
        let picture = solid_colour_jpeg(colour, seed);
        write!(
            stream,
            "--boundarydonotcross\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            picture.len()
        )?;
        stream.write_all(&picture)?;
        stream.write_all(b"\r\n")?;
        seed += 1;
        std::thread::sleep(PACE);
    }
    Ok(())
}
