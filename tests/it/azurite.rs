//! Azurite for the tests of this binary, where it is installed.

use std::path::Path;

use mynah_testkit::azurite::Azurite;

/// Starts one; none, and a word on standard error, where it is not installed.
pub(crate) fn azurite() -> Option<Azurite> {
    let azurite = Azurite::start().unwrap();
    if azurite.is_none() {
        let program = Azurite::program();
        eprintln!(
            "SKIPPED: no `{}`; install the npm package azurite or set MYNAH_AZURITE",
            Path::new(&program).display()
        );
    }
    azurite
}
