//! The dataset: photos in folders become `dataset/` with `dataset.json`, and are read back from there.
//!
//! ```text
//! scan     a tree of folders           → files with the label of their folder
//! container  a container's blobs       → the same, fetched where they are new
//! inspect  each file                   → digest, type, size, likeness; or why it is left out
//! assemble all of them                 → duplicates out; the Dataset, or why there can be none
//! near, folds                          → who looks like whom; who shares a cross-validation fold
//! store, sheet                         → copies, contact sheets, and last of all `dataset.json`
//! ```
//!
//! What is written is a function of the photos and the seed alone: an import from nothing and one that
//! only follows what changed end in the same bytes.

mod assemble;
mod container;
#[cfg(test)]
mod container_tests;
mod error;
mod folds;
mod import;
mod inspect;
mod load;
mod near;
mod scan;
mod sheet;
mod store;
#[cfg(test)]
mod tests;

pub use error::ImportError;
pub use import::{ImportRequest, Imported, Source, import};
pub use load::{load, read_photo};

/// The folder of contact sheets below a dataset's folder.
pub const CONTACT_SHEETS: &str = "contact-sheets";
