//! Debian's docker-registry with passwords, read back by skopeo, unpacked by umoci, started.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::peers::{installed, signing_key};
use super::{ENV, Workplace};
use crate::given::{Ran, binary};

/// A running docker-registry; it ends when this is dropped.
struct Daemon {
    child: Child,
    host: String,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let passwords = Command::new("htpasswd").args(["-Bbn", ENV[0].1, ENV[1].1]).output().unwrap();
        fs::write(folder.join("htpasswd"), passwords.stdout).unwrap();
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let place = folder.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/store}}}}\n\
             http: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}\n"
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), folder.join("config.yml").as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { child, host: address.to_string() };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

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
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let daemon = Daemon::start(folder.path());
    let work = Workplace::new();
    let key = signing_key(&work.path("key.pem"));
    let place = format!("{}/factory", daemon.host);
    let push = ["--push", &place, "--sign-key", key.to_str().unwrap()];
    work.build(&push, &ENV).well();
    let module = work.module();
    let digest = module["index"]["digest"].as_str().unwrap();
    let image = format!("docker://{place}/mynah-runtime:{}", module["tag"].as_str().unwrap());

    let raw = Daemon::skopeo(&["--raw", &image]);
    assert_eq!(raw["manifests"][0]["digest"], module["platforms"][0]["manifest"]["digest"]);
    let layers: Vec<Value> = module["platforms"][0]["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].clone())
        .collect();
    assert_eq!(Daemon::skopeo(&[&image])["Layers"], Value::from(layers));
    // The list of referrers stands under the tag that old registries need.
    let list = format!("docker://{place}/mynah-runtime:{}", digest.replace(':', "-"));
    let list = Daemon::skopeo(&["--raw", &list]);
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
