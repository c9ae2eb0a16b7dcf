//! From templates to manifests, good and bad.

use mynah_contracts::{
    Descriptor, Diagnosis as _, Module, PlatformImage, RelativePath, SchemaVersion, Sha256Digest, Tool,
    error_chain,
};
use serde_json::json;

use super::*;

pub(super) fn modules() -> ModuleSet {
    let descriptor = |text: &str| Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        digest: Sha256Digest::of(text.as_bytes()),
        size: 1,
    };
    let image = |platform: Platform| PlatformImage {
        platform,
        manifest: descriptor(platform.as_str()),
        layers: Vec::new(),
    };
    ModuleSet {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        modules: vec![Module {
            name: "mynah-runtime".into(),
            repository: "localhost/mynah/runtime".into(),
            tag: "1-abc".into(),
            layout: RelativePath::new("mynah-runtime").unwrap(),
            index: descriptor("index"),
            platforms: vec![image(Platform::LinuxAmd64), image(Platform::LinuxArmV7)],
            model: None,
        }],
    }
}

fn pinned(what: &str) -> String {
    format!("localhost/mynah/runtime@{}", Sha256Digest::of(what.as_bytes()))
}

fn parsed(generated: &Generated) -> Value {
    serde_json::from_slice(&generated.json).unwrap()
}

/// The default template with one value replaced.
fn template(pointer: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_str(DEFAULT_TEMPLATE).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.replace("~1", "/"), value);
    serde_json::to_vec_pretty(&document).unwrap()
}

const AGENT: &str = "/modulesContent/$edgeAgent/properties.desired";
const HUB: &str = "/modulesContent/$edgeHub/properties.desired";

fn fails(template: &[u8]) -> String {
    generate(template, &modules(), None).unwrap_err().to_string()
}

#[test]
fn the_default_template_pins_the_image_and_gives_it_camera_and_sound() {
    let generated = generate(DEFAULT_TEMPLATE.as_bytes(), &modules(), None).unwrap();
    assert!(generated.warnings.is_empty());
    let document = parsed(&generated);
    assert_eq!(document.get("$schema-template"), None);
    let settings = document.pointer(&format!("{AGENT}/modules/mynah-runtime/settings")).unwrap();
    assert_eq!(settings["image"], pinned("index"));
    let options: Value = serde_json::from_str(settings["createOptions"].as_str().unwrap()).unwrap();
    let devices: Vec<_> = options["HostConfig"]["Devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["PathOnHost"].as_str().unwrap())
        .collect();
    assert_eq!(devices, ["/dev/video0", "/dev/snd"]);
    assert!(generated.json.ends_with(b"}\n") && !generated.json.contains(&b'\r'));
    let again = generate(DEFAULT_TEMPLATE.as_bytes(), &modules(), None).unwrap();
    assert_eq!(again, generated);
    let read = Deployment::read(&generated.json).unwrap();
    let module = DeploymentModule { name: "mynah-runtime".into(), image: pinned("index"), running: true };
    assert_eq!(read.modules, [module]);
}

#[test]
fn a_platform_chooses_its_own_manifest() {
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/image");
    let image = |template: &[u8], platform| {
        parsed(&generate(template, &modules(), platform).unwrap()).pointer(&pointer).unwrap().clone()
    };
    assert_eq!(image(DEFAULT_TEMPLATE.as_bytes(), Some(Platform::LinuxArmV7)), pinned("linux/arm/v7"));
    for spelling in ["linux/arm/v7", "arm32v7"] {
        let template = template(&pointer, json!(format!("${{MODULES.mynah-runtime.{spelling}}}")));
        assert_eq!(image(&template, None), pinned("linux/arm/v7"));
    }
}

#[test]
fn a_platform_that_was_not_built_is_told_with_those_that_were() {
    let error = generate(DEFAULT_TEMPLATE.as_bytes(), &modules(), Some(Platform::LinuxArm64)).unwrap_err();
    let says = "the module `mynah-runtime` has no image for linux/arm64, only linux/amd64, linux/arm/v7";
    assert_eq!(error.to_string(), says);
}

#[test]
fn unknown_placeholders_are_told_with_line_and_what_there_is() {
    let source = DEFAULT_TEMPLATE.replace("${MODULES.mynah-runtime}", "${MODULES.MynahRuntime}");
    let line = source.lines().position(|line| line.contains("${MODULES.MynahRuntime}")).unwrap() + 1;
    let says = fails(source.as_bytes());
    assert!(says.contains(&format!("`${{MODULES.MynahRuntime}}` in line {line}")), "{says}");
    assert!(says.contains("there is `${MODULES.mynah-runtime}`"), "{says}");
    for bad in [
        "${MODULES.mynah-runtime.debug}",
        "${MODULES.mynah-runtime.arm64}",
        "${PASSWORD}",
        "${MODULES.mynah-runtime",
    ] {
        let says = fails(&template(&format!("{AGENT}/modules/mynah-runtime/settings/image"), json!(bad)));
        assert!(says.contains(bad), "{says}");
    }
}

#[test]
fn names_of_iot_edge_are_no_placeholders() {
    let generated = generate(DEFAULT_TEMPLATE.as_bytes(), &modules(), None).unwrap();
    let route = parsed(&generated).pointer(&format!("{HUB}/routes/mynah-runtime")).unwrap().clone();
    assert_eq!(route, "FROM /messages/modules/mynah-runtime/outputs/* INTO $upstream");
}

#[test]
fn a_replaced_value_cannot_break_the_document() {
    let mut modules = modules();
    modules.modules[0].repository = "evil\"},\"x\\".into();
    let generated = generate(DEFAULT_TEMPLATE.as_bytes(), &modules, None).unwrap();
    let image =
        parsed(&generated).pointer(&format!("{AGENT}/modules/mynah-runtime/settings/image")).unwrap().clone();
    assert!(image.as_str().unwrap().starts_with("evil\"},\"x\\@sha256:"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_welcome() {
    let windows = format!("\u{FEFF}{}", DEFAULT_TEMPLATE.replace('\n', "\r\n"));
    let expected = generate(DEFAULT_TEMPLATE.as_bytes(), &modules(), None).unwrap();
    assert_eq!(generate(windows.as_bytes(), &modules(), None).unwrap(), expected);
}

#[test]
fn every_rule_is_told_with_its_place() {
    let module = format!("{AGENT}/modules/mynah-runtime");
    for (pointer, value, says) in [
        (format!("{module}/type"), json!("podman"), "allowed is `docker`"),
        (format!("{module}/status"), json!("runing"), "allowed is `running`, `stopped`"),
        (format!("{module}/restartPolicy"), json!(null), "allowed is `never`, `on-failure`"),
        (format!("{module}/imagePullPolicy"), json!("always"), "allowed is `on-create`, `never`"),
        (format!("{module}/startupOrder"), json!(-1), "whole number from 0 to 4294967295"),
        (format!("{module}/starupOrder"), json!(1), "has the unknown key `starupOrder`"),
        (format!("{module}/env"), json!({"A.B": {"value": 1}}), "no name of a variable"),
        (format!("{module}/env"), json!({"A": {"value": []}}), "text, a number or true/false is needed"),
        (format!("{module}/env"), json!({"A": "1"}), "is text, an object is needed"),
        (format!("{module}/settings"), json!({}), "lacks `image`"),
        (format!("{module}/settings/image"), json!(""), "empty"),
        (format!("{AGENT}/modules/bad name"), json!({}), "is no module name"),
        (format!("{AGENT}/schemaVersion"), json!("2.0"), "allowed is `1.0`, `1.1`"),
        (format!("{AGENT}/schemaVersion"), json!("1.0"), "needs the edgeAgent's schemaVersion 1.1"),
        (format!("{AGENT}/systemModules"), json!({}), "lacks `edgeHub`"),
        (format!("{AGENT}/runtime/settings/registryCredentials"), json!({"a.b": {}}), "is no name"),
        (
            format!("{AGENT}/runtime/settings/registryCredentials"),
            json!({"a": {"username": 1, "password": "", "address": " "}}),
            "white space",
        ),
        (format!("{HUB}/routes"), json!({"a b": "FROM /* INTO $upstream"}), "is no name"),
        (format!("{HUB}/routes"), json!({"a": ""}), "is an empty route"),
        (format!("{HUB}/routes"), json!({"a": {"route": "x", "priority": 10}}), "whole number from 0 to 9"),
        (
            format!("{HUB}/storeAndForwardConfiguration"),
            json!({"timeToLiveSecs": "1"}),
            "whole number of seconds",
        ),
        (format!("{HUB}/mqttBroker"), json!({}), "schemaVersion 1.2"),
        ("/modulesContent/$edgeHub".into(), json!([]), "is a list, an object is needed"),
        ("/modulesContent/twin".into(), json!({"desired": {}}), "lacks `properties.desired`"),
        ("/extra".into(), json!(1), "has the unknown key `extra`"),
    ] {
        let text = fails(&template(&pointer, value.clone()));
        assert!(text.contains(says), "{pointer} = {value}: {text}");
    }
}

#[test]
fn what_is_no_template_is_refused_as_bad_input() {
    for (bad, says) in [
        ("", "not valid JSON"),
        ("[]", "an object is needed"),
        ("{}", "lacks `modulesContent`"),
        (r#"{"content": {}}"#, "layered deployment"),
        (r#"{"modulesContent": {}, "modulesContent": {}}"#, "not valid JSON"),
    ] {
        let error = generate(bad.as_bytes(), &modules(), None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), mynah_contracts::FaultKind::BadInput);
    }
}

#[test]
fn many_pieces_of_create_options_are_warned_about() {
    let options = json!({"Env": ["x".repeat(5000)]});
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/createOptions");
    let generated = generate(&template(&pointer, options.clone()), &modules(), None).unwrap();
    assert_eq!(generated.warnings.len(), 1);
    let settings =
        parsed(&generated).pointer(&format!("{AGENT}/modules/mynah-runtime/settings")).unwrap().clone();
    let text: String = settings
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| key.starts_with("createOptions"))
        .map(|(_, piece)| piece.as_str().unwrap())
        .collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), options);
}

/// The published schema and its examples, where they are at hand.
#[test]
fn examples_in_the_wild_are_valid_here_too() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts/iotedge/examples");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no folder ../shared/contracts/iotedge/examples");
        return;
    };
    let mut refused = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Ok((_, mut document)) = json::read(&bytes) else { panic!("{}", path.display()) };
        document.as_object_mut().unwrap().remove("$schema-template");
        let mut warnings = Vec::new();
        create_options::normalise(&mut document, &mut warnings)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        refused.extend(schema::check(&document).err().map(|error| error_chain(&error)));
    }
    // One example sets a proxy beside `env` instead of in it: the published schema of templates lets that pass,
    // the published schema of manifests, which is what a hub is given, does not.
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(
        refused[0].contains("systemModules/edgeAgent` has the unknown key `https_proxy`"),
        "{refused:#?}"
    );
}
