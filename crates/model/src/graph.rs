//! What a foreign ONNX graph must fulfil before the engine may see it.
//!
//! The checks read the parsed protobuf only: they cost no more than its bytes. What they let through has
//! one image input, one named output, and no tensor that claims more than it holds.

use tract_onnx::pb::{
    self, attribute_proto::AttributeType, tensor_proto::DataLocation, tensor_proto::DataType,
};
use tract_onnx::prelude::Framework as _;

/// The largest ONNX file that is read, in bytes: 512 MiB.
pub const MAX_MODEL_BYTES: u64 = 512 << 20;

/// The most numbers one tensor, given or computed, may hold: 2²⁶, 256 MiB as 32-bit floats.
pub const MAX_TENSOR_ELEMENTS: u64 = 1 << 26;

/// Operators whose output is as large as a value in the file says, or that run other graphs. A classifier
/// of one image needs none of them, and each lets a few bytes ask for any amount of memory or time.
const REFUSED_OPERATORS: [&str; 24] = [
    "Bernoulli",
    "BlackmanWindow",
    "ConstantOfShape",
    "DFT",
    "EyeLike",
    "HammingWindow",
    "HannWindow",
    "If",
    "Loop",
    "MelWeightMatrix",
    "Multinomial",
    "OneHot",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "Resize",
    "STFT",
    "Scan",
    "SequenceAt",
    "SequenceConstruct",
    "Tile",
    "Upsample",
];

/// Why an ONNX graph is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The file is larger than any model we run.
    #[error("`{file}` is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// The file.
        file: String,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// Not a protobuf of the ONNX form.
    #[error("the bytes are not an ONNX model")]
    NotOnnx(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A model without a graph.
    #[error("the file holds no graph")]
    Empty,
    /// The named input is not one of the graph's.
    #[error("the graph has no input `{name}`, it has {}", listed(found))]
    NoInput {
        /// What was asked for.
        name: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The graph wants more than an image.
    #[error("the graph also needs the inputs {}", listed(names))]
    MoreInputs {
        /// The other inputs.
        names: Vec<String>,
    },
    /// The input is not an image of the expected side.
    #[error("the input `{name}` has the shape {found}, expected is 1 × 3 × {size} × {size}")]
    InputShape {
        /// The input.
        name: String,
        /// The shape in the file.
        found: String,
        /// The expected side, in pixels.
        size: u32,
    },
    /// No node computes the named output.
    #[error("nothing in the graph computes the output `{name}`")]
    NoOutput {
        /// What was asked for.
        name: String,
    },
    /// The output is not one row of numbers.
    #[error("the output `{name}` has the shape {found}, expected is 1 × N")]
    OutputShape {
        /// The output.
        name: String,
        /// Its shape.
        found: String,
    },
    /// A tensor whose numbers are in another file, which is never opened.
    #[error("the tensor `{tensor}` keeps its data in another file")]
    ExternalData {
        /// The tensor.
        tensor: String,
    },
    /// A tensor of more numbers than the file holds for it, or a shape that is none.
    #[error("the tensor `{tensor}` claims the shape {shape:?}, its data are {bytes} bytes")]
    TensorData {
        /// The tensor.
        tensor: String,
        /// The shape it claims.
        shape: Vec<i64>,
        /// The bytes it has.
        bytes: usize,
    },
    /// A tensor that would not fit into memory.
    #[error("the tensor `{tensor}` of shape {shape} would hold more than {MAX_TENSOR_ELEMENTS} numbers")]
    HugeTensor {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: String,
    },
    /// An operator that is not run here.
    #[error("the node `{node}` is a `{operator}`, which is not supported")]
    Operator {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// The engine does not accept the graph.
    #[error("the inference engine refuses the graph")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine panicked over the graph.
    #[error("the inference engine broke down over the graph: {0}")]
    Panic(String),
}

impl GraphError {
    /// What to do next.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotOnnx(_) | Self::Empty => {
                "the file is damaged or of another format: export the model again"
            }
            Self::ExternalData { .. } => "export the model as one self-contained ONNX file",
            Self::NoInput { .. } | Self::NoOutput { .. } | Self::InputShape { .. } => {
                "`input`, `output` and `size` in model.json must be the graph's own"
            }
            _ => "use a model that export-model wrote, or a plain image classifier in ONNX",
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.iter().map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ")
}

/// Parses and checks `bytes`, and cuts the graph to what is needed: one input, fixed to
/// 1 × 3 × `size` × `size`, and the one output named `output`, which may be any inner tensor.
pub(crate) fn parse(
    bytes: &[u8],
    input: &str,
    output: &str,
    size: u32,
) -> Result<pb::ModelProto, GraphError> {
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        return Err(GraphError::TooLarge { file: "model.onnx".into(), limit: MAX_MODEL_BYTES });
    }
    let mut model = tract_onnx::onnx()
        .proto_model_for_read(&mut &*bytes)
        .map_err(|error| GraphError::NotOnnx(error.into()))?;
    let graph = model.graph.as_mut().ok_or(GraphError::Empty)?;
    graph.initializer.iter().try_for_each(check_tensor)?;
    if let Some(sparse) = graph.sparse_initializer.first() {
        let tensor = sparse.values.as_ref().map(|values| values.name.clone()).unwrap_or_default();
        return Err(GraphError::Operator { node: tensor, operator: "sparse initializer".into() });
    }
    graph.node.iter().try_for_each(check_node)?;
    keep_input(graph, input, size)?;
    keep_output(graph, output)?;
    Ok(model)
}

fn check_node(node: &pb::NodeProto) -> Result<(), GraphError> {
    let name = || node.output.first().unwrap_or(&node.name).clone();
    if REFUSED_OPERATORS.binary_search(&node.op_type.as_str()).is_ok() {
        return Err(GraphError::Operator { node: name(), operator: node.op_type.clone() });
    }
    for attribute in &node.attribute {
        let nested = attribute.g.is_some() || !attribute.graphs.is_empty();
        if nested || attribute.r#type == AttributeType::Graph as i32 || attribute.sparse_tensor.is_some() {
            return Err(GraphError::Operator { node: name(), operator: node.op_type.clone() });
        }
        attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
    }
    Ok(())
}

/// Whether the tensor's data are in the file, all of them.
fn check_tensor(tensor: &pb::TensorProto) -> Result<(), GraphError> {
    let name = || tensor.name.clone();
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Err(GraphError::ExternalData { tensor: name() });
    }
    let elements =
        tensor.dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    if elements.is_some_and(|elements| elements > MAX_TENSOR_ELEMENTS) {
        return Err(GraphError::HugeTensor { tensor: name(), shape: format!("{:?}", tensor.dims) });
    }
    let raw = tensor.raw_data.len();
    // Numbers are either raw bytes or in one of the typed lists; a list's numbers may be wider than the tensor's.
    let listed = tensor.float_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len()
        + tensor.double_data.len()
        + tensor.uint64_data.len()
        + tensor.string_data.len();
    let fits = elements.is_some_and(|elements| {
        if raw > 0 {
            Some(raw as u64) == element_bytes(tensor.data_type).and_then(|bytes| elements.checked_mul(bytes))
        } else {
            listed as u64 == elements
        }
    });
    if fits {
        return Ok(());
    }
    Err(GraphError::TensorData { tensor: name(), shape: tensor.dims.clone(), bytes: raw + 4 * listed })
}

/// Bytes one number takes in `raw_data`, for the types that a classifier may hold.
fn element_bytes(data_type: i32) -> Option<u64> {
    match DataType::try_from(data_type).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => Some(1),
        DataType::Float16 | DataType::Int16 | DataType::Uint16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

/// Leaves `input` as the graph's only input besides initialised ones, with its shape fixed.
fn keep_input(graph: &mut pb::GraphProto, input: &str, size: u32) -> Result<(), GraphError> {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    // Old exporters list every initialiser among the inputs; those are not asked of a caller.
    let initialised: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|value| !initialised.contains(&value.name.as_str()));
    let (mut found, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.input).into_iter().partition(|value| value.name == input);
    let names = |values: Vec<pb::ValueInfoProto>| values.into_iter().map(|value| value.name).collect();
    let Some(mut kept) = found.pop() else {
        return Err(GraphError::NoInput { name: input.into(), found: names(others) });
    };
    if !others.is_empty() {
        return Err(GraphError::MoreInputs { names: names(others) });
    }
    let fixed = [1, 3, i64::from(size), i64::from(size)];
    let tensor = kept.r#type.and_then(|of| of.value).map(|pb::type_proto::Value::TensorType(tensor)| tensor);
    if let Some(shape) = tensor.and_then(|tensor| tensor.shape) {
        // The batch may be anything: it is fixed to 1 here. An unknown side is taken as the card's.
        let dims: Vec<_> = shape.dim.iter().map(|dim| dim.value.clone()).collect();
        let fits = |(at, dim): (usize, &Option<Value>)| match dim {
            Some(Value::DimValue(side)) => at == 0 || *side <= 0 || Some(side) == fixed.get(at),
            _ => true,
        };
        if dims.len() != 4 || !dims.iter().enumerate().all(fits) {
            let found = dims.iter().map(|dim| match dim {
                Some(Value::DimValue(side)) => side.to_string(),
                Some(Value::DimParam(name)) => name.escape_debug().to_string(),
                None => "?".into(),
            });
            let found = found.collect::<Vec<_>>().join(" × ");
            return Err(GraphError::InputShape { name: input.into(), found, size });
        }
    }
    let dim = |side| Dimension { value: Some(Value::DimValue(side)), ..Dimension::default() };
    let shape = pb::TensorShapeProto { dim: fixed.into_iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    kept.r#type = Some(pb::TypeProto { value, ..pb::TypeProto::default() });
    graph.input.push(kept);
    Ok(())
}

/// Makes `output` the graph's only output, and drops what only other outputs need.
fn keep_output(graph: &mut pb::GraphProto, output: &str) -> Result<(), GraphError> {
    if output.is_empty() || !graph.node.iter().any(|node| node.output.iter().any(|name| name == output)) {
        return Err(GraphError::NoOutput { name: output.into() });
    }
    graph.output = vec![pb::ValueInfoProto { name: output.into(), ..pb::ValueInfoProto::default() }];
    // Shapes an exporter noted down are not needed, and could contradict the fixed batch.
    graph.value_info.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_operators_are_sorted_for_the_search() {
        assert!(REFUSED_OPERATORS.is_sorted());
    }
}
