//! Which model the device uses: the installed one, or one the hub desired.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mynah_contracts::{Fault, Label, error_chain};
use mynah_model::ModelPackage;
use serde_json::{Value, json};

use super::Device;
use crate::decide::Decider;
use crate::settings::Settings;
use crate::speech::Clips;
use crate::update::{Fetching, Ready, Store, UpdateError, Wish};

/// A model and where it lies.
pub(super) type Found = (PathBuf, Arc<ModelPackage>);

/// Opens the model to begin with. One the hub desired that cannot be used any more gives way to the one before it, and
/// at last to the installed one.
pub(super) fn open(settings: &Settings, store: Option<&mut Store>) -> Result<Found, Fault> {
    if let Some(store) = store {
        while let Some(card) = store.active() {
            let folder = store.place(&card);
            match open_and_test(&folder) {
                Ok(package) => return Ok((folder, Arc::new(package))),
                Err(error) => {
                    tracing::warn!(
                        "the model `{}` cannot be used any more: {}",
                        card.hex(),
                        error_chain(&error)
                    );
                    if let Err(error) = store.give_up() {
                        tracing::warn!("the note of models cannot be written: {error}");
                        break;
                    }
                }
            }
        }
    }
    let package = open_and_test(&settings.model)?;
    Ok((settings.model.clone(), Arc::new(package)))
}

fn open_and_test(folder: &Path) -> Result<ModelPackage, mynah_model::ModelError> {
    let package = ModelPackage::open(folder)?;
    package.self_test(folder)?;
    Ok(package)
}

/// The clips for these labels, and what is wrong with some of them.
pub(super) fn clips(settings: &Settings, labels: &[Label]) -> Result<(Clips, Option<String>), Fault> {
    let (clips, errors) = match &settings.speech {
        Some(folder) => match Clips::open(&folder.path, labels) {
            Err(error) if error.is_absent() && !folder.required => {
                tracing::info!("no clips below `{}`: words are printed only", folder.path.display());
                (Clips::none(), Vec::new())
            }
            opened => opened?,
        },
        None => (Clips::none(), Vec::new()),
    };
    let mut first = None;
    for error in errors {
        let problem = error_chain(&error);
        tracing::warn!("a clip cannot be played, its words are printed only: {problem}");
        first.get_or_insert(problem);
    }
    Ok((clips, first))
}

impl Device<'_> {
    /// Begins to fetch the model the hub desires, unless it is in use or being fetched.
    pub(super) fn desire_model(&mut self, value: Option<&Value>, version: i64) {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            if self.model_wish.take().is_some()
                && let Some(hub) = &self.hub
            {
                hub.report("model", Value::Null);
            }
            return;
        };
        let wish = match Wish::parse(value) {
            Ok(wish) => wish,
            Err(error) => return self.answer_model(version, 400, Some(&error)),
        };
        if self.model_wish.as_ref() == Some(&wish) {
            return;
        }
        self.model_version = version;
        self.model_wish = Some(wish.clone());
        let (Some(store), Some(keys)) = (&self.store, &self.keys) else {
            return self.answer_model(version, 400, Some(&UpdateError::Off));
        };
        if store.active() == Some(wish.card) {
            return self.answer_model(version, 200, None);
        }
        if store.is_refused(&wish.card) {
            return self.answer_model(version, 400, Some(&UpdateError::Refused));
        }
        tracing::info!("fetching the model `{}`", wish.card.hex());
        match Fetching::start(wish.clone(), keys.clone(), store.place(&wish.card)) {
            Ok(fetching) => {
                self.fetching = Some(fetching);
                self.answer_model(version, 202, None);
            }
            Err(error) => self.answer_model(version, 500, Some(&error)),
        }
    }

    /// Takes up a model that has been fetched; looks after one in trial.
    pub(super) fn mind_model(&mut self) {
        if let Some(outcome) = self.fetching.as_ref().and_then(Fetching::outcome) {
            self.fetching = None;
            let version = self.model_version;
            match outcome.map_err(|error| (400, error)).and_then(|ready| self.take_up(ready)) {
                Ok(()) => self.answer_model(version, 200, None),
                Err((status, error)) => self.answer_model(version, status, Some(&error)),
            }
        }
        let now = self.clock.uptime();
        if self.trial_ends.is_some_and(|end| now >= end) {
            self.trial_ends = None;
            if let Some(store) = &mut self.store {
                match store.prove() {
                    Ok(()) => tracing::info!("the new model has proved itself"),
                    Err(error) => tracing::warn!("the note of models cannot be written: {error}"),
                }
            }
        }
    }

    fn take_up(&mut self, ready: Ready) -> Result<(), (i64, UpdateError)> {
        let Ready { wish, folder, package } = ready;
        self.use_model(folder, Arc::new(package))
            .map_err(|why| (400, UpdateError::Store(std::io::Error::other(why))))?;
        if let Some(store) = &mut self.store {
            store.take_up(wish.card).map_err(|error| (500, error.into()))?;
        }
        self.trial_ends = Some(self.clock.uptime() + self.settings.model_trial);
        Ok(())
    }

    /// Judges with this model from the next frame on, if settings and clips go with it.
    fn use_model(&mut self, folder: PathBuf, model: Arc<ModelPackage>) -> Result<(), String> {
        let card = model.card();
        let rules = self
            .settings
            .decision
            .rules(&card.labels, card.calibration.reject_threshold)
            .map_err(|error| error_chain(&error))?;
        let decider = Decider::new(rules).map_err(|error| error.to_string())?;
        let (clips, problem) = clips(&self.settings, &card.labels).map_err(|fault| fault.chain())?;
        self.voice.change(card.labels.clone(), clips);
        self.digest = card.digest();
        tracing::info!("model {}: {} labels", self.digest, card.labels.len());
        (self.decider, self.standing_problem) = (decider, problem);
        self.motion.reset();
        self.seen = None;
        self.board.set_model(model.clone());
        (self.model, self.model_folder) = (model, folder);
        let digest = self.digest;
        self.status.update(|now| now.model = Some(digest));
        Ok(())
    }

    /// A fault of the model: in its trial it is given back.
    pub(super) fn model_failed(&mut self, why: &str) {
        if self.trial_ends.take().is_none() {
            return;
        }
        tracing::warn!("the new model failed in its trial, the one before is used again: {why}");
        let Some(store) = &mut self.store else { return };
        if let Err(error) = store.give_up() {
            tracing::warn!("the note of models cannot be written: {error}");
        }
        let back = open(&self.settings, Some(store)).map_err(|fault| fault.chain());
        if let Err(why) = back.and_then(|(folder, model)| self.use_model(folder, model)) {
            tracing::error!("the model before cannot be used: {why}");
        }
        let version = self.model_version;
        self.answer_model(version, 400, Some(&UpdateError::Refused));
    }

    /// Tells the hub what became of the model it desires.
    fn answer_model(&self, version: i64, status: i64, why: Option<&UpdateError>) {
        if let Some(why) = why {
            tracing::warn!("the desired model is not used: {}", error_chain(why));
        }
        if let Some(hub) = &self.hub {
            let why = why.map(|error| error_chain(error));
            hub.report(
                "model",
                json!({ "value": self.digest.to_string(), "ac": status, "av": version, "ad": why }),
            );
        }
    }
}
