//! Patterns of file names: those of `COPY` (Go's `filepath.Match`) and of `.dockerignore`.

use super::error::Problem;

/// A pattern, component by component.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pattern {
    components: Vec<Component>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Component {
    /// `**`: any number of components.
    Any,
    Name(Vec<Token>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Char(char),
    One,
    Many,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads a pattern. Empty components and `.` mean nothing; `..` is the caller's business.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let components = text
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .map(|part| {
                if part == "**" {
                    return Ok(Component::Any);
                }
                tokens(part)
                    .map(Component::Name)
                    .ok_or_else(|| Problem::Text(format!("`{}` is no valid pattern", text.escape_debug())))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { components })
    }

    /// Whether the path, component by component, is one of those meant.
    pub(crate) fn matches<S: AsRef<str>>(&self, path: &[S]) -> bool {
        greedy(
            &self.components,
            path,
            |component| *component == Component::Any,
            |component, name| match component {
                Component::Any => true,
                Component::Name(tokens) => {
                    let chars: Vec<char> = name.as_ref().chars().collect();
                    greedy(tokens, &chars, |token| *token == Token::Many, |token, c| token.takes(*c))
                }
            },
        )
    }

    /// Whether anything but itself can match: it holds a wildcard.
    pub(super) fn is_plain(&self) -> bool {
        self.components.iter().all(|component| match component {
            Component::Any => false,
            Component::Name(tokens) => tokens.iter().all(|token| matches!(token, Token::Char(_))),
        })
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One | Self::Many => true,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// Matches a sequence with wildcards for any number. Going back to the last wildcard only is enough, and keeps
/// a hostile pattern from taking exponential time.
fn greedy<P, I>(
    pattern: &[P],
    items: &[I],
    many: impl Fn(&P) -> bool,
    takes: impl Fn(&P, &I) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(current) = items.get(item) {
        match pattern.get(at) {
            Some(wild) if many(wild) => {
                retry = Some((at + 1, item));
                at += 1;
            }
            Some(own) if takes(own, current) => {
                at += 1;
                item += 1;
            }
            _ => match retry {
                Some((after, start)) => {
                    retry = Some((after, start + 1));
                    at = after;
                    item = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(many)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Many,
            '?' => Token::One,
            '\\' => Token::Char(chars.next()?),
            '[' => {
                let negated = chars.next_if(|c| matches!(c, '^' | '!')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match chars.next()? {
                        ']' if ranges.is_empty() => return None,
                        ']' => break,
                        '\\' => chars.next()?,
                        c => c,
                    };
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => match chars.next()? {
                            ']' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        },
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Token::Set { negated, ranges }
            }
            c => Token::Char(c),
        });
    }
    Some(tokens)
}

/// The rules of a `.dockerignore`: the last one that matches a path, or a folder above it, decides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<(bool, Pattern)>,
}

impl Ignore {
    /// Reads the rules. The error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, Problem)> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            // A `#` begins a comment at the start of a line only.
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = Pattern::parse(&clean(pattern)).map_err(|problem| (index + 1, problem))?;
            if !pattern.components.is_empty() {
                rules.push((keep, pattern));
            }
        }
        Ok(Self { rules })
    }

    /// Whether the path is left out of the context.
    pub(super) fn excludes<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.rules.iter().fold(false, |out, (keep, pattern)| {
            let hit = (1..=path.len()).any(|end| pattern.matches(path.get(..end).unwrap_or_default()));
            if hit { !keep } else { out }
        })
    }

    /// Whether something below an excluded folder may still be let through.
    pub(super) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|(keep, _)| *keep)
    }
}

/// Resolves `..` by text, as Docker cleans its patterns.
fn clean(pattern: &str) -> String {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(path: &str) -> Vec<&str> {
        path.split('/').filter(|part| !part.is_empty()).collect()
    }

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&parts(path))
    }

    #[test]
    fn names_match_as_go_does_it() {
        for (pattern, path) in [
            ("*.py", "a.py"),
            ("a/?/c", "a/b/c"),
            ("[a-c]*[!x]", "bzzy"),
            (r"\*", "*"),
            ("./a//b/", "a/b"),
            ("**/c", "c"),
            ("**/c", "a/b/c"),
            ("a/**", "a/b/c"),
            ("*a*b*c", "xaybzc"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*.py", "d/a.py"), ("a", "ab"), ("[^a]", "a"), ("a/*", "a"), ("*a*b", "xbxa")]
        {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        for bad in ["[", "[]", "[a", "[a-]", "a\\"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let ignore = Ignore::parse("# comment\n*.md\n!README.md\n/build\n**/*.pyc\n../x\n").unwrap();
        let excludes = |path: &str| ignore.excludes(&parts(path));
        assert!(excludes("a.md") && excludes("build/deep/file") && excludes("a/b/c.pyc") && excludes("x"));
        assert!(!excludes("README.md") && !excludes("src/build") && !excludes("d/a.md"));
        assert!(Ignore::parse("*\n!app").unwrap().has_exceptions());
        assert_eq!(Ignore::parse("a\n[").unwrap_err().0, 2);
    }

    proptest! {
        #[test]
        fn a_plain_name_matches_itself_only(name in "[a-z]{1,8}", other in "[a-z]{1,8}") {
            prop_assert!(matches(&name, &name));
            prop_assert_eq!(matches(&name, &other), name == other);
        }

        #[test]
        fn stars_match_as_a_search_by_all_ways_does(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    Some((c, rest)) => text.first() == Some(c) && slow(rest, &text[1..]),
                }
            }
            prop_assume!(!text.is_empty() && !pattern.is_empty() && pattern != "**");
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn nothing_panics(pattern in ".{0,40}", path in prop::collection::vec(".{0,6}", 0..5)) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&path);
            }
            if let Ok(ignore) = Ignore::parse(&pattern) {
                let _ = ignore.excludes(&path);
            }
        }
    }
}
