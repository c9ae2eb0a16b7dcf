//! The clips of the labels: read from `speech.json`, verified before the first frame, played by speakers.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{
    Artifact as _, ArtifactError, Diagnosis, FaultKind, Label, Sha256Digest, Speech, from_json,
};
use mynah_photo::file::{FileError, read_verified};

/// The longest clip that is a word and not a mistake.
const MAX_LENGTH: Duration = Duration::from_mins(1);

/// A label's clip, known to be a WAV file that can be played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clip {
    /// The words.
    pub text: String,
    /// The file.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// How long it plays.
    pub length: Duration,
}

impl Clip {
    /// The file's bytes, verified once more: the storage of a device wears out.
    ///
    /// # Errors
    /// The file cannot be read, or has changed.
    pub fn bytes(&self) -> Result<Vec<u8>, FileError> {
        read_verified(&self.path, &self.sha256)
    }
}

/// Why there are no clips at all.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// The list of clips cannot be read.
    #[error("cannot read the list of clips `{path}`")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of clips is not one.
    #[error("cannot use the list of clips `{path}`")]
    Form {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArtifactError,
    },
}

impl SpeechError {
    /// Whether there simply is no list of clips.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Diagnosis for SpeechError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(
            "name the folder of clips that build-modules writes, or leave `--speech` out to print words"
                .into(),
        )
    }
}

/// Why one clip is not played.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file is missing, unreadable or changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are no WAV file.
    #[error("`{path}` is not a WAV file")]
    NotWav {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: hound::Error,
    },
    /// A WAV file that plain players cannot be trusted with.
    #[error("`{path}` is {found}, 16-bit PCM with one channel is needed")]
    Unplayable {
        /// Where.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// Nothing to hear, or far too much.
    #[error("`{path}` plays for {seconds:.1} s, more than 0 and at most {max} s is allowed", max = MAX_LENGTH.as_secs())]
    Length {
        /// Where.
        path: PathBuf,
        /// How long it plays.
        seconds: f64,
    },
}

/// The clips of a model's labels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Clips(Vec<Option<Clip>>);

impl Clips {
    /// No clip for any label.
    pub fn none() -> Self {
        Self::default()
    }

    /// The clips below `folder` for `labels`, in their order, and what is wrong with those left out.
    ///
    /// # Errors
    /// `speech.json` is missing, unreadable, newer than this program or not of its form.
    pub fn open(folder: &Path, labels: &[Label]) -> Result<(Self, Vec<ClipError>), SpeechError> {
        let path = folder.join(Speech::FILE);
        let bytes =
            std::fs::read(&path).map_err(|source| SpeechError::Read { path: path.clone(), source })?;
        let speech: Speech = from_json(&bytes).map_err(|source| SpeechError::Form { path, source })?;
        let mut errors = Vec::new();
        let clips = labels
            .iter()
            .map(|label| {
                let clip = speech.clips.iter().find(|clip| clip.label == *label)?;
                verify(folder, clip).map_err(|error| errors.push(error)).ok()
            })
            .collect();
        Ok((Self(clips), errors))
    }

    /// The clip of the label at this position.
    pub fn get(&self, label: usize) -> Option<&Clip> {
        self.0.get(label)?.as_ref()
    }
}

/// The clip, if its file is what the list says and can be played.
fn verify(folder: &Path, clip: &mynah_contracts::Clip) -> Result<Clip, ClipError> {
    let path = clip.file.path.below(folder);
    let bytes = read_verified(&path, &clip.file.sha256)?;
    let length = check(&bytes, &path)?;
    Ok(Clip { text: clip.text.clone(), path, sha256: clip.file.sha256, length })
}

/// How long the clip at `path` with these bytes plays, if it can be played.
pub(super) fn check(bytes: &[u8], path: &Path) -> Result<Duration, ClipError> {
    let path = || path.to_owned();
    let not_wav = |source| ClipError::NotWav { path: path(), source };
    let mut wav = hound::WavReader::new(Cursor::new(bytes)).map_err(not_wav)?;
    let spec = wav.spec();
    if (spec.channels, spec.bits_per_sample, spec.sample_format) != (1, 16, hound::SampleFormat::Int) {
        let kind = match spec.sample_format {
            hound::SampleFormat::Int => "PCM",
            hound::SampleFormat::Float => "floating point",
        };
        let found = format!("{}-bit {kind} with {} channels", spec.bits_per_sample, spec.channels);
        return Err(ClipError::Unplayable { path: path(), found });
    }
    // The header may promise more samples than the file holds.
    let mut samples = 0u32;
    for sample in wav.samples::<i16>() {
        sample.map_err(not_wav)?;
        samples += 1;
    }
    let seconds = f64::from(samples) / f64::from(spec.sample_rate.max(1));
    let length = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    if length.is_zero() || length > MAX_LENGTH {
        return Err(ClipError::Length { path: path(), seconds });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use mynah_testkit::{replace_clip, tiny_labels, tiny_speech};
    use proptest::prelude::*;

    use super::*;

    fn opened(folder: &Path) -> (Clips, Vec<String>) {
        let (clips, errors) = Clips::open(folder, &tiny_labels()).unwrap();
        (clips, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn clips_are_found_by_label() {
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()).unwrap();
        let (clips, errors) = opened(folder.path());
        assert!(errors.is_empty(), "{errors:?}");
        let clip = clips.get(1).unwrap();
        assert_eq!(clip.text, tiny_labels()[1].spoken());
        assert!(clip.length > Duration::ZERO);
        assert!(clip.bytes().unwrap().starts_with(b"RIFF"));
        assert_eq!(clips.get(99), None);
    }

    #[test]
    fn a_label_without_a_clip_has_none() {
        let folder = tempfile::tempdir().unwrap();
        tiny_speech(folder.path(), &tiny_labels()[..1]).unwrap();
        let (clips, errors) = opened(folder.path());
        assert!(errors.is_empty() && clips.get(0).is_some() && clips.get(1).is_none());
    }

    #[test]
    fn a_clip_that_cannot_be_played_is_reported_and_left_out() {
        let wav = |channels, rate, samples: u32| {
            let mut bytes = Cursor::new(Vec::new());
            let spec = hound::WavSpec {
                channels,
                sample_rate: rate,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
            (0..samples * u32::from(channels)).for_each(|_| writer.write_sample(0i16).unwrap());
            writer.finalize().unwrap();
            bytes.into_inner()
        };
        let good = wav(1, 8000, 100);
        for (bytes, says) in [
            (b"ID3 this is an MP3".to_vec(), "is not a WAV file"),
            (good[..good.len() - 10].to_vec(), "is not a WAV file"),
            (wav(2, 8000, 100), "16-bit PCM with 2 channels, 16-bit PCM with one channel is needed"),
            (wav(1, 8000, 0), "plays for 0.0 s"),
            (wav(1, 8000, 8000 * 61), "plays for 61.0 s"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            tiny_speech(folder.path(), &tiny_labels()).unwrap();
            replace_clip(folder.path(), 1, &bytes).unwrap();
            let (clips, errors) = opened(folder.path());
            assert!(clips.get(0).is_some() && clips.get(1).is_none());
            assert!(errors.len() == 1 && errors[0].contains(says), "{errors:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_wav_is_an_error_at_worst(at in 0usize..60, byte in any::<u8>(), keep in 0usize..200) {
            let folder = tempfile::tempdir().unwrap();
            let speech = tiny_speech(folder.path(), &tiny_labels()).unwrap();
            let mut bytes = std::fs::read(speech.clips[0].file.path.below(folder.path())).unwrap();
            bytes[at] = byte;
            bytes.truncate(keep.max(at));
            replace_clip(folder.path(), 0, &bytes).unwrap();
            prop_assert!(opened(folder.path()).0.get(1).is_some());
        }
    }

    #[test]
    fn a_clip_that_changed_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let speech = tiny_speech(folder.path(), &tiny_labels()).unwrap();
        let path = speech.clips[0].file.path.below(folder.path());
        std::fs::write(&path, b"RIFF").unwrap();
        let (clips, errors) = opened(folder.path());
        assert!(
            clips.get(0).is_none() && errors[0].contains("was changed after it was recorded"),
            "{errors:?}"
        );
    }

    #[test]
    fn without_a_list_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Clips::open(folder.path(), &[]), Err(SpeechError::Read { .. })));
        std::fs::write(folder.path().join("speech.json"), br#"{"schemaVersion":"9.0"}"#).unwrap();
        let error = Clips::open(folder.path(), &[]).unwrap_err();
        assert!(matches!(&error, SpeechError::Form { source: ArtifactError::Newer { .. }, .. }), "{error:?}");
    }
}
