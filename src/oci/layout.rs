//! OCI image layouts: an image as a folder (image-layout.md).
//!
//! [`LayoutWriter`] adds blobs beside those that are there and changes `index.json` last, so that whoever
//! reads meanwhile, and whoever comes after a crash, finds a whole image: the old one or the new one.
//! [`Layout`] believes no blob before its digest is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use mynah_contracts::{Hasher, Platform, Sha256Digest};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::OciError;
use super::base::layer_media_type;
use super::layer::{Layer, WrittenLayer};
use super::layer_cache::{Kept, LayerCache};
use super::spec::{
    Descriptor, ImageConfig, Index, LayoutMarker, Manifest, PlatformFields, annotation, canonical, media_type,
};

/// The file that says a folder is a layout.
const MARKER: &str = "oci-layout";

/// The file that names a layout's images.
const INDEX: &str = "index.json";

/// The version of the layout's form.
const LAYOUT_VERSION: &str = "1.0.0";

/// The largest document accepted; the specification asks registries for 4 MiB.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Writes a layout.
pub struct LayoutWriter {
    folder: PathBuf,
    blobs: PathBuf,
    wanted: BTreeSet<String>,
    /// Blobs that may not have reached the disk: nobody believes one unread, so that only `index.json` waits for them.
    unsynced: Vec<PathBuf>,
    changed: bool,
}

impl LayoutWriter {
    /// Prepares `folder`: a new one, an empty one, or a layout whose image will be replaced.
    ///
    /// # Errors
    /// When the folder holds anything else, or the disk refuses.
    pub fn open(folder: &Path) -> Result<Self, OciError> {
        let blobs = folder.join("blobs").join("sha256");
        let ours = match fs::read_dir(folder) {
            // A run that broke off may have left the folders without the marker.
            Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "blobs")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(OciError::io("read", folder)(error)),
        };
        if !ours && !folder.join(MARKER).is_file() {
            return Err(OciError::NotALayout(folder.to_owned()));
        }
        fs::create_dir_all(&blobs).map_err(OciError::io("write", &blobs))?;
        Ok(Self {
            folder: folder.to_owned(),
            blobs,
            wanted: BTreeSet::new(),
            unsynced: Vec::new(),
            changed: false,
        })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add_document(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, OciError> {
        let descriptor = Descriptor::of(media_type, bytes);
        if self.keeps(&descriptor)? {
            return Ok(descriptor);
        }
        let mut temporary = self.temporary()?;
        io::Write::write_all(&mut temporary, bytes).map_err(OciError::io("write", &self.blobs))?;
        self.store(temporary, &descriptor)?;
        Ok(descriptor)
    }

    /// Adds layers, in their order. What `cache` knows is not compressed again; what it does not is kept there.
    ///
    /// # Errors
    /// When one of their files cannot be read, is not the one expected or changes meanwhile, or the disk
    /// refuses.
    pub fn add_layers(
        &mut self,
        layers: &[Layer],
        cache: &LayerCache,
    ) -> Result<Vec<(Descriptor, WrittenLayer)>, OciError> {
        let put: Vec<_> = layers.par_iter().map(|layer| self.put_layer(layer, cache)).collect();
        let mut added = Vec::new();
        for layer in put {
            let (descriptor, written, new) = layer?;
            self.wanted.insert(descriptor.digest.hex());
            if new {
                self.unsynced.push(self.place(&descriptor));
            }
            self.changed |= new;
            added.push((descriptor, written));
        }
        Ok(added)
    }

    /// Makes sure that the layer's blob is there, and says whether it was not before.
    fn put_layer(
        &self,
        layer: &Layer,
        cache: &LayerCache,
    ) -> Result<(Descriptor, WrittenLayer, bool), OciError> {
        let recipe = layer.recipe();
        let key = recipe.map_or_else(|| layer.diff_id(), Ok)?;
        let temporary = self.temporary()?;
        if let Some(Kept { diff_id, blob }) = cache.find(key) {
            // The archive's digest was taken of the files; a recipe promises what they hold.
            let check = || if recipe.is_some() { layer.check() } else { Ok(()) };
            let (checked, there) = rayon::join(check, || self.holds(&blob));
            let there = checked.and(there)?;
            if there || cache.fetch(&blob, &temporary)? {
                if !there {
                    put(temporary, &self.place(&blob))?;
                }
                let written = WrittenLayer { diff_id, digest: blob.digest, size: blob.size };
                return Ok((blob, written, !there));
            }
        }
        let written = layer.write(temporary.as_file(), &self.blobs)?;
        if recipe.is_none() && written.diff_id != key {
            return Err(OciError::ChangedMeanwhile);
        }
        let blob = Descriptor::new(media_type::LAYER, written.digest, written.size);
        let new = !self.holds(&blob)?;
        let place = self.place(&blob);
        if new {
            put(temporary, &place)?;
        }
        cache.keep(key, &Kept { diff_id: written.diff_id, blob: blob.clone() }, &place);
        Ok((blob, written, new))
    }

    /// Adds a blob that lies in the file `from`.
    ///
    /// # Errors
    /// When the file cannot be read, is not the one promised, or the disk refuses.
    pub fn add_blob(&mut self, blob: &Descriptor, from: &Path) -> Result<(), OciError> {
        if self.keeps(blob)? {
            return Ok(());
        }
        let mut file = File::open(from).map_err(OciError::io("read", from))?;
        let temporary = self.temporary()?;
        io::copy(&mut file, &mut temporary.as_file()).map_err(OciError::io("write", temporary.path()))?;
        let found = digest_of(temporary.path())?;
        if found != blob.digest {
            let expected = blob.digest;
            return Err(OciError::ChangedFile { path: from.to_owned(), expected, found });
        }
        self.store(temporary, blob)
    }

    /// Makes `image`, tagged `tag`, the layout's only image, and removes blobs that no longer belong to
    /// it. Says whether anything changed on disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, image: Descriptor, tag: &str) -> Result<bool, OciError> {
        self.sync()?;
        let marker = LayoutMarker { image_layout_version: LAYOUT_VERSION.into() };
        self.write_if_different(MARKER, &canonical(&marker))?;
        let mut image = image;
        image.annotations.insert(annotation::REF_NAME.into(), tag.into());
        let index = Index::new(vec![image], BTreeMap::new());
        self.write_if_different(INDEX, &canonical(&index))?;
        for entry in fs::read_dir(&self.blobs).map_err(OciError::io("read", &self.blobs))? {
            let entry = entry.map_err(OciError::io("read", &self.blobs))?;
            let wanted = entry.file_name().to_str().is_some_and(|name| self.wanted.contains(name));
            if !wanted {
                fs::remove_file(entry.path()).map_err(OciError::io("remove", &entry.path()))?;
                self.changed = true;
            }
        }
        Ok(self.changed)
    }

    fn temporary(&self) -> Result<NamedTempFile, OciError> {
        tempfile::Builder::new()
            .prefix(".writing-")
            .permissions(readable_by_all())
            .tempfile_in(&self.blobs)
            .map_err(OciError::io("write", &self.blobs))
    }

    /// Marks the blob as wanted and says whether it is there already, whole.
    fn keeps(&mut self, descriptor: &Descriptor) -> Result<bool, OciError> {
        self.wanted.insert(descriptor.digest.hex());
        self.holds(descriptor)
    }

    fn place(&self, descriptor: &Descriptor) -> PathBuf {
        self.blobs.join(descriptor.digest.hex())
    }

    /// Whether the blob is there, whole.
    fn holds(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        let path = self.place(descriptor);
        let same_size = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == descriptor.size);
        Ok(same_size && digest_of(&path)? == descriptor.digest)
    }

    fn store(&mut self, temporary: NamedTempFile, descriptor: &Descriptor) -> Result<(), OciError> {
        self.changed = true;
        let place = self.place(descriptor);
        put(temporary, &place)?;
        self.unsynced.push(place);
        Ok(())
    }

    /// Waits until all blobs have reached the disk: side by side, since a file system writes its journal once for all
    /// who wait.
    fn sync(&mut self) -> Result<(), OciError> {
        std::mem::take(&mut self.unsynced).par_iter().try_for_each(|path| {
            let file = File::open(path).map_err(OciError::io("write", path))?;
            file.sync_all().map_err(OciError::io("write", path))
        })
    }

    fn write_if_different(&mut self, name: &str, bytes: &[u8]) -> Result<(), OciError> {
        let path = self.folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let mut temporary = self.temporary()?;
        io::Write::write_all(&mut temporary, bytes).map_err(OciError::io("write", &path))?;
        self.changed = true;
        temporary.as_file().sync_all().map_err(OciError::io("write", &path))?;
        put(temporary, &path)
    }
}

/// Images are published: their files are readable by all, as if written without a temporary name.
fn readable_by_all() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

/// Gives a finished file its name.
fn put(temporary: NamedTempFile, path: &Path) -> Result<(), OciError> {
    temporary.persist(path).map(drop).map_err(|refused| OciError::io("write", path)(refused.error))
}

fn digest_of(path: &Path) -> Result<Sha256Digest, OciError> {
    let mut hasher = Hasher::new();
    let mut file = File::open(path).map_err(OciError::io("read", path))?;
    io::copy(&mut file, &mut hasher).map_err(OciError::io("read", path))?;
    Ok(hasher.finish())
}

/// A layout that is read.
pub struct Layout {
    folder: PathBuf,
    index: Index,
}

/// An image of one platform: its documents, verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The manifest's own descriptor.
    pub descriptor: Descriptor,
    /// The platform.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl Layout {
    /// Opens the layout in `folder`; its blobs are checked when they are read.
    ///
    /// # Errors
    /// When the folder is no layout of this version.
    pub fn open(folder: &Path) -> Result<Self, OciError> {
        let marker: LayoutMarker = read_document(&folder.join(MARKER), "layout marker")?;
        if marker.image_layout_version != LAYOUT_VERSION {
            return Err(OciError::Unsupported {
                what: folder.join(MARKER).display().to_string(),
                problem: format!(
                    "has layout version {}, this tool reads {LAYOUT_VERSION}",
                    marker.image_layout_version
                ),
            });
        }
        let index = read_document(&folder.join(INDEX), "image index")?;
        Ok(Self { folder: folder.to_owned(), index })
    }

    /// The images the layout names.
    pub fn images(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// The image of `platform` inside `digest`, which is an image index or a manifest of this layout.
    ///
    /// # Errors
    /// When it is not in the layout, is not intact, or has nothing for the platform.
    pub fn image(&self, digest: Sha256Digest, platform: Platform) -> Result<Image, OciError> {
        let missing = || OciError::MissingBlob { digest, layout: self.folder.clone() };
        let top = self.index.manifests.iter().find(|named| named.digest == digest);
        let manifest = match top {
            Some(named) if named.media_type == media_type::INDEX => self.choose(named, platform)?,
            Some(named) => named.clone(),
            None => self.inside_an_index(digest)?.ok_or_else(missing)?,
        };
        self.read_image(manifest, platform)
    }

    /// Checks every blob that the layout's images need, down to the layers.
    ///
    /// # Errors
    /// The first blob that is missing or not intact.
    pub fn verify(&self) -> Result<(), OciError> {
        for named in &self.index.manifests {
            let manifests = if named.media_type == media_type::INDEX {
                self.document::<Index>(named, "image index")?.manifests
            } else {
                vec![named.clone()]
            };
            for descriptor in &manifests {
                let manifest: Manifest = self.document(descriptor, "image manifest")?;
                self.document::<ImageConfig>(&manifest.config, "image configuration")?;
                for layer in &manifest.layers {
                    let mut blob = self.blob(layer)?;
                    io::copy(&mut blob, &mut io::sink())
                        .map_err(OciError::io("read", &self.blob_path(layer)))?;
                    blob.finish()?;
                }
            }
        }
        Ok(())
    }

    /// A blob to be read; [`BlobReader::finish`] then says whether it was the one promised.
    ///
    /// # Errors
    /// When it is missing or its size is not the one promised.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, OciError> {
        let path = self.blob_path(descriptor);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                OciError::MissingBlob { digest: descriptor.digest, layout: self.folder.clone() }
            }
            _ => OciError::io("read", &path)(error),
        })?;
        let found = file.metadata().map_err(OciError::io("read", &path))?.len();
        if found != descriptor.size {
            return Err(self.corrupt(descriptor, format!("has {found} bytes, {} expected", descriptor.size)));
        }
        Ok(BlobReader {
            inner: BufReader::new(file).take(descriptor.size),
            hasher: Hasher::new(),
            expected: descriptor.digest,
            layout: self.folder.clone(),
        })
    }

    /// Where the blob's file is, if it is there.
    pub fn blob_path(&self, descriptor: &Descriptor) -> PathBuf {
        self.folder.join("blobs").join("sha256").join(descriptor.digest.hex())
    }

    fn corrupt(&self, descriptor: &Descriptor, problem: String) -> OciError {
        OciError::Corrupt { expected: descriptor.digest, layout: self.folder.clone(), problem }
    }

    fn document<T: DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
        form: &'static str,
    ) -> Result<T, OciError> {
        if descriptor.size > MAX_DOCUMENT_BYTES {
            return Err(self.corrupt(descriptor, format!("is a document of {} bytes", descriptor.size)));
        }
        let mut blob = self.blob(descriptor)?;
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).map_err(OciError::io("read", &self.blob_path(descriptor)))?;
        blob.finish()?;
        parse(&bytes, &descriptor.digest.to_string(), form)
    }

    fn choose(&self, index: &Descriptor, platform: Platform) -> Result<Descriptor, OciError> {
        let Index { manifests, .. } = self.document(index, "image index")?;
        let of = |descriptor: &Descriptor| descriptor.platform.as_ref().and_then(PlatformFields::known);
        if let Some(found) = manifests.iter().find(|descriptor| of(descriptor) == Some(platform)) {
            return Ok(found.clone());
        }
        let available: Vec<_> = manifests.iter().filter_map(of).map(Platform::as_str).collect();
        Err(OciError::NoSuchPlatform { digest: index.digest, platform, available: available.join(", ") })
    }

    /// The manifest with this digest, where one of the layout's indexes names it.
    fn inside_an_index(&self, digest: Sha256Digest) -> Result<Option<Descriptor>, OciError> {
        for named in self.index.manifests.iter().filter(|named| named.media_type == media_type::INDEX) {
            let Index { manifests, .. } = self.document(named, "image index")?;
            if let Some(found) = manifests.into_iter().find(|descriptor| descriptor.digest == digest) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn read_image(&self, descriptor: Descriptor, platform: Platform) -> Result<Image, OciError> {
        let manifest: Manifest = self.document(&descriptor, "image manifest")?;
        let config: ImageConfig = self.document(&manifest.config, "image configuration")?;
        if config.platform.known() != Some(platform) {
            let available = format!("{}/{}", config.platform.os, config.platform.architecture);
            return Err(OciError::NoSuchPlatform { digest: descriptor.digest, platform, available });
        }
        for layer in &manifest.layers {
            if let Err(problem) = layer_media_type(&layer.media_type) {
                return Err(OciError::Unsupported { what: layer.digest.to_string(), problem });
            }
        }
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            let problem = format!(
                "names {} layers, its configuration {}",
                manifest.layers.len(),
                config.rootfs.diff_ids.len()
            );
            return Err(self.corrupt(&descriptor, problem));
        }
        Ok(Image { descriptor, platform, manifest, config })
    }
}

fn read_document<T: DeserializeOwned>(path: &Path, form: &'static str) -> Result<T, OciError> {
    let file = File::open(path).map_err(OciError::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(OciError::io("read", path))?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(OciError::Unsupported {
            what: path.display().to_string(),
            problem: format!("is larger than {MAX_DOCUMENT_BYTES} bytes"),
        });
    }
    parse(&bytes, &path.display().to_string(), form)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str, form: &'static str) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|source| OciError::Document { what: what.to_owned(), form, source })
}

/// A blob whose digest is taken while it is read.
pub struct BlobReader {
    inner: io::Take<BufReader<File>>,
    hasher: Hasher,
    expected: Sha256Digest,
    layout: PathBuf,
}

impl BlobReader {
    /// Reads what is left and compares the digest: only now may the content be believed.
    ///
    /// # Errors
    /// When the bytes are not those promised.
    pub fn finish(mut self) -> Result<(), OciError> {
        io::copy(&mut self.inner, &mut self.hasher).map_err(OciError::io("read", &self.layout))?;
        let found = self.hasher.finish();
        if found == self.expected {
            return Ok(());
        }
        let problem = format!("has the digest {found}");
        Err(OciError::Corrupt { expected: self.expected, layout: self.layout, problem })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
