//! Graphs that are damaged, misnamed or made to do harm: each is refused with words for it.
#![expect(clippy::expect_used, reason = "a test helper fails as a test does")]

mod graphs;

use std::error::Error as _;

use graphs::{SIZE, bytes, classifier, int, ints, node, tensor, value};
use mynah_contracts::{Diagnosis as _, FaultKind};
use mynah_model::{GraphError, MAX_MODEL_BYTES, ModelError, Network, Operators};
use proptest::prelude::*;
use tract_onnx::pb::{self, GraphProto, StringStringEntryProto, tensor_proto::DataLocation};

fn load(bytes: &[u8]) -> Result<Network, ModelError> {
    Network::from_onnx(bytes, "input", "scores", SIZE)
}

/// What a graph is refused for; it must be bad input with a hint.
fn refusal(graph: GraphProto) -> GraphError {
    refusal_of(&bytes(graph))
}

fn refusal_of(bytes: &[u8]) -> GraphError {
    let error = load(bytes).expect_err("must be refused");
    assert_eq!(error.kind(), FaultKind::BadInput);
    assert!(error.hint().is_some());
    assert!(error.source().is_some());
    match error {
        ModelError::Graph(error) => error,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_sound_graph_runs_and_both_kinds_of_operators_agree() {
    let (fused, bytes) = (load(&bytes(classifier())).unwrap(), bytes(classifier()));
    let plain = Network::with_operators(&bytes, "input", "scores", SIZE, Operators::Plain).unwrap();
    let input: Vec<f32> = (0..3 * SIZE * SIZE).map(|at| (at as f32 * 0.7).sin()).collect();
    let (ours, theirs) = (fused.run(&input).unwrap(), plain.run(&input).unwrap());
    assert_eq!(ours.len(), 3);
    assert!((ours.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} {theirs:?}");
}

#[test]
fn input_of_another_length_or_without_numbers_is_told() {
    let network = load(&bytes(classifier())).unwrap();
    let error = network.run(&[0.0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "the network takes 192 input values, it was given 5");
    let error = network.run(&[f32::NAN; 192]).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { index: 0, .. }), "{error:?}");
    assert!(network.run(&[0.5; 192]).is_ok(), "a failed run leaves the network usable");
}

#[test]
fn what_is_not_onnx_is_refused() {
    assert!(matches!(refusal_of(b""), GraphError::Empty));
    assert!(matches!(refusal_of(b"\x89PNG\r\n\x1a\n not a model"), GraphError::NotOnnx(_)));
    let whole = bytes(classifier());
    for len in 1..whole.len() {
        refusal_of(&whole[..len]);
    }
    let huge = vec![0; usize::try_from(MAX_MODEL_BYTES).unwrap() + 1];
    assert!(matches!(refusal_of(&huge), GraphError::TooLarge { .. }));
}

#[test]
fn names_that_are_not_there_are_told_with_those_that_are() {
    let whole = bytes(classifier());
    let error = Network::from_onnx(&whole, "image", "scores", SIZE).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the graph has no input `image`, it has `input`");
    for name in ["", "probabilities", "input", "weight"] {
        let error = Network::from_onnx(&whole, "input", name, SIZE).unwrap_err();
        assert!(matches!(error, ModelError::Graph(GraphError::NoOutput { .. })), "{name}: {error:?}");
    }
    let mut graph = classifier();
    graph.input.push(value("mask", &[1]));
    assert_eq!(refusal(graph).to_string(), "the graph also needs the inputs `mask`");
}

#[test]
fn an_inner_tensor_can_be_the_output() {
    assert_eq!(Network::from_onnx(&bytes(classifier()), "input", "flat", SIZE).unwrap().output_len(), 3);
}

#[test]
fn shapes_that_do_not_fit_are_told() {
    let error = Network::from_onnx(&bytes(classifier()), "input", "scores", 9).unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "the input `input` has the shape 1 × 3 × 8 × 8, expected is 1 × 3 × 9 × 9"
    );
    let error = Network::from_onnx(&bytes(classifier()), "input", "means", SIZE).unwrap_err();
    assert!(matches!(error, ModelError::Graph(GraphError::OutputShape { .. })), "{error:?}");
    let mut graph = classifier();
    graph.input = vec![value("input", &[-1, 3, -1, 8])];
    assert!(load(&bytes(graph)).is_ok(), "an open batch and an open side are fixed");
}

#[test]
fn other_files_are_never_opened() {
    let mut graph = classifier();
    let weight = graph.initializer.last_mut().unwrap();
    weight.raw_data.clear();
    weight.data_location = Some(DataLocation::External as i32);
    let location = StringStringEntryProto { key: "location".into(), value: "/etc/passwd".into() };
    weight.external_data = vec![location];
    assert!(matches!(refusal(graph), GraphError::ExternalData { tensor } if tensor == "weight"));
}

#[test]
fn tensors_that_claim_more_than_there_is_are_refused() {
    let cases: [(&[i64], usize); 6] =
        [(&[3, 4], 9), (&[3, -3], 9), (&[i64::MAX, 2], 9), (&[3, 3], 8), (&[0, 3], 9), (&[3, 3], 10)];
    for (dims, count) in cases {
        let mut graph = classifier();
        *graph.initializer.last_mut().unwrap() = tensor("weight", dims, &vec![1.0; count]);
        let error = refusal(graph);
        assert!(
            matches!(error, GraphError::TensorData { .. } | GraphError::HugeTensor { .. }),
            "{dims:?}: {error:?}"
        );
    }
    let mut graph = classifier();
    *graph.initializer.last_mut().unwrap() = tensor("weight", &[1 << 20, 1 << 20], &[1.0]);
    assert!(matches!(refusal(graph), GraphError::HugeTensor { .. }));
    // The same inside a node.
    let mut graph = classifier();
    let t = Some(tensor("", &[1000, 1000], &[1.0]));
    let attribute = pb::AttributeProto { name: "value".into(), t, ..pb::AttributeProto::default() };
    graph.node.push(node("Constant", &[], "unused", vec![attribute]));
    assert!(matches!(refusal(graph), GraphError::TensorData { .. }));
}

#[test]
fn pictures_that_would_grow_without_bound_are_refused() {
    let mut graph = classifier();
    graph.node[2].attribute[1] = ints("pads", &[50_000, 50_000, 50_000, 50_000]);
    assert!(matches!(refusal(graph), GraphError::HugeTensor { .. }));
    // 64 million additions of a column and a row would be 16 TB.
    let mut graph = classifier();
    let long = vec![1.0; 1 << 20];
    graph.initializer.push(tensor("column", &[1 << 20, 1], &long));
    graph.initializer.push(tensor("row", &[1, 1 << 20], &long));
    graph.node[5] = node("MatMul", &["flat", "wide"], "logits", vec![]);
    graph.node.insert(0, node("Add", &["column", "row"], "wide", vec![]));
    refusal(graph);
}

#[test]
fn operators_that_let_a_few_bytes_ask_for_much_are_refused() {
    for operator in ["Loop", "If", "ConstantOfShape", "RandomNormal", "Tile"] {
        let mut graph = classifier();
        graph.node.push(node(operator, &["flat"], "more", vec![]));
        assert!(matches!(refusal(graph), GraphError::Operator { .. }), "{operator}");
    }
    let mut graph = classifier();
    graph.node[3] = node("NoSuchOperator", &["spreaded"], "means", vec![]);
    refusal(graph);
}

#[test]
fn wires_that_lead_nowhere_or_in_a_circle_are_refused() {
    let mut graph = classifier();
    graph.node[1].input[0] = "nowhere".into();
    refusal(graph);
    let mut graph = classifier();
    graph.node[0].input[0] = "spreaded".into();
    refusal(graph);
    let mut graph = classifier();
    graph.node[2].attribute = vec![ints("kernel_shape", &[3, 3]), int("group", 0)];
    refusal(graph);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    /// Whatever a few flipped bytes do to a sound graph, it is run or refused, and nothing panics.
    #[test]
    fn a_damaged_graph_never_takes_the_process_along(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut damaged = bytes(classifier());
        for (at, byte) in flips {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if let Ok(network) = load(&damaged) {
            let _ = network.run(&vec![0.5; 3 * (SIZE * SIZE) as usize]);
        }
    }

    #[test]
    fn random_bytes_never_take_the_process_along(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(load(&noise).is_err());
    }
}
