//! The table at the end of a walk: short, aligned, for people.

use std::fmt::Write as _;
use std::path::Path;

use mynah_contracts::{Dataset, ModelCard, ModuleSet, Sha256Digest, Sighting, Training};
use unicode_width::UnicodeWidthStr as _;

/// What the steps left behind.
pub(super) struct Walked<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) training: &'a Training,
    pub(super) model: &'a ModelCard,
    pub(super) modules: &'a ModuleSet,
    pub(super) manifest: &'a Path,
    pub(super) device: &'a Path,
    pub(super) report: &'a Path,
    pub(super) sightings: &'a [Sighting],
    pub(super) seen_before: bool,
}

/// The whole table.
pub(super) fn render(walked: &Walked<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = summary(&mut out, walked);
    let _ = frames(&mut out, walked);
    out
}

fn summary(out: &mut String, walked: &Walked<'_>) -> std::fmt::Result {
    let counts: Vec<String> =
        walked.dataset.labels.iter().map(|count| format!("{} {}", count.label, count.photos)).collect();
    let figures = &walked.training.cross_validation.summary;
    writeln!(out)?;
    writeln!(
        out,
        "photos      {} of {} labels: {}",
        walked.dataset.photos.len(),
        counts.len(),
        counts.join(", ")
    )?;
    if !walked.dataset.skipped.is_empty() {
        writeln!(out, "left out    {} files; dataset.json says why", walked.dataset.skipped.len())?;
    }
    writeln!(
        out,
        "accuracy    {:.1} % {}; silent below {:.0} % sure",
        figures.accuracy * 100.0,
        match figures.folds {
            0 => format!("on {} photos kept apart", figures.photos),
            folds => format!("in {folds}-fold cross-validation"),
        },
        f64::from(walked.training.calibration.reject_threshold) * 100.0
    )?;
    writeln!(out, "report      {}", walked.report.display())?;
    writeln!(out, "model       {}, {}", megabytes(walked.model.model.bytes), short(&walked.model.digest()))?;
    for module in &walked.modules.modules {
        for image in &module.platforms {
            let bytes = image.layers.iter().map(|layer| layer.size).sum();
            writeln!(
                out,
                "image       {}, {}, {}",
                image.platform,
                megabytes(bytes),
                short(&image.manifest.digest)
            )?;
        }
    }
    writeln!(out, "deployment  {}", walked.manifest.display())?;
    writeln!(out, "device      healthy; {}", walked.device.display())
}

fn frames(out: &mut String, walked: &Walked<'_>) -> std::fmt::Result {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for sighting in walked.sightings {
        let name = sighting.image.clone().unwrap_or_else(|| format!("frame {}", sighting.frame));
        let sees = sighting
            .label
            .as_ref()
            .map_or_else(|| format!("unknown ({}?)", sighting.best), ToString::to_string);
        let sure = format!("{:.0} %", sighting.probability * 100.0);
        let said = sighting.said.as_ref().map(|words| format!("“{words}”"));
        // A picture is looked at several times in a row: one line, with what was said at any of them.
        match rows.last_mut() {
            Some(row) if row[0] == name => {
                row[1] = sees;
                row[2] = sure;
                if let Some(said) = said {
                    row[3] = said;
                }
            }
            _ => rows.push([name, sees, sure, said.unwrap_or_default()]),
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.insert(0, ["frame".into(), "sees".into(), "sure".into(), "says".into()]);
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    writeln!(out)?;
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell}{}  ", " ".repeat(width - cell.width()));
        }
        line.push_str(&row[3]);
        writeln!(out, "{}", line.trim_end())?;
    }
    if walked.seen_before {
        writeln!(out, "\nThe frames are photos it learnt from; give --frames for a fair look.")?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Enough of a digest to recognise it.
fn short(digest: &Sha256Digest) -> String {
    format!("sha256:{}…", &digest.hex()[..12])
}
