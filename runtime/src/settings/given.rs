//! Settings as text, each with who gave it.
//!
//! From the weakest to the strongest: the default, the file, the environment, a flag, the hub.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::definitions::{Default, Definition, definitions};
use super::{SettingsError, config_file};
use crate::secret::redacted;

/// The setting that names the file.
const CONFIG: &str = "config";

/// Who gave a setting its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The hub, by a desired property.
    Hub,
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The file that `config` names.
    File,
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "hub",
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// The text of every setting that has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given(BTreeMap<&'static str, (String, Origin)>);

impl Given {
    /// Flags before environment before file before defaults; an empty text counts as not given.
    ///
    /// # Errors
    /// One of our environment variables is not UTF-8, or the file cannot be read or is not of its form.
    pub fn collect(
        flags: &BTreeMap<String, String>,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Self, SettingsError> {
        let mut given = BTreeMap::new();
        let of_environment = |definition: &Definition| {
            let variable = definition.variable();
            match environment.get(OsString::from(&variable).as_os_str()) {
                Some(value) => Ok(Some(value.to_str().ok_or(SettingsError::NotText { variable })?)),
                None => Ok(None),
            }
        };
        let mut file = BTreeMap::new();
        if let Some(definition) = definitions().find(|definition| definition.name == CONFIG) {
            let text = |text: &&str| !text.is_empty();
            let by_flag = flags.get(CONFIG).map(String::as_str).filter(text);
            if let Some(path) = by_flag.or(of_environment(definition)?.filter(text)) {
                file = config_file::read(Path::new(path))?;
            }
        }
        for definition in definitions() {
            let from_environment = of_environment(definition)?;
            let default = match definition.default {
                Default::Value(value) => Some(value),
                Default::Required | Default::Derived(_) => None,
            };
            let found = [
                (flags.get(definition.name).map(String::as_str), Origin::Flag),
                (from_environment, Origin::Environment),
                (file.get(definition.name).map(String::as_str), Origin::File),
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

    /// With values the hub desires in the place of what others gave; they must be of settings that are live.
    #[must_use]
    pub fn with_hub(&self, desired: &BTreeMap<&'static str, String>) -> Self {
        let mut given = self.clone();
        given.0.extend(desired.iter().map(|(name, value)| (*name, (value.clone(), Origin::Hub))));
        given
    }

    /// The text of a setting, where it has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(text, _)| text.as_str())
    }

    /// The names of the settings whose text differs from that in `other`.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        definitions()
            .map(|definition| definition.name)
            .filter(|name| self.text(name) != other.text(name))
            .collect()
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
            value: redacted(text).escape_debug().to_string(),
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
            variable: definitions()
                .find(|definition| definition.name == name)
                .map(Definition::variable)
                .unwrap_or_default(),
        })
    }

    /// All settings as a table: name, value, who gave it, unit, what is allowed.
    pub fn table(&self) -> String {
        let mut rows = vec![["SETTING", "VALUE", "FROM", "UNIT", "ALLOWED"].map(str::to_owned)];
        rows.extend(definitions().map(|definition| self.row(definition)));
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

    /// All settings as a Markdown table: what they are, not what was given.
    pub fn reference() -> String {
        let mut table = String::from(
            "| setting | unit | allowed | default | live | what it does |\n|---|---|---|---|---|---|\n",
        );
        for definition in definitions() {
            let default = match definition.default {
                Default::Required => "must be given".to_owned(),
                Default::Value(text) => format!("`{text}`"),
                Default::Derived(text) => text.to_owned(),
            };
            let live = if definition.live { "yes" } else { "" };
            let cells = [definition.unit, definition.allowed, &default, live, definition.about]
                .map(|cell| cell.replace('|', "\\|").replace('<', "&lt;"));
            table.extend(["| `", definition.name, "` | ", &cells.join(" | "), " |\n"]);
        }
        table
    }

    fn row(&self, definition: &Definition) -> [String; 5] {
        let (value, from) = match (self.0.get(definition.name), definition.default) {
            (Some((text, Origin::Environment)), _) => {
                (redacted(text).escape_debug().to_string(), definition.variable())
            }
            (Some((text, Origin::Flag)), _) => {
                (redacted(text).escape_debug().to_string(), format!("--{}", definition.name))
            }
            (Some((text, origin @ (Origin::Default | Origin::File | Origin::Hub))), _) => {
                (redacted(text).escape_debug().to_string(), origin.to_string())
            }
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

    #[test]
    fn the_file_comes_after_the_environment_and_the_hub_before_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "votes = 2\nwindow = 7\n# margin = 1\n").unwrap();
        let path = file.path().to_str().unwrap();
        let environment = environment(&[("MYNAH_VOTES", "4"), ("MYNAH_CONFIG", path)]);
        let given = Given::collect(&BTreeMap::new(), &environment).unwrap();
        let value = |given: &Given, name| given.0.get(name).cloned().unwrap();
        assert_eq!(value(&given, "votes"), ("4".into(), Origin::Environment));
        assert_eq!(value(&given, "window"), ("7".into(), Origin::File));
        let changed = given.with_hub(&BTreeMap::from([("votes", "1".to_owned())]));
        assert_eq!(value(&changed, "votes"), ("1".into(), Origin::Hub));
        assert_eq!(changed.differing(&given), ["votes"]);
        let flags = BTreeMap::from([("config".to_owned(), "/no/such/file".to_owned())]);
        let error = Given::collect(&flags, &environment).unwrap_err().to_string();
        assert_eq!(error, "cannot read the settings file `/no/such/file`");
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
        let mut names: Vec<_> = definitions().map(Definition::variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), definitions().count());
        assert!(names.contains(&"MYNAH_COOLDOWN_FRAMES".to_owned()));
        let mut properties: Vec<_> = definitions().map(Definition::property).collect();
        assert!(properties.contains(&"cooldownFrames".to_owned()));
        properties.sort();
        properties.dedup();
        assert_eq!(properties.len(), definitions().count());
    }
}
