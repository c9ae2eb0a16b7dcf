//! Deployments of an image whose program is a shell script, so that it can behave and misbehave at will.

use std::sync::atomic::{AtomicBool, Ordering};

use mynah_contracts::{Diagnosis as _, FaultKind, Quiet, to_json};
use mynah_testkit::{tiny_labels, tiny_model_package, tiny_speech};

use super::*;
use crate::manifest;
use crate::oci::image::write_index;
use crate::oci::layout::LayoutWriter;
use crate::oci::runtime_image::Contents;

/// Reads the flags and offers `report STATE FRAMES` with the digest of the model it was given.
const PROLOGUE: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --model) model=$2 ;; --speech) speech=$2 ;; --source) source=$2 ;; --speaker) speaker=$2 ;;
    --sightings) sightings=$2 ;; --status) status=$2 ;; *) exit 64 ;;
  esac
  shift 2
done
digest=sha256:$(sha256sum "$model/model.onnx" | cut -d' ' -f1)
report() {
  printf '{"schemaVersion":"1.0","version":"0.0.0","state":"%s","model":"%s","frames":%s,"unreadableFrames":0,"utterances":1,"updated":"2020-01-01T00:00:00Z"}' \
    "$1" "$digest" "$2" > "$status.part"
  mv "$status.part" "$status"
}
"#;

const GOOD: &str = r#"
test -f "$speech/speech.json" || exit 65
test -n "$MYNAH_MODEL" && exit 66
report running 0
echo looking >&2
echo "$source $speaker" > "$sightings"
report finished 3
"#;

struct Bench {
    root: tempfile::TempDir,
    modules: ModuleSet,
}

impl Bench {
    fn new(behaviour: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let model = tiny_model_package(&at("model")).unwrap();
        let speech = tiny_speech(&at("speech"), &tiny_labels()).unwrap();
        fs::write(at("program"), format!("{PROLOGUE}{behaviour}")).unwrap();
        fs::create_dir(at("frames")).unwrap();
        let contents = Contents {
            platform: Platform::host().unwrap(),
            base: None,
            program: &at("program"),
            model: &model,
            model_folder: &at("model"),
            speech: Some((&speech, &at("speech"))),
            created: None,
        };
        let mut layout = LayoutWriter::open(&at("images/mynah-runtime")).unwrap();
        let cache = crate::oci::layer_cache::LayerCache::new(&at("cache"));
        let (descriptor, image) = contents.write(&mut layout, &cache, "mynah-runtime", &Quiet).unwrap();
        let index =
            write_index(&mut layout, vec![descriptor], contents.annotations("mynah-runtime")).unwrap();
        layout.finish(index.clone(), "tag").unwrap();
        let modules = ModuleSet {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            modules: vec![Module {
                name: "mynah-runtime".into(),
                repository: "localhost/mynah/runtime".into(),
                tag: "tag".into(),
                layout: RelativePath::new("mynah-runtime").unwrap(),
                index: (&index).into(),
                platforms: vec![image],
                model: Some(model.digest()),
            }],
        };
        let generated =
            manifest::generate(manifest::DEFAULT_TEMPLATE.as_bytes(), &manifest::Sources::new(&modules))
                .unwrap();
        fs::write(at("deployment.json"), generated.json).unwrap();
        Self { root, modules }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn deploy_within(&self, wait: Duration, monitor: &dyn Monitor) -> Result<Deployed, DeviceError> {
        LocalDevice {
            manifest: &self.at("deployment.json"),
            images: &self.at("images"),
            modules: &self.modules,
            frames: &self.at("frames"),
            hold: 3,
            wait,
            out: &self.at("out"),
        }
        .deploy(monitor, || Timestamp::UNIX_EPOCH)
    }

    fn deploy(&self) -> Result<Deployed, DeviceError> {
        self.deploy_within(Duration::from_mins(1), &Quiet)
    }

    fn fails(&self, says: &str) -> DeviceError {
        let error = self.deploy().unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        assert!(text.contains(says), "{text:?} does not say {says:?}");
        error
    }
}

#[test]
fn a_manifest_becomes_a_running_module_and_a_record() {
    let bench = Bench::new(GOOD);
    let Deployed { record, status } = bench.deploy().unwrap();
    let module = &bench.modules.modules[0];
    assert_eq!((status.state, status.frames), (DeviceState::Finished, 3));
    assert_eq!(record.modules[0].image, module.pinned());
    assert_eq!(record.modules[0].model, module.model);
    assert_eq!(record.manifest, Sha256Digest::of(&fs::read(bench.at("deployment.json")).unwrap()));
    let sightings = record.sightings.clone().unwrap().below(&bench.at("out"));
    let told = fs::read_to_string(sightings).unwrap();
    assert_eq!(
        told,
        format!("dir:{}?hold=3 wav:{}\n", bench.at("frames").display(), bench.at("out/spoken").display())
    );
    // Again, over the earlier one: the same record, nothing left of the first.
    fs::create_dir(bench.at("out/spoken")).unwrap();
    fs::write(bench.at("out/deployment-record.json"), to_json(&record)).unwrap();
    assert_eq!(bench.deploy().unwrap().record, record);
    assert!(!bench.at("out/spoken").exists() && !bench.at("out/deployment-record.json").exists());
}

#[test]
fn another_model_than_the_deployed_one_is_not_healthy() {
    let bench =
        Bench::new("digest=sha256:$(echo other | sha256sum | cut -d' ' -f1)\nreport running 0\nsleep 600\n");
    assert!(matches!(bench.fails("was deployed"), DeviceError::OtherModel { .. }));
}

#[test]
fn a_module_that_fails_or_ends_is_told_with_its_last_words() {
    let failed = r#"echo 'no such camera' >&2
printf '{"schemaVersion":"1.0","version":"0","state":"failed","frames":0,"unreadableFrames":0,"utterances":0,"problem":"the camera is gone","updated":"x"}' > "$status"
exit 1"#;
    Bench::new(failed).fails("the camera is gone; it said: no such camera");
    Bench::new("echo one >&2; echo two >&2; exit 9")
        .fails("exit status: 9 before it reported that it runs its model; it said: one | two");
    Bench::new("report running 1; exit 0").fails("before it had seen all frames");
    Bench::new("report finished 1; exit 3").fails("exit status: 3");
}

#[test]
fn a_silent_module_is_ended_after_a_while() {
    for (behaviour, says) in [
        ("exec sleep 600", "did not report that it runs"),
        ("report running 1\nexec sleep 600", "looked at no further frame"),
    ] {
        let bench = Bench::new(behaviour);
        let error = bench.deploy_within(Duration::from_secs(1), &Quiet).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn someone_who_asks_to_stop_ends_the_module_too() {
    struct Impatient<'a>(AtomicBool, &'a Path);
    impl Monitor for Impatient<'_> {
        fn progress(&self, _: &str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            // From the moment the module is there.
            if self.1.is_file() {
                self.0.store(true, Ordering::Relaxed);
            }
            self.0.load(Ordering::Relaxed)
        }
    }
    let bench = Bench::new(
        "trap 'echo ended > \"$sightings\"; exit 0' TERM\nreport running 1\nwhile :; do sleep 0.02; done\n",
    );
    let status = bench.at("out/status.json");
    let error =
        bench.deploy_within(Duration::from_mins(1), &Impatient(AtomicBool::new(false), &status)).unwrap_err();
    assert_eq!(error.kind(), FaultKind::Cancelled);
    assert_eq!(fs::read_to_string(bench.at("out/sightings.jsonl")).unwrap(), "ended\n");
    assert!(!bench.at("out/deployment-record.json").exists());
}

#[test]
fn a_damaged_image_starts_nothing_and_leaves_the_earlier_deployment() {
    let bench = Bench::new(GOOD);
    let Deployed { record, .. } = bench.deploy().unwrap();
    fs::write(bench.at("out/deployment-record.json"), to_json(&record)).unwrap();
    let layer = bench.modules.modules[0].platforms[0].layers[2].digest.hex();
    let blob = bench.at("images/mynah-runtime/blobs/sha256").join(layer);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    assert_eq!(bench.fails("has the digest").kind(), FaultKind::BadInput);
    assert!(bench.at("out/deployment-record.json").exists() && bench.at("out/status.json").exists());
    let left: Vec<_> =
        fs::read_dir(bench.at("out/device")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_module_that_outlived_its_deployment_is_waited_for() {
    let bench = Bench::new(GOOD);
    bench.deploy().unwrap();
    let orphan = OpenOptions::new().write(true).open(bench.at("out/device/.lock")).unwrap();
    orphan.lock().unwrap();
    let error = bench.deploy_within(Duration::from_millis(50), &Quiet).unwrap_err();
    assert!(matches!(error, DeviceError::Busy(_)), "{error}");
    drop(orphan);
    bench.deploy().unwrap();
}

#[test]
fn what_cannot_be_deployed_here_is_told_before_anything_is_touched() {
    let bench = Bench::new(GOOD);
    fs::create_dir(bench.at("out")).unwrap();
    fs::write(bench.at("out/thesis.txt"), b"years of work").unwrap();
    assert!(matches!(bench.fails("holds no earlier deployment"), DeviceError::Foreign(_)));
    fs::remove_dir(bench.at("frames")).unwrap();
    assert!(matches!(bench.fails("is not a folder of frames"), DeviceError::NoFrames(_)));
    let manifest = fs::read_to_string(bench.at("deployment.json")).unwrap();
    fs::write(bench.at("deployment.json"), manifest.replace("localhost/mynah/runtime@", "localhost/other@"))
        .unwrap();
    assert!(matches!(bench.fails("that modules.json does not name"), DeviceError::NothingToRun(_)));
    fs::write(bench.at("deployment.json"), manifest.replace("running", "stopped")).unwrap();
    assert!(matches!(bench.fails("is to be stopped"), DeviceError::NothingToRun(_)));
    fs::write(bench.at("deployment.json"), "{}").unwrap();
    assert!(matches!(bench.fails("lacks `modulesContent`"), DeviceError::Manifest { .. }));
    fs::remove_file(bench.at("deployment.json")).unwrap();
    assert_eq!(bench.fails("cannot read").kind(), FaultKind::BadInput);
    assert_eq!(fs::read(bench.at("out/thesis.txt")).unwrap(), b"years of work");
}
