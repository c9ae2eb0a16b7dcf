//! The variables a template may name: the process' environment, and files of `NAME=value` lines over it.

use std::collections::BTreeMap;

use crate::agent::Env;

/// Values by name. There is no `Debug`: some are secrets.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

/// A line that is no assignment. It is not shown: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {what}")]
pub struct VariablesError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Variables {
    /// The variables of this process. A secret variable `name` of a pipeline comes as `SECRET_NAME`; it goes by `NAME`
    /// too, as in the official task.
    pub fn of(env: &Env) -> Self {
        env.starting_with("SECRET_").chain(env.variables()).collect()
    }

    /// Adds the lines of a file; they win over what is there.
    ///
    /// A line is `NAME=value`, also with `export` before it. `#` begins a comment, at the beginning of a line or after
    /// white space. In single quotes a value stands for itself; in double quotes `\n`, `\"`, `\\` and `\$` are known.
    ///
    /// # Errors
    /// Names the first line that is none of these.
    pub fn add(&mut self, text: &str) -> Result<(), VariablesError> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let failed = |what| VariablesError { line: number + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            let (name, value) = line.split_once('=').ok_or_else(|| failed("has no `=`"))?;
            let name = name.trim_end();
            if name.is_empty()
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            {
                return Err(failed("does not begin with a name of letters, digits, `_`, `.` and `-`"));
            }
            self.0.insert(name.to_owned(), unquoted(value.trim()).map_err(failed)?);
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Variables {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    if let Some(inner) = value.strip_prefix('\'') {
        let (inner, rest) = inner.split_once('\'').ok_or("opens a quote and does not close it")?;
        return nothing_after(rest).map(|()| inner.to_owned());
    }
    let Some(inner) = value.strip_prefix('"') else {
        let comment = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
        return Ok(value[..comment].trim_end().to_owned());
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next().ok_or("opens a quote and does not close it")? {
            '"' => return nothing_after(chars.as_str()).map(|()| out),
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('"' | '\\' | '$')) => out.push(c),
                _ => return Err("holds a `\\` that is followed by none of `n`, `\"`, `\\`, `$`"),
            },
            c => out.push(c),
        }
    }
}

fn nothing_after(rest: &str) -> Result<(), &'static str> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') { Ok(()) } else { Err("goes on after the closing quote") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_shells_and_their_files_write_them() {
        let mut variables: Variables = [("A", "process"), ("KEPT", "yes")].into_iter().collect();
        let file =
            "\u{FEFF}# c\r\n\r\nA=file\r\nexport B = 'x $y #z' # c\nC=\"a\\n\\\"b\\$\"\nD=p#q r # c\nE=\n";
        variables.add(file).unwrap();
        for (name, value) in
            [("A", "file"), ("B", "x $y #z"), ("C", "a\n\"b$"), ("D", "p#q r"), ("E", ""), ("KEPT", "yes")]
        {
            assert_eq!(variables.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_pipelines_secret_goes_by_its_own_name() {
        let env = Env::from_iter([("SECRET_CR_PASSWORD", "p"), ("SECRET_A", "no"), ("A", "yes")]);
        let variables = Variables::of(&env);
        assert_eq!((variables.get("CR_PASSWORD"), variables.get("A")), (Some("p"), Some("yes")));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        for (bad, line) in
            [("A=1\nhunter2", 2), ("B='x", 1), ("C=\"x\\y\"", 1), ("'D'=1", 1), ("\nE=\"a\"b", 2)]
        {
            let error = Variables::default().add(bad).unwrap_err();
            assert_eq!(error.line, line, "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "\\PC{0,60}(\\n\\PC{0,20})?") {
            let _ = Variables::default().add(&text);
        }
    }
}
