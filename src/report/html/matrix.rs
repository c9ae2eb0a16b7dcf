//! The confusion matrix as a table whose cells are coloured by their share of the row.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::{Evaluation, Label};

use super::super::confusion_png;
use super::super::escape::Html;
use super::super::figures::{percent, share};

/// With more labels, a cell holds the count only and column headings stand upright.
const WIDEST_ROOMY: usize = 10;

/// With more labels, the picture takes the table's place.
const WIDEST_TABLE: usize = 50;

/// Whether the matrix of these labels is small enough to have something beside it.
pub(super) fn is_roomy(labels: &[Label]) -> bool {
    labels.len() <= WIDEST_ROOMY
}

/// Writes the section.
pub(super) fn write(out: &mut String, evaluation: &Evaluation, labels: &[Label], id: &str) -> fmt::Result {
    out.write_str("<section>\n<h2>Confusion matrix</h2>\n")?;
    if labels.len() > WIDEST_TABLE {
        write_picture(out, evaluation, labels)?;
        return out.write_str("</section>\n");
    }
    let roomy = is_roomy(labels);
    let (dense, upright) = if roomy { ("", "") } else { (" dense", " class=\"upright\"") };
    write!(
        out,
        "<div class=\"card matrix{dense}\">\n<p class=\"note\" id=\"matrix-{id}\">Rows are true labels, columns \
         predicted ones: photos{}. The outlined diagonal is right; the deeper a colour, the larger the share of \
         its row.</p>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Confusion matrix\">\n\
         <table aria-describedby=\"matrix-{id}\">\n<thead><tr><th scope=\"col\">True ↓</th>",
        if roomy { " and their share of the row" } else { "" }
    )?;
    for label in labels {
        write!(out, "<th scope=\"col\"{upright}><span><bdi>{}</bdi></span></th>", Html(label.as_str()))?;
    }
    out.write_str("</tr></thead>\n<tbody>\n")?;
    for (row, (label, counts)) in labels.iter().zip(&evaluation.confusion).enumerate() {
        write!(out, "<tr><th scope=\"row\"><bdi>{}</bdi></th>", Html(label.as_str()))?;
        let of = counts.iter().sum();
        for (column, &count) in counts.iter().take(labels.len()).enumerate() {
            let class = match (row == column, count) {
                (true, 0) => " class=\"hit none\"",
                (true, _) => " class=\"hit\"",
                (false, 0) => " class=\"none\"",
                (false, _) => "",
            };
            if count == 0 {
                write!(out, "<td{class}>0</td>")?;
                continue;
            }
            let share = share(count, of);
            // The square root keeps rare mistakes apart from none.
            write!(out, "<td{class} style=\"--s:{:.2}\">{count}", share.sqrt())?;
            if roomy {
                write!(out, "<small>{}</small>", Html(&percent(share)))?;
            }
            out.write_str("</td>")?;
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody>\n</table>\n</div>\n</div>\n</section>\n")
}

/// A table of thousands of cells helps nobody: the picture, or a pointer to the pairs.
fn write_picture(out: &mut String, evaluation: &Evaluation, labels: &[Label]) -> fmt::Result {
    let count = labels.len();
    match confusion_png::png(evaluation, labels) {
        Ok(png) => writeln!(
            out,
            "<div class=\"card matrix\"><img alt=\"Confusion matrix of {count} labels; the most confused pairs \
             follow as a table\" src=\"data:image/png;base64,{}\"/></div>",
            STANDARD.encode(png)
        ),
        Err(_) => writeln!(
            out,
            "<p class=\"note\">{count} labels are too many for a matrix here: see the most confused pairs below.</p>"
        ),
    }
}
