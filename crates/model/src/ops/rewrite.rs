//! Finds the parts of a graph that a [`Program`] can run, and puts one [`Fused`] operator in place of each.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::tract_core::internal::{
    DatumType, OutletId, TractResult, TypedModel, TypedModelPatch, TypedNode,
};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::conv::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::math::{Add, Max, Min};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};
use tract_onnx::tract_core::prelude::Tensor;

use super::Fused;
use super::program::Program;
use super::recipe::{Node, Op, Recipe, Window};
use super::simd::Isa;
use crate::graph::MAX_TENSOR_ELEMENTS;

/// A graph has one such part, or a few with a pooling between them; a hostile one gets no more of our time.
const MAX_PARTS: usize = 32;

/// The largest kernel side we recognise; a larger one would ask for absurd padding.
const MAX_KERNEL: usize = 32;

/// Replaces every part of `model` that has at least one convolution and that we can run. A node that is
/// anything but expected is left to tract.
pub(crate) fn rewrite(mut model: TypedModel) -> TractResult<TypedModel> {
    let Some(isa) = Isa::best() else { return Ok(model) };
    let order = model.eval_order()?;
    let mut taken = vec![false; model.nodes.len()];
    let mut parts = Vec::new();
    for (at, id) in order.iter().enumerate() {
        if parts.len() < MAX_PARTS
            && !taken[*id]
            && let Some(part) = Part::grow(&model, &order[at..], &taken)
        {
            part.nodes.iter().for_each(|id| taken[*id] = true);
            parts.push(part);
        }
    }
    for part in parts {
        part.apply(&mut model, isa)?;
    }
    // The nodes that were replaced, and their weights, are not worth the engine's optimisation.
    model.compact()?;
    Ok(model)
}

/// Nodes that read nothing but constants, each other and one outlet from outside.
struct Part {
    entry: OutletId,
    nodes: Vec<usize>,
    recipe: Recipe,
    /// The outlets others read, in the order of the recipe's outputs.
    exits: Vec<OutletId>,
}

impl Part {
    /// The part that begins with the first node of `order`, or `None` where that is none of ours.
    fn grow(model: &TypedModel, order: &[usize], taken: &[bool]) -> Option<Self> {
        let (_, inputs) = recognise(model, model.node(*order.first()?))?;
        let entry = *inputs.first()?;
        let [1, channels, height, width] = *picture(model, entry)? else { return None };
        let mut values = HashMap::from([(entry, 0)]);
        let mut recipe = Recipe { input: (channels, height, width), nodes: Vec::new(), outputs: Vec::new() };
        let mut nodes = Vec::new();
        for id in order.iter().filter(|id| !taken[**id]) {
            let Some((op, inputs)) = recognise(model, model.node(*id)) else { continue };
            let Some(inputs) = inputs.iter().map(|input| values.get(input).copied()).collect() else {
                continue;
            };
            recipe.nodes.push(Node { op, inputs });
            nodes.push(*id);
            values.insert(OutletId::new(*id, 0), nodes.len());
        }
        if !recipe.nodes.iter().any(|node| matches!(node.op, Op::Conv { .. } | Op::Depthwise { .. })) {
            return None;
        }
        let mut exits = Vec::new();
        for (at, id) in nodes.iter().enumerate() {
            let outlet = OutletId::new(*id, 0);
            let readers = &model.node(*id).outputs.first()?.successors;
            let read_outside =
                readers.iter().any(|inlet| !values.contains_key(&OutletId::new(inlet.node, 0)));
            if read_outside || model.outputs.contains(&outlet) {
                exits.push(outlet);
                recipe.outputs.push(at + 1);
            }
        }
        Some(Self { entry, nodes, recipe, exits })
    }

    fn apply(self, model: &mut TypedModel, isa: Isa) -> TractResult<()> {
        let shapes = self.recipe.shapes();
        let shapes = self.recipe.outputs.iter().map(|value| shapes[*value]);
        let shapes = shapes.map(|(channels, height, width)| [1, channels, height, width]).collect();
        let program = Arc::new(Program::compile(&self.recipe, isa));
        let mut patch = TypedModelPatch::default();
        let entry = patch.tap_model(model, self.entry)?;
        let name = format!("{}.fused", model.node(self.nodes[0]).name);
        let outlets = patch.wire_node(name, Fused { program, shapes }, &[entry])?;
        for (exit, outlet) in self.exits.iter().zip(outlets) {
            patch.shunt_outside(model, *exit, outlet)?;
        }
        patch.apply(model)
    }
}

/// What `node` computes and the outlets of the pictures it reads, if it is one of ours.
fn recognise(model: &TypedModel, node: &TypedNode) -> Option<(Op, Vec<OutletId>)> {
    if node.outputs.len() != 1 {
        return None;
    }
    picture(model, OutletId::new(node.id, 0))?;
    let input = *node.inputs.first()?;
    if let Some(conv) = node.op_as::<Conv>() {
        return Some((convolution(model, node, conv)?, vec![input]));
    }
    if let Some(binary) = node.op_as::<TypedBinOp>() {
        return elementwise(model, node, binary);
    }
    let reduce = node.op_as::<Reduce>()?;
    picture(model, input)?;
    let sums = reduce.reducer == Reducer::Sum && *reduce.axes == [2, 3];
    sums.then(|| (Op::GlobalSum, vec![input]))
}

fn convolution(model: &TypedModel, node: &TypedNode, conv: &Conv) -> Option<Op> {
    let pool = &conv.pool_spec;
    let [input, kernel, bias] = *node.inputs else { return None };
    let [_, channels, height, width] = *picture(model, input)? else { return None };
    let plain = pool.data_format == DataFormat::NCHW
        && conv.kernel_fmt == KernelFormat::OIHW
        && conv.q_params.is_none()
        && pool.dilations.as_ref().is_none_or(|dilations| dilations.iter().all(|dilation| *dilation == 1))
        && pool.input_channels == channels;
    let &[down, across] = &*pool.kernel_shape else { return None };
    let sides = 1..=MAX_KERNEL;
    if !plain || !sides.contains(&down) || !sides.contains(&across) {
        return None;
    }
    let strides = pool.strides();
    let computed = pool.computed_padding(&[height, width]);
    let ([stride_down, stride_across], [rows, columns]) = (&*strides, &*computed) else { return None };
    let window = Window {
        kernel: (down, across),
        stride: (*stride_down, *stride_across),
        before: (rows.pad_before, columns.pad_before),
        output: (rows.convoluted, columns.convoluted),
    };
    let sane = sides.contains(stride_down)
        && sides.contains(stride_across)
        && window.output.0 > 0
        && window.output.1 > 0;
    if !sane {
        return None;
    }
    // Every window sees some of the picture, so the zeros around it stay few.
    let pads = window.pads(height, width);
    let padded = (pads.top + height + pads.bottom)
        .checked_mul(pads.left + width + pads.right)?
        .checked_mul(channels)?;
    let sane = pads.top < down
        && pads.left < across
        && pads.bottom < down
        && pads.right < across
        && padded as u64 <= MAX_TENSOR_ELEMENTS;
    let outputs = pool.output_channels;
    let depthwise = conv.group == channels && channels == outputs && channels > 1;
    if !sane || !(conv.group == 1 || depthwise) {
        return None;
    }
    let weights = floats(model, kernel)?;
    let bias = match &*floats(model, bias)? {
        [one] => vec![*one; outputs],
        each => each.to_vec(),
    };
    let inputs = if depthwise { 1 } else { channels };
    if bias.len() != outputs || weights.len() != outputs * inputs * down * across {
        return None;
    }
    Some(if depthwise { Op::Depthwise { window, weights, bias } } else { Op::Conv { window, weights, bias } })
}

fn elementwise(model: &TypedModel, node: &TypedNode, binary: &TypedBinOp) -> Option<(Op, Vec<OutletId>)> {
    let [a, b] = *node.inputs else { return None };
    let shape = picture(model, OutletId::new(node.id, 0))?;
    let same = |outlet| picture(model, outlet).is_some_and(|of| of == shape);
    if binary.0.is::<Add>() {
        // A constant picture would have to become a value of its own; none of our graphs has one.
        let computed = |outlet| same(outlet) && constant(model, outlet).is_none();
        return (computed(a) && computed(b)).then(|| (Op::Add, vec![a, b]));
    }
    let raises = binary.0.is::<Max>();
    if !raises && !binary.0.is::<Min>() {
        return None;
    }
    [(a, b), (b, a)].into_iter().find_map(|(input, bound)| {
        let bound = floats(model, bound)?;
        let [bound] = *bound else { return None };
        let (low, high) = if raises { (bound, f32::INFINITY) } else { (f32::NEG_INFINITY, bound) };
        (same(input) && !bound.is_nan()).then(|| (Op::Clamp { low, high }, vec![input]))
    })
}

/// The shape of a computed or given picture: 32-bit floats, batch 1, four axes, none of them empty.
fn picture(model: &TypedModel, outlet: OutletId) -> Option<&[usize]> {
    let fact = model.outlet_fact(outlet).ok()?;
    let shape = fact.shape.as_concrete()?;
    (fact.datum_type == DatumType::F32 && shape.len() == 4 && shape[0] == 1 && !shape.contains(&0))
        .then_some(shape)
}

/// The numbers of a constant, widened to 32 bits where they are stored with 16.
fn floats(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    let tensor = constant(model, outlet)?;
    let wide = tensor.cast_to::<f32>().ok()?;
    Some(wide.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
}

/// The tensor behind `outlet`, seen through a cast to 32-bit floats.
fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    let fact = model.outlet_fact(outlet).ok()?;
    if let Some(tensor) = &fact.konst {
        return Some(tensor.clone());
    }
    let node = model.node(outlet.node);
    let cast = node.op_as::<Cast>()?;
    let stored = model.outlet_fact(*node.inputs.first()?).ok()?.konst.clone()?;
    let widens = cast.to == DatumType::F32 && matches!(stored.datum_type(), DatumType::F16 | DatumType::F32);
    widens.then_some(stored)
}
