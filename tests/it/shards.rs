//! Embeddings made by several machines, and one that trains with them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::given::{Ran, binary, files, small_dataset};

fn train(dataset: &Path, cache: &Path, out: &Path, more: &[(&str, &str)]) -> Ran {
    let mut command = binary("train-model");
    command.arg("--dataset").arg(dataset).arg("--cache").arg(cache).arg("--out").arg(out);
    for (flag, value) in more {
        command.args([format!("--{flag}"), (*value).to_owned()]);
    }
    command.output().unwrap().into()
}

/// Two parts, each made with a cache of its own.
fn parts(root: &Path, dataset: &Path) -> PathBuf {
    let parts = root.join("parts");
    for part in ["1/2", "2/2"] {
        let name = part.replace('/', "-");
        let cache = root.join(format!("cache-{name}"));
        let ran = train(dataset, &cache, &parts.join(&name), &[("shard", part)]).well();
        assert!(ran.stdout.contains(&format!("embedded 5 of 10 photos, part {part}")), "{}", ran.stdout);
    }
    parts
}

#[test]
fn two_parts_make_the_training_of_one_machine_to_the_byte() {
    let root = tempfile::tempdir().unwrap();
    let dataset = small_dataset(root.path());
    let (alone, together) = (root.path().join("alone/training"), root.path().join("together/training"));
    train(&dataset, &root.path().join("cache-alone"), &alone, &[]).well();
    let parts = parts(root.path(), &dataset);
    let cache = root.path().join("cache-together");
    let given = [("embeddings", parts.to_str().unwrap())];
    train(&dataset, &cache, &together, &given).well();
    let kept = files(&cache);
    assert!(files(&alone) == files(&together), "two parts make another training");
    // All were in the parts: nothing was embedded again, and taking them in twice adds nothing.
    assert!(kept.iter().all(|(path, _)| path.file_stem().unwrap().len() == 32), "{kept:?}");
    train(&dataset, &cache, &together, &given).well();
    assert!(kept == files(&cache), "the parts were taken in twice");
}

#[test]
fn parts_that_are_missing_of_other_photos_or_no_parts_are_told() {
    let root = tempfile::tempdir().unwrap();
    let dataset = small_dataset(root.path());
    let (cache, out) = (root.path().join("cache"), root.path().join("training"));
    for wrong in ["3/2", "0/2", "2", "1/1000"] {
        train(&dataset, &cache, &out, &[("shard", wrong)])
            .ill(2, &["`--shard` (input `shard`) is", "a part such as `2/4`"]);
    }
    train(
        &dataset,
        &cache,
        &out,
        &[
            ("shard", "1/2"),
            ("trainer", "custom-vision"),
            ("endpoint", "https://a.example"),
            ("project", "p"),
        ],
    )
    .ill(2, &["`--shard`", "Custom Vision trains"]);
    let parts = parts(root.path(), &dataset);
    let given = [("embeddings", parts.to_str().unwrap())];
    let mark = parts.join("1-2/shard.json");
    let text = fs::read_to_string(&mark).unwrap();
    fs::write(&mark, text.replace("sha256:", "sha256:00").replacen("00\"", "\"", 1)).unwrap();
    let damaged = fs::read_to_string(&mark).unwrap();
    train(&dataset, &cache, &out, &given).ill(2, &["shard.json", "embed all parts again"]);
    let start = damaged.find("sha256:").unwrap() + 7;
    let other = format!("{}{}{}", &text[..start], "0".repeat(64), &text[start + 64..]);
    fs::write(&mark, other).unwrap();
    train(&dataset, &cache, &out, &given).ill(2, &["is a part of another dataset", "embed all parts again"]);
    fs::remove_dir_all(parts.join("1-2")).unwrap();
    train(&dataset, &cache, &out, &given).ill(2, &["of 2 parts, 1 is missing"]);
    train(&dataset, &cache, &out, &[("embeddings", root.path().join("dataset").to_str().unwrap())])
        .ill(2, &["holds no part of any embeddings"]);
    assert!(!cache.exists() && !out.exists());
}
