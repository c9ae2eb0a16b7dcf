//! One file: what it is, or why it is left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Mutex;

use mynah_contracts::{Dataset, ImageFormat, Label, Sha256Digest, SkipReason, Tool};
use mynah_photo::{DecodeError, Likeness, Limits, RgbImage, decode, thumbnail};

use super::scan::Candidate;
use super::sheet;

/// What the bytes of a photo say about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) format: ImageFormat,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bytes: u64,
    pub(super) likeness: Likeness,
}

/// A file after the look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Inspected {
    Photo { digest: Sha256Digest, facts: Facts },
    Unusable { reason: SkipReason, detail: String },
}

/// What is known from the last import, by digest.
#[derive(Default)]
pub(super) struct Known(BTreeMap<Sha256Digest, Facts>);

impl Known {
    /// What `previous` says of its photos. Another version of the tool may see photos otherwise, and is not
    /// believed.
    pub(super) fn from(previous: Option<&Dataset>) -> Self {
        let photos =
            previous.filter(|dataset| dataset.tool == Tool::current()).map(|dataset| &dataset.photos);
        let facts = photos.into_iter().flatten().filter_map(|photo| {
            let likeness = photo.likeness.parse().ok()?;
            let (format, bytes) = (photo.format, photo.bytes);
            Some((photo.sha256, Facts { format, width: photo.width, height: photo.height, bytes, likeness }))
        });
        Self(facts.collect())
    }
}

/// Thumbnails of photos that were decoded anyway, as many as a contact sheet shows: of each label those with
/// the smallest digests.
#[derive(Default)]
pub(super) struct Thumbnails(Mutex<BTreeMap<Label, BTreeMap<Sha256Digest, RgbImage>>>);

impl Thumbnails {
    fn offer(&self, label: &Label, digest: Sha256Digest, image: &RgbImage) {
        let wanted = |kept: &BTreeMap<Sha256Digest, RgbImage>| {
            kept.len() < sheet::SHOWN || kept.last_key_value().is_some_and(|(last, _)| digest < *last)
        };
        // A thread that panicked left a whole map: each change is one insertion or removal.
        let lock = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lock().get(label).is_none_or(wanted) {
            let small = thumbnail(image, sheet::CELL);
            let mut labels = lock();
            let kept = labels.entry(label.clone()).or_default();
            kept.insert(digest, small);
            if kept.len() > sheet::SHOWN {
                kept.pop_last();
            }
        }
    }

    /// The thumbnail, if it was kept.
    pub(super) fn take(&self, label: &Label, digest: &Sha256Digest) -> Option<RgbImage> {
        let mut labels = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        labels.get_mut(label)?.remove(digest)
    }
}

/// Looks at one file; photos that are known are not decoded.
pub(super) fn inspect(
    candidate: &Candidate,
    known: &Known,
    limits: &Limits,
    thumbnails: &Thumbnails,
) -> Inspected {
    let unusable = |reason, detail: String| Inspected::Unusable { reason, detail };
    let bytes = match read(&candidate.path, limits) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return unusable(error.skip_reason(), error.to_string()),
        Err(error) => return unusable(SkipReason::Unreadable, error.to_string()),
    };
    let digest = Sha256Digest::of(&bytes);
    if let Some(facts) = known.0.get(&digest) {
        return Inspected::Photo { digest, facts: *facts };
    }
    match decode(&bytes, limits) {
        Ok(decoded) => {
            thumbnails.offer(&candidate.label, digest, &decoded.image);
            let facts = Facts {
                format: decoded.format,
                width: decoded.image.width(),
                height: decoded.image.height(),
                bytes: bytes.len() as u64,
                likeness: Likeness::of(&decoded.image),
            };
            Inspected::Photo { digest, facts }
        }
        Err(error) => unusable(error.skip_reason(), error.to_string()),
    }
}

/// The file's bytes; one that is too large is not read.
fn read(path: &Path, limits: &Limits) -> io::Result<Result<Vec<u8>, DecodeError>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if let Err(error) = limits.check_file(size) {
        return Ok(Err(error));
    }
    // One that grows meanwhile is read no further than allowed, and is found out by its end.
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(limits.max_file_bytes).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}
