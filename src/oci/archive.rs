//! Images as one file, as `docker save` writes them and `docker load`, `ctr images import` and skopeo read them:
//! an OCI layout with Docker's `manifest.json` beside it, in a tar archive.
//!
//! Equal images give equal bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use mynah_contracts::{Platform, Sha256Digest};
use serde::Serialize;

use super::OciError;
use super::layout::Layout;
use super::spec::{Descriptor, Index, LayoutMarker, annotation, canonical};

/// The name containerd gives an image it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image for the archive.
pub struct Entry<'a> {
    /// The layout it is in.
    pub layout: &'a Path,
    /// The image index.
    pub index: Descriptor,
    /// The platforms it is for.
    pub platforms: Vec<Platform>,
    /// The name it is loaded under: `repository:tag`.
    pub name: String,
    /// The tag alone.
    pub tag: String,
}

/// An image in Docker's own list, which knows one platform each.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes the images to `path`, which is replaced at once when all is written.
///
/// Docker gets the image for this machine's platform where there is one, else the first; all others are in the
/// archive for those who read layouts.
///
/// # Errors
/// When a layout is not whole, or the disk refuses.
pub fn write(path: &Path, images: &[Entry<'_>]) -> Result<(), OciError> {
    let path = std::path::absolute(path).map_err(OciError::io("write", path))?;
    let refused = || OciError::io("write", &path);
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(OciError::io("write", parent))?;
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent)
        .map_err(refused())?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 17, partial.as_file()));
    let mut blobs: BTreeMap<Sha256Digest, (Descriptor, PathBuf)> = BTreeMap::new();
    let (mut named, mut docker) = (Vec::new(), Vec::new());
    for image in images {
        let layout = Layout::open(image.layout)?;
        let mut keep = |descriptor: &Descriptor| {
            blobs.entry(descriptor.digest).or_insert_with(|| (descriptor.clone(), image.layout.to_owned()));
        };
        let mut index = image.index.clone();
        keep(&index);
        index.annotations.insert(annotation::REF_NAME.into(), image.tag.clone());
        index.annotations.insert(CONTAINERD_NAME.into(), image.name.clone());
        named.push(index);
        let preferred = Platform::host().filter(|host| image.platforms.contains(host));
        let preferred = preferred.or(image.platforms.first().copied());
        for &platform in &image.platforms {
            let found = layout.image(image.index.digest, platform)?;
            keep(&found.descriptor);
            keep(&found.manifest.config);
            found.manifest.layers.iter().for_each(&mut keep);
            if Some(platform) == preferred {
                docker.push(DockerImage {
                    config: place(found.manifest.config.digest),
                    repo_tags: vec![image.name.clone()],
                    layers: found.manifest.layers.iter().map(|layer| place(layer.digest)).collect(),
                });
            }
        }
    }
    for folder in ["blobs/", "blobs/sha256/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, folder, io::empty()).map_err(refused())?;
    }
    for (descriptor, folder) in blobs.values() {
        let mut blob = Layout::open(folder)?.blob(descriptor)?;
        let mut header = header(tar::EntryType::Regular, 0o644, descriptor.size);
        let body = blob.by_ref().take(descriptor.size);
        archive.append_data(&mut header, place(descriptor.digest), body).map_err(refused())?;
        blob.finish()?;
    }
    let index = Index::new(named, BTreeMap::new());
    let marker = LayoutMarker { image_layout_version: "1.0.0".into() };
    for (name, bytes) in [
        ("index.json", canonical(&index)),
        ("manifest.json", canonical(&docker)),
        ("oci-layout", canonical(&marker)),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice()).map_err(refused())?;
    }
    let written =
        archive.into_inner().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
    written.and_then(File::sync_all).map_err(refused())?;
    partial.persist(&path).map(drop).map_err(|error| refused()(error.error))
}

fn place(digest: Sha256Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
