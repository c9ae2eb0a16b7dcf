//! What software an image of a layout holds: our program, and the Debian packages its layers record.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use mynah_contracts::{Hasher, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::oci::OciError;
use crate::oci::entry_path::EntryPath;
use crate::oci::layout::{Image, Layout};
use crate::oci::runtime_image::PROGRAM;
use crate::oci::spec::{Descriptor, canonical, media_type};
use crate::oci::tar_stream::{self, Kind};
use crate::staging;

/// Where dpkg keeps the list of installed packages.
const STATUS: &str = "var/lib/dpkg/status";

/// Where images without dpkg keep one such list per package.
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d";

/// The largest list that is read; Debian's full desktop has 5 MB.
const MAX_STATUS: u64 = 64 << 20;

/// How layers of the model and the clips are named in an image's history: they hold no software.
const WITHOUT_SOFTWARE: [&str; 2] = [" model", " speech"];

/// The software of an image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ImageContents {
    /// The digest of our program, where it is in the image.
    pub(crate) program: Option<Sha256Digest>,
    /// The Debian packages, by name and architecture.
    pub(crate) packages: Vec<DebianPackage>,
}

/// An installed Debian package.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct DebianPackage {
    /// Its name.
    pub(crate) name: String,
    /// Its architecture, or `all`.
    pub(crate) architecture: String,
    /// Its version.
    pub(crate) version: String,
    /// The source package it was built from, where the names differ.
    pub(crate) source: Option<String>,
}

/// What one layer holds; it is a function of the layer's digest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct LayerContents {
    program: Option<Sha256Digest>,
    /// The lists of packages, by their place in the image.
    lists: BTreeMap<String, Vec<DebianPackage>>,
}

impl ImageContents {
    /// Looks into the layers of `image`, upper ones hiding lower ones. What was found in a layer is kept below
    /// `cache`; a cache that cannot be written costs time, never the work.
    ///
    /// # Errors
    /// When a layer cannot be read or is not the one its descriptor promises.
    pub(crate) fn of(layout: &Layout, image: &Image, cache: &Path) -> Result<Self, OciError> {
        let mut program = None;
        let mut lists = BTreeMap::new();
        let made: Vec<_> = image.config.history.iter().filter(|made| !made.empty_layer).collect();
        // A history of other length says nothing of which layer is which.
        let known = made.len() == image.manifest.layers.len();
        for (position, layer) in image.manifest.layers.iter().enumerate() {
            let made_by = made.get(position).filter(|_| known).and_then(|made| made.created_by.as_deref());
            let ours = made_by.filter(|by| by.starts_with("mynah "));
            if ours.is_some_and(|by| WITHOUT_SOFTWARE.iter().any(|end| by.ends_with(end))) {
                continue;
            }
            let record = cache.join("software").join(format!("{}.json", layer.digest.hex()));
            let kept = std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let found: LayerContents = if let Some(kept) = kept {
                kept
            } else {
                let found = LayerContents::of(layout, layer)?;
                if let Err(error) = staging::write_file(&record, &canonical(&found)) {
                    tracing::debug!("{}", mynah_contracts::error_chain(&error));
                }
                found
            };
            program = found.program.or(program);
            lists.extend(found.lists);
        }
        let mut packages: Vec<_> = lists.into_values().flatten().collect();
        packages.sort();
        packages.dedup();
        Ok(Self { program, packages })
    }
}

impl LayerContents {
    fn of(layout: &Layout, layer: &Descriptor) -> Result<Self, OciError> {
        let mut found = Self::default();
        let mut blob = layout.blob(layer)?;
        {
            let reader = BufReader::with_capacity(1 << 17, &mut blob);
            let archive: Box<dyn Read + '_> = if layer.media_type == media_type::LAYER_TAR {
                Box::new(reader)
            } else {
                Box::new(MultiGzDecoder::new(reader))
            };
            tar_stream::for_each(archive, &layer.digest.to_string(), |entry| {
                let Ok(path) = EntryPath::parse(&entry.name) else { return Ok(()) };
                if entry.kind != Kind::File {
                    return Ok(());
                }
                let name = path.to_string();
                let broken = |source| OciError::LayerStream { layer: layer.digest.to_string(), source };
                if name == PROGRAM.trim_start_matches('/') {
                    let mut hasher = Hasher::new();
                    let mut body = entry.body;
                    std::io::copy(&mut body, &mut hasher).map_err(broken)?;
                    found.program = Some(hasher.finish());
                } else if name == STATUS || is_in_status_folder(&name) {
                    let mut bytes = Vec::new();
                    entry.body.take(MAX_STATUS).read_to_end(&mut bytes).map_err(broken)?;
                    found.lists.insert(name, packages(&bytes));
                }
                Ok(())
            })?;
        }
        blob.finish()?;
        Ok(found)
    }
}

fn is_in_status_folder(name: &str) -> bool {
    let file = name.strip_prefix(STATUS_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    // Beside each list lie the digests of the package's files.
    file.is_some_and(|file| !file.contains('/') && !file.ends_with(".md5sums"))
}

/// The packages of a list in the form of dpkg's status file (deb822): paragraphs of fields.
fn packages(list: &[u8]) -> Vec<DebianPackage> {
    let text = String::from_utf8_lossy(list);
    let mut found = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            found.extend(package(&fields));
            fields.clear();
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

fn package(fields: &BTreeMap<String, String>) -> Option<DebianPackage> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
    // `deinstall ok config-files` is a package that was removed.
    if field("status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    let source = field("source").and_then(|source| source.split_whitespace().next().map(str::to_owned));
    let name = field("package")?;
    Some(DebianPackage {
        architecture: field("architecture").unwrap_or_else(|| "all".into()),
        version: field("version")?,
        source: source.filter(|source| *source != name),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn installed_packages_are_listed_and_removed_ones_are_not() {
        let list = "Package: libc6\nStatus: install ok installed\nArchitecture: arm64\nSource: glibc (2.36-9)\n\
                    Version: 2.36-9+deb12u14\nDescription: GNU C Library\n Package: not-a-field\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: ca-certificates\nVersion: 20230311\nSource: ca-certificates\n";
        let found = packages(list.as_bytes());
        let shown: Vec<_> = found
            .iter()
            .map(|p| (p.name.as_str(), p.architecture.as_str(), p.version.as_str(), p.source.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("libc6", "arm64", "2.36-9+deb12u14", Some("glibc")),
                ("ca-certificates", "all", "20230311", None)
            ]
        );
    }

    #[test]
    fn lists_of_images_without_dpkg_are_found_by_their_place() {
        assert!(is_in_status_folder("var/lib/dpkg/status.d/libc6"));
        assert!(!is_in_status_folder("var/lib/dpkg/status.d/libc6.md5sums"));
        assert!(!is_in_status_folder("var/lib/dpkg/status.d/a/b"));
        assert!(!is_in_status_folder("var/lib/dpkg/status.data"));
    }

    proptest! {
        #[test]
        fn no_list_is_too_strange(list in prop::collection::vec(any::<u8>(), 0..200)) {
            packages(&list);
        }
    }
}
