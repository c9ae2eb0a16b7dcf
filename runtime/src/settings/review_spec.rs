//! The settings of pictures that people are to look at.

use std::path::PathBuf;

use super::server_spec::secret_file;
use super::values::{count, path, probability};
use super::{Given, Settings, SettingsError};
use crate::review::Container;

/// Which pictures are kept for people, where, and how many.
#[derive(Clone, PartialEq, Debug)]
pub struct ReviewSettings {
    /// The file with the container's address and signature.
    pub container_file: PathBuf,
    /// Where they wait.
    pub folder: PathBuf,
    /// The most within an hour.
    pub per_hour: usize,
    /// How much may wait, in bytes.
    pub bytes: u64,
    /// Two labels nearer than this are nearly as probable.
    pub margin: f32,
}

impl ReviewSettings {
    pub(super) fn parse(given: &Given) -> Result<Option<Self>, SettingsError> {
        let folder = given.required("review", path)?;
        let per_hour = given.required("review-per-hour", |text| count(text, 1, 3600))?;
        let megabytes = given.required("review-megabytes", |text| count(text, 1, 100_000_u64))?;
        let margin = given.required("review-margin", |text| probability(text, 1.0))?;
        let file = given.optional("review-container-file", path)?;
        Ok(file.map(|container_file| Self {
            container_file,
            folder,
            per_hour,
            bytes: megabytes << 20,
            margin,
        }))
    }
}

impl Settings {
    /// The container for review, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn review_container(&self) -> Result<Option<Container>, SettingsError> {
        let Some(review) = &self.review else { return Ok(None) };
        let text = secret_file("review-container-file", &review.container_file)?;
        let wrong = |what| SettingsError::Container { path: review.container_file.clone(), what };
        Container::parse(text.expose()).map(Some).map_err(wrong)
    }
}
