//! Images from a small model, built twice, retrained, and with every input damaged.

use std::collections::BTreeMap;

use mynah_contracts::{FaultKind, Module, Quiet, Sha256Digest, Speech};
use mynah_testkit::speech::SpeechService;
use mynah_testkit::{edit_card, tiny_labels, tiny_model_package, tiny_speech};

use super::*;
use crate::agent::Env;
use crate::artifact;
use crate::oci::layer_cache::Kept;
use crate::oci::layout::Layout;
use crate::oci::spec::annotation;

/// The header of a program for `machine`, which is all that is looked at.
fn program(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend([3, 0, machine, 0]);
    bytes.resize(64, 0);
    bytes
}

const AMD64: u8 = 62;
const ARM64: u8 = 183;

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        tiny_model_package(&bench.at("model")).unwrap();
        tiny_speech(&bench.at("clips"), &tiny_labels()).unwrap();
        fs::write(bench.at("program"), program(ARM64)).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, more: &[(&str, &str)], created: Option<&str>) -> Result<Outcome, Fault> {
        self.run_in(&Env::default(), more, created)
    }

    fn run_in(&self, env: &Env, more: &[(&str, &str)], created: Option<&str>) -> Result<Outcome, Fault> {
        let text = |name: &str| self.at(name).display().to_string();
        let mut options = BTreeMap::from([
            ("model", text("model")),
            ("out", text("images")),
            ("clips", text("clips")),
            ("runtime", text("program")),
            ("platform", "linux/arm64".to_owned()),
        ]);
        options.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let plan = BuildModules::plan(&Inputs::from_pairs(BuildModules::OPTIONS, options))?;
        let created = created.map(str::to_owned);
        let context = Context { monitor: &Quiet, env, created, now: jiff::Timestamp::now };
        BuildModules.run(&plan, &context)
    }

    fn module(&self) -> Module {
        artifact::load::<ModuleSet>(&self.at("images")).unwrap().modules.remove(0)
    }

    fn layout(&self) -> Layout {
        Layout::open(&self.at("images/mynah-runtime")).unwrap()
    }

    fn files(&self) -> BTreeMap<PathBuf, Sha256Digest> {
        walkdir::WalkDir::new(self.at("images"))
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| (entry.path().to_owned(), Sha256Digest::of(&fs::read(entry.path()).unwrap())))
            .collect()
    }

    fn fails(&self, more: &[(&str, &str)], says: &str) {
        let fault = self.run(more, None).unwrap_err();
        assert!(fault.chain().contains(says), "{fault} does not say {says:?}");
        assert_eq!(fault.kind(), FaultKind::BadInput, "{fault}");
    }
}

#[test]
fn the_image_starts_the_runtime_with_its_model_on_top() {
    let bench = Bench::new();
    let outcome = bench.run(&[], None).unwrap();
    let module = bench.module();
    bench.layout().verify().unwrap();
    let image = bench.layout().image(module.index.digest, Platform::LinuxArm64).unwrap();
    let config = &image.config.config;
    assert_eq!(config.entrypoint, ["/usr/local/bin/mynah-runtime"]);
    assert_eq!(config.env, ["MYNAH_MODEL=/usr/share/mynah/model", "MYNAH_SPEECH=/usr/share/mynah/speech"]);
    assert_eq!(config.user.as_deref(), Some("10001"));
    assert_eq!(image.manifest.layers.len(), 3);
    assert_eq!(image.manifest.annotations[annotation::MODEL], module.model.unwrap().to_string());
    assert_eq!(image.config.created, None);
    assert!(module.tag.starts_with(&format!(
        "{}-{}",
        env!("CARGO_PKG_VERSION"),
        &module.index.digest.hex()[..12]
    )));
    let names: Vec<_> = outcome.variables.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, BuildModules::OUTPUTS.iter().map(|output| output.name).collect::<Vec<_>>());
}

#[test]
fn building_again_changes_nothing_and_elsewhere_gives_the_same_bytes() {
    let bench = Bench::new();
    assert!(bench.run(&[], None).unwrap().headline.starts_with("built"));
    let before = bench.files();
    assert!(bench.run(&[], None).unwrap().headline.starts_with("unchanged"));
    assert_eq!(bench.files(), before);
    let other = Bench::new();
    other.run(&[], None).unwrap();
    assert_eq!(other.module(), bench.module());
}

#[test]
fn a_retrained_model_moves_only_the_last_layer() {
    let bench = Bench::new();
    bench.run(&[], None).unwrap();
    let before = bench.module();
    edit_card(&bench.at("model"), |card| card.calibration.reject_threshold = 0.7).unwrap();
    assert!(bench.run(&[], None).unwrap().headline.starts_with("built"));
    let after = bench.module();
    let (before_layers, after_layers) = (&before.platforms[0].layers, &after.platforms[0].layers);
    assert_eq!(before_layers[..2], after_layers[..2]);
    assert_ne!(before_layers[2], after_layers[2]);
    assert_ne!(before.tag, after.tag);
    bench.layout().verify().unwrap();
}

#[test]
fn a_layer_in_the_cache_is_taken_as_it_is_unless_it_is_damaged() {
    let bench = Bench::new();
    bench.run(&[], None).unwrap();
    let first = bench.module();
    // The program's archive compressed otherwise: only a cache can bring it.
    let layer = first.platforms[0].layers[0].digest;
    let blob = fs::read(bench.at("images/mynah-runtime/blobs/sha256").join(layer.hex())).unwrap();
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(blob.as_slice()), &mut archive).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &archive).unwrap();
    let other = encoder.finish().unwrap();
    let kept = bench.at("kept");
    fs::write(&kept, &other).unwrap();
    let descriptor = crate::oci::spec::Descriptor::of(crate::oci::spec::media_type::LAYER, &other);
    let diff_id = Sha256Digest::of(&archive);
    let known = Kept { diff_id, blob: descriptor.clone() };
    LayerCache::new(&bench.at("cache")).keep(diff_id, &known, &kept);

    fs::remove_dir_all(bench.at("images")).unwrap();
    bench.run(&[], None).unwrap();
    assert_eq!(bench.module().platforms[0].layers[0].digest, descriptor.digest);
    bench.layout().verify().unwrap();

    fs::remove_dir_all(bench.at("images")).unwrap();
    for entry in fs::read_dir(bench.at("cache/layers/blobs")).unwrap() {
        fs::write(entry.unwrap().path(), b"damaged").unwrap();
    }
    bench.run(&[], None).unwrap();
    assert_eq!(bench.module(), first);
    bench.layout().verify().unwrap();
}

#[test]
fn several_platforms_on_a_base_are_one_index_beside_other_modules() {
    let bench = Bench::new();
    for (folder, machine) in [("linux-amd64", AMD64), ("linux-arm64", ARM64)] {
        fs::create_dir_all(bench.at("programs").join(folder)).unwrap();
        fs::write(bench.at("programs").join(folder).join("mynah-runtime"), program(machine)).unwrap();
    }
    fs::create_dir_all(bench.at("modules/base")).unwrap();
    let card = r#"{"image":{"repository":"user/base","tag":{"version":"1","platforms":{"amd64":"D","arm64v8":"D"}}}}"#;
    fs::write(bench.at("modules/base/module.json"), card).unwrap();
    fs::write(bench.at("modules/base/D"), "FROM scratch\nARG TARGETARCH\nCOPY D /lib/$TARGETARCH\nENV A=1\n")
        .unwrap();
    let text = |name: &str| bench.at(name).display().to_string();
    let (modules, bases) = (text("modules"), text("bases"));
    let both = ("platform", "linux/arm64,linux/amd64");
    bench.run(&[("model", ""), ("modules", &modules), ("out", &bases), both], None).unwrap();

    let (programs, base) = (text("programs"), format!("oci:{bases}/base"));
    bench.run(&[("modules", &modules), ("runtime", &programs), ("base", &base), both], None).unwrap();
    let set = artifact::load::<ModuleSet>(&bench.at("images")).unwrap();
    let names: Vec<_> =
        set.modules.iter().map(|module| (module.name.as_str(), module.repository.as_str())).collect();
    assert_eq!(names, [("mynah-runtime", "localhost/mynah/runtime"), ("base", "docker.io/user/base")]);
    let (runtime, base) = (&set.modules[0], &set.modules[1]);
    bench.layout().verify().unwrap();
    for (image, base) in runtime.platforms.iter().zip(&base.platforms) {
        let whole = bench.layout().image(runtime.index.digest, image.platform).unwrap();
        assert_eq!(whole.config.config.env[0], "A=1");
        assert_eq!(image.layers.len(), 4);
        assert_eq!(image.layers[0], base.layers[0]);
        assert_eq!(image.layers[3], runtime.platforms[0].layers[3], "one model for all");
    }
    assert_ne!(runtime.platforms[0].layers[1], runtime.platforms[1].layers[1]);

    fs::remove_file(bench.at("programs/linux-amd64/mynah-runtime")).unwrap();
    bench.fails(&[("runtime", &programs), both], "`mynah-runtime` for linux/amd64 was not found");
    bench.fails(&[("platform", "linux/amd64,all")], "one of `linux/amd64`");
    bench.fails(&[("model", "")], "`--model` (input `model`) is required");
    bench.fails(&[("base", "oci:nowhere")], "cannot read `nowhere/oci-layout`");
}

#[test]
fn the_source_date_is_written_where_there_is_one() {
    let bench = Bench::new();
    bench.run(&[], Some("2023-11-14T22:13:20Z")).unwrap();
    let image = bench.layout().image(bench.module().index.digest, Platform::LinuxArm64).unwrap();
    assert_eq!(image.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(image.manifest.annotations[annotation::CREATED], "2023-11-14T22:13:20Z");
}

#[test]
fn a_damaged_input_is_named_and_leaves_the_earlier_image() {
    let bench = Bench::new();
    bench.run(&[], None).unwrap();
    let before = bench.module();
    let model = fs::read(bench.at("model/model.onnx")).unwrap();
    fs::write(bench.at("model/model.onnx"), b"changed").unwrap();
    bench.fails(&[], "model.onnx` is not the file its artifact names");
    fs::remove_file(bench.at("model/model.onnx")).unwrap();
    bench.fails(&[], "cannot read");
    fs::write(bench.at("model/model.onnx"), model).unwrap();
    fs::write(bench.at("clips/clips/0.wav"), b"changed").unwrap();
    bench.fails(&[], "is not the one its speech.json names");
    assert_eq!(bench.module(), before);
    let layout = bench.layout();
    layout.image(before.index.digest, Platform::LinuxArm64).unwrap();
    layout.verify().unwrap();
    fs::write(bench.at("model/model.json"), br#"{"schemaVersion":"9.0"}"#).unwrap();
    bench.fails(&[], "has schema version 9.0");
}

#[test]
fn options_that_cannot_be_meant_are_refused() {
    let bench = Bench::new();
    bench.fails(&[("platform", "linux/riscv64")], "one of `linux/amd64`");
    bench.fails(&[("repository", "Mynah Runtime")], "a repository with its registry");
    bench.fails(&[("voice", "-q")], "the name of a voice");
    bench.fails(&[("platform", "linux/amd64")], "is built for linux/arm64, not for linux/amd64");
    bench
        .fails(&[("runtime", &bench.at("model/labels.txt").display().to_string())], "is not a Linux program");
    fs::write(bench.at("program"), program(AMD64)).unwrap();
    bench.fails(&[], "is built for linux/amd64, not for linux/arm64");
    let other = if Platform::host() == Some(Platform::LinuxArmV7) { "linux/amd64" } else { "linux/arm/v7" };
    bench.fails(
        &[("platform", other), ("runtime", "")],
        &format!("the program `mynah-runtime` for {other} was not found"),
    );
    assert!(!bench.at("images/modules.json").exists());
}

#[test]
fn a_folder_with_other_things_is_left_alone() {
    let bench = Bench::new();
    fs::create_dir_all(bench.at("images/mynah-runtime")).unwrap();
    fs::write(bench.at("images/mynah-runtime/thesis.txt"), b"years").unwrap();
    bench.fails(&[], "is no OCI image layout");
    assert_eq!(bench.files().len(), 1);
}

#[test]
fn azure_speech_speaks_sentences_once_and_the_image_holds_no_key() {
    let bench = Bench::new();
    let double = SpeechService::default();
    let served = double.start(0).unwrap();
    fs::remove_dir_all(bench.at("clips")).unwrap();
    fs::create_dir(bench.at("clips")).unwrap();
    tiny_speech(&bench.at("clips"), &[]).unwrap();
    let map = r#"{"voice": "de-DE-KatjaNeural", "default": "Das ist {label}", "map": [{"key": "red", "value": "Rot & gut"}]}"#;
    fs::write(bench.at("map.json"), map).unwrap();
    let file = bench.at("map.json").display().to_string();
    let options = [("azureSpeech", served.url()), ("speechMap", file)];
    let options: Vec<_> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fault = bench.run_in(&Env::default(), &options, None).unwrap_err();
    assert!(fault.chain().contains("the key of Azure Speech is missing"), "{fault}");
    let env = Env::from_iter([("SPEECH_KEY", SpeechService::KEY)]);
    let first = bench.run_in(&env, &options, None).unwrap();
    let words: Vec<_> = double.spoken().into_iter().map(|(_, words)| words).collect();
    assert_eq!(words, ["Rot & gut", "Das ist green", "Das ist blue"]);
    let again = bench.run_in(&env, &options, None).unwrap();
    assert_eq!(double.spoken().len(), 3, "words were spoken twice");
    assert!(again.headline.starts_with("unchanged") && first.variables == again.variables);
    let speech: Speech = artifact::load(&bench.at("images/speech")).unwrap();
    assert_eq!((speech.voice.as_str(), speech.clips.len()), ("de-DE-KatjaNeural", 3));
    for entry in walkdir::WalkDir::new(bench.at("images")) {
        let bytes = fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(32).any(|part| part == SpeechService::KEY.as_bytes()));
    }
    assert_eq!(double.wire.violations(), Vec::<String>::new());
}
