//! This machine as the device: the runtime out of the image, a folder of frames as its camera, WAV files as
//! its voice.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mynah_contracts::{
    Artifact as _, DeployTarget, DeployedModule, DeploymentRecord, DeviceState, DeviceStatus, Module,
    ModuleSet, Monitor, Platform, RelativePath, SchemaVersion, Sha256Digest, Tool, from_json,
};

use super::DeviceError;
use crate::child::Service;
use crate::manifest::{Deployment, DeploymentModule};
use crate::oci::OciError;
use crate::oci::layout::{Image, Layout};
use crate::oci::reference::PinnedImage;
use crate::oci::runtime_image::{self, MODEL, SPEECH};
use crate::oci::spec::Descriptor;
use crate::oci::unpack::{Limits, Unpacker};
use crate::staging::StagedFolder;

/// The folder, below the output, of what stands for the device's disk.
const DEVICE: &str = "device";

/// The file that names the unpacked image.
const IMAGE_MARKER: &str = "image";

/// The file, below [`DEVICE`], that is locked while a module runs. A module cannot have this name.
const LOCK: &str = ".lock";

const ROOTFS: &str = "rootfs";
const STATUS: &str = "status.json";
const SIGHTINGS: &str = "sightings.jsonl";
const SPOKEN: &str = "spoken";

/// How often the device's status is read.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a module may take to end after it was asked to, or after it reported its end.
const GRACE: Duration = Duration::from_secs(10);

/// A deployment to this machine.
pub struct LocalDevice<'a> {
    /// The manifest's file.
    pub manifest: &'a Path,
    /// The folder with `modules.json` and the image layouts.
    pub images: &'a Path,
    /// What `modules.json` says.
    pub modules: &'a ModuleSet,
    /// The folder of frames to look at.
    pub frames: &'a Path,
    /// How often each frame is shown.
    pub hold: u64,
    /// How long the module may report nothing new.
    pub wait: Duration,
    /// Where everything goes: `device/`, `sightings.jsonl`, `spoken/`, `status.json`.
    pub out: &'a Path,
}

/// What arrived.
#[derive(Debug, PartialEq)]
pub struct Deployed {
    /// The record, not yet written.
    pub record: DeploymentRecord,
    /// The module's last status.
    pub status: DeviceStatus,
}

/// The module to run, with its place in `modules.json`.
struct Runnable<'a> {
    name: &'a str,
    image: &'a str,
    pinned: PinnedImage,
    module: &'a Module,
    model: Sha256Digest,
}

impl LocalDevice<'_> {
    /// Runs the manifest's module until it has looked at all frames.
    ///
    /// # Errors
    /// When the manifest or the image is refused, the module does not run as deployed, or someone asks to
    /// stop; the module is ended then.
    pub fn deploy(&self, monitor: &dyn Monitor, now: fn() -> Timestamp) -> Result<Deployed, DeviceError> {
        let platform = Platform::host().ok_or(DeviceError::UnknownHost)?;
        let bytes = fs::read(self.manifest).map_err(DeviceError::io("read", self.manifest))?;
        let refused = |source| DeviceError::Manifest { path: self.manifest.to_owned(), source };
        let deployment = Deployment::read(&bytes).map_err(refused)?;
        let runnable = self.choose(&deployment)?;
        if !self.frames.is_dir() {
            return Err(DeviceError::NoFrames(self.frames.to_owned()));
        }
        let started = now();
        let out = std::path::absolute(self.out).map_err(DeviceError::io("find", self.out))?;
        claim(&out)?;
        let lock = self.lock(&out, monitor)?;
        let (rootfs, program) = self.unpack(&runnable, platform, &out, monitor)?;
        clear_earlier(&out)?;
        let mut command = self.command(&rootfs, &program, &out)?;
        let service = Service::start(&mut command, lock.into(), GRACE)
            .map_err(|source| DeviceError::Start { program: program.clone(), source })?;
        let watch =
            Watch { module: runnable.name, model: runnable.model, file: out.join(STATUS), wait: self.wait };
        let (status, healthy) = watch.until_finished(service, monitor, now)?;
        let record = DeploymentRecord {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            target: DeployTarget::Local,
            manifest: Sha256Digest::of(&bytes),
            started: started.to_string(),
            healthy: healthy.to_string(),
            modules: vec![DeployedModule {
                name: runnable.name.to_owned(),
                image: runnable.image.to_owned(),
                platform: Some(platform),
                model: status.model,
            }],
            sightings: RelativePath::new(SIGHTINGS).ok().filter(|path| path.below(&out).is_file()),
            hub: None,
            cluster: None,
        };
        Ok(Deployed { record, status })
    }

    /// Waits until no module of an earlier deployment runs here any more.
    ///
    /// The module gets the locked file as its standard input, so that the lock lasts as long as it does, even
    /// where this program was killed and could not end it.
    fn lock(&self, out: &Path, monitor: &dyn Monitor) -> Result<File, DeviceError> {
        let path = out.join(DEVICE).join(LOCK);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = open.map_err(DeviceError::io("write", &path))?;
        let deadline = Instant::now() + self.wait;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(DeviceError::io("lock", &path)(source)),
                Err(TryLockError::WouldBlock) if monitor.cancelled() => return Err(DeviceError::Cancelled),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(DeviceError::Busy(out.to_owned()));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(GLANCE),
            }
        }
    }

    /// The one module that can run here; says of all others why not.
    fn choose<'a>(&'a self, deployment: &'a Deployment) -> Result<Runnable<'a>, DeviceError> {
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        for wanted in &deployment.modules {
            match self.runnable(wanted) {
                Ok(runnable) => chosen.push(runnable),
                Err(why) => others.push(format!("`{}` {why}", wanted.name)),
            }
        }
        if chosen.len() > 1 {
            return Err(DeviceError::TooMany(
                chosen.iter().map(|runnable| format!("`{}`", runnable.name)).collect(),
            ));
        }
        let Some(runnable) = chosen.pop() else {
            if others.is_empty() {
                others.push("it names none".into());
            }
            return Err(DeviceError::NothingToRun(others));
        };
        for other in others {
            tracing::info!("not run here: {other}");
        }
        tracing::info!("not run here: `edgeAgent` and `edgeHub`, which belong to a device of IoT Edge");
        Ok(runnable)
    }

    fn runnable<'a>(&'a self, wanted: &'a DeploymentModule) -> Result<Runnable<'a>, String> {
        if !wanted.running {
            return Err("is to be stopped".into());
        }
        let image = wanted.image.escape_debug();
        let pinned = PinnedImage::parse(&wanted.image)
            .ok_or_else(|| format!("has an image without a digest: {image}"))?;
        let module = self
            .modules
            .modules
            .iter()
            .find(|module| {
                let digests = module.platforms.iter().map(|image| image.manifest.digest);
                module.repository == pinned.repository
                    && digests.chain([module.index.digest]).any(|digest| digest == pinned.digest)
            })
            .ok_or_else(|| format!("has an image that modules.json does not name: {image}"))?;
        let model = module.model.ok_or("has no model, which only a container runtime could start")?;
        Ok(Runnable { name: &wanted.name, image: &wanted.image, pinned, module, model })
    }

    /// Verifies and unpacks the image; gives its root folder and program.
    fn unpack(
        &self,
        runnable: &Runnable<'_>,
        platform: Platform,
        out: &Path,
        monitor: &dyn Monitor,
    ) -> Result<(PathBuf, PathBuf), DeviceError> {
        let refused = |source| match source {
            OciError::Cancelled => DeviceError::Cancelled,
            source => DeviceError::Image { module: runnable.name.to_owned(), source },
        };
        let staging = |source| DeviceError::Staging { module: runnable.name.to_owned(), source };
        let layout = Layout::open(&runnable.module.layout.below(self.images)).map_err(refused)?;
        let image = layout.image(runnable.pinned.digest, platform).map_err(refused)?;
        let place = out.join(DEVICE).join(runnable.name);
        let staged = StagedFolder::begin(&place, IMAGE_MARKER).map_err(staging)?;
        let rootfs = staged.path().join(ROOTFS);
        fs::create_dir(&rootfs).map_err(DeviceError::io("write", &rootfs))?;
        unpack_layers(&layout, &image, &rootfs, monitor).map_err(refused)?;
        let no_program = || DeviceError::NoProgram { module: runnable.name.to_owned() };
        let entrypoint = image.config.config.entrypoint.first().ok_or_else(no_program)?;
        let inside = crate::oci::entry_path::EntryPath::parse(entrypoint.trim_start_matches('/').as_bytes())
            .map_err(|_| no_program())?;
        let executable = fs::symlink_metadata(inside.below(&rootfs))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o100 != 0);
        if !executable {
            return Err(no_program());
        }
        staged.write(IMAGE_MARKER, format!("{}\n", runnable.image).as_bytes()).map_err(staging)?;
        let rootfs = staged.publish().map_err(staging)?.join(ROOTFS);
        let program = inside.below(&rootfs);
        Ok((rootfs, program))
    }

    fn command(&self, rootfs: &Path, program: &Path, out: &Path) -> Result<Command, DeviceError> {
        let frames = std::path::absolute(self.frames).map_err(DeviceError::io("find", self.frames))?;
        let mut source = OsString::from("dir:");
        source.push(&frames);
        source.push(format!("?hold={}", self.hold));
        let mut speaker = OsString::from("wav:");
        speaker.push(out.join(SPOKEN));
        let mut command = Command::new(program);
        command.arg("--model").arg(runtime_image::unpacked(rootfs, MODEL));
        let speech = runtime_image::unpacked(rootfs, SPEECH);
        if speech.is_dir() {
            command.arg("--speech").arg(speech);
        }
        command.arg("--source").arg(source).arg("--speaker").arg(speaker);
        command.arg("--sightings").arg(out.join(SIGHTINGS)).arg("--status").arg(out.join(STATUS));
        command.current_dir(out);
        // Settings of the person's own runtime must not change the one deployed.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MYNAH_"))
        {
            command.env_remove(name);
        }
        Ok(command)
    }
}

fn unpack_layers(
    layout: &Layout,
    image: &Image,
    rootfs: &Path,
    monitor: &dyn Monitor,
) -> Result<(), OciError> {
    let mut unpacker = Unpacker::new(rootfs, Limits::default());
    let layers: Vec<(&Descriptor, &Sha256Digest)> =
        image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).collect();
    for (done, (layer, diff_id)) in layers.iter().enumerate() {
        if monitor.cancelled() {
            return Err(OciError::Cancelled);
        }
        monitor.progress("unpacking layers", done as u64, layers.len() as u64);
        let mut blob = layout.blob(layer)?;
        let unpacked = unpacker.layer(&mut blob, &layer.digest.to_string());
        // Of a damaged blob the digest is told, not how decoding it went wrong.
        blob.finish()?;
        let found = unpacked?;
        if found != **diff_id {
            return Err(OciError::Unsupported {
                what: layer.digest.to_string(),
                problem: format!("unpacks to {found}, its image says {diff_id}"),
            });
        }
    }
    monitor.progress("unpacking layers", layers.len() as u64, layers.len() as u64);
    unpacker.finish()
}

/// Makes sure that `out` is new, empty or an earlier deployment's.
fn claim(out: &Path) -> Result<(), DeviceError> {
    match fs::read_dir(out) {
        Ok(mut entries) => {
            let ours = out.join(DEVICE).is_dir() || out.join(DeploymentRecord::FILE).is_file();
            if !ours && entries.next().is_some() {
                return Err(DeviceError::Foreign(out.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(DeviceError::io("read", out)(error)),
    }
    fs::create_dir_all(out.join(DEVICE)).map_err(DeviceError::io("write", out))
}

/// Removes an earlier deployment's results, so that none of them can be taken for this one's.
fn clear_earlier(out: &Path) -> Result<(), DeviceError> {
    let gone = |result: io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DeviceError::io("remove", path)(error)),
        _ => Ok(()),
    };
    for file in [DeploymentRecord::FILE, STATUS, SIGHTINGS] {
        let path = out.join(file);
        gone(fs::remove_file(&path), &path)?;
    }
    let spoken = out.join(SPOKEN);
    gone(fs::remove_dir_all(&spoken), &spoken)
}

/// Watches a module through its status file.
struct Watch<'a> {
    module: &'a str,
    model: Sha256Digest,
    file: PathBuf,
    wait: Duration,
}

impl Watch<'_> {
    /// Waits until the module runs the right model, then until it has finished. Gives its last status and
    /// when it was first healthy.
    fn until_finished(
        &self,
        mut service: Service,
        monitor: &dyn Monitor,
        now: fn() -> Timestamp,
    ) -> Result<(DeviceStatus, Timestamp), DeviceError> {
        let module = || self.module.to_owned();
        let mut healthy = None;
        let mut last: Option<DeviceStatus> = None;
        let mut heard = Instant::now();
        loop {
            if monitor.cancelled() {
                service.stop();
                return Err(DeviceError::Cancelled);
            }
            let ended = service.ended().map_err(DeviceError::io("watch", &self.file))?;
            if let Some(status) = self.read().filter(|status| last.as_ref() != Some(status)) {
                heard = Instant::now();
                if let Some(found) = status.model.filter(|found| *found != self.model) {
                    service.stop();
                    return Err(DeviceError::OtherModel { module: module(), found, expected: self.model });
                }
                let runs = matches!(status.state, DeviceState::Running | DeviceState::Finished);
                if runs && status.model.is_some() && healthy.is_none() {
                    healthy = Some(now());
                    tracing::info!("`{}` runs the model {}", self.module, self.model);
                }
                last = Some(status);
            }
            let state = last.as_ref().map(|status| status.state);
            if state == Some(DeviceState::Failed) {
                let problem =
                    last.and_then(|status| status.problem).unwrap_or_else(|| "it gave no reason".into());
                return Err(DeviceError::Failed { module: module(), problem, last: service.stop() });
            }
            if let Some(exit) = ended {
                return match (last, healthy) {
                    (Some(status), Some(healthy))
                        if exit.success() && status.state == DeviceState::Finished =>
                    {
                        service.stop();
                        Ok((status, healthy))
                    }
                    (_, healthy) => Err(self.ended(exit, healthy.is_some(), service)),
                };
            }
            let limit = if state == Some(DeviceState::Finished) { GRACE } else { self.wait };
            if heard.elapsed() >= limit {
                let what = match (state, healthy) {
                    (Some(DeviceState::Finished), _) => "reported its end and did not end",
                    (_, None) => "did not report that it runs its model",
                    (_, Some(_)) => "looked at no further frame",
                };
                return Err(DeviceError::Silent {
                    module: module(),
                    what,
                    seconds: limit.as_secs(),
                    last: service.stop(),
                });
            }
            thread::sleep(GLANCE);
        }
    }

    fn ended(&self, status: ExitStatus, was_healthy: bool, service: Service) -> DeviceError {
        let when = if was_healthy {
            "before it had seen all frames"
        } else {
            "before it reported that it runs its model"
        };
        DeviceError::Ended { module: self.module.to_owned(), status, when, last: service.stop() }
    }

    /// The status at hand; nothing while there is none or it is being replaced.
    fn read(&self) -> Option<DeviceStatus> {
        from_json(&fs::read(&self.file).ok()?).ok()
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
