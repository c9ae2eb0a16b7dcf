//! The values of expressions, and how Azure Pipelines turns one kind into another.

use std::cmp::Ordering;
use std::fmt::Write as _;

/// A value. Maps keep the order they were written in.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A map of texts.
    pub(super) fn texts<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (name.to_owned(), Self::text(value))).collect())
    }

    /// Whether a condition holds: not for null, false, zero and the empty text.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::List(_) | Self::Map(_) => true,
        }
    }

    /// As text; a list or a map has none.
    pub(super) fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => String::new(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// As a number; the empty text is 0.
    pub(super) fn to_number(&self) -> Option<f64> {
        match self {
            Self::Null => Some(0.0),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Number(value) => Some(*value),
            Self::Text(text) if text.trim().is_empty() => Some(0.0),
            Self::Text(text) => text.trim().parse().ok(),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// What is under a key, in any letter case, or at a place of a list. What is not there is null.
    pub(super) fn at(&self, key: &Value) -> Self {
        let found = match self {
            Self::Map(entries) => key
                .to_text()
                .and_then(|key| entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)))
                .map(|(_, value)| value),
            Self::List(items) => key
                .to_number()
                .filter(|index| *index >= 0.0 && index.fract() == 0.0)
                .and_then(|index| items.get(index as usize)),
            _ => None,
        };
        found.cloned().unwrap_or(Self::Null)
    }

    /// `eq`: the right one is turned into the left one's kind; texts are equal in any letter case.
    pub(super) fn equals(&self, right: &Self) -> bool {
        match self {
            Self::List(_) | Self::Map(_) => self == right,
            _ => self.compared(right) == Some(Ordering::Equal),
        }
    }

    /// How this and `right`, turned into this one's kind, are ordered; nothing where that cannot be done.
    pub(super) fn compared(&self, right: &Self) -> Option<Ordering> {
        match self {
            Self::Null => match right {
                Self::Null => Some(Ordering::Equal),
                Self::Text(text) if text.is_empty() => Some(Ordering::Equal),
                _ => None,
            },
            Self::Bool(left) => match right {
                Self::List(_) | Self::Map(_) => None,
                // The words that a boolean is written as mean what they say.
                Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(left.cmp(&false)),
                right => Some(left.cmp(&right.holds())),
            },
            Self::Number(left) => left.partial_cmp(&right.to_number()?),
            Self::Text(left) => Some(left.to_lowercase().cmp(&right.to_text()?.to_lowercase())),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// As indented JSON, as `convertToJson` writes it.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, 0);
        out
    }

    fn write_json(&self, out: &mut String, depth: usize) {
        let pad = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', 2 * depth));
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Number(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    pad(out, depth + 1);
                    item.write_json(out, depth + 1);
                }
                if !items.is_empty() {
                    pad(out, depth);
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (at, (name, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    pad(out, depth + 1);
                    let _ = write!(out, "{}: ", serde_json::Value::from(name.as_str()));
                    value.write_json(out, depth + 1);
                }
                if !entries.is_empty() {
                    pad(out, depth);
                }
                out.push('}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_one_becomes_what_the_left_one_is() {
        assert!(Value::text("True").equals(&Value::Bool(true)));
        assert!(Value::Bool(true).equals(&Value::text("x")));
        assert!(Value::Bool(false).equals(&Value::text("false")));
        assert!(Value::text("A").equals(&Value::text("a")));
        assert!(Value::Number(1.0).equals(&Value::text("1")));
        assert!(!Value::Number(1.0).equals(&Value::text("one")));
        assert!(Value::text("").equals(&Value::Null));
    }

    #[test]
    fn json_is_json() {
        let value = Value::Map(vec![
            ("a \"b\"".into(), Value::List(vec![Value::Number(1.5), Value::Null])),
            ("c".into(), Value::Map(Vec::new())),
        ]);
        let read: serde_json::Value = serde_json::from_str(&value.to_json()).unwrap();
        assert_eq!(read, serde_json::json!({"a \"b\"": [1.5, null], "c": {}}));
    }
}
