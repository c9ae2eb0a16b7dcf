//! A template before it is JSON: comments go, and every `$…` is filled in, string by string.
//!
//! The text is walked once. What replaces a placeholder is escaped for the string it stands in, so no value can break
//! the document, and every finding knows its line. In front of a value that is options for Docker written as text, it is
//! escaped twice: once for that text, once for the string around it. A placeholder outside of strings stands for a whole
//! JSON value. `\u0024` is a dollar sign that is never looked at.

use std::collections::BTreeSet;
use std::fmt;

use super::placeholder::{Names, Unresolved};
use super::{ManifestError, UnknownPlaceholder, create_options, json};

/// A template filled in: JSON text of as many lines.
#[derive(Default)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// The values that came out of variables.
    pub(super) values: BTreeSet<String>,
}

/// Without what variables gave: some of it is secret.
impl fmt::Debug for Expanded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expanded").finish_non_exhaustive()
    }
}

/// Fills in `source`.
pub(super) fn expand(source: &str, names: &Names<'_>) -> Result<Expanded, ManifestError> {
    let mut writer = Writer {
        source,
        names,
        line: 1,
        out: Expanded { text: String::with_capacity(source.len()), values: BTreeSet::new() },
        unknown: Vec::new(),
    };
    writer.document()?;
    if writer.unknown.is_empty() {
        Ok(writer.out)
    } else {
        Err(ManifestError::UnknownPlaceholders(writer.unknown))
    }
}

struct Writer<'a> {
    source: &'a str,
    names: &'a Names<'a>,
    line: usize,
    out: Expanded,
    unknown: Vec<UnknownPlaceholder>,
}

/// What the walk knows of the last string: whether it is a key of Docker's options.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Other,
    OptionsKey,
    OptionsColon,
}

impl Writer<'_> {
    fn document(&mut self) -> Result<(), ManifestError> {
        let mut rest = self.source;
        let mut before = Before::Other;
        while let Some(at) = rest.find(['"', '/', '$', ':', ',', '{', '[', '\n']) {
            let (plain, from) = rest.split_at(at);
            self.out.text.push_str(plain);
            // One of the ASCII characters above.
            let (first, after) = from.split_at(1);
            rest = match first {
                "\"" => {
                    let (literal, after) = split_string(after);
                    self.string(literal, before == Before::OptionsColon);
                    let key = literal.strip_suffix('"').unwrap_or(literal);
                    before = if create_options::piece_number(key).is_some() {
                        Before::OptionsKey
                    } else {
                        Before::Other
                    };
                    after
                }
                "/" if after.starts_with('/') => &after[after.find('\n').unwrap_or(after.len())..],
                "/" if after.starts_with('*') => {
                    let end = after.find("*/").ok_or(ManifestError::OpenComment { line: self.line })?;
                    let lines = after[..end].matches('\n').count();
                    self.line += lines;
                    self.out.text.extend(std::iter::repeat_n('\n', lines));
                    &after[end + 2..]
                }
                "$" => self.bare(from),
                _ => {
                    self.line += usize::from(first == "\n");
                    self.out.text.push_str(first);
                    before = match (first, before) {
                        (":", Before::OptionsKey) => Before::OptionsColon,
                        ("\n", kept) => kept,
                        _ => Before::Other,
                    };
                    after
                }
            };
        }
        self.out.text.push_str(rest);
        Ok(())
    }

    /// Writes a string literal. `literal` is what stands between the quotes, and the closing one if there is one.
    fn string(&mut self, literal: &str, options: bool) {
        self.out.text.push('"');
        let mut rest = literal;
        while let Some(at) = rest.find('$') {
            let (plain, from) = rest.split_at(at);
            self.out.text.push_str(plain);
            let Some(placeholder) = Placeholder::parse(from) else {
                self.out.text.push('$');
                rest = &from[1..];
                continue;
            };
            rest = &from[placeholder.whole.len()..];
            match self.value(&placeholder) {
                Some(value) if options => {
                    let inner = json::escaped(&value);
                    self.out.text.push_str(&json::escaped(&inner));
                }
                Some(value) => self.out.text.push_str(&json::escaped(&value)),
                None => self.out.text.push_str(placeholder.whole),
            }
        }
        self.out.text.push_str(rest);
    }

    /// Writes a placeholder outside of strings: a whole JSON value.
    fn bare<'t>(&mut self, from: &'t str) -> &'t str {
        let Some(placeholder) = Placeholder::parse(from) else {
            self.out.text.push('$');
            return &from[1..];
        };
        if let Some(value) = self.value(&placeholder) {
            match json::parse(&value) {
                Ok(value) => self.out.text.push_str(&value.to_string()),
                Err(_) => self.unknown.push(UnknownPlaceholder {
                    text: placeholder.whole.to_owned(),
                    line: self.line,
                    why: "stands outside of quotes, and its value is not JSON".into(),
                    nearest: Vec::new(),
                }),
            }
        }
        &from[placeholder.whole.len()..]
    }

    /// What the placeholder stands for; nothing where it stays, be it for being none or for being unknown.
    fn value(&mut self, placeholder: &Placeholder<'_>) -> Option<String> {
        let Some(inner) = placeholder.inner else {
            self.report(placeholder, "is not closed by `}`".into(), Vec::new());
            return None;
        };
        match self.names.resolve(inner, placeholder.braced) {
            Ok(found) => {
                let found = found?;
                if found.variable && !found.value.is_empty() {
                    self.out.values.insert(found.value.clone());
                }
                Some(found.value)
            }
            Err(Unresolved { why, nearest }) => {
                self.report(placeholder, why, nearest);
                None
            }
        }
    }

    fn report(&mut self, placeholder: &Placeholder<'_>, why: String, nearest: Vec<String>) {
        // Once each is enough.
        if !self.unknown.iter().any(|known| known.text == placeholder.whole) {
            let text = placeholder.whole.to_owned();
            self.unknown.push(UnknownPlaceholder { text, line: self.line, why, nearest });
        }
    }
}

/// `$NAME` or `${…}` at the beginning of a text.
struct Placeholder<'a> {
    whole: &'a str,
    /// What is named; nothing where the brace is not closed.
    inner: Option<&'a str>,
    braced: bool,
}

impl<'a> Placeholder<'a> {
    fn parse(from: &'a str) -> Option<Self> {
        let after = from.strip_prefix('$')?;
        if let Some(braced) = after.strip_prefix('{') {
            // A string ends where its line does.
            let end = braced.find(['}', '"', '\n']).unwrap_or(braced.len());
            let closed = braced[end..].starts_with('}');
            let whole = &from[..2 + end + usize::from(closed)];
            return Some(Self { whole, inner: closed.then(|| &braced[..end]), braced: true });
        }
        let length = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let name = &after[..length];
        // `$5` is a price; no variable begins with a digit.
        (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| Self {
            whole: &from[..=length],
            inner: Some(name),
            braced: false,
        })
    }
}

/// What follows an opening quote: the string up to and with its closing quote, and what comes after. A string that is
/// not closed ends with its line; the parser will say so.
fn split_string(after: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, byte) in after.bytes().enumerate() {
        match byte {
            b'\n' => return after.split_at(at),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return after.split_at(at + 1),
            _ => {}
        }
    }
    (after, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Variables;
    use crate::manifest::tests::modules;
    use proptest::prelude::*;

    fn with(source: &str, variables: &[(&str, &str)]) -> Result<Expanded, ManifestError> {
        let modules = modules();
        let variables: Variables = variables.iter().copied().collect();
        expand(source, &Names::new(&modules, None, &variables))
    }

    fn text(source: &str, variables: &[(&str, &str)]) -> String {
        with(source, variables).unwrap().text
    }

    #[test]
    fn both_forms_of_a_variable_are_filled_in_keys_and_values() {
        assert_eq!(text(r#"{"$A": "x-${B}-$A."}"#, &[("A", "1"), ("B", "2")]), r#"{"1": "x-2-1."}"#);
    }

    #[test]
    fn a_value_is_escaped_for_the_string_it_stands_in() {
        let nasty = "a\"b\\c\nd";
        let filled = text(r#"{"password": "$P"}"#, &[("P", nasty)]);
        assert_eq!(json::parse(&filled).unwrap()["password"], nasty);
        let filled = text(r#"{"createOptions": "{\"Env\":[\"P=$P\"]}"}"#, &[("P", nasty)]);
        let options = json::parse(&filled).unwrap()["createOptions"].as_str().unwrap().to_owned();
        assert_eq!(json::parse(&options).unwrap()["Env"][0], format!("P={nasty}"));
    }

    #[test]
    fn names_of_iot_edge_stay_even_if_a_variable_is_called_so() {
        let source = r#"{"$edgeAgent": "FROM /* WHERE $connectionDeviceId INTO $upstream"}"#;
        assert_eq!(text(source, &[("edgeAgent", "x"), ("upstream", "HIJACK")]), source);
        assert_eq!(
            text(r#"["$upstream:443/a", "${upstream}"]"#, &[("upstream", "u")]),
            r#"["$upstream:443/a", "u"]"#
        );
        assert_eq!(text(r#"["$5 and $", "\u0024HOME"]"#, &[]), r#"["$5 and $", "\u0024HOME"]"#);
    }

    #[test]
    fn outside_of_quotes_a_variable_is_a_whole_value() {
        assert_eq!(
            text("{\"a\": $N, \"b\": ${L}}", &[("N", "7"), ("L", "[1,\n2]")]),
            "{\"a\": 7, \"b\": [1,2]}"
        );
        let says = with("{\"a\":\n $N}", &[("N", "7, \"b\": 8")]).unwrap_err().to_string();
        assert!(says.contains("`$N` in line 2 stands outside of quotes"), "{says}");
        assert!(!says.contains("\"b\""), "a value was shown: {says}");
    }

    #[test]
    fn comments_go_and_lines_stay() {
        let source = "{ // one $X\n /* two\n ${Y} */ \"a\": \"//no /*comment*/\" }";
        assert_eq!(text(source, &[]), "{ \n \n \"a\": \"//no /*comment*/\" }");
        let says = with("{\n/* open", &[]).unwrap_err().to_string();
        assert!(says.contains("line 2"), "{says}");
    }

    #[test]
    fn what_is_unknown_is_told_with_its_line_and_the_nearest_names() {
        let says =
            with("{\n\"a\": \"$REGISTRY_USR ${open\"}", &[("REGISTRY_USER", "u")]).unwrap_err().to_string();
        assert!(
            says.contains("`$REGISTRY_USR` in line 2") && says.contains("there is `$REGISTRY_USER`"),
            "{says}"
        );
        assert!(says.contains("`${open` in line 2 is not closed"), "{says}");
    }

    proptest! {
        #[test]
        fn any_value_comes_out_as_it_went_in(value in "\\PC{0,40}") {
            let filled = text(r#"{"a": "<$V>", "createOptions": "{\"b\":\"$V\"}"}"#, &[("V", &value)]);
            let document = json::parse(&filled).unwrap();
            prop_assert_eq!(document["a"].as_str().unwrap(), format!("<{value}>"));
            let options = json::parse(document["createOptions"].as_str().unwrap()).unwrap();
            prop_assert_eq!(options["b"].as_str().unwrap(), value);
        }

        #[test]
        fn expanding_is_total_and_keeps_json_without_placeholders(text in "[${}\"\\\\/*:,\\[\nA-Za. ]{0,60}") {
            if let Ok(expanded) = with(&text, &[("A", "1")]) {
                prop_assert_eq!(expanded.text.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
