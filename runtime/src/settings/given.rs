//! Settings as text, each with who gave it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::SettingsError;
use super::definitions::{DEFINITIONS, Default, Definition};

/// Who gave a setting its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        })
    }
}

/// The text of every setting that has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given(BTreeMap<&'static str, (String, Origin)>);

impl Given {
    /// Flags before environment before defaults; an empty text counts as not given.
    ///
    /// # Errors
    /// One of our environment variables is not UTF-8.
    pub fn collect(
        flags: &BTreeMap<String, String>,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Self, SettingsError> {
        let mut given = BTreeMap::new();
        for definition in DEFINITIONS {
            let variable = definition.variable();
            let from_environment = match environment.get(OsString::from(&variable).as_os_str()) {
                Some(value) => Some(value.to_str().ok_or(SettingsError::NotText { variable })?),
                None => None,
            };
            let default = match definition.default {
                Default::Value(value) => Some(value),
                Default::Required | Default::Derived(_) => None,
            };
            let found = [
                (flags.get(definition.name).map(String::as_str), Origin::Flag),
                (from_environment, Origin::Environment),
                (default, Origin::Default),
            ]
            .into_iter()
            .find_map(|(text, origin)| Some((text.filter(|text| !text.is_empty())?.to_owned(), origin)));
            if let Some(found) = found {
                given.insert(definition.name, found);
            }
        }
        Ok(Self(given))
    }

    /// Who gave the setting its value, where it has one.
    pub(super) fn origin(&self, name: &'static str) -> Option<Origin> {
        self.0.get(name).map(|&(_, origin)| origin)
    }

    /// The setting's value, where it has one.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        let Some((text, origin)) = self.0.get(name) else { return Ok(None) };
        parse(text).map(Some).map_err(|what| SettingsError::Invalid {
            name,
            value: text.escape_debug().to_string(),
            origin: *origin,
            what,
        })
    }

    /// The setting's value, which must be there.
    pub(super) fn required<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        self.optional(name, parse)?.ok_or_else(|| SettingsError::Missing {
            name,
            variable: DEFINITIONS
                .iter()
                .find(|definition| definition.name == name)
                .map(Definition::variable)
                .unwrap_or_default(),
        })
    }

    /// All settings as a table: name, value, who gave it, unit, what is allowed.
    pub fn table(&self) -> String {
        let mut rows = vec![["SETTING", "VALUE", "FROM", "UNIT", "ALLOWED"].map(str::to_owned)];
        rows.extend(DEFINITIONS.iter().map(|definition| self.row(definition)));
        let widths: Vec<usize> = (0..4)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut table = String::new();
        for row in &rows {
            for (cell, width) in row.iter().zip(widths.iter().copied().chain([0])) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                table.extend([cell.as_str(), &gap, "  "]);
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        table
    }

    fn row(&self, definition: &Definition) -> [String; 5] {
        let (value, from) = match (self.0.get(definition.name), definition.default) {
            (Some((text, Origin::Environment)), _) => {
                (text.escape_debug().to_string(), definition.variable())
            }
            (Some((text, Origin::Flag)), _) => {
                (text.escape_debug().to_string(), format!("--{}", definition.name))
            }
            (Some((text, origin @ Origin::Default)), _) => (text.clone(), origin.to_string()),
            (None, Default::Derived(words)) => (format!("({words})"), Origin::Default.to_string()),
            (None, _) => ("(must be given)".to_owned(), "-".to_owned()),
        };
        [definition.name.to_owned(), value, from, definition.unit.to_owned(), definition.allowed.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn flags_come_before_environment_before_defaults() {
        let flags = BTreeMap::from([("votes".to_owned(), "2".to_owned())]);
        let environment = environment(&[("MYNAH_VOTES", "4"), ("MYNAH_WINDOW", "9"), ("MYNAH_LOG", "")]);
        let given = Given::collect(&flags, &environment).unwrap();
        let value = |name| given.0.get(name).map(|(text, origin)| (text.as_str(), *origin));
        assert_eq!(value("votes"), Some(("2", Origin::Flag)));
        assert_eq!(value("window"), Some(("9", Origin::Environment)));
        assert_eq!(value("log"), Some(("info", Origin::Default)));
        assert_eq!(value("model"), None);
    }

    #[cfg(unix)]
    #[test]
    fn an_environment_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let environment = BTreeMap::from([("MYNAH_MODEL".into(), OsString::from_vec(vec![0xff]))]);
        let error = Given::collect(&BTreeMap::new(), &environment).unwrap_err();
        assert_eq!(error.to_string(), "the environment variable `MYNAH_MODEL` is not UTF-8");
    }

    #[test]
    fn names_are_flags_and_variables_without_clashes() {
        let mut names: Vec<_> = DEFINITIONS.iter().map(Definition::variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), DEFINITIONS.len());
        assert!(names.contains(&"MYNAH_COOLDOWN_FRAMES".to_owned()));
    }
}
