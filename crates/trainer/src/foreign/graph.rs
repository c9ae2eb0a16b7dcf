//! A foreign classifier's graph in our form: one picture in, one row of probabilities out, 32-bit arithmetic.
//!
//! Exporters of classifiers end a graph in a sequence of maps from label to probability (`ZipMap`), name the best
//! label beside it, compute in 16 bits, and order the labels as they please. What is kept is the part of the graph
//! that computes the probabilities; labels are brought into the dataset's order by one `Gather`.

use std::collections::{BTreeMap, BTreeSet};

use mynah_contracts::{ChannelOrder, Label, Preprocess, Weights};
use mynah_model::MAX_MODEL_BYTES;
use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::f16;

use super::ForeignError;
use crate::onnx::integer;

/// The name of the graph's only output: N × labels.
pub(super) const OUTPUT: &str = "mynah.probabilities";

/// A graph in our form.
#[derive(Debug)]
pub(super) struct Normal {
    pub(super) model: ModelProto,
    /// The input's name.
    pub(super) input: String,
    /// The input's side, in pixels.
    pub(super) size: u32,
    /// The order of the input's channels, by the file's own metadata.
    pub(super) channels: ChannelOrder,
    /// Which values the input takes, by the file's own metadata.
    pub(super) range: PixelRange,
    /// How most weights are stored.
    pub(super) weights: Weights,
}

/// Which numbers a graph takes for black and white.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PixelRange {
    /// 0 and 255.
    Bytes,
    /// 0 and 1.
    Unit,
    /// −1 and 1.
    Signed,
}

impl PixelRange {
    pub(super) const ALL: [Self; 3] = [Self::Bytes, Self::Unit, Self::Signed];

    /// What is subtracted from a value of 0 to 255, and what the difference is divided by.
    pub(super) const fn mean_and_scale(self) -> (f32, f32) {
        match self {
            Self::Bytes => (0.0, 1.0),
            Self::Unit => (0.0, 255.0),
            Self::Signed => (127.5, 127.5),
        }
    }
}

/// Brings `onnx`, whose outputs mean `outputs`, into our form with the labels in the order of `labels`.
pub(super) fn normalise(onnx: &[u8], outputs: &[Label], labels: &[Label]) -> Result<Normal, ForeignError> {
    if onnx.len() as u64 > MAX_MODEL_BYTES {
        return Err(unfit(format!("it has {} bytes, at most {MAX_MODEL_BYTES} are read", onnx.len())));
    }
    let mut model = ModelProto::decode(onnx).map_err(|error| unfit(error.to_string()))?;
    let order = order(outputs, labels)?;
    let (channels, range) = declared(&model)?;
    let graph = model.graph.as_mut().ok_or_else(|| unfit("it is empty"))?;
    let (input, size) = picture_input(graph)?;
    let probabilities = probabilities(graph, outputs)?;
    keep_what_computes(graph, &probabilities);
    if let Some(node) = graph.node.iter().find(|node| !matches!(node.domain.as_str(), "" | "ai.onnx")) {
        return Err(unfit(format!("the operator `{}` is of the domain `{}`", node.op_type, node.domain)));
    }
    let narrow = widen(graph)?;
    append_order(graph, &probabilities, &order);
    graph.value_info.clear();
    graph.input = vec![value(&input, &[None, Some(3), Some(i64::from(size)), Some(i64::from(size))])];
    graph.output = vec![value(OUTPUT, &[None, Some(labels.len() as i64)])];
    // Before version 4 every weight had to be listed among the inputs.
    model.ir_version = model.ir_version.max(4);
    model.opset_import.retain(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    model.functions.clear();
    model.training_info.clear();
    let weights = if narrow { Weights::F16 } else { Weights::F32 };
    Ok(Normal { model, input, size, channels, range, weights })
}

fn unfit(what: impl Into<String>) -> ForeignError {
    ForeignError::Graph { what: what.into() }
}

/// For each of `labels`, which output it is.
fn order(outputs: &[Label], labels: &[Label]) -> Result<Vec<i64>, ForeignError> {
    let places: BTreeMap<&Label, usize> =
        outputs.iter().enumerate().map(|(place, label)| (label, place)).collect();
    if let Some(stranger) = outputs.iter().find(|output| !labels.contains(output)) {
        return Err(ForeignError::StrangeOutput { output: stranger.clone() });
    }
    labels
        .iter()
        .map(|label| {
            let place =
                places.get(label).ok_or_else(|| ForeignError::MissingLabel { label: label.clone() })?;
            Ok(*place as i64)
        })
        .collect()
}

/// What the file's metadata say of its input (`Image.*`, the names of Windows ML).
fn declared(model: &ModelProto) -> Result<(ChannelOrder, PixelRange), ForeignError> {
    let property = |key: &str| {
        model
            .metadata_props
            .iter()
            .find(|property| property.key == key)
            .map(|property| property.value.as_str())
    };
    let channels = match property("Image.BitmapPixelFormat") {
        Some("Bgr8" | "Bgra8") => ChannelOrder::Bgr,
        None | Some("Rgb8" | "Rgba8") => ChannelOrder::Rgb,
        Some(other) => {
            return Err(unfit(format!("it takes pixels of the format `{}`", other.escape_debug())));
        }
    };
    let range = match property("Image.NominalPixelRange") {
        Some("NominalRange_0_255") => PixelRange::Bytes,
        Some("Normalized_1_1") => PixelRange::Signed,
        _ => PixelRange::Unit,
    };
    Ok((channels, range))
}

/// The only input that is not initialised: its name and side. 16-bit inputs become 32-bit ones later.
fn picture_input(graph: &GraphProto) -> Result<(String, u32), ForeignError> {
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut inputs = graph.input.iter().filter(|value| !given.contains(value.name.as_str()));
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(unfit("it has not one input"));
    };
    let name = || input.name.escape_debug();
    let tensor = tensor_of(input).ok_or_else(|| unfit(format!("its input `{}` is no tensor", name())))?;
    let real = [DataType::Float as i32, DataType::Float16 as i32];
    if !real.contains(&tensor.elem_type) {
        return Err(unfit(format!("its input `{}` takes no floating-point numbers", name())));
    }
    let sides: Vec<Option<i64>> = tensor
        .shape
        .iter()
        .flat_map(|shape| &shape.dim)
        .map(|dim| match dim.value {
            Some(dimension::Value::DimValue(side)) => Some(side),
            _ => None,
        })
        .collect();
    match sides[..] {
        [batch, Some(3), Some(height), Some(width)]
            if height == width
                && (1..=i64::from(Preprocess::MAX_SIZE)).contains(&height)
                && batch.is_none_or(|batch| batch <= 1) =>
        {
            Ok((input.name.clone(), height as u32))
        }
        _ => {
            let shown: Vec<String> =
                sides.iter().map(|side| side.map_or("?".into(), |side| side.to_string())).collect();
            let shown = shown.join(" × ");
            Err(unfit(format!("its input `{}` has the shape {shown}, expected is 1 × 3 × N × N", name())))
        }
    }
}

fn tensor_of(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    // Sequences and maps are not among the types this parser knows: they read as no type at all.
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The name of the tensor that holds the probabilities.
fn probabilities(graph: &GraphProto, outputs: &[Label]) -> Result<String, ForeignError> {
    let declared: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let zip = graph.node.iter().find(|node| {
        node.op_type == "ZipMap" && node.output.iter().any(|name| declared.contains(&name.as_str()))
    });
    if let Some(zip) = zip {
        let names = zip.attribute.iter().find(|attribute| attribute.name == "classlabels_strings");
        check_names(names.map(|names| names.strings.as_slice()).unwrap_or_default(), outputs)?;
        return zip.input.first().cloned().ok_or_else(|| unfit("its `ZipMap` has no input"));
    }
    let real = [DataType::Float as i32, DataType::Float16 as i32];
    let mut candidates = graph
        .output
        .iter()
        .filter(|output| tensor_of(output).is_some_and(|tensor| real.contains(&tensor.elem_type)));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only.name.clone()),
        _ => Err(unfit("it has not one output of floating-point numbers")),
    }
}

fn check_names(names: &[Vec<u8>], outputs: &[Label]) -> Result<(), ForeignError> {
    if names.len() != outputs.len() {
        return Err(unfit(format!("it has {} outputs, {} labels came with it", names.len(), outputs.len())));
    }
    for (position, (name, label)) in names.iter().zip(outputs).enumerate() {
        let name = String::from_utf8_lossy(name);
        // Both are the service's words for one tag; the label was brought into one Unicode form.
        if name.trim().parse::<Label>().as_ref() != Ok(label) {
            return Err(ForeignError::OutputNames {
                position: position + 1,
                graph: name.escape_debug().to_string(),
                labels: label.to_string(),
            });
        }
    }
    Ok(())
}

/// Drops every node and weight that `wanted` does not need.
fn keep_what_computes(graph: &mut GraphProto, wanted: &str) {
    let makers: BTreeMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |name| (name.as_str(), at)))
        .collect();
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    let mut open = vec![wanted.to_owned()];
    while let Some(name) = open.pop() {
        if let Some(&at) = makers.get(name.as_str())
            && kept.insert(at)
            && let Some(node) = graph.node.get(at)
        {
            open.extend(node.input.iter().filter(|input| !input.is_empty()).cloned());
        }
        needed.insert(name);
    }
    let mut at = 0;
    graph.node.retain(|_| {
        at += 1;
        kept.contains(&(at - 1))
    });
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
}

/// Makes all arithmetic 32-bit. Weights stay as they are stored: a `Cast` before their first use widens them.
/// Tells whether there were any of 16 bits.
fn widen(graph: &mut GraphProto) -> Result<bool, ForeignError> {
    let half = DataType::Float16 as i32;
    let mut casts = Vec::new();
    for tensor in &mut graph.initializer {
        if tensor.data_type == half {
            let wide = tensor.name.clone();
            tensor.name = format!("{wide}.stored");
            if tensor.raw_data.is_empty() {
                // Listed instead of raw: each number's bits in an integer of its own (onnx.proto3, `int32_data`).
                let bits = std::mem::take(&mut tensor.int32_data);
                tensor.raw_data = bits.iter().flat_map(|bits| (*bits as u16).to_le_bytes()).collect();
            }
            casts.push(NodeProto {
                name: format!("{wide}.widened"),
                op_type: "Cast".into(),
                input: vec![tensor.name.clone()],
                output: vec![wide],
                attribute: vec![integer("to", DataType::Float as i64)],
                ..NodeProto::default()
            });
        }
    }
    let narrow = !casts.is_empty();
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            if node.op_type == "Cast" && attribute.name == "to" && attribute.i == i64::from(half) {
                attribute.i = DataType::Float as i64;
            }
            if let Some(tensor) = &mut attribute.t
                && tensor.data_type == half
            {
                *tensor = widened(tensor)?;
            }
        }
    }
    casts.append(&mut graph.node);
    graph.node = casts;
    Ok(narrow)
}

/// A constant of 16 bits as one of 32.
fn widened(tensor: &TensorProto) -> Result<TensorProto, ForeignError> {
    let (halves, rest) = tensor.raw_data.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(unfit(format!("the constant `{}` is cut", tensor.name.escape_debug())));
    }
    let listed = tensor.int32_data.iter().map(|bits| f16::from_bits(*bits as u16));
    let raw_data = halves
        .iter()
        .map(|half| f16::from_le_bytes(*half))
        .chain(listed)
        .flat_map(|half| half.to_f32().to_le_bytes())
        .collect();
    Ok(TensorProto { data_type: DataType::Float as i32, raw_data, int32_data: Vec::new(), ..tensor.clone() })
}

/// Appends what turns `probabilities`, of any shape 1 × N × 1 × 1 or 1 × N, into [`OUTPUT`] in our order.
fn append_order(graph: &mut GraphProto, probabilities: &str, order: &[i64]) {
    graph.initializer.push(TensorProto {
        name: "mynah.order".into(),
        dims: vec![order.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: order.iter().flat_map(|place| place.to_le_bytes()).collect(),
        ..TensorProto::default()
    });
    graph.node.push(NodeProto {
        name: "mynah.flatten".into(),
        op_type: "Flatten".into(),
        input: vec![probabilities.into()],
        output: vec!["mynah.flat".into()],
        attribute: vec![integer("axis", 1)],
        ..NodeProto::default()
    });
    graph.node.push(NodeProto {
        name: "mynah.reorder".into(),
        op_type: "Gather".into(),
        input: vec!["mynah.flat".into(), "mynah.order".into()],
        output: vec![OUTPUT.into()],
        attribute: vec![integer("axis", 1)],
        ..NodeProto::default()
    });
}

/// A tensor of 32-bit floats; a side that is not fixed is called `N`.
fn value(name: &str, sides: &[Option<i64>]) -> ValueInfoProto {
    let dim = sides
        .iter()
        .map(|side| {
            let value = side.map_or(dimension::Value::DimParam("N".into()), dimension::Value::DimValue);
            Dimension { value: Some(value), ..Dimension::default() }
        })
        .collect();
    let tensor =
        type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
