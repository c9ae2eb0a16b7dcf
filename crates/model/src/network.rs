//! An ONNX graph made ready to run, one image at a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::{
    DatumType, Framework as _, InferenceModel, InferenceModelExt as _, IntoRunnable, Tensor, TypedModel,
    TypedRunnableModel, TypedSimpleState, tvec,
};

use crate::graph::{self, GraphError, MAX_TENSOR_ELEMENTS};
use crate::{ModelError, guard, ops};

/// A network that takes one image and gives one row of numbers. Clones share everything.
///
/// One inference runs on one thread; call [`Network::run`] from as many threads as there are cores.
/// On one machine the same input gives the same bits, whichever thread runs it. Another processor may
/// differ in the last bits, since it adds in another order.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

/// Whose operators run a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Operators {
    /// Ours where they can run a part of the graph, the engine's for the rest.
    #[default]
    Fused,
    /// The engine's throughout: slower, and the reference that ours are tested against.
    Plain,
}

struct Shared {
    plan: Arc<TypedRunnableModel>,
    /// States that no thread uses now: a state keeps its tables from one inference to the next.
    idle: Mutex<Vec<TypedSimpleState>>,
    size: usize,
    output_len: usize,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { size, output_len, .. } = &*self.shared;
        write!(f, "Network(3 × {size} × {size} → {output_len})")
    }
}

impl Network {
    /// Makes the graph in `bytes` ready: from its input `input`, 1 × 3 × `size` × `size`, to its tensor
    /// `output`, 1 × N.
    ///
    /// The graph is checked before memory is spent on it, and run once on zeros, so that what cannot run
    /// fails here. Other files are never opened.
    ///
    /// # Errors
    /// [`ModelError::Graph`] says what is wrong with the graph.
    pub fn from_onnx(bytes: &[u8], input: &str, output: &str, size: u32) -> Result<Self, ModelError> {
        Self::with_operators(bytes, input, output, size, Operators::Fused)
    }

    /// As [`Network::from_onnx`], with the operators chosen by the caller.
    ///
    /// # Errors
    /// As [`Network::from_onnx`].
    pub fn with_operators(
        bytes: &[u8],
        input: &str,
        output: &str,
        size: u32,
        operators: Operators,
    ) -> Result<Self, ModelError> {
        let load = || -> Result<Self, GraphError> {
            let mut model = typed(bytes, input, output, size)?;
            if operators == Operators::Fused {
                model = ops::rewrite(model).map_err(engine)?;
            }
            let network = Self::new(model, output, size)?;
            network
                .infer(&vec![0.0; network.input_len()])
                .map_err(|error| GraphError::Engine(error.into()))?;
            Ok(network)
        };
        Ok(guard::catch(load).map_err(GraphError::Panic)??)
    }

    fn new(model: TypedModel, output: &str, size: u32) -> Result<Self, GraphError> {
        let fact = model.output_fact(0).map_err(engine)?;
        let output_len = match fact.shape.as_concrete() {
            Some(&[1, len]) if fact.datum_type == DatumType::F32 => len,
            _ => return Err(GraphError::OutputShape { name: output.into(), found: format!("{fact:?}") }),
        };
        let plan = model.into_optimized().and_then(IntoRunnable::into_runnable).map_err(engine)?;
        let shared = Shared { plan, idle: Mutex::default(), size: size as usize, output_len };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many numbers [`Network::run`] gives.
    pub fn output_len(&self) -> usize {
        self.shared.output_len
    }

    fn input_len(&self) -> usize {
        3 * self.shared.size * self.shared.size
    }

    /// The network's output for `input`, 3 × size × size numbers as [`crate::input_values`] makes them.
    ///
    /// # Errors
    /// Where `input` has another length, the engine fails, or the output is not finite.
    pub fn run(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        if input.len() != self.input_len() {
            return Err(ModelError::InputLength { expected: self.input_len(), found: input.len() });
        }
        let output = self.infer(input).map_err(|error| ModelError::Inference(error.into()))?;
        match output.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { index, value: output[index] }),
            None => Ok(output),
        }
    }

    fn infer(&self, input: &[f32]) -> Result<Vec<f32>, tract_onnx::prelude::TractError> {
        let Shared { plan, idle, size, .. } = &*self.shared;
        // A list of idle states is sound whatever its last holder did: a state that failed is not put back.
        let mut list = idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = list.pop();
        drop(list);
        let mut state = match waiting {
            Some(state) => state,
            None => plan.spawn()?,
        };
        let tensor = Tensor::from_shape(&[1, 3, *size, *size], input)?;
        let outputs = state.run(tvec![tensor.into()])?;
        let output = outputs
            .first()
            .ok_or_else(|| tract_onnx::prelude::TractError::msg("the plan has no output"))?
            .try_as_plain_ram()?
            .as_slice::<f32>()?
            .to_vec();
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        Ok(output)
    }
}

fn engine(error: tract_onnx::prelude::TractError) -> GraphError {
    GraphError::Engine(error.into())
}

/// The graph with all types and shapes known.
fn typed(bytes: &[u8], input: &str, output: &str, size: u32) -> Result<TypedModel, GraphError> {
    let proto = graph::parse(bytes, input, output, size)?;
    let model: InferenceModel = tract_onnx::onnx().model_for_proto_model(&proto).map_err(engine)?;
    drop(proto);
    let model = model.into_typed().map_err(engine)?;
    for node in model.nodes() {
        for outlet in &node.outputs {
            let shape = &outlet.fact.shape;
            let elements = shape.as_concrete().and_then(|shape| {
                shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64))
            });
            if elements.is_none_or(|elements| elements > MAX_TENSOR_ELEMENTS) {
                return Err(GraphError::HugeTensor {
                    tensor: node.name.clone(),
                    shape: format!("{shape:?}"),
                });
            }
        }
    }
    Ok(model)
}
