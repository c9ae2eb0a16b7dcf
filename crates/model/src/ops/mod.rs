//! Better operators for the graphs we run: parts of a network that are plain convolutional, as mobile
//! classifiers are nearly throughout, become one operator of our own.
//!
//! | file | what it holds |
//! |---|---|
//! | `rewrite` | finds such parts in tract's graph and puts [`Fused`] in their place |
//! | `recipe` | what a part computes |
//! | `compile` | from a recipe to a program |
//! | `program` | steps over reused buffers, and how they run |
//! | `layout` | how a picture lies in memory |
//! | `simd` | the two inner loops, per processor |
//!
//! What is not recognised stays as tract made it, node by node: the rewrite can make a network faster,
//! never less general.

mod compile;
mod layout;
mod program;
mod recipe;
mod rewrite;
mod simd;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tract_onnx::tract_core::internal::{
    DatumExt as _, EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TractResult, TypedFact,
    TypedOp, Validation, as_op, bail, op_as_typed_op, op_out_of_plan,
};

use self::program::Program;
pub(crate) use self::rewrite::rewrite;

/// Part of a network, as one operator: one picture in, one or more pictures out, channel after channel.
#[derive(Clone, Debug)]
struct Fused {
    program: Arc<Program>,
    /// The shape of each output.
    shapes: Vec<[usize; 4]>,
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program)
    }
}

impl Eq for Fused {}

impl Op for Fused {
    fn name(&self) -> StaticName {
        "Fused".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [input] = &*inputs else { bail!("a fused part takes one input, not {}", inputs.len()) };
        let mut outputs = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            outputs.push(Tensor::zero::<f32>(shape)?);
        }
        let mut views =
            outputs.iter_mut().map(Tensor::try_as_plain_ram_mut).collect::<TractResult<Vec<_>>>()?;
        let mut slices =
            views.iter_mut().map(|view| view.as_slice_mut::<f32>()).collect::<TractResult<Vec<_>>>()?;
        self.program.run(input.try_as_plain_ram()?.as_slice::<f32>()?, &mut slices);
        drop(views);
        Ok(outputs.into_iter().map(TValue::from).collect())
    }
}

impl TypedOp for Fused {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.shapes.iter().map(f32::fact).collect())
    }

    as_op!();
}
