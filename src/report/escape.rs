//! Foreign text made safe. Labels and file names are written by whoever fills the photo folders; no spelling of
//! theirs may become markup, break a table, or reach an agent's log as a logging command (`##vso[…]`, `##[…]`).
//!
//! Each type here is a text that displays escaped for one format.

use std::fmt::{self, Display, Formatter, Write as _};

/// Text inside a Markdown table cell or paragraph (CommonMark §2.4: a backslash makes any ASCII punctuation literal).
pub(super) struct Markdown<'a>(pub(super) &'a str);

/// Text inside an HTML element or a quoted attribute. Also valid in XHTML.
pub(super) struct Html<'a>(pub(super) &'a str);

/// Text inside an XML 1.0 element or a quoted attribute, with `##` parted for good: test results are read and
/// printed again by tools that know nothing of agents.
pub(super) struct Xml<'a>(pub(super) &'a str);

impl Display for Markdown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().map(visible) {
            match c {
                // Entities rather than a backslash: also right where a renderer lets raw HTML through.
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' | '$' | '@' | '^' => {
                    f.write_char('\\')?;
                    f.write_char(c)?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Display for Html<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().map(visible).try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Harmless in a page; parted for whoever prints the file to an agent's log.
            '#' => f.write_str("&#35;"),
            c => f.write_char(c),
        })
    }
}

impl Display for Xml<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut after_hash = false;
        for c in self.0.chars().map(visible) {
            if after_hash && c == '#' {
                f.write_char(' ')?;
            }
            after_hash = c == '#';
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The character itself, or U+FFFD for one that is not seen, moves what is seen, ends a line, or that XML 1.0
/// (§2.2, production `Char`) forbids.
pub(super) fn visible(c: char) -> char {
    match c {
        '\u{2028}'
        | '\u{2029}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}'
        | '\u{FEFF}'
        | '\u{FFFE}'
        | '\u{FFFF}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text in which markup, commands and odd characters are likely.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("##vso[task.setvariable variable=x]y".to_owned()),
            Just("##[error]".to_owned()),
            Just("</style><script>alert(1)</script>".to_owned()),
            Just("\" onload='x".to_owned()),
            Just("&lt;&#35;&amp;".to_owned()),
            Just("]]>".to_owned()),
            Just("a|b`c`".to_owned()),
            Just("\r\n# heading\n\n".to_owned()),
            any::<char>().prop_map(String::from),
            "[#\\[\\]vso<>&]{1,8}",
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn seen(text: &str) -> String {
        text.chars().map(visible).collect()
    }

    fn is_quiet(text: &str) -> bool {
        !text.contains("##") && !text.contains(char::is_control)
    }

    proptest! {
        #[test]
        fn html_reads_back_as_what_was_seen(text in hostile()) {
            let page = format!("<p title=\"{0}\">{0}</p>", Html(&text));
            let parsed = roxmltree::Document::parse(&page).unwrap();
            let root = parsed.root_element();
            prop_assert_eq!(root.text().unwrap_or_default(), seen(&text));
            prop_assert_eq!(root.attribute("title").unwrap(), seen(&text));
            prop_assert_eq!(root.descendants().filter(roxmltree::Node::is_element).count(), 1);
            prop_assert!(is_quiet(&page));
        }

        #[test]
        fn xml_reads_back_with_commands_parted(text in hostile()) {
            let page = format!("<p title=\"{0}\">{0}</p>", Xml(&text));
            let parsed = roxmltree::Document::parse(&page).unwrap();
            let root = parsed.root_element();
            let back = root.text().unwrap_or_default();
            prop_assert_eq!(back, root.attribute("title").unwrap());
            prop_assert_eq!(back.replace(' ', ""), seen(&text).replace(' ', ""));
            prop_assert!(is_quiet(&page) && is_quiet(back));
        }

        #[test]
        fn markdown_leaves_no_bare_markup(text in hostile()) {
            let escaped = Markdown(&text).to_string();
            prop_assert!(is_quiet(&escaped));
            prop_assert!(!escaped.contains(['<', '>']));
            let mut chars = escaped.chars();
            let mut back = String::new();
            while let Some(c) = chars.next() {
                prop_assert!(!"`*_[]#|~!".contains(c), "a bare {c} in {escaped}");
                back.push(if c == '\\' { chars.next().unwrap() } else { c });
            }
            let back = back.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert_eq!(back, seen(&text));
        }
    }
}
