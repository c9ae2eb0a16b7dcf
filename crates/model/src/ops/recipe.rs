//! What a part of a graph computes, before anything is decided about how.

use super::layout::Pads;

/// A convolution's window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    /// Height and width.
    pub(crate) kernel: (usize, usize),
    /// From one window to the next, down and across.
    pub(crate) stride: (usize, usize),
    /// Zeros before the picture, above and left.
    pub(crate) before: (usize, usize),
    /// Height and width of the output.
    pub(crate) output: (usize, usize),
}

impl Window {
    /// The zeros the input must carry so that every window lies within.
    pub(crate) fn pads(&self, height: usize, width: usize) -> Pads {
        let reach = |output: usize, stride: usize, kernel: usize| (output - 1) * stride + kernel;
        Pads {
            top: self.before.0,
            left: self.before.1,
            bottom: reach(self.output.0, self.stride.0, self.kernel.0).saturating_sub(self.before.0 + height),
            right: reach(self.output.1, self.stride.1, self.kernel.1).saturating_sub(self.before.1 + width),
        }
    }
}

/// What a node computes.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A convolution of all channels: weights `outputs × inputs × height × width`, a bias per output.
    Conv { window: Window, weights: Vec<f32>, bias: Vec<f32> },
    /// A convolution of each channel for itself: weights `channels × height × width`.
    Depthwise { window: Window, weights: Vec<f32>, bias: Vec<f32> },
    /// The sum of two pictures.
    Add,
    /// Numbers brought into a range.
    Clamp { low: f32, high: f32 },
    /// The sum of each channel.
    GlobalSum,
}

/// A node of a [`Recipe`]; it computes the value after the one of the node before.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    /// Values: 0 is the recipe's input, n what node n − 1 computes.
    pub(crate) inputs: Vec<usize>,
}

/// What is to be compiled. Every node reads earlier values only, of fitting shapes.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Channels, height and width of the input.
    pub(crate) input: (usize, usize, usize),
    pub(crate) nodes: Vec<Node>,
    /// The values that are asked for.
    pub(crate) outputs: Vec<usize>,
}

impl Recipe {
    /// Channels, height and width of each value.
    pub(crate) fn shapes(&self) -> Vec<(usize, usize, usize)> {
        let mut shapes = vec![self.input];
        for node in &self.nodes {
            let input = shapes[node.inputs[0]];
            shapes.push(match &node.op {
                Op::Conv { window, bias, .. } => (bias.len(), window.output.0, window.output.1),
                Op::Depthwise { window, .. } => (input.0, window.output.0, window.output.1),
                Op::Add | Op::Clamp { .. } => input,
                Op::GlobalSum => (input.0, 1, 1),
            });
        }
        shapes
    }
}

/// Keeps what is not a number, as the vector instructions do.
pub(super) fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}
