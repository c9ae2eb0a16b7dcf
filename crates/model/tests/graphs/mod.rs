//! Small ONNX graphs for tests, good ones and bad ones.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension::Value as Dim, type_proto,
};

/// The input's side of every graph here.
pub(crate) const SIZE: u32 = 8;

pub(crate) fn bytes(graph: GraphProto) -> Vec<u8> {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

pub(crate) fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type, ..AttributeProto::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.into(), i, r#type, ..AttributeProto::default() }
}

pub(crate) fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |side: &i64| Dimension { value: Some(Dim::DimValue(*side)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let of = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(of), ..ValueInfoProto::default() }
}

/// A classifier of three labels, by the means of the three colours: `input` → `scores`.
pub(crate) fn classifier() -> GraphProto {
    let side = i64::from(SIZE);
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let spread: Vec<f32> = (0..3).flat_map(|_| [0.0, 0.1, 0.0, 0.1, 0.6, 0.1, 0.0, 0.1, 0.0]).collect();
    GraphProto {
        name: "classifier".into(),
        initializer: vec![
            tensor("mix", &[3, 3, 1, 1], &identity),
            tensor("none", &[3], &[0.0; 3]),
            tensor("spread", &[3, 1, 3, 3], &spread),
            tensor("low", &[], &[0.0]),
            tensor("high", &[], &[6.0]),
            tensor("weight", &[3, 3], &[4.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 4.0]),
        ],
        node: vec![
            node("Conv", &["input", "mix", "none"], "mixed", vec![ints("kernel_shape", &[1, 1])]),
            node("Clip", &["mixed", "low", "high"], "bright", vec![]),
            node(
                "Conv",
                &["bright", "spread", "none"],
                "spreaded",
                vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1]), int("group", 3)],
            ),
            node("GlobalAveragePool", &["spreaded"], "means", vec![]),
            node("Flatten", &["means"], "flat", vec![int("axis", 1)]),
            node("MatMul", &["flat", "weight"], "logits", vec![]),
            node("Softmax", &["logits"], "scores", vec![int("axis", 1)]),
        ],
        input: vec![value("input", &[1, 3, side, side])],
        output: vec![value("scores", &[1, 3])],
        ..GraphProto::default()
    }
}
