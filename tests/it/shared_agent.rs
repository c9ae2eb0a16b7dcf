//! What an agent has in store for a task: jobs beside it, folders that cannot be written, paths of all kinds, forms with
//! nothing in them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::given::{Ran, binary, files, run, run_as_agent, runtime, small_dataset, small_source};

/// How many jobs run at once.
const JOBS: usize = 3;

fn command(name: &str, flags: &[(&str, &Path)]) -> Command {
    let mut command = binary(name);
    for (flag, value) in flags {
        command.arg(format!("--{flag}")).arg(value);
    }
    command
}

/// Starts all before it waits for the first.
fn at_once(commands: impl Iterator<Item = Command>) -> Vec<Ran> {
    let children: Vec<Child> = commands
        .map(|mut command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

fn trained(root: &Path, dataset: &Path) -> PathBuf {
    let training = root.join("training");
    command("train-model", &[("dataset", dataset), ("out", &training)])
        .output()
        .map(Ran::from)
        .unwrap()
        .well();
    training
}

#[test]
fn jobs_that_share_a_cache_make_what_one_makes_alone() {
    let root = tempfile::tempdir().unwrap();
    let dataset = small_dataset(root.path());
    let alone = trained(root.path(), &dataset);
    let cache = root.path().join("cache");
    let outs: Vec<PathBuf> = (0..JOBS).map(|job| root.path().join(format!("job-{job}/training"))).collect();
    let jobs = outs
        .iter()
        .map(|out| command("train-model", &[("dataset", &dataset), ("cache", &cache), ("out", out)]));
    for ran in at_once(jobs) {
        ran.well();
    }
    for out in &outs {
        assert!(files(out) == files(&alone), "{} differs", out.display());
    }

    runtime();
    let model = root.path().join("model");
    mynah_testkit::tiny_model_package(&model).unwrap();
    let images = root.path().join("images");
    let layers = root.path().join("layers");
    command("build-modules", &[("model", &model), ("out", &images)]).output().map(Ran::from).unwrap().well();
    let outs: Vec<PathBuf> = (0..JOBS).map(|job| root.path().join(format!("job-{job}/images"))).collect();
    let jobs = outs
        .iter()
        .map(|out| command("build-modules", &[("model", &model), ("cache", &layers), ("out", out)]));
    for ran in at_once(jobs) {
        ran.well();
    }
    for out in &outs {
        assert!(files(out) == files(&images), "{} differs", out.display());
    }
    for kept in [&cache, &layers] {
        let left: Vec<_> =
            files(kept).into_iter().filter(|(path, _)| path.to_string_lossy().contains("partial")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn jobs_that_write_to_one_folder_leave_it_whole() {
    let root = tempfile::tempdir().unwrap();
    let dataset = small_dataset(root.path());
    let source = root.path().join("source");
    let shared = root.path().join("shared");
    let imports = (0..JOBS).map(|_| command("import-images", &[("source", &source), ("out", &shared)]));
    let ended = at_once(imports);
    // Who came second may be refused, in words.
    assert!(ended.iter().any(|ran| ran.code == Some(0)), "{}", ended[0].stderr);
    for ran in &ended {
        assert!(ran.code == Some(0) || ran.stderr.contains("error: "), "{:?}: {}", ran.code, ran.stderr);
    }
    assert!(files(&shared) == files(&dataset), "the imports left another dataset");

    let alone = trained(root.path(), &dataset);
    let out = root.path().join("together/training");
    let ended = at_once((0..JOBS).map(|_| command("train-model", &[("dataset", &dataset), ("out", &out)])));
    assert!(ended.iter().any(|ran| ran.code == Some(0)), "{}", ended[0].stderr);
    for ran in &ended {
        assert!(ran.code == Some(0) || ran.stderr.contains("error: "), "{:?}: {}", ran.code, ran.stderr);
    }
    assert!(files(&out) == files(&alone), "the trainings left another one");
    for beside in fs::read_dir(root.path().join("together")).unwrap() {
        let name = beside.unwrap().file_name();
        assert!(name == "training" || name == "cache", "{} was left behind", name.display());
    }
}

/// A folder that cannot be written, by root neither. It is made writable again when it is dropped.
struct ReadOnly {
    folder: PathBuf,
    mounted: bool,
}

impl ReadOnly {
    fn make(folder: PathBuf) -> Option<Self> {
        fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "ro", "mynah-test"])
            .arg(&folder)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            let status = Command::new("chmod").arg("a-w").arg(&folder).status();
            assert!(status.unwrap().success());
        }
        let made = Self { folder, mounted };
        fs::write(made.folder.join("probe"), "").is_err().then_some(made)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let undo = if self.mounted { &["umount"][..] } else { &["chmod", "u+w"] };
        let _ = Command::new(undo[0]).args(&undo[1..]).arg(&self.folder).status();
    }
}

#[test]
fn a_work_folder_that_cannot_be_written_is_told_by_every_task() {
    runtime();
    let root = tempfile::tempdir().unwrap();
    let dataset = small_dataset(root.path());
    let training = trained(root.path(), &dataset);
    let model = root.path().join("model");
    mynah_testkit::tiny_model_package(&model).unwrap();
    let images = root.path().join("images");
    command("build-modules", &[("model", &model), ("out", &images)]).output().map(Ran::from).unwrap().well();
    let manifest = root.path().join("deployment.json");
    let generate = [("images", images.as_path()), ("out", &manifest)];
    command("generate-manifest", &generate).output().map(Ran::from).unwrap().well();
    let Some(place) = ReadOnly::make(root.path().join("read only")) else {
        eprintln!("SKIPPED: every folder can be written here");
        return;
    };
    let (source, out) = (root.path().join("source"), place.folder.join("out"));
    let inputs: [(&str, &[(&str, &Path)]); 6] = [
        ("import-images", &[("source", &source)]),
        ("train-model", &[("dataset", &dataset)]),
        ("export-model", &[("training", &training)]),
        ("build-modules", &[("model", &model)]),
        ("generate-manifest", &[("images", &images)]),
        (
            "deploy-modules",
            &[
                ("manifest", &manifest),
                ("images", &images),
                ("frames", &source),
                ("target", Path::new("local")),
            ],
        ),
    ];
    for (name, flags) in inputs {
        let mut command = command(name, flags);
        // What is fetched or computed on the way is kept elsewhere.
        command.arg("--out").arg(&out).env("XDG_CACHE_HOME", root.path().join("kept"));
        let ran: Ran = command.output().unwrap().into();
        assert!(matches!(ran.code, Some(1 | 2)), "{name}: {:?} {}", ran.code, ran.stderr);
        assert!(ran.stderr.contains("read only") && ran.stderr.contains("hint: "), "{name}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
    }
}

#[test]
fn any_path_will_do() {
    runtime();
    let root = tempfile::tempdir().unwrap();
    let odd = root.path().join("a b/Grüße 'n' \"œufs\"/.././-x & $y;  %20#");
    fs::create_dir_all(root.path().join("a b/Grüße 'n' \"œufs\"")).unwrap();
    fs::create_dir_all(&odd).unwrap();
    let source = small_source(&odd);
    let at = |name: &str| odd.join(name);
    for (name, flags) in [
        ("import-images", vec![("source", source), ("out", at("data set"))]),
        ("train-model", vec![("dataset", at("data set")), ("cache", at("ca che")), ("out", at("trai ning"))]),
        (
            "export-model",
            vec![("training", at("trai ning")), ("dataset", at("data set")), ("out", at("mo del"))],
        ),
        ("build-modules", vec![("model", at("mo del")), ("out", at("ima ges"))]),
        ("generate-manifest", vec![("images", at("ima ges")), ("out", at("deploy ment.json"))]),
    ] {
        let flags: Vec<(&str, &str)> =
            flags.iter().map(|(flag, path)| (*flag, path.to_str().unwrap())).collect();
        let ran = run_as_agent(name, &flags);
        assert_eq!(ran.code, Some(0), "{name}: {}{}", ran.stdout, ran.stderr);
    }
    assert!(root.path().join("a b/-x & $y;  %20#/deploy ment.json").is_file());
}

#[test]
fn a_form_with_nothing_in_it_takes_defaults_and_names_what_it_needs() {
    for needed in ["dataset", "out"] {
        let inputs = [("dataset", "d"), ("out", "o")]
            .map(|(name, value)| (name, if name == needed { "" } else { value }));
        let ran = run_as_agent("train-model", &inputs);
        assert_eq!(ran.code, Some(2));
        let told = format!("`--{needed}` (input `{needed}`) is required");
        assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    }

    let root = tempfile::tempdir().unwrap();
    let training = trained(root.path(), &small_dataset(root.path()));
    let (left_out, empty) = (root.path().join("left-out"), root.path().join("empty"));
    let training = training.to_str().unwrap();
    let export = |out: &Path, more: &[(&str, &str)]| {
        run_as_agent(
            "export-model",
            &[&[("training", training), ("out", out.to_str().unwrap())], more].concat(),
        )
    };
    assert_eq!(export(&left_out, &[]).code, Some(0));
    let ran = export(&empty, &[("weights", ""), ("dataset", ""), ("connection", ""), ("also", "")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(files(&left_out) == files(&empty), "an empty choice is another one than none");
    let ran = export(&empty, &[("weights", "f8")]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stdout.contains("is `f8`") && ran.stdout.contains("f16"), "{}", ran.stdout);
}

#[test]
fn by_the_name_of_the_export_the_training_program_exports() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let named = root.path().join("export-model");
    symlink(env!("CARGO_BIN_EXE_train-model"), &named).unwrap();
    let said: Ran = Command::new(&named).arg("--version").output().unwrap().into();
    assert_eq!(said.stdout, format!("export-model {}\n", env!("CARGO_PKG_VERSION")));
    let training = trained(root.path(), &small_dataset(root.path()));
    let (own, other) = (root.path().join("own"), root.path().join("other"));
    let flags = |out: &Path| -> Vec<std::ffi::OsString> {
        [OsStr::new("--training"), training.as_os_str(), OsStr::new("--out"), out.as_os_str()]
            .map(OsStr::to_owned)
            .into()
    };
    run("export-model", flags(&own)).well();
    let ran: Ran = Command::new(&named).args(flags(&other)).output().unwrap().into();
    ran.well();
    assert!(files(&own) == files(&other), "the two programs export another model");
}
