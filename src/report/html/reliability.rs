//! The reliability diagram (Guo et al. 2017, §2): whether what the model calls 80 % sure is right 8 times in 10.

use std::fmt::{self, Write as _};

use mynah_contracts::{CalibrationBin, Evaluation};

use super::super::escape::Html;
use super::super::figures::{decimal, percent};

/// The square plot in user units: its left, top and side; the bars of counts below it.
const LEFT: f64 = 52.0;
const TOP: f64 = 14.0;
const SIDE: f64 = 320.0;
const COUNTS_TOP: f64 = TOP + SIDE + 34.0;
const COUNTS_HEIGHT: f64 = 56.0;
const WIDTH: f64 = LEFT + SIDE + 16.0;
const HEIGHT: f64 = COUNTS_TOP + COUNTS_HEIGHT + 38.0;

/// Writes the section.
pub(super) fn write(out: &mut String, evaluation: &Evaluation, id: &str) -> fmt::Result {
    let bins: Vec<&CalibrationBin> =
        evaluation.calibration_bins.iter().filter(|bin| bin.photos > 0).collect();
    if bins.is_empty() {
        return Ok(());
    }
    let error = decimal(evaluation.summary.calibration_error);
    out.write_str("<section>\n<h2>Calibration</h2>\n<div class=\"card pair\">\n<div>\n")?;
    write_diagram(out, &bins, &error, id)?;
    write!(
        out,
        "</div>\n<div>\n<p>Does the model know how sure it may be? Each bar holds the predictions of about the same \
         probability; its height is the share of them that was right. On the dashed line both agree. The outlined \
         part is the difference: below the line the model is too sure of itself, above it too modest.</p>\n\
         <p>Expected calibration error: <b>{error}</b>, the mean difference, weighted by photos.</p>\n"
    )?;
    out.write_str(concat!(
        "<details>\n<summary>The same in numbers</summary>\n<table>\n<thead><tr><th scope=\"col\">Probability</th>",
        "<th scope=\"col\">Photos</th><th scope=\"col\">Mean</th><th scope=\"col\">Right</th></tr></thead>\n<tbody>\n",
    ))?;
    for bin in &bins {
        writeln!(
            out,
            "<tr><th scope=\"row\">{:.2} to {:.2}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            bin.lower,
            bin.upper,
            bin.photos,
            decimal(bin.confidence),
            Html(&percent(bin.accuracy))
        )?;
    }
    out.write_str("</tbody>\n</table>\n</details>\n</div>\n</div>\n</section>\n")
}

fn write_diagram(out: &mut String, bins: &[&CalibrationBin], error: &str, id: &str) -> fmt::Result {
    let (right, bottom, middle) = (LEFT + SIDE, TOP + SIDE, LEFT + SIDE / 2.0);
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"reliability-{id}\">\n\
         <title id=\"reliability-{id}\">Reliability diagram, expected calibration error {error}; the numbers \
         follow as a table</title>"
    )?;
    for tick in 0..=5 {
        let (share, label) = (f64::from(tick) / 5.0, format!("{}%", tick * 20));
        let (x, y) = (LEFT + share * SIDE, bottom - share * SIDE);
        writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            LEFT - 8.0,
            y + 4.0,
            bottom + 16.0
        )?;
    }
    let most = bins.iter().map(|bin| bin.photos).max().unwrap_or(1).max(1);
    for bin in bins {
        let x = LEFT + unit(bin.lower) * SIDE + 1.0;
        let width = ((unit(bin.upper) - unit(bin.lower)) * SIDE - 2.0).max(1.0);
        let gap = if bin.confidence > bin.accuracy { "gap" } else { "gap modest" };
        let (accuracy, confidence) = (unit(bin.accuracy) * SIDE, unit(bin.confidence) * SIDE);
        writeln!(
            out,
            "<rect class=\"share\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{accuracy:.1}\"/>\
             <rect class=\"{gap}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            bottom - accuracy,
            x + 0.5,
            bottom - accuracy.max(confidence),
            (width - 1.0).max(0.5),
            (accuracy - confidence).abs()
        )?;
        let height = (f64::from(bin.photos) / f64::from(most) * COUNTS_HEIGHT).max(1.0);
        writeln!(
            out,
            "<rect class=\"count\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            COUNTS_TOP + COUNTS_HEIGHT - height
        )?;
    }
    let counts_bottom = COUNTS_TOP + COUNTS_HEIGHT;
    writeln!(
        out,
        "<path class=\"ideal\" d=\"M{LEFT} {bottom}L{right} {TOP}\"/>\
         <path class=\"axis\" d=\"M{LEFT} {counts_bottom}H{right}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>\
         <text x=\"{:.1}\" y=\"{counts_bottom}\" text-anchor=\"end\">0</text>\
         <text class=\"title\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">Probability the model stated</text>\
         <text class=\"title\" transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">Share that was right</text>\
         <text class=\"title\" transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">Photos</text>\n</svg>",
        LEFT - 8.0,
        COUNTS_TOP + 8.0,
        LEFT - 8.0,
        counts_bottom + 24.0,
        TOP + SIDE / 2.0,
        COUNTS_TOP + COUNTS_HEIGHT / 2.0
    )
}

/// 0 to 1, whatever the file said.
fn unit(share: f64) -> f64 {
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}
