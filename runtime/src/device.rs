//! The device's life: trust the model, then frame by frame see, decide, speak and report, until the source
//! ends or someone asks to stop.

#[cfg(test)]
mod day;
mod error;
mod model;
mod remote;
#[cfg(test)]
mod time_set;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mynah_contracts::{DeviceState, DeviceStatus, Fault, Label, Sha256Digest, Sighting, error_chain};
use mynah_model::ModelPackage;
use mynah_photo::RgbImage;

use self::error::RunError;
use crate::board::{Board, Picture, Word};
use crate::clock::{Clock, TimeSetting, rfc3339};
use crate::decide::{Decider, MotionGate};
use crate::http;
use crate::hub::Hub;
use crate::review::Reviewer;
use crate::settings::{Given, QuietHours, Settings, SettingsError};
use crate::sightings::{SightingLog, SightingsError};
use crate::source::{self, FrameSource, Next};
use crate::speaker;
use crate::speech::{Engine, Maker, phrases};
use crate::status::StatusFile;
use crate::stop::{Stop, StopReason};
use crate::supervisor::Supervisor;
use crate::update::{Fetching, Keys, Store, Wish};
use crate::voice::Voice;

/// How a run that did not fail ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The source has no more frames.
    SourceEnded,
    /// Someone asked to stop; the frame at hand was finished.
    Stopped(StopReason),
}

/// What the device was started with; kept, since the settings can be read again.
#[derive(Debug, Default)]
pub struct Launch {
    /// The flags.
    pub flags: BTreeMap<String, String>,
    /// The environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Set by whoever wants the settings read again.
    pub reload: Arc<AtomicBool>,
}

impl Launch {
    /// The settings as they are given now.
    ///
    /// # Errors
    /// The settings file cannot be used.
    pub fn given(&self) -> Result<Given, SettingsError> {
        Given::collect(&self.flags, &self.environment)
    }
}

/// Runs the device until its source ends or `stop` is asked for.
///
/// # Errors
/// Settings, model, clips, source, speaker or reports cannot be used; the status then says "failed" and why.
pub fn run(launch: &Launch, given: Given, clock: Rc<dyn Clock>, stop: &Stop) -> Result<Ending, Fault> {
    let settings = Settings::parse(&given)?;
    let mut status = StatusFile::open(settings.status.as_deref(), clock.clone())?;
    let board = Arc::new(Board::new(status.get().clone()));
    let supervisor = Supervisor::of(&launch.environment);
    let outcome = listen(&settings, &board)
        .and_then(|()| Device::start(launch, given, settings, clock, &mut status, board, supervisor))
        .and_then(|device| device.watch(stop));
    match &outcome {
        Ok(Ending::SourceEnded) => status.end(DeviceState::Finished, None),
        Ok(Ending::Stopped(reason)) => {
            let asked = match reason {
                StopReason::Interrupted => "stopped by SIGINT",
                StopReason::Terminated => "stopped by SIGTERM",
            };
            tracing::info!("{asked}");
            status.end(DeviceState::Finished, Some(asked.into()));
        }
        Err(fault) => status.end(DeviceState::Failed, Some(fault.chain())),
    }
    outcome
}

/// Starts the server where one is asked for, before the model is loaded: whoever watches the device can ask it.
fn listen(settings: &Settings, board: &Arc<Board>) -> Result<(), Fault> {
    if let Some(server) = settings.server()? {
        let address = http::serve(server, board.clone())?;
        tracing::info!("the live page is http://{address}/");
    }
    Ok(())
}

/// Everything a frame passes through.
struct Device<'a> {
    launch: &'a Launch,
    /// The settings without what the hub desires.
    base: Given,
    /// The settings in force, as text and in types.
    given: Given,
    settings: Settings,
    hub: Option<Hub>,
    reviewer: Option<Reviewer>,
    supervisor: Supervisor,
    /// What the hub desires, and which properties it was answered about.
    desired: serde_json::Map<String, serde_json::Value>,
    answered: BTreeSet<String>,
    /// What the last sighting showed; an empty list = nothing known, `None` = there was none.
    last_shown: Option<Vec<Label>>,
    clock: Rc<dyn Clock>,
    time_setting: TimeSetting,
    board: Arc<Board>,
    /// Models the hub desired, and whose are taken.
    store: Option<Store>,
    keys: Option<Keys>,
    model_wish: Option<Wish>,
    model_version: i64,
    fetching: Option<Fetching>,
    /// When the model in use has proved itself; `None` = it has.
    trial_ends: Option<Duration>,
    model_folder: PathBuf,
    model: Arc<ModelPackage>,
    digest: Sha256Digest,
    source: Box<dyn FrameSource>,
    /// The picture at hand.
    seen: Option<Seen>,
    motion: MotionGate,
    decider: Decider,
    voice: Voice,
    mute_hours: Option<QuietHours>,
    sightings: SightingLog,
    status: &'a mut StatusFile,
    /// What went wrong before the first frame and is gone without.
    standing_problem: Option<String>,
    /// The lost sightings, and why the last was lost.
    lost: Option<(u64, SightingsError)>,
}

/// A picture and what the model made of it: the same again for every frame that shows it.
struct Seen {
    name: Option<String>,
    probabilities: Vec<f32>,
}

impl<'a> Device<'a> {
    /// Opens everything; the model is trusted only after its self-test.
    fn start(
        launch: &'a Launch,
        given: Given,
        settings: Settings,
        clock: Rc<dyn Clock>,
        status: &'a mut StatusFile,
        board: Arc<Board>,
        supervisor: Supervisor,
    ) -> Result<Self, Fault> {
        let search = launch.environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let source = source::open(&settings.source, settings.patience, clock.clone())?;
        let speaker = speaker::open(&settings.speaker, settings.volume, search)?;
        let sightings = SightingLog::open(&settings.sightings)?;

        let mut store = match &settings.model_store {
            Some(folder) => Some(
                Store::open(folder).map_err(|source| RunError::Store { folder: folder.clone(), source })?,
            ),
            None => None,
        };
        let keys = settings.model_keys()?;
        let (model_folder, model) = model::open(&settings, store.as_mut())?;
        let trial_ends =
            store.as_ref().filter(|store| store.is_trial()).map(|_| clock.uptime() + settings.model_trial);
        let card = model.card();
        let digest = card.digest();
        let rules = settings.decision.rules(&card.labels, card.calibration.reject_threshold)?;
        let threshold = rules.threshold;
        let decider = Decider::new(rules).map_err(|source| SettingsError::Rules { source })?;

        let (clips, standing_problem) = model::clips(&settings, &card.labels)?;
        let map = phrases(settings.speech_maps.as_deref(), settings.language.as_deref())?;
        let azure = settings.azure_speech()?;
        let maker = Engine::open(&settings.engine.spec, azure.as_ref(), search)?
            .map(|engine| Maker::start(engine, settings.engine.cache.as_deref()))
            .transpose()
            .map_err(RunError::Engine)?;
        let voice = Voice::new(card.labels.clone(), clips, map, speaker, maker);
        let audible = voice.is_audible().then(|| settings.speaker.to_string());
        tracing::info!("model {digest}: {} labels, threshold {threshold:.2}", card.labels.len());
        status.update(|now| now.problem.clone_from(&standing_problem));
        let hub = match (settings.broker(&launch.environment)?, &settings.hub) {
            (Some(broker), Some(hub)) => Some(Hub::start(broker, &hub.spool, hub.spool_bytes, hub.batching)?),
            _ => None,
        };
        let reviewer = match (&settings.review, settings.review_container()?) {
            (Some(review), Some(container)) => Some(
                Reviewer::start(review.clone(), container)
                    .map_err(|source| RunError::Review { folder: review.folder.clone(), source })?,
            ),
            _ => None,
        };
        board.set_model(model.clone());
        status.running(digest, audible);
        supervisor.ready();
        Ok(Self {
            launch,
            base: given.clone(),
            given,
            hub,
            reviewer,
            supervisor,
            desired: serde_json::Map::new(),
            answered: BTreeSet::new(),
            last_shown: None,
            time_setting: TimeSetting::new(clock.timestamp(), clock.uptime()),
            clock,
            board,
            store,
            keys,
            model_wish: None,
            model_version: 0,
            fetching: None,
            trial_ends,
            model_folder,
            seen: None,
            model,
            digest,
            source,
            motion: MotionGate::new(settings.decision.motion),
            decider,
            voice,
            mute_hours: settings.mute_hours,
            settings,
            sightings,
            status,
            standing_problem,
            lost: None,
        })
    }

    /// Looks at frames until there are no more or `stop` is asked for, then says what is still waiting.
    fn watch(mut self, stop: &Stop) -> Result<Ending, Fault> {
        let ending = loop {
            if let Some(reason) = stop.asked() {
                break Ending::Stopped(reason);
            }
            self.board.beat();
            self.supervisor.alive(self.clock.uptime());
            self.mind_time();
            self.obey();
            self.mind_model();
            self.voice.attend();
            match self.source.next_frame() {
                Next::Picture { image, name, jpeg } => {
                    // The judgement of the picture before holds where nothing moved.
                    if self.motion.passes(&image) || self.seen.is_none() {
                        self.seen = self.classify(&image, name);
                    }
                    let picture = Arc::new(Picture::new(image, jpeg));
                    self.board.change(|view| view.picture = Some(picture));
                }
                // Without a picture that was understood there is nothing to hold.
                Next::Held => {}
                Next::Waiting => {
                    self.report(|_| {});
                    continue;
                }
                Next::Unreadable { name, error } => {
                    self.seen = None;
                    self.unreadable(name.as_deref(), &error_chain(&error));
                }
                Next::End => break Ending::SourceEnded,
                Next::Lost(error) => return Err(error.into()),
            }
            if let Some(seen) = self.seen.take() {
                self.frame(&seen);
                self.seen = Some(seen);
            }
        };
        self.supervisor.stopping();
        if self.voice.is_speaking() {
            self.status.update(|now| now.state = DeviceState::Busy);
            self.report(|_| {});
        }
        self.voice.finish();
        let outcome = self.outcome(ending);
        let state = if outcome.is_ok() { DeviceState::Finished } else { DeviceState::Failed };
        self.status.update(|now| now.state = state);
        self.report(|_| {});
        if let Some(hub) = &self.hub {
            hub.finish(std::thread::sleep);
        }
        if let Some(store) = &mut self.store {
            store.end();
        }
        Ok(outcome?)
    }

    /// What a run that ended so amounts to.
    fn outcome(&mut self, ending: Ending) -> Result<Ending, RunError> {
        let now = self.status.get();
        if ending == Ending::SourceEnded && now.frames == 0 {
            return Err(RunError::NothingSeen { unreadable: now.unreadable_frames });
        }
        match self.lost.take() {
            Some((lost, last)) => Err(RunError::SightingsLost { lost, frames: now.frames, last }),
            None => Ok(ending),
        }
    }

    /// What the model makes of a picture; `None` where it cannot say.
    fn classify(&mut self, image: &RgbImage, name: Option<String>) -> Option<Seen> {
        let started = self.clock.uptime();
        match self.model.classify(image) {
            Ok(probabilities) => {
                self.board.inferred(self.clock.uptime().saturating_sub(started));
                Some(Seen { name, probabilities })
            }
            Err(error) => {
                self.motion.reset();
                let why = error_chain(&error);
                self.unreadable(name.as_deref(), &why);
                self.model_failed(&why);
                None
            }
        }
    }

    /// Decides, speaks and reports on one frame.
    fn frame(&mut self, seen: &Seen) {
        let decision = self.decider.look(self.clock.uptime(), &seen.probabilities);
        let quiet = self.is_quiet();
        let said = decision.say.and_then(|label| self.voice.say(label, quiet));
        let labels = &self.model.card().labels;
        // The package makes sure that there are as many probabilities as labels.
        if let Some(best) = labels.get(decision.best) {
            let now = self.status.get();
            let sighting = Sighting {
                time: rfc3339(self.clock.timestamp()),
                frame: now.frames + now.unreadable_frames,
                image: seen.name.clone(),
                label: decision.seen.and_then(|label| labels.get(label)).cloned(),
                best: best.clone(),
                probability: decision.probability,
                said,
                model: self.digest,
            };
            if let Some(text) = sighting.said.clone() {
                self.board.say(Word { time: sighting.time.clone(), text });
            }
            if let Err(error) = self.sightings.record(&sighting) {
                let lost = self.lost.take().map_or(0, |(lost, _)| lost) + 1;
                if lost == 1 {
                    tracing::warn!("{}", error_chain(&error));
                }
                self.lost = Some((lost, error));
            }
            if self.is_telemetry(&sighting)
                && let Some(hub) = &mut self.hub
            {
                hub.send(&sighting);
            }
            if let (Some(reviewer), Some(picture)) = (&mut self.reviewer, &self.board.view().picture) {
                reviewer.consider(self.clock.uptime(), &sighting, &seen.probabilities, picture);
            }
            self.board.change(|view| {
                view.sighting = Some(sighting);
                view.probabilities.clone_from(&seen.probabilities);
            });
        }
        self.board.frame();
        self.report(|now| now.frames += 1);
    }

    /// Tells when the time of day was set: what was reported until then carries the old time.
    fn mind_time(&mut self) {
        if let Some(by) = self.time_setting.look(self.clock.timestamp(), self.clock.uptime()) {
            let now = self.status.get();
            let frame = now.frames + now.unreadable_frames;
            tracing::warn!(
                "the time of day was set by {by:#}; sightings before frame {frame} carry the old time"
            );
        }
    }

    /// Whether words are printed only, at this time of the day.
    fn is_quiet(&self) -> bool {
        self.mute_hours.is_some_and(|hours| {
            let local = jiff::tz::TimeZone::system().to_datetime(self.clock.timestamp());
            hours.hold(local.time())
        })
    }

    fn unreadable(&mut self, name: Option<&str>, why: &str) {
        let name = name.unwrap_or("frame").escape_debug().to_string();
        tracing::warn!("unreadable frame `{name}`: {why}");
        self.report(|now| now.unreadable_frames += 1);
    }

    /// Counts something, and brings the status up to date with the voice and the sightings.
    fn report(&mut self, count: impl FnOnce(&mut DeviceStatus)) {
        let problem = self
            .source
            .problem()
            .or_else(|| self.voice.problem())
            .or_else(|| self.hub.as_ref()?.problem())
            .or_else(|| self.reviewer.as_ref()?.problem())
            .or_else(|| self.lost.as_ref().map(|(_, error)| error_chain(error)))
            .or_else(|| self.standing_problem.clone());
        let said = self.voice.said();
        self.status.update(|now| {
            count(now);
            (now.utterances, now.problem) = (said, problem);
        });
        let (status, reopened, silence) = (self.status.get(), self.source.reopened(), self.source.silence());
        self.board.change(|view| {
            view.status.clone_from(status);
            (view.reopened, view.silence) = (reopened, silence);
            view.audible = self.voice.is_audible() && self.voice.problem().is_none();
            view.hub = self.hub.as_ref().map(Hub::figures);
        });
        if let Some(hub) = &self.hub {
            let state = serde_json::json!({
                "state": status.state,
                "version": status.version,
                "model": status.model,
                "speaker": status.speaker,
                // The hub hears of its own troubles when they are over.
                "problem": status.problem.as_ref().filter(|problem| !problem.starts_with("the hub ")),
            });
            hub.report("status", state);
        }
    }
}
