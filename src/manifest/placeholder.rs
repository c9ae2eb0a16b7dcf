//! `${MODULES.<name>}` and `${MODULES.<name>.<platform>}`: the images a template leaves open.
//!
//! Only `${…}` is a placeholder. `$edgeAgent`, `$edgeHub` and `$upstream` are names of IoT Edge and stay.

use mynah_contracts::{Module, ModuleSet, Platform};
use serde_json::Value;

use super::{ManifestError, UnknownPlaceholder};

/// How many similar names an error offers.
const OFFERED: usize = 3;

/// Replaces every placeholder in the document's strings. `source` is the text it was parsed from.
pub(super) fn fill(
    document: &mut Value,
    source: &str,
    modules: &ModuleSet,
    platform: Option<Platform>,
) -> Result<(), ManifestError> {
    let mut filler = Filler { modules, platform, unknown: Vec::new(), unbuilt: None };
    filler.visit(document);
    if let Some((module, platform)) = filler.unbuilt {
        let available: Vec<_> = module.platforms.iter().map(|image| image.platform.as_str()).collect();
        return Err(ManifestError::NoSuchPlatform {
            module: module.name.clone(),
            platform,
            available: available.join(", "),
        });
    }
    if filler.unknown.is_empty() {
        return Ok(());
    }
    let names = all_names(modules);
    let unknown = filler
        .unknown
        .into_iter()
        .map(|text| UnknownPlaceholder {
            line: line_of(source, &text),
            nearest: nearest(&text, &names),
            text,
        })
        .collect();
    Err(ManifestError::UnknownPlaceholders(unknown))
}

struct Filler<'a> {
    modules: &'a ModuleSet,
    platform: Option<Platform>,
    unknown: Vec<String>,
    /// A module that has no image for the platform asked for.
    unbuilt: Option<(&'a Module, Platform)>,
}

impl Filler<'_> {
    fn visit(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains("${") => *text = self.replaced(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.visit(item)),
            Value::Object(entries) => entries.values_mut().for_each(|entry| self.visit(entry)),
            _ => {}
        }
    }

    fn replaced(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = split_at_placeholder(rest) {
            out.push_str(before);
            let (inner, after, whole) = match from.find('}') {
                Some(end) => (&from[2..end], &from[end + 1..], &from[..=end]),
                // Never closed: all that follows belongs to it.
                None => (&from[2..], "", from),
            };
            match self.resolve(inner).filter(|_| whole.ends_with('}')) {
                Some(image) => out.push_str(&image),
                None if self.unknown.iter().any(|known| known == whole) => {}
                None => self.unknown.push(whole.to_owned()),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn resolve(&mut self, inner: &str) -> Option<String> {
        let name = inner.strip_prefix("MODULES.")?;
        let modules = self.modules;
        let module = |name: &str| modules.modules.iter().find(|module| module.name == name);
        if let Some(module) = module(name) {
            return match self.platform {
                None => Some(module.pinned()),
                Some(platform) => {
                    let pinned = pinned_for(module, platform);
                    if pinned.is_none() {
                        self.unbuilt = Some((module, platform));
                    }
                    pinned
                }
            };
        }
        // A module's name may hold dots, a platform's cannot.
        let (name, platform) = name.rsplit_once('.')?;
        pinned_for(module(name)?, platform.parse().ok()?)
    }
}

fn split_at_placeholder(text: &str) -> Option<(&str, &str)> {
    text.find("${").map(|start| text.split_at(start))
}

fn pinned_for(module: &Module, platform: Platform) -> Option<String> {
    let image = module.platforms.iter().find(|image| image.platform == platform)?;
    Some(format!("{}@{}", module.repository, image.manifest.digest))
}

/// All placeholders that stand for something.
fn all_names(modules: &ModuleSet) -> Vec<String> {
    modules
        .modules
        .iter()
        .flat_map(|module| {
            let of_platform = module
                .platforms
                .iter()
                .map(|image| format!("${{MODULES.{}.{}}}", module.name, image.platform));
            std::iter::once(format!("${{MODULES.{}}}", module.name)).chain(of_platform)
        })
        .collect()
}

/// The first line of `source`, from 1, that holds `text`; nothing where the text was written with escapes.
fn line_of(source: &str, text: &str) -> Option<usize> {
    let start = source.find(text)?;
    Some(source.get(..start)?.matches('\n').count() + 1)
}

/// The names most like `text`, most similar first.
fn nearest(text: &str, names: &[String]) -> Vec<String> {
    let mut ranked: Vec<_> = names.iter().map(|name| (edit_distance(text, name), name)).collect();
    ranked.sort();
    ranked.into_iter().take(OFFERED).map(|(_, name)| name.clone()).collect()
}

/// How many characters must be inserted, deleted or replaced (Levenshtein 1966). Long texts are cut: what
/// is far away is far away.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(200).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (line, right) in b.to_lowercase().chars().take(200).enumerate() {
        let mut diagonal = line;
        let mut left_of = line + 1;
        if let Some(first) = row.first_mut() {
            *first = left_of;
        }
        for (cell, left) in row.iter_mut().skip(1).zip(&a) {
            let above = *cell;
            let replaced = diagonal + usize::from(*left != right);
            *cell = replaced.min(above + 1).min(left_of + 1);
            diagonal = above;
            left_of = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, distance) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "SAME", 0)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn text_without_placeholders_stays(text in "[a-z$ {}\\\\\"]{0,40}") {
            prop_assume!(!text.contains("${"));
            let mut document = Value::from(text.clone());
            fill(&mut document, "", &super::super::tests::modules(), None).unwrap();
            prop_assert_eq!(document, Value::from(text));
        }

        #[test]
        fn filling_is_total(text in "[${}MODULES.a]{0,40}") {
            let mut document = Value::from(text);
            let _ = fill(&mut document, "", &super::super::tests::modules(), None);
        }
    }
}
