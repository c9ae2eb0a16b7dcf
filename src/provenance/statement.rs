//! What an image was built from, as an in-toto statement (v1) with SLSA provenance (v1).

use std::collections::BTreeMap;

use mynah_contracts::{Module, Tool};
use serde_json::{Value, json};

use crate::agent::Env;
use crate::oci::spec::annotation;
use crate::registry::Attachment;

/// The media type of in-toto statements.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.in-toto+json";

/// What kind of build the statement describes. A name, not an address.
const BUILD_TYPE: &str = "urn:mynah:build-modules:1";

/// The statement about `module`, whose image carries `annotations`; `env` may name the pipeline's sources.
pub(crate) fn attachment(module: &Module, annotations: &BTreeMap<String, String>, env: &Env) -> Attachment {
    let statement = statement(module, annotations, env);
    // A tree of strings, which serde_json cannot refuse.
    let bytes = serde_json::to_vec(&statement).unwrap_or_default();
    Attachment { artifact_type: MEDIA_TYPE, media_type: MEDIA_TYPE, bytes }
}

fn statement(module: &Module, annotations: &BTreeMap<String, String>, env: &Env) -> Value {
    let tool = Tool::current();
    let platforms: Vec<&str> = module.platforms.iter().map(|image| image.platform.as_str()).collect();
    let mut inputs = Vec::new();
    for (name, key) in [("dataset", annotation::DATASET), ("model", annotation::MODEL)] {
        if let Some(hex) = annotations.get(key).and_then(|digest| digest.strip_prefix("sha256:")) {
            inputs.push(json!({ "name": name, "digest": { "sha256": hex } }));
        }
    }
    inputs.extend(sources(env));
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": module.repository, "digest": { "sha256": module.index.digest.hex() } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "module": module.name, "platforms": platforms },
                "resolvedDependencies": inputs,
            },
            "runDetails": {
                "builder": { "id": "urn:mynah:build-modules", "version": { tool.name: tool.version } },
            },
        },
    })
}

/// The commit a pipeline builds (Azure Pipelines, predefined variables).
fn sources(env: &Env) -> Option<Value> {
    let commit = env.get("BUILD_SOURCEVERSION")?;
    let mut address: url::Url = env.get("BUILD_REPOSITORY_URI")?.parse().ok()?;
    let hexadecimal = matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
    // Checkout addresses may carry a token.
    let bare = address.set_username("").is_ok() && address.set_password(None).is_ok();
    address.set_query(None);
    (hexadecimal && bare)
        .then(|| json!({ "uri": format!("git+{address}"), "digest": { "gitCommit": commit } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::{Descriptor, RelativePath, Sha256Digest};

    fn module() -> Module {
        Module {
            name: "mynah-runtime".into(),
            repository: "registry.example/mynah-runtime".into(),
            tag: "1".into(),
            layout: RelativePath::new("mynah-runtime").unwrap(),
            index: Descriptor { media_type: "index".into(), digest: Sha256Digest::of(b"index"), size: 5 },
            platforms: Vec::new(),
            model: None,
        }
    }

    #[test]
    fn the_statement_leads_from_the_image_to_dataset_model_and_commit() {
        let (dataset, model) = (Sha256Digest::of(b"dataset"), Sha256Digest::of(b"model"));
        let annotations = BTreeMap::from([
            (annotation::DATASET.to_owned(), dataset.to_string()),
            (annotation::MODEL.to_owned(), model.to_string()),
        ]);
        let commit = "a".repeat(40);
        let env: Env = [
            ("BUILD_SOURCEVERSION", commit.as_str()),
            ("BUILD_REPOSITORY_URI", "https://ada:token-9411@dev.example/project/_git/birds?x=1"),
        ]
        .into_iter()
        .collect();
        let statement = statement(&module(), &annotations, &env);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], Sha256Digest::of(b"index").hex());
        let inputs = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(inputs[0], json!({ "name": "dataset", "digest": { "sha256": dataset.hex() } }));
        assert_eq!(inputs[1], json!({ "name": "model", "digest": { "sha256": model.hex() } }));
        assert_eq!(inputs[2]["uri"], "git+https://dev.example/project/_git/birds");
        assert_eq!(inputs[2]["digest"]["gitCommit"], commit);
        assert!(!statement.to_string().contains("token-9411"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let env: Env = [("BUILD_SOURCEVERSION", "main"), ("BUILD_REPOSITORY_URI", "https://dev.example/")]
            .into_iter()
            .collect();
        let statement = statement(&module(), &BTreeMap::new(), &env);
        assert_eq!(statement["predicate"]["buildDefinition"]["resolvedDependencies"], json!([]));
    }
}
