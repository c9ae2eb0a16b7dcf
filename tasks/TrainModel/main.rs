//! The `train-model` binary: the step, and the trainer that the library does not link.
//!
//! Started by the name `export-model` it is that step too. The trainer is most of either program, and the extension has
//! room for it once (ARCHITECTURE.md, "The extension").

use std::process::ExitCode;

use mynah::entry;
use mynah::step::Step as _;
use mynah::steps::{export::ExportModel, train::TrainModel};
use mynah_trainer::{Embedded, Foreign, heap};

fn main() -> ExitCode {
    heap::share_between_threads();
    if entry::started_as(ExportModel::NAME) {
        return entry::run(&ExportModel {
            embedded: |backbone| Box::new(Embedded::new(backbone)),
            adopter: &Foreign,
        });
    }
    entry::run(&TrainModel { embedded: |backbone| Box::new(Embedded::new(backbone)), adopter: &Foreign })
}
