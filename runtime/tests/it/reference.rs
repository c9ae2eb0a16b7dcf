//! The documentation says what the program says.

use crate::scene::{Run, Scene};

#[test]
fn the_table_of_settings_is_the_programs_own() {
    let scene = Scene::new(&[]);
    let run = Run::of(scene.bare().args(["settings", "--markdown"]).output().unwrap());
    run.expect(0, &[]);
    let documented = include_str!("../../../docs/device.md");
    let (_, rest) =
        documented.split_once("<!-- settings: `mynah-runtime settings --markdown` -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- end of settings -->").unwrap();
    assert!(table.trim_end() == run.stdout.trim_end(), "put this table into docs/device.md:\n{}", run.stdout);
}
