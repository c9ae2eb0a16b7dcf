//! `pipelines/trigger` and `pipelines/infra`: what they start is what `mynah` understands, and what they name is what
//! pipelines and pages name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::given::{Ran, binary, root};

/// Built-in roles (Azure built-in roles reference).
const ROLES: [(&str, &str); 7] = [
    ("AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d"),
    ("AcrPush", "8311e382-0749-4cb8-b61a-304f252e45ec"),
    ("Cognitive Services Custom Vision Contributor", "c1ff6cc2-c111-46fe-8896-e0ef812ad9f3"),
    ("IoT Hub Data Contributor", "4fc6c259-987e-4a07-842e-c321cc9d413f"),
    ("Storage Blob Data Reader", "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"),
    ("Storage Queue Data Contributor", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
    ("Storage Queue Data Message Sender", "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a"),
];

const TEMPLATES: [&str; 3] =
    ["pipelines/infra/azuredeploy.json", "pipelines/trigger/logic-app.json", "pipelines/trigger/relay.json"];

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Every text in a document, keys too.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(items) => {
            for item in items {
                texts(item, into);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                into.push(name);
                texts(field, into);
            }
        }
        _ => {}
    }
}

/// What stands in `call('…')` in the expressions of a template. A workflow has expressions of its own, which begin
/// with `@` and have their own parameters.
fn named<'a>(texts: &[&'a str], call: &str) -> BTreeSet<&'a str> {
    let opening = format!("{call}('");
    texts
        .iter()
        .filter(|text| text.starts_with('['))
        .flat_map(|text| text.split(opening.as_str()).skip(1))
        .filter_map(|rest| rest.split_once('\'').map(|(name, _)| name))
        .collect()
}

#[test]
fn templates_name_what_they_declare_and_use_all_of_it() {
    for file in TEMPLATES {
        let template = json(file);
        let mut all = Vec::new();
        texts(&template["resources"], &mut all);
        texts(&template["variables"], &mut all);
        texts(&template["outputs"], &mut all);
        texts(&template["parameters"], &mut all);
        assert_eq!(named(&all, "parameters"), keys(&template["parameters"]), "{file}");
        assert_eq!(named(&all, "variables"), keys(&template["variables"]), "{file}");
        for expression in all.iter().filter(|text| text.starts_with('[')) {
            let count = |c| expression.matches(c).count();
            assert!(expression.ends_with(']') && count('(') == count(')'), "{file}: {expression}");
            assert!(count('\'').is_multiple_of(2), "{file}: {expression}");
        }
        // What one depends on is made here.
        let made: BTreeSet<&str> =
            template["resources"].as_array().unwrap().iter().map(|r| r["type"].as_str().unwrap()).collect();
        for resource in template["resources"].as_array().unwrap() {
            for on in resource["dependsOn"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let mut expression = on.to_owned();
                if let Some(name) = on.strip_prefix("[variables('").and_then(|rest| rest.strip_suffix("')]"))
                {
                    template["variables"][name].as_str().unwrap().clone_into(&mut expression);
                }
                let kinds = named(&[&expression], "resourceId");
                let is_made = |kind: &&str| {
                    made.contains(kind)
                        || (*kind == "Microsoft.ContainerRegistry/registries"
                            && on.contains("extensionResourceId"))
                };
                assert!(
                    kinds.iter().all(is_made) && (!kinds.is_empty() || on.contains("queueId")),
                    "{file}: {on}"
                );
            }
        }
    }
}

#[test]
fn roles_are_the_least_and_the_pages_tell_them() {
    let known: BTreeMap<&str, &str> = ROLES.into();
    let mut told = BTreeSet::new();
    for file in TEMPLATES {
        let template = json(file);
        let page = text(&format!("{}/README.md", file.rsplit_once('/').unwrap().0));
        let mut assigned = BTreeSet::new();
        for resource in template["resources"].as_array().unwrap() {
            if resource["type"] != "Microsoft.Authorization/roleAssignments" {
                continue;
            }
            // On one resource, never on a group or a subscription.
            assert!(
                resource["scope"].as_str().is_some_and(|scope| scope.starts_with("[concat('Microsoft.")),
                "{file}"
            );
            let role = resource["properties"]["roleDefinitionId"].as_str().unwrap();
            assigned.extend(keys(&template["variables"]["roles"]).into_iter().filter(|name| {
                role.contains(&format!("variables('roles')['{name}']"))
                    || role.contains(&format!("variables('roles').{name})"))
            }));
        }
        assert_eq!(assigned, keys(&template["variables"]["roles"]), "{file}");
        for role in assigned {
            assert_eq!(
                template["variables"]["roles"][role].as_str(),
                known.get(role).copied(),
                "{file}: {role}"
            );
            assert!(page.contains(role), "{file}: its page does not tell of {role}");
            told.insert(role.to_owned());
        }
        for output in keys(&template["outputs"]) {
            assert!(page.contains(&format!("`{output}`")), "{file}: its page does not tell of {output}");
        }
    }
    assert_eq!(told.len(), ROLES.len(), "a role is known and never assigned");
}

#[test]
fn what_pipelines_name_is_what_the_resources_give() {
    let infra = json("pipelines/infra/azuredeploy.json");
    let outputs = keys(&infra["outputs"]);
    let mut federated = Vec::new();
    texts(&infra["resources"], &mut federated);
    for (file, variables, connections) in [
        ("pipelines/release.yml", &["hub"][..], &["mynah-hub"][..]),
        ("pipelines/trigger/scheduled.yml", &["photosUrl"], &["mynah-photos"]),
    ] {
        let pipeline = text(file);
        for variable in variables {
            assert!(pipeline.contains(&format!("$({variable})")) && outputs.contains(variable), "{variable}");
        }
        for connection in connections {
            assert!(pipeline.contains(&format!("connection: {connection}\n")), "{file}: {connection}");
            let subject = format!("parameters('serviceConnectionSubjectPrefix'), '{connection}'");
            assert!(federated.iter().any(|text| text.contains(&subject)), "{connection}");
        }
    }
}

/// What a container is started with: arguments and environment, with the words in capitals filled in.
fn relay(arguments: &[String], env: &[(String, String)]) -> Ran {
    let mut command: Command = binary("mynah");
    command.args(arguments).arg("--dry-run");
    for (name, value) in env {
        command.env(name, value.replace("ACCOUNT", "photos9411"));
    }
    command.output().unwrap().into()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The arguments of the image itself.
fn entrypoint() -> Vec<String> {
    let dockerfile = text("pipelines/trigger/Dockerfile");
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    let words: Vec<String> = serde_json::from_str(line).unwrap();
    assert_eq!(words[0], "/usr/local/bin/mynah");
    words[1..].to_vec()
}

#[test]
fn the_manifest_of_kubernetes_starts_a_relay() {
    let file = text("pipelines/trigger/relay.yaml");
    let objects: BTreeMap<String, Value> = file
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap())
        .map(|object| (object["kind"].as_str().unwrap().to_owned(), object))
        .collect();
    let env: Vec<(String, String)> = objects["ConfigMap"]["data"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let spec = &objects["Deployment"]["spec"];
    let container = &spec["template"]["spec"]["containers"][0];
    let said = relay(&[entrypoint(), strings(&container["args"])].concat(), &env).well().stdout;
    assert!(said.contains("listens   0.0.0.0:8080/events"), "{said}");
    assert_eq!(container["ports"][0]["containerPort"], 8080);
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert!(
        said.contains(&format!("state     {}", container["volumeMounts"][0]["mountPath"].as_str().unwrap())),
        "{said}"
    );
    // The journal has one writer.
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&1.into(), &"Recreate".into()));

    // From outside, encrypted, only where the relay takes events: its figures are not for everyone.
    let (outside, host) = (&objects["Ingress"]["spec"], &objects["Ingress"]["spec"]["rules"][0]["host"]);
    let paths = outside["rules"][0]["http"]["paths"].as_array().unwrap();
    assert_eq!((paths.len(), &paths[0]["pathType"]), (1, &"Exact".into()));
    assert!(said.contains(&format!("0.0.0.0:8080{}", paths[0]["path"].as_str().unwrap())), "{said}");
    assert_eq!((&outside["tls"][0]["hosts"][0], outside["rules"].as_array().unwrap().len()), (host, 1));
    let (service, behind) = (&objects["Service"], &paths[0]["backend"]["service"]);
    assert_eq!(behind["name"], service["metadata"]["name"]);
    assert_eq!(behind["port"]["name"], service["spec"]["ports"][0]["name"]);
    // Its own traffic and no other's is held back, and what calls it comes to the port that it has.
    let policy = &objects["NetworkPolicy"]["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!((&policy["podSelector"]["matchLabels"], &service["spec"]["selector"]), (labels, labels));
    assert_eq!(strings(&policy["policyTypes"]), ["Ingress", "Egress"]);
    let open: Vec<&Value> =
        policy["ingress"].as_array().unwrap().iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert_eq!(open, [&container["ports"][0]["name"]]);
    let metadata = policy["egress"][1]["to"][0]["ipBlock"]["except"].clone();
    assert_eq!(strings(&metadata), ["169.254.169.254/32"]);
}

#[test]
fn the_container_app_starts_a_relay() {
    let template = json("pipelines/trigger/relay.json");
    let app = template["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["type"] == "Microsoft.App/containerApps")
        .unwrap();
    let container = &app["properties"]["template"]["containers"][0];
    let env: Vec<(String, String)> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|variable| {
            let name = variable["name"].as_str().unwrap();
            // What the expressions give.
            let value = match name {
                "INPUT_SOURCE" => "https://ACCOUNT.blob.core.windows.net/photos",
                "INPUT_ORGANIZATION" => "https://dev.azure.com/ORG",
                "INPUT_PROJECT" => "PROJECT",
                "INPUT_PIPELINE" => "12",
                "INPUT_BRANCH" => "main",
                "INPUT_TENANT" => "11111111-2222-3333-4444-555555555555",
                "INPUT_AUDIENCE" => {
                    "66666666-7777-8888-9999-000000000000,api://66666666-7777-8888-9999-000000000000"
                }
                _ => return None,
            };
            Some((name.to_owned(), value.to_owned()))
        })
        .collect();
    assert_eq!(env.len(), 7);
    let said = relay(&[entrypoint(), strings(&container["args"])].concat(), &env).well().stdout;
    assert!(said.contains("listens   0.0.0.0:8080/events"), "{said}");
    assert!(said.contains("of tenant 11111111-2222-3333-4444-555555555555, for 66666666"), "{said}");
    // Where there is no application, both are empty.
    let keyed: Vec<_> = env
        .iter()
        .map(|(name, value)| {
            let is_trust = ["INPUT_TENANT", "INPUT_AUDIENCE"].contains(&name.as_str());
            (name.clone(), if is_trust { String::new() } else { value.clone() })
        })
        .collect();
    let said = relay(&[entrypoint(), strings(&container["args"])].concat(), &keyed).well().stdout;
    assert!(!said.contains("tenant"), "{said}");
    assert_eq!(app["properties"]["configuration"]["ingress"]["targetPort"], 8080);
    assert_eq!(app["properties"]["template"]["scale"]["maxReplicas"], 1);
    let subscription = template["resources"].as_array().unwrap().last().unwrap();
    let url = subscription["properties"]["destination"]["properties"]["endpointUrl"].as_str().unwrap();
    assert!(
        url.contains("'/events', if(variables('withToken'), '', concat('?key=', parameters('relayKey')))"),
        "{url}"
    );
    assert_eq!(template["parameters"]["relayKey"]["type"], "securestring");
}

#[test]
fn the_host_of_azure_functions_starts_a_relay() {
    let host = json("pipelines/trigger/functions/host.json");
    let handler = &host["customHandler"];
    assert_eq!(handler["description"]["defaultExecutablePath"], "mynah");
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    let env: Vec<(String, String)> = [
        ("INPUT_SOURCE", "https://ACCOUNT.blob.core.windows.net/photos"),
        ("INPUT_ORGANIZATION", "https://dev.azure.com/ORG"),
        ("INPUT_PROJECT", "PROJECT"),
        ("INPUT_PIPELINE", "12"),
        ("INPUT_STATE", "/home/relay"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "4711"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let said = relay(&strings(&handler["description"]["arguments"]), &env).well().stdout;
    let prefix = host["extensions"]["http"]["routePrefix"].as_str().unwrap();
    assert!(said.contains(&format!("listens   127.0.0.1:4711/{prefix}/events")), "{said}");
    let page = text("pipelines/trigger/README.md");
    assert!(env[..5].iter().all(|(name, _)| page.contains(&format!("`{name}`"))));
    for (name, methods) in
        [("events", &["post", "options"][..]), ("healthz", &["get"]), ("metrics", &["get"])]
    {
        let function = json(&format!("pipelines/trigger/functions/{name}/function.json"));
        assert_eq!(function["bindings"][0]["route"], name);
        assert_eq!(strings(&function["bindings"][0]["methods"]), methods);
    }
}
