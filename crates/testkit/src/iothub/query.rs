//! The part of IoT Hub's query language that target conditions and deployment metrics use.
//!
//! `SELECT * FROM devices|devices.modules [WHERE …]` with comparisons, `AND`, `OR`, `NOT`, `IN`, parentheses
//! and `is_defined`; everything else is a syntax error, as a strict double needs it.

use serde_json::Value;

/// Where rows come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// Device twins.
    Devices,
    /// Module twins.
    Modules,
}

/// A parsed query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) source: Source,
    /// The chosen fields; none is all.
    pub(super) fields: Vec<Vec<String>>,
    pub(super) condition: Option<Condition>,
}

/// What a row must fulfil.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Value>),
    Defined(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Path(Vec<String>),
    Literal(Value),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        parser.word("select")?;
        let mut fields = Vec::new();
        if !parser.takes(&Token::Symbol("*")) {
            loop {
                fields.push(parser.path()?);
                if !parser.takes(&Token::Symbol(",")) {
                    break;
                }
            }
        }
        parser.word("from")?;
        let source = match parser.path()?.join(".").to_ascii_lowercase().as_str() {
            "devices" => Source::Devices,
            "devices.modules" => Source::Modules,
            other => return Err(format!("`{other}` is no source")),
        };
        let condition = if parser.at_end() {
            None
        } else {
            parser.word("where")?;
            Some(parser.or()?)
        };
        parser.end()?;
        Ok(Self { source, fields, condition })
    }
}

impl Condition {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let condition = parser.or()?;
        parser.end()?;
        Ok(condition)
    }

    pub(super) fn holds(&self, row: &Value) -> bool {
        match self {
            Self::And(a, b) => a.holds(row) && b.holds(row),
            Self::Or(a, b) => a.holds(row) || b.holds(row),
            Self::Not(condition) => !condition.holds(row),
            Self::Defined(path) => find(row, path).is_some(),
            Self::In(operand, values) => operand.value(row).is_some_and(|value| values.contains(value)),
            Self::Compare(a, comparison, b) => {
                // What is not there compares with nothing.
                let (Some(a), Some(b)) = (a.value(row), b.value(row)) else { return false };
                comparison.holds(a, b)
            }
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, row: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Path(path) => find(row, path),
            Self::Literal(value) => Some(value),
        }
    }
}

impl Comparison {
    fn holds(self, a: &Value, b: &Value) -> bool {
        let order = match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match self {
            Self::Equal => a == b || order == Some(std::cmp::Ordering::Equal),
            Self::Unequal => a != b && order != Some(std::cmp::Ordering::Equal),
            Self::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

/// The value at `path` of a row.
pub(super) fn find<'a>(row: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(row, |value, key| value.get(key))
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    /// A word, such as `AND` or `deviceId`, or the inside of `[[…]]`.
    Word(String),
    Quoted(Value),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 14] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(name) = rest.strip_prefix("[[") {
            let (name, after) = name.split_once("]]").ok_or("`[[` is not closed")?;
            tokens.push(Token::Word(name.into()));
            rest = after;
        } else if matches!(first, '\'' | '"') {
            let inner = &rest[1..];
            let end = inner.find(first).ok_or("a text is not closed")?;
            tokens.push(Token::Quoted(Value::from(&inner[..end])));
            rest = &inner[end + 1..];
        } else if first.is_ascii_digit()
            || (first == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let end =
                rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| end + 1);
            let number: serde_json::Number =
                rest[..end].parse().map_err(|_| format!("`{}` is no number", &rest[..end]))?;
            tokens.push(Token::Quoted(Value::Number(number)));
            rest = &rest[end..];
        } else if first.is_alphabetic() || matches!(first, '_' | '$') {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '-'))
                .unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].into()));
            rest = &rest[end..];
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            let symbol = symbol.ok_or_else(|| format!("`{first}` has no place here"))?;
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |token| Err(format!("{token:?} comes after the end")))
    }

    fn takes(&mut self, token: &Token) -> bool {
        let there = self.peek() == Some(token);
        self.at += usize::from(there);
        there
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let there = self.is_word(word);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if self.takes_word(word) {
            Ok(())
        } else {
            Err(format!("`{word}` is expected, not {:?}", self.peek()))
        }
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.takes(&Token::Symbol(symbol)) {
            Ok(())
        } else {
            Err(format!("`{symbol}` is expected, not {:?}", self.peek()))
        }
    }

    fn path(&mut self) -> Result<Vec<String>, String> {
        let mut path = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) => path.push(word.clone()),
                other => return Err(format!("a name is expected, not {other:?}")),
            }
            self.at += 1;
            if !self.takes(&Token::Symbol(".")) {
                return Ok(path);
            }
        }
    }

    fn or(&mut self) -> Result<Condition, String> {
        let mut condition = self.and()?;
        while self.takes_word("or") {
            condition = Condition::Or(Box::new(condition), Box::new(self.and()?));
        }
        Ok(condition)
    }

    fn and(&mut self) -> Result<Condition, String> {
        let mut condition = self.not()?;
        while self.takes_word("and") {
            condition = Condition::And(Box::new(condition), Box::new(self.not()?));
        }
        Ok(condition)
    }

    fn not(&mut self) -> Result<Condition, String> {
        if self.takes_word("not") {
            return Ok(Condition::Not(Box::new(self.not()?)));
        }
        if self.takes(&Token::Symbol("(")) {
            let condition = self.or()?;
            self.symbol(")")?;
            return Ok(condition);
        }
        if self.takes_word("is_defined") {
            self.symbol("(")?;
            let path = self.path()?;
            self.symbol(")")?;
            return Ok(Condition::Defined(path));
        }
        let left = self.operand()?;
        if self.takes_word("in") {
            self.symbol("[")?;
            let mut values = Vec::new();
            loop {
                match self.operand()? {
                    Operand::Literal(value) => values.push(value),
                    Operand::Path(path) => return Err(format!("`{}` is no value", path.join("."))),
                }
                if !self.takes(&Token::Symbol(",")) {
                    break;
                }
            }
            self.symbol("]")?;
            return Ok(Condition::In(left, values));
        }
        let comparison = match self.peek() {
            Some(Token::Symbol("=")) => Comparison::Equal,
            Some(Token::Symbol("!=" | "<>")) => Comparison::Unequal,
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            other => return Err(format!("a comparison is expected, not {other:?}")),
        };
        self.at += 1;
        Ok(Condition::Compare(left, comparison, self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if let Some(Token::Quoted(value)) = self.peek() {
            let value = value.clone();
            self.at += 1;
            return Ok(Operand::Literal(value));
        }
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.takes_word(word) {
                return Ok(Operand::Literal(value));
            }
        }
        self.path().map(Operand::Path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_hold_as_the_language_says() {
        let row = json!({
            "deviceId": "pi-1",
            "tags": {"room": "hall", "floor": 2},
            "capabilities": {"iotEdge": true},
            "configurations": {"mynah-0a.b": {"status": "Applied"}},
            "properties": {"desired": {"$version": 3}, "reported": {"lastDesiredVersion": 3}},
        });
        for (condition, holds) in [
            ("deviceId = 'pi-1'", true),
            ("deviceId IN ['pi-0', 'pi-1'] and tags.floor >= 2", true),
            ("tags.room <> 'hall' OR NOT (tags.floor < 2)", true),
            ("capabilities.iotEdge = true", true),
            ("configurations.[[mynah-0a.b]].status = 'Applied'", true),
            ("properties.desired.$version = properties.reported.lastDesiredVersion", true),
            ("is_defined(tags.cellar)", false),
            ("tags.cellar != 1", false),
        ] {
            assert_eq!(Condition::parse(condition).unwrap().holds(&row), holds, "{condition}");
        }
        for bad in ["deviceId", "deviceId = ", "tags.room = 'x", "a = 1 b", "(a = 1", "a IN [b]", "a ~ 1"] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_name_their_source_and_fields() {
        let query = Query::parse("SELECT deviceId, properties.reported FROM devices.modules").unwrap();
        assert_eq!((query.source, query.fields.len()), (Source::Modules, 2));
        assert!(Query::parse("SELECT * FROM jobs").is_err());
        assert!(Query::parse("SELECT * FROM devices WHERE deviceId = 'x'").unwrap().condition.is_some());
    }
}
