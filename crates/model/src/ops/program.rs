//! A part of a graph as a list of steps over a few reused buffers.
//!
//! Compiling decides once what inference would otherwise decide each time: which clamp (ReLU6) and which
//! residual addition ride along with a convolution, how much zero padding each picture carries for those
//! who read it, which buffers can be used again, and in which order weights are read.

use std::sync::{Mutex, PoisonError};

use super::layout::{Aligned, Layout, Pads};
use super::simd::{ConvRow, DepthwiseRow, Isa, conv_row, depthwise_row};

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

/// Weights of one block of output channels.
#[derive(Debug)]
struct Block {
    /// The first channel.
    first: usize,
    weights: Aligned,
    bias: Aligned,
}

#[derive(Debug)]
enum Work {
    Conv { window: Window, runs: Vec<(usize, usize)>, blocks: Vec<Block>, rows_first: bool },
    Depthwise { window: Window, weights: Aligned, bias: Aligned },
    Add,
    Clamp,
    GlobalSum,
}

#[derive(Debug)]
struct Step {
    work: Work,
    /// The value read.
    input: usize,
    /// A value added before clamping.
    residual: Option<usize>,
    low: f32,
    high: f32,
    /// The value written.
    output: usize,
}

/// A compiled [`Recipe`].
#[derive(Debug)]
pub(crate) struct Program {
    isa: Isa,
    steps: Vec<Step>,
    layouts: Vec<Layout>,
    /// Which buffer holds each value; values fused away have none.
    slots: Vec<Option<usize>>,
    slot_lengths: Vec<usize>,
    outputs: Vec<usize>,
    /// Buffers that no thread uses now.
    idle: Mutex<Vec<Vec<Aligned>>>,
}

/// A node on its way to become a [`Step`].
struct Draft<'a> {
    op: &'a Op,
    input: usize,
    residual: Option<usize>,
    low: f32,
    high: f32,
    output: usize,
}

impl Draft<'_> {
    fn is_clamped(&self) -> bool {
        self.low != f32::NEG_INFINITY || self.high != f32::INFINITY
    }
}

/// Weights up to this many bytes stay in the innermost caches while all rows pass by; with more, each block
/// takes all rows before the next block is fetched.
const ROWS_FIRST_BYTES: usize = 256 << 10;

impl Program {
    /// Compiles `recipe` for the instructions of `isa`.
    pub(crate) fn compile(recipe: &Recipe, isa: Isa) -> Self {
        let shapes = recipe.shapes();
        let drafts = fuse(recipe);
        let layouts = lay_out(&drafts, &shapes, isa.lanes());
        let (slots, slot_lengths) = assign(&drafts, &layouts, &recipe.outputs);
        let steps = drafts.into_iter().map(|draft| draft.finish(&layouts, isa)).collect();
        let outputs = recipe.outputs.clone();
        Self { isa, steps, layouts, slots, slot_lengths, outputs, idle: Mutex::default() }
    }

    /// How many numbers the output number `at` holds.
    pub(crate) fn output_len(&self, at: usize) -> usize {
        let layout = &self.layouts[self.outputs[at]];
        layout.channels * layout.height * layout.width
    }

    /// Runs all steps on `input`, channel after channel, and writes each output likewise.
    ///
    /// # Panics
    /// If the input or an output is not of the recipe's length.
    pub(crate) fn run(&self, input: &[f32], outputs: &mut [&mut [f32]]) {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut slots =
            waiting.unwrap_or_else(|| self.slot_lengths.iter().map(|len| Aligned::new(*len)).collect());
        if let Some(slot) = self.slots[0] {
            self.layouts[0].import(input, &mut slots[slot]);
        }
        for step in &self.steps {
            self.run_step(step, &mut slots);
        }
        for (value, output) in self.outputs.iter().zip(outputs) {
            if let Some(slot) = self.slots[*value] {
                self.layouts[*value].export(&slots[slot], output);
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(slots);
    }

    fn run_step(&self, step: &Step, slots: &mut [Aligned]) {
        let (Some(from), Some(to)) = (self.slots[step.input], self.slots[step.output]) else {
            return;
        };
        // Taken out so that it can be written while its neighbours are read; compiling keeps them apart.
        let mut output = std::mem::take(&mut slots[to]);
        let source = &slots[from];
        let residual = step.residual.and_then(|value| self.slots[value]).map(|slot| &*slots[slot]);
        let (reads, writes) = (&self.layouts[step.input], &self.layouts[step.output]);
        writes.clear_border(&mut output);
        match &step.work {
            Work::Conv { window, runs, blocks, rows_first } => {
                let conv =
                    Conv { step, window, runs, reads, writes, adds: step.residual.map(|v| &self.layouts[v]) };
                let rows = conv.rows();
                if *rows_first {
                    for y in 0..rows {
                        for block in blocks {
                            conv.run(self.isa, block, y, source, residual, &mut output);
                        }
                    }
                } else {
                    for block in blocks {
                        for y in 0..rows {
                            conv.run(self.isa, block, y, source, residual, &mut output);
                        }
                    }
                }
            }
            Work::Depthwise { window, weights, bias } => {
                for y in 0..writes.height {
                    let start = window_start(window, reads, y);
                    depthwise_row(
                        self.isa,
                        &mut DepthwiseRow {
                            input: &source[start..],
                            row: reads.row(),
                            pitch: reads.pitch,
                            kernel: window.kernel,
                            stride: window.stride.1,
                            pixels: writes.width,
                            weights,
                            bias,
                            output: &mut output[writes.inner(y)..],
                            low: step.low,
                            high: step.high,
                        },
                    );
                }
            }
            Work::Add | Work::Clamp => {
                let other = residual.zip(step.residual.map(|value| &self.layouts[value]));
                for y in 0..writes.height {
                    let len = writes.width * writes.pitch;
                    let target = &mut output[writes.inner(y)..][..len];
                    target.copy_from_slice(&source[reads.inner(y)..][..len]);
                    if let Some((other, layout)) = other {
                        let other = &other[layout.inner(y)..][..len];
                        target.iter_mut().zip(other).for_each(|(value, other)| *value += other);
                    }
                    target.iter_mut().for_each(|value| *value = clamp(*value, step.low, step.high));
                }
            }
            Work::GlobalSum => {
                let sums = &mut output[writes.inner(0)..][..writes.pitch];
                sums.fill(0.0);
                for y in 0..reads.height {
                    let row = &source[reads.inner(y)..][..reads.width * reads.pitch];
                    for pixel in row.chunks_exact(reads.pitch) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
                    }
                }
                sums.iter_mut().for_each(|sum| *sum = clamp(*sum, step.low, step.high));
            }
        }
        slots[to] = output;
    }
}

/// Keeps what is not a number, as the vector instructions do.
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// Where the first window of output row `y` begins.
fn window_start(window: &Window, reads: &Layout, y: usize) -> usize {
    reads.at(reads.pads.top + y * window.stride.0 - window.before.0, reads.pads.left - window.before.1)
}

/// A convolution step with all it reads and writes.
struct Conv<'a> {
    step: &'a Step,
    window: &'a Window,
    runs: &'a [(usize, usize)],
    reads: &'a Layout,
    writes: &'a Layout,
    adds: Option<&'a Layout>,
}

impl Conv<'_> {
    /// Whether the whole picture is one row: a 1 × 1 kernel over pictures without padding.
    fn is_flat(&self) -> bool {
        let none = Pads::default();
        self.window.kernel == (1, 1)
            && self.window.stride == (1, 1)
            && self.reads.pads == none
            && self.writes.pads == none
            && self.adds.is_none_or(|adds| adds.pads == none)
    }

    fn rows(&self) -> usize {
        if self.is_flat() { 1 } else { self.writes.height }
    }

    fn run(
        &self,
        isa: Isa,
        block: &Block,
        y: usize,
        source: &[f32],
        residual: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let Self { step, window, runs, reads, writes, .. } = self;
        let pixels = if self.is_flat() { writes.height * writes.width } else { writes.width };
        let residual = residual.zip(self.adds).map(|(data, layout)| &data[layout.inner(y) + block.first..]);
        conv_row(
            isa,
            &mut ConvRow {
                input: &source[window_start(window, reads, y)..],
                step: window.stride.1 * reads.pitch,
                pixels,
                runs,
                weights: &block.weights,
                bias: &block.bias,
                residual,
                output: &mut output[writes.inner(y) + block.first..],
                pitch: writes.pitch,
                low: step.low,
                high: step.high,
            },
        );
    }
}

/// Lets clamps and residual additions ride along with the node before, where nobody else reads its value.
fn fuse(recipe: &Recipe) -> Vec<Draft<'_>> {
    let mut uses = vec![0usize; recipe.nodes.len() + 1];
    for value in recipe.nodes.iter().flat_map(|node| &node.inputs).chain(&recipe.outputs) {
        uses[*value] += 1;
    }
    let mut drafts: Vec<Draft<'_>> = Vec::new();
    // Which draft computes a value.
    let mut makers: Vec<Option<usize>> = vec![None; uses.len()];
    for (at, node) in recipe.nodes.iter().enumerate() {
        let (output, input) = (at + 1, node.inputs[0]);
        let alone = |value: usize| makers[value].filter(|_| uses[value] == 1);
        let rider = match &node.op {
            Op::Clamp { .. } => alone(input),
            Op::Add => {
                [(input, node.inputs[1]), (node.inputs[1], input)].into_iter().find_map(|(conv, other)| {
                    let maker = alone(conv)?;
                    let draft = &drafts[maker];
                    let free = matches!(draft.op, Op::Conv { .. })
                        && draft.residual.is_none()
                        && !draft.is_clamped();
                    // The other picture must be there when the convolution runs.
                    (free && conv != other && makers[other].is_none_or(|other| other < maker))
                        .then_some(maker)
                })
            }
            _ => None,
        };
        let (low, high) = match node.op {
            Op::Clamp { low, high } => (low, high),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        if let Some(maker) = rider {
            let draft = &mut drafts[maker];
            if matches!(node.op, Op::Add) {
                draft.residual = node.inputs.iter().copied().find(|value| *value != draft.output);
            } else {
                // A clamp after a clamp, as ReLU6 written as max and min, is one clamp.
                (draft.low, draft.high) = (clamp(draft.low, low, high), clamp(draft.high, low, high));
            }
            draft.output = output;
            makers[output] = Some(maker);
        } else {
            makers[output] = Some(drafts.len());
            drafts.push(Draft {
                op: &node.op,
                input,
                residual: node.inputs.get(1).copied(),
                low,
                high,
                output,
            });
        }
    }
    drafts
}

/// How each value lies in memory: padded for all who read it.
fn lay_out(drafts: &[Draft<'_>], shapes: &[(usize, usize, usize)], lanes: usize) -> Vec<Layout> {
    let mut layouts: Vec<Layout> = shapes
        .iter()
        .map(|&(channels, height, width)| {
            let pitch = channels.next_multiple_of(lanes);
            Layout { channels, height, width, pads: Pads::default(), pitch }
        })
        .collect();
    for draft in drafts {
        if let Op::Conv { window, .. } | Op::Depthwise { window, .. } = draft.op {
            let input = &mut layouts[draft.input];
            input.pads = input.pads.max(window.pads(input.height, input.width));
        }
    }
    // An input of few channels that only convolutions read lies dense: a kernel's row is then one run.
    let dense = drafts
        .iter()
        .all(|draft| (draft.input != 0 || matches!(draft.op, Op::Conv { .. })) && draft.residual != Some(0));
    if dense {
        layouts[0].pitch = layouts[0].channels;
    }
    layouts
}

/// Gives each value a buffer; a buffer is used again when its value has been read for the last time.
fn assign(drafts: &[Draft<'_>], layouts: &[Layout], outputs: &[usize]) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut last_use = vec![0usize; layouts.len()];
    for (at, draft) in drafts.iter().enumerate() {
        for value in std::iter::once(draft.input).chain(draft.residual) {
            last_use[value] = at;
        }
    }
    for value in outputs {
        last_use[*value] = usize::MAX;
    }
    let mut slots: Vec<Option<usize>> = vec![None; layouts.len()];
    let mut lengths = vec![layouts[0].len()];
    let mut free: Vec<usize> = Vec::new();
    slots[0] = Some(0);
    for (at, draft) in drafts.iter().enumerate() {
        let needed = layouts[draft.output].len();
        // The free buffer that has to grow least, or wastes least.
        let best = (0..free.len()).min_by_key(|slot| lengths[free[*slot]].abs_diff(needed));
        let slot = match best {
            Some(best) => free.swap_remove(best),
            None => {
                lengths.push(0);
                lengths.len() - 1
            }
        };
        lengths[slot] = lengths[slot].max(needed);
        slots[draft.output] = Some(slot);
        let mut read: Vec<usize> = std::iter::once(draft.input).chain(draft.residual).collect();
        read.dedup();
        free.extend(read.into_iter().filter(|value| last_use[*value] == at).filter_map(|value| slots[value]));
        if last_use[draft.output] == 0 && !outputs.contains(&draft.output) {
            // Nobody reads it.
            free.push(slot);
        }
    }
    (slots, lengths)
}

impl Draft<'_> {
    fn finish(self, layouts: &[Layout], isa: Isa) -> Step {
        let (reads, writes) = (&layouts[self.input], &layouts[self.output]);
        let work = match self.op {
            Op::Conv { window, weights, bias } => {
                let (height, width) = window.kernel;
                let dense = reads.pitch == reads.channels;
                let runs: Vec<(usize, usize)> = if dense {
                    (0..height).map(|y| (reads.at(y, 0), width * reads.channels)).collect()
                } else {
                    let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
                    places.map(|(y, x)| (reads.at(y, x), reads.channels)).collect()
                };
                let blocks = blocks(weights, bias, reads.channels, *window, isa);
                let rows_first = weights.len() * size_of::<f32>() <= ROWS_FIRST_BYTES;
                Work::Conv { window: *window, runs, blocks, rows_first }
            }
            Op::Depthwise { window, weights, bias } => {
                let positions = window.kernel.0 * window.kernel.1;
                let mut spread = Aligned::new(positions * writes.pitch);
                for (channel, kernel) in weights.chunks_exact(positions).enumerate() {
                    for (position, weight) in kernel.iter().enumerate() {
                        spread[position * writes.pitch + channel] = *weight;
                    }
                }
                let mut padded = Aligned::new(writes.pitch);
                padded[..bias.len()].copy_from_slice(bias);
                Work::Depthwise { window: *window, weights: spread, bias: padded }
            }
            Op::Add => Work::Add,
            Op::Clamp { .. } => Work::Clamp,
            Op::GlobalSum => Work::GlobalSum,
        };
        let Self { input, residual, low, high, output, .. } = self;
        Step { work, input, residual, low, high, output }
    }
}

/// Cuts a convolution's output channels into blocks of whole vectors, as even as can be, and orders each
/// block's weights as the inner loop reads them.
fn blocks(weights: &[f32], bias: &[f32], inputs: usize, window: Window, isa: Isa) -> Vec<Block> {
    let (lanes, outputs) = (isa.lanes(), bias.len());
    let positions = window.kernel.0 * window.kernel.1;
    let vectors = outputs.div_ceil(lanes);
    let count = vectors.div_ceil(isa.block());
    (0..count)
        .map(|at| {
            let first = vectors * at / count * lanes;
            let size = vectors * (at + 1) / count * lanes - first;
            let channels = first..(first + size).min(outputs);
            let mut block =
                Block { first, weights: Aligned::new(positions * inputs * size), bias: Aligned::new(size) };
            block.bias[..channels.len()].copy_from_slice(&bias[channels.clone()]);
            for (lane, output) in channels.enumerate() {
                for input in 0..inputs {
                    for position in 0..positions {
                        block.weights[(position * inputs + input) * size + lane] =
                            weights[(output * inputs + input) * positions + position];
                    }
                }
            }
            block
        })
        .collect()
}
