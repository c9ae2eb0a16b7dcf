//! The broker: mosquitto, with one port for devices, encrypted, and one for whoever plays the hub.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long the broker may take to start.
const PATIENCE: Duration = Duration::from_mins(1);
/// The programs that are needed.
const PROGRAM: &str = "/usr/sbin/mosquitto";
const OPENSSL: &str = "/usr/bin/openssl";
/// The kind of key of all certificates.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// The broker; it ends with this.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    folder: tempfile::TempDir,
    tls: u16,
    plain: u16,
}

impl Mosquitto {
    /// Which program is missing to have one, if any.
    pub fn missing() -> Option<&'static str> {
        [PROGRAM, OPENSSL].into_iter().find(|program| !Path::new(program).exists())
    }

    /// Starts one with certificates of its own. What waits for a client that is away outlives [`Mosquitto::down`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        openssl(path, &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"))?;
        openssl(path, &format!("req {KEY} -keyout server.key -out server.csr -subj /CN=localhost"))?;
        std::fs::write(path.join("names"), "subjectAltName=DNS:localhost\n")?;
        openssl(
            path,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem -days 2",
        )?;
        let (tls, plain) = (free_port()?, free_port()?);
        let text = format!(
            "user root\npersistence true\npersistence_location {0}/\nmax_queued_messages 0\n\
             per_listener_settings true\nlistener {tls} 127.0.0.1\nallow_anonymous true\n\
             certfile {0}/server.pem\nkeyfile {0}/server.key\nlistener {plain} 127.0.0.1\nallow_anonymous true\n",
            path.display()
        );
        std::fs::write(path.join("mosquitto.conf"), text)?;
        let mut broker = Self { child: None, folder, tls, plain };
        broker.up()?;
        Ok(broker)
    }

    /// The port for devices, over TLS, as `localhost`.
    pub fn tls(&self) -> u16 {
        self.tls
    }

    /// The port for whoever plays the hub.
    pub fn plain(&self) -> u16 {
        self.plain
    }

    /// The authority that vouches for the broker, in PEM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn authority(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("ca.pem"))?)
    }

    /// The authority as a file.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Another authority, which does not vouch for the broker, in PEM.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn other_authority(&self) -> Result<String> {
        let path = self.folder.path();
        openssl(path, &format!("req -x509 {KEY} -keyout other.key -out other.pem -subj /CN=other -days 2"))?;
        Ok(std::fs::read_to_string(path.join("other.pem"))?)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start in time.
    pub fn up(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join("mosquitto.log"))?;
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.plain)).is_err() {
            ensure!(
                started.elapsed() < PATIENCE,
                "mosquitto did not start: {}",
                std::fs::read_to_string(self.folder.path().join("mosquitto.log"))?
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it; it first writes down what it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn down(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let asked = Command::new("kill").arg(child.id().to_string()).status()?;
            ensure!(asked.success(), "mosquitto cannot be asked to end");
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let output = Command::new(OPENSSL)
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot start {OPENSSL}"))?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
