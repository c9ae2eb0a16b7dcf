//! `report.md`: pipe tables and headings only, which is what the summary tab of Azure Pipelines renders.

use std::fmt::{self, Write as _};

use mynah_contracts::{Evaluation, Label};

use super::Report;
use super::confusions::most_confused;
use super::escape::Markdown;
use super::figures::{basis, decimal, headline, percent, photos, share};
use super::provenance;

/// More columns than this do not fit on the tab.
const WIDEST_MATRIX: usize = 12;

/// How many confused pairs and near-duplicates are listed.
const PAIRS_LISTED: usize = 10;

impl Report<'_> {
    /// `report.md`.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let training = self.training;
        writeln!(out, "# Training report\n")?;
        let summary = &training.cross_validation.summary;
        writeln!(
            out,
            "**{} accuracy** in {} of {} with {} labels.",
            percent(summary.accuracy),
            basis(&training.cross_validation),
            photos(summary.photos),
            training.labels.len()
        )?;
        self.write_gates(out)?;
        self.write_figures(out)?;
        write_evaluation(out, &training.cross_validation, &training.labels, "")?;
        if let Some(holdout) = &training.holdout {
            write_evaluation(out, holdout, &training.labels, " on the holdout")?;
        }
        self.write_dataset(out)?;
        writeln!(out, "\n## Provenance\n\n| Fact | Value |\n|:---|:---|")?;
        for (name, value) in provenance::facts(training) {
            writeln!(out, "| {name} | {} |", Markdown(&value))?;
        }
        Ok(())
    }

    fn write_gates(&self, out: &mut String) -> fmt::Result {
        if self.gates.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Gates\n\n| Gate | Measured | Result |\n|:---|---:|:---|")?;
        for gate in self.gates {
            let result = if gate.passed { "passed" } else { "**failed**" };
            writeln!(out, "| {} | {} | {result} |", gate.name, gate.measured_text())?;
        }
        for failure in self.gates.iter().filter_map(|gate| gate.failure(self.training)) {
            writeln!(out, "\nFailed: {}.", Markdown(&failure))?;
        }
        Ok(())
    }

    fn write_figures(&self, out: &mut String) -> fmt::Result {
        let training = self.training;
        let evaluations: Vec<&Evaluation> =
            std::iter::once(&training.cross_validation).chain(training.holdout.as_ref()).collect();
        writeln!(out, "\n## Figures\n")?;
        let judged = match training.cross_validation.summary.folds {
            0 => "Photos kept apart",
            _ => "Cross-validation",
        };
        write!(out, "| Figure | {judged} |")?;
        writeln!(out, "{}", if training.holdout.is_some() { " Holdout |" } else { "" })?;
        writeln!(out, "|:---|{}", "---:|".repeat(evaluations.len()))?;
        write!(out, "| Photos |")?;
        for evaluation in &evaluations {
            write!(out, " {} |", evaluation.summary.photos)?;
        }
        writeln!(out)?;
        let threshold = decimal(f64::from(training.calibration.reject_threshold));
        writeln!(out, "| Reject threshold |{}", format!(" {threshold} |").repeat(evaluations.len()))?;
        let columns: Vec<_> =
            evaluations.iter().map(|evaluation| headline(evaluation, training.calibration)).collect();
        let Some(first) = columns.first() else { return Ok(()) };
        for (row, figure) in first.iter().enumerate() {
            write!(out, "| {} |", figure.name)?;
            for value in columns.iter().filter_map(|column| column.get(row)) {
                write!(out, " {} |", Markdown(&value.value))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_dataset(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n## Dataset\n")?;
        writeln!(
            out,
            "{} with {} labels.",
            photos(self.training.dataset.photos),
            self.training.labels.len()
        )?;
        let skipped = provenance::skipped(self.dataset);
        if !skipped.is_empty() {
            writeln!(out, "\n| Left out | Files |\n|:---|---:|")?;
            for (reason, count) in skipped {
                writeln!(out, "| {} | {count} |", reason.words())?;
            }
        }
        let near = &self.dataset.near_duplicates;
        if !near.is_empty() {
            writeln!(out, "\n### Photos of different labels that look alike\n")?;
            writeln!(out, "Perhaps one of each pair is in the wrong folder.\n")?;
            writeln!(out, "| Photo | Looks like | Bits that differ, of 256 |\n|:---|:---|---:|")?;
            for pair in near.iter().take(PAIRS_LISTED) {
                let (first, second) = (Markdown(&pair.first), Markdown(&pair.second));
                writeln!(out, "| {first} | {second} | {} |", pair.distance)?;
            }
            write_rest(out, near.len())?;
        }
        Ok(())
    }
}

fn write_evaluation(out: &mut String, evaluation: &Evaluation, labels: &[Label], place: &str) -> fmt::Result {
    writeln!(out, "\n## Labels{place}\n")?;
    writeln!(out, "| Label | Photos | Precision | Recall | F1 |\n|:---|---:|---:|---:|---:|")?;
    for score in &evaluation.per_label {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            Markdown(score.label.as_str()),
            score.photos,
            percent(score.precision),
            percent(score.recall),
            percent(score.f1)
        )?;
    }
    let confusions = most_confused(evaluation, labels);
    writeln!(out, "\n## Most confused{place}\n")?;
    if confusions.is_empty() {
        writeln!(out, "No photo was taken for another label.")?;
    } else {
        writeln!(out, "| True → predicted | Photos | Share of the true label |\n|:---|---:|---:|")?;
        for confusion in confusions.iter().take(PAIRS_LISTED) {
            writeln!(
                out,
                "| {} → {} | {} | {} |",
                Markdown(confusion.truth.as_str()),
                Markdown(confusion.predicted.as_str()),
                confusion.photos,
                percent(confusion.share())
            )?;
        }
        write_rest(out, confusions.len())?;
    }
    write_matrix(out, evaluation, labels, place)
}

fn write_matrix(out: &mut String, evaluation: &Evaluation, labels: &[Label], place: &str) -> fmt::Result {
    writeln!(out, "\n## Confusion matrix{place}\n")?;
    if labels.len() > WIDEST_MATRIX {
        return writeln!(out, "{} labels are too many for a table here: see `confusion.png`.", labels.len());
    }
    writeln!(out, "Rows are true labels, columns predicted ones. Photos, with their share of the row.\n")?;
    write!(out, "| True ↓ |")?;
    for label in labels {
        write!(out, " {} |", Markdown(label.as_str()))?;
    }
    writeln!(out, "\n|:---|{}", "---:|".repeat(labels.len()))?;
    for (row, (label, counts)) in labels.iter().zip(&evaluation.confusion).enumerate() {
        write!(out, "| {} |", Markdown(label.as_str()))?;
        let of = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate() {
            match count {
                0 => write!(out, " 0 |")?,
                // Bold marks what is right: no colour here.
                count if row == column => write!(out, " **{count}** {} |", percent(share(count, of)))?,
                count => write!(out, " {count} {} |", percent(share(count, of)))?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_rest(out: &mut String, all: usize) -> fmt::Result {
    match all.saturating_sub(PAIRS_LISTED) {
        0 => Ok(()),
        1 => writeln!(out, "\nAnd 1 more pair."),
        rest => writeln!(out, "\nAnd {rest} more pairs."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixture, gate};

    #[test]
    fn a_report_reads_well() {
        let mut case = fixture::six_labels();
        case.training.holdout = Some(fixture::evaluation(
            &case.training.labels,
            &(0..6)
                .map(|row| (0..6).map(|column| 9 * u32::from(row == column) + 1).collect())
                .collect::<Vec<_>>(),
            0,
        ));
        let gates = Vec::from_iter(gate::accuracy(&case.training, Some(0.9)));
        insta::assert_snapshot!(Report { gates: &gates, ..case.report() }.markdown());
    }

    #[test]
    fn hostile_labels_stay_text() {
        let case = fixture::hostile();
        let gates = Vec::from_iter(gate::accuracy(&case.training, Some(0.99)));
        let text = Report { gates: &gates, ..case.report() }.markdown();
        insta::assert_snapshot!(text);
        assert!(!text.contains("##vso[") && !text.contains("##["));
        assert!(!text.contains("<script"));
    }

    #[test]
    fn every_table_row_has_its_header_s_cells() {
        for case in [fixture::six_labels(), fixture::hostile()] {
            let text = case.report().markdown();
            let cells = |line: &str| line.replace("\\|", "").matches('|').count();
            let mut width = None;
            for line in text.lines() {
                if line.starts_with('|') {
                    let expected = *width.get_or_insert_with(|| cells(line));
                    assert_eq!(cells(line), expected, "{line}");
                } else {
                    width = None;
                }
            }
        }
    }

    #[test]
    fn a_wide_matrix_is_left_to_the_picture() {
        let names: Vec<String> = (0..13).map(|i| format!("label {i:02}")).collect();
        let labels = fixture::labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let matrix = vec![vec![1; 13]; 13];
        let case = fixture::case(fixture::training(&labels, &matrix));
        let text = case.report().markdown();
        assert!(text.contains("13 labels are too many for a table here"));
        assert!(text.contains("And 146 more pairs."));
    }
}
