//! What the tests start from: the binaries, and small folders of real photos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// One of the built binaries, with an environment of its own: nothing of the machine's agent or build leaks in.
pub(crate) fn binary(name: &str) -> Command {
    let path = match name {
        "mynah" => env!("CARGO_BIN_EXE_mynah"),
        "import-images" => env!("CARGO_BIN_EXE_import-images"),
        "train-model" => env!("CARGO_BIN_EXE_train-model"),
        "export-model" => env!("CARGO_BIN_EXE_export-model"),
        "build-modules" => env!("CARGO_BIN_EXE_build-modules"),
        "generate-manifest" => env!("CARGO_BIN_EXE_generate-manifest"),
        "deploy-modules" => env!("CARGO_BIN_EXE_deploy-modules"),
        other => panic!("no binary {other}"),
    };
    let mut command = Command::new(path);
    command.env_clear().env("MYNAH_HOME", root()).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How a program ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Fails the test unless the program ended well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the program ended with `code` and said each of `words` on standard error.
    #[track_caller]
    pub(crate) fn ill(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in:\n{}", self.stderr);
        }
        self
    }
}

/// Runs a binary with flags.
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Ran {
    binary(name).args(arguments).output().unwrap().into()
}

/// Runs a binary as an agent does: inputs as variables, no arguments.
pub(crate) fn run_as_agent(name: &str, inputs: &[(&str, &str)]) -> Ran {
    let mut command = binary(name);
    command.env("TF_BUILD", "True");
    for (input, value) in inputs {
        command.env(format!("INPUT_{}", input.to_uppercase()), value);
    }
    command.output().unwrap().into()
}

/// Copies the first `count` sample photos of `sample` into `folder`.
pub(crate) fn photos(sample: &str, count: usize, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("samples/photos").join(sample))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= count, "only {} photos of {sample}", files.len());
    for file in &files[..count] {
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
}

/// A source of two labels with five photos each.
pub(crate) fn small_source(root: &Path) -> PathBuf {
    let source = root.join("source");
    photos("fish", 5, &source.join("fish"));
    photos("hammer", 5, &source.join("hammer"));
    source
}

/// Imports [`small_source`] and gives the dataset's folder.
pub(crate) fn small_dataset(root: &Path) -> PathBuf {
    let dataset = root.join("dataset");
    run(
        "import-images",
        ["--source".as_ref(), small_source(root).as_os_str(), "--out".as_ref(), dataset.as_os_str()],
    )
    .well();
    dataset
}

/// The device's program. A test of the whole workspace has built it; for a test of this package alone it is
/// built here, once.
pub(crate) fn runtime() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_mynah")).parent().unwrap();
        let runtime = folder.join("mynah-runtime");
        if !runtime.is_file() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked"]);
            if folder.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.current_dir(root()).status().unwrap().success());
        }
        assert!(runtime.is_file(), "{} was not built", runtime.display());
        runtime
    })
}

/// Every file below `folder` with its bytes, in order.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(folder).unwrap().to_owned(), fs::read(entry.path()).unwrap()))
        .collect()
}
