//! The one image this project ships: the device's runtime, its spoken words and its model.
//!
//! Above the base one layer each, the model last: what changes most often lies on top, so that a retrained model
//! moves only its own bytes to a registry and a device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mynah_contracts::{Artifact as _, FileRef, ModelCard, Monitor, Platform, PlatformImage, Speech, Tool};

use super::OciError;
use super::base::BaseImage;
use super::entry_path::EntryPath;
use super::image::{Created, ImageParts};
use super::layer::{Layer, Owner, Source};
use super::layer_cache::LayerCache;
use super::layout::LayoutWriter;
use super::spec::{Descriptor, RunConfig, annotation};

/// The program's place in the image.
pub const PROGRAM: &str = "/usr/local/bin/mynah-runtime";

/// The model package's place in the image.
pub const MODEL: &str = "/usr/share/mynah/model";

/// The clips' place in the image.
pub const SPEECH: &str = "/usr/share/mynah/speech";

/// Where the program may write: a volume mounted here begins with this folder's owner.
pub const STATE: &str = "/var/lib/mynah";

/// The user the program runs as, and its group: any number that is nobody's, since it needs no rights of its own.
pub const USER: u32 = 10001;

/// Everything an image of one platform is made of.
pub struct Contents<'a> {
    /// For which platform `program` was built.
    pub platform: Platform,
    /// What the program needs to run; nothing = it is said to need nothing.
    pub base: Option<&'a BaseImage>,
    /// The runtime.
    pub program: &'a Path,
    /// The model's card.
    pub model: &'a ModelCard,
    /// The model's folder.
    pub model_folder: &'a Path,
    /// The clips, with their folder.
    pub speech: Option<(&'a Speech, &'a Path)>,
    /// When the image says it was made; nothing = it does not say.
    pub created: Option<Created>,
}

impl Contents<'_> {
    /// Writes the image of one platform and gives its manifest's descriptor with what `modules.json` says of
    /// it. Every file of the model and the clips is checked against its digest on its way into the layer.
    ///
    /// # Errors
    /// When a file is missing or changed, the disk refuses, or someone asks to stop.
    pub fn write(
        &self,
        layout: &mut LayoutWriter,
        cache: &LayerCache,
        title: &str,
        monitor: &dyn Monitor,
    ) -> Result<(Descriptor, PlatformImage), OciError> {
        let texts = self.annotations(title);
        let parts: Vec<_> = [
            ("runtime", Some(self.program_layer()?)),
            ("speech", self.speech_layer()?),
            ("model", Some(self.model_layer()?)),
        ]
        .into_iter()
        .filter_map(|(name, layer)| Some((name, layer?)))
        .collect();
        if monitor.cancelled() {
            return Err(OciError::Cancelled);
        }
        let layers =
            parts.into_iter().map(|(name, layer)| (format!("{} {name}", Tool::current().name), layer));
        let mut config = match self.base {
            Some(base) => base.config.clone(),
            None => BaseImage::scratch(self.platform).config,
        };
        config.config = RunConfig {
            user: Some(USER.to_string()),
            env: config.config.env,
            entrypoint: vec![PROGRAM.into()],
            working_dir: Some("/".into()),
            labels: texts.clone(),
            ..RunConfig::default()
        };
        config.config.env.extend([format!("MYNAH_MODEL={MODEL}"), format!("MYNAH_SPEECH={SPEECH}")]);
        let image = ImageParts {
            platform: self.platform,
            base: self.base.map_or(&[], |base| base.layers.as_slice()),
            layers: layers.collect(),
            config,
            annotations: texts,
            created: self.created.as_ref(),
        };
        image.write(layout, cache)
    }

    /// What images and indexes say of themselves.
    pub fn annotations(&self, title: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::from([
            (annotation::TITLE.to_owned(), title.to_owned()),
            (annotation::VERSION.to_owned(), Tool::current().version),
            (annotation::DATASET.to_owned(), self.model.dataset.digest.to_string()),
            (annotation::MODEL.to_owned(), self.model.digest().to_string()),
        ]);
        if let Some(created) = &self.created {
            texts.insert(annotation::CREATED.to_owned(), created.text.clone());
        }
        texts
    }

    fn empty_layer(&self) -> Layer {
        Layer::new(Owner::ROOT, self.created.as_ref().map_or(0, |created| created.epoch))
    }

    fn program_layer(&self) -> Result<Layer, OciError> {
        let mut layer = self.empty_layer();
        let source = Source::File { path: self.program.to_owned(), expected: None };
        layer.add_file(inside(PROGRAM), 0o755, source)?;
        let state = EntryPath::parse(inside(STATE).as_bytes())
            .map_err(|problem| OciError::UnsafeEntry { entry: STATE.into(), problem: problem.to_string() })?;
        layer.put_folder(state, 0o755, Owner { uid: USER, gid: USER });
        Ok(layer)
    }

    fn speech_layer(&self) -> Result<Option<Layer>, OciError> {
        let Some((speech, folder)) = self.speech else { return Ok(None) };
        let mut layer = self.empty_layer();
        let card = mynah_contracts::to_json(speech);
        layer.add_file(&format!("{}/{}", inside(SPEECH), Speech::FILE), 0o644, Source::Bytes(card))?;
        // Labels with the same words share a clip.
        let files: BTreeMap<_, _> = speech.clips.iter().map(|clip| (&clip.file.path, &clip.file)).collect();
        for file in files.into_values() {
            add_referenced(&mut layer, SPEECH, file, folder)?;
        }
        Ok(Some(layer))
    }

    fn model_layer(&self) -> Result<Layer, OciError> {
        let mut layer = self.empty_layer();
        let card = mynah_contracts::to_json(self.model);
        layer.add_file(&format!("{}/{}", inside(MODEL), ModelCard::FILE), 0o644, Source::Bytes(card))?;
        for file in model_files(self.model) {
            add_referenced(&mut layer, MODEL, file, self.model_folder)?;
        }
        Ok(layer)
    }
}

/// The files a model's card names.
pub fn model_files(card: &ModelCard) -> impl Iterator<Item = &FileRef> {
    [&card.model, &card.labels_file].into_iter().chain(card.probes.iter().map(|probe| &probe.file))
}

/// The real path, below `rootfs`, of an absolute path in the image.
pub fn unpacked(rootfs: &Path, path: &str) -> PathBuf {
    rootfs.join(inside(path))
}

/// A path in the image as layers write it: without the slash in front.
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn add_referenced(layer: &mut Layer, place: &str, file: &FileRef, folder: &Path) -> Result<(), OciError> {
    let source = Source::File { path: file.path.below(folder), expected: Some(file.sha256) };
    layer.add_file(&format!("{}/{}", inside(place), file.path), 0o644, source)
}
