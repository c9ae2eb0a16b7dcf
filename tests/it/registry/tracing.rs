//! From an image back to its photos.

use std::path::Path;

use mynah_testkit::registry::{Guard, Registry};

use super::peers::signing_key;
use super::{ENV, Workplace, json};
use crate::given::{Ran, binary, small_dataset};

fn trace(arguments: &[&str], home: &Path) -> Ran {
    binary("mynah").env("HOME", home).envs(ENV).arg("trace").args(arguments).output().unwrap().into()
}

#[test]
fn an_image_leads_back_to_every_photo() {
    let registry = Registry::start(Guard::basic("ada", "pass-word-1815")).unwrap();
    let work = Workplace::new();
    let dataset = small_dataset(work.root.path());
    let listed = json(&dataset.join("dataset.json"));
    let digest = listed["digest"].as_str().unwrap().parse().unwrap();
    mynah_testkit::edit_card(&work.path("model"), |card| card.dataset.digest = digest).unwrap();
    work.build(&["--push", &registry.host(), "--tag", "v1"], &ENV).well();
    let image = format!("{}/mynah-runtime", registry.host());
    let pinned = format!("{image}@{}", work.module()["index"]["digest"].as_str().unwrap());
    for name in [pinned, format!("{image}:v1")] {
        let table = trace(&[&name, "--dataset", dataset.to_str().unwrap()], work.root.path()).well().stdout;
        assert!(table.contains(listed["digest"].as_str().unwrap()), "{table}");
        let photos = listed["photos"].as_array().unwrap();
        assert_eq!(photos.len(), 10);
        for photo in photos {
            let sha256 = photo["sha256"].as_str().unwrap();
            let line = table.lines().find(|line| line.contains(sha256)).unwrap();
            assert!(line.contains(photo["source"].as_str().unwrap()), "{line}");
        }
        assert!(table.contains("signatures  none"), "{table}");
    }
    // The image of one platform, which is what a container's runtime may name, leads there too.
    let manifest = work.module()["platforms"][0]["manifest"]["digest"].as_str().unwrap().to_owned();
    let table = trace(&[&format!("{image}@{manifest}")], work.root.path()).well().stdout;
    assert!(table.contains(listed["digest"].as_str().unwrap()), "{table}");
}

#[test]
fn another_dataset_another_key_and_no_image_are_told_apart() {
    let registry = Registry::start(Guard::basic("ada", "pass-word-1815")).unwrap();
    let work = Workplace::new();
    let dataset = small_dataset(work.root.path());
    work.build(&["--push", &registry.host(), "--tag", "v1"], &ENV).well();
    let image = format!("{}/mynah-runtime:v1", registry.host());
    let home = work.root.path();
    trace(&[&image, "--dataset", dataset.to_str().unwrap()], home).ill(2, &["the image learnt from"]);
    signing_key(&work.path("key.pem"));
    let public = work.path("key.pub");
    trace(&[&image, "--key", public.to_str().unwrap()], home).ill(1, &["is not signed with the key"]);
    trace(&[&format!("{}/mynah-runtime:v2", registry.host())], home).ill(2, &["there is no image"]);
    trace(&["not an image"], home).ill(2, &["not an image"]);
}
