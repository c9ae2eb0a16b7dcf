//! A part of a graph as a list of steps over a few reused buffers, and how the steps run.

use std::sync::{Mutex, PoisonError};

use super::layout::{Aligned, Layout, Pads};
use super::recipe::{Window, clamp};
use super::simd::{ConvRow, DepthwiseRow, Isa, conv_row, depthwise_row};

/// Weights of one block of output channels.
#[derive(Debug)]
pub(super) struct Block {
    /// The first channel.
    pub(super) first: usize,
    pub(super) weights: Aligned,
    pub(super) bias: Aligned,
}

#[derive(Debug)]
pub(super) enum Work {
    Conv { window: Window, runs: Vec<(usize, usize)>, blocks: Vec<Block>, rows_first: bool },
    Depthwise { window: Window, weights: Aligned, bias: Aligned },
    Add,
    Clamp,
    GlobalSum,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) work: Work,
    /// The value read.
    pub(super) input: usize,
    /// A value added before clamping.
    pub(super) residual: Option<usize>,
    pub(super) low: f32,
    pub(super) high: f32,
    /// The value written.
    pub(super) output: usize,
}

/// A compiled [`Recipe`].
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) isa: Isa,
    pub(super) steps: Vec<Step>,
    pub(super) layouts: Vec<Layout>,
    /// Which buffer holds each value; values fused away have none.
    pub(super) slots: Vec<Option<usize>>,
    pub(super) slot_lengths: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    /// Buffers that no thread uses now.
    pub(super) idle: Mutex<Vec<Vec<Aligned>>>,
}

impl Program {
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
                let residual = residual.zip(step.residual.map(|value| &self.layouts[value]));
                let conv = Conv { isa: self.isa, step, window, runs, source, reads, residual, writes };
                let rows = conv.rows();
                if *rows_first {
                    for y in 0..rows {
                        for block in blocks {
                            conv.run(block, &block.weights, y, &mut output);
                        }
                    }
                } else {
                    for (at, block) in blocks.iter().enumerate() {
                        let next = &blocks.get(at + 1).unwrap_or(block).weights;
                        for y in 0..rows {
                            let soon = &next[next.len() * y / rows..next.len() * (y + 1) / rows];
                            conv.run(block, soon, y, &mut output);
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
                        for (value, other) in target.iter_mut().zip(other) {
                            *value += other;
                        }
                    }
                    for value in target {
                        *value = clamp(*value, step.low, step.high);
                    }
                }
            }
            Work::GlobalSum => {
                let sums = &mut output[writes.inner(0)..][..writes.pitch];
                sums.fill(0.0);
                for y in 0..reads.height {
                    let row = &source[reads.inner(y)..][..reads.width * reads.pitch];
                    for pixel in row.chunks_exact(reads.pitch) {
                        for (sum, value) in sums.iter_mut().zip(pixel) {
                            *sum += value;
                        }
                    }
                }
                for sum in sums {
                    *sum = clamp(*sum, step.low, step.high);
                }
            }
        }
        slots[to] = output;
    }
}

/// Where the first window of output row `y` begins.
fn window_start(window: &Window, reads: &Layout, y: usize) -> usize {
    reads.at(reads.pads.top + y * window.stride.0 - window.before.0, reads.pads.left - window.before.1)
}

/// A convolution step with all it reads and writes.
struct Conv<'a> {
    isa: Isa,
    step: &'a Step,
    window: &'a Window,
    runs: &'a [(usize, usize)],
    source: &'a [f32],
    reads: &'a Layout,
    residual: Option<(&'a [f32], &'a Layout)>,
    writes: &'a Layout,
}

impl Conv<'_> {
    /// Whether the whole picture is one row: a 1 × 1 kernel over pictures without padding.
    fn is_flat(&self) -> bool {
        let none = Pads::default();
        self.window.kernel == (1, 1)
            && self.window.stride == (1, 1)
            && self.reads.pads == none
            && self.writes.pads == none
            && self.residual.is_none_or(|(_, layout)| layout.pads == none)
    }

    fn rows(&self) -> usize {
        if self.is_flat() { 1 } else { self.writes.height }
    }

    /// Row `y` of one block of channels; `soon` is fetched meanwhile.
    fn run(&self, block: &Block, soon: &[f32], y: usize, output: &mut [f32]) {
        let Self { step, window, runs, source, reads, writes, .. } = self;
        let pixels = if self.is_flat() { writes.height * writes.width } else { writes.width };
        let residual = self.residual.map(|(data, layout)| &data[layout.inner(y) + block.first..]);
        conv_row(
            self.isa,
            &mut ConvRow {
                input: &source[window_start(window, reads, y)..],
                step: window.stride.1 * reads.pitch,
                pixels,
                runs,
                weights: &block.weights,
                soon,
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
