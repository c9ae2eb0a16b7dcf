//! Exports in every form that the service's double writes, and in forms that nobody should write.

use std::fs;

use mynah_contracts::{
    Backbone, ChannelOrder, ImageFormat, LabelCount, Quiet, RelativePath, Sha256Digest, TrainerKind,
    Training, Weights,
};
use mynah_testkit::customvision::{PixelRange as Said, Style, exported_graph};
use mynah_testkit::{BLUE, GREEN, RED, solid_colour_jpeg};
use proptest::prelude::*;
use tract_onnx::pb::ModelProto;

use super::*;
use crate::sample::labels;

const COLOURS: [(&str, [u8; 3]); 3] = [("blue", BLUE), ("green", GREEN), ("red", RED)];

/// Ten photos of each colour in five folds.
fn dataset(folder: &Path) -> Dataset {
    let mut photos = Vec::new();
    for (number, (label, colour)) in COLOURS.iter().enumerate() {
        fs::create_dir_all(folder.join(label)).unwrap();
        for seed in 0..10_u64 {
            let bytes = solid_colour_jpeg(*colour, seed + 100 * number as u64);
            let file = RelativePath::new(format!("{label}/{seed}.jpg")).unwrap();
            fs::write(file.below(folder), &bytes).unwrap();
            photos.push(Photo {
                sha256: Sha256Digest::of(&bytes),
                label: label.parse().unwrap(),
                source: file.to_string(),
                file,
                format: ImageFormat::Jpeg,
                width: 64,
                height: 48,
                bytes: bytes.len() as u64,
                likeness: "0".repeat(64),
                fold: (seed % 5) as u8,
            });
        }
    }
    photos.sort_by(|a, b| (&a.label, a.sha256).cmp(&(&b.label, b.sha256)));
    Dataset {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        seed: 1,
        digest: Dataset::content_digest(1, &photos),
        labels: COLOURS
            .iter()
            .map(|(label, _)| LabelCount { label: label.parse().unwrap(), photos: 10 })
            .collect(),
        photos,
        skipped: Vec::new(),
        near_duplicates: Vec::new(),
        snapshot: None,
    }
}

fn graph(style: &Style) -> Vec<u8> {
    let means =
        COLOURS.map(|(label, colour)| (label.to_owned(), colour.map(|value| f64::from(value) / 255.0)));
    exported_graph(means.into(), style)
}

fn request<'a>(
    onnx: &'a [u8],
    outputs: &'a [Label],
    dataset: &'a Dataset,
    folder: &'a Path,
    out: &'a Path,
) -> AdoptRequest<'a> {
    AdoptRequest { onnx, outputs, dataset, dataset_folder: folder, held_out: Some(0), holdout: None, out }
}

/// What the service's model says of a colour, worked out apart from any graph.
fn expected(colour: [u8; 3]) -> Vec<f64> {
    let unit = |colour: [u8; 3]| colour.map(|value| f64::from(value) / 255.0);
    let powers: Vec<f64> = COLOURS
        .iter()
        .map(|(_, mean)| {
            let distance: f64 = unit(*mean).iter().zip(unit(colour)).map(|(a, b)| (a - b) * (a - b)).sum();
            (-40.0 * distance).exp()
        })
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[test]
fn every_form_of_export_becomes_one_model_that_tells_the_colours() {
    let root = tempfile::tempdir().unwrap();
    let (folder, out) = (root.path().join("dataset"), root.path().join("out"));
    fs::create_dir_all(&out).unwrap();
    let dataset = dataset(&folder);
    let outputs = labels(&["red", "green", "blue"]);
    for float16 in [false, true] {
        for bgr in [false, true] {
            for range in [Said::Bytes, Said::Unit, Said::BytesSaidUnit] {
                for single_output in [false, true] {
                    let style = Style { float16, bgr, range, single_output, folder: String::new() };
                    let onnx = graph(&style);
                    let adopted =
                        Foreign.adopt(&request(&onnx, &outputs, &dataset, &folder, &out), &Quiet).unwrap();
                    assert!((adopted.evaluation.summary.accuracy - 1.0).abs() < 1e-9, "{style:?}");
                    assert_eq!(adopted.evaluation.summary.photos, 6);
                    let order = if bgr { ChannelOrder::Bgr } else { ChannelOrder::Rgb };
                    assert_eq!(adopted.preprocess.channels, order);
                    let scale = if range == Said::Unit { 255.0 } else { 1.0 };
                    assert!((adopted.preprocess.scale[0] - scale).abs() < 1e-6, "{style:?}");
                    assert_eq!(adopted.probes.len(), 6);
                    for probe in &adopted.probes {
                        let place =
                            COLOURS.iter().position(|(label, _)| probe.label.as_str() == *label).unwrap();
                        for (got, wanted) in probe.probabilities.iter().zip(expected(COLOURS[place].1)) {
                            assert!((f64::from(*got) - wanted).abs() < 5e-3, "{style:?}: {probe:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_package_is_written_whole_and_says_what_was_judged() {
    let root = tempfile::tempdir().unwrap();
    let (folder, trained, packed) =
        (root.path().join("dataset"), root.path().join("training"), root.path().join("model"));
    fs::create_dir_all(&trained).unwrap();
    fs::create_dir_all(&packed).unwrap();
    let dataset = dataset(&folder);
    let outputs = labels(&["red", "green", "blue"]);
    let onnx = graph(&Style { float16: true, ..Style::default() });
    let adopted = Foreign.adopt(&request(&onnx, &outputs, &dataset, &folder, &trained), &Quiet).unwrap();
    let training = Training {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        created: None,
        trainer: TrainerKind::CustomVision,
        seed: 1,
        dataset: mynah_contracts::DatasetRef { digest: dataset.digest, photos: 30 },
        labels: dataset.label_names(),
        preprocess: adopted.preprocess,
        backbone: None::<Backbone>,
        augmentations: Vec::new(),
        head: None,
        custom_vision: None,
        calibration: adopted.calibration,
        cross_validation: adopted.evaluation,
        holdout: None,
        probes: adopted.probes,
    };
    let request = ExportRequest {
        training: &training,
        training_folder: &trained,
        weights: Weights::F16,
        check: Some((&dataset, &folder)),
        out: &packed,
    };
    let card = Foreign.pack(&request, &onnx, &outputs, &Quiet).unwrap();
    assert_eq!(card.weights, Weights::F16);
    assert_eq!(fs::read_to_string(packed.join("labels.txt")).unwrap(), "blue\ngreen\nred\n");
    fs::write(packed.join("model.json"), mynah_contracts::to_json(&card)).unwrap();
    let package = ModelPackage::open(&packed).unwrap();
    package.self_test(&packed).unwrap();
    let again = Foreign.pack(&request, &onnx, &outputs, &Quiet).unwrap();
    assert_eq!(again.digest(), card.digest());
    let model = ModelProto::decode(fs::read(packed.join("model.onnx")).unwrap().as_slice()).unwrap();
    assert!(model.metadata_props.iter().any(|property| property.key == "preprocess"));
    assert!(model.graph.unwrap().node.iter().all(|node| node.op_type != "ZipMap" && node.domain.is_empty()));
}

#[test]
fn labels_that_do_not_fit_are_told() {
    let onnx = graph(&Style::default());
    let wanted = labels(&["blue", "green", "red"]);
    let says = |outputs: &[&str], wanted: &[Label]| {
        normalise(&onnx, &labels(outputs), wanted).unwrap_err().to_string()
    };
    assert_eq!(
        says(&["green", "red", "blue"], &wanted),
        "the exported graph calls its output 1 `red`, the labels that came with it say `green`"
    );
    assert!(says(&["red", "green", "blue"], &labels(&["blue", "green", "pear", "red"])).contains("`pear`"));
    assert!(
        says(&["red", "green", "blue"], &labels(&["blue", "green"])).contains("`red`, which is no label")
    );
    assert!(says(&["red", "blue"], &labels(&["blue", "red"])).contains("3 outputs, 2 labels"));
}

#[test]
fn what_is_no_classifier_of_pictures_is_refused_in_words() {
    let outputs = labels(&["red", "green", "blue"]);
    let wanted = labels(&["blue", "green", "red"]);
    let says = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = ModelProto::decode(graph(&Style::default()).as_slice()).unwrap();
        change(&mut model);
        normalise(&model.encode_to_vec(), &outputs, &wanted).unwrap_err().to_string()
    };
    assert!(says(&|model| model.graph = None).contains("it is empty"));
    assert!(says(&|model| model.graph.as_mut().unwrap().input.clear()).contains("has not one input"));
    assert!(says(&|model| model.graph.as_mut().unwrap().output.clear()).contains("has not one output"));
    assert!(says(&|model| model.metadata_props[0].value = "Gray8".into()).contains("`Gray8`"));
    assert!(
        says(&|model| {
            let node = &mut model.graph.as_mut().unwrap().node[0];
            node.domain = "com.example".into();
        })
        .contains("`com.example`")
    );
    assert!(normalise(b"no model at all", &outputs, &wanted).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_graphs_never_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut onnx = graph(&Style { float16: true, ..Style::default() });
        for (at, byte) in damage {
            let at = at.index(onnx.len());
            onnx[at] = byte;
        }
        let labels = labels(&["blue", "green", "red"]);
        if let Ok(normal) = normalise(&onnx, &labels, &labels) {
            let bytes = normal.model.encode_to_vec();
            let _ = Network::from_onnx(&bytes, &normal.input, OUTPUT, normal.size.min(64));
        }
    }
}
