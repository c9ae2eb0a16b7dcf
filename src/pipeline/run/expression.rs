//! Expressions: what stands in `${{ … }}`, `$[ … ]` and `condition:`.
//!
//! Grammar and functions as in "Expressions" of the Azure Pipelines documentation. Not there: wildcards in indices,
//! versions, `counter` and `containsValue` over filtered arrays.

use super::functions;
use super::value::Value;

/// How deep an expression may be nested.
const MAX_DEPTH: usize = 50;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    Name(String),
    Index(Box<Expression>, Box<Expression>),
    Call(String, Vec<Expression>),
}

/// Why an expression cannot be understood or computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpressionError {
    #[error("the expression `{text}` is not complete or not well-formed at character {at}")]
    Syntax { text: String, at: usize },
    #[error("the expression `{text}` is nested too deep")]
    Depth { text: String },
    #[error("nothing is named `{name}` here")]
    Name { name: String },
    #[error("there is no function `{name}` here")]
    Function { name: String },
    #[error("`{name}` does not take {count} arguments")]
    Arity { name: String, count: usize },
    #[error("`{name}` cannot use what it is given")]
    Argument { name: String },
}

/// What names and functions mean where an expression stands.
pub(super) trait Scope {
    /// The value of a name such as `variables`.
    fn name(&self, name: &str) -> Option<Value>;

    /// The value of a function that only this place knows, such as `succeeded`.
    fn function(&self, _name: &str, _arguments: &[Value]) -> Option<Value> {
        None
    }
}

impl Expression {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser { text, chars: text.char_indices().collect(), at: 0 };
        let expression = parser.expression(0)?;
        parser.space();
        if parser.peek().is_some() {
            return Err(parser.wrong());
        }
        Ok(expression)
    }

    /// Computes it. `and`, `or`, `iif` and `coalesce` look at no more than they need.
    pub(super) fn value(&self, scope: &dyn Scope) -> Result<Value, ExpressionError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Name(name) => scope.name(name).ok_or_else(|| ExpressionError::Name { name: name.clone() }),
            Self::Index(of, key) => Ok(of.value(scope)?.at(&key.value(scope)?)),
            Self::Call(name, arguments) => call(name, arguments, scope),
        }
    }

    /// Calls `each` with the names and the functions that it holds, functions first.
    pub(super) fn mentions(&self, each: &mut dyn FnMut(Mention<'_>)) {
        match self {
            Self::Literal(_) => {}
            Self::Name(name) => each(Mention::Name(name)),
            Self::Index(of, key) => {
                of.mentions(each);
                key.mentions(each);
            }
            Self::Call(name, arguments) => {
                each(Mention::Function(name));
                for argument in arguments {
                    argument.mentions(each);
                }
            }
        }
    }
}

/// Something an expression speaks of.
pub(super) enum Mention<'a> {
    Name(&'a str),
    Function(&'a str),
}

fn call(name: &str, arguments: &[Expression], scope: &dyn Scope) -> Result<Value, ExpressionError> {
    let arity = |fits: bool| {
        let error = || ExpressionError::Arity { name: name.to_owned(), count: arguments.len() };
        if fits { Ok(()) } else { Err(error()) }
    };
    match name.to_ascii_lowercase().as_str() {
        "and" => {
            arity(arguments.len() >= 2)?;
            for argument in arguments {
                if !argument.value(scope)?.holds() {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }
        "or" => {
            arity(arguments.len() >= 2)?;
            for argument in arguments {
                if argument.value(scope)?.holds() {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "iif" => match arguments {
            [condition, yes, no] => {
                if condition.value(scope)?.holds() {
                    yes.value(scope)
                } else {
                    no.value(scope)
                }
            }
            _ => Err(ExpressionError::Arity { name: name.to_owned(), count: arguments.len() }),
        },
        "coalesce" => {
            arity(arguments.len() >= 2)?;
            for argument in arguments {
                let value = argument.value(scope)?;
                if !matches!(&value, Value::Null) && value.to_text().as_deref() != Some("") {
                    return Ok(value);
                }
            }
            Ok(Value::Null)
        }
        lower => {
            let values =
                arguments.iter().map(|argument| argument.value(scope)).collect::<Result<Vec<_>, _>>()?;
            match scope.function(lower, &values) {
                Some(value) => Ok(value),
                None => functions::call(lower, &values),
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<(usize, char)>,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).map(|(_, c)| *c)
    }

    fn wrong(&self) -> ExpressionError {
        ExpressionError::Syntax { text: self.text.trim().to_owned(), at: self.at + 1 }
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.space();
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, fits: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&fits) {
            self.at += 1;
        }
        self.chars.get(start..self.at).unwrap_or_default().iter().map(|(_, c)| c).collect()
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        if depth > MAX_DEPTH {
            return Err(ExpressionError::Depth { text: self.text.chars().take(60).collect() });
        }
        self.space();
        let mut expression = match self.peek() {
            Some('\'') => Expression::Literal(Value::Text(self.quoted()?)),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number()?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let word = self.word(is_name);
                if self.takes('(') {
                    Expression::Call(word, self.arguments(depth)?)
                } else {
                    match word.to_ascii_lowercase().as_str() {
                        "true" => Expression::Literal(Value::Bool(true)),
                        "false" => Expression::Literal(Value::Bool(false)),
                        "null" => Expression::Literal(Value::Null),
                        _ => Expression::Name(word),
                    }
                }
            }
            _ => return Err(self.wrong()),
        };
        loop {
            if self.takes('[') {
                let key = self.expression(depth + 1)?;
                if !self.takes(']') {
                    return Err(self.wrong());
                }
                expression = Expression::Index(Box::new(expression), Box::new(key));
            } else if self.peek() == Some('.') {
                self.at += 1;
                let word = self.word(|c| is_name(c) || c == '-');
                if word.is_empty() {
                    return Err(self.wrong());
                }
                let key = Expression::Literal(Value::Text(word));
                expression = Expression::Index(Box::new(expression), Box::new(key));
            } else {
                return Ok(expression);
            }
        }
    }

    fn arguments(&mut self, depth: usize) -> Result<Vec<Expression>, ExpressionError> {
        let mut arguments = Vec::new();
        if self.takes(')') {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(depth + 1)?);
            if self.takes(')') {
                return Ok(arguments);
            }
            if !self.takes(',') {
                return Err(self.wrong());
            }
        }
    }

    /// A text in single quotes; two of them are one.
    fn quoted(&mut self) -> Result<String, ExpressionError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err(self.wrong()) };
            self.at += 1;
            if c != '\'' {
                text.push(c);
            } else if self.peek() == Some('\'') {
                text.push('\'');
                self.at += 1;
            } else {
                return Ok(text);
            }
        }
    }

    fn number(&mut self) -> Result<Expression, ExpressionError> {
        let start = self.at;
        let word = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Expression::Literal(Value::Number(number))),
            _ => {
                self.at = start;
                Err(self.wrong())
            }
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Names;

    impl Scope for Names {
        fn name(&self, name: &str) -> Option<Value> {
            (name == "variables").then(|| {
                Value::Map(vec![
                    ("a.b".into(), Value::text("yes")),
                    ("list".into(), Value::List(vec![Value::text("x"), Value::text("y")])),
                ])
            })
        }

        fn function(&self, name: &str, _: &[Value]) -> Option<Value> {
            (name == "succeeded").then_some(Value::Bool(true))
        }
    }

    #[track_caller]
    fn is(text: &str, expected: impl Into<Option<Value>>) {
        let value = Expression::parse(text).and_then(|expression| expression.value(&Names));
        assert_eq!(value.ok(), expected.into(), "{text}");
    }

    #[test]
    fn names_calls_and_indices() {
        is("variables['a.b']", Value::text("yes"));
        is(" and( succeeded() , eq(Variables['A.B'], 'YES')) ", None);
        is("and(succeeded(), eq(variables['A.B'], 'YES'))", Value::Bool(true));
        is("variables.list[1]", Value::text("y"));
        is("variables.list[7]", Value::Null);
        is("'it''s'", Value::text("it's"));
        is("or(False, true)", Value::Bool(true));
        is("or(true, nothing.here)", Value::Bool(true));
        is("-1.5", Value::Number(-1.5));
        is("iif(eq(1, '1'), 'a', nothing)", Value::text("a"));
        is("coalesce('', null, 'c')", Value::text("c"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |text: &str| {
            Expression::parse(text).and_then(|expression| expression.value(&Names)).unwrap_err().to_string()
        };
        assert_eq!(
            told("eq(1, 2"),
            "the expression `eq(1, 2` is not complete or not well-formed at character 8"
        );
        assert_eq!(told("a b"), "the expression `a b` is not complete or not well-formed at character 3");
        assert_eq!(told("nothing"), "nothing is named `nothing` here");
        assert_eq!(told("frob()"), "there is no function `frob` here");
        assert_eq!(told("eq(1)"), "`eq` does not take 1 arguments");
        assert!(told(&"not(".repeat(99)).contains("too deep"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z'()\\[\\],. 0-9-]{0,40}") {
            let _ = Expression::parse(&text).and_then(|expression| expression.value(&Names));
        }

        #[test]
        fn quoted_text_is_read_back(text in "\\PC{0,30}") {
            let written = format!("'{}'", text.replace('\'', "''"));
            prop_assert_eq!(Expression::parse(&written).unwrap(), Expression::Literal(Value::Text(text)));
        }
    }
}
