//! What the double trains: the mean colour of each tag, and the nearest one wins. Written as ONNX in the forms
//! in which the service exports a classifier: its operators, its outputs, its metadata.

use half::f16;
use prost::Message as _;

use super::onnx;

/// Tensor types of ONNX.
const FLOAT: i32 = 1;
const STRING: i32 = 8;
const FLOAT16: i32 = 10;

/// The input's side, in pixels: small, since the model looks at colours alone.
const SIDE: i64 = 64;

/// How sharply distances become probabilities.
const GAIN: f64 = 40.0;

/// What an exported model looks like.
#[derive(Clone, Debug)]
pub struct Style {
    /// Input and weights are 16-bit floats.
    pub float16: bool,
    /// Channels come blue first.
    pub bgr: bool,
    /// Which values the graph takes.
    pub range: PixelRange,
    /// One output with probabilities, as of the `[S1]` domains, instead of `classLabel` and `loss`.
    pub single_output: bool,
    /// The folder within the zip: empty, or ending in a slash.
    pub folder: String,
}

/// Which values a graph takes, and which it says it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelRange {
    /// 0 to 255, and says so.
    Bytes,
    /// 0 to 1, and says so.
    Unit,
    /// 0 to 255, but says 0 to 1: seen in the field.
    BytesSaidUnit,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            float16: false,
            bgr: true,
            range: PixelRange::Bytes,
            single_output: false,
            folder: String::new(),
        }
    }
}

impl Style {
    fn properties(&self) -> [(&'static str, &'static str); 3] {
        [
            ("Image.BitmapPixelFormat", if self.bgr { "Bgr8" } else { "Rgb8" }),
            ("Image.ColorSpaceGamma", "SRGB"),
            (
                "Image.NominalPixelRange",
                if self.range == PixelRange::Bytes { "NominalRange_0_255" } else { "Normalized_0_1" },
            ),
        ]
    }

    /// `metadata_properties.json`.
    pub(super) fn metadata_properties(&self) -> Vec<u8> {
        let range = if self.range == PixelRange::Bytes { "NominalRange_0_255" } else { "Normalized_0_1" };
        serde_json::json!({
            "CustomVision.Metadata.AdditionalModelInfo": "",
            "CustomVision.Metadata.Version": "1.2",
            "CustomVision.Postprocess.Method": "ClassificationMultiClass",
            "CustomVision.Postprocess.Yolo.Biases": "[]",
            "CustomVision.Preprocess.CropHeight": "0",
            "CustomVision.Preprocess.CropMethod": "NoCrop",
            "CustomVision.Preprocess.CropWidth": "0",
            "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
            "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
            "CustomVision.Preprocess.ResizeMethod": "Stretch",
            "CustomVision.Preprocess.TargetHeight": SIDE.to_string(),
            "CustomVision.Preprocess.TargetWidth": SIDE.to_string(),
            "Image.BitmapPixelFormat": if self.bgr { "Bgr8" } else { "Rgb8" },
            "Image.ColorSpaceGamma": "SRGB",
            "Image.NominalPixelRange": range,
        })
        .to_string()
        .into_bytes()
    }
}

/// A trained model: each tag's mean colour, channels 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Against the alphabet, so that nobody can rely on an order that the service does not promise.
    means: Vec<(String, [f64; 3])>,
}

impl Model {
    pub(super) fn new(mut means: Vec<(String, [f64; 3])>) -> Self {
        means.sort_by(|a, b| b.0.cmp(&a.0));
        Self { means }
    }

    pub(super) fn labels(&self) -> Vec<String> {
        self.means.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn knows(&self, tag: &str) -> bool {
        self.means.iter().any(|(name, _)| name == tag)
    }

    /// The tag whose mean is nearest.
    pub(super) fn classify(&self, colour: [f64; 3]) -> String {
        let distance = |mean: &[f64; 3]| -> f64 {
            mean.iter().zip(colour).map(|(mean, colour)| (mean - colour).powi(2)).sum()
        };
        let nearest = self.means.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)));
        nearest.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// The graph. Softmax of −GAIN · distance² is that of a linear function of the mean colour.
    pub(super) fn onnx(&self, style: &Style) -> Vec<u8> {
        let real = if style.float16 { FLOAT16 } else { FLOAT };
        let tags = self.means.len() as i64;
        let order = if style.bgr { [2, 1, 0] } else { [0, 1, 2] };
        let weight: Vec<f64> =
            self.means.iter().flat_map(|(_, mean)| order.map(|channel| 2.0 * GAIN * mean[channel])).collect();
        let bias: Vec<f64> = self
            .means
            .iter()
            .map(|(_, mean)| -GAIN * mean.iter().map(|value| value * value).sum::<f64>())
            .collect();
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let mut initializer = vec![
            numbers(real, "conv1.weight", &[3, 3, 1, 1], &identity),
            numbers(real, "conv1.bias", &[3], &[0.0; 3]),
            numbers(real, "bn1.scale", &[3], &[1.0; 3]),
            numbers(real, "bn1.bias", &[3], &[0.0; 3]),
            numbers(real, "bn1.mean", &[3], &[0.0; 3]),
            numbers(real, "bn1.var", &[3], &[1.0; 3]),
            numbers(real, "fc.weight", &[tags, 3], &weight),
            numbers(real, "fc.bias", &[tags], &bias),
        ];
        let mut nodes = Vec::new();
        let pixels = if style.range == PixelRange::Unit {
            "data"
        } else {
            initializer.push(numbers(real, "scalar", &[1], &[1.0 / 255.0]));
            nodes.push(node("Mul", &["data", "scalar"], "scaled", Vec::new()));
            "scaled"
        };
        nodes.extend([
            node(
                "Conv",
                &[pixels, "conv1.weight", "conv1.bias"],
                "conv1",
                vec![ints("kernel_shape", &[1, 1])],
            ),
            node(
                "BatchNormalization",
                &["conv1", "bn1.scale", "bn1.bias", "bn1.mean", "bn1.var"],
                "bn1",
                vec![float("epsilon", 1e-5)],
            ),
            node("LeakyRelu", &["bn1"], "relu1", vec![float("alpha", 0.1)]),
            node("GlobalAveragePool", &["relu1"], "pool", Vec::new()),
            node("Flatten", &["pool"], "flat", vec![int("axis", 1)]),
            node("Gemm", &["flat", "fc.weight", "fc.bias"], "fc", vec![int("transB", 1)]),
        ]);
        let outputs = if style.single_output {
            nodes.push(node("Softmax", &["fc"], "model_output", vec![int("axis", 1)]));
            vec![tensor_value("model_output", real, &[Some(1), Some(tags)])]
        } else {
            let scores = if style.float16 {
                nodes.push(node("Softmax", &["fc"], "half_scores", vec![int("axis", 1)]));
                nodes.push(node("Cast", &["half_scores"], "scores", vec![int("to", FLOAT.into())]));
                "scores"
            } else {
                nodes.push(node("Softmax", &["fc"], "scores", vec![int("axis", 1)]));
                "scores"
            };
            self.name_the_best(&mut nodes, &mut initializer, scores);
            vec![tensor_value("classLabel", STRING, &[Some(1)]), probabilities_by_name("loss")]
        };
        let graph = onnx::Graph {
            node: nodes,
            name: "model".into(),
            initializer,
            input: vec![tensor_value("data", real, &[None, Some(3), Some(SIDE), Some(SIDE)])],
            output: outputs,
        };
        let opset = |domain: &str, version| onnx::OperatorSet { domain: domain.into(), version };
        onnx::Model {
            ir_version: 6,
            producer_name: "mynah-testkit, in the manner of Custom Vision".into(),
            graph: Some(graph),
            opset_import: vec![opset("", 11), opset("ai.onnx.ml", 1)],
            metadata_props: style
                .properties()
                .map(|(key, value)| onnx::Property { key: key.into(), value: value.into() })
                .into(),
        }
        .encode_to_vec()
    }

    /// `classLabel`, a text, and `loss`, a sequence of maps from text to probability.
    fn name_the_best(&self, nodes: &mut Vec<onnx::Node>, initializer: &mut Vec<onnx::Tensor>, scores: &str) {
        let names: Vec<Vec<u8>> = self.means.iter().map(|(name, _)| name.clone().into_bytes()).collect();
        initializer.push(onnx::Tensor {
            dims: vec![names.len() as i64],
            data_type: STRING,
            string_data: names.clone(),
            name: "classes".into(),
            ..onnx::Tensor::default()
        });
        let strings = onnx::Attribute {
            name: "classlabels_strings".into(),
            strings: names,
            kind: 8,
            ..Default::default()
        };
        let learning = |node: onnx::Node| onnx::Node { domain: "ai.onnx.ml".into(), ..node };
        nodes.extend([
            node("ArgMax", &[scores], "best", vec![int("axis", 1), int("keepdims", 0)]),
            learning(node("ArrayFeatureExtractor", &["classes", "best"], "classLabel", Vec::new())),
            learning(node("ZipMap", &[scores], "loss", vec![strings])),
        ]);
    }
}

fn numbers(kind: i32, name: &str, dims: &[i64], values: &[f64]) -> onnx::Tensor {
    let raw_data = values
        .iter()
        .flat_map(|value| match kind {
            FLOAT16 => f16::from_f64(*value).to_le_bytes().to_vec(),
            _ => (*value as f32).to_le_bytes().to_vec(),
        })
        .collect();
    onnx::Tensor { dims: dims.to_vec(), data_type: kind, name: name.into(), raw_data, ..Default::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<onnx::Attribute>) -> onnx::Node {
    onnx::Node {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        name: format!("{operator}_{output}"),
        op_type: operator.into(),
        attribute,
        domain: String::new(),
    }
}

fn float(name: &str, f: f32) -> onnx::Attribute {
    onnx::Attribute { name: name.into(), f, kind: 1, ..Default::default() }
}

fn int(name: &str, i: i64) -> onnx::Attribute {
    onnx::Attribute { name: name.into(), i, kind: 2, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> onnx::Attribute {
    onnx::Attribute { name: name.into(), ints: ints.to_vec(), kind: 7, ..Default::default() }
}

fn tensor_value(name: &str, kind: i32, dims: &[Option<i64>]) -> onnx::Value {
    let dim = dims
        .iter()
        .map(|side| onnx::Dimension { dim_value: *side, dim_param: side.is_none().then(|| "None".into()) })
        .collect();
    let tensor = onnx::TensorType { elem_type: kind, shape: Some(onnx::Shape { dim }) };
    onnx::Value { name: name.into(), kind: Some(onnx::Type { tensor: Some(tensor), ..Default::default() }) }
}

fn probabilities_by_name(name: &str) -> onnx::Value {
    let number = onnx::TensorType { elem_type: FLOAT, shape: Some(onnx::Shape::default()) };
    let number = onnx::Type { tensor: Some(number), ..Default::default() };
    let map = onnx::MapType { key_type: STRING, value_type: Some(Box::new(number)) };
    let map = onnx::Type { map: Some(Box::new(map)), ..Default::default() };
    let sequence = onnx::SequenceType { elem_type: Some(Box::new(map)) };
    let kind = onnx::Type { sequence: Some(Box::new(sequence)), ..Default::default() };
    onnx::Value { name: name.into(), kind: Some(kind) }
}

/// An export's graph for tests that need no service: labels with their mean colours, each channel 0 to 1.
pub fn exported_graph(means: Vec<(String, [f64; 3])>, style: &Style) -> Vec<u8> {
    Model::new(means).onnx(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mean_wins_and_labels_stand_against_the_alphabet() {
        let model = Model::new(vec![("a".into(), [1.0, 0.0, 0.0]), ("b".into(), [0.0, 0.0, 1.0])]);
        assert_eq!(model.labels(), ["b", "a"]);
        assert_eq!(model.classify([0.9, 0.1, 0.2]), "a");
        let graph = onnx::Model::decode(model.onnx(&Style::default()).as_slice()).unwrap().graph.unwrap();
        assert_eq!(graph.output.len(), 2);
        assert!(graph.node.iter().any(|node| node.op_type == "ZipMap"));
    }
}
