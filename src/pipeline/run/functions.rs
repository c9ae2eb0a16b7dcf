//! The functions of expressions that mean the same everywhere.

use std::cmp::Ordering;

use super::expression::ExpressionError;
use super::value::Value;

/// Calls the function `name`, given in lower case.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, ExpressionError> {
    let arity = || ExpressionError::Arity { name: name.to_owned(), count: arguments.len() };
    let unusable = || ExpressionError::Argument { name: name.to_owned() };
    let text = |value: &Value| value.to_text().ok_or_else(unusable);
    let folded = |value: &Value| text(value).map(|text| text.to_lowercase());
    let value = match (name, arguments) {
        ("eq", [left, right]) => Value::Bool(left.equals(right)),
        ("ne", [left, right]) => Value::Bool(!left.equals(right)),
        ("lt" | "le" | "gt" | "ge", [left, right]) => {
            let order = left.compared(right).ok_or_else(unusable)?;
            Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        ("not", [value]) => Value::Bool(!value.holds()),
        ("xor", [left, right]) => Value::Bool(left.holds() != right.holds()),
        ("in", [value, among @ ..]) if !among.is_empty() => {
            Value::Bool(among.iter().any(|other| value.equals(other)))
        }
        ("notin", [value, among @ ..]) if !among.is_empty() => {
            Value::Bool(!among.iter().any(|other| value.equals(other)))
        }
        ("contains", [whole, part]) => Value::Bool(folded(whole)?.contains(&folded(part)?)),
        ("containsvalue", [Value::List(items), value]) => {
            Value::Bool(items.iter().any(|item| item.equals(value)))
        }
        ("containsvalue", [Value::Map(entries), value]) => {
            Value::Bool(entries.iter().any(|(_, item)| item.equals(value)))
        }
        ("startswith", [whole, part]) => Value::Bool(folded(whole)?.starts_with(&folded(part)?)),
        ("endswith", [whole, part]) => Value::Bool(folded(whole)?.ends_with(&folded(part)?)),
        ("length", [Value::List(items)]) => Value::Number(items.len() as f64),
        ("length", [Value::Map(entries)]) => Value::Number(entries.len() as f64),
        ("length", [value]) => Value::Number(text(value)?.chars().count() as f64),
        ("lower", [value]) => Value::Text(text(value)?.to_lowercase()),
        ("upper", [value]) => Value::Text(text(value)?.to_uppercase()),
        ("trim", [value]) => Value::text(text(value)?.trim()),
        ("replace", [whole, part, with]) => {
            let part = text(part)?;
            let whole = text(whole)?;
            Value::Text(if part.is_empty() { whole } else { whole.replace(&part, &text(with)?) })
        }
        ("split", [whole, at]) => {
            let (whole, at) = (text(whole)?, text(at)?);
            let parts = if at.is_empty() { vec![whole.as_str()] } else { whole.split(&at).collect() };
            Value::List(parts.into_iter().map(Value::text).collect())
        }
        ("join", [between, Value::List(items)]) => {
            let items = items.iter().map(|item| item.to_text().unwrap_or_default()).collect::<Vec<_>>();
            Value::Text(items.join(&text(between)?))
        }
        ("format", [pattern, values @ ..]) => {
            Value::Text(format(&text(pattern)?, values).ok_or_else(unusable)?)
        }
        ("converttojson", [value]) => Value::Text(value.to_json()),
        // Of a condition; what it means is decided by whoever evaluates it.
        ("always", []) => Value::Bool(true),
        _ if KNOWN.contains(&name) => return Err(arity()),
        _ => return Err(ExpressionError::Function { name: name.to_owned() }),
    };
    Ok(value)
}

/// The functions above.
const KNOWN: [&str; 24] = [
    "always",
    "contains",
    "containsvalue",
    "converttojson",
    "endswith",
    "eq",
    "format",
    "ge",
    "gt",
    "in",
    "join",
    "le",
    "length",
    "lower",
    "lt",
    "ne",
    "not",
    "notin",
    "replace",
    "split",
    "startswith",
    "trim",
    "upper",
    "xor",
];

/// Whether there is a function of this name, given in lower case, in any expression.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || ["and", "or", "iif", "coalesce"].contains(&name)
}

/// `{0}` and the like become the values; `{{` and `}}` are braces.
fn format(pattern: &str, values: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let from = &rest[at..];
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            out.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let (inside, after) = from.strip_prefix('{')?.split_once('}')?;
        out.push_str(&values.get(inside.trim().parse::<usize>().ok()?)?.to_text()?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_does_what_it_is_documented_to_do() {
        let of = |name: &str, arguments: &[&str]| {
            let values: Vec<Value> = arguments.iter().map(|text| Value::text(*text)).collect();
            call(name, &values).map(|value| value.to_text().unwrap_or_else(|| value.to_json()))
        };
        assert_eq!(of("format", &["{1}-{0}{{}}", "a", "b"]).unwrap(), "b-a{}");
        assert!(of("format", &["{2}", "a"]).is_err());
        assert_eq!(of("contains", &["ABC", "b"]).unwrap(), "True");
        assert_eq!(of("startswith", &["ABC", "b"]).unwrap(), "False");
        assert_eq!(of("endswith", &["ABC", "bc"]).unwrap(), "True");
        assert_eq!(of("replace", &["a.b", ".", "-"]).unwrap(), "a-b");
        assert_eq!(of("split", &["a,b", ","]).unwrap(), "[\n  \"a\",\n  \"b\"\n]");
        assert_eq!(of("length", &["größe"]).unwrap(), "5");
        assert_eq!(of("in", &["b", "a", "B"]).unwrap(), "True");
        assert_eq!(of("notin", &["b", "a", "B"]).unwrap(), "False");
        assert_eq!(of("lt", &["a", "b"]).unwrap(), "True");
        assert_eq!(of("ge", &["a", "b"]).unwrap(), "False");
        assert_eq!(of("xor", &["a", ""]).unwrap(), "True");
        assert_eq!(of("upper", &["ab"]).unwrap(), "AB");
        assert!(matches!(of("eq", &["a"]), Err(ExpressionError::Arity { count: 1, .. })));
        let list = Value::List(vec![Value::text("a"), Value::text("b")]);
        assert_eq!(call("join", &[Value::text("+"), list.clone()]).unwrap(), Value::text("a+b"));
        assert_eq!(call("containsvalue", &[list, Value::text("B")]).unwrap(), Value::Bool(true));
    }
}
