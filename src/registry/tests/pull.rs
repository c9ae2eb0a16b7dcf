//! Base images from a strict registry that breaks off, redirects and lies.

use super::*;

/// Puts `image` into the double as a base to pull.
fn base(double: &Double, image: &Image) {
    for entry in std::fs::read_dir(image.folder.path().join("blobs/sha256")).unwrap() {
        double.put_blob("library/base", &std::fs::read(entry.unwrap().path()).unwrap());
    }
    let bytes = |digest: Sha256Digest| {
        std::fs::read(image.folder.path().join("blobs/sha256").join(digest.hex())).unwrap()
    };
    let index = bytes(image.index.digest);
    let named: Index = serde_json::from_slice(&index).unwrap();
    double.put_manifest("library/base", "m", media_type::MANIFEST, &bytes(named.manifests[0].digest));
    double.put_manifest("library/base", "1", media_type::INDEX, &index);
}

fn pull(
    double: &Double,
    cache: &Path,
    reference: &str,
    platform: Platform,
) -> Result<crate::oci::base::BaseImage, mynah_contracts::Fault> {
    let sign_in = SignIn::new(USER.into_iter().collect(), None, false);
    let images = RegistryImages::new(sign_in, PathBuf::from(cache), &Quiet);
    images.resolve(&format!("{}/library/base{reference}", double.host()).parse().unwrap(), platform)
}

#[test]
fn a_base_image_is_fetched_once_and_kept_by_digest() {
    for guard in [Guard::Open, basic(), bearer(true)] {
        let double = Double::start(guard).unwrap();
        let image = image(&noise(5000));
        base(&double, &image);
        let cache = tempfile::tempdir().unwrap();
        let found = pull(&double, cache.path(), ":1", Platform::LinuxAmd64).unwrap();
        let layers: Vec<_> = found.layers.iter().map(|layer| layer.descriptor.digest).collect();
        assert_eq!(layers, image.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>());
        for layer in &found.layers {
            assert_eq!(Sha256Digest::of(&std::fs::read(&layer.file).unwrap()), layer.descriptor.digest);
        }
        double.take_seen();
        // By digest nothing is asked any more.
        let pinned = format!("@{}", image.index.digest);
        assert_eq!(pull(&double, cache.path(), &pinned, Platform::LinuxAmd64).unwrap(), found);
        assert_eq!(double.take_seen(), []);
        // By tag the tag is asked for, and no blob.
        assert_eq!(pull(&double, cache.path(), ":1", Platform::LinuxAmd64).unwrap(), found);
        assert!(double.take_seen().iter().all(|seen| seen.stage != Some(Stage::GetBlob)));
        // A damaged blob is fetched again.
        std::fs::write(&found.layers[0].file, b"damaged").unwrap();
        assert_eq!(pull(&double, cache.path(), ":1", Platform::LinuxAmd64).unwrap(), found);
        assert_eq!(Sha256Digest::of(&std::fs::read(&found.layers[0].file).unwrap()), layers[0]);
    }
}

#[test]
fn a_base_image_that_cannot_be_had_is_told() {
    let double = Double::start(Guard::Open).unwrap();
    let image = image(b"base");
    base(&double, &image);
    let cache = tempfile::tempdir().unwrap();
    let says = |reference: &str, platform| {
        let fault = pull(&double, cache.path(), reference, platform).unwrap_err();
        (fault.kind(), fault.chain())
    };
    let (kind, text) = says(":2", Platform::LinuxAmd64);
    assert!(kind == FaultKind::BadInput && text.contains("there is no image"), "{text}");
    let (kind, text) = says(":1", Platform::LinuxArm64);
    assert!(
        kind == FaultKind::BadInput && text.contains("nothing for linux/arm64, only linux/amd64"),
        "{text}"
    );
    let (_, text) = says(":m", Platform::LinuxArm64);
    assert!(text.contains("linux/amd64"), "{text}");
}

#[test]
fn a_pull_survives_cuts_and_believes_no_other_bytes() {
    let double = Double::start(Guard::Open).unwrap();
    let image = image(&noise(5000));
    base(&double, &image);
    let cache = tempfile::tempdir().unwrap();
    double.wire().faults.script("GET", "/v2/library/base/blobs/*", WireFault::Cut, 2);
    let found = pull(&double, cache.path(), ":1", Platform::LinuxAmd64).unwrap();
    assert_eq!(found.layers.len(), 2);
    assert_eq!(double.wire().faults.left(), 0);

    let cache = tempfile::tempdir().unwrap();
    double.fail([Fault::always(Stage::GetBlob, Mishap::OtherBytes)]);
    let fault = pull(&double, cache.path(), ":1", Platform::LinuxAmd64).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::ServiceRefused);
    assert!(fault.chain().contains("sha256:"), "{}", fault.chain());
    let kept = std::fs::read_dir(cache.path().join("sha256")).unwrap().count();
    assert_eq!(kept, 2, "only the two manifests are kept");
}

#[test]
fn a_redirected_blob_is_asked_for_without_the_password() {
    let store = Double::start(Guard::Open).unwrap();
    let double = Double::start(basic()).unwrap();
    let image = image(b"base");
    base(&double, &image);
    base(&store, &image);
    // Every blob lies in the store, where nobody needs the registry's password.
    let layer = &image.layers[0];
    let to = format!("http://{}/v2/library/base/blobs/{}", store.host(), layer.digest);
    double.fail([Fault::once(
        Stage::GetBlob,
        Mishap::Answer { status: 307, headers: vec![("location", to)], body: String::new() },
    )]);
    let env: Env = USER.into_iter().collect();
    let registry = Registry::new(&double.host(), &SignIn::new(env, None, false), &Quiet).unwrap();
    let scope = Scope::pull("library/base");
    let repository = Repository { session: &registry.session, path: "library/base", scope: &scope };
    let mut bytes = Vec::new();
    let work = async {
        // Signs in first: the redirected request would carry the password if any did.
        assert!(repository.has_blob(layer.digest).await?);
        repository.fetch(layer, &mut bytes).await
    };
    block_on(&Quiet, work).unwrap();
    assert_eq!(Sha256Digest::of(&bytes), layer.digest);
    let asked = store.take_seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
    assert!(double.take_seen().iter().any(|seen| seen.authorization.is_some()));
}
