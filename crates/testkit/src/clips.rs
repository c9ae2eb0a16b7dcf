//! Clips of labels: real WAV files with a tone in place of a voice.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, Result};
use mynah_contracts::{
    Artifact as _, Clip, FileRef, Label, RelativePath, SchemaVersion, Speech, from_json, to_json,
};

/// Samples per second.
const RATE: u32 = 16_000;

/// Writes `speech.json` and one clip of a tenth of a second per label below `folder`, which is made.
///
/// # Errors
/// A file cannot be written.
pub fn tiny_speech(folder: &Path, labels: &[Label]) -> Result<Speech> {
    std::fs::create_dir_all(folder.join("clips"))?;
    let mut clips = Vec::new();
    for (number, label) in labels.iter().enumerate() {
        let path = RelativePath::new(format!("clips/{number}.wav")).map_err(anyhow::Error::msg)?;
        let bytes = tone(440.0 + 110.0 * number as f32, RATE)?;
        std::fs::write(path.below(folder), &bytes)?;
        clips.push(Clip { label: label.clone(), text: label.spoken(), file: FileRef::new(path, &bytes) });
    }
    let speech =
        Speech { schema_version: SchemaVersion::CURRENT, engine: "tone".into(), voice: "en".into(), clips };
    std::fs::write(folder.join(Speech::FILE), to_json(&speech))?;
    Ok(speech)
}

/// Puts other bytes in the place of the clip at `position`, with the digest that belongs to them.
///
/// # Errors
/// There is no such clip, or a file cannot be read or written.
pub fn replace_clip(folder: &Path, position: usize, bytes: &[u8]) -> Result<()> {
    let list = folder.join(Speech::FILE);
    let mut speech: Speech = from_json(&std::fs::read(&list)?)?;
    let clip = speech.clips.get_mut(position).context("no such clip")?;
    clip.file = FileRef::new(clip.file.path.clone(), bytes);
    std::fs::write(clip.file.path.below(folder), bytes)?;
    std::fs::write(list, to_json(&speech))?;
    Ok(())
}

/// A WAV file, 16-bit PCM, one channel, a tenth of a second long.
pub(crate) fn tone(frequency: f32, rate: u32) -> Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in 0..rate / 10 {
        let phase = std::f32::consts::TAU * frequency * sample as f32 / rate as f32;
        writer.write_sample((phase.sin() * 12_000.0) as i16)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_wav_files_of_a_tenth_of_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let speech = tiny_speech(folder.path(), &["a".parse().unwrap()]).unwrap();
        let wav = hound::WavReader::open(speech.clips[0].file.path.below(folder.path())).unwrap();
        assert_eq!((wav.duration(), wav.spec().channels), (RATE / 10, 1));
    }
}
