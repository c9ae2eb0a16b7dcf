//! Exports: queued, made over some polls, fetched from a signed address or through the artifact call.

use std::io::{Cursor, Write as _};

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use super::answer::{Ask, Refusal, ok};
use super::model::{Model, Style};
use super::state::{Export, State, Status};

/// What a signed address carries.
pub(super) const SIGNATURE: &str = "sv=2021-08-06&sr=b&sp=r&sig=c2lnbmVkLWJ5LXRoZS1kb3VibGU%3D";

impl State {
    pub(super) fn queue_export(&mut self, project: &str, id: &str, ask: &Ask) -> Result<Response, Refusal> {
        let platform = ask.need("platform")?.to_owned();
        let flavor = ask.get("flavor").map(str::to_owned);
        let fits = match platform.as_str() {
            "ONNX" => matches!(flavor.as_deref(), None | Some("ONNX10" | "ONNX12")),
            "TensorFlow" => matches!(flavor.as_deref(), None | Some("TensorFlowNormal" | "TensorFlowLite")),
            "DockerFile" => matches!(flavor.as_deref(), None | Some("Linux" | "Windows" | "ARM")),
            "CoreML" | "VAIDK" => flavor.is_none(),
            _ => return Err(Refusal::wrong("ErrorExporterInvalidPlatform", format!("`{platform}`"))),
        };
        if !fits {
            return Err(Refusal::wrong("BadRequestExportValidationFailed", format!("{platform} {flavor:?}")));
        }
        let (polls, failed, style) =
            (self.settings.export_polls, self.settings.export_fails, self.settings.style.clone());
        let project = self.project(project)?;
        let compact = project.domain.is_compact();
        let iteration = project.iteration(id)?;
        if iteration.status != Status::Completed {
            return Err(Refusal::bad("BadRequestExportWhileTraining", "it is not trained"));
        }
        if !compact {
            return Err(Refusal::bad("BadRequestProjectUnsupportedExportPlatform", "not a compact domain"));
        }
        if iteration.exports.iter().any(|export| export.platform == platform && export.flavor == flavor) {
            return Err(Refusal::bad("BadRequestExportAlreadyInProgress", "it is queued already"));
        }
        let bytes = package(&iteration.model, &platform, &style)
            .map_err(|error| Refusal::bad("ErrorExporterInvalidClassifier", format!("{error:#}")))?;
        let name = flavor.as_deref().unwrap_or("default");
        let path = format!("{id}/{platform}.{name}.zip");
        let export = Export { platform, flavor, polls, failed, path, bytes };
        let answer = ok(&export_json(&export, ""));
        iteration.exports.push(export);
        Ok(answer)
    }

    pub(super) fn list_exports(&mut self, project: &str, id: &str) -> Result<Response, Refusal> {
        let base = if self.settings.relative_downloads { String::new() } else { self.base.clone() };
        let iteration = self.project(project)?.iteration(id)?;
        let all: Vec<Value> = iteration
            .exports
            .iter()
            .map(|export| {
                let address = match base.as_str() {
                    "" => export.path.clone(),
                    base => format!("{base}/blobs/{}?{SIGNATURE}", export.path),
                };
                export_json(export, &address)
            })
            .collect();
        for export in &mut iteration.exports {
            export.polls = export.polls.saturating_sub(1);
        }
        Ok(ok(&all))
    }

    pub(super) fn artifact(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let path = ask.need("path")?.to_owned();
        self.project(project)?;
        let bytes = self
            .export_bytes(&path)
            .ok_or_else(|| Refusal::bad("BadRequestInvalidArtifactUri", format!("there is no `{path}`")))?;
        Ok(([(header::CONTENT_TYPE, "application/zip")], bytes).into_response())
    }

    pub(super) fn export_bytes(&self, path: &str) -> Option<Vec<u8>> {
        let mut exports = self
            .projects
            .iter()
            .flat_map(|project| &project.iterations)
            .flat_map(|iteration| &iteration.exports);
        exports
            .find(|export| export.path == path && export.polls == 0 && !export.failed)
            .map(|export| export.bytes.clone())
    }
}

fn export_json(export: &Export, address: &str) -> Value {
    let status = match (export.polls, export.failed) {
        (0, true) => "Failed",
        (0, false) => "Done",
        _ => "Exporting",
    };
    let address = if status == "Done" { address } else { "" };
    json!({
        "platform": export.platform,
        "flavor": export.flavor,
        "status": status,
        "downloadUri": address,
        "newerVersionAvailable": false,
    })
}

/// The zip of an export.
fn package(model: &Model, platform: &str, style: &Style) -> anyhow::Result<Vec<u8>> {
    let labels = model.labels().join("\r\n").into_bytes();
    let metadata = style.metadata_properties();
    let manifest = format!(
        "{{\"DomainType\":\"Classification\",\"Platform\":\"{platform}\",\"Flavor\":null,\"ExporterVersion\":\"2.0\",\
         \"IterationId\":\"\",\"ModelFileName\":\"model.onnx\",\"LabelFileName\":\"labels.txt\"}}"
    )
    .into_bytes();
    // Graphs of other frameworks are opaque to everything we have: any bytes serve.
    let opaque = format!("a {platform} graph of {}", model.labels().join(", ")).into_bytes();
    let files: Vec<(&str, Vec<u8>)> = match platform {
        "ONNX" => vec![
            ("model.onnx", model.onnx(style)),
            ("labels.txt", labels),
            ("metadata_properties.json", metadata),
            ("cvexport.manifest", manifest),
        ],
        "DockerFile" => vec![
            ("Dockerfile", b"FROM scratch\nCOPY app /app\n".to_vec()),
            ("app/model.pb", opaque),
            ("app/labels.txt", labels),
            ("app/metadata_properties.json", metadata),
        ],
        _ => vec![("model.pb", opaque), ("labels.txt", labels), ("metadata_properties.json", metadata)],
    };
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(format!("{}{name}", style.folder), SimpleFileOptions::default())?;
        writer.write_all(&bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}
