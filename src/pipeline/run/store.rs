//! The folder of all runs on this machine: artifacts, caches, logs, what each run came to.
//!
//! | place | what |
//! |---|---|
//! | `runs/<number>/run.json` | how the run ended, with the outputs of its jobs |
//! | `runs/<number>/artifacts/<name>/` | what it published |
//! | `runs/<number>/logs/`, `summaries/` | what its steps said, and their pages |
//! | `cache/<digest>/` | what the task `Cache` keeps from run to run |
//! | `work/` | the workspaces of the newest run's jobs |

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::dockerfile::pattern::Pattern;

/// How something ended, in the words of Azure Pipelines. Worse ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Verdict {
    Skipped,
    Succeeded,
    SucceededWithIssues,
    Failed,
    Canceled,
}

impl Verdict {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Skipped => "Skipped",
            Self::Succeeded => "Succeeded",
            Self::SucceededWithIssues => "SucceededWithIssues",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
        }
    }

    /// Whether what depends on it goes on.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithIssues)
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The pipeline's file.
    pub(super) pipeline: String,
    pub(super) result: Verdict,
    pub(super) stages: BTreeMap<String, StageRecord>,
}

/// What a stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StageRecord {
    pub(super) result: Verdict,
    pub(super) jobs: BTreeMap<String, JobRecord>,
}

/// What a job came to. Outputs are named as `dependencies` names them; secret ones are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct JobRecord {
    pub(super) result: Verdict,
    pub(super) outputs: BTreeMap<String, String>,
}

/// Why the folder or something in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("`{place}` is not empty and holds no `runs`: it is no folder of pipeline runs")]
    Foreign { place: String },
    #[error("cannot {what} `{path}`")]
    Io {
        what: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("there is no artifact `{name}` in {place}")]
    NoArtifact { name: String, place: String },
    #[error("the artifact `{name}` was published before in this run")]
    Twice { name: String },
    #[error("`{name}` is no name of an artifact")]
    Name { name: String },
    #[error("there is nothing at `{path}` to publish")]
    Nothing { path: String },
    #[error("`{path}` is no record of a run")]
    Record {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Diagnosis for StoreError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Foreign { .. } => "name another folder with --out".into(),
            Self::NoArtifact { .. } => "look whether an earlier job publishes it under this name".into(),
            Self::Twice { .. } => "give one of them another name".into(),
            Self::Name { .. } => "leave out slashes, dots at its beginning and control characters".into(),
            Self::Nothing { .. } => "look whether an earlier step wrote it there".into(),
            Self::Record { .. } => "remove that run's folder".into(),
            Self::Io { .. } => return None,
        })
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { what, path, source }
}

/// The folder of all runs.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// One run's part of it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    folder: PathBuf,
}

impl Store {
    /// Opens the folder, or makes it.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(failed("find", root))?;
        let occupied = fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some());
        if occupied && !root.join("runs").is_dir() {
            return Err(StoreError::Foreign { place: root.display().to_string() });
        }
        let runs = root.join("runs");
        fs::create_dir_all(&runs).map_err(failed("create", &runs))?;
        Ok(Self { root })
    }

    /// Begins a run; its number is one more than the last one's.
    pub(super) fn begin(&self) -> Result<Run, StoreError> {
        loop {
            let number = self.numbers().first().copied().unwrap_or(0) + 1;
            let folder = self.root.join("runs").join(number.to_string());
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Run { number, folder }),
                // Another process took it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", &folder)(error)),
            }
        }
    }

    /// The runs there are, the newest first.
    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.root.join("runs"));
        let mut numbers: Vec<u64> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        let file = self.root.join("runs").join(number.to_string()).join("run.json");
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| StoreError::Record { path: file.display().to_string(), source }),
            // It was killed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &file)(error)),
        }
    }

    /// What the newest run before `before` that has this stage came to in it.
    pub(super) fn stage(&self, name: &str, before: u64) -> Result<Option<StageRecord>, StoreError> {
        for number in self.numbers().into_iter().filter(|number| *number < before) {
            let stage = self.record(number)?.and_then(|mut record| record.stages.remove(name));
            if let Some(stage) = stage.filter(|stage| stage.result != Verdict::Skipped) {
                return Ok(Some(stage));
            }
        }
        Ok(None)
    }

    /// The folder of an artifact of the newest good run before `before` that has it.
    pub(super) fn earlier(&self, name: &str, before: u64) -> Result<PathBuf, StoreError> {
        let folder = is_name(name)?;
        for number in self.numbers().into_iter().filter(|number| *number < before) {
            let place = self.root.join("runs").join(number.to_string()).join("artifacts").join(folder);
            if place.is_dir() && self.record(number)?.is_some_and(|record| record.result.is_good()) {
                return Ok(place);
            }
        }
        Err(StoreError::NoArtifact { name: name.into(), place: "any earlier run that succeeded".into() })
    }

    /// The names of the artifacts of the newest good run.
    pub(super) fn newest_artifacts(&self) -> Result<Vec<String>, StoreError> {
        for number in self.numbers() {
            if self.record(number)?.is_some_and(|record| record.result.is_good()) {
                return Ok(names_in(&self.root.join("runs").join(number.to_string()).join("artifacts")));
            }
        }
        Ok(Vec::new())
    }

    /// An empty workspace for a job.
    pub(super) fn workspace(&self, number: usize) -> Result<PathBuf, StoreError> {
        let folder = self.root.join("work").join(number.to_string());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("empty", &folder)(error));
            }
            _ => {}
        }
        for below in ["a", "b", "s", "TestResults", "_temp"] {
            let path = folder.join(below);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        Ok(folder)
    }

    /// Where tools are kept from run to run.
    pub(super) fn tools(&self) -> Result<PathBuf, StoreError> {
        let folder = self.root.join("tools");
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        Ok(folder)
    }

    fn cached(&self, key: &str) -> PathBuf {
        self.root.join("cache").join(&Sha256Digest::of(key.as_bytes()).hex()[..32])
    }

    /// Puts what is kept under `key`, or else the newest under a key that begins with one of `others`, to `to`; says
    /// whether it was the very key.
    pub(super) fn restore(
        &self,
        key: &str,
        others: &[String],
        to: &Path,
    ) -> Result<Option<bool>, StoreError> {
        let exact = self.cached(key);
        if exact.join("key").is_file() {
            copy(&exact.join("content"), to)?;
            return Ok(Some(true));
        }
        let mut kept: Vec<(String, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.root.join("cache")).into_iter().flatten().flatten() {
            let Ok(text) = fs::read_to_string(entry.path().join("key")) else { continue };
            if let Some((number, key)) = text.split_once('\n') {
                kept.push((key.to_owned(), number.parse().unwrap_or(0), entry.path()));
            }
        }
        kept.sort_by(|(a_key, a, _), (b_key, b, _)| b.cmp(a).then_with(|| a_key.cmp(b_key)));
        for other in others {
            if let Some((_, _, folder)) = kept.iter().find(|(key, ..)| key.starts_with(other)) {
                copy(&folder.join("content"), to)?;
                return Ok(Some(false));
            }
        }
        Ok(None)
    }

    /// Keeps what is at `from` under `key`, unless it is kept already. `number` is the run's.
    pub(super) fn keep(&self, key: &str, number: u64, from: &Path) -> Result<(), StoreError> {
        let place = self.cached(key);
        if place.exists() || !from.exists() {
            return Ok(());
        }
        let cache = self.root.join("cache");
        fs::create_dir_all(&cache).map_err(failed("create", &cache))?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&cache)
            .map_err(failed("write in", &cache))?;
        copy(from, &partial.path().join("content"))?;
        let text = format!("{number}\n{key}");
        let file = partial.path().join("key");
        fs::write(&file, text).map_err(failed("write", &file))?;
        // Another run may have kept the same meanwhile.
        match fs::rename(partial.path(), &place) {
            Err(error) if !place.exists() => Err(failed("write", &place)(error)),
            _ => Ok(()),
        }
    }
}

impl Run {
    /// A folder of the run.
    pub(super) fn below(&self, name: &str) -> Result<PathBuf, StoreError> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        Ok(folder)
    }

    /// Publishes a file, or what is in a folder.
    pub(super) fn publish(&self, name: &str, from: &Path) -> Result<PathBuf, StoreError> {
        let artifacts = self.below("artifacts")?;
        let place = artifacts.join(is_name(name)?);
        if place.exists() {
            return Err(StoreError::Twice { name: name.into() });
        }
        if !from.exists() {
            return Err(StoreError::Nothing { path: from.display().to_string() });
        }
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&artifacts)
            .map_err(failed("write in", &artifacts))?;
        let whole = partial.path().join("whole");
        if from.is_dir() {
            copy(from, &whole)?;
        } else {
            copy(from, &whole.join(from.file_name().unwrap_or_default()))?;
        }
        fs::rename(&whole, &place).map_err(failed("write", &place))?;
        Ok(place)
    }

    /// The folder of one of its artifacts.
    pub(super) fn artifact(&self, name: &str) -> Result<PathBuf, StoreError> {
        let place = self.folder.join("artifacts").join(is_name(name)?);
        if place.is_dir() {
            return Ok(place);
        }
        Err(StoreError::NoArtifact { name: name.into(), place: "this run".into() })
    }

    /// The names of its artifacts.
    pub(super) fn artifacts(&self) -> Vec<String> {
        names_in(&self.folder.join("artifacts"))
    }

    /// Writes down what it came to.
    pub(super) fn finish(&self, record: &Record) -> Result<(), StoreError> {
        let file = self.folder.join("run.json");
        let mut text = serde_json::to_string_pretty(record)
            .map_err(|source| StoreError::Record { path: file.display().to_string(), source })?;
        text.push('\n');
        let mut partial =
            tempfile::NamedTempFile::new_in(&self.folder).map_err(failed("write in", &self.folder))?;
        partial.write_all(text.as_bytes()).map_err(failed("write", &file))?;
        partial.persist(&file).map_err(|error| failed("write", &file)(error.error))?;
        Ok(())
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// A name that is a folder's and leads nowhere else.
fn is_name(name: &str) -> Result<&str, StoreError> {
    let bad = name.is_empty()
        || name.starts_with('.')
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control);
    if bad { Err(StoreError::Name { name: name.escape_debug().to_string() }) } else { Ok(name) }
}

/// Copies a file, or what is in a folder. Links are followed, as when an artifact is uploaded.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    download(from, to, Path::new(""), "**").map(drop)
}

/// Copies the files of a folder that match one of the patterns, one a line; a line that begins with `!` takes files
/// out again. The patterns speak of paths below the folder, with `named` before them. Says how many files there were.
pub(super) fn download(from: &Path, to: &Path, named: &Path, patterns: &str) -> Result<usize, StoreError> {
    let mut count = 0;
    for entry in walkdir::WalkDir::new(from).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| failed("read", from)(error.into()))?;
        let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
        let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
        if entry.file_type().is_dir() {
            if patterns.trim() == "**" {
                fs::create_dir_all(&target).map_err(failed("create", &target))?;
            }
            continue;
        }
        if !is_meant(&named.join(below), patterns) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        fs::copy(entry.path(), &target).map_err(failed("write", &target))?;
        count += 1;
    }
    Ok(count)
}

/// Whether a path below a folder is one of those that patterns mean, one a line; the last line that speaks of it counts.
pub(super) fn is_meant(below: &Path, patterns: &str) -> bool {
    let path: Vec<String> =
        below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let mut meant = path.is_empty();
    for line in patterns.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, takes) = line.strip_prefix('!').map_or((line, true), |line| (line, false));
        if Pattern::parse(line).is_ok_and(|pattern| pattern.matches(&path)) {
            meant = takes;
        }
    }
    meant
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(store: &Store, run: &Run, result: Verdict) {
        let job = JobRecord { result, outputs: BTreeMap::new() };
        let stage = StageRecord { result, jobs: BTreeMap::from([("j".into(), job)]) };
        let stages = BTreeMap::from([("s".into(), stage)]);
        run.finish(&Record { pipeline: "p.yml".into(), result, stages }).unwrap();
        assert!(store.record(run.number).unwrap().is_some());
    }

    #[test]
    fn artifacts_are_published_once_and_found_in_later_runs_if_theirs_was_good() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        fs::create_dir_all(root.path().join("made/deep")).unwrap();
        fs::write(root.path().join("made/deep/a.txt"), "a").unwrap();
        fs::write(root.path().join("made/b.json"), "b").unwrap();
        let store = Store::open(&out).unwrap();
        let first = store.begin().unwrap();
        first.publish("model", &root.path().join("made")).unwrap();
        assert!(matches!(first.publish("model", root.path()), Err(StoreError::Twice { .. })));
        assert!(matches!(first.publish("../x", root.path()), Err(StoreError::Name { .. })));
        assert!(matches!(first.publish("y", &root.path().join("gone")), Err(StoreError::Nothing { .. })));
        assert_eq!(first.artifacts(), ["model"]);
        assert!(store.earlier("model", 9).is_err(), "a run that was killed has no good artifacts");
        good(&store, &first, Verdict::SucceededWithIssues);
        let second = store.begin().unwrap();
        good(&store, &second, Verdict::Failed);
        let found = store.earlier("model", 9).unwrap();
        let to = root.path().join("to");
        assert_eq!(download(&found, &to, Path::new(""), "**/*.txt\n!deep/x*").unwrap(), 1);
        assert_eq!(download(&found, &to, Path::new("m"), "x*/**").unwrap(), 0);
        assert!(to.join("deep/a.txt").is_file() && !to.join("b.json").exists());
        assert_eq!(store.stage("s", 9).unwrap().unwrap().result, Verdict::Failed);
        assert_eq!(store.newest_artifacts().unwrap(), ["model"]);
        assert!(matches!(Store::open(&root.path().join("made")), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn what_is_kept_is_found_by_its_key_or_the_newest_beginning() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("out")).unwrap();
        for number in 1..=2 {
            let from = root.path().join(format!("from{number}"));
            fs::create_dir(&from).unwrap();
            fs::write(from.join("f"), number.to_string()).unwrap();
            store.keep(&format!("a|b|{number}"), number, &from).unwrap();
        }
        let at = |name: &str| root.path().join(name);
        assert_eq!(store.restore("a|b|1", &[], &at("x")).unwrap(), Some(true));
        assert_eq!(fs::read_to_string(at("x/f")).unwrap(), "1");
        assert_eq!(store.restore("a|b|3", &["q".into(), "a|b".into()], &at("y")).unwrap(), Some(false));
        assert_eq!(fs::read_to_string(at("y/f")).unwrap(), "2");
        assert_eq!(store.restore("c", &[], &at("z")).unwrap(), None);
    }
}
