//! What `docker save` writes, read: Docker's `manifest.json`, a configuration, layers that are mostly not compressed.
//!
//! Every Docker writes `manifest.json`, those since 25 an OCI layout beside it. Layers that are not compressed are
//! compressed here as our own are, so that the same layer is the same blob each time.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use mynah_contracts::{Hasher, Platform, Sha256Digest};
use serde::Deserialize;

use super::OciError;
use super::base::{BaseImage, BaseLayer};
use super::gzip::{Gzip, Written};
use super::spec::{Descriptor, ImageConfig, media_type};
use super::unpack::Limits;

/// Docker's list of the images inside.
const LIST: &str = "manifest.json";

/// The largest document accepted.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// The first bytes of what is gzipped (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An image in the list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

/// The only image in the archive at `path`, which is to be for `platform`. Its files go below `folder`.
///
/// # Errors
/// When it is no such archive, holds another number of images or another platform's, or the disk refuses.
pub(crate) fn image(path: &Path, folder: &Path, platform: Platform) -> Result<BaseImage, OciError> {
    let refuse = |problem: String| OciError::Unsupported { what: path.display().to_string(), problem };
    fs::create_dir_all(folder).map_err(OciError::io("write", folder))?;
    let file = File::open(path).map_err(OciError::io("read", path))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 17, file));
    // What leads out of the folder is passed over by the library; what is read below is looked at again.
    archive.unpack(folder).map_err(OciError::io("unpack", path))?;
    let root = fs::canonicalize(folder).map_err(OciError::io("read", folder))?;
    let place = |name: &str| -> Result<PathBuf, OciError> {
        let missing = || refuse(format!("names `{}`, which is not in it", name.escape_debug()));
        // Older versions write a layer that stands twice as a link to the first.
        let found = fs::canonicalize(root.join(name)).map_err(|_| missing())?;
        if found.starts_with(&root) && found.is_file() { Ok(found) } else { Err(missing()) }
    };
    let list: Vec<Listed> = document(&place(LIST)?, LIST)?;
    let [listed] = list.as_slice() else {
        return Err(refuse(format!("holds {} images, one was expected", list.len())));
    };
    let config: ImageConfig = document(&place(&listed.config)?, "image configuration")?;
    let digest = file_digest(&place(&listed.config)?)?;
    if config.platform.known() != Some(platform) {
        let available = format!("{}/{}", config.platform.os, config.platform.architecture);
        return Err(OciError::NoSuchPlatform { digest, platform, available });
    }
    let named = config.rootfs.diff_ids.len();
    if listed.layers.len() != named {
        return Err(refuse(format!("has {} layers, its configuration {named}", listed.layers.len())));
    }
    let mut layers = Vec::new();
    for (index, (name, &diff_id)) in listed.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
        let compressed = root.join(format!("layer-{index}"));
        layers.push(layer(&place(name)?, &compressed, diff_id)?);
    }
    Ok(BaseImage { digest, config, layers })
}

/// A layer as it is where it is compressed, else compressed into the file `to`.
fn layer(from: &Path, to: &Path, diff_id: Sha256Digest) -> Result<BaseLayer, OciError> {
    let read = || OciError::io("read", from);
    let mut source = File::open(from).map_err(read())?;
    let mut start = Vec::new();
    source.by_ref().take(GZIP.len() as u64).read_to_end(&mut start).map_err(read())?;
    source.rewind().map_err(read())?;
    let (found, digest, size, file) = if start == GZIP {
        let mut content = Hasher::new();
        // Without a bound a few compressed bytes could ask for any amount of time.
        let mut archive = MultiGzDecoder::new(BufReader::new(&source)).take(Limits::default().bytes);
        io::copy(&mut archive, &mut content).map_err(read())?;
        let size = source.metadata().map_err(read())?.len();
        (content.finish(), file_digest(from)?, size, from)
    } else {
        let out = File::create(to).map_err(OciError::io("write", to))?;
        let mut gzip = Gzip::new(out).map_err(OciError::io("write", to))?;
        io::copy(&mut source, &mut gzip).map_err(OciError::io("write", to))?;
        let Written { content, digest, size } = gzip.finish().map_err(OciError::io("write", to))?;
        (content, digest, size, to)
    };
    if found != diff_id {
        return Err(OciError::ChangedFile { path: from.to_owned(), expected: diff_id, found });
    }
    let descriptor = Descriptor::new(media_type::LAYER, digest, size);
    Ok(BaseLayer { descriptor, diff_id, file: file.to_owned() })
}

fn file_digest(path: &Path) -> Result<Sha256Digest, OciError> {
    let mut hasher = Hasher::new();
    let mut file = File::open(path).map_err(OciError::io("read", path))?;
    io::copy(&mut file, &mut hasher).map_err(OciError::io("read", path))?;
    Ok(hasher.finish())
}

fn document<T: serde::de::DeserializeOwned>(path: &Path, form: &'static str) -> Result<T, OciError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(OciError::io("read", path))?;
    file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(OciError::io("read", path))?;
    let what = path.display().to_string();
    serde_json::from_slice(&bytes).map_err(|source| OciError::Document { what, form, source })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A tar archive of these files.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// An image of two layers, the second gzipped, as Docker writes it; `list` is its `manifest.json`.
    fn saved(list: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (plain, other) = (archive(&[("a", b"plain")]), archive(&[("b", b"gzipped")]));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&other).unwrap();
        let config = format!(
            r#"{{"architecture":"arm64","os":"linux","config":{{"Cmd":["/a"],"Labels":null}},"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            Sha256Digest::of(&plain),
            Sha256Digest::of(&other)
        );
        let bytes = archive(&[
            ("config.json", config.as_bytes()),
            ("one/layer.tar", &plain),
            ("blobs/two", &gzip.finish().unwrap()),
            (LIST, list.as_bytes()),
        ]);
        let path = folder.path().join("saved.tar");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    const GOOD: &str = r#"[{"Config":"config.json","RepoTags":null,"Layers":["one/layer.tar","blobs/two"]}]"#;

    #[test]
    fn layers_come_out_compressed_and_checked() {
        let (folder, path) = saved(GOOD);
        let image = image(&path, &folder.path().join("out"), Platform::LinuxArm64).unwrap();
        assert_eq!(image.config.config.cmd, ["/a"]);
        for (layer, name) in image.layers.iter().zip(["a", "b"]) {
            assert_eq!(layer.descriptor.media_type, media_type::LAYER);
            assert_eq!(file_digest(&layer.file).unwrap(), layer.descriptor.digest);
            let first = layer.read(|archive, _| {
                let mut archive = tar::Archive::new(archive);
                let entry = archive.entries().unwrap().next().unwrap().unwrap();
                Ok(entry.path().unwrap().into_owned())
            });
            assert_eq!(first.unwrap(), Path::new(name));
        }
    }

    #[test]
    fn what_docker_would_not_write_is_refused() {
        let told = |list: &str, platform| {
            let (folder, path) = saved(list);
            let error = image(&path, &folder.path().join("out"), platform).unwrap_err();
            mynah_contracts::error_chain(&error).replace(&folder.path().display().to_string(), "…")
        };
        let arm = Platform::LinuxArm64;
        let told = [
            told("[]", arm),
            told("{", arm),
            told(&GOOD.replace("blobs/two", "../../../etc/passwd"), arm),
            told(&GOOD.replace("one/layer.tar", "nowhere"), arm),
            told(&GOOD.replace(r#""one/layer.tar","#, ""), arm),
            told(&GOOD.replace("blobs/two", "one/layer.tar"), arm),
            told(GOOD, Platform::LinuxAmd64),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        `…/saved.tar` holds 0 images, one was expected
        `…/out/manifest.json` is not a valid manifest.json: invalid type: map, expected a sequence at line 1 column 0
        `…/saved.tar` names `../../../etc/passwd`, which is not in it
        `…/saved.tar` names `nowhere`, which is not in it
        `…/saved.tar` has 1 layers, its configuration 2
        `…/out/one/layer.tar` is not the file its artifact names: expected sha256:7a9d132b04883d2e93c48e56b92cab28d6b02bca7377c475a4f0ce36e4ff06fc, found sha256:0a8da14aa22aeabdeb081f57a48b4b2e673e05684fd961888d5947787e0a03cb
        the image `sha256:75de4d6451495ff3723d380ca431a82cf51893949cafd1519262e0616436f253` has nothing for linux/amd64, only linux/arm64
        ");
    }
}
