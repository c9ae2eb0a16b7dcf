//! Pushing to and pulling from a strict registry that goes wrong at every stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{Diagnosis as _, FaultKind, Platform, Quiet, Sha256Digest, error_chain};
use mynah_testkit::faults::Fault as WireFault;
use mynah_testkit::registry::{Fault, Guard, Mishap, Registry as Double, Stage};

use super::blobs::Repository;
use super::push::Homes;
use super::session::{Pace, Scope};
use super::{Attachment, Moved, Registry, RegistryError, RegistryImages, SignIn};
use crate::agent::Env;
use crate::http::{Client, Policy, block_on};
use crate::oci::base::BaseImages as _;
use crate::oci::layer::{Layer, Owner, Source};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::spec::{
    Descriptor, History, ImageConfig, Index, Manifest, RootFs, RunConfig, canonical, media_type,
};

const REPOSITORY: &str = "mynah/runtime";

/// An image of two layers in a layout.
struct Image {
    folder: tempfile::TempDir,
    index: Descriptor,
    layers: Vec<Descriptor>,
}

/// An image whose upper layer holds `model`.
fn image(model: &[u8]) -> Image {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut layout = LayoutWriter::open(folder.path()).unwrap();
    let contents = [("program", b"the program".as_slice()), ("model", model)].map(|(name, bytes)| {
        let mut layer = Layer::new(Owner::ROOT, 0);
        layer.add_file(name, 0o644, Source::Bytes(bytes.to_vec())).unwrap();
        layer
    });
    let added = layout.add_layers(&contents, &LayerCache::new(cache.path())).unwrap();
    let diff_ids = added.iter().map(|(_, written)| written.diff_id).collect();
    let layers: Vec<_> = added.into_iter().map(|(descriptor, _)| descriptor).collect();
    let config = ImageConfig {
        created: None,
        author: None,
        platform: Platform::LinuxAmd64.into(),
        config: RunConfig::default(),
        rootfs: RootFs { kind: "layers".into(), diff_ids },
        history: Vec::<History>::new(),
    };
    let config = layout.add_document(media_type::CONFIG, &canonical(&config)).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config,
        layers: layers.clone(),
        annotations: BTreeMap::new(),
    };
    let mut descriptor = layout.add_document(media_type::MANIFEST, &canonical(&manifest)).unwrap();
    descriptor.platform = Some(Platform::LinuxAmd64.into());
    let index = Index::new(vec![descriptor], BTreeMap::new());
    let index = layout.add_document(media_type::INDEX, &canonical(&index)).unwrap();
    layout.finish(index.clone(), "1").unwrap();
    Image { folder, index, layers }
}

/// Bytes that do not shrink, the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}

/// A client that does not wait long, and sends chunks of 1,000 bytes.
fn registry(double: &Double, env: &[(&str, &str)]) -> Registry {
    let sign_in = SignIn::new(env.iter().copied().collect::<Env>(), None, false);
    let mut registry = Registry::new(&double.host(), &sign_in, &Quiet).unwrap();
    let policy = Policy { first_wait: Duration::from_millis(1), tries: 3, ..Policy::default() };
    let credentials = sign_in
        .credentials(&registry.session.address, &Client::new(Policy::default()).unwrap(), &Quiet)
        .unwrap();
    registry.session =
        super::Session::new(Client::new(policy).unwrap(), registry.session.address.clone(), credentials);
    registry.session.pace = Pace { chunk: 1000, first_wait: Duration::from_millis(1) };
    registry
}

fn push(registry: &Registry, image: &Image, tag: &str) -> Result<Moved, RegistryError> {
    let homes = Homes::new();
    block_on(&Quiet, registry.push(image.folder.path(), &image.index, REPOSITORY, tag, &homes, &Quiet))
}

/// The registry gives the image back, layer by layer.
fn arrived(double: &Double, image: &Image, tag: &str) {
    assert_eq!(Sha256Digest::of(&double.manifest(REPOSITORY, tag).unwrap().1), image.index.digest);
    for layer in &image.layers {
        assert_eq!(double.blob(REPOSITORY, layer.digest).unwrap().len() as u64, layer.size);
    }
}

const USER: [(&str, &str); 2] =
    [("MYNAH_REGISTRY_USER", "ada"), ("MYNAH_REGISTRY_PASSWORD", "pass-word-1815")];

fn basic() -> Guard {
    Guard::basic("ada", "pass-word-1815")
}

fn bearer(anonymous_pull: bool) -> Guard {
    Guard::Bearer { user: "ada".into(), password: "pass-word-1815".into(), anonymous_pull }
}

#[test]
fn an_image_arrives_whoever_guards_the_registry() {
    for guard in [Guard::Open, basic(), bearer(false), bearer(true)] {
        let double = Double::start(guard.clone()).unwrap();
        let registry = registry(&double, &USER);
        let image = image(&noise(5000));
        let moved = push(&registry, &image, "v1").unwrap();
        assert_eq!((moved.sent, moved.present, moved.tagged), (3, 0, true), "{guard:?}");
        arrived(&double, &image, "v1");
    }
}

#[test]
fn an_azure_registry_exchanges_an_entra_token() {
    let double = Double::start(Guard::Entra { token: "entra-token-9411".into() }).unwrap();
    let authority = format!("http://{}/authority", double.host());
    let env: Env = [
        ("ENDPOINT_AUTH_SCHEME_mine", "ServicePrincipal"),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "application-1"),
        ("AZURE_CLIENT_SECRET", "application-secret"),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
    ]
    .into_iter()
    .collect();
    let client = Client::new(Policy::default()).unwrap();
    let source = crate::azure::auth::TokenSource::discover(&env, &client, None).unwrap();
    let mut registry = registry(&double, &[]);
    let credentials = super::credentials::Credentials::Entra { source, tenant: Some("tenant-1".into()) };
    registry.session = super::Session::new(client, registry.session.address.clone(), credentials);
    let image = image(b"model");
    push(&registry, &image, "v1").unwrap();
    arrived(&double, &image, "v1");
    let seen = double.take_seen();
    let exchanges = seen.iter().filter(|seen| seen.stage == Some(Stage::Exchange)).count();
    assert_eq!(exchanges, 1);
}

#[test]
fn an_unchanged_image_is_not_sent_again_and_a_new_model_moves_alone() {
    let double = Double::start(basic()).unwrap();
    let registry = registry(&double, &USER);
    let first = image(&noise(50_000));
    push(&registry, &first, "v1").unwrap();
    double.take_seen();
    let again = push(&registry, &first, "v1").unwrap();
    assert_eq!((again.sent, again.bytes, again.tagged), (0, 0, false));
    assert!(double.take_seen().iter().all(|seen| seen.body_bytes == 0 && seen.line.starts_with("GET")));

    let second = image(&noise(60_000));
    let moved = push(&registry, &second, "v2").unwrap();
    arrived(&double, &second, "v2");
    assert_eq!((moved.present, moved.sent), (1, 2));
    let sent: usize = double.take_seen().iter().map(|seen| seen.body_bytes).sum();
    let model = second.layers[1].size as usize;
    assert!(sent <= model + 20_000, "{sent} bytes were sent for a layer of {model}");
}

#[test]
fn a_blob_of_another_repository_is_taken_over_not_sent() {
    for guard in [Guard::Open, bearer(false)] {
        let double = Double::start(guard).unwrap();
        let registry = registry(&double, &USER);
        let image = image(&noise(5000));
        push(&registry, &image, "v1").unwrap();
        double.take_seen();
        let homes: Homes = image.layers.iter().map(|layer| (layer.digest, REPOSITORY.to_owned())).collect();
        let push = registry.push(image.folder.path(), &image.index, "mynah/other", "v1", &homes, &Quiet);
        let moved = block_on(&Quiet, push).unwrap();
        assert_eq!((moved.mounted, moved.sent), (2, 1));
        assert!(double.manifest("mynah/other", "v1").is_some());
    }
}

#[test]
fn a_mount_that_is_refused_leaves_a_session_that_is_used() {
    let double = Double::start(Guard::Open).unwrap();
    let registry = registry(&double, &[]);
    let image = image(&noise(500));
    // The registry does not have them there: it opens an upload for each instead.
    let homes: Homes = image.layers.iter().map(|layer| (layer.digest, "gone/away".to_owned())).collect();
    let push = registry.push(image.folder.path(), &image.index, REPOSITORY, "v1", &homes, &Quiet);
    assert_eq!(block_on(&Quiet, push).unwrap().sent, 3);
    let opened = double.take_seen().iter().filter(|seen| seen.stage == Some(Stage::StartUpload)).count();
    assert_eq!(opened, 3, "one upload was opened per blob");
    arrived(&double, &image, "v1");
}

/// Statuses and cuts that a second look heals, at every stage.
#[test]
fn a_push_survives_what_passes() {
    let busy = || Mishap::refusal(503, "UNAVAILABLE", "try later");
    let slow =
        || Mishap::Answer { status: 429, headers: vec![("retry-after", "0".into())], body: String::new() };
    let stages = [
        Stage::GetManifest,
        Stage::HeadBlob,
        Stage::StartUpload,
        Stage::Chunk,
        Stage::FinishUpload,
        Stage::PutManifest,
    ];
    let image = image(&noise(5000));
    for stage in stages {
        for mishap in [busy(), slow(), Mishap::HangUp, Mishap::LoseAnswer] {
            let double = Double::start(Guard::Open).unwrap();
            double.fail([Fault::once(stage, mishap.clone())]);
            let moved = push(&registry(&double, &[]), &image, "v1");
            moved.unwrap_or_else(|error| panic!("{stage:?} {mishap:?}: {}", error_chain(&error)));
            arrived(&double, &image, "v1");
            assert_eq!(double.pending(), [], "the fault did not strike");
        }
    }
}

#[test]
fn a_cut_chunk_goes_on_from_what_the_registry_has() {
    let double = Double::start(Guard::Open).unwrap();
    double.fail([Fault { stage: Stage::Chunk, after: 2, times: 1, mishap: Mishap::KeepThenHangUp(400) }]);
    let image = image(&noise(10_000));
    push(&registry(&double, &[]), &image, "v1").unwrap();
    arrived(&double, &image, "v1");
    let seen = double.take_seen();
    let chunks: Vec<_> = seen.iter().filter(|seen| seen.stage == Some(Stage::Chunk)).collect();
    let sent: usize = chunks.iter().map(|seen| seen.body_bytes).sum();
    // The cut chunk's other 600 bytes are all that went twice.
    assert_eq!(sent as u64, image.layers[1].size + 600);
    assert_eq!(seen.iter().filter(|seen| seen.stage == Some(Stage::UploadStatus)).count(), 1);
}

#[test]
fn an_upload_the_registry_forgot_begins_again() {
    let double = Double::start(Guard::Open).unwrap();
    let forgotten = || Mishap::refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    double.fail([
        Fault { stage: Stage::Chunk, after: 2, times: 1, mishap: forgotten() },
        Fault::once(Stage::UploadStatus, forgotten()),
        Fault::once(Stage::FinishUpload, Mishap::refusal(416, "RANGE_INVALID", "no")),
    ]);
    let image = image(&noise(5000));
    push(&registry(&double, &[]), &image, "v1").unwrap();
    arrived(&double, &image, "v1");
    assert_eq!(double.pending(), []);
}

#[test]
fn a_token_that_ends_during_a_push_is_renewed() {
    let double = Double::start(bearer(false)).unwrap();
    let registry = registry(&double, &USER);
    push(&registry, &image(b"one"), "v1").unwrap();
    double.expire_tokens();
    push(&registry, &image(b"two"), "v2").unwrap();
    let tokens = double.take_seen().iter().filter(|seen| seen.stage == Some(Stage::Token)).count();
    assert_eq!(tokens, 2, "one token per push, not per request");
}

/// What does not pass is told: with the service's words, a hint, the exit code of a service, in bounded time.
#[test]
fn a_push_tells_what_stays() {
    let image = image(&noise(5000));
    let cases = [
        (Stage::GetManifest, 403, "DENIED", "AcrPush"),
        (Stage::HeadBlob, 403, "DENIED", "AcrPush"),
        (Stage::StartUpload, 404, "NAME_UNKNOWN", "name of the repository"),
        (Stage::StartUpload, 403, "DENIED", "AcrPush"),
        (Stage::Chunk, 413, "SIZE_INVALID", "raise its limit"),
        (Stage::FinishUpload, 400, "DIGEST_INVALID", "run build-modules again"),
        (Stage::Chunk, 503, "UNAVAILABLE", "again later"),
        (Stage::FinishUpload, 429, "TOOMANYREQUESTS", "again later"),
        (Stage::PutManifest, 500, "UNKNOWN", "again later"),
        (Stage::PutManifest, 404, "MANIFEST_BLOB_UNKNOWN", "name of the repository"),
    ];
    for (stage, status, code, hint) in cases {
        let double = Double::start(Guard::Open).unwrap();
        double.fail([Fault::always(stage, Mishap::refusal(status, code, "the registry's own words"))]);
        let error = push(&registry(&double, &[]), &image, "v1").unwrap_err();
        let text = error_chain(&error);
        assert_eq!(error.kind(), FaultKind::ServiceRefused, "{stage:?} {text}");
        // A HEAD has no body that could say more.
        if stage != Stage::HeadBlob {
            assert!(text.contains(code) && text.contains("the registry's own words"), "{stage:?}: {text}");
        }
        assert!(text.contains(&status.to_string()), "{stage:?}: {text}");
        assert!(error.hint().unwrap().contains(hint), "{stage:?} {status}: {:?}", error.hint());
        assert!(double.take_seen().len() < 100, "{stage:?} {status} was asked without end");
        assert_eq!(double.tags(REPOSITORY), Vec::<String>::new(), "a broken push left a tag");
    }
}

#[test]
fn who_is_not_let_in_is_told_how_to_sign_in() {
    for guard in [basic(), bearer(false)] {
        let double = Double::start(guard).unwrap();
        for (env, problem) in [
            (&[][..], "no credentials were found"),
            (&[USER[0], ("MYNAH_REGISTRY_PASSWORD", "wrong-one")], "does not accept"),
        ] {
            let error = push(&registry(&double, env), &image(b"m"), "v1").unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert_eq!(error.kind(), FaultKind::ServiceRefused);
            assert!(error.hint().unwrap().contains("docker login"), "{:?}", error.hint());
            assert!(!error_chain(&error).contains("wrong-one"));
        }
    }
}

#[test]
fn a_registry_that_lies_about_digests_is_not_believed() {
    for stage in [Stage::HeadBlob, Stage::FinishUpload, Stage::PutManifest] {
        let double = Double::start(Guard::Open).unwrap();
        let mut faults = vec![Fault::always(stage, Mishap::OtherDigest)];
        if stage == Stage::HeadBlob {
            // The blob must be there for its `HEAD` to lie about it.
            let good = image(b"model");
            push(&registry(&double, &[]), &good, "v0").unwrap();
            faults.push(Fault::once(Stage::GetManifest, Mishap::refusal(404, "MANIFEST_UNKNOWN", "gone")));
        }
        double.fail(faults);
        let error = push(&registry(&double, &[]), &image(b"model"), "v0").unwrap_err();
        assert!(matches!(error, RegistryError::OtherDigest { .. }), "{stage:?}: {}", error_chain(&error));
        assert_eq!(error.kind(), FaultKind::ServiceRefused);
    }
    // The manifest read back after the push is another.
    let double = Double::start(Guard::Open).unwrap();
    double.fail([Fault { stage: Stage::GetManifest, after: 1, times: 9, mishap: Mishap::OtherBytes }]);
    let error = push(&registry(&double, &[]), &image(b"model"), "v1").unwrap_err();
    assert!(matches!(error, RegistryError::OtherDigest { .. }), "{}", error_chain(&error));
}

#[test]
fn a_location_of_another_machine_is_not_followed() {
    let double = Double::start(basic()).unwrap();
    double.fail([Fault {
        stage: Stage::StartUpload,
        after: 0,
        times: 9,
        mishap: Mishap::Answer {
            status: 202,
            headers: vec![("location", "https://evil.example/take-the-password".into())],
            body: String::new(),
        },
    }]);
    let error = push(&registry(&double, &USER), &image(b"m"), "v1").unwrap_err();
    assert!(error.to_string().contains("no place of its own"), "{error}");
}

#[test]
fn a_blob_that_was_cut_on_this_machine_is_told_before_it_is_sent() {
    let double = Double::start(Guard::Open).unwrap();
    let image = image(&noise(5000));
    let blob = image.folder.path().join("blobs/sha256").join(image.layers[1].digest.hex());
    std::fs::write(&blob, b"cut").unwrap();
    let error = push(&registry(&double, &[]), &image, "v1").unwrap_err();
    assert!(matches!(error, RegistryError::Image(_)), "{error}");
    assert_eq!(double.tags(REPOSITORY), Vec::<String>::new());
}

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

#[test]
fn what_refers_to_an_image_is_listed_by_every_registry() {
    for double in [Double::start(basic()).unwrap(), Double::start_without_referrers(basic()).unwrap()] {
        let registry = registry(&double, &USER);
        let image = image(b"model");
        push(&registry, &image, "v1").unwrap();
        let scope = Scope::push(REPOSITORY);
        let repository = Repository { session: &registry.session, path: REPOSITORY, scope: &scope };
        let attachment =
            Attachment { artifact_type: "test/kind", media_type: "test/document", bytes: b"{}".to_vec() };
        for _ in 0..2 {
            block_on(&Quiet, repository.attach(&image.index, &attachment)).unwrap();
        }
        let listed = block_on(&Quiet, repository.referrers(image.index.digest)).unwrap();
        let kinds: Vec<_> = listed.iter().map(|one| one.artifact_type.as_deref()).collect();
        assert_eq!(kinds, [Some("test/kind")]);
        assert!(double.manifest(REPOSITORY, &listed[0].manifest.digest.to_string()).is_some());
    }
}
