//! Dockerfiles carried out by `build-modules` and by buildah: the same files, the same settings.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::given::run;

/// A file system: kind, mode, owner, content or target, by path.
type Tree = BTreeMap<String, (char, u32, u64, u64, Vec<u8>)>;

/// The settings both sides must agree on. buildah writes its own version as a label, and history and times are
/// each tool's own.
const SETTINGS: [&str; 9] =
    ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal", "Labels"];

const CASES: [(&str, &str); 6] = [
    (
        "settings",
        "FROM scratch\nARG V=1\nENV A=\"x $V\" B=${A:-none}c\nENV C=$A\nLABEL \"l m\"=$C n='$C'\nEXPOSE 80 53/udp\n\
         VOLUME [\"/data\"]\nUSER 7:8\nSTOPSIGNAL SIGINT\nWORKDIR /w\nWORKDIR x\nENTRYPOINT [\"/a\", \"b c\"]\nCMD run $HOME\n",
    ),
    (
        "one file to a name, a folder, a new folder",
        "FROM scratch\nCOPY a.txt /b\nCOPY a.txt /d/\nCOPY a.txt e/f/g\n",
    ),
    ("folders and patterns", "FROM scratch\nCOPY src /to\nCOPY *.txt s?c/[o-t]*.py /many/\nCOPY . /all\n"),
    (
        "owners and modes",
        "FROM scratch\nCOPY --chown=5:6 src /to\nCOPY --chmod=640 a.txt /m/\nCOPY --chown=9 a.txt /n\n",
    ),
    (
        "stages",
        "FROM scratch AS one\nCOPY --chown=5:6 src /x/y\nENV FROM_ONE=1\nFROM one AS two\nCOPY b.txt /x/\nFROM scratch\n\
         COPY --from=two /x /z\nCOPY --from=0 /x/y/one.py /\nCMD [\"/one.py\"]\n",
    ),
    (
        "a base with its own command",
        "FROM scratch AS base\nENTRYPOINT [\"/e\"]\nCMD [\"c\"]\nENV P=1\nFROM base\nENV P=2 Q=3\nENTRYPOINT [\"/f\"]\nADD src/t.tar.gz /t\n",
    ),
];

#[test]
fn build_modules_and_buildah_agree() {
    // buildah needs rights that a plain user of a build machine may lack.
    let probe = Command::new("buildah").args(["from", "scratch"]).output();
    let Some(container) = probe.ok().filter(|output| output.status.success()) else {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "SKIPPED: buildah is not installed or may not run here");
        return;
    };
    let _ =
        Command::new("buildah").arg("rm").arg(String::from_utf8(container.stdout).unwrap().trim()).output();
    for (name, dockerfile) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("modules/case");
        context(&module, dockerfile);
        let out = folder.path().join("out");
        let modules = folder.path().join("modules");
        let options = [
            "--platform",
            "linux/amd64",
            "--modules",
            modules.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        run("build-modules", options).well();
        let theirs = folder.path().join("theirs");
        buildah(&module, &theirs);
        let (ours, theirs) = (image(&out.join("case")), image(&theirs));
        for setting in SETTINGS {
            let of = |config: &Value| match &config["config"][setting] {
                Value::Object(entries) => {
                    let own = entries.iter().filter(|(name, _)| !name.starts_with("io.buildah"));
                    let own: serde_json::Map<_, _> =
                        own.map(|(name, value)| (name.clone(), value.clone())).collect();
                    if own.is_empty() { Value::Null } else { own.into() }
                }
                // buildah gives a path of its own where a Dockerfile has none.
                Value::Array(entries) if setting == "Env" => {
                    entries.iter().filter(|entry| !entry.to_string().contains("PATH=")).cloned().collect()
                }
                // Absent and empty mean the same.
                Value::String(text) if text.is_empty() || (setting == "WorkingDir" && text == "/") => {
                    Value::Null
                }
                Value::Null if setting == "Env" => Vec::<Value>::new().into(),
                other => other.clone(),
            };
            assert_eq!(of(&ours.0), of(&theirs.0), "{name}: {setting}");
        }
        let shown = |tree: &Tree| -> Vec<String> {
            tree.iter()
                .map(|(path, (kind, mode, uid, gid, content))| {
                    format!("{path} {kind} {mode:o} {uid}:{gid} {}", String::from_utf8_lossy(content))
                })
                .collect()
        };
        assert_eq!(shown(&ours.1), shown(&theirs.1), "{name}");
    }
}

fn context(module: &Path, dockerfile: &str) {
    let files =
        [("a.txt", "a"), ("b.txt", "b"), ("src/one.py", "one"), ("src/deep/two.py", "two"), ("no.md", "no")];
    for (file, content) in files {
        let path = module.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    std::os::unix::fs::symlink("deep/two.py", module.join("src/link")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    {
        let mut archive = tar::Builder::new(&mut gzip);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_uid(3);
        header.set_gid(4);
        header.set_size(1);
        archive.append_data(&mut header, "in/side", b"x".as_slice()).unwrap();
        archive.finish().unwrap();
    }
    fs::write(module.join("src/t.tar.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(module.join(".dockerignore"), "*.md\nDockerfile\nmodule.json\n.dockerignore\n").unwrap();
    fs::write(module.join("Dockerfile"), dockerfile).unwrap();
    let card = r#"{"image":{"repository":"localhost/case","tag":{"version":"1","platforms":{"amd64":"Dockerfile"}}}}"#;
    fs::write(module.join("module.json"), card).unwrap();
}

fn buildah(context: &Path, out: &Path) {
    let store = tempfile::tempdir().unwrap();
    let own = |name: &str| store.path().join(name);
    let done = |arguments: &[&str]| {
        let output = Command::new("buildah")
            .arg("--root")
            .arg(own("root"))
            .arg("--runroot")
            .arg(own("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["bud", "--platform", "linux/amd64", "--tag", "case", context.to_str().unwrap()]);
    done(&["push", "localhost/case", &format!("oci:{}:1", out.display())]);
}

/// The configuration and the files of the first image in a layout.
fn image(layout: &Path) -> (Value, Tree) {
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        fs::read(layout.join("blobs/sha256").join(hex)).unwrap()
    };
    let mut document: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    while document.get("manifests").is_some() {
        document = serde_json::from_slice(&blob(&document["manifests"][0]["digest"])).unwrap();
    }
    let config: Value = serde_json::from_slice(&blob(&document["config"]["digest"])).unwrap();
    let mut tree = Tree::new();
    for layer in document["layers"].as_array().unwrap() {
        let bytes = blob(&layer["digest"]);
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().trim_matches('/').to_owned();
            let header = entry.header().clone();
            let link = header.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
            let kind = match header.entry_type() {
                tar::EntryType::Directory => 'd',
                tar::EntryType::Symlink => 'l',
                _ => 'f',
            };
            let mut content = link.clone().unwrap_or_default().into_bytes();
            if header.entry_type() == tar::EntryType::Link {
                content.clone_from(&tree[link.unwrap().trim_start_matches('/')].4);
            }
            entry.read_to_end(&mut content).unwrap();
            let node = (
                kind,
                header.mode().unwrap() & 0o7777,
                header.uid().unwrap(),
                header.gid().unwrap(),
                content,
            );
            if !path.is_empty() && path != "." {
                tree.insert(path, node);
            }
        }
    }
    (config, tree)
}
