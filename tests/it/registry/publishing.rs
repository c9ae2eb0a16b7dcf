//! Pushing, as a person and as an agent do it.

use std::fs;

use mynah_contracts::Sha256Digest;
use mynah_testkit::registry::{Fault, Guard, Mishap, Registry, Stage};
use serde_json::Value;

use super::{ENV, Workplace};
use crate::given::{Ran, binary, runtime};

fn guarded() -> Registry {
    Registry::start(Guard::basic("ada", "pass-word-1815")).unwrap()
}

#[test]
fn modules_json_names_what_was_pushed_and_a_new_model_moves_alone() {
    let registry = guarded();
    let work = Workplace::new();
    let place = format!("{}/factory", registry.host());
    let ran = work.build(&["--push", &place], &ENV).well();
    assert!(ran.stdout.contains("pushed "), "{}", ran.stdout);
    let module = work.module();
    let name = "factory/mynah-runtime";
    assert_eq!(module["repository"], format!("{}/{name}", registry.host()));
    let (kind, index) = registry.manifest(name, module["tag"].as_str().unwrap()).unwrap();
    assert_eq!(kind, "application/vnd.oci.image.index.v1+json");
    assert_eq!(module["index"]["digest"], Sha256Digest::of(&index).to_string());

    // The same again: looked at, not sent.
    registry.take_seen();
    let modules = fs::read(work.path("images/modules.json")).unwrap();
    let ran = work.build(&["--push", &place], &ENV).well();
    assert!(ran.stdout.contains("the registry had everything"), "{}", ran.stdout);
    assert_eq!(fs::read(work.path("images/modules.json")).unwrap(), modules);
    assert_eq!(registry.take_seen().iter().map(|seen| seen.body_bytes).sum::<usize>(), 0);

    // Another model: its layer, and 20 KB at most for all that names it.
    work.retrain();
    work.build(&["--push", &place], &ENV).well();
    let after = work.module();
    assert_ne!(after["index"]["digest"], module["index"]["digest"]);
    let layers = |module: &Value| module["platforms"][0]["layers"].as_array().unwrap().clone();
    let fresh: Vec<Value> =
        layers(&after).into_iter().filter(|layer| !layers(&module).contains(layer)).collect();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    let sent: usize = registry.take_seen().iter().map(|seen| seen.body_bytes).sum();
    let layer = fresh[0]["size"].as_u64().unwrap() as usize;
    assert!(sent <= layer + 20_000, "{sent} bytes were sent for a layer of {layer}");
}

#[test]
fn software_statement_and_signature_are_attached_once() {
    for registry in
        [guarded(), Registry::start_without_referrers(Guard::basic("ada", "pass-word-1815")).unwrap()]
    {
        let work = Workplace::new();
        let key = super::peers::signing_key(&work.path("key.pem"));
        let place = registry.host();
        work.build(&["--push", &place, "--tag", "v7", "--sign-key", key.to_str().unwrap()], &ENV).well();
        let name = "mynah-runtime";
        let (_, index) = registry.manifest(name, "v7").unwrap();
        let (digest, index) = (Sha256Digest::of(&index), serde_json::from_slice::<Value>(&index).unwrap());
        let (_, signature) = registry.manifest(name, &format!("sha256-{}.sig", digest.hex())).unwrap();
        let signature: Value = serde_json::from_slice(&signature).unwrap();
        let layer = &signature["layers"][0];
        let text = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
        let payload = registry.blob(name, layer["digest"].as_str().unwrap().parse().unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&payload).contains(&digest.to_string()));
        super::peers::openssl_accepts(&work.path("key.pub"), &payload, text, work.root.path());

        let attached = |subject: &str, kind: &str| -> Value {
            let list = super::peers::referrers(&registry, name, subject);
            let of_kind: Vec<&Value> = list.iter().filter(|one| one["artifactType"] == kind).collect();
            assert_eq!(of_kind.len(), 1, "{list:?}");
            let (_, manifest) = registry.manifest(name, of_kind[0]["digest"].as_str().unwrap()).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["subject"]["digest"], subject);
            let blob = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
            serde_json::from_slice(&registry.blob(name, blob).unwrap()).unwrap()
        };
        let statement = attached(&digest.to_string(), "application/vnd.in-toto+json");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], digest.hex());
        let model = Sha256Digest::of(&fs::read(work.path("model/model.onnx")).unwrap());
        let inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        assert!(inputs.iter().any(|one| one["name"] == "model" && one["digest"]["sha256"] == model.hex()));
        let manifest = index["manifests"][0]["digest"].as_str().unwrap();
        let software = attached(manifest, "application/vnd.cyclonedx+json");
        let program = Sha256Digest::of(&fs::read(runtime()).unwrap());
        assert_eq!(software["components"][0]["hashes"][0]["content"], program.hex());
        assert!(software["components"].as_array().unwrap().len() > 20);

        // Once more with the same key: nothing is added.
        registry.take_seen();
        work.build(&["--push", &place, "--tag", "v7", "--sign-key", key.to_str().unwrap()], &ENV).well();
        assert_eq!(registry.take_seen().iter().map(|seen| seen.body_bytes).sum::<usize>(), 0);
    }
}

#[test]
fn an_agent_s_service_connection_signs_in_and_the_password_is_never_shown() {
    let registry = guarded();
    let work = Workplace::new();
    let host = registry.host();
    let id = "0f0e0d0c-1111-2222-3333-444455556666";
    let ran: Ran = binary("build-modules")
        .current_dir(work.root.path())
        .env("HOME", work.root.path())
        .env("TF_BUILD", "True")
        .env("INPUT_MODEL", "model")
        .env("INPUT_OUT", "images")
        .env("INPUT_RUNTIME", runtime())
        .env("INPUT_PUSH", format!("{host}/factory"))
        .env("INPUT_REGISTRYCONNECTION", id)
        .env(format!("ENDPOINT_AUTH_SCHEME_{id}"), "UsernamePassword")
        .env(format!("ENDPOINT_AUTH_PARAMETER_{id}_REGISTRY"), format!("http://{host}"))
        .env(format!("ENDPOINT_AUTH_PARAMETER_{id}_USERNAME"), "ada")
        .env(format!("ENDPOINT_AUTH_PARAMETER_{id}_PASSWORD"), "pass-word-1815")
        .output()
        .unwrap()
        .into();
    let ran = ran.well();
    let told = ran.stdout.lines().filter(|line| line.contains("pass-word-1815")).collect::<Vec<_>>();
    assert_eq!(told, ["##vso[task.setsecret]pass-word-1815"]);
    let image =
        format!("##vso[task.setvariable variable=image;isOutput=true]{host}/factory/mynah-runtime@sha256:");
    assert!(ran.stdout.contains(&image), "{}", ran.stdout);
    assert_eq!(
        registry.tags("factory/mynah-runtime").iter().filter(|tag| !tag.starts_with("sha256-")).count(),
        1
    );
}

#[test]
fn what_docker_login_kept_is_used_also_by_a_helper() {
    let registry = guarded();
    let place = format!("{}/x", registry.host());
    let work = Workplace::new();
    fs::create_dir(work.path(".docker")).unwrap();
    let config = |text: String| fs::write(work.path(".docker/config.json"), text).unwrap();
    // ada:pass-word-1815
    config(format!(r#"{{"auths":{{"{}":{{"auth":"YWRhOnBhc3Mtd29yZC0xODE1"}}}}}}"#, registry.host()));
    work.build(&["--push", &place], &[]).well();

    let program = work.path("docker-credential-tested");
    let script = format!(
        "#!/bin/sh\nserver=$(cat)\n[ \"$1 $server\" = 'get {}' ] || exit 1\necho '{{\"Username\":\"ada\",\"Secret\":\"pass-word-1815\"}}'\n",
        registry.host()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    config(r#"{"credsStore":"tested"}"#.into());
    let path = format!("{}:{}", work.root.path().display(), std::env::var_os("PATH").unwrap().display());
    work.build(&["--push", &place, "--tag", "helped"], &[("PATH", &path)]).well();
    assert!(registry.tags("x/mynah-runtime").contains(&"helped".to_owned()));
}

#[test]
fn a_refusal_is_told_with_the_exit_code_of_a_service_and_leaves_the_earlier_modules() {
    let registry = guarded();
    let work = Workplace::new();
    let place = format!("{}/x", registry.host());
    work.build(&["--push", &place], &ENV).well();
    let modules = fs::read(work.path("images/modules.json")).unwrap();
    work.retrain();
    registry.fail([Fault::always(
        Stage::StartUpload,
        Mishap::refusal(403, "DENIED", "requested access is denied"),
    )]);
    work.build(&["--push", &place], &ENV).ill(3, &["403 DENIED", "requested access is denied", "AcrPush"]);
    assert_eq!(fs::read(work.path("images/modules.json")).unwrap(), modules);
    work.build(&["--push", &place], &[]).ill(3, &["no credentials were found", "docker login"]);
}

#[test]
fn places_tags_and_keys_that_are_none_are_bad_input() {
    let work = Workplace::new();
    for (arguments, words) in [
        (&["--push", "no registry"][..], "--push"),
        (&["--push", "r.example/UPPER"], "--push"),
        (&["--push", "r.example/x", "--tag", "a b"], "--tag"),
        (&["--sign-key", "key.pem"], "`--push` beside it"),
        (&["--push", "127.0.0.1:1/x", "--sign-key", "none.pem"], "none.pem"),
    ] {
        work.build(arguments, &[]).ill(2, &[words]);
    }
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    fs::write(work.path("bad.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    work.build(&["--push", &format!("{nobody}/x"), "--sign-key", "bad.pem"], &[])
        .ill(2, &["bad.pem", "openssl"]);
}

#[test]
fn an_archive_is_the_same_twice_and_has_what_docker_looks_for() {
    let work = Workplace::new();
    let built = |name: &str| {
        work.build(&["--output-archive", name, "--tag", "v1"], &[]).well();
        fs::read(work.path(name)).unwrap()
    };
    let archive = built("one.tar");
    assert!(archive == built("two.tar"), "two archives of the same image differ");
    let mut names = Vec::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if name == "manifest.json" {
            let list: Value = serde_json::from_reader(&mut entry).unwrap();
            assert_eq!(list[0]["RepoTags"][0], "localhost/mynah/runtime:v1");
            for part in list[0]["Layers"].as_array().unwrap().iter().chain([&list[0]["Config"]]) {
                assert!(names.contains(&part.as_str().unwrap().to_owned()), "{part} is not in the archive");
            }
        }
        names.push(name);
    }
    assert!(
        names.contains(&"oci-layout".to_owned()) && names.contains(&"index.json".to_owned()),
        "{names:?}"
    );
}
