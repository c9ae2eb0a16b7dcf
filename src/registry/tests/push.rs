//! Pushing to a strict registry that goes wrong at every stage.

use super::*;

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
    let credentials =
        crate::registry::credentials::Credentials::Entra { source, tenant: Some("tenant-1".into()) };
    registry.session = crate::registry::Session::new(client, registry.session.address.clone(), credentials);
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
        let moved = push_to(&registry, &image, "mynah/other", "v1", &homes).unwrap();
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
    assert_eq!(push_to(&registry, &image, REPOSITORY, "v1", &homes).unwrap().sent, 3);
    let opened = double.take_seen().iter().filter(|seen| seen.stage == Some(Stage::StartUpload)).count();
    assert_eq!(opened, 3, "one upload was opened per blob");
    arrived(&double, &image, "v1");
}

#[test]
fn company_comes_along_and_is_attached_when_the_image_is_there() {
    let double = Double::start(basic()).unwrap();
    let registry = registry(&double, &USER);
    let image = image(&noise(5000));
    let index = image.index.digest.to_string();
    let homes = Homes::new();
    for (present, sent) in [(0, 4), (3, 1)] {
        let outgoing =
            registry.outgoing(image.folder.path(), &image.index, REPOSITORY, "v1", &homes).unwrap();
        let company = async {
            let before = double.manifest(REPOSITORY, &index).is_some();
            assert_eq!(before, present > 0, "the image waits for nobody's company but its own layers");
            let moved = Moved { sent: 1, ..Moved::default() };
            Ok((moved, async {
                assert!(double.manifest(REPOSITORY, &index).is_some());
                Ok(Moved::default())
            }))
        };
        let moved = block_on(&Quiet, outgoing.push(company, &Quiet)).unwrap();
        assert_eq!((moved.present, moved.sent, moved.tagged), (present, sent, present == 0));
    }
    // What fails beside the image fails the push, and no tag is put.
    let outgoing = registry.outgoing(image.folder.path(), &image.index, REPOSITORY, "v2", &homes).unwrap();
    let lost =
        async { Err::<(Moved, std::future::Ready<_>), _>(RegistryError::NoSuchImage("company".into())) };
    assert!(block_on(&Quiet, outgoing.push(lost, &Quiet)).is_err());
    assert_eq!(double.tags(REPOSITORY), ["v1"]);
}

#[test]
fn who_signed_in_ahead_is_let_in_at_once() {
    for guard in [basic(), bearer(false)] {
        let double = Double::start(guard.clone()).unwrap();
        let registry = registry(&double, &USER);
        block_on(&Quiet, registry.prepare(&Scope::push(REPOSITORY))).unwrap();
        double.take_seen();
        let image = image(b"model");
        push(&registry, &image, "v1").unwrap();
        arrived(&double, &image, "v1");
        let asked = double.take_seen().iter().filter(|seen| seen.stage == Some(Stage::GetManifest)).count();
        assert_eq!(asked, 2, "{guard:?}: once before and once after, neither refused");
    }
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

/// Every status at every stage, without end: refused in bounded time with a hint, and no tag names what is not there.
#[test]
fn no_status_at_any_stage_leaves_a_tag_or_goes_on_for_ever() {
    let image = image(&noise(5000));
    let stages = [
        Stage::GetManifest,
        Stage::HeadBlob,
        Stage::StartUpload,
        Stage::UploadStatus,
        Stage::Chunk,
        Stage::FinishUpload,
        Stage::PutManifest,
    ];
    for stage in stages {
        for status in [401, 403, 404, 416, 429, 500, 502, 503, 504] {
            let double = Double::start(Guard::Open).unwrap();
            double.fail([Fault::always(stage, Mishap::refusal(status, "CODE", "the registry's own words"))]);
            let pushed = push(&registry(&double, &USER), &image, "v1");
            let asked = double.take_seen().len();
            assert!(asked < 150, "{stage:?} {status}: asked {asked} times");
            let Err(error) = pushed else {
                // What is not there is sent, and how far an upload is was not asked.
                assert!(
                    matches!((stage, status), (Stage::HeadBlob, 404) | (Stage::UploadStatus, _)),
                    "{stage:?} {status}"
                );
                arrived(&double, &image, "v1");
                continue;
            };
            let text = error_chain(&error);
            assert_eq!(error.kind(), FaultKind::ServiceRefused, "{stage:?} {status}: {text}");
            // Nobody answers 416 but to a chunk.
            assert!(error.hint().is_some() || status == 416, "{stage:?} {status}: {text}");
            // Only a tag that was put and then cannot be read back is there.
            let tags: &[&str] = if (stage, status) == (Stage::GetManifest, 404) { &["v1"] } else { &[] };
            assert_eq!(double.tags(REPOSITORY), tags, "{stage:?} {status}: {text}");
        }
    }
}

#[test]
fn a_blob_changed_on_this_machine_is_refused_by_the_registry_and_told() {
    let double = Double::start(Guard::Open).unwrap();
    let image = image(&noise(5000));
    let blob = image.folder.path().join("blobs/sha256").join(image.layers[1].digest.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let error = push(&registry(&double, &[]), &image, "v1").unwrap_err();
    assert!(error_chain(&error).contains("DIGEST_INVALID"), "{}", error_chain(&error));
    assert!(error.hint().unwrap().contains("run build-modules again"), "{:?}", error.hint());
    assert_eq!(double.tags(REPOSITORY), Vec::<String>::new());
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
            let attach = async {
                let (config, _) = repository.put_empty().await?;
                let (document, _) = repository.put_blob(attachment.media_type, &attachment.bytes).await?;
                let known = repository.referrers(image.index.digest).await?;
                let listing = if known.kept { Listing::Kept } else { Listing::Tagged };
                let pending =
                    repository.prepare(&image.index, &attachment, config, document, listing).await?;
                repository.attach(pending).await
            };
            block_on(&Quiet, attach).unwrap();
        }
        let listed = block_on(&Quiet, repository.referrers(image.index.digest)).unwrap().referrers;
        let kinds: Vec<_> = listed.iter().map(|one| one.artifact_type.as_deref()).collect();
        assert_eq!(kinds, [Some("test/kind")]);
        assert!(double.manifest(REPOSITORY, &listed[0].manifest.digest.to_string()).is_some());
    }
}
