//! Words and variables as a Dockerfile writes them (Dockerfile reference, "Environment replacement").

use super::error::Problem;

/// The longest text one expansion may give: variables that name variables could double it line by line.
const MAX_EXPANDED_BYTES: usize = 1 << 20;

/// Cuts at white space outside of quotes; quotes and escapes stay for [`expand`].
pub(super) fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, quote) if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and escapes away and puts in the values of variables.
pub(super) fn expand(
    text: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    Expansion { chars: text.chars().peekable(), escape, value }.run(None)
}

/// Puts in the values of variables and leaves quotes as they are, as in a here-document.
pub(super) fn expand_document(
    text: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    let mut expansion = Expansion { chars: text.chars().peekable(), escape, value };
    let mut out = String::new();
    while let Some(c) = expansion.chars.next() {
        match c {
            '$' => out.push_str(&expansion.variable()?),
            c if c == escape && expansion.chars.peek() == Some(&'$') => out.extend(expansion.chars.next()),
            c => out.push(c),
        }
        check_length(&out)?;
    }
    Ok(out)
}

fn check_length(text: &str) -> Result<(), Problem> {
    if text.len() > MAX_EXPANDED_BYTES {
        return Err(Problem::Text(format!("the variables expand to more than {MAX_EXPANDED_BYTES} bytes")));
    }
    Ok(())
}

struct Expansion<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    value: &'a dyn Fn(&str) -> Option<String>,
}

impl Expansion<'_> {
    /// Expands up to `end`, which is taken, or to the end of the text.
    fn run(&mut self, end: Option<char>) -> Result<String, Problem> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == end => return Ok(out),
                '\'' => loop {
                    match self.chars.next() {
                        Some('\'') => break,
                        Some(c) => out.push(c),
                        None => return Err(Problem::Text("a `'` has no other one that ends it".into())),
                    }
                },
                '"' => self.double_quoted(&mut out)?,
                '$' => out.push_str(&self.variable()?),
                c if c == self.escape => out.extend(self.chars.next()),
                c => out.push(c),
            }
            check_length(&out)?;
        }
        match end {
            None => Ok(out),
            Some(_) => Err(Problem::Text("a `${` has no `}`".into())),
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), Problem> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape => match self.chars.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.push(next),
                    next => {
                        out.push(c);
                        out.extend(next);
                    }
                },
                Some(c) => out.push(c),
                None => return Err(Problem::Text("a `\"` has no other one that ends it".into())),
            }
            check_length(out)?;
        }
    }

    /// What stands after a `$`.
    fn variable(&mut self) -> Result<String, Problem> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            // A dollar before anything else is a dollar.
            return Ok(if name.is_empty() { "$".into() } else { (self.value)(&name).unwrap_or_default() });
        }
        let name = self.name();
        if name.is_empty() {
            return Err(Problem::Text("`${` names no variable".into()));
        }
        let value = (self.value)(&name);
        let colon = self.chars.next_if_eq(&':').is_some();
        let operator = match self.chars.next() {
            Some('}') if !colon => return Ok(value.unwrap_or_default()),
            Some(operator @ ('-' | '+' | '?')) => operator,
            Some(other) => {
                let written = format!("`{}{other}` in `${{{name}…}}`", if colon { ":" } else { "" });
                return Err(Problem::Unsupported(written));
            }
            None => return Err(Problem::Text("a `${` has no `}`".into())),
        };
        let word = self.run(Some('}'))?;
        let value = if colon { value.filter(|value| !value.is_empty()) } else { value };
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map_or(String::new(), |_| word)),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(Problem::Text(format!("the variable `{name}` is required: {word}"))),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self
            .chars
            .next_if(|c| *c == '_' || c.is_ascii_alphabetic() || (!name.is_empty() && c.is_ascii_digit()))
        {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "a" => Some("A".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_quotes_and_escapes() {
        for (text, expanded) in [
            ("x$a.y", "xA.y"),
            ("${a}b", "Ab"),
            ("'$a'\"$a\"", "$aA"),
            (r"\$a", "$a"),
            (r#""\$a \x""#, r"$a \x"),
            ("${none:-d}${empty:-e}${empty-f}", "de"),
            ("${a:+y}${none:+y}${empty+z}", "yz"),
            ("${none:-${a}'}'}", "A}"),
            ("$none$", "$"),
            ("a\\ b", "a b"),
        ] {
            assert_eq!(expand(text, '\\', &value).unwrap(), expanded, "{text}");
        }
        for bad in ["\"a", "'a", "${a", "${}", "${a%b}", "${none:?say}", "${a:"] {
            assert!(expand(bad, '\\', &value).is_err(), "{bad}");
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(split_quoted(r#"a="b c"  d='e "f' g\ h"#, '\\'), [r#"a="b c""#, r#"d='e "f'"#, r"g\ h"]);
    }

    #[test]
    fn a_document_keeps_its_quotes() {
        assert_eq!(expand_document("say \"$a\" \\$a \\n", '\\', &value).unwrap(), "say \"A\" $a \\n");
    }

    proptest! {
        #[test]
        fn a_quoted_text_comes_back(text in "[^']{0,60}") {
            prop_assert_eq!(expand(&format!("'{text}'"), '\\', &value).unwrap(), text);
        }

        #[test]
        fn nothing_panics(text in "[\\$\\{\\}a:+\"'\\\\ -]{0,40}") {
            let _ = expand(&text, '\\', &value);
            let _ = expand_document(&text, '`', &value);
            let _ = split_quoted(&text, '\\');
        }
    }
}
