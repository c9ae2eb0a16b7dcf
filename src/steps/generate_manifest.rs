//! `generate-manifest`: a template and `modules.json` → `deployment.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, Fault, FaultKind, ModuleSet, Platform, SchemaVersion, Sha256Digest, Tool};

use crate::agent::{Env, Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::kubernetes::{self, Cluster, DeviceAccess, ExtendedResource, Form, HttpProbe};
use crate::manifest::{self, ManifestError, Rule, Sources, Variables, VariablesError};
use crate::staging;
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The step.
pub struct GenerateManifest;

/// What is to be generated.
#[derive(Debug)]
pub struct Plan {
    template: Option<PathBuf>,
    images: Option<PathBuf>,
    platform: Option<Platform>,
    env: Vec<PathBuf>,
    overlays: Vec<PathBuf>,
    allowed: Vec<Rule>,
    strict: bool,
    kubernetes: Option<KubernetesPlan>,
    out: PathBuf,
}

/// What is asked of objects for Kubernetes.
#[derive(Debug)]
struct KubernetesPlan {
    namespace: String,
    node_label: Option<(String, String)>,
    devices: DeviceAccess,
    resources: BTreeMap<String, ExtendedResource>,
    probes: BTreeMap<String, HttpProbe>,
    form: Form,
}

impl KubernetesPlan {
    fn new(inputs: &Inputs, out: &Path) -> Result<Option<Self>, Fault> {
        if inputs.choice("format")? != Some("kubernetes") {
            return Ok(None);
        }
        let namespace = inputs.required("namespace")?;
        if !kubernetes::is_label(namespace) {
            return Err(inputs.refused("namespace", namespace, "a DNS label").into());
        }
        let node_label = inputs
            .text("nodeLabel")?
            .map(|text| {
                kubernetes::node_label(text)
                    .ok_or_else(|| inputs.refused("nodeLabel", text, "`<key>=<value>`"))
            })
            .transpose()?;
        let probes = words(inputs.text("probe")?)
            .map(|text| probe(text).ok_or_else(|| inputs.refused("probe", text, "`<module>=<port>/<path>`")))
            .collect::<Result<_, _>>()?;
        let devices = match inputs.choice("devices")? {
            Some("host-path") => DeviceAccess::HostPath,
            Some("privileged") => DeviceAccess::Privileged,
            _ => DeviceAccess::Plugin,
        };
        let mut resources = BTreeMap::new();
        for text in words(inputs.text("deviceResource")?) {
            let expected = "`<device>=<resource>` with a device once, such as `/dev/video0=akri.sh/camera`";
            let (device, resource) = device_resource(text)
                .filter(|(device, _)| !resources.contains_key(device))
                .ok_or_else(|| inputs.refused("deviceResource", text, expected))?;
            resources.insert(device, resource);
        }
        let json = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let form = if json { Form::Json } else { Form::Yaml };
        Ok(Some(Self { namespace: namespace.to_owned(), node_label, devices, resources, probes, form }))
    }
}

/// `module=8080/healthz`.
fn probe(text: &str) -> Option<(String, HttpProbe)> {
    let (module, rest) = text.split_once('=')?;
    let (port, path) = rest.split_once('/')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some((module.to_owned(), HttpProbe { port, path: format!("/{path}") }))
}

/// `/dev/video0=akri.sh/camera`.
fn device_resource(text: &str) -> Option<(String, ExtendedResource)> {
    let (device, resource) = text.split_once('=')?;
    let device = device.trim();
    let named = device.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty());
    Some((device.to_owned(), ExtendedResource::parse(resource.trim())?)).filter(|_| named)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) => writeln!(f, "fill in {}", template.display())?,
            None => writeln!(f, "fill in the template inside this program, for IoT Edge 1.6")?,
        }
        if let Some(images) = &self.images {
            match self.platform {
                Some(platform) => writeln!(f, "with the images for {platform} of {}", images.display())?,
                None => writeln!(f, "with the images for all platforms of {}", images.display())?,
            }
        }
        if let Some(kubernetes) = &self.kubernetes {
            writeln!(f, "as Kubernetes objects in the namespace {}", kubernetes.namespace)?;
        }
        for file in &self.env {
            writeln!(f, "with the variables of {}", file.display())?;
        }
        for file in &self.overlays {
            writeln!(f, "apply the overlay {}", file.display())?;
        }
        write!(f, "write {}", self.out.display())
    }
}

/// Why a template, or what it is filled in with, was refused; says which file.
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
    #[error("cannot read the variables `{path}`", path = path.display())]
    VariablesIo {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the variables `{path}`", path = path.display())]
    Variables {
        path: PathBuf,
        #[source]
        source: VariablesError,
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
            Self::VariablesIo { .. } => {
                Some("`--env` names files of `NAME=value` lines, with commas between".into())
            }
            Self::Variables { .. } => Some("write a `NAME=value` on each line; `#` begins a comment".into()),
        }
    }
}

impl Step for GenerateManifest {
    const NAME: &'static str = "generate-manifest";
    const TASK: &'static str = "GenerateManifest";
    const ABOUT: &'static str = "Fills in an IoT Edge deployment template with pinned images, and checks it";
    const DETAILS: &'static str = "\
Reads modules.json and a deployment template, and writes the deployment manifest. `${MODULES.<name>}`
becomes the module's image by digest, `${MODULES.<name>.<platform>}` that of one platform,
`${MODULES.<name>.debug}` its debug image, `${MODULEDIR<folder>}` that of the module in a folder. `$NAME`
and `${NAME}` become variables of the environment or of --env. A value cannot break the JSON around it.
What is unknown is an error; `$edgeHub`, `$upstream` and other names of IoT Edge stay, and so does what is
written `\\u0024`. Comments are allowed, options for a container may be written as an object, and a
template with `content` gives a layered deployment.

An overlay is a JSON merge patch (RFC 7396) on the filled-in template: it sets twins, routes, environment
and what else differs from place to place. `\"$extends\"` in it names overlays to apply before it.

The result is checked offline against the rules of IoT Edge, and looked through for privileges, host
folders, unusual devices, debug ports, secrets in clear and images without a version.

With --format kubernetes the same manifest becomes a Deployment or DaemonSet per module with ConfigMaps,
ServiceAccounts and Services. Secrets are named and never written; what the cluster must have is told.

Example:
  generate-manifest --images work/images --overlay prod.json --out work/deployment.json";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::optional(
            "template",
            OptionKind::Path,
            "The deployment template. Without it: one for IoT Edge 1.6 with camera and sound.",
        ),
        OptionSpec::optional(
            "images",
            OptionKind::Path,
            "The folder that build-modules wrote. Without it the template may name no `${MODULES…}`.",
        ),
        OptionSpec::optional(
            "platform",
            OptionKind::Choice(&["linux/amd64", "linux/arm64", "linux/arm/v7"]),
            "Pin the images of this platform. Without it: images for all of them.",
        ),
        OptionSpec::optional(
            "env",
            OptionKind::Text,
            "Files of `NAME=value` lines, with commas between. They win over the environment, later ones over earlier.",
        ),
        OptionSpec::optional(
            "overlay",
            OptionKind::Text,
            "Files of JSON merge patches, with commas between, applied in their order.",
        ),
        OptionSpec::optional("strict", OptionKind::Switch, "Stop where there would be a warning."),
        OptionSpec::optional(
            "allow",
            OptionKind::Text,
            "Findings to pass over, with commas between: privileged, host-namespace, capability, host-bind, device, debug-port, secret, floating-image.",
        ),
        OptionSpec::with_default(
            "format",
            OptionKind::Choice(&["iotedge", "kubernetes"]),
            "iotedge",
            "What to write: a manifest for IoT Edge, or plain Kubernetes objects for K3s (YAML, or JSON where the file is so named).",
        ),
        OptionSpec::with_default(
            "namespace",
            OptionKind::Text,
            "mynah",
            "Kubernetes: the namespace of the objects.",
        ),
        OptionSpec::optional(
            "nodeLabel",
            OptionKind::Text,
            "Kubernetes: `<key>=<value>`, the label of the nodes that are devices; each of them runs every module.",
        ),
        OptionSpec::with_default(
            "devices",
            OptionKind::Choice(&["plugin", "host-path", "privileged"]),
            "plugin",
            "Kubernetes: how modules get at cameras and sound: resources of generic-device-plugin, mounts without or with privileges.",
        ),
        OptionSpec::optional(
            "deviceResource",
            OptionKind::Text,
            "Kubernetes: the resource by which a device is asked for, of Akri or any device plugin, `<device>=<resource>` with commas between: `/dev/video0=akri.sh/camera`. Other devices go by `devices`.",
        ),
        OptionSpec::optional(
            "probe",
            OptionKind::Text,
            "Kubernetes: where modules tell that they are well, `<module>=<port>/<path>` with commas between.",
        ),
        OptionSpec::required("out", OptionKind::Path, "The file to write the manifest to."),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "manifest", about: "The manifest's file." },
        OutputSpec { name: "manifestDigest", about: "The SHA-256 of the manifest." },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        let allowed = words(inputs.text("allow")?)
            .map(|word| {
                Rule::ALL.into_iter().find(|rule| rule.as_str() == word).ok_or_else(|| {
                    let known: Vec<_> = Rule::ALL.into_iter().map(Rule::as_str).collect();
                    inputs.refused("allow", word, &format!("some of `{}`", known.join("`, `")))
                })
            })
            .collect::<Result<_, _>>()?;
        let out = inputs.required_path("out")?;
        Ok(Plan {
            kubernetes: KubernetesPlan::new(inputs, &out)?,
            template: inputs.path("template")?,
            images: inputs.path("images")?,
            platform: inputs.choice("platform")?.and_then(|text| text.parse().ok()),
            env: words(inputs.text("env")?).map(PathBuf::from).collect(),
            overlays: words(inputs.text("overlay")?).map(PathBuf::from).collect(),
            allowed,
            strict: inputs.switch("strict")?,
            out,
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let modules: ModuleSet = match &plan.images {
            Some(images) => artifact::load(images)?,
            None => ModuleSet {
                schema_version: SchemaVersion::CURRENT,
                tool: Tool::current(),
                modules: Vec::new(),
            },
        };
        let built_in = Path::new("deployment.template.json");
        let (path, template) = match &plan.template {
            Some(path) => {
                let read = fs::read(path);
                (path.as_path(), read.map_err(|source| TemplateError::Io { path: path.clone(), source })?)
            }
            None => (built_in, manifest::DEFAULT_TEMPLATE.into()),
        };
        let sources = Sources {
            modules: &modules,
            platform: plan.platform,
            variables: variables(context.env, &plan.env)?,
            overlays: plan.overlays.clone(),
            allowed: plan.allowed.clone(),
        };
        let refused = |source| TemplateError::Content { path: path.to_owned(), source };
        let mut generated = manifest::generate(&template, &sources).map_err(refused)?;
        if plan.kubernetes.is_some() {
            generated
                .findings
                .retain(|finding| finding.rule != Rule::Secret || kubernetes::writes(&finding.pointer));
        }
        for warning in &generated.warnings {
            tracing::warn!("{warning}");
        }
        if plan.strict && !generated.findings.is_empty() {
            return Err(refused(ManifestError::Lint(generated.findings)).into());
        }
        for finding in &generated.findings {
            tracing::warn!("{finding}");
        }
        let written = match &plan.kubernetes {
            None => generated.json,
            Some(wanted) => objects(&generated.json, wanted, &modules)?,
        };
        let digest = Sha256Digest::of(&written);
        let unchanged = fs::read(&plan.out).is_ok_and(|there| there == written);
        if !unchanged {
            staging::write_file(&plan.out, &written)?;
        }
        let said = if unchanged { "unchanged:" } else { "wrote" };
        let what = match (&plan.kubernetes, generated.layered) {
            (Some(_), _) => "objects for Kubernetes",
            (None, true) => "a layered deployment for IoT Edge",
            (None, false) => "a deployment for IoT Edge",
        };
        let file = std::path::absolute(&plan.out).unwrap_or_else(|_| plan.out.clone());
        Ok(Outcome {
            headline: format!("{said} {}, {what}", plan.out.display()),
            variables: vec![("manifest", file.display().to_string()), ("manifestDigest", digest.to_string())],
            ..Outcome::default()
        })
    }
}

/// The manifest as Kubernetes objects; tells what is otherwise there and what must be there before.
fn objects(manifest: &[u8], wanted: &KubernetesPlan, modules: &ModuleSet) -> Result<Vec<u8>, Fault> {
    let cluster = Cluster {
        namespace: wanted.namespace.clone(),
        node_label: wanted.node_label.clone(),
        devices: wanted.devices,
        resources: wanted.resources.clone(),
        probes: wanted.probes.clone(),
        modules,
    };
    let converted = kubernetes::convert(manifest, &cluster)?;
    for warning in &converted.warnings {
        tracing::warn!("{warning}");
    }
    for need in &converted.needs {
        tracing::info!("the cluster must have {need}");
    }
    Ok(kubernetes::render(&converted.objects, wanted.form)?)
}

/// The parts between commas and line ends.
fn words(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split([',', '\n']).map(str::trim).filter(|word| !word.is_empty())
}

/// The environment, and the files over it.
fn variables(env: &Env, files: &[PathBuf]) -> Result<Variables, TemplateError> {
    let mut variables = Variables::of(env);
    for path in files {
        let text = fs::read_to_string(path)
            .map_err(|source| TemplateError::VariablesIo { path: path.clone(), source })?;
        variables.add(&text).map_err(|source| TemplateError::Variables { path: path.clone(), source })?;
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::{Quiet, to_json};

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
            (None, "`deployment.template.json`: the template cannot be filled in"),
            (Some("gone.json"), "cannot read the template"),
        ] {
            let fault = run(folder.path(), template).unwrap_err();
            assert!(fault.chain().contains(says), "{fault}");
            assert_eq!(fault.kind(), FaultKind::BadInput);
        }
        assert_eq!(fs::read(folder.path().join("out/deployment.json")).unwrap(), before);
    }
}
