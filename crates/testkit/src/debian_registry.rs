//! Debian's docker-registry behind a password, on a loopback port: where a double would only say what we believe.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Who may do everything there.
pub const USER: &str = "ada";

/// That user's password.
pub const PASSWORD: &str = "pass-word-1815";

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running registry; it ends when this is dropped.
pub struct DebianRegistry {
    child: Child,
    address: SocketAddr,
}

impl DebianRegistry {
    /// Starts an empty one that keeps everything below `folder`.
    ///
    /// # Errors
    /// `docker-registry` or `htpasswd` is not installed, or nobody answers for half a minute.
    pub fn start(folder: &Path) -> Result<Self> {
        let passwords = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output()?;
        ensure!(passwords.status.success(), "htpasswd made no password");
        fs::write(folder.join("htpasswd"), passwords.stdout)?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let place = folder.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/registry}}}}\n\
             http: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}\n"
        );
        fs::write(folder.join("registry.yml"), config)?;
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), folder.join("registry.yml").as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "docker-registry does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
