//! Layouts written, read again, and damaged in every way a disk can.

use super::*;
use crate::oci::layer::{Owner, Source};
use crate::oci::spec::{RootFs, RunConfig};

const HOST: Platform = Platform::LinuxAmd64;

/// Writes a one-file image into `folder`.
fn write(folder: &Path, content: &[u8]) -> (Descriptor, bool) {
    let mut writer = LayoutWriter::open(folder).unwrap();
    let mut layer = Layer::new(Owner::ROOT, 0);
    layer.add_file("file", 0o644, Source::Bytes(content.to_vec())).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let cache = LayerCache::new(cache.path());
    let (layer, written) = writer.add_layers(&[layer], &cache).unwrap().remove(0);
    let config = ImageConfig {
        created: None,
        author: None,
        platform: HOST.into(),
        config: RunConfig::default(),
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![written.diff_id] },
        history: Vec::new(),
    };
    let config = writer.add_document(media_type::CONFIG, &canonical(&config)).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config,
        layers: vec![layer],
        annotations: BTreeMap::new(),
    };
    let mut manifest = writer.add_document(media_type::MANIFEST, &canonical(&manifest)).unwrap();
    manifest.platform = Some(HOST.into());
    let index = Index::new(vec![manifest], BTreeMap::new());
    let index = writer.add_document(media_type::INDEX, &canonical(&index)).unwrap();
    let changed = writer.finish(index.clone(), "tag").unwrap();
    (index, changed)
}

fn blobs(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_written_is_read_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (index, changed) = write(folder.path(), b"hello");
    assert!(changed);
    let layout = Layout::open(folder.path()).unwrap();
    layout.verify().unwrap();
    let image = layout.image(index.digest, HOST).unwrap();
    assert_eq!(layout.image(image.descriptor.digest, HOST).unwrap(), image);
    assert_eq!(layout.images()[0].annotations[annotation::REF_NAME], "tag");
}

#[test]
fn writing_the_same_again_changes_nothing_and_a_new_image_leaves_no_old_blob() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), b"hello");
    let before = blobs(folder.path());
    assert!(!write(folder.path(), b"hello").1);
    assert_eq!(blobs(folder.path()), before);
    assert!(write(folder.path(), b"other").1);
    let after = blobs(folder.path());
    assert_eq!(after.len(), before.len());
    assert!(before.iter().all(|blob| !after.contains(blob)));
    Layout::open(folder.path()).unwrap().verify().unwrap();
}

#[test]
fn a_run_that_broke_off_leaves_the_old_image_whole_and_the_next_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = write(folder.path(), b"hello");
    let mut broken = LayoutWriter::open(folder.path()).unwrap();
    broken.add_document(media_type::CONFIG, b"{}").unwrap();
    fs::write(folder.path().join("blobs/sha256/.writing-left"), b"half").unwrap();
    drop(broken);
    let layout = Layout::open(folder.path()).unwrap();
    layout.verify().unwrap();
    layout.image(index.digest, HOST).unwrap();
    write(folder.path(), b"hello");
    assert_eq!(blobs(folder.path()).len(), 4);
}

#[test]
fn a_first_run_that_broke_off_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    drop(LayoutWriter::open(folder.path()).unwrap());
    write(folder.path(), b"hello");
}

#[test]
fn a_folder_with_other_things_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), b"years of work").unwrap();
    assert!(matches!(LayoutWriter::open(folder.path()), Err(OciError::NotALayout(_))));
}

#[test]
fn every_damaged_blob_is_found() {
    for name in {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), b"hello");
        blobs(folder.path())
    } {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), b"hello");
        let path = folder.path().join("blobs/sha256").join(&name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let layout = Layout::open(folder.path()).unwrap();
        for (damaged, says) in [(flipped, "has the digest"), (whole[1..].to_vec(), "bytes")] {
            fs::write(&path, damaged).unwrap();
            let error = layout.verify().unwrap_err();
            assert!(matches!(error, OciError::Corrupt { .. }) && error.to_string().contains(says), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(layout.verify(), Err(OciError::MissingBlob { .. })));
        // The writer mends what the reader refused.
        write(folder.path(), b"hello");
        layout.verify().unwrap();
    }
}

#[test]
fn another_platform_is_told_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = write(folder.path(), b"hello");
    let error = Layout::open(folder.path()).unwrap().image(index.digest, Platform::LinuxArm64).unwrap_err();
    let says = format!("the image `{}` has nothing for linux/arm64, only linux/amd64", index.digest);
    assert_eq!(error.to_string(), says);
}

#[test]
fn a_layout_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), b"hello");
    fs::write(folder.path().join(MARKER), br#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    assert!(matches!(Layout::open(folder.path()), Err(OciError::Unsupported { .. })));
    fs::write(folder.path().join(MARKER), b"not json").unwrap();
    assert!(matches!(Layout::open(folder.path()), Err(OciError::Document { .. })));
}
