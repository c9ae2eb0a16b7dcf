//! From a recipe to a program: decides once what inference would otherwise decide each time. Which clamp
//! (ReLU6) and which residual addition ride along with a convolution, how much zero padding each picture
//! carries for those who read it, which buffers can be used again, in which order weights are read.

use std::sync::Mutex;

use super::layout::{Aligned, Layout, Pads};
use super::program::{Block, Program, Step, Work};
use super::recipe::{Op, Recipe, Window, clamp};
use super::simd::Isa;

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
/// takes all rows, while the next block is fetched.
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
        let slot = if let Some(best) = best {
            free.swap_remove(best)
        } else {
            lengths.push(0);
            lengths.len() - 1
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
