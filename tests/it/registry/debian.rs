//! Debian's docker-registry with passwords, read back by skopeo, unpacked by umoci, started.

use std::fs;
use std::process::Command;

use mynah_testkit::debian_registry::DebianRegistry;
use serde_json::Value;

use super::peers::{installed, signing_key};
use super::{ENV, Workplace};
use crate::given::{Ran, binary};

/// What skopeo says of an image in the registry.
fn skopeo(arguments: &[&str]) -> Value {
    let credentials = format!("{}:{}", ENV[0].1, ENV[1].1);
    let output = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--creds", &credentials])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn debian_s_registry_takes_an_image_and_others_read_it_back() {
    if !installed(&[
        ("docker-registry", "--version"),
        ("htpasswd", "-h"),
        ("skopeo", "--version"),
        ("umoci", "--version"),
    ]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = DebianRegistry::start(folder.path()).unwrap();
    let work = Workplace::new();
    let key = signing_key(&work.path("key.pem"));
    let place = format!("{}/factory", daemon.address());
    let push = ["--push", &place, "--sign-key", key.to_str().unwrap()];
    work.build(&push, &ENV).well();
    let module = work.module();
    let digest = module["index"]["digest"].as_str().unwrap();
    let image = format!("docker://{place}/mynah-runtime:{}", module["tag"].as_str().unwrap());

    let raw = skopeo(&["--raw", &image]);
    assert_eq!(raw["manifests"][0]["digest"], module["platforms"][0]["manifest"]["digest"]);
    let layers: Vec<Value> = module["platforms"][0]["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].clone())
        .collect();
    assert_eq!(skopeo(&[&image])["Layers"], Value::from(layers));
    // The list of referrers stands under the tag that old registries need.
    let list = format!("docker://{place}/mynah-runtime:{}", digest.replace(':', "-"));
    let list = skopeo(&["--raw", &list]);
    assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.in-toto+json");

    // umoci unpacks what skopeo copies, and the program inside is the one that was built in.
    let credentials = format!("{}:{}", ENV[0].1, ENV[1].1);
    let copy = format!("oci:{}:copy", work.path("copy").display());
    let copied = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--src-creds", &credentials, &image, &copy])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let bundle = work.path("bundle");
    let unpacked = Command::new("umoci")
        .args(["unpack", "--rootless", "--image", &format!("{}:copy", work.path("copy").display())])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let program = bundle.join("rootfs/usr/local/bin/mynah-runtime");
    assert!(fs::read(&program).unwrap() == fs::read(crate::given::runtime()).unwrap());

    let started = Command::new(&program).arg("--version").output().unwrap();
    assert!(started.status.success(), "what was unpacked does not start");

    // Unchanged: nothing moves. The wrong password: said so.
    let ran = work.build(&push, &ENV).well();
    assert!(ran.stdout.contains("the registry had everything"), "{}", ran.stdout);
    let wrong = [ENV[0], ("MYNAH_REGISTRY_PASSWORD", "another-word")];
    work.build(&push, &wrong).ill(3, &["does not accept the credentials", "docker login"]);

    let traced: Ran = binary("mynah")
        .env("HOME", work.root.path())
        .envs(ENV)
        .args(["trace", &format!("{place}/mynah-runtime@{digest}"), "--key"])
        .arg(work.path("key.pub"))
        .output()
        .unwrap()
        .into();
    let table = traced.well().stdout;
    for line in ["1 × application/vnd.in-toto+json", "1 × application/vnd.cyclonedx+json", "one of them with"]
    {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn skopeo_reads_the_archive_as_docker_s_and_as_a_layout() {
    if !installed(&[("skopeo", "--version")]) {
        return;
    }
    let work = Workplace::new();
    work.build(&["--output-archive", "image.tar", "--tag", "v1"], &[]).well();
    let module = work.module();
    for transport in ["docker-archive", "oci-archive"] {
        let name = format!("{transport}:{}", work.path("image.tar").display());
        let output = Command::new("skopeo").args(["inspect", &name]).output().unwrap();
        assert!(output.status.success(), "{transport}: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let layers = module["platforms"][0]["layers"].as_array().unwrap().len();
        assert_eq!(said["Layers"].as_array().unwrap().len(), layers, "{transport}");
    }
}
