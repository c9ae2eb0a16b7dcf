//! Whole trainings and exports on made-up photos and a made-up backbone, small enough for a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mynah_contracts::{
    ChannelOrder, Dataset, ExportRequest, Exporter as _, Fault, FaultKind, Geometry, ImageFormat, LabelCount,
    ModelCard, Monitor, Photo, Preprocess, Quiet, RelativePath, ResizeFilter, SchemaVersion, Sha256Digest,
    Tool, TrainRequest, Trainer as _, Training, Weights, to_json,
};
use mynah_model::ModelPackage;
use mynah_photo::{Likeness, RgbImage, encode_png};
use prost::Message as _;
use tempfile::TempDir;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::f16;

use crate::Embedded;
use crate::augment::{Augmentation, Augmentations};
use crate::backbone::BackboneSpec;

const SIZE: u32 = 16;
const CHANNELS: i64 = 8;

/// Pseudo-random numbers from −0.5 to 0.5.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let symbol = Dimension { value: Some(dimension::Value::DimParam("N".into())), ..Dimension::default() };
    let fixed =
        |dim: &i64| Dimension { value: Some(dimension::Value::DimValue(*dim)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: std::iter::once(symbol).chain(dims.iter().map(fixed)).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let of = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(of), ..ValueInfoProto::default() }
}

fn node(op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        input: input.iter().map(|name| (*name).into()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

/// A 3 × 3 convolution with 16-bit weights, ReLU, and the mean of each channel.
fn backbone_bytes(seed: u64) -> Vec<u8> {
    let mut random = noise(seed);
    let weights = (0..CHANNELS * 27).flat_map(|_| f16::from_f32(random()).to_le_bytes()).collect();
    let weight = TensorProto {
        name: "w16".into(),
        dims: vec![CHANNELS, 3, 3, 3],
        data_type: DataType::Float16 as i32,
        raw_data: weights,
        ..TensorProto::default()
    };
    let to = AttributeProto {
        name: "to".into(),
        r#type: AttributeType::Int as i32,
        i: i64::from(DataType::Float as i32),
        ..AttributeProto::default()
    };
    let graph = GraphProto {
        node: vec![
            node("Cast", &["w16"], "w", vec![to]),
            node("Conv", &["input", "w"], "conv", vec![]),
            node("Relu", &["conv"], "relu", vec![]),
            node("GlobalAveragePool", &["relu"], "pool", vec![]),
            node("Flatten", &["pool"], "embedding", vec![]),
        ],
        name: "test".into(),
        initializer: vec![weight],
        input: vec![value("input", &[3, SIZE.into(), SIZE.into()])],
        output: vec![value("embedding", &[CHANNELS])],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

/// A photo of a label: its colour, with noise.
fn picture(label: usize, number: u64) -> RgbImage {
    let mut random = noise(number + 1000 * label as u64 + 1);
    let colour = [[180.0, 60.0, 60.0], [60.0, 170.0, 60.0], [70.0, 70.0, 180.0]][label % 3];
    let pixels = (0..24 * 18).flat_map(|_| colour.map(|c: f32| (c + 120.0 * random()) as u8)).collect();
    RgbImage::new(24, 18, pixels).unwrap()
}

struct Scenario {
    folder: TempDir,
    trainer: Embedded,
}

impl Scenario {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes = backbone_bytes(1);
        let path = folder.path().join("backbone.onnx");
        fs::write(&path, &bytes).unwrap();
        let spec = BackboneSpec {
            name: "test",
            sha256: Sha256Digest::of(&bytes),
            input: "input",
            output: "embedding",
            embedding_length: CHANNELS as u32,
            preprocess: Preprocess {
                size: SIZE,
                geometry: Geometry::CenterCrop { fraction: 1.0 },
                filter: ResizeFilter::CatmullRom,
                channels: ChannelOrder::Rgb,
                mean: [127.0; 3],
                scale: [128.0; 3],
            },
        };
        let mut trainer = Embedded::new(&path);
        trainer.known = Box::leak(Box::new([spec]));
        Self { folder, trainer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A dataset of so many photos of each label, in the folder `name`.
    fn dataset(&self, name: &str, labels: &[&str], each: u64) -> Dataset {
        let folder = self.path(name);
        let mut photos = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            fs::create_dir_all(folder.join(label)).unwrap();
            for number in 0..each {
                let image = picture(index, number);
                let bytes = encode_png(&image).unwrap();
                let file = RelativePath::new(format!("{label}/{number}.png")).unwrap();
                fs::write(file.below(&folder), &bytes).unwrap();
                photos.push(Photo {
                    sha256: Sha256Digest::of(&bytes),
                    label: label.parse().unwrap(),
                    source: file.to_string(),
                    file,
                    format: ImageFormat::Png,
                    width: 24,
                    height: 18,
                    bytes: bytes.len() as u64,
                    likeness: Likeness::of(&image).to_string(),
                    fold: (number % 5) as u8,
                });
            }
        }
        photos.sort_by(|a, b| (&a.label, a.sha256).cmp(&(&b.label, b.sha256)));
        let mut names: Vec<_> = labels.iter().map(|label| label.parse().unwrap()).collect();
        names.sort();
        Dataset {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            seed: 7,
            digest: Dataset::content_digest(7, &photos),
            labels: names.into_iter().map(|label| LabelCount { label, photos: each as u32 }).collect(),
            photos,
            skipped: Vec::new(),
            near_duplicates: Vec::new(),
            snapshot: None,
        }
    }

    fn train(&self, dataset: &Dataset, out: &str, monitor: &dyn Monitor) -> Result<Training, Fault> {
        self.train_with(dataset, None, "cache", out, monitor)
    }

    fn train_with(
        &self,
        dataset: &Dataset,
        holdout: Option<(&Dataset, &Path)>,
        cache: &str,
        out: &str,
        monitor: &dyn Monitor,
    ) -> Result<Training, Fault> {
        let out = self.path(out);
        fs::create_dir_all(&out).unwrap();
        let request = TrainRequest {
            dataset,
            dataset_folder: &self.path("dataset"),
            holdout,
            cache: &self.path(cache),
            seed: 7,
            out: &out,
        };
        self.trainer.train(&request, monitor)
    }

    fn export(
        &self,
        training: &Training,
        dataset: &Dataset,
        weights: Weights,
        out: &str,
    ) -> Result<ModelCard, Fault> {
        let out = self.path(out);
        fs::create_dir_all(&out).unwrap();
        let dataset_folder = self.path("dataset");
        let request = ExportRequest {
            training,
            training_folder: &self.path("training"),
            weights,
            check: Some((dataset, &dataset_folder)),
            out: &out,
        };
        self.trainer.export(&request, &Quiet)
    }
}

const LABELS: [&str; 3] = ["red", "green", "Ünïcode"];

/// The name and the bytes of every file below `folder`.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((PathBuf::from(path.file_name().unwrap()), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Remembers how many photos were embedded, and may ask to stop after some.
#[derive(Default)]
struct Counted {
    embedded: Mutex<u64>,
    stop_after: Option<u64>,
}

impl Monitor for Counted {
    fn progress(&self, what: &str, done: u64, _: u64) {
        if what == "embedding photos" {
            let mut most = self.embedded.lock().unwrap();
            *most = done.max(*most);
        }
    }

    fn cancelled(&self) -> bool {
        self.stop_after.is_some_and(|most| *self.embedded.lock().unwrap() >= most)
    }
}

#[test]
fn photos_become_a_model_that_the_device_runs_as_training_did() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 10);
    let holdout = scenario.dataset("holdout", &["red", "green"], 3);
    let apart = scenario.path("holdout");
    let training =
        scenario.train_with(&dataset, Some((&holdout, &apart)), "cache", "training", &Quiet).unwrap();
    assert!(training.cross_validation.summary.accuracy > 0.9, "{:?}", training.cross_validation.summary);
    assert_eq!(training.cross_validation.summary.folds, 5);
    assert!(training.holdout.as_ref().unwrap().summary.accuracy > 0.9);
    assert_eq!(training.augmentations, ["hflip", "squash"]);
    assert_eq!(training.probes.len(), 6);
    mynah_contracts::from_json::<Training>(&to_json(&training)).unwrap();

    for weights in [Weights::F16, Weights::F32] {
        let out = format!("model-{weights:?}");
        let card = scenario.export(&training, &dataset, weights, &out).unwrap();
        let folder = scenario.path(&out);
        fs::write(folder.join("model.json"), to_json(&card)).unwrap();
        assert_eq!(fs::read_to_string(folder.join("labels.txt")).unwrap(), "green\nred\nÜnïcode\n");
        let package = ModelPackage::open(&folder).unwrap();
        package.self_test(&folder).unwrap();
        let said = package.classify(&picture(1, 77)).unwrap();
        assert!(said[0] > said[1] && said[0] > said[2], "{said:?}");
        let onnx = ModelProto::decode(fs::read(folder.join("model.onnx")).unwrap().as_slice()).unwrap();
        let has_cast = onnx.graph.unwrap().node.iter().any(|node| node.op_type == "Cast");
        assert_eq!(has_cast, weights == Weights::F16);
        let labels = onnx.metadata_props.iter().find(|entry| entry.key == "labels").unwrap();
        assert_eq!(labels.value, r#"["green","red","Ünïcode"]"#);
    }
}

#[test]
fn neither_threads_nor_the_cache_change_a_byte() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 10);
    let on = |threads: usize, cache: &str, out: &str| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let training = scenario.train_with(&dataset, None, cache, "training", &Quiet).unwrap();
            scenario.export(&training, &dataset, Weights::F16, out).unwrap();
            (to_json(&training), files(&scenario.path("training")), files(&scenario.path(out)))
        })
    };
    let first = on(1, "cache-1", "model-1");
    assert!(first == on(2, "cache-2", "model-2"), "two threads");
    assert!(first == on(2, "cache-2", "model-3"), "with every embedding in the cache");
}

#[test]
fn a_second_training_embeds_only_what_is_new() {
    let scenario = Scenario::new();
    let count = |dataset: &Dataset| {
        let monitor = Counted::default();
        let training = scenario.train(dataset, "training", &monitor).unwrap();
        (monitor.embedded.into_inner().unwrap(), training)
    };
    let (embedded, _) = count(&scenario.dataset("dataset", &LABELS, 8));
    assert_eq!(embedded, 24);
    let larger = scenario.dataset("dataset", &LABELS, 10);
    let (embedded, incremental) = count(&larger);
    assert_eq!(embedded, 6);
    let fresh = scenario.train_with(&larger, None, "other-cache", "training", &Quiet).unwrap();
    assert_eq!(incremental, fresh);
}

#[test]
fn a_training_that_was_stopped_keeps_what_it_embedded() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 10);
    let monitor = Counted { stop_after: Some(11), ..Counted::default() };
    let fault = scenario.train(&dataset, "training", &monitor).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Cancelled);
    let before = *monitor.embedded.lock().unwrap();
    assert!((11..30).contains(&before), "{before}");

    let monitor = Counted::default();
    scenario.train(&dataset, "training", &monitor).unwrap();
    assert_eq!(*monitor.embedded.lock().unwrap(), 30 - before);
}

#[test]
fn a_photo_changed_after_the_import_is_named() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 5);
    fs::write(scenario.path("dataset/red/3.png"), b"something else").unwrap();
    let fault = scenario.train(&dataset, "training", &Quiet).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::BadInput);
    assert!(fault.chain().contains("red/3.png"), "{fault}");
    assert!(fault.hint().is_some());
}

#[test]
fn a_photo_that_is_none_is_named() {
    let scenario = Scenario::new();
    let mut dataset = scenario.dataset("dataset", &LABELS, 5);
    let junk = b"not a photo";
    fs::write(dataset.photos[0].file.below(&scenario.path("dataset")), junk).unwrap();
    dataset.photos[0].sha256 = Sha256Digest::of(junk);
    let fault = scenario.train(&dataset, "training", &Quiet).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::BadInput);
    assert!(fault.chain().contains(dataset.photos[0].file.as_str()), "{fault}");
}

#[test]
fn what_cannot_be_learnt_is_refused_in_words() {
    let scenario = Scenario::new();
    let one = scenario.dataset("dataset", &["red"], 6);
    let fault = scenario.train(&one, "training", &Quiet).unwrap_err();
    assert!(fault.kind() == FaultKind::BadInput && fault.chain().contains("1 label"), "{fault}");

    let mut alike = scenario.dataset("dataset", &LABELS, 6);
    alike.photos.iter_mut().for_each(|photo| photo.fold = 2);
    let fault = scenario.train(&alike, "training", &Quiet).unwrap_err();
    assert!(fault.kind() == FaultKind::BadInput && fault.chain().contains("1 fold"), "{fault}");

    let dataset = scenario.dataset("dataset", &LABELS, 6);
    let strange = scenario.dataset("holdout", &["red", "mauve"], 5);
    let apart = scenario.path("holdout");
    let fault =
        scenario.train_with(&dataset, Some((&strange, &apart)), "cache", "training", &Quiet).unwrap_err();
    assert!(fault.kind() == FaultKind::BadInput && fault.chain().contains("mauve"), "{fault}");
}

#[test]
fn five_photos_of_a_label_are_enough() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &["red", "green"], 5);
    let training = scenario.train(&dataset, "training", &Quiet).unwrap();
    scenario.export(&training, &dataset, Weights::F16, "model").unwrap();
    assert!(training.calibration.temperature > 0.0);
    assert!(training.probes.iter().all(|probe| probe.probabilities.iter().all(|p| *p < 0.999_99)));
}

#[test]
fn every_augmentation_can_be_trained_with() {
    let mut scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 6);
    let plain = {
        scenario.trainer = scenario.trainer.with_augmentations(Augmentations::These(vec![]));
        scenario.train(&dataset, "training", &Quiet).unwrap()
    };
    scenario.trainer = scenario.trainer.with_augmentations(Augmentations::These(Augmentation::ALL.to_vec()));
    let all = scenario.train(&dataset, "training", &Quiet).unwrap();
    assert!(plain.augmentations.is_empty());
    assert_eq!(all.augmentations.len(), 5);
    assert_ne!(plain.head.unwrap().file.sha256, all.head.unwrap().file.sha256);
}

#[test]
fn an_export_of_something_else_is_refused() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 6);
    let training = scenario.train(&dataset, "training", &Quiet).unwrap();
    let refusal = |training: &Training| {
        let fault = scenario.export(training, &dataset, Weights::F16, "model").unwrap_err();
        (fault.kind(), fault.chain())
    };

    let mut other = training.clone();
    other.backbone.as_mut().unwrap().sha256 = Sha256Digest::of(b"other");
    let (kind, says) = refusal(&other);
    assert!(kind == FaultKind::BadInput && says.contains("backbone.onnx"), "{says}");

    let cloud = Training { backbone: None, head: None, ..training.clone() };
    assert_eq!(refusal(&cloud).0, FaultKind::BadInput);

    // A training whose probes say something else than its head: what the final check exists for.
    let mut bent = training.clone();
    bent.probes[0].probabilities[0] = (bent.probes[0].probabilities[0] - 0.01).abs();
    let (kind, says) = refusal(&bent);
    assert!(kind == FaultKind::Failed && says.contains(bent.probes[0].file.path.as_str()), "{says}");

    let head = scenario.path("training/head.safetensors");
    let mut bytes = fs::read(&head).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&head, bytes).unwrap();
    let (kind, says) = refusal(&training);
    assert!(kind == FaultKind::BadInput && says.contains("head.safetensors"), "{says}");
}

#[test]
fn an_unknown_backbone_is_refused_before_any_photo_is_read() {
    let scenario = Scenario::new();
    let dataset = scenario.dataset("dataset", &LABELS, 6);
    fs::write(scenario.path("backbone.onnx"), backbone_bytes(2)).unwrap();
    let monitor = Counted::default();
    let fault = scenario.train(&dataset, "training", &monitor).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::BadInput);
    assert!(fault.chain().contains("backbone.onnx") && fault.hint().is_some(), "{fault}");
}
