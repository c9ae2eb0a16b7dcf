//! Options: declared once, read from flags or from the agent's `INPUT_*` variables.
//!
//! Agent rules (agent source, `VarUtil.ConvertToEnvVariableFormat`): the variable is `INPUT_` and the
//! input's name in upper case, dots and spaces made underscores; an empty value means absent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind};

use super::Env;

/// One option of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionSpec {
    /// Its name as a task input, such as `minAccuracy`: a letter, then letters and digits.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// The value used where none is given, as one would type it.
    pub default: Option<&'static str>,
    /// What it does, for `--help` and the task's form. One or two sentences.
    pub help: &'static str,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    /// A file or folder.
    Path,
    /// Any text.
    Text,
    /// A whole number in a range, both ends included.
    Integer {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A number in a range, both ends included.
    Number {
        /// The smallest allowed.
        min: f64,
        /// The largest allowed.
        max: f64,
    },
    /// True or false; as a flag it takes no value.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A credential: an input of the task and no flag, since command lines are seen by others. Whoever needs it
    /// takes it from the environment.
    Secret,
}

impl OptionSpec {
    /// An option that may be left out.
    pub const fn optional(name: &'static str, kind: OptionKind, help: &'static str) -> Self {
        Self { name, kind, required: false, default: None, help }
    }

    /// An option that must be given.
    pub const fn required(name: &'static str, kind: OptionKind, help: &'static str) -> Self {
        Self { name, kind, required: true, default: None, help }
    }

    /// An option with a value for when it is left out.
    pub const fn with_default(
        name: &'static str,
        kind: OptionKind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind, required: false, default: Some(default), help }
    }

    /// The flag without its dashes: `minAccuracy` → `min-accuracy`.
    pub fn flag(&self) -> String {
        self.name.chars().fold(String::new(), |mut flag, c| {
            if c.is_ascii_uppercase() {
                flag.push('-');
            }
            flag.push(c.to_ascii_lowercase());
            flag
        })
    }

    /// The agent's variable: `minAccuracy` → `INPUT_MINACCURACY`.
    pub fn variable(&self) -> String {
        format!("INPUT_{}", self.name.to_ascii_uppercase())
    }

    fn argument(&self) -> clap::Arg {
        let mut help = self.help.to_owned();
        if let Some(default) = self.default {
            let _ = write!(help, " [default: {default}]");
        }
        let argument = clap::Arg::new(self.name).long(self.flag()).help(help);
        match self.kind {
            OptionKind::Switch => argument.action(clap::ArgAction::SetTrue),
            OptionKind::Path => argument.value_name("PATH"),
            OptionKind::Text | OptionKind::Secret => argument.value_name("TEXT"),
            OptionKind::Integer { .. } => argument.value_name("N"),
            OptionKind::Number { .. } => argument.value_name("NUMBER").allow_negative_numbers(true),
            OptionKind::Choice(words) => argument.value_name(words.join("|")),
        }
    }
}

/// Why an option's value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A required option was left out.
    #[error("{option} is required")]
    Missing {
        /// The flag and the input's name.
        option: String,
    },
    /// A value outside what the option takes.
    #[error("{option} is `{value}`, {allowed} is expected")]
    Value {
        /// The flag and the input's name.
        option: String,
        /// What was given.
        value: String,
        /// What is taken.
        allowed: String,
    },
    /// The agent did not expand a variable.
    #[error("{option} still holds the unexpanded variable `{value}`")]
    Unexpanded {
        /// The flag and the input's name.
        option: String,
        /// The macro.
        value: String,
    },
}

impl Diagnosis for InputError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => "give it, or see `--help` for what it means".into(),
            Self::Value { .. } => "see `--help` for what it means".into(),
            Self::Unexpanded { .. } => {
                "define the variable in the pipeline or in a variable group it uses".into()
            }
        })
    }
}

/// The options of one start, as text.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    specs: &'static [OptionSpec],
    values: BTreeMap<&'static str, String>,
}

impl Inputs {
    /// Adds the options of `specs` to a command line.
    pub fn arguments(command: clap::Command, specs: &[OptionSpec]) -> clap::Command {
        command.args(specs.iter().filter(|spec| spec.kind != OptionKind::Secret).map(OptionSpec::argument))
    }

    /// Collects the options: a flag wins over the agent's variable, that over the default.
    pub fn collect(specs: &'static [OptionSpec], matches: &clap::ArgMatches, env: &Env) -> Self {
        let mut values = BTreeMap::new();
        for spec in specs {
            let flag = match spec.kind {
                OptionKind::Switch => matches.get_flag(spec.name).then(|| "true".to_owned()),
                // Only a variable that was left unexpanded is taken in, to be told of.
                OptionKind::Secret => match env.get(&spec.variable()) {
                    Some(value) if value.trim_start().starts_with("$(") => None,
                    _ => continue,
                },
                _ => matches.get_one::<String>(spec.name).cloned(),
            };
            let given = flag.or_else(|| env.get(&spec.variable()).map(|value| value.trim().to_owned()));
            if let Some(value) =
                given.filter(|value| !value.is_empty()).or_else(|| spec.default.map(str::to_owned))
            {
                values.insert(spec.name, value);
            }
        }
        Self { specs, values }
    }

    /// Options given by another program, such as `mynah run`; defaults fill the rest.
    pub fn from_pairs<'a>(
        specs: &'static [OptionSpec],
        pairs: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let given: BTreeMap<&str, String> = pairs.into_iter().collect();
        let values = specs
            .iter()
            .filter_map(|spec| {
                let value = given.get(spec.name).cloned().or_else(|| spec.default.map(str::to_owned));
                value.filter(|value| !value.is_empty()).map(|value| (spec.name, value))
            })
            .collect();
        Self { specs, values }
    }

    /// The option's text, where it was given or has a default.
    pub fn text(&self, name: &str) -> Result<Option<&str>, InputError> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        // The agent leaves `$(name)` as it is when no such variable exists.
        if let Some(start) = value.find("$(")
            && let Some(end) = value[start..].find(')')
        {
            let value = value[start..=start + end].to_owned();
            return Err(InputError::Unexpanded { option: self.shown(name), value });
        }
        Ok(Some(value))
    }

    /// The text of an option that must be there.
    pub fn required(&self, name: &str) -> Result<&str, InputError> {
        self.text(name)?.ok_or_else(|| InputError::Missing { option: self.shown(name) })
    }

    /// The option as a path.
    pub fn path(&self, name: &str) -> Result<Option<PathBuf>, InputError> {
        Ok(self.text(name)?.map(PathBuf::from))
    }

    /// The path of an option that must be there.
    pub fn required_path(&self, name: &str) -> Result<PathBuf, InputError> {
        self.required(name).map(PathBuf::from)
    }

    /// Whether a switch is on.
    pub fn switch(&self, name: &str) -> Result<bool, InputError> {
        match self.text(name)? {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(self.refused(name, text, "`true` or `false`")),
        }
    }

    /// The option as a whole number in its declared range.
    pub fn integer(&self, name: &str) -> Result<Option<u64>, InputError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let (min, max) = match self.spec(name).map(|spec| spec.kind) {
            Some(OptionKind::Integer { min, max }) => (min, max),
            _ => (0, u64::MAX),
        };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ if max == u64::MAX => Err(self.refused(name, text, &format!("a whole number from {min}"))),
            _ => Err(self.refused(name, text, &format!("a whole number from {min} to {max}"))),
        }
    }

    /// The option as a number in its declared range.
    pub fn number(&self, name: &str) -> Result<Option<f64>, InputError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let (min, max) = match self.spec(name).map(|spec| spec.kind) {
            Some(OptionKind::Number { min, max }) => (min, max),
            _ => (f64::MIN, f64::MAX),
        };
        match text.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.refused(name, text, &format!("a number from {min} to {max}"))),
        }
    }

    /// The option as one of its declared words.
    pub fn choice(&self, name: &str) -> Result<Option<&'static str>, InputError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let words = match self.spec(name).map(|spec| spec.kind) {
            Some(OptionKind::Choice(words)) => words,
            _ => &[],
        };
        words.iter().find(|word| **word == text).copied().map(Some).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            self.refused(name, text, &format!("one of {}", words.join(", ")))
        })
    }

    /// An error about a value whose form was right but whose meaning is not.
    pub fn refused(&self, name: &str, value: &str, allowed: &str) -> InputError {
        InputError::Value {
            option: self.shown(name),
            value: value.escape_debug().to_string(),
            allowed: allowed.into(),
        }
    }

    fn spec(&self, name: &str) -> Option<&'static OptionSpec> {
        self.specs.iter().find(|spec| spec.name == name)
    }

    fn shown(&self, name: &str) -> String {
        match self.spec(name) {
            Some(OptionSpec { kind: OptionKind::Secret, .. }) => format!("the input `{name}`"),
            Some(spec) => format!("`--{}` (input `{name}`)", spec.flag()),
            None => format!("`{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec::required("source", OptionKind::Path, "Photos."),
        OptionSpec::optional("minAccuracy", OptionKind::Number { min: 0.0, max: 1.0 }, "Gate."),
        OptionSpec::with_default("seed", OptionKind::Integer { min: 0, max: u64::MAX }, "1", "Seed."),
        OptionSpec::optional("strict", OptionKind::Switch, "Strict."),
        OptionSpec::with_default(
            "trainer",
            OptionKind::Choice(&["embedded", "custom-vision"]),
            "embedded",
            "Who.",
        ),
    ];

    fn inputs(arguments: &[&str], env: &[(&str, &str)]) -> Inputs {
        let command = Inputs::arguments(clap::Command::new("t").no_binary_name(true), SPECS);
        Inputs::collect(SPECS, &command.get_matches_from(arguments), &env.iter().copied().collect())
    }

    #[test]
    fn a_secret_is_no_flag_and_only_its_absence_is_told() {
        const KEY: &[OptionSpec] = &[OptionSpec::optional("key", OptionKind::Secret, "A key.")];
        let command = || Inputs::arguments(clap::Command::new("t").no_binary_name(true), KEY);
        assert!(command().try_get_matches_from(["--key", "x"]).is_err());
        let collected = |value| {
            let matches = command().get_matches_from(Vec::<&str>::new());
            Inputs::collect(KEY, &matches, &Env::from_iter([("INPUT_KEY", value)]))
        };
        assert!(!format!("{:?}", collected("hunter22")).contains("hunter22"));
        assert_eq!(collected("hunter22").text("key").unwrap(), None);
        assert_eq!(
            collected("$(visionKey)").text("key").unwrap_err().to_string(),
            "the input `key` still holds the unexpanded variable `$(visionKey)`"
        );
    }

    #[test]
    fn a_flag_wins_over_the_agent_and_that_over_the_default() {
        let both = inputs(&["--seed", "3"], &[("INPUT_SEED", "2")]);
        assert_eq!(both.integer("seed").unwrap(), Some(3));
        assert_eq!(inputs(&[], &[("INPUT_SEED", "2")]).integer("seed").unwrap(), Some(2));
        assert_eq!(inputs(&[], &[("INPUT_SEED", "")]).integer("seed").unwrap(), Some(1));
    }

    #[test]
    fn names_map_as_the_agent_maps_them() {
        assert_eq!(SPECS[1].variable(), "INPUT_MINACCURACY");
        assert_eq!(SPECS[1].flag(), "min-accuracy");
        assert_eq!(inputs(&[], &[("INPUT_MINACCURACY", "0.9")]).number("minAccuracy").unwrap(), Some(0.9));
        assert!(inputs(&[], &[("INPUT_STRICT", "True")]).switch("strict").unwrap());
    }

    #[test]
    fn refusals_name_the_option_both_ways_and_what_is_allowed() {
        let says = |error: InputError| error.to_string();
        assert_eq!(
            says(inputs(&[], &[]).required("source").unwrap_err()),
            "`--source` (input `source`) is required"
        );
        assert_eq!(
            says(inputs(&["--min-accuracy", "1.5"], &[]).number("minAccuracy").unwrap_err()),
            "`--min-accuracy` (input `minAccuracy`) is `1.5`, a number from 0 to 1 is expected"
        );
        assert_eq!(
            says(inputs(&["--min-accuracy", "NaN"], &[]).number("minAccuracy").unwrap_err()),
            "`--min-accuracy` (input `minAccuracy`) is `NaN`, a number from 0 to 1 is expected"
        );
        assert_eq!(
            says(inputs(&["--trainer", "cloud"], &[]).choice("trainer").unwrap_err()),
            "`--trainer` (input `trainer`) is `cloud`, one of `embedded`, `custom-vision` is expected"
        );
        assert_eq!(
            says(inputs(&[], &[("INPUT_SOURCE", "a/$(photos)/b")]).required("source").unwrap_err()),
            "`--source` (input `source`) still holds the unexpanded variable `$(photos)`"
        );
    }
}
