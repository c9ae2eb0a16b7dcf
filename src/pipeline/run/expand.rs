//! Templates and template expressions: what the service does with a pipeline before anything runs.
//!
//! `${{ … }}` in texts and keys, `if`/`elseif`/`else`, `each`, `insert`, templates with typed parameters and
//! `extends`. What comes out holds none of them any more, and still knows its files and lines.

use std::path::{Path, PathBuf};

use super::expression::{Expression, Scope};
use super::node_value::{fixed_variables, node_of, scalar, value_of};
use super::value::Value;
use crate::pipeline::check::Finding;
use crate::pipeline::document::{Content, Node};

/// The lists that a template may hold.
const LISTS: [&str; 4] = ["stages", "jobs", "steps", "variables"];

/// Gives a file's text, or says why it cannot.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// Expands a pipeline.
pub(super) struct Expander<'a> {
    pub(super) files: Vec<PathBuf>,
    pub(super) root: &'a Path,
    pub(super) read: Read<'a>,
    pub(super) templates: usize,
}

/// What names mean in the expressions of one file.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) parameters: Value,
    pub(super) variables: Value,
    pub(super) each: Vec<(String, Value)>,
}

impl Scope for Names {
    fn name(&self, name: &str) -> Option<Value> {
        let looped = self.each.iter().rev().find(|(each, _)| each.eq_ignore_ascii_case(name));
        if let Some((_, value)) = looped {
            return Some(value.clone());
        }
        match name.to_ascii_lowercase().as_str() {
            "parameters" => Some(self.parameters.clone()),
            "variables" => Some(self.variables.clone()),
            _ => None,
        }
    }
}

/// An expanded pipeline and the files it came from.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) node: Node,
    pub(super) files: Vec<PathBuf>,
}

/// What a key such as `${{ if … }}` asks for.
enum Directive {
    If(Expression),
    ElseIf(Expression),
    Else,
    Each(String, Expression),
    Insert,
}

impl<'a> Expander<'a> {
    /// Templates named with a slash at the beginning are below `root`.
    pub(super) fn new(root: &'a Path, read: Read<'a>) -> Self {
        Self { files: Vec::new(), root, read, templates: 0 }
    }

    /// Expands `file` with these parameters and these variables known from the beginning.
    pub(super) fn pipeline(
        mut self,
        file: &Path,
        parameters: &[(String, String)],
        variables: &[(String, String)],
    ) -> Result<Expanded, Vec<Finding>> {
        match self.whole(file, parameters, variables) {
            Ok(node) => Ok(Expanded { node, files: self.files }),
            Err(finding) => Err(vec![finding]),
        }
    }

    fn whole(
        &mut self,
        file: &Path,
        parameters: &[(String, String)],
        variables: &[(String, String)],
    ) -> Result<Node, Finding> {
        let top = self.load(file)?;
        let mut given = Vec::new();
        for (name, text) in parameters {
            // As in the form of the service: objects are typed as YAML.
            let typed = Node::parse(text).ok().filter(|node| node.text().is_none());
            let scalar =
                Node { content: Content::Scalar(text.clone()), place: top.place, source: top.source };
            given.push((name.clone(), value_of(&typed.unwrap_or(scalar))));
        }
        let parameters = self.parameters(&top, given, &top)?;
        let mut known: Vec<(String, Value)> =
            variables.iter().map(|(name, value)| (name.clone(), Value::text(value.as_str()))).collect();
        let names = |known: &[(String, Value)]| Names {
            parameters: parameters.clone(),
            variables: Value::Map(known.to_vec()),
            each: Vec::new(),
        };
        let mut out = Vec::new();
        if let Some(node) = top.get("variables") {
            let expanded = self.expand(node, &names(&known), 0)?;
            let fixed = fixed_variables(&expanded);
            known.retain(|(name, _)| !fixed.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
            known.extend(fixed);
            // What the command line says comes last.
            for (name, value) in variables {
                known.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
                known.push((name.clone(), Value::text(value.as_str())));
            }
            out.push((scalar("variables", node), expanded));
        }
        let names = names(&known);
        let rest: Vec<(Node, Node)> = top
            .entries()
            .iter()
            .filter(|(key, _)| !matches!(key.text(), Some("parameters" | "variables" | "extends")))
            .cloned()
            .collect();
        let rest = Node { content: Content::Map(rest), place: top.place, source: top.source };
        out.extend(self.expand(&rest, &names, 0)?.entries().iter().cloned());
        if let Some(extends) = top.get("extends") {
            let (template, names) = self.template(extends, &names, 0)?;
            let body: Vec<(Node, Node)> = template
                .entries()
                .iter()
                .filter(|(key, _)| key.text() != Some("parameters"))
                .cloned()
                .collect();
            let body = Node { content: Content::Map(body), place: template.place, source: template.source };
            out.extend(self.expand(&body, &names, 1)?.entries().iter().cloned());
        }
        Ok(Node { content: Content::Map(out), place: top.place, source: top.source })
    }

    pub(super) fn wrong(&self, at: &Node, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding::error(&self.files, at, problem, hint)
    }

    pub(super) fn expand(&mut self, node: &Node, names: &Names, depth: usize) -> Result<Node, Finding> {
        let content = match &node.content {
            Content::Null => Content::Null,
            Content::Scalar(text) => return self.scalar(node, text, names),
            Content::List(items) => {
                let mut out = Vec::new();
                self.list(items, names, depth, &mut out)?;
                Content::List(out)
            }
            Content::Map(entries) => {
                let mut out = Vec::new();
                self.map(entries, names, depth, &mut out)?;
                Content::Map(out)
            }
        };
        Ok(Node { content, place: node.place, source: node.source })
    }

    fn list(
        &mut self,
        items: &[Node],
        names: &Names,
        depth: usize,
        out: &mut Vec<Node>,
    ) -> Result<(), Finding> {
        let mut chosen = None;
        for item in items {
            if let [(key, body)] = item.entries()
                && let Some(directive) = self.directive(key)?
            {
                for names in self.chosen(key, directive, names, &mut chosen)? {
                    match self.expand(body, &names, depth)?.content {
                        Content::List(items) => out.extend(items),
                        Content::Null => {}
                        _ => {
                            return Err(self.wrong(
                                body,
                                "a list is expected here",
                                "begin its lines with `- `",
                            ));
                        }
                    }
                }
                continue;
            }
            chosen = None;
            if item.get("template").is_some() && item.get("task").is_none() {
                let (template, names) = self.template(item, names, depth)?;
                let Some(list) = LISTS.iter().find_map(|list| template.get(list)) else {
                    return Err(self.wrong(
                        item,
                        "the template holds no stages, jobs, steps or variables",
                        "include it with `extends`, or name another file",
                    ));
                };
                let expanded = self.expand(list, &names, depth + 1)?;
                match &expanded.content {
                    Content::List(items) => out.extend(items.iter().cloned()),
                    // Variables as a map.
                    Content::Map(entries) => out.extend(entries.iter().map(|(name, value)| Node {
                        content: Content::Map(vec![
                            (scalar("name", name), name.clone()),
                            (scalar("value", name), value.clone()),
                        ]),
                        place: name.place,
                        source: name.source,
                    })),
                    _ => {}
                }
                continue;
            }
            let is_text = item.text().is_some();
            match self.expand(item, names, depth)? {
                // A list handed in as a parameter takes its place among the others.
                Node { content: Content::List(items), .. } if is_text => out.extend(items),
                node => out.push(node),
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        entries: &[(Node, Node)],
        names: &Names,
        depth: usize,
        out: &mut Vec<(Node, Node)>,
    ) -> Result<(), Finding> {
        let mut chosen = None;
        for (key, value) in entries {
            if let Some(directive) = self.directive(key)? {
                for names in self.chosen(key, directive, names, &mut chosen)? {
                    match self.expand(value, &names, depth)?.content {
                        Content::Map(entries) => out.extend(entries),
                        Content::Null => {}
                        _ => {
                            return Err(self.wrong(
                                value,
                                "keys with values are expected here",
                                "indent them",
                            ));
                        }
                    }
                }
                continue;
            }
            chosen = None;
            let key = self.scalar(key, key.text().unwrap_or_default(), names)?;
            out.push((key, self.expand(value, names, depth)?));
        }
        Ok(())
    }

    /// What a directive's body is expanded with: nothing, once, or once for each. `chosen` says whether an `if`
    /// before it was taken.
    fn chosen(
        &self,
        key: &Node,
        directive: Directive,
        names: &Names,
        chosen: &mut Option<bool>,
    ) -> Result<Vec<Names>, Finding> {
        let take = |taken: bool| if taken { vec![names.clone()] } else { Vec::new() };
        let holds = |condition: &Expression| {
            condition.value(names).map(|value| value.holds()).map_err(|error| {
                self.wrong(
                    key,
                    error.to_string(),
                    "see \"Expressions\" in the documentation of Azure Pipelines",
                )
            })
        };
        Ok(match directive {
            Directive::If(condition) => {
                let taken = holds(&condition)?;
                *chosen = Some(taken);
                take(taken)
            }
            Directive::ElseIf(condition) => {
                let Some(before) = *chosen else {
                    return Err(self.wrong(key, "this `elseif` follows no `if`", "put it right behind one"));
                };
                let taken = !before && holds(&condition)?;
                *chosen = Some(before || taken);
                take(taken)
            }
            Directive::Else => {
                let Some(before) = chosen.take() else {
                    return Err(self.wrong(key, "this `else` follows no `if`", "put it right behind one"));
                };
                take(!before)
            }
            Directive::Insert => {
                *chosen = None;
                take(true)
            }
            Directive::Each(name, over) => {
                *chosen = None;
                let over =
                    over.value(names).map_err(|error| self.wrong(key, error.to_string(), "mend it"))?;
                let items = match over {
                    Value::List(items) => items,
                    Value::Map(entries) => entries
                        .into_iter()
                        .map(|(name, value)| {
                            Value::Map(vec![("key".into(), Value::Text(name)), ("value".into(), value)])
                        })
                        .collect(),
                    _ => return Err(self.wrong(key, "`each` goes over a list or a map", "give it one")),
                };
                items
                    .into_iter()
                    .map(|item| {
                        let mut names = names.clone();
                        names.each.push((name.clone(), item));
                        names
                    })
                    .collect()
            }
        })
    }

    fn directive(&self, key: &Node) -> Result<Option<Directive>, Finding> {
        let Some(inside) = key.text().and_then(only_expression) else { return Ok(None) };
        let (word, rest) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
        let parse = |text: &str| {
            Expression::parse(text).map_err(|error| self.wrong(key, error.to_string(), "mend the expression"))
        };
        Ok(Some(match word {
            "if" => Directive::If(parse(rest)?),
            "elseif" => Directive::ElseIf(parse(rest)?),
            "else" => Directive::Else,
            "insert" => Directive::Insert,
            "each" => match rest.trim().split_once(" in ") {
                Some((name, over)) => Directive::Each(name.trim().to_owned(), parse(over)?),
                None => {
                    return Err(self.wrong(key, "`each` lacks its `in`", "write `${{ each x in list }}`"));
                }
            },
            _ => return Ok(None),
        }))
    }

    fn scalar(&self, node: &Node, text: &str, names: &Names) -> Result<Node, Finding> {
        let compute = |inside: &str| {
            Expression::parse(inside)
                .and_then(|expression| expression.value(names))
                .map_err(|error| self.wrong(node, error.to_string(), "mend the expression in `${{ }}`"))
        };
        if let Some(inside) = only_expression(text) {
            return Ok(node_of(&compute(inside)?, node));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${{") {
            let Some(end) = end_of(&rest[at..]) else {
                return Err(self.wrong(node, "an expression in `${{` does not end", "close it with `}}`"));
            };
            out.push_str(&rest[..at]);
            let value = compute(&rest[at + 3..at + end - 2])?;
            let Some(text) = value.to_text() else {
                let hint = "use `join` or `convertToJson`";
                return Err(self.wrong(node, "a list or a map cannot stand inside a text", hint));
            };
            out.push_str(&text);
            rest = &rest[at + end..];
        }
        out.push_str(rest);
        Ok(Node { content: Content::Scalar(out), place: node.place, source: node.source })
    }

    pub(super) fn text(&self, node: &Node, names: &Names) -> Result<String, Finding> {
        let expanded = self.scalar(node, node.text().unwrap_or_default(), names)?;
        Ok(expanded.text().unwrap_or_default().to_owned())
    }
}

/// The expression that a text is, if it is nothing else.
fn only_expression(text: &str) -> Option<&str> {
    let text = text.trim();
    (text.starts_with("${{") && end_of(text)? == text.len()).then(|| text[3..text.len() - 2].trim())
}

/// Where the expression that `text` begins with ends, behind its braces. Braces in quotes do not count.
fn end_of(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in text.char_indices().skip(3) {
        if c == '\'' {
            quoted = !quoted;
        } else if c == '}' && before == '}' && !quoted {
            return Some(at + 1);
        }
        before = c;
    }
    None
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
