//! What changes the device while it runs: settings read again, desired properties, direct methods.

use serde_json::{Map, Value, json};

use mynah_contracts::error_chain;

use super::Device;
use crate::decide::MotionGate;
use crate::hub::Command;
use crate::hub::twin::judge;
use crate::settings::{Given, Settings, Telemetry};
use crate::source;
use crate::speech::phrases;

impl Device<'_> {
    /// Does what was asked for since the last frame.
    pub(super) fn obey(&mut self) {
        if self.launch.reload.swap(false, std::sync::atomic::Ordering::Relaxed) {
            match self.reload() {
                Ok(changed) => tracing::info!("settings read again; changed: {changed}"),
                Err(why) => tracing::warn!("settings stay as they are: {why}"),
            }
        }
        while let Some(command) = self.hub.as_mut().and_then(crate::hub::Hub::command) {
            match command {
                Command::Desired(desired) => {
                    self.desired = desired;
                    let version = self.desired.get("$version").and_then(Value::as_i64).unwrap_or(0);
                    // The model is not a setting: it is fetched, and answered when it is in use.
                    let model = self.desired.remove("model");
                    self.desire_model(model.as_ref(), version);
                    self.judge_desired();
                }
                Command::Method { name, payload, reply } => {
                    let answer = self.method(&name, &payload);
                    tracing::info!("the hub calls `{}`: {}", name.escape_debug(), answer.0);
                    // A caller that went away needs no answer.
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Reads file and environment again; what the hub desires stays on top. Gives the names of what changed.
    fn reload(&mut self) -> Result<String, String> {
        let base = self.launch.given().map_err(|error| error_chain(&error))?;
        let settings = Settings::parse(&base).map_err(|error| error_chain(&error))?;
        self.fits(&settings)?;
        let changed = base.differing(&self.base);
        let fixed: Vec<_> = changed.iter().filter(|name| !crate::settings::is_live(name)).copied().collect();
        if !fixed.is_empty() {
            tracing::warn!("these settings change at the next start: {}", fixed.join(", "));
        }
        self.base = base;
        self.judge_desired();
        Ok(if changed.is_empty() { "nothing".into() } else { changed.join(", ") })
    }

    /// Whether settings go with the model, and their source can be opened.
    fn fits(&self, settings: &Settings) -> Result<(), String> {
        let card = self.model.card();
        settings
            .decision
            .rules(&card.labels, card.calibration.reject_threshold)
            .map_err(|error| error_chain(&error))?;
        phrases(settings.speech_maps.as_deref(), settings.language.as_deref())
            .map_err(|error| error_chain(&error))?;
        if settings.source != self.settings.source {
            source::open(&settings.source, settings.patience, self.clock.clone())
                .map_err(|error| error_chain(&error))?;
        }
        Ok(())
    }

    /// Follows the desired properties as far as they are good, and reports which are not.
    fn judge_desired(&mut self) {
        let judgement = judge(&self.base, &self.desired, &self.settings, |settings| self.fits(settings));
        if let Some(hub) = &self.hub {
            for gone in self.answered.iter().filter(|name| !judgement.answers.contains_key(*name)) {
                hub.report(gone, Value::Null);
            }
            for (name, answer) in &judgement.answers {
                if let Some(why) = answer.get("ad").and_then(Value::as_str) {
                    tracing::warn!("the desired property `{}` is refused: {why}", name.escape_debug());
                }
                hub.report(name, answer.clone());
            }
        }
        self.answered = judgement.answers.keys().cloned().collect();
        self.apply(judgement.given, judgement.settings);
    }

    /// Changes to settings that fit.
    fn apply(&mut self, given: Given, settings: Settings) {
        let changed = given.differing(&self.given);
        if changed.is_empty() {
            return;
        }
        let card = self.model.card();
        let followed = settings
            .decision
            .rules(&card.labels, card.calibration.reject_threshold)
            .map_err(|error| error_chain(&error))
            .and_then(|rules| self.decider.follow(rules).map_err(|error| error.to_string()));
        if let Err(why) = followed {
            tracing::warn!("settings stay as they are: {why}");
            return;
        }
        if settings.source != self.settings.source {
            match source::open(&settings.source, settings.patience, self.clock.clone()) {
                Ok(source) => self.source = source,
                Err(error) => {
                    tracing::warn!("the source stays as it is: {}", error_chain(&error));
                    return;
                }
            }
        }
        if changed.contains(&"language") {
            match phrases(settings.speech_maps.as_deref(), settings.language.as_deref()) {
                Ok(map) => self.voice.speak(map),
                Err(error) => tracing::warn!("the language stays as it is: {}", error_chain(&error)),
            }
        }
        if changed.contains(&"motion") {
            self.motion = MotionGate::new(settings.decision.motion);
        }
        self.mute_hours = settings.mute_hours;
        tracing::info!("changed while running: {}", changed.join(", "));
        (self.given, self.settings) = (given, settings);
    }

    /// Carries out a direct method.
    fn method(&mut self, name: &str, payload: &Value) -> (u16, Value) {
        match name {
            "getStatus" => (200, json!(self.status.get())),
            "snapshot" => {
                let view = self.board.view();
                let labels = self.model.card().labels.iter();
                let scores: Map<String, Value> = labels
                    .zip(&view.probabilities)
                    .map(|(label, probability)| (label.to_string(), json!(probability)))
                    .collect();
                (200, json!({ "sighting": view.sighting, "probabilities": scores }))
            }
            "say" => {
                let wanted = payload.get("label").and_then(Value::as_str);
                let labels = &self.model.card().labels;
                let position =
                    wanted.and_then(|wanted| labels.iter().position(|label| label.as_str() == wanted));
                match position.and_then(|label| self.voice.say(label, self.is_quiet())) {
                    Some(words) => (200, json!({ "said": words })),
                    None => (400, json!({ "error": "`label` must name a label of the model" })),
                }
            }
            "reload" => match self.reload() {
                Ok(changed) => (200, json!({ "changed": changed })),
                Err(why) => (400, json!({ "error": why })),
            },
            "selfTest" => match self.model.self_test(&self.model_folder) {
                Ok(()) => (200, json!({ "ok": true, "probes": self.model.card().probes.len() })),
                Err(error) => (500, json!({ "ok": false, "error": error_chain(&error) })),
            },
            _ => (
                404,
                json!({ "error": "there is no such method; there are getStatus, snapshot, say, reload, selfTest" }),
            ),
        }
    }

    /// Whether this sighting is sent to the hub.
    pub(super) fn is_telemetry(&mut self, sighting: &mynah_contracts::Sighting) -> bool {
        let shown = Vec::from_iter(sighting.label.clone());
        let changed = self.last_shown.as_ref() != Some(&shown);
        self.last_shown = Some(shown);
        match self.settings.hub.as_ref().map(|hub| hub.telemetry) {
            Some(Telemetry::Said) => sighting.said.is_some(),
            Some(Telemetry::Changes) => changed,
            Some(Telemetry::All) => true,
            None => false,
        }
    }
}
