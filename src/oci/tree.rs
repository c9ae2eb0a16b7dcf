//! What a container sees of an image: its layers laid one above the other, without unpacking them.
//!
//! Names are parsed once ([`EntryPath`]); links are followed inside the tree only, so that nothing leads out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::OciError;
use super::base::BaseLayer;
use super::entry_path::EntryPath;
use super::layer::{Owner, Source};
use super::tar_stream::{self, Kind, unsafe_entry};
use super::unpack::{Limits, OPAQUE, WHITEOUT};

/// How many links are followed before it is a circle (`MAXSYMLINKS` of Linux).
const MAX_LINKS: usize = 40;

/// Everything in an image, by place. The root is not in it.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<EntryPath, Node>,
}

/// Something in an image.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Folder,
    File(Content),
    Symlink(String),
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Outside of any layer.
    Source(Source),
    /// In a layer, under this name.
    Layer(Arc<BaseLayer>, EntryPath),
}

impl Node {
    pub(crate) fn folder() -> Self {
        Self { kind: NodeKind::Folder, mode: 0o755, owner: Owner::ROOT }
    }

    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.kind, NodeKind::Folder)
    }
}

impl Tree {
    /// Lays a layer above what is there.
    ///
    /// # Errors
    /// When the layer cannot be read, is not the one promised, or holds what no layer may.
    pub(crate) fn lay(&mut self, layer: &Arc<BaseLayer>) -> Result<(), OciError> {
        let mut entries = Vec::new();
        layer.read(|archive, name| {
            tar_stream::for_each(archive, name, |entry| {
                if entries.len() as u64 >= Limits::default().entries {
                    return Err(OciError::TooLarge {
                        limit: format!("{} entries", Limits::default().entries),
                    });
                }
                let refuse = |problem: &dyn ToString| unsafe_entry(&entry.name, problem);
                let place = EntryPath::parse(&entry.name).map_err(|problem| refuse(&problem))?;
                let target = String::from_utf8_lossy(&entry.target).into_owned();
                entries.push((place, entry.kind, target, entry.mode & 0o7777, entry.owner));
                Ok(())
            })
        })?;
        // Whiteouts remove what lower layers brought, wherever in the archive they stand.
        for (place, ..) in &entries {
            let Some((last, parent)) = place.split_last() else { continue };
            if last == OPAQUE {
                self.remove_below(&parent);
            } else if let Some(hidden) = last.strip_prefix(WHITEOUT) {
                self.remove(&parent.child(hidden));
            }
        }
        for (place, kind, target, mode, owner) in entries {
            if place.is_root() || place.split_last().is_some_and(|(last, _)| last.starts_with(WHITEOUT)) {
                continue;
            }
            let kind = match kind {
                Kind::Folder => NodeKind::Folder,
                Kind::File => NodeKind::File(Content::Layer(Arc::clone(layer), place.clone())),
                Kind::Symlink => NodeKind::Symlink(target),
                Kind::HardLink => {
                    let original = EntryPath::parse(target.as_bytes()).ok();
                    let Some(node) = original.and_then(|original| self.nodes.get(&original)) else {
                        return Err(unsafe_entry(
                            place.to_string().as_bytes(),
                            &"links to no file of the image",
                        ));
                    };
                    node.kind.clone()
                }
            };
            self.put(place, Node { kind, mode, owner });
        }
        Ok(())
    }

    /// Puts something at a place; what was there goes, except that a folder stays filled where a folder comes.
    pub(crate) fn put(&mut self, place: EntryPath, node: Node) {
        if !node.is_folder() || !self.nodes.get(&place).is_some_and(Node::is_folder) {
            self.remove(&place);
        }
        self.nodes.insert(place, node);
    }

    fn remove(&mut self, place: &EntryPath) {
        self.nodes.remove(place);
        self.remove_below(place);
    }

    fn remove_below(&mut self, folder: &EntryPath) {
        let below: Vec<_> = self.below(folder).map(|(place, _)| place.clone()).collect();
        for place in below {
            self.nodes.remove(&place);
        }
    }

    /// Everything below a folder, in order.
    pub(crate) fn below<'a>(
        &'a self,
        folder: &'a EntryPath,
    ) -> impl Iterator<Item = (&'a EntryPath, &'a Node)> {
        self.nodes
            .range::<EntryPath, _>((Bound::Excluded(folder), Bound::Unbounded))
            .take_while(|(place, _)| place.components().starts_with(folder.components()))
    }

    /// What stands at a place, links not followed.
    pub(crate) fn get(&self, place: &EntryPath) -> Option<&Node> {
        self.nodes.get(place)
    }

    /// Whether a place is a folder; the root is one.
    pub(crate) fn is_folder(&self, place: &EntryPath) -> bool {
        place.is_root() || self.get(place).is_some_and(Node::is_folder)
    }

    /// Where a path really leads: links on the way followed, `..` taken from where they lead, the root above
    /// itself. What does not exist is taken as it stands. The last component is followed too if `last`.
    /// Nothing where links lead in a circle.
    pub(crate) fn resolve(&self, path: &str, last: bool) -> Option<EntryPath> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut here = EntryPath::default();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here = here.split_last().map(|(_, parent)| parent).unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = here.child(&part);
            let is_last = todo.iter().all(String::is_empty);
            match self.get(&next).map(|node| &node.kind) {
                Some(NodeKind::Symlink(target)) if last || !is_last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        here = EntryPath::default();
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => here = next,
            }
        }
        Some(here)
    }

    /// A small file's text, such as `/etc/passwd`. Nothing where there is no such file or it is no text.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn text(&self, path: &str, limit: u64) -> Result<Option<String>, OciError> {
        let node = self.resolve(path, true).and_then(|place| self.get(&place));
        let Some(NodeKind::File(content)) = node.map(|node| &node.kind) else { return Ok(None) };
        let mut bytes = Vec::new();
        match content {
            Content::Source(Source::Bytes(own)) => bytes.clone_from(own),
            Content::Source(Source::File { path, .. }) => {
                let file = File::open(path).map_err(OciError::io("read", path))?;
                file.take(limit).read_to_end(&mut bytes).map_err(OciError::io("read", path))?;
            }
            Content::Layer(layer, wanted) => each_file(layer, |place, body| {
                if place == wanted {
                    bytes.clear();
                    body.take(limit).read_to_end(&mut bytes)?;
                }
                Ok(())
            })?,
        }
        Ok(String::from_utf8(bytes).ok())
    }
}

/// Writes files of a layer into `folder` and gives them by their names in the layer.
///
/// # Errors
/// When the layer cannot be read, is not the one promised, or the disk refuses.
pub(crate) fn extract(
    layer: &BaseLayer,
    wanted: &[EntryPath],
    folder: &Path,
) -> Result<BTreeMap<EntryPath, Source>, OciError> {
    let mut found = BTreeMap::new();
    each_file(layer, |place, body| {
        if wanted.contains(place) {
            let path = folder.join(found.len().to_string());
            io::copy(body, &mut File::create(&path)?)?;
            found.insert(place.clone(), Source::File { path, expected: None });
        }
        Ok(())
    })?;
    Ok(found)
}

fn each_file(
    layer: &BaseLayer,
    mut visit: impl FnMut(&EntryPath, &mut dyn Read) -> io::Result<()>,
) -> Result<(), OciError> {
    layer.read(|archive, name| {
        tar_stream::for_each(archive, name, |mut entry| {
            let place =
                EntryPath::parse(&entry.name).map_err(|problem| unsafe_entry(&entry.name, &problem))?;
            if entry.kind != Kind::File {
                return Ok(());
            }
            visit(&place, &mut entry.body)
                .map_err(|source| OciError::LayerStream { layer: name.to_owned(), source })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    fn tree() -> Tree {
        let mut tree = Tree::default();
        for folder in ["usr", "usr/bin", "var", "etc"] {
            tree.put(place(folder), Node::folder());
        }
        for (link, target) in
            [("bin", "usr/bin"), ("var/up", "../../../etc"), ("a", "/b"), ("b", "a"), ("last", "/usr")]
        {
            let kind = NodeKind::Symlink(target.into());
            tree.put(place(link), Node { kind, mode: 0o777, owner: Owner::ROOT });
        }
        tree
    }

    #[test]
    fn links_are_followed_and_never_leave() {
        let tree = tree();
        let resolved = |path: &str| tree.resolve(path, true).map(|place| place.to_string());
        assert_eq!(resolved("/bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(resolved("var/up/passwd").unwrap(), "etc/passwd");
        assert_eq!(resolved("/../../x/./y").unwrap(), "x/y");
        assert_eq!(resolved("bin/..").unwrap(), "usr");
        assert_eq!(resolved("/a/x"), None);
        assert_eq!(tree.resolve("/last", false).unwrap().to_string(), "last");
        assert_eq!(tree.resolve("/last/", true).unwrap().to_string(), "usr");
    }

    #[test]
    fn a_file_replaces_a_folder_with_all_below_and_a_folder_stays_filled() {
        let mut tree = tree();
        tree.put(place("usr"), Node { mode: 0o700, ..Node::folder() });
        assert!(tree.is_folder(&place("usr/bin")));
        let file = NodeKind::File(Content::Source(Source::Bytes(b"text".to_vec())));
        tree.put(place("usr"), Node { kind: file, mode: 0o644, owner: Owner::ROOT });
        assert!(tree.get(&place("usr/bin")).is_none());
        assert_eq!(tree.text("/last", 9).unwrap().unwrap(), "text");
        assert!(tree.is_folder(&EntryPath::default()));
    }
}
