//! An export: queued or found, waited for, fetched.

use std::fmt;
use std::time::Duration;

use super::VisionError;
use super::api::Api;
use super::training::Patience;
use super::wire::Export;

/// How long the service may take for an export.
const LIMIT: Duration = Duration::from_mins(15);

/// A format that is kept beside the model, as the service exports it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ExtraFormat {
    /// A frozen TensorFlow graph.
    TensorFlow,
    /// A folder to build a Docker image from.
    Docker,
    /// A Core ML model.
    CoreMl,
}

impl ExtraFormat {
    /// Reads a comma-separated list of `tensorflow`, `docker` and `coreml`; each at most once.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        let mut formats = text
            .split(',')
            .map(|word| match word.trim().to_ascii_lowercase().as_str() {
                "tensorflow" => Some(Self::TensorFlow),
                "docker" => Some(Self::Docker),
                "coreml" => Some(Self::CoreMl),
                _ => None,
            })
            .collect::<Option<Vec<Self>>>()?;
        formats.sort_unstable();
        formats.dedup();
        Some(formats)
    }

    /// The API's word for it.
    pub(super) const fn platform(self) -> &'static str {
        match self {
            Self::TensorFlow => "TensorFlow",
            Self::Docker => "DockerFile",
            Self::CoreMl => "CoreML",
        }
    }

    /// The name of the file it is kept in.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::TensorFlow => "tensorflow.zip",
            Self::Docker => "docker.zip",
            Self::CoreMl => "coreml.zip",
        }
    }
}

impl fmt::Display for ExtraFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.platform())
    }
}

/// Which iteration is exported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) project: &'a str,
    pub(super) iteration: &'a str,
    /// Its name, for messages.
    pub(super) name: &'a str,
}

/// The zip of the iteration exported to `platform`. An export that is there is used; the service makes none twice.
pub(super) async fn fetch(api: &Api, of: Of<'_>, platform: &str) -> Result<Vec<u8>, VisionError> {
    let mut patience = Patience::of(LIMIT);
    let mut queued = false;
    loop {
        let exports = api.exports(of.project, of.iteration).await?;
        match standing(exports, platform) {
            Standing::Done(address) => return api.download(of.project, &address).await,
            Standing::Failed if queued => {
                return Err(VisionError::ExportFailed {
                    platform: platform.into(),
                    iteration: of.name.into(),
                });
            }
            Standing::Absent | Standing::Failed if !queued => {
                queued = true;
                tracing::info!("exporting `{}` to {platform}", of.name);
                match api.queue_export(of.project, of.iteration, platform).await {
                    Err(error) if error.code() == Some("BadRequestExportAlreadyInProgress") => {}
                    other => drop(other?),
                }
            }
            _ => {}
        }
        if !patience.wait().await {
            return Err(VisionError::ExportTimeout {
                platform: platform.into(),
                iteration: of.name.into(),
                minutes: patience.minutes(),
            });
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Standing {
    Absent,
    Running,
    Failed,
    /// Where it can be fetched.
    Done(String),
}

/// How the export to a platform stands; one without a flavour is preferred, since that is what we queue.
fn standing(exports: Vec<Export>, platform: &str) -> Standing {
    let mut own: Vec<Export> = exports.into_iter().filter(|export| export.platform == platform).collect();
    own.sort_by_key(|export| export.flavor.is_some());
    let done = own.iter().find(|export| export.status == "Done");
    if let Some(address) = done.and_then(|export| export.download_uri.clone()).filter(|uri| !uri.is_empty()) {
        return Standing::Done(address);
    }
    match own.first() {
        None => Standing::Absent,
        Some(_) if own.iter().all(|export| export.status == "Failed") => Standing::Failed,
        Some(_) => Standing::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(platform: &str, flavor: Option<&str>, status: &str, address: &str) -> Export {
        Export {
            platform: platform.into(),
            status: status.into(),
            download_uri: Some(address.into()),
            flavor: flavor.map(str::to_owned),
        }
    }

    #[test]
    fn a_finished_export_is_used_and_others_are_told_apart() {
        let all =
            |status: &str| vec![export("TensorFlow", None, "Done", "t"), export("ONNX", None, status, "o")];
        assert_eq!(standing(all("Done"), "ONNX"), Standing::Done("o".into()));
        assert_eq!(standing(all("Exporting"), "ONNX"), Standing::Running);
        assert_eq!(standing(all("Failed"), "ONNX"), Standing::Failed);
        assert_eq!(standing(all("Done"), "CoreML"), Standing::Absent);
        let flavours =
            vec![export("ONNX", Some("ONNX10"), "Done", "ten"), export("ONNX", None, "Done", "plain")];
        assert_eq!(standing(flavours, "ONNX"), Standing::Done("plain".into()));
        assert_eq!(standing(vec![export("ONNX", None, "Done", "")], "ONNX"), Standing::Running);
    }

    #[test]
    fn extra_formats_are_read_in_any_order_and_once() {
        let read = ExtraFormat::parse_list(" docker,TensorFlow,docker").unwrap();
        assert_eq!(read, [ExtraFormat::TensorFlow, ExtraFormat::Docker]);
        assert!(ExtraFormat::parse_list("docker,onnx").is_none());
        assert!(ExtraFormat::parse_list("").is_none());
    }
}
