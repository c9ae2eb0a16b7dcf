//! Imports from a container, against a double of Blob Storage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use mynah_contracts::{Diagnosis as _, FaultKind, Quiet, SkipReason, error_chain};
use mynah_photo::{Limits, encode_jpeg};
use mynah_testkit::blobs::{ACCOUNT, BlobStorage, KEY};
use mynah_testkit::faults::Fault;
use mynah_testkit::tokens::{CLIENT_ID, CLIENT_SECRET, TENANT, TokenService};

use super::tests::{StopAfter, assert_whole, content, picture};
use super::{ImportError, ImportRequest, Imported, Source, import};
use crate::agent::Env;
use crate::azure::auth::TokenSource;
use crate::azure::storage::{Access, Container, Credential, Location};
use crate::http::{Client, Policy};

fn jpeg(seed: u32) -> Vec<u8> {
    encode_jpeg(&picture(seed), 90).unwrap()
}

fn client() -> Client {
    Client::new(Policy { first_wait: Duration::from_millis(1), ..Policy::default() }).unwrap()
}

struct Place {
    storage: BlobStorage,
    root: tempfile::TempDir,
    access: Option<Access>,
}

impl Place {
    /// Six photos of `apple`, one in a folder of its own, and six of `pear`, below `fruit`; something else beside.
    fn new() -> Self {
        let storage = BlobStorage::start().unwrap();
        let place = Self { storage, root: tempfile::tempdir().unwrap(), access: None };
        for i in 0..6 {
            place.put(&format!("apple/{}{i}.jpg", if i == 5 { "red/" } else { "" }), &jpeg(i));
            place.put(&format!("pear/{i}.jpg"), &jpeg(100 + i));
        }
        place.storage.put("fruitless/x/1.jpg", b"not below the prefix", None);
        place
    }

    /// Writes a blob below the prefix, with its MD5.
    fn put(&self, name: &str, bytes: &[u8]) {
        let md5 = STANDARD.encode(Md5::digest(bytes));
        self.storage.put(&format!("fruit/{name}"), bytes, Some(&md5));
    }

    fn remove(&self, name: &str) {
        self.storage.remove(&format!("fruit/{name}"));
    }

    fn out(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn request(&self, out: &str) -> ImportRequest {
        let location = Location::parse(&format!("{}/fruit/", self.storage.container())).unwrap();
        let access = self.access.clone().unwrap_or_else(|| {
            let env = Env::from_iter([("AZURE_STORAGE_KEY", KEY)]);
            Access::Credential(Credential::of_environment(&env, &location).unwrap().unwrap())
        });
        ImportRequest {
            source: Source::Container(Box::new(Container::new(client(), location, access))),
            out: self.out(out),
            seed: 1,
            strict: false,
            limits: Limits::default(),
            trained: None,
        }
    }

    fn import(&self, out: &str) -> Result<Imported, ImportError> {
        import(&self.request(out), &Quiet)
    }

    /// What an import from nothing makes of the blobs as they are now.
    fn afresh(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let out = tempfile::tempdir().unwrap();
        import(&ImportRequest { out: out.path().join("new"), ..self.request("") }, &Quiet).unwrap();
        content(&out.path().join("new"))
    }

    /// How many listings and fetches were asked for, whatever came of them.
    fn asked(&self) -> (usize, usize) {
        let exchanges = self.storage.wire.exchanges();
        let lists = exchanges.iter().filter(|said| said.query.contains("comp=list")).count();
        (lists, exchanges.len() - lists)
    }
}

#[test]
fn blobs_become_the_dataset_their_folder_would() {
    let place = Place::new();
    let imported = place.import("out").unwrap();
    assert_eq!((imported.fetched, imported.copied, imported.changed), (12, 12, true));
    let dataset = assert_whole(&place.out("out"));
    assert!(dataset.photos.iter().any(|photo| photo.source == "apple/red/5.jpg"));
    let snapshot = dataset.snapshot.as_ref().unwrap();
    assert_eq!(snapshot.source, format!("{}/fruit", place.storage.container()));
    assert_eq!(snapshot.blobs.len(), 12);
    assert!(snapshot.blobs.iter().all(|blob| blob.sha256.is_some() && blob.etag.starts_with("0x")));

    let folder = place.root.path().join("folder");
    for i in 0..6 {
        for (label, seed, deep) in [("apple", i, if i == 5 { "red/" } else { "" }), ("pear", 100 + i, "")] {
            let path = folder.join(format!("{label}/{deep}{i}.jpg"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, jpeg(seed)).unwrap();
        }
    }
    let request = ImportRequest { source: Source::Folder(folder), ..place.request("of-folder") };
    let of_folder = import(&request, &Quiet).unwrap().dataset;
    assert_eq!(of_folder.digest, dataset.digest);
    let (mut ours, mut theirs) = (content(&place.out("out")), content(&place.out("of-folder")));
    ours.remove(Path::new("dataset.json"));
    theirs.remove(Path::new("dataset.json"));
    assert!(ours == theirs);
    assert_eq!(place.storage.wire.violations(), [""; 0]);
}

#[test]
fn nothing_changed_is_one_listing_and_no_fetch() {
    let place = Place::new();
    place.import("out").unwrap();
    let before = (content(&place.out("out")), place.asked());
    let again = place.import("out").unwrap();
    assert_eq!((again.fetched, again.copied, again.removed, again.changed), (0, 0, 0, false));
    assert_eq!(place.asked(), (before.1.0 + 1, before.1.1));
    assert!(content(&place.out("out")) == before.0);

    // A copy that is damaged is noticed, and that photo alone is fetched.
    let photo = again.dataset.photos[3].file.below(&place.out("out"));
    fs::write(&photo, "damaged").unwrap();
    let mended = place.import("out").unwrap();
    assert_eq!((mended.fetched, mended.copied), (1, 1));
    assert!(content(&place.out("out")) == before.0);
}

#[test]
fn the_last_trained_dataset_spares_an_import_that_would_change_nothing() {
    let place = Place::new();
    let trained = place.import("out").unwrap().dataset;
    let request = ImportRequest { trained: Some(trained.clone()), ..place.request("elsewhere") };
    let spared = import(&request, &Quiet).unwrap();
    assert_eq!((spared.fetched, spared.changed), (0, false));
    assert_eq!(spared.dataset, trained);
    assert!(!place.out("elsewhere").exists());
    place.put("apple/new.jpg", &jpeg(7));
    let imported = import(&request, &Quiet).unwrap();
    assert_eq!((imported.fetched, imported.changed), (13, true));
}

#[test]
fn only_what_changed_is_fetched_and_what_left_leaves() {
    let place = Place::new();
    place.put("pear/broken.jpg", &jpeg(9)[..700]);
    place.put("pear/again.jpg", &jpeg(101));
    place.import("out").unwrap();
    let (_, before) = place.asked();
    place.put("pear/new.jpg", &jpeg(200));
    place.put("pear/1.jpg", &jpeg(201));
    place.remove("pear/0.jpg");
    place.remove("apple/0.jpg");
    let changed = place.import("out").unwrap();
    assert_eq!((changed.fetched, changed.changed), (2, true));
    assert_eq!(place.asked().1 - before, 2);
    assert!(content(&place.out("out")) == place.afresh());
    // The broken one is known to be, and is not fetched to be found broken again.
    assert_eq!(place.import("out").unwrap().fetched, 0);
}

#[test]
fn stopped_at_any_moment_the_next_import_goes_on() {
    let place = Place::new();
    place.import("out").unwrap();
    let first = content(&place.out("out"));
    place.put("pear/new.jpg", &jpeg(200));
    place.remove("apple/0.jpg");
    let afresh = place.afresh();
    let before = place.asked().1;
    for after in 0.. {
        match import(&place.request("out"), &StopAfter(AtomicU64::new(after))) {
            Err(ImportError::Cancelled(_)) => {
                let now = content(&place.out("out"));
                assert!(now[Path::new("dataset.json")] == first[Path::new("dataset.json")]);
                assert_whole(&place.out("out"));
            }
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
    }
    assert!(content(&place.out("out")) == afresh);
    assert!(place.asked().1 - before <= 2, "the new photo was fetched again and again");
}

#[test]
fn a_cut_body_goes_on_where_it_broke() {
    let place = Place::new();
    place.storage.wire.faults.script("GET", "/*/*/fruit/pear/3.jpg", Fault::Cut, 2);
    place.storage.wire.faults.script(
        "GET",
        "/*/*/fruit/apple/1.jpg",
        Fault::Refuse { status: 503, retry_after: Some(0) },
        2,
    );
    place.storage.wire.faults.script("GET", &format!("/{ACCOUNT}/photos"), Fault::Cut, 1);
    place.import("out").unwrap();
    let statuses: Vec<u16> = place
        .storage
        .wire
        .exchanges()
        .iter()
        .filter(|said| said.path.ends_with("/pear/3.jpg"))
        .map(|said| said.status)
        .collect();
    assert_eq!(statuses, [200, 206, 206]);
    assert_eq!(place.storage.wire.faults.left(), 0);
    assert_whole(&place.out("out"));
}

#[test]
fn half_a_blob_of_a_killed_import_is_used_if_it_is_the_right_half() {
    for (half, statuses) in [(jpeg(103)[..500].to_vec(), vec![206]), (vec![7; 500], vec![206, 200])] {
        let place = Place::new();
        let bytes = jpeg(103);
        // The import is stopped as soon as its folder is made; then half a blob is put where it would be.
        let waiting = place.out("out").join(".mynah-import-fetched");
        place.storage.wire.faults.script(
            "GET",
            "/*/*/fruit/pear/3.jpg",
            Fault::Refuse { status: 404, retry_after: None },
            9,
        );
        assert!(place.import("out").is_err());
        let etag = "0x8";
        let name = mynah_contracts::Sha256Digest::of(format!("{etag}\npear/3.jpg").as_bytes()).hex();
        assert!(!waiting.join(&name).exists());
        fs::write(waiting.join(format!("{name}.part")), &half).unwrap();
        while place.storage.wire.faults.next("GET", "/a/b/fruit/pear/3.jpg").is_some() {}
        let seen = place.storage.wire.exchanges().len();
        place.import("out").unwrap();
        let asked: Vec<u16> = place.storage.wire.exchanges()[seen..]
            .iter()
            .filter(|said| said.path.ends_with("/pear/3.jpg"))
            .map(|said| said.status)
            .collect();
        assert_eq!(asked, statuses, "a half of {} bytes", half.len());
        assert!(content(&place.out("out")).values().any(|file| *file == bytes));
        assert!(content(&place.out("out")) == place.afresh());
    }
}

#[test]
fn a_blob_that_changes_meanwhile_is_looked_up_again() {
    let place = Place::new();
    place.storage.put_after_listing("fruit/pear/2.jpg", &jpeg(300));
    place.import("out").unwrap();
    assert!(content(&place.out("out")).values().any(|file| *file == jpeg(300)));
    assert_eq!(place.asked().0, 2);
    // It goes on for ever: then that is told.
    for _ in 0..2 {
        place.storage.wire.faults.script(
            "GET",
            "/*/*/fruit/pear/9.jpg",
            Fault::Refuse { status: 404, retry_after: None },
            9,
        );
    }
    place.put("pear/9.jpg", &jpeg(301));
    let error = place.import("out").unwrap_err();
    assert_eq!(error.to_string(), "the blob `fruit/pear/9.jpg` changed while it was fetched");
    assert_eq!(error.kind(), FaultKind::Failed);
}

#[test]
fn odd_names_are_names_and_what_is_no_photo_is_told_without_a_fetch() {
    let place = Place::new();
    let odd = [
        "pear/##vso[task.complete result=Failed;]x.jpg",
        "pear/a%2Fb.jpg",
        "pear/grün und 漢.jpg",
        "pear/a\\b#?.jpg",
    ];
    for (i, name) in odd.iter().enumerate() {
        place.put(name, &jpeg(400 + i as u32));
    }
    place.put("pear/empty.jpg", b"");
    place.put("pear/../up.jpg", &jpeg(500));
    place.put("loose.jpg", &jpeg(501));
    place.put("pear/.hidden.jpg", &jpeg(502));
    place.put("_review/2026-01-02/1.jpg", &jpeg(503));
    place.storage.put_folder_marker("fruit/pear");
    place.storage.put_folder_marker("fruit/plum/");
    place.storage.put_folder_marker("fruit/pear/deep");
    place.storage.set_page(4);
    let dataset = place.import("out").unwrap().dataset;
    for name in odd {
        assert!(dataset.photos.iter().any(|photo| photo.source == name), "{name}");
    }
    let skipped: Vec<_> = dataset.skipped.iter().map(|s| (s.source.as_str(), s.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("loose.jpg", SkipReason::Unlabelled),
            ("pear/../up.jpg", SkipReason::Unreadable),
            ("pear/empty.jpg", SkipReason::Empty),
        ]
    );
    assert_eq!(place.asked(), (6, 16));
    assert_eq!(place.storage.wire.violations(), [""; 0]);
    assert_eq!(place.import("out").unwrap().fetched, 0);
}

#[test]
fn a_hundred_thousand_blobs_are_listed_by_pages_and_only_photos_are_fetched() {
    let place = Place::new();
    for number in 0..100_000 {
        place.storage.put(&format!("fruit/pear/many/{number:06}.jpg"), b"", None);
    }
    let imported = place.import("out").unwrap();
    assert_eq!((imported.fetched, imported.dataset.photos.len()), (12, 12));
    assert_eq!(imported.dataset.skipped.len(), 100_000);
    assert!(imported.dataset.skipped.iter().all(|skipped| skipped.reason == SkipReason::Empty));
    assert_eq!(place.asked(), (21, 12));
    let again = place.import("out").unwrap();
    assert_eq!((again.fetched, again.changed), (0, false));
    assert_eq!(place.asked(), (42, 12));
}

#[test]
fn fetched_photos_are_no_longer_shared_with_anything_once_the_dataset_stands() {
    let place = Place::new();
    let dataset = place.import("out").unwrap().dataset;
    assert_whole(&place.out("out"));
    for photo in &dataset.photos {
        use std::os::unix::fs::MetadataExt as _;
        let file = photo.file.below(&place.out("out"));
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 1, "{}", file.display());
    }
}

#[test]
fn names_that_cannot_be_labels_are_told_before_anything_is_fetched() {
    let place = Place::new();
    place.put("a:b/1.jpg", &jpeg(1));
    place.put("Apple/1.jpg", &jpeg(2));
    let error = place.import("out").unwrap_err();
    assert!(error.to_string().contains("`a:b`"), "{error}");
    place.remove("a:b/1.jpg");
    let error = place.import("out").unwrap_err();
    assert!(error.to_string().contains("`Apple` and `apple`"), "{error}");
    assert_eq!(place.asked(), (2, 0));
    assert!(!place.out("out").exists());
}

#[test]
fn content_that_is_not_what_its_md5_says_is_refused() {
    let place = Place::new();
    place.storage.put("fruit/pear/bad.jpg", &jpeg(1), Some(&STANDARD.encode([0; 16])));
    let error = place.import("out").unwrap_err();
    assert_eq!(error.to_string(), "the content of the blob `pear/bad.jpg` does not match its MD5");
    assert!(error.hint().unwrap().contains("upload the blob again"));
    assert!(!place.out("out").join("dataset.json").exists());
}

#[test]
fn a_token_opens_the_container_and_an_ended_one_is_renewed() {
    let tokens = TokenService::start(0).unwrap();
    let place = Place { access: Some(signed_in(&tokens)), ..Place::new() };
    let ended = Fault::Refuse { status: 401, retry_after: None };
    place.storage.wire.faults.script("GET", &format!("/{ACCOUNT}/photos"), ended, 1);
    place.import("out").unwrap();
    assert_eq!(tokens.wire.count("POST", "/token"), 2);
}

/// Whoever the token service signs in.
fn signed_in(tokens: &TokenService) -> Access {
    let authority = tokens.url();
    let env = Env::from_iter([
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
    ]);
    Access::SignedIn(TokenSource::discover(&env, &client(), None).unwrap())
}

#[test]
fn every_refusal_says_what_to_do() {
    let tokens = TokenService::start(0).unwrap();
    let token = Some(signed_in(&tokens));
    let key = Some(Access::Credential(Credential::Key {
        account: ACCOUNT.into(),
        key: crate::secret::Secret::new(KEY),
    }));
    let location = Location::parse("http://127.0.0.1:1/a/b").unwrap();
    let sas = Env::from_iter([("AZURE_STORAGE_SAS_TOKEN", "sv=2021&sig=c2lnbmF0dXJlLW5vYm9keS1zZWVz")]);
    let sas = Credential::of_environment(&sas, &location).unwrap().map(Access::Credential);
    for (access, status, code, date, part) in [
        (&key, 403, "AuthenticationFailed", None, "the key is not this account's"),
        (&sas, 403, "AuthenticationFailed", None, "has expired"),
        (&sas, 403, "AuthorizationPermissionMismatch", None, "permissions read and list"),
        (&token, 401, "InvalidAuthenticationInfo", None, "another tenant"),
        (&token, 403, "AuthorizationPermissionMismatch", None, "role Storage Blob Data Reader"),
        (&key, 404, "ContainerNotFound", None, "check the container's name"),
        (&key, 403, "KeyBasedAuthenticationNotPermitted", None, "takes no keys"),
        (
            &key,
            403,
            "AuthenticationFailed",
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "clock of this machine is off",
        ),
        (&key, 418, "SomethingElse", None, ""),
    ] {
        let place = Place { access: access.clone(), ..Place::new() };
        place.storage.refuse(status, code, date);
        let error = place.import("out").unwrap_err();
        assert_eq!(error.kind(), FaultKind::ServiceRefused);
        let text = format!("{}. {}", error_chain(&error), error.hint().unwrap_or_default());
        assert!(
            text.contains(code) && text.contains(part) && text.contains("request id `request-1`"),
            "{text}"
        );
        assert!(text.starts_with("cannot list the blobs in `http://127.0.0.1:"), "{text}");
        assert!(!text.contains("c2lnbm") && !text.contains(KEY), "{text}");
        assert!(!place.out("out").exists());
    }
}
