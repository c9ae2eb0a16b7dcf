//! Stopped anywhere, run again: the same end as if nothing had happened.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::given::{binary, files, runtime, small_source};

fn walk(source: &Path, out: &Path) -> Command {
    let mut command = binary("mynah");
    command.arg("run").arg(source).arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What must be equal: all artifacts but those that tell the time.
fn made(out: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    ["dataset", "training", "model", "images"]
        .iter()
        .flat_map(|folder| {
            files(&out.join(folder))
                .into_iter()
                .map(move |(path, bytes)| (Path::new(folder).join(path), bytes))
        })
        .chain([("deployment.json".into(), std::fs::read(out.join("deployment.json")).unwrap())])
        .collect()
}

#[test]
fn a_walk_stopped_at_many_moments_ends_the_same_when_run_again() {
    runtime();
    let root = tempfile::tempdir().unwrap();
    let source = small_source(root.path());
    let calm = root.path().join("calm");
    assert!(walk(&source, &calm).status().unwrap().success());

    let disturbed = root.path().join("disturbed");
    // Two ways to stop: asked (SIGINT, exit code 130) and killed (SIGKILL, no chance to tidy up).
    for (round, signal) in ["INT", "KILL"].iter().cycle().take(16).enumerate() {
        let child = walk(&source, &disturbed).spawn().unwrap();
        sleep(Duration::from_millis(15 + 60 * round as u64));
        let _ = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let ended = child.wait_with_output().unwrap();
        match (signal, ended.status.code()) {
            // It may have been done before the signal came, or not have installed its handler yet.
            (&"INT", code) => assert!(
                matches!(code, Some(0 | 130) | None),
                "{code:?}: {}",
                String::from_utf8_lossy(&ended.stderr)
            ),
            (_, code) => assert!(matches!(code, Some(0) | None), "{code:?}"),
        }
    }
    let ended = walk(&source, &disturbed).spawn().unwrap().wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(made(&calm) == made(&disturbed), "what was made differs after interruptions");
    for entry in walkdir::WalkDir::new(&disturbed) {
        let entry = entry.unwrap();
        assert!(
            !entry.file_name().to_string_lossy().contains("partial"),
            "left behind: {}",
            entry.path().display()
        );
    }
}
