//! The device's life: trust the model, then frame by frame see, decide, speak and report, until the source
//! ends or someone asks to stop.

use std::ffi::OsStr;
use std::rc::Rc;
use std::sync::Arc;

use mynah_contracts::{
    DeviceState, DeviceStatus, Diagnosis, Fault, FaultKind, Sha256Digest, Sighting, error_chain,
};
use mynah_model::ModelPackage;
use mynah_photo::RgbImage;

use crate::board::{Board, Picture, Word};
use crate::clock::{Clock, rfc3339};
use crate::decide::{Decider, MotionGate};
use crate::http;
use crate::settings::{QuietHours, Settings, SettingsError};
use crate::sightings::{SightingLog, SightingsError};
use crate::source::{self, FrameSource, Next};
use crate::speaker;
use crate::speech::Clips;
use crate::status::StatusFile;
use crate::stop::{Stop, StopReason};
use crate::voice::Voice;

/// How a run that did not fail ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The source has no more frames.
    SourceEnded,
    /// Someone asked to stop; the frame at hand was finished.
    Stopped(StopReason),
}

/// What went wrong over a whole run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("none of the {unreadable} frames could be read")]
    NothingSeen { unreadable: u64 },
    #[error("{lost} of {frames} sightings were lost")]
    SightingsLost {
        lost: u64,
        frames: u64,
        #[source]
        last: SightingsError,
    },
}

impl Diagnosis for RunError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NothingSeen { .. } => FaultKind::BadInput,
            Self::SightingsLost { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NothingSeen { .. } => Some("the lines above say what is wrong with each frame".into()),
            Self::SightingsLost { last, .. } => last.hint(),
        }
    }
}

/// Runs the device until its source ends or `stop` is asked for. `search` is the `PATH` of programs.
///
/// # Errors
/// Settings, model, clips, source, speaker or reports cannot be used; the status then says "failed" and why.
pub fn run(
    settings: &Settings,
    clock: Rc<dyn Clock>,
    stop: &Stop,
    search: Option<&OsStr>,
) -> Result<Ending, Fault> {
    let mut status = StatusFile::open(settings.status.as_deref(), clock.clone())?;
    let board = Arc::new(Board::new(status.get().clone()));
    let outcome = listen(settings, &board)
        .and_then(|()| Device::start(settings, clock, &mut status, board, search))
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
    clock: Rc<dyn Clock>,
    board: Arc<Board>,
    model: Arc<ModelPackage>,
    digest: Sha256Digest,
    source: Box<dyn FrameSource>,
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
        settings: &Settings,
        clock: Rc<dyn Clock>,
        status: &'a mut StatusFile,
        board: Arc<Board>,
        search: Option<&OsStr>,
    ) -> Result<Self, Fault> {
        let source = source::open(&settings.source, settings.patience, clock.clone())?;
        let speaker = speaker::open(&settings.speaker, settings.volume, search)?;
        let sightings = SightingLog::open(&settings.sightings)?;

        let model = Arc::new(ModelPackage::open(&settings.model)?);
        model.self_test(&settings.model)?;
        let card = model.card();
        let digest = card.digest();
        let rules = settings.decision.rules(&card.labels, card.calibration.reject_threshold)?;
        let threshold = rules.threshold;
        let decider = Decider::new(rules).map_err(|source| SettingsError::Rules { source })?;

        let (clips, errors) = match &settings.speech {
            Some(folder) => match Clips::open(&folder.path, &card.labels) {
                Err(error) if error.is_absent() && !folder.required => {
                    tracing::info!("no clips below `{}`: words are printed only", folder.path.display());
                    (Clips::none(), Vec::new())
                }
                opened => opened?,
            },
            None => (Clips::none(), Vec::new()),
        };
        let mut standing_problem = None;
        for error in errors {
            let problem = error_chain(&error);
            tracing::warn!("a clip cannot be played, its words are printed only: {problem}");
            standing_problem.get_or_insert(problem);
        }
        let voice = Voice::new(card.labels.clone(), clips, speaker);
        let audible = voice.is_audible().then(|| settings.speaker.to_string());
        tracing::info!("model {digest}: {} labels, threshold {threshold:.2}", card.labels.len());
        status.update(|now| now.problem.clone_from(&standing_problem));
        board.set_model(model.clone());
        board.change(|view| view.audible = audible.is_some());
        status.running(digest, audible);
        Ok(Self {
            clock,
            board,
            model,
            digest,
            source,
            motion: MotionGate::new(settings.decision.motion),
            decider,
            voice,
            mute_hours: settings.mute_hours,
            sightings,
            status,
            standing_problem,
            lost: None,
        })
    }

    /// Looks at frames until there are no more or `stop` is asked for, then says what is still waiting.
    fn watch(mut self, stop: &Stop) -> Result<Ending, Fault> {
        let mut seen: Option<Seen> = None;
        let ending = loop {
            if let Some(reason) = stop.asked() {
                break Ending::Stopped(reason);
            }
            self.board.beat();
            match self.source.next_frame() {
                Next::Picture { image, name, jpeg } => {
                    // The judgement of the picture before holds where nothing moved.
                    if self.motion.passes(&image) || seen.is_none() {
                        seen = self.classify(&image, name);
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
                    seen = None;
                    self.unreadable(name.as_deref(), &error_chain(&error));
                }
                Next::End => break Ending::SourceEnded,
                Next::Lost(error) => return Err(error.into()),
            }
            if let Some(seen) = &seen {
                self.frame(seen);
            }
        };
        self.voice.finish();
        self.report(|_| {});
        let now = self.status.get();
        if ending == Ending::SourceEnded && now.frames == 0 {
            return Err(RunError::NothingSeen { unreadable: now.unreadable_frames }.into());
        }
        match self.lost {
            Some((lost, last)) => Err(RunError::SightingsLost { lost, frames: now.frames, last }.into()),
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
                self.unreadable(name.as_deref(), &error_chain(&error));
                None
            }
        }
    }

    /// Decides, speaks and reports on one frame.
    fn frame(&mut self, seen: &Seen) {
        let decision = self.decider.look(self.clock.uptime(), &seen.probabilities);
        let quiet = self.mute_hours.is_some_and(|hours| {
            let local = jiff::tz::TimeZone::system().to_datetime(self.clock.timestamp());
            hours.hold(local.time())
        });
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
            self.board.change(|view| {
                view.sighting = Some(sighting);
                view.probabilities.clone_from(&seen.probabilities);
            });
        }
        self.board.frame();
        self.report(|now| now.frames += 1);
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
            .or_else(|| self.lost.as_ref().map(|(_, error)| error_chain(error)))
            .or_else(|| self.standing_problem.clone());
        let said = self.voice.said();
        self.status.update(|now| {
            count(now);
            (now.utterances, now.problem) = (said, problem);
        });
        let (status, reopened) = (self.status.get(), self.source.reopened());
        self.board.change(|view| {
            view.status.clone_from(status);
            view.reopened = reopened;
        });
    }
}
