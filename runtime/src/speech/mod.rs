//! What words sound like: clips made before the device was deployed; for labels without one, an engine that makes it
//! now, and keeps it; and in which language.

mod clips;
mod engine;
mod maker;
mod phrases;

pub use clips::{Clip, ClipError, Clips, SpeechError};
pub use engine::{Engine, EngineError};
pub(crate) use maker::{Maker, Order};
pub use phrases::{PhrasesError, phrases};
