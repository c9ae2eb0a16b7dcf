//! `report.html`: one self-contained page, without scripts or anything fetched, for phones, desks and paper.
//!
//! The page is also well-formed XML, so that a strict parser can hold its structure and its escaping to account.
//! Colour never carries meaning alone: every coloured cell, bar and badge has its number or word beside it.

use std::fmt::{self, Write as _};

use mynah_contracts::{Dataset, Evaluation, Label};

use super::Report;
use super::confusions::most_confused;
use super::escape::Html;
use super::figures::{basis, headline, percent, photos};
use super::provenance;

mod matrix;
mod mistakes;
mod reliability;

/// How many confused pairs or near-duplicates are listed at most.
const PAIRS_LISTED: usize = 20;

/// How many confused pairs are listed where there are few labels: about as high as the matrix beside them.
const FEW_PAIRS_LISTED: usize = 10;

impl Report<'_> {
    /// `report.html`. Reads the photos of the worst mistakes; one that cannot be read is shown by name only.
    pub fn html(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_html(&mut out);
        out
    }

    fn write_html(&self, out: &mut String) -> fmt::Result {
        let training = self.training;
        out.write_str(concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n",
            "<meta http-equiv=\"Content-Security-Policy\" ",
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"/>\n",
            "<title>Training report</title>\n<style>\n",
            include_str!("report.css"),
            "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>Training report</h1>\n",
        ))?;
        writeln!(
            out,
            "<p class=\"lead\">{} of {} labels, judged by {}</p>",
            photos(training.dataset.photos),
            training.labels.len(),
            basis(&training.cross_validation)
        )?;
        out.write_str("</header>\n")?;
        self.write_html_gates(out)?;
        let pictures = mistakes::Pictures::of(self);
        self.write_html_evaluation(out, &training.cross_validation, "cv", &pictures)?;
        if let Some(holdout) = &training.holdout {
            writeln!(out, "<section class=\"part\">\n<h2>Holdout</h2>")?;
            writeln!(
                out,
                "<p class=\"lead\">The final model on {} kept apart from all training.</p>",
                photos(holdout.summary.photos)
            )?;
            self.write_html_evaluation(out, holdout, "holdout", &pictures)?;
            writeln!(out, "</section>")?;
        }
        write_dataset(out, self.dataset)?;
        out.write_str("<section>\n<h2>Provenance</h2>\n<div class=\"card\">\n<dl class=\"facts\">\n")?;
        for (name, value) in provenance::facts(training) {
            writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Html(&value))?;
        }
        out.write_str("</dl>\n</div>\n</section>\n</main>\n</body>\n</html>\n")
    }

    fn write_html_gates(&self, out: &mut String) -> fmt::Result {
        if self.gates.is_empty() {
            return Ok(());
        }
        out.write_str("<ul class=\"gates\" aria-label=\"Gates\">\n")?;
        for gate in self.gates {
            let (class, badge) =
                if gate.passed { ("passed", "✓ Passed") } else { ("failed", "✗ Failed") };
            write!(out, "<li class=\"card {class}\"><b>{badge}</b><span>")?;
            match gate.failure(self.training) {
                Some(failure) => write!(out, "{}.", Html(&failure))?,
                None => write!(out, "{}; {} was measured.", gate.name, gate.measured_text())?,
            }
            out.write_str("</span></li>\n")?;
        }
        out.write_str("</ul>\n")
    }

    fn write_html_evaluation(
        &self,
        out: &mut String,
        evaluation: &Evaluation,
        id: &str,
        pictures: &mistakes::Pictures,
    ) -> fmt::Result {
        out.write_str("<dl class=\"figures\">\n")?;
        for figure in headline(evaluation, self.training.calibration) {
            write!(out, "<div class=\"card\"><dt>{}</dt><dd class=\"value\">", figure.name)?;
            write!(out, "{}", Html(&figure.value))?;
            if let Some(at) = &figure.at {
                write!(out, " <small>at {at}</small>")?;
            }
            writeln!(out, "</dd><dd class=\"meaning\">{}</dd></div>", figure.meaning)?;
        }
        out.write_str("</dl>\n")?;
        let labels = &self.training.labels;
        let beside = if matrix::is_roomy(labels) { " class=\"beside\"" } else { "" };
        writeln!(out, "<div{beside}>")?;
        matrix::write(out, evaluation, labels, id)?;
        write_confusions(out, evaluation, labels)?;
        out.write_str("</div>\n")?;
        write_labels(out, evaluation)?;
        reliability::write(out, evaluation, id)?;
        mistakes::write(out, evaluation, pictures)
    }
}

fn write_confusions(out: &mut String, evaluation: &Evaluation, labels: &[Label]) -> fmt::Result {
    out.write_str("<section>\n<h2>Most confused</h2>\n")?;
    let confusions = most_confused(evaluation, labels);
    if confusions.is_empty() {
        return out.write_str("<p class=\"note\">No photo was taken for another label.</p>\n</section>\n");
    }
    out.write_str(concat!(
        "<div class=\"card\">\n<table>\n<caption>Which label is taken for which other: photos, and their share of the true label</caption>\n",
        "<thead><tr><th scope=\"col\">True label</th><th scope=\"col\" class=\"start\">Predicted</th>",
        "<th scope=\"col\">Photos</th><th scope=\"col\">Share</th></tr></thead>\n<tbody>\n",
    ))?;
    let listed = labels.len().clamp(FEW_PAIRS_LISTED, PAIRS_LISTED);
    for confusion in confusions.iter().take(listed) {
        writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"text\"><bdi>{}</bdi></td><td>{}</td><td>{}</td></tr>",
            Html(confusion.truth.as_str()),
            Html(confusion.predicted.as_str()),
            confusion.photos,
            Html(&percent(confusion.share()))
        )?;
    }
    out.write_str("</tbody>\n</table>\n")?;
    write_rest(out, confusions.len().saturating_sub(listed))?;
    out.write_str("</div>\n</section>\n")
}

fn write_labels(out: &mut String, evaluation: &Evaluation) -> fmt::Result {
    out.write_str(concat!(
        "<section>\n<h2>Labels</h2>\n<div class=\"card\">\n<table class=\"bars\">\n",
        "<caption>Precision: of the photos given this label, how many truly carry it. ",
        "Recall: of the photos that carry it, how many were found. F1: both together.</caption>\n",
        "<thead><tr><th scope=\"col\">Label</th><th scope=\"col\">Photos</th><th scope=\"col\">Precision</th>",
        "<th scope=\"col\">Recall</th><th scope=\"col\">F1</th></tr></thead>\n<tbody>\n",
    ))?;
    for score in &evaluation.per_label {
        write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td>{}</td>",
            Html(score.label.as_str()),
            score.photos
        )?;
        for (class, share) in
            [("bar", score.precision), ("bar second", score.recall), ("bar third", score.f1)]
        {
            let width = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
            write!(
                out,
                "<td>{}<span class=\"{class}\"><i style=\"width:{width:.1}%\"></i></span></td>",
                Html(&percent(share))
            )?;
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody>\n</table>\n</div>\n</section>\n")
}

fn write_dataset(out: &mut String, dataset: &Dataset) -> fmt::Result {
    out.write_str("<section>\n<h2>Dataset</h2>\n<div class=\"card\">\n")?;
    let skipped = provenance::skipped(dataset);
    let near = &dataset.near_duplicates;
    if skipped.is_empty() {
        out.write_str("<p>The import left nothing out.</p>\n")?;
    } else {
        out.write_str(concat!(
            "<table>\n<caption>Files the import left out</caption>\n<thead><tr><th scope=\"col\">Reason</th>",
            "<th scope=\"col\">Files</th></tr></thead>\n<tbody>\n",
        ))?;
        for (reason, count) in skipped {
            writeln!(out, "<tr><th scope=\"row\">{}</th><td>{count}</td></tr>", reason.words())?;
        }
        out.write_str("</tbody>\n</table>\n")?;
    }
    if near.is_empty() {
        out.write_str("<p>No photos of different labels look alike.</p>\n")?;
    } else {
        out.write_str(concat!(
            "<h3>Photos of different labels that look alike</h3>\n<table>\n",
            "<caption>Perhaps one of each pair is in the wrong folder.</caption>\n",
            "<thead><tr><th scope=\"col\">Photo</th><th scope=\"col\" class=\"start\">Looks like</th>",
            "<th scope=\"col\">Bits that differ, of 256</th></tr></thead>\n<tbody>\n",
        ))?;
        for pair in near.iter().take(PAIRS_LISTED) {
            writeln!(
                out,
                "<tr><th scope=\"row\" class=\"path\">{}</th><td class=\"text path\">{}</td><td>{}</td></tr>",
                Html(&pair.first),
                Html(&pair.second),
                pair.distance
            )?;
        }
        out.write_str("</tbody>\n</table>\n")?;
        write_rest(out, near.len().saturating_sub(PAIRS_LISTED))?;
    }
    out.write_str("</div>\n</section>\n")
}

fn write_rest(out: &mut String, rest: usize) -> fmt::Result {
    match rest {
        0 => Ok(()),
        1 => writeln!(out, "<p class=\"note\">And 1 more pair.</p>"),
        rest => writeln!(out, "<p class=\"note\">And {rest} more pairs.</p>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::escape::visible;
    use crate::report::{fixture, gate};
    use mynah_contracts::{ImageFormat, Photo, RelativePath, Sha256Digest};
    use proptest::prelude::*;
    use roxmltree::{Document, Node, ParsingOptions};
    use std::collections::BTreeSet;

    fn parse(page: &str) -> Document<'_> {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        Document::parse_with_options(page, options).unwrap()
    }

    fn elements<'a, 'i>(page: &'a Document<'i>, name: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
        page.descendants().filter(move |node| node.has_tag_name(name))
    }

    fn text(node: Node<'_, '_>) -> String {
        node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
    }

    fn whole(case: &fixture::Case) -> String {
        let gates = Vec::from_iter(gate::accuracy(&case.training, Some(0.9)));
        Report { gates: &gates, ..case.report() }.html()
    }

    #[test]
    fn a_page_stands_alone_and_can_be_read_without_eyes_or_colour() {
        let mut case = fixture::six_labels();
        case.training.holdout = Some(case.training.cross_validation.clone());
        let text = whole(&case);
        let page = parse(&text);
        assert_eq!(elements(&page, "h1").count(), 1);
        assert_eq!(elements(&page, "html").next().and_then(|html| html.attribute("lang")), Some("en"));
        for forbidden in ["script", "link", "iframe", "object", "form"] {
            assert_eq!(elements(&page, forbidden).count(), 0, "{forbidden}");
        }
        for node in page.descendants() {
            for attribute in node.attributes() {
                assert!(!attribute.name().starts_with("on"), "{attribute:?}");
                assert!(
                    !matches!(attribute.name(), "src" | "href")
                        || attribute.value().starts_with("data:image/"),
                    "{attribute:?}"
                );
            }
        }
        assert!(!text.contains("url(") && !text.contains("@import"));
        assert!(elements(&page, "th").all(|th| th.has_attribute("scope")));
        assert!(elements(&page, "img").all(|img| img.has_attribute("alt")));
        assert!(
            elements(&page, "svg")
                .all(|svg| svg.first_element_child().is_some_and(|e| e.has_tag_name("title")))
        );
        let ids: Vec<&str> = page.descendants().filter_map(|node| node.attribute("id")).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
        for node in page.descendants() {
            if let Some(target) = node.attribute("aria-labelledby") {
                assert!(ids.contains(&target), "{target}");
            }
        }
    }

    #[test]
    fn the_matrix_holds_every_count_under_its_heading() {
        let case = fixture::six_labels();
        let html = whole(&case);
        let page = parse(&html);
        let table = elements(&page, "table").next().unwrap();
        let rows: Vec<Vec<String>> = table
            .descendants()
            .filter(|node| node.has_tag_name("tr"))
            .map(|row| row.children().filter(Node::is_element).map(text).collect())
            .collect();
        assert_eq!(rows[0], ["True ↓", "cardboard", "glass", "metal", "paper", "plastic", "trash"]);
        assert_eq!(rows[1], ["cardboard", "9696.0%", "0", "0", "33.0%", "0", "11.0%"]);
        assert_eq!(rows.len(), 7);
    }

    #[test]
    fn gates_say_in_words_whether_they_passed() {
        let case = fixture::six_labels();
        for (required, word) in [(0.9, "✓ Passed"), (0.99, "✗ Failed")] {
            let gates = Vec::from_iter(gate::accuracy(&case.training, Some(required)));
            assert!(Report { gates: &gates, ..case.report() }.html().contains(word));
        }
    }

    #[test]
    fn very_many_labels_become_a_picture() {
        let names: Vec<String> = (0..51).map(|i| format!("label {i:02}")).collect();
        let labels = fixture::labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let case = fixture::case(fixture::training(&labels, &vec![vec![1; 51]; 51]));
        assert!(case.report().html().contains("src=\"data:image/png;base64,"));
    }

    /// A case whose dataset holds the photo of its first mistake, stored as `stored`.
    fn with_photo(folder: &std::path::Path, bytes: &[u8], stored: &[u8]) -> fixture::Case {
        let mut case = fixture::six_labels();
        case.folder = folder.into();
        let mistake = &mut case.training.cross_validation.mistakes[0];
        mistake.sha256 = Sha256Digest::of(bytes);
        case.dataset.photos = vec![Photo {
            sha256: mistake.sha256,
            label: mistake.label.clone(),
            file: RelativePath::new("a.png").unwrap(),
            source: mistake.source.clone(),
            format: ImageFormat::Png,
            width: 400,
            height: 300,
            bytes: bytes.len() as u64,
            likeness: String::new(),
            fold: 0,
        }];
        std::fs::write(folder.join("a.png"), stored).unwrap();
        case
    }

    #[test]
    fn a_mistake_shows_its_photo_small_or_says_why_not() {
        let image = mynah_photo::RgbImage::new(400, 300, [200, 30, 30].repeat(400 * 300)).unwrap();
        let png = mynah_photo::encode_png(&image).unwrap();
        let folder = tempfile::tempdir().unwrap();

        let html = whole(&with_photo(folder.path(), &png, &png));
        let page = parse(&html);
        let img = elements(&page, "img").next().unwrap();
        assert_eq!(img.attribute("alt"), Some("A photo of cardboard that was taken for paper"));
        let data = img.attribute("src").unwrap().strip_prefix("data:image/jpeg;base64,").unwrap();
        let jpeg = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        let small = image::load_from_memory(&jpeg).unwrap();
        assert_eq!((small.width(), small.height()), (128, 96));
        assert_eq!(html, whole(&with_photo(folder.path(), &png, &png)));

        for (bytes, stored, why) in [
            (png.as_slice(), b"other".as_slice(), "changed since the import"),
            (b"no photo", b"no photo", "cannot be decoded"),
        ] {
            let case = with_photo(folder.path(), bytes, stored);
            assert!(whole(&case).contains(&format!("The photo {why}")), "{why}");
        }
        let case = with_photo(folder.path(), &png, &png);
        std::fs::remove_file(folder.path().join("a.png")).unwrap();
        assert!(whole(&case).contains("The photo cannot be read"));
        assert!(whole(&fixture::six_labels()).contains("The photo is not in the dataset"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn foreign_text_never_becomes_markup(
            name in "[#vso\\[\\]<>&\"'=\\PC]{1,30}",
            source in "(<script>|--></p>|\"|'|&amp;|##vso\\[|.|\\n){0,12}",
        ) {
            let Ok(label) = name.parse::<Label>() else { return Ok(()) };
            let labels = [label, "zzz".parse().unwrap()];
            let case = |labels: &[Label], source: &str| {
                let mut case = fixture::case(fixture::training(labels, &[vec![1, 1], vec![0, 4]]));
                case.training.cross_validation.mistakes[0].source = source.into();
                case
            };
            let html = whole(&case(&labels, &source));
            let page = parse(&html);
            let plain = whole(&case(&fixture::labels(&["aaa", "zzz"]), "a.jpg"));
            let count = |page: &Document<'_>| page.descendants().filter(Node::is_element).count();
            prop_assert_eq!(count(&page), count(&parse(&plain)));
            let seen: String = name.parse::<Label>().unwrap().as_str().chars().map(visible).collect();
            prop_assert!(elements(&page, "bdi").any(|bdi| text(bdi) == seen));
            let seen: String = source.chars().map(visible).collect();
            prop_assert!(elements(&page, "dd").any(|dd| text(dd) == seen));
            prop_assert!(!html.contains("##"));
        }
    }
}
