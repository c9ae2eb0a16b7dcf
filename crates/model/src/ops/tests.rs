//! Programs against the definition of what they compute, one sum at a time.

use proptest::prelude::*;

use super::program::Program;
use super::recipe::{Node, Op, Recipe, Window};
use super::simd::Isa;

/// A picture, channel after channel.
type Picture = Vec<f64>;
type Shape = (usize, usize, usize);

/// A convolution as its definition says, in 64 bits.
fn convolved(input: &Picture, shape: Shape, op: &Op) -> Picture {
    let (Op::Conv { window, weights, bias } | Op::Depthwise { window, weights, bias }) = op else { panic!() };
    let (channels, height, width) = shape;
    let (down, across) = window.kernel;
    let each_for_itself = matches!(op, Op::Depthwise { .. });
    let mut output = Vec::new();
    for (to, bias) in bias.iter().enumerate() {
        let sources = if each_for_itself { to..to + 1 } else { 0..channels };
        for (y, x) in places(window.output) {
            let mut sum = f64::from(*bias);
            for (nth, from) in sources.clone().enumerate() {
                for (ky, kx) in places(window.kernel) {
                    let row =
                        (y * window.stride.0 + ky).checked_sub(window.before.0).filter(|row| *row < height);
                    let column =
                        (x * window.stride.1 + kx).checked_sub(window.before.1).filter(|at| *at < width);
                    if let (Some(row), Some(column)) = (row, column) {
                        let weight = weights[((to * sources.len() + nth) * down + ky) * across + kx];
                        sum += input[(from * height + row) * width + column] * f64::from(weight);
                    }
                }
            }
            output.push(sum);
        }
    }
    output
}

fn places((rows, columns): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)))
}

/// Every value of the recipe, as the definitions say.
fn expected(recipe: &Recipe, input: &[f32]) -> Vec<Picture> {
    let shapes = recipe.shapes();
    let mut values: Vec<Picture> = vec![input.iter().map(|value| f64::from(*value)).collect()];
    for node in &recipe.nodes {
        let (input, shape) = (&values[node.inputs[0]], shapes[node.inputs[0]]);
        values.push(match &node.op {
            Op::Conv { .. } | Op::Depthwise { .. } => convolved(input, shape, &node.op),
            Op::Add => input.iter().zip(&values[node.inputs[1]]).map(|(a, b)| a + b).collect(),
            Op::Clamp { low, high } => {
                input.iter().map(|value| value.clamp(f64::from(*low), f64::from(*high))).collect()
            }
            Op::GlobalSum => input.chunks(shape.1 * shape.2).map(|plane| plane.iter().sum()).collect(),
        });
    }
    values
}

/// Runs the recipe twice on every kind of instructions this machine has (the second time in used buffers)
/// and compares each output with the definition.
fn check(recipe: &Recipe, input: &[f32]) -> Result<(), TestCaseError> {
    let expected = expected(recipe, input);
    for isa in Isa::all() {
        let program = Program::compile(recipe, isa);
        for round in 0..2 {
            let mut outputs: Vec<Vec<f32>> =
                recipe.outputs.iter().map(|value| vec![f32::NAN; expected[*value].len()]).collect();
            program.run(input, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            for (value, output) in recipe.outputs.iter().zip(&outputs) {
                for (at, (got, expected)) in output.iter().zip(&expected[*value]).enumerate() {
                    let off = (f64::from(*got) - expected).abs();
                    prop_assert!(
                        off <= 1e-4 * expected.abs().max(1.0),
                        "{isa:?}, round {round}, value {value}, number {at}: {got} for {expected}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Numbers between −1 and 1 that look random and are the same each time.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A window over a picture of this size, with as many zeros before and after as the numbers say.
fn window(
    size: (usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
    pads: [usize; 4],
) -> Option<Window> {
    let before = (pads[0] % kernel.0, pads[1] % kernel.1);
    let after = (pads[2] % kernel.0, pads[3] % kernel.1);
    let count = |size: usize, before: usize, after: usize, kernel: usize, stride: usize| {
        Some((size + before + after).checked_sub(kernel)? / stride + 1)
    };
    let down = count(size.0, before.0, after.0, kernel.0, stride.0)?;
    let across = count(size.1, before.1, after.1, kernel.1, stride.1)?;
    Some(Window { kernel, stride, before, output: (down, across) })
}

fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = (usize, usize)> {
    (range.clone(), range)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_convolution_is_what_its_definition_says(
        channels in 1usize..=20,
        outputs in 1usize..=70,
        size in pair(1..=19),
        kernel in pair(1..=5),
        stride in pair(1..=3),
        pads in prop::array::uniform4(0usize..5),
        depthwise: bool,
        seed: u64,
    ) {
        let outputs = if depthwise { channels } else { outputs };
        let Some(window) = window(size, kernel, stride, pads) else { return Ok(()) };
        let inputs = if depthwise { 1 } else { channels };
        let weights = numbers(outputs * inputs * kernel.0 * kernel.1, seed);
        let bias = numbers(outputs, seed ^ 1);
        let op = if depthwise {
            Op::Depthwise { window, weights, bias }
        } else {
            Op::Conv { window, weights, bias }
        };
        let nodes = vec![Node { op, inputs: vec![0] }, Node { op: Op::Clamp { low: -1.5, high: 2.0 }, inputs: vec![1] }];
        let recipe = Recipe { input: (channels, size.0, size.1), nodes, outputs: vec![2] };
        check(&recipe, &numbers(channels * size.0 * size.1, seed ^ 2))?;
    }

    /// The kernels and strides that have loops of their own, over rows that need several tiles.
    #[test]
    fn the_common_depthwise_kernels_agree_too(
        channels in 1usize..=40,
        size in pair(5..=23),
        side in prop_oneof![Just(3usize), Just(5)],
        stride in 1usize..=2,
        seed: u64,
    ) {
        let Some(window) = window(size, (side, side), (stride, stride), [side / 2; 4]) else { return Ok(()) };
        let (weights, bias) = (numbers(channels * side * side, seed), numbers(channels, seed ^ 1));
        let nodes = vec![Node { op: Op::Depthwise { window, weights, bias }, inputs: vec![0] }];
        let recipe = Recipe { input: (channels, size.0, size.1), nodes, outputs: vec![1] };
        check(&recipe, &numbers(channels * size.0 * size.1, seed ^ 2))?;
    }

    /// Graphs of random wiring: clamps and additions that may ride along and some that may not, values read
    /// more than once, outputs in the middle, buffers used again.
    #[test]
    fn any_wiring_computes_its_values(
        channels in 1usize..=18,
        size in pair(1..=9),
        picks in prop::collection::vec((0u8..6, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        asked in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        seed: u64,
    ) {
        let mut nodes: Vec<Node> = Vec::new();
        for (at, (kind, a, b)) in picks.iter().enumerate() {
            let (a, b) = (a.index(at + 1), b.index(at + 1));
            let seed = seed.wrapping_add(at as u64);
            // All keep the shape, so that any value can be added to any other.
            let conv = |side: usize, inputs: usize| {
                let window = window(size, (side, side), (1, 1), [side / 2; 4])?;
                let scale = 1.0 / (inputs * side * side) as f32;
                let weights = numbers(channels * inputs * side * side, seed).into_iter();
                Some((window, weights.map(|weight| weight * scale).collect(), numbers(channels, seed ^ 1)))
            };
            let (op, inputs) = match kind {
                0 | 1 => {
                    let Some((window, weights, bias)) = conv(if *kind == 0 { 1 } else { 3 }, channels) else { return Ok(()) };
                    (Op::Conv { window, weights, bias }, vec![a])
                }
                2 => {
                    let Some((window, weights, bias)) = conv(3, 1) else { return Ok(()) };
                    (Op::Depthwise { window, weights, bias }, vec![a])
                }
                3 => (Op::Clamp { low: 0.0, high: f32::INFINITY }, vec![a]),
                4 => (Op::Clamp { low: f32::NEG_INFINITY, high: 0.5 }, vec![a]),
                _ => (Op::Add, vec![a, b]),
            };
            nodes.push(Node { op, inputs });
        }
        nodes.push(Node { op: Op::GlobalSum, inputs: vec![nodes.len()] });
        let outputs = asked.iter().map(|index| index.index(nodes.len()) + 1).chain([nodes.len()]).collect();
        let recipe = Recipe { input: (channels, size.0, size.1), nodes, outputs };
        check(&recipe, &numbers(channels * size.0 * size.1, seed ^ 2))?;
    }
}

#[test]
fn what_is_not_a_number_is_not_clamped_away() {
    let window = Window { kernel: (1, 1), stride: (1, 1), before: (0, 0), output: (1, 1) };
    let nodes = vec![
        Node { op: Op::Conv { window, weights: vec![1.0], bias: vec![0.0] }, inputs: vec![0] },
        Node { op: Op::Clamp { low: 0.0, high: 6.0 }, inputs: vec![1] },
        Node { op: Op::Depthwise { window, weights: vec![1.0], bias: vec![0.0] }, inputs: vec![2] },
        Node { op: Op::Clamp { low: 0.0, high: 6.0 }, inputs: vec![3] },
    ];
    let recipe = Recipe { input: (1, 1, 1), nodes, outputs: vec![4] };
    for isa in Isa::all() {
        let mut output = [0.0];
        Program::compile(&recipe, isa).run(&[f32::NAN], &mut [&mut output]);
        assert!(output[0].is_nan(), "{isa:?} gives {}", output[0]);
    }
}
