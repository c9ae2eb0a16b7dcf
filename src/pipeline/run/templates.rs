//! The files of a pipeline: reading them, the parameters they declare, and which template is meant.

use std::path::Path;

use super::expand::{Expander, Names};
use super::node_value::{typed, value_of};
use super::value::Value;
use crate::pipeline::check::{Finding, Severity};
use crate::pipeline::document::{Content, Node, Place};
use crate::pipeline::tasks::meant;

/// How many templates may be included in all.
const MAX_TEMPLATES: usize = 500;

/// How deep templates may include each other.
const MAX_DEPTH: usize = 100;

impl Expander<'_> {
    /// The document in `file`, not expanded yet.
    pub(super) fn load(&mut self, file: &Path) -> Result<Node, Finding> {
        let source = self.files.iter().position(|known| known == file).unwrap_or_else(|| {
            self.files.push(file.to_owned());
            self.files.len() - 1
        });
        let start = Place { line: 1, column: 1 };
        let told = |place, problem, hint: &str| Finding {
            file: file.to_owned(),
            place,
            severity: Severity::Error,
            problem,
            hint: hint.into(),
        };
        let text = (self.read)(file).map_err(|error| {
            told(start, format!("cannot read it: {error}"), "name the YAML file of a pipeline")
        })?;
        let node = Node::parse(&text).map_err(|error| {
            let place = error
                .location()
                .map_or(start, |location| Place { line: location.line(), column: location.column() });
            let said = error.without_snippet().to_string();
            told(
                place,
                format!("this is no YAML: {}", said.lines().next().unwrap_or_default()),
                "mend it first",
            )
        })?;
        Ok(node.in_file(source))
    }

    /// The values of a file's parameters, each of the type it declares.
    pub(super) fn parameters(
        &self,
        file: &Node,
        mut given: Vec<(String, Value)>,
        caller: &Node,
    ) -> Result<Value, Finding> {
        let mut values = Vec::new();
        let declared = file.get("parameters");
        let declared: Vec<(&Node, String, Option<&Node>, Option<&Node>)> =
            match declared.map(|node| &node.content) {
                Some(Content::List(items)) => items
                    .iter()
                    .map(|item| {
                        let kind = item.text_of("type").unwrap_or("string").to_ascii_lowercase();
                        (item.get("name").unwrap_or(item), kind, item.get("default"), item.get("values"))
                    })
                    .collect(),
                // The old form: names with defaults, of any type.
                Some(Content::Map(entries)) => {
                    entries.iter().map(|(key, value)| (key, "object".to_owned(), Some(value), None)).collect()
                }
                _ => Vec::new(),
            };
        for (name_node, kind, default, allowed) in &declared {
            let name = name_node.text().unwrap_or_default();
            let at = given.iter().position(|(given, _)| given.eq_ignore_ascii_case(name));
            let value = match (at, default) {
                (Some(at), _) => given.swap_remove(at).1,
                (None, Some(default)) => value_of(default),
                (None, None) => {
                    let problem = format!("the parameter `{name}` has no value");
                    let hint = "give it where the template is included, or with --parameter";
                    return Err(self.wrong(caller, problem, hint));
                }
            };
            let value = typed(kind, value).map_err(|expected| {
                self.wrong(caller, format!("the parameter `{name}` is no {kind}"), expected)
            })?;
            if let Some(allowed) = allowed
                && !allowed
                    .children()
                    .any(|one| one.text().is_some_and(|one| value.equals(&Value::text(one))))
            {
                let among: Vec<_> = allowed.children().filter_map(Node::text).collect();
                let said = value.to_text().unwrap_or_default();
                let problem = format!("the parameter `{name}` is `{said}`");
                return Err(self.wrong(caller, problem, format!("one of {} is expected", among.join(", "))));
            }
            values.push((name.to_owned(), value));
        }
        if let Some((name, _)) = given.first() {
            let names = declared.iter().filter_map(|(name, ..)| name.text()).map(str::to_owned);
            return Err(self.wrong(caller, format!("there is no parameter `{name}`"), meant(name, names)));
        }
        Ok(Value::Map(values))
    }

    /// The template that `node` names, not expanded yet, and what its expressions see.
    pub(super) fn template(
        &mut self,
        node: &Node,
        names: &Names,
        depth: usize,
    ) -> Result<(Node, Names), Finding> {
        self.templates += 1;
        if depth > MAX_DEPTH || self.templates > MAX_TEMPLATES {
            return Err(self.wrong(node, "templates include each other without end", "break the circle"));
        }
        let named = node.get("template").unwrap_or(node);
        let text = self.text(named, names)?;
        let path = match text.split_once('@') {
            Some((path, "self")) => path.to_owned(),
            Some(_) => {
                let hint = "copy it beside this file to try the pipeline here";
                return Err(self.wrong(
                    named,
                    format!("the template `{text}` is in another repository"),
                    hint,
                ));
            }
            None => text,
        };
        let base = self.files.get(named.source).and_then(|file| file.parent()).unwrap_or(Path::new(""));
        let file = path.strip_prefix('/').map_or_else(|| base.join(&path), |below| self.root.join(below));
        let mut given = Vec::new();
        if let Some(parameters) = node.get("parameters") {
            let expanded = self.expand(parameters, names, depth)?;
            for (key, value) in expanded.entries() {
                given.push((key.text().unwrap_or_default().to_owned(), value_of(value)));
            }
        }
        if (self.read)(&file).is_err() {
            let hint = "its path starts at the folder of the file that names it";
            return Err(self.wrong(named, format!("cannot read the template `{path}`"), hint));
        }
        let template = self.load(&file)?;
        let parameters = self.parameters(&template, given, node)?;
        Ok((template, Names { parameters, variables: names.variables.clone(), each: Vec::new() }))
    }
}
