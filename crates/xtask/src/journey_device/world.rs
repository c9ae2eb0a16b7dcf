//! The device of the journey and what surrounds it: the built program, its camera, its broker, its hub, its player, a
//! small disk, and the books on what was promised and what arrived.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::{DeviceStatus, from_json};
use mynah_testkit::camera::NetworkCamera;
use mynah_testkit::edge::{EdgeHub, Mosquitto, is_telemetry, module_environment, reported, security_daemon};
use mynah_testkit::{GREY, ModelSigner, tiny_labels, tiny_model_package, tiny_speech};
use serde_json::{Map, Value, json};

/// How long anything may take before the journey fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A player of clips that works while its cable is in, and dawdles over a word while told to.
const PLAYER: &str = r#"[ -e cable ] || exit 1
while [ -e dawdle ]; do sleep 0.05; done
basename "$1" >> heard"#;

pub(super) struct World {
    /// Everything of the device lies here.
    pub(super) folder: PathBuf,
    program: PathBuf,
    pub(super) camera: NetworkCamera,
    pub(super) broker: Mosquitto,
    pub(super) hub: EdgeHub,
    pub(super) signer: ModelSigner,
    child: Option<Child>,
    /// How often the device was started.
    runs: u32,
    /// All sightings the hub got, as they came.
    delivered: Vec<Value>,
    /// All sightings of the runs that are over, and those that may be missing: what a run was killed at.
    promised: Vec<Value>,
    excused: Vec<Value>,
    /// The reported properties, as a hub keeps them.
    reported: Map<String, Value>,
    /// Whether the small disk is one.
    small: bool,
}

impl World {
    pub(super) fn new(folder: &Path, program: PathBuf) -> Result<Self> {
        tiny_model_package(&folder.join("model"))?;
        tiny_speech(&folder.join("speech"), &tiny_labels())?;
        fs::write(folder.join("player.sh"), PLAYER)?;
        fs::write(folder.join("cable"), "")?;
        let signer = ModelSigner::new(1)?;
        fs::write(folder.join("keys"), signer.public_key())?;
        let broker = Mosquitto::start()?;
        security_daemon(&folder.join("workload.sock"), broker.authority()?)?;
        fs::create_dir(folder.join("disk"))?;
        let small = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "none"])
            .arg(folder.join("disk"))
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        Ok(Self {
            camera: NetworkCamera::start(GREY)?,
            hub: EdgeHub::of_module(&broker, json!({ "$version": 1 }))?,
            folder: folder.to_owned(),
            program,
            broker,
            signer,
            child: None,
            runs: 0,
            delivered: Vec::new(),
            promised: Vec::new(),
            excused: Vec::new(),
            reported: Map::new(),
            small,
        })
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("log-{}", self.runs))
    }

    fn sightings(&self) -> PathBuf {
        self.folder.join(format!("sightings-{}.jsonl", self.runs))
    }

    /// Starts the device, and waits until it is ready.
    pub(super) fn start(&mut self) -> Result<()> {
        self.runs += 1;
        let source = self.camera.url();
        let port = self.broker.tls().to_string();
        let sightings = self.sightings().display().to_string();
        let settings = [
            ("model", "model"),
            ("source", source.as_str()),
            ("camera-timeout", "2"),
            ("give-up", "0"),
            ("speech", "speech"),
            ("speaker", "command:sh player.sh"),
            ("votes", "2"),
            ("window", "3"),
            ("leave-frames", "2"),
            ("http", "0"),
            ("hub", "edge"),
            ("hub-port", port.as_str()),
            ("telemetry", "all"),
            ("spool", "disk/spool"),
            ("model-keys-file", "keys"),
            ("model-store", "models"),
            ("model-trial", "3600"),
            ("sightings", sightings.as_str()),
            ("status", "status.json"),
        ];
        let child = Command::new(&self.program)
            .args(settings.iter().map(|(name, value)| format!("--{name}={value}")))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(module_environment(&self.folder.join("workload.sock")))
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .stderr(File::create(self.log())?)
            .spawn()?;
        self.child = Some(child);
        self.until("the device is ready", |world| {
            Ok(world.said("the live page is http://")?
                && world.get("/readyz").is_ok_and(|(status, _)| status == 200))
        })
    }

    /// Where the device serves.
    pub(super) fn host(&self) -> Result<String> {
        let log = fs::read_to_string(self.log())?;
        let (_, rest) = log.split_once("the live page is http://").context("no page is served")?;
        Ok(rest.split('/').next().unwrap_or_default().to_owned())
    }

    /// Status and body of a path.
    fn get(&self, path: &str) -> Result<(u16, String)> {
        let host = self.host()?;
        let mut stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP")?;
        Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }

    /// A figure of the device's metrics.
    pub(super) fn figure(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no figure {name}"))?.parse()?)
    }

    /// Whether the device's log holds a text.
    pub(super) fn said(&self, text: &str) -> Result<bool> {
        Ok(fs::read_to_string(self.log())?.contains(text))
    }

    /// What the device says of itself.
    pub(super) fn status(&self) -> Result<DeviceStatus> {
        Ok(from_json(&fs::read(self.folder.join("status.json"))?)?)
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.status().ok()?.problem
    }

    /// How many words were heard.
    pub(super) fn heard(&self) -> usize {
        fs::read_to_string(self.folder.join("heard")).map_or(0, |text| text.lines().count())
    }

    /// How many sightings have arrived at the hub.
    pub(super) fn arrived(&self) -> usize {
        self.delivered.len()
    }

    /// What the hub knows of a property.
    pub(super) fn property(&self, name: &str) -> &Value {
        self.reported.get(name).unwrap_or(&Value::Null)
    }

    /// Takes in what the hub has got.
    fn listen(&mut self) {
        let mut wait = Duration::from_millis(50);
        while let Some((topic, body)) = self.hub.next(wait) {
            wait = Duration::ZERO;
            for name in ["status", "model"] {
                if let Some(value) = reported(&topic, &body, name) {
                    self.reported.insert(name.to_owned(), value);
                }
            }
            if is_telemetry(&topic) {
                self.delivered.push(body);
            }
        }
    }

    /// Waits for something.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        loop {
            self.listen();
            if holds(self)? {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(code) = child.try_wait()?
            {
                bail!("the device ended with {code}: {}", fs::read_to_string(self.log())?);
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "this did not come: {what}; the status is {:?}, the log:\n{}",
                    self.status(),
                    fs::read_to_string(self.log())?
                );
            }
        }
    }

    /// Waits until so many more sightings have arrived.
    pub(super) fn until_more(&mut self, count: usize) -> Result<()> {
        let before = self.arrived();
        self.until("sightings arrive", |world| Ok(world.arrived() >= before + count))
    }

    /// Fills the small disk, or says that there is none.
    pub(super) fn fill_disk(&self) -> Result<bool> {
        if !self.small {
            crate::say("SKIPPED: no small disk can be mounted here, so none is full");
            return Ok(false);
        }
        let mut filler = File::create(self.folder.join("disk/filler"))?;
        let piece = vec![0_u8; 1024];
        while filler.write_all(&piece).is_ok() {}
        Ok(true)
    }

    pub(super) fn empty_disk(&self) -> Result<()> {
        Ok(fs::remove_file(self.folder.join("disk/filler"))?)
    }

    fn signal(&self, name: &str) -> Result<()> {
        let child = self.child.as_ref().context("no device runs")?;
        let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
        ensure!(status.success(), "the device cannot be signalled");
        Ok(())
    }

    pub(super) fn ask_to_stop(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Waits for the end of the device and gives its exit code; takes over its sightings as promised.
    pub(super) fn ended(&mut self) -> Result<i32> {
        let code = self.child.take().context("no device runs")?.wait()?.code().unwrap_or(-1);
        self.take_over(false)?;
        Ok(code)
    }

    /// The power goes.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        let mut child = self.child.take().context("no device runs")?;
        child.kill()?;
        child.wait()?;
        self.take_over(true)
    }

    /// Takes over what a run recorded. One that was killed may have been at its last sighting: recorded, not yet promised.
    fn take_over(&mut self, killed: bool) -> Result<()> {
        let text = fs::read_to_string(self.sightings())?;
        for line in text.lines() {
            self.promised.push(serde_json::from_str(line)?);
        }
        if killed {
            self.excused.extend(self.promised.last().cloned());
        }
        Ok(())
    }

    /// Compares what was promised with what arrived: each of them, in order, and nothing else. Gives how many there
    /// were, and how many were repeated.
    pub(super) fn settle(&mut self) -> Result<(usize, usize)> {
        self.listen();
        let mut seen = HashSet::new();
        let arrived: Vec<&Value> =
            self.delivered.iter().filter(|value| seen.insert(value.to_string())).collect();
        let got: HashSet<String> = arrived.iter().map(ToString::to_string).collect();
        let missing = |value: &&Value| !self.excused.contains(value) || got.contains(&value.to_string());
        let promised: Vec<&Value> = self.promised.iter().filter(missing).collect();
        if arrived != promised {
            let at = arrived.iter().zip(&promised).position(|(a, p)| a != p);
            bail!(
                "{} sightings were promised, {} arrived; they differ from number {:?} on",
                promised.len(),
                arrived.len(),
                at.unwrap_or(arrived.len().min(promised.len()))
            );
        }
        Ok((arrived.len(), self.delivered.len() - arrived.len()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.small {
            // What cannot be taken away stays until the machine ends.
            let _ = Command::new("umount").arg(self.folder.join("disk")).status();
        }
    }
}
