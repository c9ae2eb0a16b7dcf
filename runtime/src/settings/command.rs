//! The command line: flags made from the definitions, help, and the environment beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::definitions::{Default, Definition, definitions};

/// What the user asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What to do.
    pub action: Action,
    /// The flags, by setting name.
    pub flags: BTreeMap<String, String>,
}

/// What the program is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Be the device.
    Run,
    /// Print the settings as they are given.
    ShowSettings,
    /// Print what settings there are, in Markdown.
    Reference,
    /// Print the cameras of this machine.
    ListDevices,
}

/// The flag that asks for the cameras.
const LIST_DEVICES: &str = "list-devices";

/// The flag that asks for the reference.
const MARKDOWN: &str = "markdown";

const ABOUT: &str = "Looks at frames, decides what they show, and says it";

const LONG_ABOUT: &str = "\
Looks at frames, decides what they show, and says it.

Each frame is classified by the model. A label that enough of the last frames show is said once, and again \
only after it has left. What no label reaches the threshold for is unknown and stays unsaid. Every frame \
leaves one line of JSON.";

const AFTER_HELP: &str = "\
Every setting can also come from the environment, as MYNAH_MODEL, MYNAH_COOLDOWN_FRAMES and so on, or from the \
file that --config names. A flag comes before the environment, the environment before the file, the file before \
the default; an empty value counts as not given.

Examples:
  mynah-runtime --model model --source dir:frames
  mynah-runtime --model model --source dir:frames --speech speech --speaker wav:heard
  mynah-runtime --model model --source 'dir:video?hold=1&fps=4' --speaker none
  mynah-runtime --model model --source dir:frames --speech speech --speaker 'command:aplay -q'

Exit codes:
  0    the source has ended, or SIGTERM asked to stop and the frame at hand was finished
  1    something failed while running
  2    a setting, the model, the clips or the frames are not usable; the message says which
  130  SIGINT (Ctrl-C) asked to stop";

/// The command line's grammar.
fn command() -> Command {
    Command::new("mynah-runtime")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .args(definitions().map(flag))
        .arg(
            Arg::new(LIST_DEVICES)
                .long(LIST_DEVICES)
                .action(ArgAction::SetTrue)
                .help("Print the cameras of this machine and how to name them"),
        )
        .subcommand(
            Command::new("settings")
                .about("Print every setting: its value, where it came from, its unit and what is allowed")
                .arg(
                    Arg::new(MARKDOWN)
                        .long(MARKDOWN)
                        .action(ArgAction::SetTrue)
                        .help("Print the reference of all settings as a Markdown table instead"),
                ),
        )
}

fn flag(definition: &Definition) -> Arg {
    let default = match definition.default {
        Default::Required => String::new(),
        Default::Value(text) | Default::Derived(text) => format!(" [default: {text}]"),
    };
    Arg::new(definition.name)
        .long(definition.name)
        .value_name(definition.value)
        .global(true)
        .help_heading(definition.heading)
        .help(format!("{} [allowed: {}]{default}", definition.about, definition.allowed))
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What clap makes of wrong arguments, and also its answer to `--help` and `--version`; to be printed.
pub fn request(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let (action, leaf): (Action, &ArgMatches) = match matches.subcommand() {
        Some((_, inner)) if inner.get_flag(MARKDOWN) => (Action::Reference, inner),
        Some((_, inner)) => (Action::ShowSettings, inner),
        None if matches.get_flag(LIST_DEVICES) => (Action::ListDevices, &matches),
        None => (Action::Run, &matches),
    };
    let flags = definitions()
        .filter_map(|definition| {
            Some((definition.name.to_owned(), leaf.get_one::<String>(definition.name)?.clone()))
        })
        .collect();
    Ok(Request { action, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(arguments: &[&str]) -> Result<Request, clap::Error> {
        request(std::iter::once("mynah-runtime").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_taken_before_and_after_the_subcommand() {
        for arguments in [["--votes", "2", "settings"], ["settings", "--votes", "2"]] {
            let request = ask(&arguments).unwrap();
            assert_eq!(request.action, Action::ShowSettings);
            assert_eq!(request.flags, BTreeMap::from([("votes".into(), "2".into())]));
        }
        assert_eq!(ask(&["--sightings", "-"]).unwrap().action, Action::Run);
        assert_eq!(ask(&["--list-devices"]).unwrap().action, Action::ListDevices);
        assert_eq!(ask(&["settings", "--markdown"]).unwrap().action, Action::Reference);
    }

    #[test]
    fn help_names_every_setting() {
        let help = ask(&["--help"]).unwrap_err().to_string();
        for definition in definitions() {
            assert!(help.contains(&format!("--{} <{}>", definition.name, definition.value)), "{help}");
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert_eq!(ask(&["--colour", "red"]).unwrap_err().exit_code(), 2);
    }
}
