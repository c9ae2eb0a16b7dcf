//! Backbone and head to one ONNX file: `Gemm` and `Softmax` appended to the backbone's graph, the temperature folded
//! into the head, and all that a consumer needs to know in the file's metadata.

use mynah_contracts::{Calibration, Label, Preprocess, Sha256Digest, Tool, Weights};
use prost::Message as _;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::f16;

use crate::TrainerError;
use crate::backbone::Backbone;
use crate::head::Head;

/// The name of the graph's output: N × labels.
pub const OUTPUT: &str = "probabilities";

/// What goes into the file beside the graph.
#[derive(Clone, Copy, Debug)]
pub struct Meaning<'a> {
    /// The labels, in the output's order.
    pub labels: &'a [Label],
    /// From pixels to the input.
    pub preprocess: &'a Preprocess,
    /// The temperature, which goes into the graph, and the reject threshold, which is the reader's to apply.
    pub calibration: Calibration,
    /// What was learnt from.
    pub dataset: Sha256Digest,
}

/// The ONNX file. The same arguments always give the same bytes.
///
/// The head is stored as 32-bit floats whatever `weights` says: it is small. With [`Weights::F16`] the backbone's
/// weights stay as its file has them, with [`Weights::F32`] those stored with 16 bits are widened; arithmetic, and so
/// every result, is the same.
///
/// # Errors
/// Where the backbone's graph is not of the form [`Backbone`] promises.
pub fn assemble(
    backbone: &Backbone,
    head: &Head,
    meaning: Meaning<'_>,
    weights: Weights,
) -> Result<Vec<u8>, TrainerError> {
    let unfit = |what: &str| TrainerError::Graph { what: what.to_owned() };
    let mut model =
        ModelProto::decode(backbone.onnx.as_slice()).map_err(|error| unfit(&error.to_string()))?;
    let graph = model.graph.as_mut().ok_or_else(|| unfit("it is empty"))?;
    if weights == Weights::F32 {
        widen(graph);
    }
    append_head(graph, backbone.spec.output, head, meaning.calibration.temperature);
    "mynah".clone_into(&mut graph.name);

    let tool = Tool::current();
    let calibration = meaning.calibration;
    model.metadata_props = [
        ("labels", json(&meaning.labels)),
        ("preprocess", json(meaning.preprocess)),
        ("temperature", json(&calibration.temperature)),
        ("rejectThreshold", json(&calibration.reject_threshold)),
        ("dataset", meaning.dataset.to_string()),
        ("backbone", backbone.spec.name.to_owned()),
        ("backboneSha256", backbone.spec.sha256.to_string()),
        ("mynahVersion", tool.version.clone()),
    ]
    .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value })
    .into();
    model.producer_name = tool.name;
    model.producer_version = tool.version;
    model.doc_string = "image classifier: a frozen backbone, a linear head, softmax".into();
    Ok(model.encode_to_vec())
}

/// Text, numbers and lists of them: nothing that JSON could refuse.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn append_head(graph: &mut GraphProto, embedding: &str, head: &Head, temperature: f32) {
    // Divided once here instead of in every inference: softmax((W·x + b) / T) = softmax((W/T)·x + b/T).
    let cooled = |values: &[f32]| -> Vec<f32> {
        values.iter().map(|value| (f64::from(*value) / f64::from(temperature)) as f32).collect()
    };
    let (labels, columns) = (head.labels() as i64, head.embedding_length() as i64);
    graph.initializer.push(tensor("mynah.head.weight", vec![labels, columns], &cooled(&head.weight)));
    graph.initializer.push(tensor("mynah.head.bias", vec![labels], &cooled(&head.bias)));
    graph.node.push(NodeProto {
        name: "mynah.head".into(),
        op_type: "Gemm".into(),
        input: vec![embedding.into(), "mynah.head.weight".into(), "mynah.head.bias".into()],
        output: vec!["mynah.logits".into()],
        attribute: vec![integer("transB", 1)],
        ..NodeProto::default()
    });
    graph.node.push(NodeProto {
        name: "mynah.softmax".into(),
        op_type: "Softmax".into(),
        input: vec!["mynah.logits".into()],
        output: vec![OUTPUT.into()],
        attribute: vec![integer("axis", 1)],
        ..NodeProto::default()
    });
    let dimensions = [dimension::Value::DimParam("N".into()), dimension::Value::DimValue(labels)];
    let shape = TensorShapeProto {
        dim: dimensions.map(|value| Dimension { value: Some(value), ..Dimension::default() }).into(),
    };
    let tensor_type = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    graph.output = vec![ValueInfoProto {
        name: OUTPUT.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor_type)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }];
}

/// An attribute that is a whole number.
pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, dims: Vec<i64>, values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims,
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// Replaces each 16-bit weight that a `Cast` widens by what it is widened to.
fn widen(graph: &mut GraphProto) {
    let GraphProto { node: nodes, initializer, .. } = graph;
    nodes.retain(|node| {
        let to_float = |a: &AttributeProto| a.name == "to" && a.i == i64::from(DataType::Float as i32);
        if node.op_type != "Cast" || !node.attribute.iter().any(to_float) {
            return true;
        }
        let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else { return true };
        let narrow = initializer.iter_mut().find(|tensor| {
            tensor.name == *from
                && tensor.data_type == DataType::Float16 as i32
                && !tensor.raw_data.is_empty()
        });
        let Some(narrow) = narrow else { return true };
        let (halves, _) = narrow.raw_data.as_chunks::<2>();
        let wide: Vec<f32> = halves.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect();
        *narrow = tensor(to, narrow.dims.clone(), &wide);
        false
    });
}
