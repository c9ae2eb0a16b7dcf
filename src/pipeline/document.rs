//! A YAML document whose every value knows its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where a value begins; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) place: Place,
    /// Which file of several it stands in, where its reader reads several.
    pub(super) source: usize,
}

/// What a value is. Scalars are text: what a pipeline means by one is up to its reader.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Parses a document.
    pub(super) fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        // Azure Pipelines reads YAML 1.2: `on` and `yes` are words, and so is `0755`.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
        };
        serde_saphyr::from_str_with_options::<Spanned<Content>>(text, options).map(Self::from)
    }

    /// The document as one of several files.
    pub(super) fn in_file(mut self, source: usize) -> Self {
        self.source = source;
        self.content = match self.content {
            Content::List(items) => {
                Content::List(items.into_iter().map(|item| item.in_file(source)).collect())
            }
            Content::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.in_file(source), value.in_file(source)))
                    .collect(),
            ),
            content => content,
        };
        self
    }

    /// The scalar's text; nothing counts as an empty one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            Content::Null => Some(""),
            _ => None,
        }
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> &[(Self, Self)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value under a key, which Azure Pipelines reads in any letter case.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|(key, _)| key.text().is_some_and(|key| key.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }

    /// The text under a key.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Self::text)
    }

    /// The values inside this one, in their order.
    pub(super) fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match &self.content {
            Content::List(items) => Box::new(items.iter()),
            Content::Map(entries) => Box::new(entries.iter().map(|(_, value)| value)),
            Content::Null | Content::Scalar(_) => Box::new(std::iter::empty()),
        }
    }

    /// The entries of a map and of those that stand in it under a condition (`${{ if … }}:`).
    pub(super) fn entries_under_conditions(&self) -> Vec<(&Self, &Self)> {
        let mut all = Vec::new();
        for (key, value) in self.entries() {
            if key.text().is_some_and(|key| key.trim_start().starts_with("${{")) {
                all.extend(value.entries_under_conditions());
            } else {
                all.push((key, value));
            }
        }
        all
    }

    /// Whether something in this map is only known when the pipeline is expanded.
    pub(super) fn is_open(&self) -> bool {
        self.entries()
            .iter()
            .any(|(key, _)| key.text().is_some_and(|key| key.trim_start().starts_with("${{")))
    }
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        let place = Place { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Self { content: spanned.value, place, source: 0 }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Content>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<Content>, Spanned<Content>>()? {
            entries.push((key.into(), value.into()));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_know_their_lines() {
        let node = Node::parse("steps:\n  - task: A@0\n    inputs:\n      n: 3\n").unwrap();
        let step = node.get("Steps").unwrap().children().next().unwrap();
        assert_eq!(step.text_of("task"), Some("A@0"));
        let (key, value) = &step.get("inputs").unwrap().entries()[0];
        assert_eq!((key.place, value.text()), (Place { line: 4, column: 7 }, Some("3")));
    }

    #[test]
    fn words_stay_words() {
        let node = Node::parse("on: yes\nmode: 0755\nb: true\nn: 1_000\n").unwrap();
        let texts: Vec<_> = ["on", "mode", "b", "n"].map(|key| node.text_of(key).unwrap_or("?")).into();
        assert_eq!(texts, ["yes", "0755", "true", "1_000"]);
    }

    #[test]
    fn what_stands_under_a_condition_is_seen() {
        let node = Node::parse("a: 1\n${{ if eq(1, 1) }}:\n  b: 2\n").unwrap();
        assert_eq!(node.entries_under_conditions().len(), 2);
        assert!(node.is_open());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}(\n[ -]{0,4}\\PC{0,20}){0,4}") {
            let _ = Node::parse(&text);
        }
    }
}
