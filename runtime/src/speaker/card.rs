//! The sound card, through ALSA.
//!
//! The stream is opened once and stays open: closing it cuts off what the card still holds. Clips are given to the
//! mixer itself, since a player that was connected while idle plays a clip's first milliseconds at the wrong rate.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mynah_contracts::error_chain;
use rodio::buffer::SamplesBuffer;
use rodio::cpal::traits::{DeviceTrait as _, HostTrait as _};
use rodio::{DeviceSinkBuilder, MixerDeviceSink, cpal};

use super::queue::Player;
use crate::speech::Clip;

/// Silence after a clip: what a card still holds when a clip ends is heard too.
const TAIL: Duration = Duration::from_millis(150);

/// A sound card.
pub(super) struct CardPlayer {
    /// Part of its name; `None` = the default one.
    name: Option<String>,
    /// 0 to 1.
    volume: f32,
    stream: Option<MixerDeviceSink>,
    /// Whether the stream has told of a fault.
    failed: Arc<AtomicBool>,
}

impl CardPlayer {
    pub(super) fn new(name: Option<String>, volume: f32) -> Self {
        Self { name, volume, stream: None, failed: Arc::default() }
    }

    fn device(&self) -> Result<cpal::Device, String> {
        let host = cpal::default_host();
        let Some(wanted) = &self.name else {
            return host.default_output_device().ok_or_else(|| "there is no sound card".into());
        };
        let mut devices = host.output_devices().map_err(|error| error_chain(&error))?;
        devices
            .find(|device| device.description().is_ok_and(|found| found.name().contains(wanted.as_str())))
            .ok_or_else(|| format!("there is no sound card `{wanted}`"))
    }
}

impl Player for CardPlayer {
    fn prepare(&mut self) -> Result<(), String> {
        if self.failed.swap(false, Ordering::Relaxed) {
            self.stream = None;
        }
        if self.stream.is_none() {
            let failed = self.failed.clone();
            let mut stream = DeviceSinkBuilder::from_device(self.device()?)
                .map_err(|error| error_chain(&error))?
                .with_error_callback(move |error: cpal::Error| {
                    // A late buffer is heard as a click and over.
                    if error.kind() != cpal::ErrorKind::Xrun {
                        failed.store(true, Ordering::Relaxed);
                    }
                })
                .open_stream()
                .map_err(|error| error_chain(&error))?;
            stream.log_on_drop(false);
            self.stream = Some(stream);
        }
        Ok(())
    }

    fn play(&mut self, clip: &Clip) -> Result<(), String> {
        self.prepare()?;
        let Some(stream) = &self.stream else { return Err("there is no sound card".into()) };
        stream.mixer().add(samples(clip, self.volume)?);
        std::thread::sleep(clip.length + TAIL);
        if self.failed.load(Ordering::Relaxed) { Err("the sound card vanished".into()) } else { Ok(()) }
    }
}

/// The clip's samples at this volume.
fn samples(clip: &Clip, volume: f32) -> Result<SamplesBuffer, String> {
    let bytes = clip.bytes().map_err(|error| error_chain(&error))?;
    let mut reader = hound::WavReader::new(bytes.as_slice()).map_err(|error| error.to_string())?;
    let spec = reader.spec();
    let samples: Vec<f32> = reader
        .samples::<i16>()
        .map(|sample| sample.map(|value| f32::from(value) / 32_768.0 * volume))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let channels = NonZeroU16::new(spec.channels).ok_or("the clip has no channel")?;
    let rate = NonZeroU32::new(spec.sample_rate).ok_or("the clip has no rate")?;
    Ok(SamplesBuffer::new(channels, rate, samples))
}
