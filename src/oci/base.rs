//! Images that others are built upon, wherever they come from.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use mynah_contracts::{Fault, Hasher, Platform, Sha256Digest};

use super::OciError;
use super::layout::Layout;
use super::reference::ImageReference;
use super::spec::{Descriptor, ImageConfig, RootFs, RunConfig, annotation, media_type};
use super::unpack::Limits;

/// Finds images that others are built upon, such as a registry's.
pub trait BaseImages {
    /// The image `reference` names, for `platform`: its documents and layers on this machine, every blob
    /// checked against its digest.
    ///
    /// # Errors
    /// When there is no such image, it has nothing for the platform, it cannot be fetched, or someone asks
    /// to stop.
    fn resolve(&self, reference: &ImageReference, platform: Platform) -> Result<BaseImage, Fault>;
}

/// An image of one platform to build upon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseImage {
    /// The digest of its manifest.
    pub digest: Sha256Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<BaseLayer>,
}

/// A layer of an image to build upon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseLayer {
    /// The blob, with a media type of the OCI specification.
    pub descriptor: Descriptor,
    /// The SHA-256 of the uncompressed archive.
    pub diff_id: Sha256Digest,
    /// The blob's file on this machine. Whoever reads it checks it again.
    pub file: PathBuf,
}

/// The media type of the OCI specification for a layer's type, as registries also have Docker's.
///
/// # Errors
/// The type, where a layer of it cannot be used.
pub fn layer_media_type(found: &str) -> Result<&'static str, String> {
    match found {
        media_type::LAYER | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(media_type::LAYER),
        media_type::LAYER_TAR | "application/vnd.docker.image.rootfs.diff.tar" => Ok(media_type::LAYER_TAR),
        other => Err(format!("is a layer of the type `{}`", other.escape_debug())),
    }
}

impl BaseImage {
    /// The image that holds nothing: `FROM scratch`.
    pub fn scratch(platform: Platform) -> Self {
        let config = ImageConfig {
            created: None,
            author: None,
            platform: platform.into(),
            config: RunConfig::default(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            history: Vec::new(),
        };
        Self { digest: Sha256Digest::of(b""), config, layers: Vec::new() }
    }

    /// The image of `platform` in the OCI layout at `folder`: the one tagged `tag`, or the only one.
    ///
    /// # Errors
    /// When the folder is no layout, names no such image, or has nothing for the platform.
    pub fn in_layout(folder: &Path, tag: Option<&str>, platform: Platform) -> Result<Self, OciError> {
        let layout = Layout::open(folder)?;
        let refuse = |problem: String| OciError::Unsupported { what: folder.display().to_string(), problem };
        let tag_of = |image: &Descriptor| image.annotations.get(annotation::REF_NAME).cloned();
        let named = match tag {
            Some(tag) => layout.images().iter().find(|image| tag_of(image).as_deref() == Some(tag)),
            None if layout.images().len() == 1 => layout.images().first(),
            None => None,
        };
        let Some(named) = named else {
            let tags: Vec<_> = layout.images().iter().filter_map(tag_of).collect();
            let there = if tags.is_empty() { "no tags".into() } else { tags.join(", ") };
            return Err(refuse(match tag {
                Some(tag) => format!("has no image tagged `{tag}`, there is: {there}"),
                None => format!("holds {} images; name one by its tag: {there}", layout.images().len()),
            }));
        };
        let image = layout.image(named.digest, platform)?;
        let layers =
            image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).map(|(descriptor, diff_id)| {
                BaseLayer {
                    descriptor: descriptor.clone(),
                    diff_id: *diff_id,
                    file: layout.blob_path(descriptor),
                }
            });
        Ok(Self { digest: image.descriptor.digest, layers: layers.collect(), config: image.config })
    }
}

/// The image in a layout on disk, `FOLDER` or `FOLDER:TAG`, the folder below `root` where it is relative.
///
/// # Errors
/// As for [`BaseImage::in_layout`].
pub fn layout_image(root: &Path, text: &str, platform: Platform) -> Result<BaseImage, OciError> {
    let (folder, tag) = match text.rsplit_once(':') {
        Some((folder, tag)) if !tag.contains('/') && !root.join(text).is_dir() => (folder, Some(tag)),
        _ => (text, None),
    };
    BaseImage::in_layout(&root.join(folder), tag, platform)
}

impl BaseLayer {
    /// Hands the uncompressed archive to `read`, then checks that its bytes were those promised.
    ///
    /// # Errors
    /// When the blob cannot be read, is not the one promised, or `read` fails.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&mut dyn Read, &str) -> Result<T, OciError>,
    ) -> Result<T, OciError> {
        let file = File::open(&self.file).map_err(OciError::io("read", &self.file))?;
        let name = self.descriptor.digest.to_string();
        let blob = BufReader::with_capacity(1 << 17, file);
        let archive: Box<dyn Read> = if self.descriptor.media_type == media_type::LAYER {
            Box::new(MultiGzDecoder::new(blob))
        } else {
            Box::new(blob)
        };
        // Without a bound a few compressed bytes could ask for any amount of time.
        let mut archive = Digesting { inner: archive.take(Limits::default().bytes), hasher: Hasher::new() };
        let value = read(&mut archive, &name)?;
        let broken = |source| OciError::LayerStream { layer: name.clone(), source };
        // What follows the archive's end belongs to its digest all the same.
        io::copy(&mut archive, &mut io::sink()).map_err(broken)?;
        let found = archive.hasher.finish();
        if found == self.diff_id {
            return Ok(value);
        }
        Err(OciError::ChangedFile { path: self.file.clone(), expected: self.diff_id, found })
    }
}

/// Digests what is read.
struct Digesting<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_docker_are_the_same_bytes_and_others_are_refused() {
        assert_eq!(
            layer_media_type("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            Ok(media_type::LAYER)
        );
        assert_eq!(layer_media_type(media_type::LAYER_TAR), Ok(media_type::LAYER_TAR));
        assert!(layer_media_type("application/vnd.oci.image.layer.v1.tar+zstd").is_err());
    }
}
