//! The `train-model` binary: the step, and the trainer that the library does not link.

use std::process::ExitCode;

use mynah_trainer::{Embedded, Foreign, heap};

fn main() -> ExitCode {
    heap::share_between_threads();
    mynah::entry::run(&mynah::steps::train::TrainModel {
        embedded: |backbone| Box::new(Embedded::new(backbone)),
        adopter: &Foreign,
    })
}
