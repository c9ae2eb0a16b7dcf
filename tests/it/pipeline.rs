//! `mynah pipeline check`, on our own pipelines and on broken ones.

use crate::given::{root, run};

#[test]
fn our_own_pipelines_have_nothing_to_mend() {
    let files = ["azure-pipelines.yml", "release.yml"].map(|file| root().join("pipelines").join(file));
    let words =
        ["pipeline".into(), "check".into()].into_iter().chain(files.map(std::path::PathBuf::into_os_string));
    let ran = run("mynah", words).well();
    assert!(ran.stdout.contains("2 pipelines looked at, nothing to mend"), "{}", ran.stdout);
}

#[test]
fn findings_are_told_with_line_and_hint_and_end_with_1() {
    let file = root().join("tests/judges/broken/unknown-input.yml");
    let ran = run("mynah", ["pipeline".as_ref(), "check".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let expected = "unknown-input.yml:6:7: error: ImportImages has no input `sauce`; was `source` meant?";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    run("mynah", ["pipeline", "check", "no-such.yml"])
        .ill(2, &["cannot read the pipeline `no-such.yml`", "name the YAML file"]);
}
