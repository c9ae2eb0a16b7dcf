//! The extension as one file: stages what belongs into it, has tfx pack it, and checks what came out.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::Platform;
use serde_json::Value;

use crate::dist::folder_name;
use crate::licences;
use crate::process::run;
use crate::tasks::{Channel, Task, pretty};

/// What many servers take at most.
const MAX_BYTES: u64 = 25 * 1024 * 1024;

/// What everything but programs may take of it, which the programs of a quick build tell nothing of: 6.3 MB are the backbone.
const MAX_REST: u64 = 7_000_000;

/// The backbone, which training reads. The export takes it from the training task's folder.
const BACKBONE: &str = "models/efficientnet-lite0-224.onnx";

/// The tasks whose programs are inside for a platform, with the platform's name in Node. The program of `ExportModel` is
/// that of `TrainModel`, of which there is room for one; the shim takes it from there.
fn carried(platform: Platform) -> (&'static str, &'static [&'static str]) {
    const MODULES: &[&str] = &["BuildModules", "GenerateManifest"];
    match platform {
        Platform::LinuxAmd64 => (
            "linux-x64",
            &["ImportImages", "TrainModel", "BuildModules", "GenerateManifest", "DeployModules"],
        ),
        Platform::LinuxArm64 => ("linux-arm64", MODULES),
        Platform::LinuxArmV7 => ("linux-arm", MODULES),
    }
}

/// What is packed, and how.
pub(crate) struct Vsix {
    /// Who it is for.
    pub(crate) channel: Channel,
    /// The platforms whose programs go in.
    pub(crate) platforms: Vec<Platform>,
    /// Where `cargo xtask dist` put them.
    pub(crate) programs: PathBuf,
    /// Packs fast instead of small: to try, not to ship. The size is not judged then.
    pub(crate) quick: bool,
    /// The file to write.
    pub(crate) out: PathBuf,
}

impl Vsix {
    /// Reads `[--test] [--quick] [--programs DIR] [--out FILE] [PLATFORM…]`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut vsix = Self {
            channel: Channel::Public,
            platforms: Vec::new(),
            programs: crate::root().join("target/dist-all"),
            quick: false,
            out: crate::root().join("target/mynah.vsix"),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--test" => vsix.channel = Channel::Test,
                "--quick" => vsix.quick = true,
                "--programs" => vsix.programs = words.next().context("--programs needs a folder")?.into(),
                "--out" => vsix.out = words.next().context("--out needs a file")?.into(),
                platform => vsix.platforms.push(platform.parse()?),
            }
        }
        if vsix.platforms.is_empty() {
            vsix.platforms = Platform::ALL.to_vec();
        }
        Ok(vsix)
    }

    /// Stages, packs and checks.
    pub(crate) fn build(&self) -> Result<()> {
        crate::tasks::check()?;
        let stage = tempfile::tempdir()?;
        self.stage(stage.path())?;
        if let Some(folder) = self.out.parent() {
            fs::create_dir_all(folder)?;
        }
        let packed = stage.path().join("packed.vsix");
        let output = run(
            stage.path(),
            tool("tfx"),
            [
                "extension",
                "create",
                "--root",
                ".",
                "--manifest-globs",
                "vss-extension.json",
                "--output-path",
                "packed.vsix",
                "--no-color",
            ],
            &[],
        )?;
        // tfx warns of what a server refuses, and ends well.
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(!said.contains("warning:"), "tfx warns:\n{said}");
        fs::copy(&packed, &self.out)?;
        self.check()
    }

    fn stage(&self, stage: &Path) -> Result<()> {
        let root = crate::root();
        let text = fs::read_to_string(root.join("vss-extension.json"))?;
        let mut manifest: Value = serde_json::from_str(&text)?;
        ensure!(
            manifest["version"] == env!("CARGO_PKG_VERSION"),
            "vss-extension.json has version {}, the workspace {}",
            manifest["version"],
            env!("CARGO_PKG_VERSION")
        );
        if self.channel == Channel::Test {
            manifest["id"] = "mynah-test".into();
            manifest["name"] = "Mynah (test)".into();
            manifest["galleryFlags"] = serde_json::json!(["Preview"]);
        }
        fs::write(stage.join("vss-extension.json"), pretty(&manifest)?)?;
        fs::copy(root.join("LICENSE"), stage.join("LICENSE.txt"))?;
        fs::copy(root.join("tasks/icon.png"), stage.join("icon.png"))?;
        fs::copy(root.join("tasks/overview.md"), stage.join("overview.md"))?;
        let packages = licences::packages(&root)?;
        fs::write(stage.join("sbom.cdx.json"), pretty(&licences::sbom(&packages))?)?;
        fs::write(stage.join("third-party-licenses.txt"), licences::texts(&packages)?)?;
        for task in Task::all()? {
            self.stage_task(&root, stage, &task)?;
        }
        Ok(())
    }

    fn stage_task(&self, root: &Path, stage: &Path, task: &Task) -> Result<()> {
        let from = root.join("tasks").join(task.task());
        let folder = stage.join("tasks").join(task.task());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("task.json"), pretty(&task.definition(self.channel)?)?)?;
        fs::copy(from.join("icon.png"), folder.join("icon.png"))?;
        fs::copy(root.join("tasks/_shim/index.js"), folder.join("index.js"))?;
        fs::copy(root.join("LICENSE"), folder.join("LICENSE.txt"))?;
        if task.task() == "TrainModel" {
            let backbone = folder.join(BACKBONE);
            fs::create_dir_all(folder.join("models"))?;
            fs::copy(root.join(BACKBONE), backbone)?;
            fs::copy(root.join("models/LICENSE"), folder.join("models/LICENSE.txt"))?;
        }
        for &platform in &self.platforms {
            let (node_name, names) = carried(platform);
            if !names.contains(&task.task()) {
                continue;
            }
            let program = self.programs.join(folder_name(platform)).join(task.program());
            ensure!(
                program.is_file(),
                "{} is missing; build it with `cargo xtask dist --out {} {platform}`",
                program.display(),
                self.programs.display()
            );
            let bin = folder.join("bin").join(node_name);
            fs::create_dir_all(&bin)?;
            self.compress(&program, &bin.join(format!("{}.br", task.program())))?;
        }
        Ok(())
    }

    /// Packs with brotli, which Node unpacks: smaller by a fifth than what a zip archive does.
    fn compress(&self, program: &Path, packed: &Path) -> Result<()> {
        const SCRIPT: &str = "const z=require('zlib'),c=z.constants,f=require('fs'),[,i,o,q]=process.argv;\
            f.writeFileSync(o,z.brotliCompressSync(f.readFileSync(i),{params:{[c.BROTLI_PARAM_QUALITY]:+q,\
            [c.BROTLI_PARAM_LGWIN]:24}}))";
        let quality = if self.quick { "4" } else { "11" };
        let words =
            ["-e".as_ref(), SCRIPT.as_ref(), program.as_os_str(), packed.as_os_str(), quality.as_ref()];
        run(Path::new("."), node(), words, &[])?;
        Ok(())
    }

    /// Fails where the file is not what an agent needs or a server takes.
    pub(crate) fn check(&self) -> Result<()> {
        let bytes =
            fs::metadata(&self.out).with_context(|| format!("{} is missing", self.out.display()))?.len();
        let mut archive = zip::ZipArchive::new(fs::File::open(&self.out)?)?;
        let names: BTreeSet<String> = archive
            .file_names()
            .map(|name| name.map(std::borrow::Cow::into_owned))
            .collect::<Result<_, _>>()?;
        let wanted = self.wanted()?;
        let missing: Vec<_> = wanted.difference(&names).collect();
        ensure!(missing.is_empty(), "the extension lacks {missing:?}");
        let foreign: Vec<_> = names.difference(&wanted).filter(|name| !name.ends_with('/')).collect();
        ensure!(foreign.is_empty(), "the extension holds {foreign:?}, which do not belong there");
        for task in Task::all()? {
            let folder = format!("tasks/{}", task.task());
            let definition: Value =
                serde_json::from_str(&text(&mut archive, &format!("{folder}/task.json"))?)?;
            ensure!(
                definition == task.definition(self.channel)?,
                "{folder}/task.json is not what the step declares"
            );
        }
        let identity = text(&mut archive, "extension.vsixmanifest")?;
        ensure!(
            identity.contains(&format!("Version=\"{}\"", env!("CARGO_PKG_VERSION"))),
            "the extension has another version than the workspace"
        );
        let mut programs = 0;
        for at in 0..archive.len() {
            let entry = archive.by_index(at)?;
            if entry.name().is_ok_and(|name| name.contains("/bin/")) {
                programs += entry.compressed_size();
            }
        }
        let rest = bytes - programs;
        crate::say(&format!(
            "vsix: {} files, {:.2} MiB of {} MiB: programs {programs} bytes, the rest {rest} of {MAX_REST}",
            names.len(),
            bytes as f64 / 1_048_576.0,
            MAX_BYTES >> 20
        ));
        ensure!(
            rest <= MAX_REST,
            "all but the programs is {rest} bytes, {MAX_REST} at most are meant for it"
        );
        if !self.quick && bytes > MAX_BYTES {
            bail!("the extension is {bytes} bytes, many servers take {MAX_BYTES} at most");
        }
        Ok(())
    }

    /// The files that belong into it.
    fn wanted(&self) -> Result<BTreeSet<String>> {
        let mut wanted: BTreeSet<String> = [
            "[Content_Types].xml",
            "extension.vsixmanifest",
            "extension.vsomanifest",
            "LICENSE.txt",
            "icon.png",
            "overview.md",
            "sbom.cdx.json",
            "third-party-licenses.txt",
        ]
        .map(str::to_owned)
        .into();
        for task in Task::all()? {
            let folder = format!("tasks/{}", task.task());
            for file in ["task.json", "icon.png", "index.js", "LICENSE.txt"] {
                wanted.insert(format!("{folder}/{file}"));
            }
            if task.task() == "TrainModel" {
                wanted.extend([format!("{folder}/{BACKBONE}"), format!("{folder}/models/LICENSE.txt")]);
            }
            for &platform in &self.platforms {
                let (node_name, tasks) = carried(platform);
                if tasks.contains(&task.task()) {
                    wanted.insert(format!("{folder}/bin/{node_name}/{}.br", task.program()));
                }
            }
        }
        Ok(wanted)
    }

    /// Unpacks the tasks as an agent does, each into `<work>/_tasks/<name>_<id>/<version>`, without execute bits.
    pub(crate) fn install(&self, work: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
        let mut archive = zip::ZipArchive::new(fs::File::open(&self.out)?)?;
        let mut folders = Vec::new();
        for task in Task::all()? {
            let definition = task.definition(self.channel)?;
            let id = definition["id"].as_str().unwrap_or_default();
            let name = definition["name"].as_str().unwrap_or_default();
            let place = format!("_tasks/{name}_{id}/{}", env!("CARGO_PKG_VERSION"));
            folders.push((task.task(), work.join(place)));
        }
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at)?;
            let Some(path) = entry.enclosed_name() else { bail!("an entry leads out of the extension") };
            // Folders are made for the files in them.
            if entry.is_dir() {
                continue;
            }
            for (name, folder) in &folders {
                let Ok(below) = path.strip_prefix(Path::new("tasks").join(name)) else { continue };
                let file = folder.join(below);
                fs::create_dir_all(file.parent().context("a file without a folder")?)?;
                std::io::copy(&mut entry, &mut fs::File::create(file)?)?;
            }
        }
        Ok(folders)
    }
}

fn text(archive: &mut zip::ZipArchive<fs::File>, name: &str) -> Result<String> {
    let mut text = String::new();
    let mut entry = archive.by_name(name).with_context(|| format!("the extension has no {name}"))?;
    entry.read_to_string(&mut text)?;
    Ok(text)
}

/// The Node that packs and starts tasks.
pub(crate) fn node() -> std::ffi::OsString {
    std::env::var_os("MYNAH_NODE").unwrap_or_else(|| "node".into())
}

/// The folder of npm packages of tfx and the language service (`tests/judges/package.json`).
pub(crate) fn packages() -> PathBuf {
    std::env::var_os("MYNAH_NODE_MODULES")
        .map_or_else(|| crate::root().join("tests/judges/node_modules"), PathBuf::from)
}

/// A program of those packages.
pub(crate) fn tool(name: &str) -> PathBuf {
    packages().join(".bin").join(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn switches_are_read_and_mistakes_refused() {
        let vsix = Vsix::parse(&["--test", "--quick", "linux/amd64", "--out", "there.vsix"]).unwrap();
        assert_eq!((vsix.channel, vsix.quick), (Channel::Test, true));
        assert_eq!(vsix.platforms, [Platform::LinuxAmd64]);
        assert!(Vsix::parse(&["--out"]).is_err());
        assert!(Vsix::parse(&["linux/sparc"]).is_err());
    }

    #[test]
    fn each_task_has_a_program_for_x64() {
        let (_, carried) = carried(Platform::LinuxAmd64);
        let shim = fs::read_to_string(crate::root().join("tasks/_shim/index.js")).unwrap();
        for task in Task::all().unwrap() {
            let inside = shim.contains(&format!("const INSIDE = {{ {}: 'TrainModel' }};", task.task()));
            assert!(carried.contains(&task.task()) != inside, "{}", task.task());
        }
    }

    /// Names and contents.
    type Files = BTreeMap<String, Vec<u8>>;

    /// An extension with nothing in its files but what is looked at, changed by `change` before it is checked.
    fn checked(quick: bool, change: impl FnOnce(&mut Files)) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let mut vsix = Vsix::parse(&["linux/amd64"]).unwrap();
        (vsix.quick, vsix.out) = (quick, folder.path().join("it.vsix"));
        let mut files: Files = vsix.wanted().unwrap().into_iter().map(|name| (name, Vec::new())).collect();
        for task in Task::all().unwrap() {
            let definition = task.definition(Channel::Public).unwrap();
            files.insert(format!("tasks/{}/task.json", task.task()), definition.to_string().into_bytes());
        }
        let version = format!("<Identity Version=\"{}\"/>", env!("CARGO_PKG_VERSION"));
        files.insert("extension.vsixmanifest".to_owned(), version.into_bytes());
        change(&mut files);
        let mut archive = zip::ZipWriter::new(fs::File::create(&vsix.out).unwrap());
        let stored =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in files {
            archive.start_file(name, stored).unwrap();
            archive.write_all(&bytes).unwrap();
        }
        archive.finish().unwrap();
        vsix.check()
    }

    #[test]
    fn an_extension_that_is_not_whole_or_too_large_is_refused() {
        let program = "tasks/TrainModel/bin/linux-x64/train-model.br";
        checked(false, |_| ()).unwrap();
        let why = |quick, change: &dyn Fn(&mut Files)| {
            checked(quick, |files| change(files)).unwrap_err().to_string()
        };
        assert!(why(true, &|files| drop(files.remove(program))).contains("lacks [\"tasks/TrainModel/bin"));
        let foreign = |files: &mut Files| drop(files.insert("tasks/.env".into(), Vec::new()));
        assert!(why(true, &foreign).contains("do not belong there"));
        let declared = |files: &mut Files| {
            let definition = files.get_mut("tasks/TrainModel/task.json").unwrap();
            let text = String::from_utf8(definition.clone()).unwrap();
            *definition = text.replace("minAccuracy", "minimum").into_bytes();
        };
        assert!(why(true, &declared).contains("not what the step declares"));
        let large = |files: &mut Files| {
            files.insert("overview.md".into(), vec![b' '; MAX_REST as usize]);
        };
        assert!(why(true, &large).contains("all but the programs is"));
        let heavy = |files: &mut Files| {
            files.insert(program.into(), vec![0; MAX_BYTES as usize]);
        };
        assert!(why(false, &heavy).contains("many servers take"));
        // A quick build's programs are larger than those that ship.
        checked(true, |files| heavy(files)).unwrap();
    }
}
