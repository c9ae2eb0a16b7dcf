//! The journey of a module: one image for three platforms, pushed to Debian's registry, fetched by skopeo, unpacked by
//! umoci, started from its own root file system; then retrained, and only the model moves.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::{
    Artifact as _, Module, ModuleSet, Platform, PlatformImage, Sha256Digest, Sighting, from_json,
};
use mynah_testkit::debian_registry::{DebianRegistry, PASSWORD, USER};
use serde_json::Value;

use crate::counting_proxy::CountingProxy;
use crate::dist::{Dist, folder_name};
use crate::judges::present;
use crate::process::{built, cargo, run};
use crate::say;

/// The most an image may weigh, compressed, with its model.
const MAX_IMAGE_BYTES: u64 = 40_000_000;

/// What may move beside the model's layer when only the model is new.
const BESIDE_THE_MODEL: u64 = 20_000;

/// How far apart the platforms' probabilities may lie.
const TOLERANCE: f32 = 1e-4;

/// A photo the first model has not seen.
const NEW_PHOTO: &str = "fish/fish9.jpg";

/// Builds, pushes, fetches, runs; retrains and pushes again. `words` are `[--programs DIR] [PLATFORM…]`.
pub(crate) fn modules(words: &[&str]) -> Result<()> {
    let Asked { platforms, ready } = Asked::parse(words)?;
    let root = fs::canonicalize(crate::root())?;
    for program in ["docker-registry", "htpasswd", "skopeo", "umoci", "qemu-aarch64", "qemu-arm"] {
        if !present(program, Command::new("sh").args(["-c", &format!("command -v {program}")]))? {
            return Ok(());
        }
    }
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let scratch = tempfile::tempdir()?;
    // A user other than root walks through it into the unpacked root file systems.
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))?;
    let kept = built(&root, "journey-modules")?;

    say("journey modules: the base image, from Debian packages");
    let base = kept.join("base");
    if base.join("mynah-base/oci-layout").is_file() {
        say(&format!("taken as it is: {} (remove it to have it made anew)", base.display()));
    } else {
        crate::base::assemble(&base)?;
    }
    say("journey modules: the runtime for each platform");
    let programs = if let Some(ready) = ready {
        say(&format!("taken as it is: {}", ready.display()));
        ready
    } else {
        let programs = kept.join("programs");
        Dist { platforms: platforms.clone(), runtime_only: true, quick: true, out: programs.clone() }
            .build()?;
        programs
    };

    let registry = DebianRegistry::start(scratch.path())?;
    let proxy = CountingProxy::start(registry.address())?;
    let walk = Walk {
        bin: built(&root, "release")?,
        root,
        base,
        platforms,
        programs,
        proxy,
        out: scratch.path().to_owned(),
    };
    walk.first_photos()?;

    say("journey modules: train, build for each platform, push");
    walk.train()?;
    let first = walk.build()?;
    for image in &first.platforms {
        let bytes: u64 = image.layers.iter().map(|layer| layer.size).sum();
        say(&format!("{:13} {:>6.2} MB compressed, with the model", image.platform, bytes as f64 / 1e6));
        ensure!(bytes < MAX_IMAGE_BYTES, "the image for {} has {bytes} bytes", image.platform);
    }
    say(&format!("sent {:.2} MB in all", walk.proxy.take_sent() as f64 / 1e6));
    let manifest = walk.manifest()?;

    say("journey modules: each platform, fetched by skopeo, unpacked by umoci, started from its own files");
    let mut seen: Vec<(Platform, Vec<Sighting>)> = Vec::new();
    for image in &first.platforms {
        let bundle = walk.fetch(&first, image)?;
        let sightings = walk.start(&bundle, image.platform)?;
        let said = sightings.iter().filter_map(|sighting| sighting.said.as_deref()).collect::<Vec<_>>();
        say(&format!("{:13} {} frames, said: {}", image.platform, sightings.len(), said.join(", ")));
        ensure!(said.len() >= 3, "{} said only {said:?}", image.platform);
        seen.push((image.platform, sightings));
    }
    let furthest = same_words(&seen)?;
    say(&format!("the same labels and words on all; probabilities differ by {furthest:.1e} at most"));

    say("journey modules: the same again, nothing moves");
    walk.proxy.take_sent();
    let again = walk.build()?;
    ensure!(again == first, "the same inputs gave another module");
    let sent = walk.proxy.take_sent();
    ensure!(sent == 0, "{sent} bytes were sent though nothing was new");

    say(&format!("journey modules: one photo more ({NEW_PHOTO}), trained and pushed again"));
    walk.photo(NEW_PHOTO)?;
    walk.train()?;
    walk.proxy.take_sent();
    let second = walk.build()?;
    let sent = walk.proxy.take_sent();
    let layer = only_the_model_moved(&first, &second)?;
    say(&format!("sent {sent} bytes, of them {layer} the model's layer"));
    ensure!(sent <= layer + BESIDE_THE_MODEL, "{sent} bytes were sent for a layer of {layer}");
    let moved = only_digests_differ(&manifest, &walk.manifest()?)?;
    say(&format!("the manifest differs in {moved} image's digest, and in nothing else"));
    say("journey modules: done");
    Ok(())
}

/// What was asked for.
struct Asked {
    platforms: Vec<Platform>,
    /// A folder that `dist` wrote earlier.
    ready: Option<PathBuf>,
}

impl Asked {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut asked = Self { platforms: Vec::new(), ready: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--programs" => {
                    let folder = words.next().context("--programs needs a folder")?;
                    asked.ready =
                        Some(fs::canonicalize(folder).with_context(|| format!("cannot find {folder}"))?);
                }
                platform => asked.platforms.push(platform.parse()?),
            }
        }
        if asked.platforms.is_empty() {
            asked.platforms = Platform::ALL.to_vec();
        }
        asked.platforms.sort();
        Ok(asked)
    }
}

/// The folders of one walk, and the registry.
struct Walk {
    root: PathBuf,
    bin: PathBuf,
    base: PathBuf,
    platforms: Vec<Platform>,
    programs: PathBuf,
    proxy: CountingProxy,
    out: PathBuf,
}

impl Walk {
    fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Runs one of our programs with flags.
    fn ours(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let home = self.out.display().to_string();
        let resources = self.root.display().to_string();
        let env = [
            ("HOME", home.as_str()),
            ("MYNAH_HOME", &resources),
            ("MYNAH_REGISTRY_USER", USER),
            ("MYNAH_REGISTRY_PASSWORD", PASSWORD),
        ];
        run(&self.out, self.bin.join(program), arguments, &env).map(drop)
    }

    /// The photos of the samples, but one.
    fn first_photos(&self) -> Result<()> {
        for entry in walkdir::WalkDir::new(self.root.join("samples/photos")).sort_by_file_name() {
            let entry = entry?;
            let below = entry.path().strip_prefix(self.root.join("samples/photos"))?;
            if entry.file_type().is_file() && below != Path::new(NEW_PHOTO) {
                self.photo(&below.display().to_string())?;
            }
        }
        Ok(())
    }

    fn photo(&self, name: &str) -> Result<()> {
        let to = self.at("photos").join(name);
        fs::create_dir_all(to.parent().context("a photo is in a folder")?)?;
        fs::copy(self.root.join("samples/photos").join(name), to)?;
        Ok(())
    }

    fn train(&self) -> Result<()> {
        self.ours("import-images", &["--quiet", "--source", "photos", "--out", "dataset"])?;
        self.ours("train-model", &["--quiet", "--dataset", "dataset", "--out", "training"])?;
        self.ours(
            "export-model",
            &["--quiet", "--training", "training", "--dataset", "dataset", "--out", "model"],
        )
    }

    fn build(&self) -> Result<Module> {
        let all = self.platforms.iter().map(|platform| platform.as_str()).collect::<Vec<_>>().join(",");
        let base = format!("oci:{}", self.base.join("mynah-base").display());
        let (programs, clips) = (self.programs.display().to_string(), self.root.join("samples/speech"));
        let clips = clips.display().to_string();
        let place = format!("{}/factory", self.proxy.address());
        let arguments =
            ["--quiet", "--model", "model", "--out", "images", "--platform", &all, "--runtime", &programs];
        let more = ["--base", &base, "--clips", &clips, "--push", &place];
        self.ours("build-modules", &[&arguments[..], &more[..]].concat())?;
        let set: ModuleSet = from_json(&fs::read(self.at("images").join(ModuleSet::FILE))?)?;
        set.modules.into_iter().next().context("no module was built")
    }

    fn manifest(&self) -> Result<Value> {
        self.ours("generate-manifest", &["--quiet", "--images", "images", "--out", "deployment.json"])?;
        Ok(serde_json::from_slice(&fs::read(self.at("deployment.json"))?)?)
    }

    /// Has skopeo fetch one platform's image from the registry and umoci unpack it, and gives the bundle.
    fn fetch(&self, module: &Module, image: &PlatformImage) -> Result<PathBuf> {
        let name = folder_name(image.platform);
        let layout = self.at(&format!("{name}-layout")).display().to_string();
        let mut words = vec!["copy", "--quiet", "--src-tls-verify=false", "--override-os", "linux"];
        let credentials = format!("{USER}:{PASSWORD}");
        words.extend(["--src-creds", &credentials, "--override-arch", image.platform.architecture()]);
        words
            .extend(image.platform.variant().into_iter().flat_map(|variant| ["--override-variant", variant]));
        let source = format!("docker://{}:{}", module.repository, module.tag);
        let target = format!("oci:{layout}:fetched");
        run(&self.out, "skopeo", words.into_iter().chain([source.as_str(), target.as_str()]), &[])?;
        let index: Value = serde_json::from_slice(&fs::read(Path::new(&layout).join("index.json"))?)?;
        let found = index["manifests"][0]["digest"].as_str().unwrap_or_default();
        ensure!(found == image.manifest.digest.to_string(), "skopeo fetched {found} for {}", image.platform);
        let bundle = self.at(&format!("{name}-bundle"));
        let fetched = format!("{layout}:fetched");
        let shown = bundle.display().to_string();
        run(&self.out, "umoci", ["unpack", "--rootless", "--image", &fetched, &shown], &[])?;
        Ok(bundle)
    }

    /// Starts what the image says, with its own root file system and as its own user, on the samples' frames.
    fn start(&self, bundle: &Path, platform: Platform) -> Result<Vec<Sighting>> {
        let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
        let process = &config["process"];
        let words = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let user = process["user"]["uid"].as_u64().context("the image names no user")?;
        ensure!(user != 0, "the image for {platform} runs as root");
        let rootfs = fs::canonicalize(bundle.join("rootfs"))?;
        for shell in ["bin/sh", "usr/bin/sh", "bin/bash", "bin/busybox"] {
            ensure!(!rootfs.join(shell).exists(), "the image for {platform} has a shell: {shell}");
        }
        // What a deployment mounts: the camera, and a place to write to.
        let outside = rootfs.join("device");
        fs::create_dir_all(outside.join("out"))?;
        fs::set_permissions(outside.join("out"), Permissions::from_mode(0o777))?;
        fs::create_dir_all(outside.join("frames"))?;
        for frame in fs::read_dir(self.root.join("samples/frames"))? {
            let frame = frame?;
            fs::copy(frame.path(), outside.join("frames").join(frame.file_name()))?;
        }
        let environment = words(&process["env"]);
        let entry = words(&process["args"]);
        let [program, ..] = entry.as_slice() else { bail!("the image for {platform} starts nothing") };
        let native = Platform::host() == Some(platform);
        // An emulator maps what a program opens into its root file system, but not what it makes.
        let place = if native { PathBuf::from("/device") } else { outside.clone() };
        let mut command =
            if native { inside(&rootfs, user, program)? } else { emulated(&rootfs, platform, program)? };
        command.args(&entry[1..]).env_clear();
        for variable in &environment {
            let (name, value) =
                variable.split_once('=').context("an environment variable without a value")?;
            command.env(name, value);
        }
        // Each frame once and said at once: an emulator takes seconds for a frame.
        command.arg("--source").arg(format!("dir:{}/frames?hold=1", place.display())).args(["--votes", "1"]);
        command.arg("--sightings").arg(place.join("out/sightings.jsonl"));
        command.arg("--speaker").arg(format!("wav:{}/out/spoken", place.display()));
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let spoken = fs::read_dir(outside.join("out/spoken"))?.count();
        let lines = fs::read_to_string(outside.join("out/sightings.jsonl"))?;
        let sightings: Vec<Sighting> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let said = sightings.iter().filter(|sighting| sighting.said.is_some()).count();
        ensure!(spoken == said, "{said} words were said on {platform}, {spoken} clips were played");
        Ok(sightings)
    }
}

/// A program of this machine's platform, with its root file system as its root and as its user; who is not the
/// superuser is alone there and may be any user.
fn inside(rootfs: &Path, user: u64, program: &str) -> Result<Command> {
    let mut command;
    if fs::metadata(rootfs)?.uid() == 0 {
        command = Command::new(installed("chroot")?);
        command.arg(format!("--userspec={user}:{user}")).arg(rootfs);
    } else {
        command = Command::new(installed("unshare")?);
        command.arg(format!("--map-user={user}")).arg(format!("--root={}", rootfs.display()));
    }
    command.arg(program);
    Ok(command)
}

/// Where a program of this machine is. It is started with the image's environment, whose `PATH` does not lead to it.
fn installed(program: &str) -> Result<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("{program} is not installed"))
}

/// A program of another platform: its loader and its libraries are those of its root file system.
fn emulated(rootfs: &Path, platform: Platform, program: &str) -> Result<Command> {
    let emulator = if platform == Platform::LinuxArmV7 { "qemu-arm" } else { "qemu-aarch64" };
    let mut command = Command::new(installed(emulator)?);
    command.arg("-L").arg(rootfs).arg(rootfs.join(program.trim_start_matches('/')));
    Ok(command)
}

/// The greatest distance between probabilities; an error where labels or words differ.
fn same_words(seen: &[(Platform, Vec<Sighting>)]) -> Result<f32> {
    let [(reference, expected), others @ ..] = seen else { bail!("nothing was run") };
    let mut furthest = 0_f32;
    for (platform, sightings) in others {
        ensure!(
            sightings.len() == expected.len(),
            "{platform} looked at {} frames, {reference} at {}",
            sightings.len(),
            expected.len()
        );
        for (one, other) in expected.iter().zip(sightings) {
            ensure!(
                (&one.image, &one.label, &one.best, &one.said, one.model)
                    == (&other.image, &other.label, &other.best, &other.said, other.model),
                "frame {} differs: {reference} {one:?}, {platform} {other:?}",
                one.frame
            );
            furthest = furthest.max((one.probability - other.probability).abs());
        }
    }
    ensure!(furthest <= TOLERANCE, "probabilities differ by {furthest}");
    Ok(furthest)
}

/// The size of the one layer that the second module does not share with the first, on every platform.
fn only_the_model_moved(first: &Module, second: &Module) -> Result<u64> {
    ensure!(first.model != second.model, "one photo more gave the same model");
    let mut moved = Vec::new();
    for (before, after) in first.platforms.iter().zip(&second.platforms) {
        let (last, below) = after.layers.split_last().context("an image has layers")?;
        let (_, was_below) = before.layers.split_last().context("an image has layers")?;
        ensure!(below == was_below, "another layer than the last is new for {}", after.platform);
        moved.push((last.digest, last.size));
    }
    moved.dedup();
    let [(_, size)] = moved.as_slice() else { bail!("the model is not the same layer on all platforms") };
    Ok(*size)
}

/// How many texts differ between two manifests; an error where one differs in more than an image's digest.
fn only_digests_differ(before: &Value, after: &Value) -> Result<usize> {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            ensure!(a.keys().eq(b.keys()), "the manifests have other keys");
            a.values().zip(b.values()).map(|(a, b)| only_digests_differ(a, b)).sum()
        }
        (Value::Array(a), Value::Array(b)) => {
            ensure!(a.len() == b.len(), "the manifests have lists of other lengths");
            a.iter().zip(b).map(|(a, b)| only_digests_differ(a, b)).sum()
        }
        (a, b) if a == b => Ok(0),
        (Value::String(a), Value::String(b)) => {
            let split = |text: &str| -> Option<(String, Sha256Digest)> {
                let (name, digest) = text.split_once('@')?;
                Some((name.to_owned(), digest.parse().ok()?))
            };
            match (split(a), split(b)) {
                (Some((one, _)), Some((other, _))) if one == other => Ok(1),
                _ => bail!("`{a}` became `{b}`"),
            }
        }
        (a, b) => bail!("`{a}` became `{b}`"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_may_differ_and_nothing_else() {
        let with = |image: &str, route: &str| json!({"m": [{"image": image}], "routes": {"r": route}});
        let digest = |byte: u8| Sha256Digest::of(&[byte]);
        let pinned = |byte| format!("r.example/a@{}", digest(byte));
        let before = with(&pinned(1), "x");
        assert_eq!(only_digests_differ(&before, &with(&pinned(1), "x")).unwrap(), 0);
        assert_eq!(only_digests_differ(&before, &with(&pinned(2), "x")).unwrap(), 1);
        for other in
            [with(&pinned(1), "y"), with(&format!("r.example/b@{}", digest(1)), "x"), json!({"m": []})]
        {
            assert!(only_digests_differ(&before, &other).is_err(), "{other}");
        }
    }
}
