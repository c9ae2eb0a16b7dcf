//! What a placeholder stands for: `${MODULES.<name>}`, `${MODULES.<name>.<platform>}`, `${MODULEDIR<folder>}` an image,
//! `$NAME` and `${NAME}` a variable.
//!
//! `$edgeAgent`, `$edgeHub`, `$upstream` and the like are names of IoT Edge and stay, whatever variables there are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mynah_contracts::{Module, ModuleSet, Platform};

use super::Variables;
use crate::nearest::nearest;

/// Words after `$` that mean something to IoT Edge, its schemas or the queries of routes. A variable of such a name is
/// written `${…}`.
const RESERVED: [&str; 23] = [
    "edgeAgent",
    "edgeHub",
    "upstream",
    "schema",
    "extends",
    "metadata",
    "version",
    "iothub",
    "twin",
    "body",
    "connectionDeviceId",
    "connectionModuleId",
    "connectionDeviceGenerationId",
    "connectionAuthMethod",
    "messageId",
    "correlationId",
    "userId",
    "to",
    "contentType",
    "contentEncoding",
    "enqueuedTime",
    "creationTimeUtc",
    "expiryTimeUtc",
];

/// All that a placeholder may name.
pub(super) struct Names<'a> {
    modules: BTreeMap<&'a str, &'a Module>,
    platform: Option<Platform>,
    variables: &'a Variables,
}

/// What a placeholder stands for.
pub(super) struct Found {
    pub(super) value: String,
    /// Whether it came out of a variable.
    pub(super) variable: bool,
}

/// Why a placeholder stands for nothing.
pub(super) struct Unresolved {
    pub(super) why: String,
    pub(super) nearest: Vec<String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(modules: &'a ModuleSet, platform: Option<Platform>, variables: &'a Variables) -> Self {
        let modules = modules.modules.iter().map(|module| (module.name.as_str(), module)).collect();
        Self { modules, platform, variables }
    }

    /// What `inner`, written without `$` and braces, stands for; nothing for a name of IoT Edge's.
    pub(super) fn resolve(&self, inner: &str, braced: bool) -> Result<Option<Found>, Unresolved> {
        if braced && (inner.starts_with("MODULES.") || inner.starts_with("MODULEDIR<")) {
            return self.image(inner).map(|value| Some(Found { value, variable: false }));
        }
        if !braced && RESERVED.contains(&inner) {
            return Ok(None);
        }
        match self.variables.get(inner) {
            Some(value) => Ok(Some(Found { value: value.to_owned(), variable: true })),
            None => Err(self.unresolved(inner, braced)),
        }
    }

    fn image(&self, inner: &str) -> Result<String, Unresolved> {
        let unknown = || self.unresolved(inner, true);
        let (name, variant) = if let Some(text) = inner.strip_prefix("MODULES.") {
            // A module's name may hold dots, so the longest name that exists is the one meant.
            self.split(text).ok_or_else(unknown)?
        } else {
            let text = inner.strip_prefix("MODULEDIR<").ok_or_else(unknown)?;
            let (folder, variant) = text.split_once('>').ok_or_else(unknown)?;
            let name = folder.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(folder);
            (name, variant.strip_prefix('.').unwrap_or(variant))
        };
        // Debug images are a module of their own, called after the other.
        let (name, platform) = match variant.strip_suffix("debug") {
            Some(platform) if platform.is_empty() || platform.ends_with('.') => {
                (Cow::Owned(format!("{name}.debug")), platform.trim_end_matches('.'))
            }
            _ => (Cow::Borrowed(name), variant),
        };
        let module = self.modules.get(&*name).ok_or_else(unknown)?;
        let platform = match platform {
            "" => self.platform,
            text => Some(text.parse().map_err(|_| unknown())?),
        };
        match platform {
            None => Ok(module.pinned()),
            Some(platform) => pinned_for(module, platform).ok_or_else(|| Unresolved {
                why: format!(
                    "has no image for {platform}, only {}",
                    module.platforms.iter().map(|p| p.platform.as_str()).collect::<Vec<_>>().join(", ")
                ),
                nearest: Vec::new(),
            }),
        }
    }

    /// `name.variant` cut where the name is that of a module.
    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        if self.modules.contains_key(text) {
            return Some((text, ""));
        }
        text.rmatch_indices('.')
            .map(|(dot, _)| (&text[..dot], &text[dot + 1..]))
            .find(|(name, _)| self.modules.contains_key(name))
    }

    fn unresolved(&self, inner: &str, braced: bool) -> Unresolved {
        let names: Vec<String> = if inner.starts_with("MODULES.") || inner.starts_with("MODULEDIR<") {
            self.modules.values().flat_map(|module| all_names(module)).collect()
        } else {
            let shown = |name| if braced { format!("${{{name}}}") } else { format!("${name}") };
            self.variables.names().map(shown).collect()
        };
        let text = if braced { format!("${{{inner}}}") } else { format!("${inner}") };
        Unresolved { why: "stands for nothing".into(), nearest: nearest(&text, names) }
    }
}

fn pinned_for(module: &Module, platform: Platform) -> Option<String> {
    let image = module.platforms.iter().find(|image| image.platform == platform)?;
    Some(format!("{}@{}", module.repository, image.manifest.digest))
}

/// All placeholders for a module's images.
fn all_names(module: &Module) -> impl Iterator<Item = String> {
    let of_platform =
        module.platforms.iter().map(|image| format!("${{MODULES.{}.{}}}", module.name, image.platform));
    std::iter::once(format!("${{MODULES.{}}}", module.name)).chain(of_platform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::modules;

    #[test]
    fn platforms_debug_images_and_folders_are_found() {
        let mut set = modules();
        let mut debug = set.modules[0].clone();
        debug.name = "mynah-runtime.debug".into();
        debug.repository = "localhost/mynah/runtime-debug".into();
        set.modules.push(debug);
        let variables = Variables::default();
        let names = Names::new(&set, None, &variables);
        let image = |inner| names.resolve(inner, true).ok().flatten().map(|found| found.value);
        let (plain, debug) = (set.modules[0].pinned(), set.modules[1].pinned());
        for (inner, expected) in [
            ("MODULES.mynah-runtime", &plain),
            ("MODULES.mynah-runtime.debug", &debug),
            ("MODULEDIR<../shared/mynah-runtime>", &plain),
            ("MODULEDIR<../shared/mynah-runtime/>.debug", &debug),
        ] {
            assert_eq!(image(inner).as_ref(), Some(expected), "{inner}");
        }
        let arm = image("MODULES.mynah-runtime.arm32v7").unwrap();
        assert!(arm.starts_with("localhost/mynah/runtime@") && arm != plain);
        assert_eq!(image("MODULEDIR<a\\mynah-runtime>.linux/arm/v7"), Some(arm));
        assert!(
            image("MODULES.mynah-runtime.amd64.debug").unwrap().starts_with("localhost/mynah/runtime-debug@")
        );
        for unknown in
            ["MODULES.", "MODULES.x", "MODULES.mynah-runtime.s390x", "MODULEDIR<a", "MODULEDIR<>", "x"]
        {
            assert_eq!(image(unknown), None, "{unknown}");
        }
    }
}
