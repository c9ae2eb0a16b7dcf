//! Built modules leave this machine: to a registry, with what tells where they come from, or into one file.

mod ahead;
mod attest;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::Scope;

use mynah_contracts::{Diagnosis, Fault, FaultKind, Module, ModuleSet};

use crate::agent::{InputError, Inputs, OptionKind, OptionSpec};
use crate::http;
use crate::oci::archive;
use crate::oci::reference::{ImageReference, Repository};
use crate::oci::spec::Descriptor;
use crate::provenance::signature::Signer;
use crate::registry::{Homes, Moved, Registry, RegistryError, SignIn, split};
use crate::step::Context;

pub use ahead::Ahead;
pub(crate) use attest::signatures;

/// `--push`.
pub const PUSH: OptionSpec = OptionSpec::optional(
    "push",
    OptionKind::Text,
    "Push each module to this place followed by its name, such as `registry.example/factory`; modules.json then names it there.",
);

/// `--tag`.
pub const TAG: OptionSpec = OptionSpec::optional(
    "tag",
    OptionKind::Text,
    "The tag to push under. Without it: one derived from the content. Manifests pin digests either way.",
);

/// `--output-archive`.
pub const ARCHIVE: OptionSpec = OptionSpec::optional(
    "outputArchive",
    OptionKind::Path,
    "A file to write all images to, for `docker load`, K3s' images folder and skopeo.",
);

/// `--registry-connection`.
pub const CONNECTION: OptionSpec = OptionSpec::optional(
    "registryConnection",
    OptionKind::Text,
    "The service connection to sign in to the registry with. Without it: MYNAH_REGISTRY_USER and MYNAH_REGISTRY_PASSWORD, what `docker login` kept, for Azure Container Registry the Azure sign-in, else nobody.",
);

/// `--insecure-registry`.
pub const INSECURE: OptionSpec = OptionSpec::optional(
    "insecureRegistry",
    OptionKind::Switch,
    "Speak to registries without encryption. Registries of this machine need no such word.",
);

/// `--sign-key`.
pub const SIGN_KEY: OptionSpec = OptionSpec::optional(
    "signKey",
    OptionKind::Path,
    "A private key (ECDSA on P-256, PKCS #8 in PEM, not encrypted) to sign pushed images with, in cosign's layout.",
);

/// Where built modules are to go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Publishing {
    push: Option<String>,
    tag: Option<String>,
    archive: Option<PathBuf>,
    connection: Option<String>,
    insecure: bool,
    sign_key: Option<PathBuf>,
}

/// A module whose name no registry takes.
#[derive(Debug, thiserror::Error)]
#[error("the module `{module}` cannot be pushed to `{prefix}`: registries do not take its name")]
struct UnfitName {
    module: String,
    prefix: String,
}

impl Diagnosis for UnfitName {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("name modules with letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit".into())
    }
}

/// The folders publishing works with.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// What the step writes to; the modules' layouts lie below it.
    pub out: &'a Path,
    /// What is kept from run to run.
    pub cache: &'a Path,
}

/// A module and the repository it is pushed to.
struct Push {
    module: Module,
    repository: Repository,
}

impl Publishing {
    /// What the options say.
    ///
    /// # Errors
    /// A place that is no repository, a tag that is none, and options that mean nothing without `--push`.
    pub fn plan(inputs: &Inputs) -> Result<Self, InputError> {
        let text = |name| Ok::<_, InputError>(inputs.text(name)?.map(str::to_owned));
        let push = text("push")?.map(|prefix| prefix.trim_end_matches('/').to_owned());
        let tag = text("tag")?;
        if let Some(prefix) = &push
            && format!("{prefix}/x").parse::<Repository>().is_err()
        {
            let allowed = "a registry with a path or without, such as `registry.example/factory`,";
            return Err(inputs.refused("push", prefix, allowed));
        }
        if let Some(tag) = &tag
            && format!("registry.example/x:{tag}").parse::<ImageReference>().is_err()
        {
            let allowed = "at most 128 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`,";
            return Err(inputs.refused("tag", tag, allowed));
        }
        let plan = Self {
            archive: inputs.path("outputArchive")?,
            connection: text("registryConnection")?,
            insecure: inputs.switch("insecureRegistry")?,
            sign_key: inputs.path("signKey")?,
            push,
            tag,
        };
        let key = plan.sign_key.as_ref().map(|path| path.display().to_string());
        let idle = [("registryConnection", plan.connection.clone()), ("signKey", key)];
        match idle.into_iter().find_map(|(name, value)| Some((name, value?))) {
            Some((name, value)) if plan.push.is_none() => {
                Err(inputs.refused(name, &value, "`--push` beside it"))
            }
            _ => Ok(plan),
        }
    }

    /// Whether registries other than this machine may be spoken to without encryption.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Begins to sign in to the registry that `module` and those after it are pushed to; nothing where none is.
    ///
    /// # Errors
    /// When registries do not take the module's name.
    pub fn sign_in<'scope>(
        &self,
        module: &str,
        scope: &'scope Scope<'scope, '_>,
        context: &'scope Context<'_>,
    ) -> Result<Option<Ahead<'scope>>, Fault> {
        let Some(prefix) = &self.push else { return Ok(None) };
        let repository = repository(prefix, module)?;
        Ok(Some(Ahead::begin(scope, repository, self.credentials(context), context.monitor)))
    }

    fn credentials(&self, context: &Context<'_>) -> SignIn {
        SignIn::new(context.env.clone(), self.connection.clone(), self.insecure)
    }

    /// Publishes the modules and says in a line what was moved; nothing where
    /// nothing was asked for. `set` then names the modules where they were pushed to. `ahead` is where
    /// [`Publishing::sign_in`] came to.
    ///
    /// # Errors
    /// When a key, a layout or the disk fails, or the registry refuses. `set` is then as it was.
    pub fn run(
        &self,
        set: &mut ModuleSet,
        places: Places<'_>,
        ahead: Option<Ahead<'_>>,
        context: &Context<'_>,
    ) -> Result<Option<String>, Fault> {
        let mut modules = set.modules.clone();
        if let Some(tag) = &self.tag {
            for module in &mut modules {
                module.tag.clone_from(tag);
            }
        }
        let mut said = Vec::new();
        if let Some(prefix) = &self.push {
            let pushes =
                modules.iter().map(|module| Push::to(prefix, module)).collect::<Result<Vec<_>, _>>()?;
            let moved = self.push(prefix, &pushes, places, ahead, context)?;
            modules = pushes.into_iter().map(|push| push.module).collect();
            said.push(sentence(moved));
        }
        if let Some(path) = &self.archive {
            let layouts: Vec<PathBuf> =
                modules.iter().map(|module| module.layout.below(places.out)).collect();
            let images = modules.iter().zip(&layouts).map(|(module, layout)| entry(module, layout));
            archive::write(path, &images.collect::<Vec<_>>())?;
            said.push(format!("wrote {}", path.display()));
        }
        set.modules = modules;
        Ok((!said.is_empty()).then(|| said.join(", ")))
    }

    fn push(
        &self,
        prefix: &str,
        pushes: &[Push],
        places: Places<'_>,
        ahead: Option<Ahead<'_>>,
        context: &Context<'_>,
    ) -> Result<Moved, Fault> {
        let signer = self.sign_key.as_deref().map(Signer::read).transpose()?;
        let Context { env, monitor, .. } = *context;
        let registry = if let Some(ahead) = ahead {
            ahead.registry()?
        } else {
            let name = prefix.split_once('/').map_or(prefix, |(registry, _)| registry);
            Registry::new(name, &self.credentials(context), monitor)?
        };
        let work = async {
            let mut homes = Homes::new();
            let mut all = Moved::default();
            for Push { module, repository } in pushes {
                let path = split(repository).1;
                let folder = module.layout.below(places.out);
                let index = descriptor(&module.index);
                let image = registry.outgoing(&folder, &index, path, &module.tag, &homes)?;
                let attestation = attest::Attestation {
                    repository: &image.repository(),
                    folder: &folder,
                    module,
                    signer: signer.as_ref(),
                    env,
                    cache: places.cache,
                };
                all = all.and(Box::pin(image.push(attestation.send(), monitor)).await?);
                for layer in module.platforms.iter().flat_map(|image| &image.layers) {
                    homes.entry(layer.digest).or_insert_with(|| path.to_owned());
                }
            }
            Ok::<_, RegistryError>(all)
        };
        Ok(http::block_on(monitor, work)?)
    }
}

impl Push {
    fn to(prefix: &str, module: &Module) -> Result<Self, UnfitName> {
        let repository = repository(prefix, &module.name)?;
        Ok(Self { module: Module { repository: repository.to_string(), ..module.clone() }, repository })
    }
}

impl fmt::Display for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = &self.push {
            writeln!(f, "push each module to {prefix}/<its name>")?;
        }
        if let Some(path) = &self.archive {
            writeln!(f, "write all images to {}", path.display())?;
        }
        Ok(())
    }
}

/// Where the module `name` is pushed to below `prefix`.
fn repository(prefix: &str, name: &str) -> Result<Repository, UnfitName> {
    let refused = |_| UnfitName { module: name.to_owned(), prefix: prefix.to_owned() };
    format!("{prefix}/{}", name.to_ascii_lowercase()).parse().map_err(refused)
}

/// A descriptor of an artifact as the image specification writes it.
fn descriptor(of: &mynah_contracts::Descriptor) -> Descriptor {
    Descriptor::new(&of.media_type, of.digest, of.size)
}

fn entry<'a>(module: &Module, layout: &'a Path) -> archive::Entry<'a> {
    archive::Entry {
        layout,
        index: descriptor(&module.index),
        platforms: module.platforms.iter().map(|image| image.platform).collect(),
        name: format!("{}:{}", module.repository, module.tag),
        tag: module.tag.clone(),
    }
}

/// What was moved, for people.
fn sentence(Moved { sent, bytes, mounted, .. }: Moved) -> String {
    let megabytes = bytes as f64 / 1e6;
    match (sent, mounted) {
        (0, 0) => "the registry had everything".into(),
        (_, 0) => format!("pushed {sent} blobs, {megabytes:.2} MB"),
        _ => format!("pushed {sent} blobs, {megabytes:.2} MB, took {mounted} over from other repositories"),
    }
}
