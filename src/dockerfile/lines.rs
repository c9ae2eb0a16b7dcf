//! A Dockerfile's text as logical lines: directives read, comments dropped, continuations joined,
//! here-documents gathered (Dockerfile reference, "Format", "Parser directives", "Here-Documents").

use super::error::Problem;

/// The largest Dockerfile read.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A logical line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) heredocs: Vec<Heredoc>,
}

/// A here-document: text given in place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heredoc {
    /// The word that ends it; also the file's name where it is copied into a folder.
    pub name: String,
    /// Whether variables in it are expanded: its name was not quoted.
    pub expand: bool,
    /// The text.
    pub content: String,
}

/// The lines, and the escape character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lines {
    pub(super) escape: char,
    pub(super) lines: Vec<Line>,
}

/// Cuts a text into lines. The error's number is the line's.
pub(super) fn split(text: &str) -> Result<Lines, (usize, Problem)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = directives(text)?;
    let mut lines = Vec::new();
    let mut source = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, first)) = source.next() {
        if is_blank(first) || is_comment(first) {
            continue;
        }
        let mut text = String::new();
        let mut current = first.trim_start();
        loop {
            match continued(current, escape) {
                None => {
                    text.push_str(current);
                    break;
                }
                Some(part) => text.push_str(part),
            }
            // Comments and empty lines between continued lines mean nothing.
            let Some((_, next)) = source.find(|(_, line)| !is_blank(line) && !is_comment(line)) else {
                break;
            };
            current = next;
        }
        let text = text.trim().to_owned();
        let mut heredocs = Vec::new();
        for (name, expand, strip_tabs) in openings(&text) {
            let mut content = String::new();
            loop {
                let Some((_, line)) = source.next() else {
                    return Err((number, Problem::Text(format!("the here-document `{name}` does not end"))));
                };
                let line = if strip_tabs { line.trim_start_matches('\t') } else { line };
                if line == name {
                    break;
                }
                content.push_str(line);
                content.push('\n');
            }
            heredocs.push(Heredoc { name, expand, content });
        }
        lines.push(Line { number, text, heredocs });
    }
    Ok(Lines { escape, lines })
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without the escape character at its end; nothing where the line does not go on.
fn continued(line: &str, escape: char) -> Option<&str> {
    let rest = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    // Two of them stand for one.
    if rest.ends_with(escape) { None } else { Some(rest) }
}

/// Reads `# name=value` lines at the top: `escape` counts, `syntax` must be Docker's own, others are comments.
fn directives(text: &str) -> Result<char, (usize, Problem)> {
    let mut escape = '\\';
    let mut seen = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('='))
        else {
            break;
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !matches!(name.as_str(), "escape" | "syntax" | "check") {
            break;
        }
        let refuse = |problem| Err((index + 1, problem));
        if seen.contains(&name) {
            return refuse(Problem::Text(format!("the directive `{name}` is given twice")));
        }
        match (name.as_str(), value) {
            ("escape", "\\") => escape = '\\',
            ("escape", "`") => escape = '`',
            ("escape", other) => {
                let problem =
                    format!("the escape character is `\\` or a backtick, not `{}`", other.escape_debug());
                return refuse(Problem::Text(problem));
            }
            ("syntax", image) => {
                let name = image.split(['@', ':']).next().unwrap_or_default();
                if !matches!(name, "docker/dockerfile" | "docker.io/docker/dockerfile") {
                    return refuse(Problem::Unsupported(format!("the syntax `{}`", image.escape_debug())));
                }
            }
            _ => {}
        }
        seen.push(name);
    }
    Ok(escape)
}

/// The here-documents that an instruction opens: name, whether to expand, whether to strip tabs.
fn openings(text: &str) -> Vec<(String, bool, bool)> {
    let keyword = text.split(char::is_whitespace).next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].iter().any(|name| keyword.eq_ignore_ascii_case(name)) {
        return Vec::new();
    }
    text.split_whitespace().skip(1).filter_map(opening).collect()
}

/// Reads a word such as `<<EOF`, `<<-"EOF"`, `0<<EOF`.
pub(super) fn opening(word: &str) -> Option<(String, bool, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, strip_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let unquoted = |quote| rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let (name, expand) = match unquoted('"').or_else(|| unquoted('\'')) {
        Some(name) => (name, false),
        None => (rest, true),
    };
    let valid = !name.is_empty() && !name.contains(['<', '>', '"', '\'', '/', '\\', '|', '&', ';', '$']);
    valid.then(|| (name.to_owned(), expand, strip_tabs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        split(text).unwrap().lines.into_iter().map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn lines_go_on_over_comments_and_ends_of_windows() {
        let text = "# a comment\r\nFROM a \\\r\n\r\n  # between\r\n  AS b\r\n\r\nCMD c\\\\\nUSER d";
        assert_eq!(
            texts(text),
            [(2, "FROM a   AS b".to_owned()), (7, "CMD c\\\\".into()), (8, "USER d".into())]
        );
        assert_eq!(texts("CMD a \\"), [(1, "CMD a".to_owned())]);
    }

    #[test]
    fn the_escape_character_is_chosen_at_the_top_only() {
        assert_eq!(texts("# escape=`\nFROM a `\nAS b"), [(2, "FROM a AS b".to_owned())]);
        assert_eq!(split("#syntax=docker/dockerfile:1.7\n# escape = `\nFROM a").unwrap().escape, '`');
        assert_eq!(split("# hello\n# escape=`\nFROM a").unwrap().escape, '\\');
        assert_eq!(split("# escape=x\nFROM a").unwrap_err().0, 1);
        assert_eq!(split("# escape=`\n# escape=`\n").unwrap_err().0, 2);
        assert!(matches!(split("# syntax=other/frontend\n").unwrap_err().1, Problem::Unsupported(_)));
    }

    #[test]
    fn here_documents_are_gathered() {
        let lines = split("COPY <<EOF <<-'B' /x/\na $b\n# kept\nEOF\n\tc\n\tB\nUSER d").unwrap().lines;
        let docs = &lines[0].heredocs;
        assert_eq!((docs[0].content.as_str(), docs[0].expand), ("a $b\n# kept\n", true));
        assert_eq!((docs[1].content.as_str(), docs[1].expand), ("c\n", false));
        assert_eq!(lines[1].number, 7);
        assert!(split("COPY <<EOF /x\na").unwrap_err().1.to_string().contains("does not end"));
        assert!(split("CMD cat <<EOF").unwrap().lines[0].heredocs.is_empty());
    }
}
