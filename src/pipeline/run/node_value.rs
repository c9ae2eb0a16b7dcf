//! Between the nodes of a document and the values of expressions.

use super::value::Value;
use crate::pipeline::document::{Content, Node};

/// A value as the type that a parameter declares, or what is expected.
pub(super) fn typed(kind: &str, value: Value) -> Result<Value, &'static str> {
    match (kind, &value) {
        ("boolean", Value::Bool(_)) => Ok(value),
        ("boolean", Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("write true or false"),
        },
        ("number", value) => value.to_number().map(Value::Number).ok_or("write a number"),
        ("string", Value::List(_) | Value::Map(_)) => Err("write a text"),
        ("string", value) => Ok(Value::Text(value.to_text().unwrap_or_default())),
        ("boolean", _) => Err("write true or false"),
        (list, Value::Text(text)) if list.ends_with("list") && text.is_empty() => Ok(Value::List(Vec::new())),
        (list, value) if list.ends_with("list") && !matches!(value, Value::List(_)) => Err("write a list"),
        _ => Ok(value),
    }
}

/// The variables of an expanded `variables:` that are known before anything runs.
pub(super) fn fixed_variables(node: &Node) -> Vec<(String, Value)> {
    let pairs: Vec<(&str, &str)> = match &node.content {
        Content::Map(entries) => {
            entries.iter().filter_map(|(key, value)| Some((key.text()?, value.text()?))).collect()
        }
        _ => {
            node.children().filter_map(|item| Some((item.text_of("name")?, item.text_of("value")?))).collect()
        }
    };
    pairs
        .into_iter()
        .filter(|(_, value)| !value.starts_with("$["))
        .map(|(name, value)| (name.to_owned(), Value::text(value)))
        .collect()
}

/// A text where another node stands.
pub(super) fn scalar(text: &str, at: &Node) -> Node {
    Node { content: Content::Scalar(text.to_owned()), place: at.place, source: at.source }
}

/// What a node says, as expressions see it.
pub(super) fn value_of(node: &Node) -> Value {
    match &node.content {
        Content::Null => Value::text(""),
        Content::Scalar(text) => Value::text(text.as_str()),
        Content::List(items) => Value::List(items.iter().map(value_of).collect()),
        Content::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value_of(value)))
                .collect(),
        ),
    }
}

/// A value as a node, where another one stands.
pub(super) fn node_of(value: &Value, at: &Node) -> Node {
    let content = match value {
        Value::List(items) => Content::List(items.iter().map(|item| node_of(item, at)).collect()),
        Value::Map(entries) => {
            Content::Map(entries.iter().map(|(name, value)| (scalar(name, at), node_of(value, at))).collect())
        }
        value => Content::Scalar(value.to_text().unwrap_or_default()),
    };
    Node { content, place: at.place, source: at.source }
}
