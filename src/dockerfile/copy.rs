//! `COPY` and `ADD`: what was found is put into a layer and into the tree the next instruction sees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::oci::OciError;
use crate::oci::entry_path::EntryPath;
use crate::oci::image::Created;
use crate::oci::layer::{Layer, Owner, Source};
use crate::oci::tar_stream::{self, Kind, unsafe_entry};
use crate::oci::tree::{self, Content, Node, NodeKind, Tree};
use crate::oci::unpack::Limits;

use super::context::{Context, Found, find_in_tree, io_at};
use super::error::Problem;
use super::instruction::CopySource;

/// The most bytes of `/etc/passwd` and `/etc/group` read.
const MAX_ACCOUNTS_BYTES: u64 = 1 << 20;

/// A path as absolute: below `working_dir` where it is not yet. A slash at its end is kept.
pub(super) fn absolute(working_dir: Option<&str>, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", working_dir.unwrap_or("/").trim_end_matches('/'))
    };
    let mut parts = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = (path.ends_with('/') || path.ends_with("/.") || path == ".") && !parts.is_empty();
    format!("/{}{}", parts.join("/"), if slash { "/" } else { "" })
}

/// A layer in the making, above a tree.
pub(super) struct Change<'a> {
    tree: &'a mut Tree,
    layer: Layer,
    /// Who owns folders that are made on the way.
    pub(super) owner: Owner,
}

impl<'a> Change<'a> {
    pub(super) fn new(tree: &'a mut Tree, created: Option<&Created>) -> Self {
        let layer = Layer::new(Owner::ROOT, created.map_or(0, |created| created.epoch));
        Self { tree, layer, owner: Owner::ROOT }
    }

    pub(super) fn into_layer(self) -> Layer {
        self.layer
    }

    /// Makes sure that a folder is there.
    pub(super) fn folder_with_parents(&mut self, path: &str) -> Result<EntryPath, Problem> {
        let place = self.resolve(path)?;
        let missing = !self.tree.is_folder(&place);
        if missing {
            self.parents(&place)?;
            self.put(place.clone(), Node { owner: self.owner, ..Node::folder() })?;
        }
        Ok(place)
    }

    fn resolve(&self, path: &str) -> Result<EntryPath, Problem> {
        self.tree
            .resolve(path, true)
            .ok_or_else(|| Problem::Text(format!("links in `{}` lead in a circle", path.escape_debug())))
    }

    /// Puts the folders above a place into the layer, as they are where they are there: a layer that names
    /// them otherwise would change them.
    fn parents(&mut self, place: &EntryPath) -> Result<(), Problem> {
        let Some((_, parent)) = place.split_last() else { return Ok(()) };
        let mut here = EntryPath::default();
        for name in parent.components() {
            here = here.child(name);
            let node = match self.tree.get(&here) {
                Some(node) => node.clone(),
                None => Node { owner: self.owner, ..Node::folder() },
            };
            self.put(here.clone(), node)?;
        }
        Ok(())
    }

    /// Puts something at a place whose parents are there.
    fn put(&mut self, place: EntryPath, node: Node) -> Result<(), Problem> {
        if place.is_root() {
            return Ok(());
        }
        match self.tree.get(&place) {
            Some(there) if there.is_folder() && !node.is_folder() => {
                return Err(Problem::Text(format!(
                    "`/{place}` is a folder: no file can be put in its place"
                )));
            }
            Some(there) if !there.is_folder() && node.is_folder() => {
                return Err(Problem::Text(format!("`/{place}` is no folder: none can be put in its place")));
            }
            _ => {}
        }
        match &node.kind {
            NodeKind::Folder => self.layer.put_folder(place.clone(), node.mode, node.owner),
            NodeKind::Symlink(target) => self.layer.put_symlink(place.clone(), target.clone(), node.owner),
            NodeKind::File(Content::Source(source)) => {
                self.layer.put_file(place.clone(), node.mode, node.owner, source.clone());
            }
            NodeKind::File(Content::Layer(..)) => {
                return Err(Problem::Text(format!("`/{place}` was not taken out of its layer")));
            }
        }
        self.tree.put(place, node);
        Ok(())
    }
}

/// A `COPY` or `ADD` with all its variables expanded.
pub(super) struct Order<'a> {
    pub(super) add: bool,
    pub(super) sources: &'a [CopySource],
    pub(super) from: Option<(&'a str, &'a Tree)>,
    pub(super) context: Option<&'a Context>,
    pub(super) destination: &'a str,
    pub(super) working_dir: Option<&'a str>,
    pub(super) chown: Option<&'a str>,
    pub(super) chmod: Option<&'a str>,
    pub(super) scratch: &'a Path,
    pub(super) created: Option<&'a Created>,
}

impl Order<'_> {
    /// Puts the sources into `tree` and gives the layer that does the same to an image.
    pub(super) fn carry_out(&self, tree: &mut Tree) -> Result<Layer, Problem> {
        let owner = self.chown.map(|chown| owner(tree, chown, "--chown")).transpose()?;
        let mode = self.chmod.map(mode).transpose()?;
        let mut found = Vec::new();
        for source in self.sources {
            found.extend(self.find(source)?);
        }
        self.take_out(&mut found)?;
        let destination = absolute(self.working_dir, self.destination);
        let many = found.len() > 1;
        if many && !destination.ends_with('/') {
            let problem = format!(
                "there are {} sources: the destination must be a folder, `{destination}/`",
                found.len()
            );
            return Err(Problem::Text(problem));
        }
        let mut change = Change::new(tree, self.created);
        change.owner = owner.unwrap_or(Owner::ROOT);
        for Found { name, node, below } in found {
            let settle = |node: Node| Node {
                owner: owner.unwrap_or(node.owner),
                mode: if matches!(node.kind, NodeKind::Symlink(_)) {
                    node.mode
                } else {
                    mode.unwrap_or(node.mode)
                },
                kind: node.kind,
            };
            if let Some(archive) = self.archive(&node)? {
                let folder = change.folder_with_parents(&destination)?;
                change.parents(&folder.child("x"))?;
                for (inside, node) in archive {
                    place_below(&mut change, &folder, &inside, settle(node))?;
                }
                continue;
            }
            if node.is_folder() {
                // A folder's content is copied, not the folder itself.
                let folder = change.folder_with_parents(&destination)?;
                change.parents(&folder.child("x"))?;
                for (inside, node) in below {
                    place_below(&mut change, &folder, &inside, settle(node))?;
                }
                continue;
            }
            let into = destination.ends_with('/') || change.tree.is_folder(&change.resolve(&destination)?);
            let place = if into {
                let folder = change.folder_with_parents(&destination)?;
                folder.child(&name)
            } else {
                change.resolve(&destination)?
            };
            change.parents(&place)?;
            change.put(place, settle(node))?;
        }
        Ok(change.into_layer())
    }

    fn find(&self, source: &CopySource) -> Result<Vec<Found>, Problem> {
        let path = match source {
            CopySource::Text(text) => {
                let content = Content::Source(Source::Bytes(text.content.clone().into_bytes()));
                let node = Node { kind: NodeKind::File(content), mode: 0o644, owner: Owner::ROOT };
                return Ok(vec![Found { name: text.name.clone(), node, below: Vec::new() }]);
            }
            CopySource::Path(path) => path,
        };
        if path.is_empty() {
            return Err(Problem::Text("a source is empty once its variables are expanded".into()));
        }
        let remote = ["http://", "https://", "git@", "git://", "ssh://"];
        if self.add && remote.iter().any(|scheme| path.starts_with(scheme)) {
            let shown: String = path.split(['?', '#']).next().unwrap_or_default().chars().take(120).collect();
            return Err(Problem::Unsupported(format!("fetching `{}`", shown.escape_debug())));
        }
        match (self.from, self.context) {
            (Some((name, tree)), _) => find_in_tree(tree, path, name),
            (None, Some(context)) => context.find(path),
            (None, None) => Err(Problem::Text("there is no build context".into())),
        }
    }

    /// Takes files out of the base layers they are in, each layer read once.
    fn take_out(&self, found: &mut [Found]) -> Result<(), Problem> {
        let mut wanted = BTreeMap::new();
        let nodes = found
            .iter()
            .flat_map(|found| std::iter::once(&found.node).chain(found.below.iter().map(|(_, node)| node)));
        for node in nodes {
            if let NodeKind::File(Content::Layer(layer, place)) = &node.kind {
                let entry = wanted.entry(layer.diff_id).or_insert_with(|| (layer.clone(), Vec::new()));
                entry.1.push(place.clone());
            }
        }
        for (layer, places) in wanted.values() {
            let folder = tempfile::tempdir_in(self.scratch).map_err(io_at(self.scratch))?.keep();
            let files = tree::extract(layer, places, &folder).map_err(Problem::Image)?;
            let nodes = found.iter_mut().flat_map(|found| {
                std::iter::once(&mut found.node).chain(found.below.iter_mut().map(|(_, node)| node))
            });
            for node in nodes {
                if let NodeKind::File(Content::Layer(from, place)) = &node.kind
                    && from.diff_id == layer.diff_id
                    && let Some(source) = files.get(place)
                {
                    node.kind = NodeKind::File(Content::Source(source.clone()));
                }
            }
        }
        Ok(())
    }

    /// What is in a local archive that `ADD` unpacks; nothing where it is none.
    fn archive(&self, node: &Node) -> Result<Option<Vec<(EntryPath, Node)>>, Problem> {
        let NodeKind::File(Content::Source(Source::File { path, .. })) = &node.kind else { return Ok(None) };
        if !self.add {
            return Ok(None);
        }
        let mut file = File::open(path).map_err(io_at(path))?;
        let start = start_of(&mut file).map_err(io_at(path))?;
        for (magic, name) in [(&b"BZh"[..], "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")] {
            if start.starts_with(magic) {
                let what = format!(
                    "unpacking {name} (`{}`); `COPY` would take it as it is, and gzip",
                    path.display()
                );
                return Err(Problem::Unsupported(what));
            }
        }
        file.rewind().map_err(io_at(path))?;
        let mut archive: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
            let is_archive = start_of(&mut MultiGzDecoder::new(&mut file)).is_ok_and(|start| is_tar(&start));
            file.rewind().map_err(io_at(path))?;
            if !is_archive {
                return Ok(None);
            }
            Box::new(MultiGzDecoder::new(BufReader::new(file)))
        } else if is_tar(&start) {
            Box::new(BufReader::new(file))
        } else {
            return Ok(None);
        };
        let folder = tempfile::tempdir_in(self.scratch).map_err(io_at(self.scratch))?.keep();
        read_archive(&mut archive, &path.display().to_string(), &folder).map(Some).map_err(Problem::Image)
    }
}

/// Puts something below a folder, links on the way followed as the container would.
fn place_below(
    change: &mut Change<'_>,
    folder: &EntryPath,
    inside: &EntryPath,
    node: Node,
) -> Result<(), Problem> {
    let Some((name, parent)) = inside.split_last() else { return Ok(()) };
    let above = change.folder_with_parents(&format!("/{}", folder.join(&parent)))?;
    change.parents(&above.child(name))?;
    change.put(above.child(name), node)
}

fn start_of(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether these are the first bytes of a tar archive (POSIX ustar, also GNU's).
fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

fn read_archive(
    archive: &mut dyn Read,
    name: &str,
    folder: &Path,
) -> Result<Vec<(EntryPath, Node)>, OciError> {
    let limits = Limits::default();
    let mut nodes: Vec<(EntryPath, Node)> = Vec::new();
    let mut bytes = limits.bytes;
    tar_stream::for_each(archive, name, |mut entry| {
        let refuse = |problem: &dyn ToString| unsafe_entry(&entry.name, problem);
        let place = EntryPath::parse(&entry.name).map_err(|problem| refuse(&problem))?;
        if nodes.len() as u64 >= limits.entries {
            return Err(OciError::TooLarge { limit: format!("{} entries", limits.entries) });
        }
        let kind = match entry.kind {
            Kind::Folder => NodeKind::Folder,
            Kind::Symlink => NodeKind::Symlink(String::from_utf8_lossy(&entry.target).into_owned()),
            Kind::HardLink => {
                let original = EntryPath::parse(&entry.target).ok();
                let found = nodes.iter().rev().find(|(place, _)| Some(place) == original.as_ref());
                found
                    .map(|(_, node)| node.kind.clone())
                    .ok_or_else(|| refuse(&"links to no file of the archive"))?
            }
            Kind::File => {
                let path = folder.join(nodes.len().to_string());
                let mut file = File::create(&path).map_err(OciError::io("write", &path))?;
                let copied = io::copy(&mut entry.body, &mut file)
                    .map_err(|source| OciError::LayerStream { layer: name.to_owned(), source })?;
                bytes = bytes
                    .checked_sub(copied)
                    .ok_or_else(|| OciError::TooLarge { limit: format!("{} bytes", limits.bytes) })?;
                NodeKind::File(Content::Source(Source::File { path, expected: None }))
            }
        };
        if !place.is_root() {
            nodes.push((place, Node { kind, mode: entry.mode & 0o7777, owner: entry.owner }));
        }
        Ok(())
    })?;
    Ok(nodes)
}

/// `--chown` and `USER`, as `what` says: numbers or names of the image, `user`, `user:group`. Without a group the user's number is it.
pub(super) fn owner(tree: &Tree, text: &str, what: &str) -> Result<Owner, Problem> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let number = |name: &str, file: &str| -> Result<(u32, Option<u32>), Problem> {
        if let Ok(number) = name.parse() {
            return Ok((number, None));
        }
        let accounts = tree.text(file, MAX_ACCOUNTS_BYTES).map_err(Problem::Image)?.unwrap_or_default();
        let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        fields
            .filter(|fields| fields.first() == Some(&name))
            .find_map(|fields| {
                let number = fields.get(2)?.parse().ok()?;
                Some((number, fields.get(3).and_then(|group| group.parse().ok())))
            })
            .ok_or_else(|| {
                Problem::Text(format!(
                    "`{what}` names `{}`, which is not in the image's {file}",
                    name.escape_debug()
                ))
            })
    };
    let (uid, own_group) = number(user, "/etc/passwd")?;
    let gid = match group {
        Some(group) => number(group, "/etc/group")?.0,
        None => own_group.unwrap_or(uid),
    };
    Ok(Owner { uid, gid })
}

/// `--chmod`: an octal number.
fn mode(text: &str) -> Result<u32, Problem> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Problem::Text(format!(
            "`--chmod` is `{}`, an octal number such as `755` is expected",
            text.escape_debug()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        for (folder, path, whole) in [
            (None, "a", "/a"),
            (Some("/w"), "a/", "/w/a/"),
            (Some("/w/"), ".", "/w/"),
            (Some("/w"), "../x/./y", "/x/y"),
            (None, "/../..", "/"),
            (Some("/w"), "/b/", "/b/"),
            (None, ".", "/"),
        ] {
            assert_eq!(absolute(folder, path), whole, "{path}");
        }
    }

    #[test]
    fn owners_by_number_and_by_the_image_s_names() {
        let mut tree = Tree::default();
        tree.put(EntryPath::parse(b"etc").unwrap(), Node::folder());
        for (file, text) in
            [("etc/passwd", "root:x:0:0:::\nmoby:x:1000:1001:::\n"), ("etc/group", "audio:x:29:\n")]
        {
            let content = Content::Source(Source::Bytes(text.as_bytes().to_vec()));
            let node = Node { kind: NodeKind::File(content), mode: 0o644, owner: Owner::ROOT };
            tree.put(EntryPath::parse(file.as_bytes()).unwrap(), node);
        }
        for (text, uid, gid) in
            [("5", 5, 5), ("5:6", 5, 6), ("moby", 1000, 1001), ("moby:audio", 1000, 29), ("0:", 0, 0)]
        {
            assert_eq!(owner(&tree, text, "--chown").unwrap(), Owner { uid, gid }, "{text}");
        }
        assert!(owner(&tree, "nobody", "USER").unwrap_err().to_string().contains("/etc/passwd"));
        assert!(owner(&tree, "0:video", "USER").is_err());
    }
}
