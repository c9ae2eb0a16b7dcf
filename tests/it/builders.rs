//! Dockerfiles with `RUN`, handed to a builder: stand-ins note what they are asked for and give an image back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mynah_contracts::Sha256Digest;
use serde_json::Value;

use crate::given::{Ran, binary};

const CARD: &str = r#"{"image":{"repository":"localhost/tool","tag":{"version":"1","platforms":{"arm64v8":"Dockerfile.arm"}},
    "buildOptions":["--build-arg V=7","--label l=m","--target last"],"contextPath":"src"}}"#;

/// A module whose Dockerfile starts a program, and a folder of programs that comes first on the search path.
fn workplace() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let module = root.path().join("modules/Tool");
    fs::create_dir_all(module.join("src")).unwrap();
    fs::create_dir_all(root.path().join("bin")).unwrap();
    fs::write(module.join("module.json"), CARD).unwrap();
    fs::write(module.join("Dockerfile.arm"), "FROM scratch AS last\nARG V\nRUN make\n").unwrap();
    root
}

fn program(root: &Path, name: &str, script: &str) {
    let path = root.join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\nset -e\n{script}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn build(root: &Path, builder: &str) -> Ran {
    let path = format!("{}:{}", root.join("bin").display(), std::env::var_os("PATH").unwrap().display());
    let mut command = binary("build-modules");
    command
        .current_dir(root)
        .env("PATH", path)
        .env("HOME", root)
        .env("MYNAH_REGISTRY_PASSWORD", "no-business");
    command.args([
        "--modules",
        "modules",
        "--out",
        "images",
        "--platform",
        "linux/arm64",
        "--builder",
        builder,
    ]);
    command.output().unwrap().into()
}

/// A tar archive of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// What `docker save` gives for an image of one layer.
fn saved(architecture: &str) -> Vec<u8> {
    let layer = archive(&[("made", b"by RUN")]);
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Cmd":["/made"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Sha256Digest::of(&layer)
    );
    let list = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l/layer.tar"]}]"#;
    archive(&[("c.json", config.as_bytes()), ("l/layer.tar", &layer), ("manifest.json", list)])
}

/// `docker build` notes its arguments and gives an id, `docker save` gives what lies ready.
const DOCKER: &str = r#"
echo "$@" >> "$HOME/asked"
[ -z "$MYNAH_REGISTRY_PASSWORD" ]
case $1 in
  build)
    [ "$BUILDX_NO_DEFAULT_ATTESTATIONS" = 1 ]
    while [ "$1" != --iidfile ]; do shift; done
    echo sha256:1234 > "$2" ;;
  save)
    [ "$4" = sha256:1234 ]
    cp "$HOME/saved.tar" "$3" ;;
esac
"#;

#[test]
fn docker_is_told_what_the_module_says_and_gives_the_image() {
    let work = workplace();
    let root = work.path();
    program(root, "docker", DOCKER);
    fs::write(root.join("saved.tar"), saved("arm64")).unwrap();
    build(root, "docker").well();
    let asked = fs::read_to_string(root.join("asked")).unwrap();
    let [build_words, save_words] = asked.lines().collect::<Vec<_>>()[..] else { panic!("{asked}") };
    for words in [
        "build --platform linux/arm64 --iidfile ",
        " --file modules/Tool/Dockerfile.arm ",
        " --build-arg V=7 --label l=m --target last modules/Tool/src",
    ] {
        assert!(build_words.contains(words), "`{words}` is not in `{build_words}`");
    }
    assert!(save_words.starts_with("save --output "), "{save_words}");
    let module = fs::read(root.join("images/modules.json")).unwrap();
    let module = &serde_json::from_slice::<Value>(&module).unwrap()["modules"][0];
    let layer = &module["platforms"][0]["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let blob = fs::read(root.join("images/Tool/blobs/sha256").join(hex)).unwrap();
    let mut files = tar::Archive::new(flate2::read::GzDecoder::new(blob.as_slice()));
    let names: Vec<_> =
        files.entries().unwrap().map(|one| one.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [Path::new("made")]);

    // The same again: asked once more, since only it knows what its `RUN` gives; nothing changes here.
    let before = module.clone();
    let ran = build(root, "docker").well();
    assert!(ran.stdout.contains("unchanged"), "{}", ran.stdout);
    let after = fs::read(root.join("images/modules.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&after).unwrap()["modules"][0], before);
}

#[test]
fn a_builder_that_fails_lies_or_is_not_there_is_told() {
    let work = workplace();
    let root = work.path();
    program(root, "docker", "echo 'cannot connect to the daemon' >&2\nexit 1\n");
    build(root, "docker").ill(1, &["`docker` failed", "cannot connect to the daemon"]);
    program(root, "docker", DOCKER);
    fs::write(root.join("saved.tar"), saved("amd64")).unwrap();
    build(root, "docker").ill(2, &["nothing for linux/arm64", "linux/amd64"]);
    fs::write(root.join("saved.tar"), b"no archive").unwrap();
    build(root, "docker").ill(1, &["cannot unpack", "saved.tar"]);
    program(root, "buildah", "echo \"$@\" > \"$HOME/asked\"\necho 'no such base' >&2\nexit 2\n");
    build(root, "buildah").ill(1, &["`buildah` failed", "no such base"]);
    let asked = fs::read_to_string(root.join("asked")).unwrap();
    for words in
        ["bud --layers --timestamp 0 --platform linux/arm64 --iidfile ", " --target last modules/Tool/src"]
    {
        assert!(asked.contains(words), "`{words}` is not in `{asked}`");
    }
    assert!(!root.join("images/modules.json").exists());
    build(root, "podman").ill(2, &["buildah", "docker"]);
}
