//! The backbone in the repository: our operators against the engine's own.
#![expect(clippy::unwrap_used, reason = "a test helper fails as a test does")]

use std::path::Path;

use mynah_model::{Network, Operators};

fn backbone() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-224.onnx");
    std::fs::read(path).unwrap()
}

fn load(bytes: &[u8], operators: Operators) -> Network {
    Network::with_operators(bytes, "input", "embedding", 224, operators).unwrap()
}

/// Something with edges, gradients and colour, in the range of a normalised photo.
fn picture(seed: usize) -> Vec<f32> {
    let at = |i: usize| {
        let (channel, y, x) = (i / (224 * 224), i / 224 % 224, i % 224);
        let wave = ((x * (seed + 3) + y * 5) as f32 * 0.05 + channel as f32).sin();
        let edge = if (x / 16 + y / (8 + seed)).is_multiple_of(2) { 0.4 } else { -0.4 };
        (wave * 0.5 + edge).clamp(-1.0, 1.0)
    };
    (0..3 * 224 * 224).map(at).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn our_operators_and_the_engines_agree_and_threads_change_nothing() {
    let bytes = backbone();
    let (fused, plain) = (load(&bytes, Operators::Fused), load(&bytes, Operators::Plain));
    assert_eq!((fused.output_len(), plain.output_len()), (1280, 1280));
    let pictures: Vec<_> = (0..3).map(picture).collect();
    let alone: Vec<_> = pictures.iter().map(|picture| fused.run(picture).unwrap()).collect();
    for (picture, ours) in pictures.iter().zip(&alone) {
        let theirs = plain.run(picture).unwrap();
        let largest = theirs.iter().copied().fold(0.0, f32::max);
        assert!(largest > 0.5, "an embedding of nothing but small numbers shows nothing");
        let difference = largest_difference(ours, &theirs);
        assert!(difference <= 1e-5 * largest, "differ by {difference}, the largest is {largest}");
    }
    assert!(largest_difference(&alone[0], &alone[1]) > 0.1, "the pictures must not look alike");

    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| pictures.iter().map(|picture| fused.run(picture).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone, "the same bits, whatever runs beside");
        }
    });
}
