//! An image put together: a base's layers, layers of one's own, a configuration, a manifest.

use std::collections::BTreeMap;

use mynah_contracts::{Platform, PlatformImage};

use super::OciError;
use super::base::{BaseLayer, layer_media_type};
use super::layer::Layer;
use super::layer_cache::LayerCache;
use super::layout::LayoutWriter;
use super::spec::{
    Descriptor, History, ImageConfig, Index, Manifest, PlatformFields, RootFs, canonical, media_type,
};

/// A moment that goes into an image: equal inputs must give equal bytes, so it is never read off a clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// Seconds since 1970.
    pub epoch: u64,
    /// The same as RFC 3339.
    pub text: String,
}

/// The time files of an image carry that does not say when it was made.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What an image of one platform is made of.
pub struct ImageParts<'a> {
    /// The platform.
    pub platform: Platform,
    /// The layers of the image it is built on, lowest first.
    pub base: &'a [BaseLayer],
    /// Layers above those, each with what it says in the history.
    pub layers: Vec<(String, Layer)>,
    /// The configuration; its layers are filled in here.
    pub config: ImageConfig,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it says it was made.
    pub created: Option<&'a Created>,
}

impl ImageParts<'_> {
    /// Writes the image and gives its manifest's descriptor with what `modules.json` says of it.
    ///
    /// # Errors
    /// When a file is missing or changed, or the disk refuses.
    pub fn write(
        self,
        layout: &mut LayoutWriter,
        cache: &LayerCache,
    ) -> Result<(Descriptor, PlatformImage), OciError> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in self.base {
            let mut descriptor = layer.descriptor.clone();
            layer_media_type(&descriptor.media_type)
                .map_err(|problem| OciError::Unsupported { what: descriptor.digest.to_string(), problem })?
                .clone_into(&mut descriptor.media_type);
            layout.add_blob(&descriptor, &layer.file)?;
            layers.push(descriptor);
            diff_ids.push(layer.diff_id);
        }
        let (texts, own): (Vec<_>, Vec<_>) = self.layers.into_iter().unzip();
        for (descriptor, written) in layout.add_layers(&own, cache)? {
            layers.push(descriptor);
            diff_ids.push(written.diff_id);
        }
        let mut config = self.config;
        config.created = self.created.map(|created| created.text.clone());
        config.platform = PlatformFields::from(self.platform);
        config.rootfs = RootFs { kind: "layers".into(), diff_ids };
        // The time its files carry. Optional by the specification, but umoci reads it unasked.
        let created = self.created.map_or(EPOCH, |created| &created.text);
        config.history.extend(texts.into_iter().map(|text| History {
            created: Some(created.to_owned()),
            created_by: Some(text),
            empty_layer: false,
        }));
        let config = layout.add_document(media_type::CONFIG, &canonical(&config))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.into()),
            config,
            layers,
            annotations: self.annotations,
        };
        let mut descriptor = layout.add_document(media_type::MANIFEST, &canonical(&manifest))?;
        let image = PlatformImage {
            platform: self.platform,
            manifest: (&descriptor).into(),
            layers: manifest.layers.iter().map(Into::into).collect(),
        };
        descriptor.platform = Some(self.platform.into());
        Ok((descriptor, image))
    }
}

/// Adds the index of all platforms' images.
///
/// # Errors
/// When the disk refuses.
pub fn write_index(
    layout: &mut LayoutWriter,
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<Descriptor, OciError> {
    layout.add_document(media_type::INDEX, &canonical(&Index::new(manifests, annotations)))
}
