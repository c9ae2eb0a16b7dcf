//! Azure Pipelines logging commands: `##vso[area.event key=value;…]data`, one line each.
//!
//! The agent executes a command wherever it stands in a line of standard output or standard error
//! (agent source, `Command.TryParse`), so text from elsewhere is neutralised before it is written.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Formats a logging command. Properties with an empty value are left out, as task-lib does.
pub fn command(name: &str, properties: &[(&str, &str)], data: &str) -> String {
    let mut line = format!("##vso[{name}");
    let mut separator = ' ';
    for (key, value) in properties.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(line, "{separator}{key}={}", escape_property(value));
        separator = ';';
    }
    line.push(']');
    line.push_str(&escape_data(data));
    line
}

/// Escapes a command's data: `%` first, then the ends of lines.
pub fn escape_data(text: &str) -> String {
    text.replace('%', "%AZP25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a command's property.
pub fn escape_property(text: &str) -> String {
    escape_data(text).replace(']', "%5D").replace(';', "%3B")
}

/// Makes a line of ordinary output harmless: no command can be read out of it.
///
/// `##vso[` anywhere and `##[` at its start are what the agent looks for, in any letter case; a space after
/// the hashes ends the resemblance and stays readable. A `#` is never left to join a following one.
pub fn neutralise(line: &str) -> Cow<'_, str> {
    if !line.contains("##") {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 8);
    let mut rest = line;
    while let Some(at) = rest.find("##") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.trim_start_matches('#');
        out.push_str(&from[..from.len() - after.len()]);
        let lower: String = after.chars().take(4).flat_map(char::to_lowercase).collect();
        if after.starts_with('[') || lower.starts_with("vso[") {
            out.push(' ');
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A logging command, read as the agent reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Area and event in lower case, such as `task.setvariable`.
    pub(crate) name: String,
    properties: Vec<(String, String)>,
    /// What follows the bracket.
    pub(crate) data: String,
}

impl Command {
    /// Whether a line holds what the agent takes for the beginning of a command.
    pub(crate) fn begins_in(line: &str) -> bool {
        line.to_ascii_lowercase().contains(START)
    }

    /// The command in a line, wherever it begins (agent source, `Command.TryParse`).
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let unescape = |text: &str| {
            text.replace("%3B", ";")
                .replace("%0D", "\r")
                .replace("%0A", "\n")
                .replace("%5D", "]")
                .replace("%AZP25", "%")
        };
        // Lower case of ASCII alone: places in both texts are the same.
        let start = line.to_ascii_lowercase().find(START)? + START.len();
        let (head, data) = line.get(start..)?.split_once(']')?;
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        if name.split('.').filter(|part| !part.is_empty()).count() != 2 {
            return None;
        }
        let properties = properties
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), unescape(value)))
            .collect();
        Some(Self { name: name.to_ascii_lowercase(), properties, data: unescape(data) })
    }

    /// A property, by its name in any letter case.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a property says true.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.property(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// How a command begins, in lower case.
const START: &str = "##vso[";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn task_libs_own_vectors() {
        assert_eq!(
            command(
                "task.setvariable",
                &[("variable", "a;b]c%d"), ("isOutput", "true"), ("issecret", "false")],
                "v;1]2%3\r\n4"
            ),
            "##vso[task.setvariable variable=a%3Bb%5Dc%AZP25d;isOutput=true;issecret=false]v;1]2%AZP253%0D%0A4"
        );
        assert_eq!(escape_data("%3B%0A%25"), "%AZP253B%AZP250A%AZP2525");
        assert_eq!(command("task.debug", &[], "hi"), "##vso[task.debug]hi");
    }

    #[test]
    fn foreign_commands_are_broken_and_stay_readable() {
        assert_eq!(
            neutralise("x ##vso[task.complete result=Failed;]"),
            "x ## vso[task.complete result=Failed;]"
        );
        assert_eq!(neutralise("##[error]no"), "## [error]no");
        assert_eq!(neutralise("###VSO[a.b]"), "### VSO[a.b]");
        assert_eq!(neutralise("## A heading"), "## A heading");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any::<String>(), data in any::<String>()) {
            // A carriage return before the escape codes' letters cannot be confused: `%` is escaped first.
            let line = command("task.setvariable", &[("variable", &value)], &data);
            prop_assert!(!line.contains(['\n', '\r']));
            let read = Command::parse(&line).unwrap();
            prop_assert_eq!(&*read.name, "task.setvariable");
            prop_assert_eq!(&read.data, &data);
            if !value.is_empty() {
                prop_assert_eq!(read.property("Variable"), Some(&*value));
            }
        }

        #[test]
        fn nothing_survives_neutralising(text in "(#|v|V|s|o|\\[|\\]|a\\.b| |x){0,40}") {
            let line = neutralise(&text);
            prop_assert!(!line.to_lowercase().contains("##vso["), "{}", line);
            prop_assert!(!line.contains("##["), "{}", line);
            prop_assert_eq!(neutralise(&line).into_owned(), line.clone().into_owned());
        }
    }
}
