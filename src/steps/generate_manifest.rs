//! `generate-manifest`: a template and `modules.json` → `deployment.json`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Artifact as _, Diagnosis, Fault, FaultKind, ModuleSet, Platform, Sha256Digest};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::manifest::{self, ManifestError};
use crate::staging;
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The step.
pub struct GenerateManifest;

/// What is to be generated.
#[derive(Debug)]
pub struct Plan {
    template: Option<PathBuf>,
    images: PathBuf,
    platform: Option<Platform>,
    out: PathBuf,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) => writeln!(f, "fill in {}", template.display())?,
            None => writeln!(f, "fill in the template inside this program, for IoT Edge 1.6")?,
        }
        match self.platform {
            Some(platform) => writeln!(f, "with the images for {platform} of {}", self.images.display())?,
            None => writeln!(f, "with the images for all platforms of {}", self.images.display())?,
        }
        write!(f, "write {}", self.out.display())
    }
}

/// Why a template was refused; says which one.
#[derive(Debug, thiserror::Error)]
enum TemplateError {
    #[error("cannot read the template `{path}`", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the template `{path}`", path = path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
}

impl Diagnosis for TemplateError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("leave out --template to use the one inside this program".into()),
            Self::Content { source, .. } => source.hint(),
        }
    }
}

impl Step for GenerateManifest {
    const NAME: &'static str = "generate-manifest";
    const TASK: &'static str = "GenerateManifest";
    const ABOUT: &'static str = "Fills in an IoT Edge deployment template with pinned images, and checks it";
    const DETAILS: &'static str = "\
Reads modules.json and a deployment template, and writes the deployment manifest. `${MODULES.<name>}`
becomes the module's image by digest, `${MODULES.<name>.<platform>}` that of one platform; anything else
in `${…}` is an error. Options for a container may be written as an object. The result is checked
offline against the rules of IoT Edge.

Example:
  generate-manifest --images work/images --out work/deployment.json";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::optional(
            "template",
            OptionKind::Path,
            "The deployment template. Without it: one for IoT Edge 1.6 with camera and sound.",
        ),
        OptionSpec::required("images", OptionKind::Path, "The folder that build-modules wrote."),
        OptionSpec::optional(
            "platform",
            OptionKind::Choice(&["linux/amd64", "linux/arm64", "linux/arm/v7"]),
            "Pin the images of this platform. Without it: images for all of them.",
        ),
        OptionSpec::required("out", OptionKind::Path, "The file to write the manifest to."),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "manifest", about: "The manifest's file." },
        OutputSpec { name: "manifestDigest", about: "The SHA-256 of the manifest." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        Ok(Plan {
            template: inputs.path("template")?,
            images: inputs.required_path("images")?,
            platform: inputs.choice("platform")?.and_then(|text| text.parse().ok()),
            out: inputs.required_path("out")?,
        })
    }

    fn run(&self, plan: &Plan, _: &Context<'_>) -> Result<Outcome, Fault> {
        let modules: ModuleSet = artifact::load(&plan.images)?;
        let built_in = Path::new("deployment.template.json");
        let (path, template) = match &plan.template {
            Some(path) => {
                let read = fs::read(path);
                (path.as_path(), read.map_err(|source| TemplateError::Io { path: path.clone(), source })?)
            }
            None => (built_in, manifest::DEFAULT_TEMPLATE.into()),
        };
        let generated = manifest::generate(&template, &modules, plan.platform)
            .map_err(|source| TemplateError::Content { path: path.to_owned(), source })?;
        for warning in &generated.warnings {
            tracing::warn!("{warning}");
        }
        let digest = Sha256Digest::of(&generated.json);
        let unchanged = fs::read(&plan.out).is_ok_and(|there| there == generated.json);
        if !unchanged {
            staging::write_file(&plan.out, &generated.json)?;
        }
        let said = if unchanged { "unchanged:" } else { "wrote" };
        let file = std::path::absolute(&plan.out).unwrap_or_else(|_| plan.out.clone());
        Ok(Outcome {
            headline: format!("{said} {} with the images of {}", plan.out.display(), ModuleSet::FILE),
            variables: vec![("manifest", file.display().to_string()), ("manifestDigest", digest.to_string())],
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Env;
    use mynah_contracts::{Quiet, SchemaVersion, Tool, to_json};

    fn run(folder: &Path, template: Option<&str>) -> Result<Outcome, Fault> {
        let text = |name: &str| folder.join(name).display().to_string();
        let options = [("images", text("images")), ("out", text("out/deployment.json"))]
            .into_iter()
            .chain(template.map(|template| ("template", text(template))));
        let plan = GenerateManifest::plan(&Inputs::from_pairs(GenerateManifest::OPTIONS, options))?;
        GenerateManifest.run(
            &plan,
            &Context { monitor: &Quiet, env: &Env::default(), created: None, now: jiff::Timestamp::now },
        )
    }

    /// No modules, and a template that names none.
    fn bench() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let set =
            ModuleSet { schema_version: SchemaVersion::CURRENT, tool: Tool::current(), modules: Vec::new() };
        fs::create_dir(folder.path().join("images")).unwrap();
        fs::write(folder.path().join("images/modules.json"), to_json(&set)).unwrap();
        let template = manifest::DEFAULT_TEMPLATE.replace("${MODULES.mynah-runtime}", "registry.example/a:1");
        fs::write(folder.path().join("own.json"), template).unwrap();
        folder
    }

    #[test]
    fn a_manifest_is_written_once() {
        let folder = bench();
        let wrote = run(folder.path(), Some("own.json")).unwrap();
        assert!(wrote.headline.starts_with("wrote"), "{}", wrote.headline);
        let written = fs::read(folder.path().join("out/deployment.json")).unwrap();
        assert_eq!(wrote.variables[1], ("manifestDigest", Sha256Digest::of(&written).to_string()));
        assert!(run(folder.path(), Some("own.json")).unwrap().headline.starts_with("unchanged"));
    }

    #[test]
    fn a_refused_template_is_named_and_leaves_the_earlier_manifest() {
        let folder = bench();
        run(folder.path(), Some("own.json")).unwrap();
        let before = fs::read(folder.path().join("out/deployment.json")).unwrap();
        for (template, says) in [
            (None, "`deployment.template.json`: the template names what does not exist"),
            (Some("gone.json"), "cannot read the template"),
        ] {
            let fault = run(folder.path(), template).unwrap_err();
            assert!(fault.chain().contains(says), "{fault}");
            assert_eq!(fault.kind(), FaultKind::BadInput);
        }
        assert_eq!(fs::read(folder.path().join("out/deployment.json")).unwrap(), before);
    }
}
