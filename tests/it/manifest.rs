//! `generate-manifest` and `mynah manifest diff`, as people and agents run them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::given::{Ran, binary, run, run_as_agent};

/// A template with a variable, a comment, a byte order mark and Windows line ends.
const TEMPLATE: &str = "\u{FEFF}{ // what the scanner needs\r\n\
  \"$schema-template\": \"4.0.0\", \"modulesContent\": {\r\n\
  \"$edgeAgent\": { \"properties.desired\": { \"schemaVersion\": \"1.1\",\r\n\
    \"runtime\": { \"type\": \"docker\", \"settings\": { \"registryCredentials\": { \"mine\": {\r\n\
      \"username\": \"$CR_USER\", \"password\": \"${CR_PASSWORD}\", \"address\": \"registry.example\" } } } },\r\n\
    \"systemModules\": {\r\n\
      \"edgeAgent\": { \"type\": \"docker\", \"settings\": { \"image\": \"a:1\" } },\r\n\
      \"edgeHub\": { \"type\": \"docker\", \"status\": \"running\", \"restartPolicy\": \"always\",\r\n\
        \"settings\": { \"image\": \"h:1\" } } },\r\n\
    \"modules\": { \"scanner\": { \"type\": \"docker\", \"status\": \"running\", \"restartPolicy\": \"always\",\r\n\
      \"env\": { \"LEVEL\": { \"value\": \"info\" } },\r\n\
      \"settings\": { \"image\": \"registry.example/s:1\", \"createOptions\": { \"Cmd\": [\"--n\", \"$N\"] } } } } } },\r\n\
  \"$edgeHub\": { \"properties.desired\": { \"schemaVersion\": \"1.1\",\r\n\
    \"routes\": { \"all\": \"FROM /* INTO $upstream\" } } } } }\r\n";

fn generate(folder: &Path, more: &[&str], env: &[(&str, &str)]) -> Ran {
    let place = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("template.json"), TEMPLATE).unwrap();
    let mut command = binary("generate-manifest");
    command.args(["--template", &place("template.json"), "--out", &place("deployment.json")]);
    command.args(more).envs(env.iter().copied()).current_dir(folder).output().unwrap().into()
}

const VARIABLES: [(&str, &str); 3] = [("CR_USER", "u\"\\"), ("CR_PASSWORD", "p"), ("N", "1")];

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("deployment.json")).unwrap()).unwrap()
}

#[test]
fn variables_come_from_the_environment_and_files_win() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prod.env"), "# production\nN='2'\n").unwrap();
    generate(folder.path(), &["--env", "prod.env"], &VARIABLES).well();
    let document = manifest(folder.path());
    let agent = &document["modulesContent"]["$edgeAgent"]["properties.desired"];
    let credentials = &agent["runtime"]["settings"]["registryCredentials"]["mine"];
    assert_eq!(credentials["username"], "u\"\\");
    assert_eq!(agent["modules"]["scanner"]["settings"]["createOptions"], r#"{"Cmd":["--n","2"]}"#);
    let route = &document["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]["all"];
    assert_eq!(route, "FROM /* INTO $upstream");
}

#[test]
fn a_pipelines_secret_is_filled_in_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    fs::write(folder.path().join("template.json"), TEMPLATE).unwrap();
    let mut command = binary("generate-manifest");
    command.env("TF_BUILD", "True").env("INPUT_TEMPLATE", place("template.json"));
    command.env("INPUT_OUT", place("deployment.json")).env("SECRET_CR_PASSWORD", "hunter22");
    let ran = Ran::from(command.env("CR_USER", "u").env("N", "1").output().unwrap()).well();
    // The one line that holds it asks the agent to mask it.
    let mut said = ran.stdout.lines().chain(ran.stderr.lines());
    assert!(said.all(|line| line.starts_with("##vso[task.setsecret") || !line.contains("hunter22")));
    assert!(fs::read_to_string(folder.path().join("deployment.json")).unwrap().contains("hunter22"));
}

#[test]
fn what_is_unknown_leaves_the_earlier_manifest() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &[], &VARIABLES).well();
    let before = manifest(folder.path());
    let names = [("CR_USERS", "u"), ("CR_PASSWORD", "p"), ("N", "1")];
    generate(folder.path(), &[], &names).ill(2, &["`$CR_USER` in line 5", "there is `$CR_USERS`", "hint:"]);
    fs::write(folder.path().join("bad.env"), "CR_USER=u\nhunter2\n").unwrap();
    let ran =
        generate(folder.path(), &["--env", "bad.env"], &VARIABLES).ill(2, &["bad.env", "line 2 has no `=`"]);
    assert!(!ran.stderr.contains("hunter2"));
    assert_eq!(manifest(folder.path()), before);
}

#[test]
fn overlays_change_twins_routes_and_environment_and_circles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write =
        |name: &str, document: Value| fs::write(folder.path().join(name), document.to_string()).unwrap();
    let agent =
        json!({"properties.desired": {"modules": {"scanner": {"env": {"LEVEL": {"value": "debug"}}}}}});
    write("base.json", json!({"modulesContent": {"$edgeAgent": agent}}));
    let hub = json!({"properties.desired": {"routes": {"all": null, "own": "FROM /a INTO $upstream"}}});
    let twin = json!({"properties.desired": {"threshold": 0.9}});
    write(
        "prod.json",
        json!({"$extends": "base.json", "modulesContent": {"$edgeHub": hub, "scanner": twin}}),
    );
    generate(folder.path(), &["--overlay", "prod.json"], &VARIABLES).well();
    let content = &manifest(folder.path())["modulesContent"];
    assert_eq!(content["scanner"]["properties.desired"]["threshold"], 0.9);
    assert_eq!(content["$edgeHub"]["properties.desired"]["routes"], json!({"own": "FROM /a INTO $upstream"}));
    let scanner = &content["$edgeAgent"]["properties.desired"]["modules"]["scanner"];
    assert_eq!(scanner["env"]["LEVEL"]["value"], "debug");
    write("base.json", json!({"$extends": "prod.json"}));
    generate(folder.path(), &["--overlay", "prod.json"], &VARIABLES).ill(2, &["in a circle", "hint:"]);
}

#[test]
fn strict_stops_at_a_finding_and_allow_passes_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = json!({"createOptions": {"HostConfig": {"Privileged": true}}});
    let agent = json!({"properties.desired": {"modules": {"scanner": {"settings": options}}}});
    let overlay = json!({"modulesContent": {"$edgeAgent": agent}});
    fs::write(folder.path().join("o.json"), overlay.to_string()).unwrap();
    let ran = generate(folder.path(), &["--overlay", "o.json"], &VARIABLES).well();
    assert!(ran.stderr.contains("HostConfig/Privileged` gives the container every right"), "{}", ran.stderr);
    let strict = ["--overlay", "o.json", "--strict"];
    generate(folder.path(), &strict, &VARIABLES).ill(2, &["(privileged)", "--allow"]);
    generate(folder.path(), &[&strict[..], &["--allow", "privileged"]].concat(), &VARIABLES).well();
    generate(folder.path(), &["--allow", "everything"], &VARIABLES).ill(2, &["`everything`", "host-bind"]);
}

#[test]
fn diff_ends_as_diff_does() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &[], &VARIABLES).well();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (old, new) = (place("deployment.json"), place("new.json"));
    fs::copy(&old, &new).unwrap();
    let same = run("mynah", ["manifest", "diff", &old, &new]).well();
    assert_eq!(same.stdout, "the manifests say the same\n");
    let changed = fs::read_to_string(&old).unwrap().replace("registry.example/s:1", "registry.example/s:2");
    fs::write(&new, changed).unwrap();
    let differ = run("mynah", ["manifest", "diff", &old, &new]);
    assert_eq!(differ.code, Some(1), "{}", differ.stderr);
    assert!(differ.stdout.contains("module scanner") && differ.stdout.contains("s:1 → registry.example/s:2"));
    let told = run("mynah", ["manifest", "diff", "--json", &old, &new]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["changes"][0]["path"], "/settings/image");
    run("mynah", ["manifest", "diff", &old, &place("gone.json")]).ill(2, &["gone.json"]);
}

#[test]
fn kubernetes_objects_come_as_yaml_or_json_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let out = place("objects.yaml");
    let more = ["--format", "kubernetes", "--namespace", "shop", "--out", out.as_str()];
    let mut command = binary("generate-manifest");
    fs::write(folder.path().join("template.json"), TEMPLATE).unwrap();
    command.args(["--template", &place("template.json")]).args(more).envs(VARIABLES);
    let ran = Ran::from(command.env("CR_PASSWORD", "hunter22").output().unwrap()).well();
    assert!(ran.stderr.contains("the Secret `mine` of the type docker-registry"), "{}", ran.stderr);
    let yaml = fs::read_to_string(&out).unwrap();
    assert!(
        yaml.contains("kind: Deployment") && yaml.contains("namespace: shop") && !yaml.contains("hunter22")
    );
    let bad = [("template", place("template.json")), ("out", out), ("format", "kubernetes".into())];
    for (input, value, says) in [
        ("namespace", "A b", "a DNS label"),
        ("nodeLabel", "x", "`<key>=<value>`"),
        ("probe", "m=x/", "`<module>=<port>/<path>`"),
        ("deviceResource", "/dev/video0=video", "`<device>=<resource>`"),
        ("deviceResource", "video0=akri.sh/camera", "`<device>=<resource>`"),
        ("deviceResource", "/dev/a=akri.sh/b,/dev/a=akri.sh/c", "a device once"),
    ] {
        let mut inputs: Vec<(&str, &str)> = bad.iter().map(|(name, value)| (*name, value.as_str())).collect();
        inputs.push((input, value));
        let ran = run_as_agent("generate-manifest", &inputs);
        assert_eq!(ran.code, Some(2), "{}", ran.stdout);
        assert!(ran.stdout.contains(says), "{}", ran.stdout);
    }
    let nobodys = ["--format", "kubernetes", "--device-resource", "/dev/a=akri.sh/b"];
    generate(folder.path(), &nobodys, &VARIABLES).ill(2, &["asks for the device `/dev/a`", "leave out"]);
}
