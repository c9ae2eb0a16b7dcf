//! `junit.xml`: the gates as test cases, so that a pipeline's test tab shows them.

use std::fmt::{self, Write as _};

use super::Report;
use super::escape::Xml;

/// The suite's name, and its cases' class name.
const SUITE: &str = "mynah.train-model";

impl Report<'_> {
    /// `junit.xml`. Where no gate was asked, one passing case says that the training came to its end.
    pub fn junit(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_junit(&mut out);
        out
    }

    fn write_junit(&self, out: &mut String) -> fmt::Result {
        let tests = self.gates.len().max(1);
        let failures = self.gates.iter().filter(|gate| !gate.passed).count();
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(out, r#"<testsuites tests="{tests}" failures="{failures}" errors="0">"#)?;
        writeln!(
            out,
            r#"  <testsuite name="{SUITE}" tests="{tests}" failures="{failures}" errors="0" skipped="0">"#
        )?;
        if self.gates.is_empty() {
            writeln!(out, r#"    <testcase classname="{SUITE}" name="trained"/>"#)?;
        }
        for gate in self.gates {
            write!(out, r#"    <testcase classname="{SUITE}" name="{}""#, Xml(&gate.name))?;
            match gate.failure(self.training) {
                None => writeln!(out, "/>")?,
                Some(failure) => {
                    writeln!(out, ">")?;
                    let failure = Xml(&failure);
                    writeln!(out, r#"      <failure type="gate" message="{failure}">{failure}</failure>"#)?;
                    writeln!(out, "    </testcase>")?;
                }
            }
        }
        writeln!(out, "  </testsuite>\n</testsuites>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixture, gate};
    use proptest::prelude::*;

    fn junit(case: &fixture::Case, required: Option<f64>) -> String {
        let gates = Vec::from_iter(gate::accuracy(&case.training, required));
        Report { gates: &gates, ..case.report() }.junit()
    }

    #[test]
    fn a_failed_gate_names_the_labels() {
        insta::assert_snapshot!(junit(&fixture::hostile(), Some(0.99)));
    }

    #[test]
    fn without_gates_the_training_itself_is_the_case() {
        insta::assert_snapshot!(junit(&fixture::six_labels(), None));
    }

    #[test]
    fn counts_agree_with_the_cases() {
        let case = fixture::six_labels();
        let gates: Vec<_> = [0.5, 0.99]
            .iter()
            .filter_map(|&required| gate::accuracy(&case.training, Some(required)))
            .collect();
        let text = Report { gates: &gates, ..case.report() }.junit();
        let parsed = roxmltree::Document::parse(&text).unwrap();
        let named = |name| parsed.descendants().filter(move |node| node.has_tag_name(name));
        let suite = named("testsuite").next().unwrap();
        assert_eq!(suite.attribute("tests"), Some("2"));
        assert_eq!(suite.attribute("failures"), Some("1"));
        assert_eq!((named("testcase").count(), named("failure").count()), (2, 1));
    }

    proptest! {
        #[test]
        fn any_label_gives_xml_that_no_agent_would_obey(name in "[#vso\\[\\]<>&\"'\\PC]{1,30}") {
            let Ok(label) = name.parse::<mynah_contracts::Label>() else { return Ok(()) };
            let labels = [label, "other".parse().unwrap()];
            let case = fixture::case(fixture::training(&labels, &[vec![1, 3], vec![0, 4]]));
            let text = junit(&case, Some(0.9));
            let parsed = roxmltree::Document::parse(&text).unwrap();
            let failure = parsed.descendants().find(|node| node.has_tag_name("failure")).unwrap();
            let message = failure.attribute("message").unwrap();
            prop_assert_eq!(Some(message), failure.text());
            prop_assert!(message.starts_with("accuracy is 0.6250, at least 0.90 was asked; most confused: `"));
            prop_assert!(!text.contains("##") && !message.contains("##"));
        }
    }
}
