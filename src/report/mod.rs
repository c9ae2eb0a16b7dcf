//! What a training came to, for people and for pipelines: `report.md`, `report.html`, `confusion.png` and
//! `junit.xml`.
//!
//! All four are pure functions of the training, the dataset and the gates: equal inputs give equal bytes. Labels
//! and file names are foreign text, and each format escapes them its own way.

use std::path::Path;

use mynah_contracts::{Dataset, Diagnosis, FaultKind, Training};

use crate::staging::{StagingError, write_file};

mod bitmap;
mod confusion_png;
mod confusions;
mod escape;
mod figures;
#[cfg(test)]
mod fixture;
mod gate;
mod html;
mod junit;
mod markdown;
mod provenance;

pub use confusions::{Confusion, most_confused};
pub use gate::{Gate, accuracy as accuracy_gate};

/// What a report tells of.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The training.
    pub training: &'a Training,
    /// What it learnt from.
    pub dataset: &'a Dataset,
    /// Where the dataset's photos are: the worst mistakes are shown as thumbnails.
    pub dataset_folder: &'a Path,
    /// The photos kept apart, with their folder, where [`Training::holdout`] tells of some.
    pub holdout: Option<(&'a Dataset, &'a Path)>,
    /// What was asked of it.
    pub gates: &'a [Gate],
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder refuses a file, or the disk is full.
    #[error(transparent)]
    Write(#[from] StagingError),
    /// The confusion matrix has more pixels than memory or the format has room for.
    #[error("the confusion matrix of {labels} labels is too large to draw")]
    TooLarge {
        /// How many labels it has.
        labels: usize,
    },
    /// The confusion matrix cannot be stored as a picture.
    #[error("cannot draw the confusion matrix")]
    Draw(#[source] mynah_photo::EncodeError),
}

impl Diagnosis for ReportError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Write(error) => error.kind(),
            Self::TooLarge { .. } | Self::Draw(_) => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Write(error) => error.hint(),
            Self::TooLarge { .. } | Self::Draw(_) => None,
        }
    }
}

impl Report<'_> {
    /// Writes the four files into `folder`, which exists. Each appears whole or not at all.
    ///
    /// # Errors
    /// [`ReportError`] names the file that could not be written.
    pub fn write_all(&self, folder: &Path) -> Result<(), ReportError> {
        write_file(&folder.join("report.md"), self.markdown().as_bytes())?;
        write_file(&folder.join("report.html"), self.html().as_bytes())?;
        write_file(&folder.join("confusion.png"), &self.confusion_png()?)?;
        Ok(write_file(&folder.join("junit.xml"), self.junit().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn four_whole_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let case = fixture::hostile();
        case.report().write_all(folder.path()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["confusion.png", "junit.xml", "report.html", "report.md"]);
        assert_eq!(fs::read_to_string(folder.path().join("report.md")).unwrap(), case.report().markdown());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = fixture::six_labels().report().write_all(&file).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", file.display()));
        assert!(std::error::Error::source(&error).is_some());
    }
}
