//! The agent's contract: inputs as variables, logging commands out, foreign text harmless, secrets unseen.

use std::fs;

use crate::given::{binary, files, photos, run, run_as_agent, small_source};

#[test]
fn flags_and_variables_write_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let source = small_source(root.path());
    let (by_flags, by_variables) = (root.path().join("a"), root.path().join("b"));
    run("import-images", ["--source".as_ref(), source.as_os_str(), "--out".as_ref(), by_flags.as_os_str()])
        .well();
    let inputs =
        [("source", source.to_str().unwrap()), ("out", by_variables.to_str().unwrap()), ("seed", "")];
    let ran = run_as_agent("import-images", &inputs).well();
    assert_eq!(files(&by_flags), files(&by_variables));
    assert!(files(&by_flags).len() > 10);
    assert!(
        ran.stdout.contains("##vso[task.setvariable variable=photos;isOutput=true]10\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("##vso[task.setprogress value=100]"), "{}", ran.stdout);
}

#[test]
fn a_file_name_cannot_speak_to_the_agent() {
    let root = tempfile::tempdir().unwrap();
    let source = small_source(root.path());
    fs::write(source.join("fish/##vso[task.complete result=Succeeded;]x.jpg"), "\u{ff}\u{d8}\u{ff}").unwrap();
    let out = root.path().join("out");
    let ran = run_as_agent(
        "import-images",
        &[("source", source.to_str().unwrap()), ("out", out.to_str().unwrap())],
    )
    .well();
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        assert!(!line.contains("##vso[task.complete"), "{line}");
        assert!(line.matches("##vso[").count() <= 1, "{line}");
    }
    assert!(fs::read_to_string(out.join("dataset.json")).unwrap().contains("##vso[task.complete"));
}

#[test]
fn an_error_is_an_issue_with_its_hint_and_the_step_fails() {
    let root = tempfile::tempdir().unwrap();
    photos("fish", 5, &root.path().join("source/fish"));
    let source = root.path().join("source");
    let ran = run_as_agent("import-images", &[("source", source.to_str().unwrap()), ("out", "unused")]);
    assert_eq!(ran.code, Some(2));
    let issue = ran.stdout.lines().find(|line| line.starts_with("##vso[task.logissue type=error]")).unwrap();
    assert!(issue.contains("Hint: "), "{issue}");
    assert!(ran.stdout.contains("##vso[task.complete result=Failed]"), "{}", ran.stdout);
}

#[test]
fn a_secret_in_the_environment_is_masked_first_and_never_echoed() {
    let ran: crate::given::Ran = binary("import-images")
        .env("TF_BUILD", "True")
        .env("SECRET_STORAGEKEY", "hunter22hunter22")
        .env("INPUT_SOURCE", "/nowhere/hunter22hunter22/photos")
        .env("INPUT_OUT", "unused")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stdout.lines().next(), Some("##vso[task.setsecret]hunter22hunter22"));
    assert_eq!(ran.stdout.matches("hunter22").count(), 2, "{}", ran.stdout);
    assert!(!ran.stderr.contains("hunter22"), "{}", ran.stderr);
    assert!(ran.stdout.contains("/nowhere/***/photos"), "{}", ran.stdout);
}

#[test]
fn an_unexpanded_variable_and_a_bad_number_are_named() {
    let inputs = |name: &'static str, value: &'static str| {
        run_as_agent("train-model", &[("dataset", "d"), ("out", "o"), (name, value)])
    };
    let ran = inputs("dataset", "$(Pipeline.Workspace)/dataset");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stdout.contains(
        "`--dataset` (input `dataset`) still holds the unexpanded variable `$(Pipeline.Workspace)`"
    ));
    let ran = inputs("minAccuracy", "90%");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stdout.contains("`--min-accuracy` (input `minAccuracy`) is `90%25`")
            || ran.stdout.contains("is `90%AZP25`"),
        "{}",
        ran.stdout
    );
}

#[test]
fn help_says_what_is_read_and_written_and_dry_run_does_nothing() {
    for name in [
        "import-images",
        "train-model",
        "export-model",
        "build-modules",
        "generate-manifest",
        "deploy-modules",
    ] {
        let help = run(name, ["--help"]).well().stdout;
        for word in ["Example", "--out", "Exit codes: 0 done, 1 failed, 2 bad input"] {
            assert!(help.contains(word), "{name} --help lacks `{word}`:\n{help}");
        }
    }
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let ran =
        run("import-images", ["--source", "photos", "--out", out.to_str().unwrap(), "--dry-run"]).well();
    assert!(ran.stdout.contains("photos"), "{}", ran.stdout);
    assert!(!out.exists());
}

#[test]
fn a_misspelt_flag_is_bad_input() {
    run("import-images", ["--sorce", "photos"]).ill(2, &["--sorce", "--source"]);
}
