//! The settings file: lines `name = value`, where `#` begins a comment line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::SettingsError;
use super::definitions::definitions;

/// A settings file is a page of text.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file.
///
/// # Errors
/// It cannot be read, or a line is not of its form.
pub(super) fn read(path: &Path) -> Result<BTreeMap<&'static str, String>, SettingsError> {
    let unreadable = |source| SettingsError::File { path: path.to_path_buf(), source };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unreadable(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))));
    }
    parse(&text).map_err(|(line, what)| SettingsError::Line { path: path.to_path_buf(), line, what })
}

/// Reads the text; where that fails, the number of the line and what is wrong with it.
fn parse(text: &str) -> Result<BTreeMap<&'static str, String>, (usize, String)> {
    let mut values = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| (number, "it is not of the form `name = value`".to_owned()))?;
        let name = name.trim();
        let known = definitions().find(|definition| definition.name == name && name != "config");
        let Some(definition) = known else {
            return Err((number, format!("there is no setting `{}` for a file", name.escape_debug())));
        };
        if values.insert(definition.name, value.trim().to_owned()).is_some() {
            return Err((number, format!("`{name}` stands in the file twice")));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        let text = "\u{feff}# a comment\n\n votes=2\r\nsource = dir:a=b # c \nlog =\n";
        let values = parse(text).unwrap();
        let expected = [("log", ""), ("source", "dir:a=b # c"), ("votes", "2")];
        assert_eq!(values.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, says) in [
            ("votes", 1, "`name = value`"),
            ("\n\ncolour = red", 3, "no setting `colour`"),
            ("config = other", 1, "no setting `config`"),
            ("votes = 1\nvotes = 2", 2, "twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.0, line);
            assert!(error.1.contains(says), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "([ #=\n\u{1}a]|votes|window){0,12}") {
            if let Ok(values) = parse(&text) {
                prop_assert!(values.values().all(|value| value.trim() == value));
            }
        }
    }
}
