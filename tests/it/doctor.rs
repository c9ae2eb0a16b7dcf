//! `mynah doctor` as a person runs it, on machines that are folders.

use std::fs;

use mynah_testkit::kubernetes::Cluster;
use serde_json::Value;

use crate::given::{Ran, binary};

fn doctor(arguments: &[&str]) -> Ran {
    binary("mynah").arg("doctor").args(arguments).output().unwrap().into()
}

fn state<'a>(findings: &'a Value, check: &str) -> &'a str {
    let all = findings["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["check"] == check).unwrap()["state"].as_str().unwrap()
}

#[test]
fn a_machine_without_a_camera_has_a_problem_with_a_remedy() {
    let root = tempfile::tempdir().unwrap();
    let found = doctor(&["--root", root.path().to_str().unwrap()]);
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    for line in ["camera     problem", "           remedy   plug", "cluster    skipped", "problems: 1"] {
        assert!(found.stdout.contains(line), "`{line}` is not in:\n{}", found.stdout);
    }
}

#[test]
fn a_good_machine_and_its_cluster_end_well_and_in_json() {
    let root = tempfile::tempdir().unwrap();
    for file in ["dev/video0", "dev/snd/pcmC0D0p", "run/systemd/timesync/synchronized"] {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let cluster = Cluster::default();
    let served = cluster.start(0).unwrap();
    let kubeconfig = root.path().join("kubeconfig");
    fs::write(&kubeconfig, Cluster::kubeconfig(&served.url())).unwrap();
    let arguments =
        ["--root", root.path().to_str().unwrap(), "--kubeconfig", kubeconfig.to_str().unwrap(), "--json"];
    let good = doctor(&arguments).well();
    let findings: Value = serde_json::from_str(&good.stdout).unwrap();
    for check in ["camera", "sound", "clock", "cluster"] {
        assert_eq!(state(&findings, check), "good", "{}", good.stdout);
    }
    assert_eq!(state(&findings, "registry"), "skipped");
    cluster.accept("another-token-9418");
    let bad = doctor(&arguments);
    assert_eq!(bad.code, Some(1), "{}", bad.stderr);
    let findings: Value = serde_json::from_str(&bad.stdout).unwrap();
    assert_eq!(state(&findings, "cluster"), "problem");
    // It only looked.
    assert!(cluster.wire.exchanges().iter().all(|said| said.method == "GET"));
}

#[test]
fn who_does_not_answer_is_told_and_nonsense_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let silent = doctor(&["--root", root, "--registry", "http://127.0.0.1:1"]);
    assert_eq!(silent.code, Some(1));
    assert!(silent.stdout.contains("registry   problem"), "{}", silent.stdout);
    doctor(&["--root", root, "--hub", "ftp://hub"]).ill(2, &["--hub"]);
    doctor(&["--root", "no/such/folder"]).ill(2, &["--root"]);
}
