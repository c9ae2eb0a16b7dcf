//! The worst mistakes, each with its photo: often it is the folder that is wrong, not the model.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::{Dataset, Evaluation, RelativePath, Sha256Digest};
use mynah_photo::file::{FileError, read_verified};
use mynah_photo::{Limits, decode, encode_jpeg, thumbnail};
use rayon::prelude::*;

use super::super::Report;
use super::super::escape::Html;
use super::super::figures::percent;

/// The longer side of a thumbnail, in pixels.
const THUMBNAIL_SIDE: u32 = 128;

/// How good a thumbnail's JPEG is, 1 to 100.
const THUMBNAIL_QUALITY: u8 = 80;

/// Photos decoded at one time: a large one takes a hundred megabytes.
const AT_ONCE: usize = 4;

/// A thumbnail as a `data:` address, or why there is none.
type Picture = Result<String, &'static str>;

/// The thumbnails of all mistakes.
pub(super) struct Pictures(BTreeMap<Sha256Digest, Picture>);

impl Pictures {
    /// Reads the photos of the mistakes `report` tells of.
    pub(super) fn of(report: &Report<'_>) -> Self {
        let evaluations = std::iter::once(&report.training.cross_validation).chain(&report.training.holdout);
        let mut wanted: Vec<Sha256Digest> = evaluations
            .flat_map(|evaluation| evaluation.mistakes.iter().take(Evaluation::MAX_MISTAKES))
            .map(|mistake| mistake.sha256)
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let sources: Vec<_> =
            std::iter::once((report.dataset, report.dataset_folder)).chain(report.holdout).collect();
        let file = |digest: &Sha256Digest| {
            sources.iter().find_map(|(dataset, folder)| Some(find(dataset, digest)?.below(folder)))
        };
        let wanted: Vec<(Sha256Digest, Option<PathBuf>)> =
            wanted.iter().map(|digest| (*digest, file(digest))).collect();
        let mut pictures = BTreeMap::new();
        for some in wanted.chunks(AT_ONCE) {
            pictures
                .par_extend(some.par_iter().map(|(digest, file)| (*digest, picture(digest, file.as_ref()))));
        }
        Self(pictures)
    }
}

fn find<'a>(dataset: &'a Dataset, digest: &Sha256Digest) -> Option<&'a RelativePath> {
    dataset.photos.iter().find(|photo| photo.sha256 == *digest).map(|photo| &photo.file)
}

fn picture(digest: &Sha256Digest, file: Option<&PathBuf>) -> Picture {
    let file = file.ok_or("is not in the dataset")?;
    let bytes = read_verified(file, digest).map_err(|error| match error {
        FileError::Read { .. } => "cannot be read",
        FileError::Changed { .. } => "changed since the import",
    })?;
    let photo = decode(&bytes, &Limits::default()).map_err(|_| "cannot be decoded")?;
    let small = thumbnail(&photo.image, THUMBNAIL_SIDE);
    let jpeg = encode_jpeg(&small, THUMBNAIL_QUALITY).map_err(|_| "cannot be drawn")?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
}

/// Writes the section.
pub(super) fn write(out: &mut String, evaluation: &Evaluation, pictures: &Pictures) -> fmt::Result {
    out.write_str("<section>\n<h2>Worst mistakes</h2>\n")?;
    if evaluation.mistakes.is_empty() {
        return out.write_str("<p class=\"note\">There are none.</p>\n</section>\n");
    }
    out.write_str(concat!(
        "<p class=\"note\">The wrong answers the model was most sure of. Look at the photo first: ",
        "it may lie in the wrong folder.</p>\n<ul class=\"mistakes\">\n",
    ))?;
    for mistake in evaluation.mistakes.iter().take(Evaluation::MAX_MISTAKES) {
        let (label, predicted) = (Html(mistake.label.as_str()), Html(mistake.predicted.as_str()));
        out.write_str("<li class=\"card\">")?;
        match pictures.0.get(&mistake.sha256) {
            Some(Ok(address)) => write!(
                out,
                "<img src=\"{address}\" alt=\"A photo of {label} that was taken for {predicted}\"/>"
            )?,
            Some(Err(why)) => write!(out, "<div class=\"blank\">The photo {why}</div>")?,
            None => out.write_str("<div class=\"blank\">No photo</div>")?,
        }
        writeln!(
            out,
            "<dl><dt>Is</dt><dd><bdi>{label}</bdi></dd><dt>Said</dt><dd><bdi>{predicted}</bdi></dd>\
             <dt>Sure</dt><dd>{}</dd><dd class=\"wide path\">{}</dd></dl></li>",
            Html(&percent(f64::from(mistake.probability))),
            Html(&mistake.source)
        )?;
    }
    out.write_str("</ul>\n</section>\n")
}
