//! The WAV files a device plays: RIFF/WAVE with 16-bit PCM samples of one channel.

/// Why bytes are no clip; completes the sentence "the clip …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WavProblem {
    /// Not a RIFF/WAVE file.
    #[error("is no WAV file")]
    NotWav,
    /// A chunk reaches beyond the file's end.
    #[error("breaks off")]
    Truncated,
    /// A kind of sound the device does not play.
    #[error("is not 16-bit PCM of one channel at 8,000 to 48,000 samples a second")]
    Form,
    /// No samples at all.
    #[error("holds no sound")]
    Silent,
}

/// What a clip holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WavInfo {
    /// Samples a second.
    pub rate: u32,
    /// How many samples.
    pub samples: u32,
}

/// Checks a whole WAV file (Multimedia Programming Interface and Data Specifications 1.0, "Waveform Audio
/// File Format").
///
/// # Errors
/// When it is none, breaks off, or holds what the device does not play.
pub fn check(bytes: &[u8]) -> Result<WavInfo, WavProblem> {
    let header: &[u8; 12] = bytes.first_chunk().ok_or(WavProblem::NotWav)?;
    if !header.starts_with(b"RIFF") || !header.ends_with(b"WAVE") {
        return Err(WavProblem::NotWav);
    }
    let mut rest = bytes.get(12..).unwrap_or_default();
    let mut rate = None;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, size @ ..] = *head;
        let size = u32::from_le_bytes(size) as usize;
        let body = after.get(..size).ok_or(WavProblem::Truncated)?;
        match [a, b, c, d] {
            [b'f', b'm', b't', b' '] => rate = Some(pcm_rate(body)?),
            [b'd', b'a', b't', b'a'] => {
                let rate = rate.ok_or(WavProblem::Form)?;
                let samples = u32::try_from(size / 2).map_err(|_| WavProblem::Form)?;
                return if samples == 0 { Err(WavProblem::Silent) } else { Ok(WavInfo { rate, samples }) };
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    Err(WavProblem::Truncated)
}

/// The sample rate of a `fmt ` chunk that says 16-bit PCM, one channel.
fn pcm_rate(body: &[u8]) -> Result<u32, WavProblem> {
    let body: &[u8; 16] = body.first_chunk().ok_or(WavProblem::Form)?;
    let [format0, format1, channels0, channels1, r0, r1, r2, r3, .., bits0, bits1] = *body;
    let rate = u32::from_le_bytes([r0, r1, r2, r3]);
    let form = [[format0, format1], [channels0, channels1], [bits0, bits1]].map(u16::from_le_bytes);
    if form == [1, 1, 16] && (8_000..=48_000).contains(&rate) { Ok(rate) } else { Err(WavProblem::Form) }
}

#[cfg(test)]
pub(crate) mod tests {
    use mynah_contracts::azure_speech::with_length;

    use super::*;
    use proptest::prelude::*;

    /// A clip of these samples at 22,050 a second.
    pub(crate) fn clip(samples: &[i16]) -> Vec<u8> {
        wav(1, 1, 22_050, 16, samples)
    }

    fn wav(format: u16, channels: u16, rate: u32, bits: u16, samples: &[i16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(b"RIFF");
        bytes.extend((36 + samples.len() as u32 * 2).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(16_u32.to_le_bytes());
        bytes.extend(format.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate * 2).to_le_bytes());
        bytes.extend(2_u16.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((samples.len() as u32 * 2).to_le_bytes());
        bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_clip_is_known_and_everything_else_refused() {
        assert_eq!(check(&clip(&[1, 2, 3])), Ok(WavInfo { rate: 22_050, samples: 3 }));
        assert_eq!(check(&clip(&[])), Err(WavProblem::Silent));
        assert_eq!(check(b"OggS"), Err(WavProblem::NotWav));
        let whole = clip(&[1, 2, 3]);
        assert_eq!(check(&whole[..whole.len() - 1]), Err(WavProblem::Truncated));
        for bad in [
            wav(3, 1, 22_050, 16, &[1]),
            wav(1, 2, 22_050, 16, &[1]),
            wav(1, 1, 4_000, 16, &[1]),
            wav(1, 1, 22_050, 8, &[1]),
        ] {
            assert_eq!(check(&bad), Err(WavProblem::Form));
        }
    }

    #[test]
    fn a_streamed_file_gets_its_lengths() {
        let whole = clip(&[1, 2, 3]);
        for open in [0_u32, u32::MAX, 0x7fff_ffff] {
            let mut streamed = whole.clone();
            streamed[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            streamed[40..44].copy_from_slice(&open.to_le_bytes());
            assert_eq!(with_length(streamed), whole);
        }
        assert_eq!(with_length(whole.clone()), whole);
        let mut cut = whole.clone();
        cut.truncate(whole.len() - 2);
        assert_eq!(check(&with_length(cut)), Err(WavProblem::Truncated));
    }

    proptest! {
        #[test]
        fn checking_is_total(mut bytes in Just(clip(&[1, 2, 3])), at in 0..50_usize, value in any::<u8>(), cut in 0..60_usize) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _ = check(&bytes);
            let _ = with_length(bytes);
        }
    }
}
