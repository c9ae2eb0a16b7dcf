//! Modules from sources, as people have them: `modules/<Name>/module.json` with a Dockerfile per platform.

mod builder;
mod error;
mod module_json;
mod options;
mod source;

pub use builder::Builder;
pub use error::ModuleError;
pub use module_json::ModuleJson;
pub use source::{ModuleSource, Surroundings, find};
