//! The command line: the table of settings, their order of precedence, and what is said about wrong ones.

use mynah_testkit::RED;

use crate::scene::{Run, Scene};

#[test]
fn the_table_says_where_each_value_comes_from() {
    let scene = Scene::new(&[]);
    let run = Run::of(
        scene
            .bare()
            .args(["settings", "--votes", "2", "--speaker=wav:heard"])
            .env("MYNAH_VOTES", "4")
            .env("MYNAH_SOURCE", "dir:frames?fps=4")
            .env("MYNAH_LOG", "")
            .output()
            .unwrap(),
    );
    run.expect(0, &[]);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn help_is_worth_reading() {
    let scene = Scene::new(&[]);
    let run = Run::of(scene.bare().arg("--help").env("COLUMNS", "100").output().unwrap());
    run.expect(0, &[]);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn a_container_without_arguments_works_from_its_environment() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let run = Run::of(
        scene
            .bare()
            .env("MYNAH_MODEL", "model")
            .env("MYNAH_SOURCE", "dir:frames")
            .env("MYNAH_SPEECH", "speech")
            .env("MYNAH_SPEAKER", "wav:heard")
            .output()
            .unwrap(),
    );
    run.expect(0, &["says: red"]);
    assert_eq!(scene.heard(), ["001-red.wav"]);
}

#[test]
fn an_image_without_a_voice_may_name_the_folder_of_clips_all_the_same() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let run = Run::of(
        scene
            .bare()
            .args(["--model=model", "--source=dir:frames", "--speaker=wav:heard", "--speech-engine=off"])
            .env("MYNAH_SPEECH", "missing")
            .output()
            .unwrap(),
    );
    run.expect(0, &["no clips below `missing`", "says: red"]);
    assert!(scene.heard().is_empty());
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    let scene = Scene::new(&[]);
    let ask =
        |arguments: &[&str]| Run::of(scene.bare().args(arguments).env("MYNAH_WINDOW", "0").output().unwrap());
    ask(&[])
        .expect(2, &["the setting `window` is `0` (environment): a whole number from 1 to 1000", "hint: "]);
    ask(&["settings"]).expect(2, &["the setting `window` is `0`"]);
    ask(&["--window", "5"]).expect(2, &["the setting `model` is missing", "`MYNAH_MODEL`"]);
    ask(&["--colour", "red"]).expect(2, &["--colour"]);
}
