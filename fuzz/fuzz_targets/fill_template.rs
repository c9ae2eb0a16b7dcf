//! Any text as a deployment template: it is filled in or refused in words, and what is filled in is a manifest.
//!
//! Seeds: `cargo +nightly fuzz run fill_template src/manifest`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mynah::manifest::diff::Difference;
use mynah::manifest::{Sources, Variables, generate};
use mynah_contracts::{ModuleSet, SchemaVersion, Tool};

fuzz_target!(|template: &[u8]| {
    let modules = ModuleSet { schema_version: SchemaVersion::CURRENT, tool: Tool::current(), modules: Vec::new() };
    let variables: Variables = [("A", "\"\\\n"), ("N", "7")].into_iter().collect();
    match generate(template, &Sources { variables, ..Sources::new(&modules) }) {
        Ok(generated) => {
            let document = Difference::read(&generated.json).expect("a manifest of our own");
            assert!(Difference::between(&document, &document).changes.is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
