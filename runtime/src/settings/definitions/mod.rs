//! Every setting once: name, unit, range, default, words. Flags, environment, `--help` and the table of
//! `mynah-runtime settings` are made from this list.

mod deciding;
mod reporting;
mod seeing;
mod sending;
mod serving;
mod speaking;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name; the flag is `--name`.
    pub name: &'static str,
    /// What stands for its value in `--help`.
    pub value: &'static str,
    /// What a number counts; `-` for text.
    pub unit: &'static str,
    /// Which values are allowed, in words.
    pub allowed: &'static str,
    /// What holds where nobody says otherwise.
    pub default: Default,
    /// Under which heading `--help` lists it.
    pub heading: &'static str,
    /// What it does, as `--help` says it.
    pub about: &'static str,
    /// Whether it can change while the device runs: on SIGHUP, or by the hub.
    pub live: bool,
}

/// What a setting is when it is not given.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// It must be given.
    Required,
    /// This value.
    Value(&'static str),
    /// Something worked out from other things; the words say what.
    Derived(&'static str),
}

impl Definition {
    /// The environment variable, such as `MYNAH_COOLDOWN_FRAMES`.
    pub fn variable(&self) -> String {
        format!("MYNAH_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// The hub's property, such as `cooldownFrames`.
    pub fn property(&self) -> String {
        let mut words = self.name.split('-');
        let mut property = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (first, rest) = word.split_at(word.len().min(1));
            property.extend([&first.to_uppercase(), rest]);
        }
        property
    }
}

/// All settings, in the order people read them.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    [reporting::FILE, seeing::ALL, deciding::ALL, speaking::ALL, serving::ALL, sending::ALL, reporting::ALL]
        .into_iter()
        .flatten()
}
