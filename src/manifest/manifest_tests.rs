//! From templates to manifests, good and bad.

use mynah_contracts::iot_edge::EdgeDeployment;
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

fn filled(template: &[u8], platform: Option<Platform>) -> Result<Generated, ManifestError> {
    let modules = modules();
    generate(template, &Sources { platform, ..Sources::new(&modules) })
}

const AGENT: &str = "/modulesContent/$edgeAgent/properties.desired";
const HUB: &str = "/modulesContent/$edgeHub/properties.desired";

fn fails(template: &[u8]) -> String {
    filled(template, None).unwrap_err().to_string()
}

#[test]
fn the_default_template_pins_the_image_and_gives_it_camera_and_sound() {
    let generated = filled(DEFAULT_TEMPLATE.as_bytes(), None).unwrap();
    assert_eq!((&generated.warnings, &generated.findings), (&Vec::new(), &Vec::new()));
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
    // It speaks with Edge Hub, and what waits for it outlives the container, in a folder the module may write to.
    let env = |name: &str| {
        document.pointer(&format!("{AGENT}/modules/mynah-runtime/env/{name}/value")).unwrap().clone()
    };
    assert_eq!((env("MYNAH_HUB"), env("MYNAH_SOURCE")), (json!("edge"), json!("v4l2:")));
    let state = crate::oci::runtime_image::STATE;
    assert_eq!(options["HostConfig"]["Binds"], json!([format!("mynah-state:{state}")]));
    assert_eq!(env("MYNAH_SPOOL"), json!(format!("{state}/spool")));
    assert!(generated.json.ends_with(b"}\n") && !generated.json.contains(&b'\r'));
    let again = filled(DEFAULT_TEMPLATE.as_bytes(), None).unwrap();
    assert_eq!(again, generated);
    let read = Deployment::read(&generated.json).unwrap();
    let module = DeploymentModule { name: "mynah-runtime".into(), image: pinned("index"), running: true };
    assert_eq!(read.modules, [module]);
}

#[test]
fn a_platform_chooses_its_own_manifest() {
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/image");
    let image = |template: &[u8], platform| {
        parsed(&filled(template, platform).unwrap()).pointer(&pointer).unwrap().clone()
    };
    assert_eq!(image(DEFAULT_TEMPLATE.as_bytes(), Some(Platform::LinuxArmV7)), pinned("linux/arm/v7"));
    for spelling in ["linux/arm/v7", "arm32v7"] {
        let template = template(&pointer, json!(format!("${{MODULES.mynah-runtime.{spelling}}}")));
        assert_eq!(image(&template, None), pinned("linux/arm/v7"));
    }
}

#[test]
fn a_platform_that_was_not_built_is_told_with_those_that_were() {
    let error = filled(DEFAULT_TEMPLATE.as_bytes(), Some(Platform::LinuxArm64)).unwrap_err();
    let says = "has no image for linux/arm64, only linux/amd64, linux/arm/v7";
    assert!(error.to_string().contains(says), "{error}");
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
    let generated = filled(DEFAULT_TEMPLATE.as_bytes(), None).unwrap();
    let route = parsed(&generated).pointer(&format!("{HUB}/routes/mynah-runtime")).unwrap().clone();
    assert_eq!(route, "FROM /messages/modules/mynah-runtime/outputs/* INTO $upstream");
}

#[test]
fn a_replaced_value_cannot_break_the_document() {
    let mut modules = modules();
    modules.modules[0].repository = "evil\"},\"x\\".into();
    let generated = generate(DEFAULT_TEMPLATE.as_bytes(), &Sources::new(&modules)).unwrap();
    let image =
        parsed(&generated).pointer(&format!("{AGENT}/modules/mynah-runtime/settings/image")).unwrap().clone();
    assert!(image.as_str().unwrap().starts_with("evil\"},\"x\\@sha256:"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_welcome() {
    let windows = format!("\u{FEFF}{}", DEFAULT_TEMPLATE.replace('\n', "\r\n"));
    let expected = filled(DEFAULT_TEMPLATE.as_bytes(), None).unwrap();
    assert_eq!(filled(windows.as_bytes(), None).unwrap(), expected);
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
        (r#"{"content": {}}"#, "lacks `modulesContent`"),
        (r#"{"modulesContent": {}, "modulesContent": {}}"#, "not valid JSON"),
    ] {
        let error = filled(bad.as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), mynah_contracts::FaultKind::BadInput);
    }
}

#[test]
fn many_pieces_of_create_options_are_warned_about() {
    let options = json!({"Env": ["x".repeat(5000)]});
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/createOptions");
    let generated = filled(&template(&pointer, options.clone()), None).unwrap();
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
        let Ok(mut document) = json::read(&bytes) else { panic!("{}", path.display()) };
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

const LAYERED: &str = r#"{
  // A layer: the scanner on top of whatever base the devices run.
  "content": { "modulesContent": {
    "$edgeAgent": {
      "properties.desired.modules.scanner": {
        "type": "docker", "status": "running", "restartPolicy": "always",
        "settings": { "image": "${MODULES.mynah-runtime.amd64}", "createOptions": { "Env": ["A=$A"] } }
      },
      "properties.desired.modules.other.env.LEVEL": { "value": "debug" }
    },
    "$edgeHub": { "properties.desired.routes.scans": "FROM /messages/modules/scanner/* INTO $upstream" },
    "scanner": { "properties.desired.threshold": 0.7 }
  } }
}"#;

#[test]
fn a_layered_template_is_filled_in_and_stays_layered() {
    let modules = modules();
    let sources = Sources { variables: [("A", "\"1")].into_iter().collect(), ..Sources::new(&modules) };
    let generated = generate(LAYERED.as_bytes(), &sources).unwrap();
    assert!(generated.layered);
    let agent = &parsed(&generated)["content"]["modulesContent"]["$edgeAgent"];
    let settings = &agent["properties.desired.modules.scanner"]["settings"];
    assert_eq!(settings["image"], pinned("linux/amd64"));
    assert_eq!(settings["createOptions"], "{\"Env\":[\"A=\\\"1\"]}");
    assert!(matches!(Deployment::read(&generated.json), Err(ManifestError::Layered)));
}

#[test]
fn a_layer_keeps_the_rules_too() {
    for (from, to, says) in [
        ("running", "runing", "allowed is `running`, `stopped`"),
        ("modules.scanner\"", "modules.bad name\"", "is no module name"),
        (
            "properties.desired.routes.scans",
            "properties.desired.route.scans",
            "a path that IoT Edge does not know",
        ),
        ("{ \"value\": \"debug\" }", "\"debug\"", "an object is needed"),
        ("properties.desired.threshold", "threshold", "is no `properties.desired`"),
        ("properties.desired.modules.other.env.LEVEL", "properties.desired..x", "an empty part"),
    ] {
        let modules = modules();
        let sources = Sources { variables: [("A", "1")].into_iter().collect(), ..Sources::new(&modules) };
        let text = LAYERED.replacen(from, to, 1);
        let error = generate(text.as_bytes(), &sources).unwrap_err().to_string();
        assert!(error.contains(says), "{from} → {to}: {error}");
    }
}

#[test]
fn the_lint_says_what_it_found_and_passes_over_what_is_allowed() {
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/createOptions");
    let options = json!({"HostConfig": {"Privileged": true, "Binds": ["/etc:/host"]}});
    let modules = modules();
    let generated = generate(&template(&pointer, options.clone()), &Sources::new(&modules)).unwrap();
    let rules: Vec<_> = generated.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::Privileged, Rule::HostBind]);
    let sources = Sources { allowed: vec![Rule::HostBind], ..Sources::new(&modules) };
    let allowed = generate(&template(&pointer, options), &sources).unwrap();
    assert_eq!(allowed.findings.len(), 1);
    assert_eq!(allowed.json, generated.json);
}

#[test]
fn two_megabytes_of_options_and_deep_nesting_are_refused_in_words() {
    let pointer = format!("{AGENT}/modules/mynah-runtime/settings/createOptions");
    let says = fails(&template(&pointer, json!({"Env": ["x".repeat(2 << 20)]})));
    assert!(says.contains("51200 are allowed") && says.len() < 500, "{}", says.len());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(filled(deep.as_bytes(), None), Err(ManifestError::Json(_))));
}

/// One change to a valid manifest: the rules and the types must say the same of the result.
fn agree(document: &Value) -> Result<(), String> {
    let rules = schema::check(document);
    let types = serde_json::from_value::<EdgeDeployment>(document.clone())
        .map_err(|error| error.to_string())
        .and_then(|deployment| mynah_contracts::Artifact::validate(&deployment));
    match (rules, types) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => Ok(()),
        (Ok(()), Err(types)) => Err(format!("the types refuse: {types}: {document:#}")),
        (Err(rules), Ok(())) => Err(format!("the rules refuse: {rules}: {document:#}")),
    }
}

fn pointers(value: &Value, pointer: &str, all: &mut Vec<String>) {
    all.push(pointer.to_owned());
    for (key, value) in value.as_object().into_iter().flatten() {
        pointers(value, &format!("{pointer}/{}", content::escaped(key)), all);
    }
}

#[test]
fn the_rules_and_the_types_agree_on_every_single_change() {
    let document = parsed(&filled(DEFAULT_TEMPLATE.as_bytes(), None).unwrap());
    agree(&document).unwrap();
    let mut all = Vec::new();
    pointers(&document, "", &mut all);
    // No list: serde takes one for a struct without required fields, the rules and the JSON Schema do not.
    let values = [
        json!(null),
        json!(""),
        json!(" "),
        json!("x"),
        json!("1.0"),
        json!("1.2"),
        json!("1.3"),
        json!(-1),
        json!(3),
        json!(12),
        json!(1e10),
        json!(0.5),
        json!(true),
        json!({}),
        json!({"x": 1}),
        json!("y".repeat(513)),
    ];
    let keys = [
        "x",
        "a b",
        "a.b",
        "$x",
        "startupOrder",
        "env",
        "version",
        "mqttBroker",
        "integrity",
        "priority",
        "image",
        "createOptions01",
        "createoptions",
        "createOptionsx",
        "status",
        "imagePullPolicy",
        "registryCredentials",
    ];
    let mut changed = 0;
    for pointer in &all {
        for value in &values {
            let mut copy = document.clone();
            *copy.pointer_mut(pointer).unwrap() = value.clone();
            agree(&copy).unwrap();
            changed += 1;
        }
        for key in keys {
            for value in
                [json!({}), json!("x"), json!(1), json!(null), json!({"value": 1}), json!({"route": "x"})]
            {
                let mut copy = document.clone();
                let Some(entries) = copy.pointer_mut(pointer).unwrap().as_object_mut() else { continue };
                entries.insert(key.into(), value);
                agree(&copy).unwrap();
                changed += 1;
            }
        }
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let mut copy = document.clone();
        let key = key.replace("~1", "/").replace("~0", "~");
        copy.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(&key);
        agree(&copy).unwrap();
        changed += 1;
    }
    assert!(changed > 1000, "{changed}");
}
