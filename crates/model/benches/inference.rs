//! One inference of the backbone and its loading, with our operators and with the engine's own:
//! `cargo bench --package mynah-model`.

use divan::Bencher;
use mynah_model::{Network, Operators};

const SIZE: u32 = 224;
const OPERATORS: [Operators; 2] = [Operators::Fused, Operators::Plain];

fn main() {
    divan::main();
}

fn load(operators: Operators) -> Network {
    let bytes = include_bytes!("../../../models/efficientnet-lite0-224.onnx");
    Network::with_operators(bytes, "input", "embedding", SIZE, operators)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[divan::bench(args = OPERATORS)]
fn one_inference(bencher: Bencher<'_, '_>, operators: Operators) {
    let network = load(operators);
    let input: Vec<f32> = (0..3 * SIZE * SIZE).map(|at| (at as f32 * 0.37).sin()).collect();
    bencher.bench(|| network.run(divan::black_box(&input)));
}

#[divan::bench(args = OPERATORS, sample_count = 10)]
fn loading(operators: Operators) -> Network {
    load(operators)
}
