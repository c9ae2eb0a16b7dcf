//! What `COPY` and `ADD` find: in the build context's folder, or in another stage.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::oci::entry_path::EntryPath;
use crate::oci::layer::{Owner, Source};
use crate::oci::tree::{Content, Node, NodeKind, Tree};

use super::error::Problem;
use super::pattern::{Ignore, Pattern};

/// The most files and folders of one source.
const MAX_ENTRIES: usize = 200_000;

/// A source that was found: a file, or a folder with what is below.
pub(super) struct Found {
    /// Its own name.
    pub(super) name: String,
    pub(super) node: Node,
    /// What is below a folder, by the path from there.
    pub(super) below: Vec<(EntryPath, Node)>,
}

/// The build context: a folder and what its `.dockerignore` leaves of it.
pub(super) struct Context {
    root: PathBuf,
    ignore: Ignore,
}

impl Context {
    /// Opens the folder. The ignore file is the one beside the Dockerfile, else the context's own.
    pub(super) fn open(root: &Path, dockerfile: &Path) -> Result<Self, Problem> {
        let root = fs::canonicalize(root).map_err(io_at(root))?;
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        for path in [PathBuf::from(beside), root.join(".dockerignore")] {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let ignore = Ignore::parse(&text).map_err(|(line, problem)| {
                        Problem::Text(format!("`{}` line {line}: {problem}", path.display()))
                    })?;
                    return Ok(Self { root, ignore });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_at(&path)(error)),
            }
        }
        Ok(Self { root, ignore: Ignore::default() })
    }

    /// What a source names, in order.
    pub(super) fn find(&self, source: &str) -> Result<Vec<Found>, Problem> {
        let path = self.clean(source)?;
        let pattern = Pattern::parse(&path.to_string())?;
        let plain = self.root.join(path.below(Path::new("")));
        let mut found = Vec::new();
        let mut ignored = false;
        if path.is_root() || pattern.is_plain() || fs::symlink_metadata(&plain).is_ok() {
            if fs::symlink_metadata(&plain).is_ok() {
                match self.take(&path)? {
                    Some(one) => found.push(one),
                    None => ignored = true,
                }
            }
        } else {
            let depth = path.components().len();
            for entry in
                walkdir::WalkDir::new(&self.root).min_depth(depth).max_depth(depth).sort_by_file_name()
            {
                let entry = entry.map_err(|error| io_at(&self.root)(error.into()))?;
                let Some(place) = self.place_of(entry.path()) else { continue };
                if pattern.matches(place.components()) {
                    match self.take(&place)? {
                        Some(one) => found.push(one),
                        None => ignored = true,
                    }
                }
            }
        }
        if found.is_empty() {
            let pattern = source.chars().take(200).flat_map(char::escape_debug).collect();
            return Err(Problem::NoMatch { pattern, context: self.root.clone(), ignored });
        }
        Ok(found)
    }

    /// The source as a place in the context: a slash in front means the context's folder.
    fn clean(&self, source: &str) -> Result<EntryPath, Problem> {
        let mut place = EntryPath::default();
        for part in source.split('/') {
            match part {
                "" | "." => {}
                ".." => place = place.split_last().ok_or_else(|| self.escapes(source))?.1,
                part => place = place.child(part),
            }
        }
        Ok(place)
    }

    fn escapes(&self, path: &str) -> Problem {
        let path = path.chars().take(200).flat_map(char::escape_debug).collect();
        Problem::Escapes { path, context: self.root.clone() }
    }

    /// Where a path below the context is, where its name is text.
    fn place_of(&self, path: &Path) -> Option<EntryPath> {
        let relative = path.strip_prefix(&self.root).ok()?;
        EntryPath::parse(relative.to_str()?.as_bytes()).ok()
    }

    /// One source; nothing where it is ignored.
    fn take(&self, place: &EntryPath) -> Result<Option<Found>, Problem> {
        let written = place.below(&self.root);
        // Links on the way to a source are followed, as far as they stay inside.
        let real = fs::canonicalize(&written).map_err(io_at(&written))?;
        if !real.starts_with(&self.root) {
            return Err(self.escapes(&place.to_string()));
        }
        let excluded = self.ignore.excludes(place.components());
        let metadata = fs::metadata(&real).map_err(io_at(&real))?;
        let name = place.split_last().map(|(name, _)| name.to_owned()).unwrap_or_default();
        let node = node_of(&real, &metadata)?;
        if !metadata.is_dir() {
            return Ok((!excluded).then(|| Found { name, node, below: Vec::new() }));
        }
        let mut below = Vec::new();
        if !excluded || self.ignore.has_exceptions() {
            self.gather(&real, place, &mut below)?;
        }
        if excluded && below.is_empty() {
            return Ok(None);
        }
        Ok(Some(Found { name, node, below }))
    }

    /// Everything below the folder `real`, which the source `place` names, that is not ignored.
    fn gather(
        &self,
        real: &Path,
        place: &EntryPath,
        below: &mut Vec<(EntryPath, Node)>,
    ) -> Result<(), Problem> {
        let exceptions = self.ignore.has_exceptions();
        let ignored = |entry: &walkdir::DirEntry| {
            let relative = entry.path().strip_prefix(real).ok().and_then(|path| path.to_str());
            let inside = relative.and_then(|text| EntryPath::parse(text.as_bytes()).ok());
            inside.is_some_and(|inside| self.ignore.excludes(place.join(&inside).components()))
        };
        let walk = walkdir::WalkDir::new(real).min_depth(1).sort_by_file_name().into_iter();
        // Below an ignored folder nothing is looked at, unless a rule lets something through.
        for entry in walk.filter_entry(|entry| exceptions || entry.depth() == 0 || !ignored(entry)) {
            let entry = entry.map_err(|error| io_at(real)(error.into()))?;
            let excluded = ignored(&entry);
            if excluded && !entry.file_type().is_dir() {
                continue;
            }
            let relative = entry.path().strip_prefix(real).unwrap_or(entry.path());
            let text = relative.to_str().ok_or_else(|| {
                Problem::Text(format!("the name of `{}` is not UTF-8", entry.path().display()))
            })?;
            let inside = EntryPath::parse(text.as_bytes())
                .map_err(|problem| Problem::Text(format!("`{}` {problem}", text.escape_debug())))?;
            let metadata = entry.metadata().map_err(|error| io_at(entry.path())(error.into()))?;
            below.push((inside, node_of(entry.path(), &metadata)?));
            if below.len() > MAX_ENTRIES {
                return Err(Problem::Text(format!("the source holds more than {MAX_ENTRIES} files")));
            }
        }
        if exceptions {
            // Ignored folders stay only for what is let through below them.
            let kept: Vec<EntryPath> = below.iter().map(|(inside, _)| inside.clone()).collect();
            let needed = |folder: &EntryPath| {
                let start = kept.partition_point(|other| other <= folder);
                kept.get(start).is_some_and(|next| next.below_folder(folder).is_some())
            };
            let mut last: Vec<(EntryPath, Node)> = Vec::new();
            for (inside, node) in below.drain(..).rev() {
                let excluded = self.ignore.excludes(place.join(&inside).components());
                let used = last.last().is_some_and(|(next, _)| next.below_folder(&inside).is_some());
                if !excluded || !node.is_folder() || (used && needed(&inside)) {
                    last.push((inside, node));
                }
            }
            last.reverse();
            *below = last;
        }
        Ok(())
    }
}

fn node_of(path: &Path, metadata: &Metadata) -> Result<Node, Problem> {
    let mode = metadata.permissions().mode() & 0o7777;
    let kind = if metadata.is_dir() {
        NodeKind::Folder
    } else if metadata.is_file() {
        NodeKind::File(Content::Source(Source::File { path: path.to_owned(), expected: None }))
    } else if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(io_at(path))?;
        let text = target.to_str().ok_or_else(|| {
            Problem::Text(format!("the link `{}` leads to what is not UTF-8", path.display()))
        })?;
        NodeKind::Symlink(text.to_owned())
    } else {
        let problem =
            format!("`{}` is a device, pipe or socket (mode {:o})", path.display(), metadata.mode());
        return Err(Problem::Text(problem));
    };
    Ok(Node { kind, mode, owner: Owner::ROOT })
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Problem {
    let path = path.to_owned();
    move |source| Problem::Io { path, source }
}

/// What a source names in another stage's files, called `stage` in errors.
pub(super) fn find_in_tree(tree: &Tree, source: &str, stage: &str) -> Result<Vec<Found>, Problem> {
    let circle = || Problem::Text(format!("links in `{}` lead in a circle", source.escape_debug()));
    let take = |path: &str| -> Result<Option<Found>, Problem> {
        let place = tree.resolve(path, true).ok_or_else(circle)?;
        let node = match tree.get(&place) {
            Some(node) => node.clone(),
            None if place.is_root() => Node::folder(),
            None => return Ok(None),
        };
        let below = tree
            .below(&place)
            .filter_map(|(below, node)| Some((below.below_folder(&place)?, node.clone())))
            .collect();
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Some(Found { name, node, below }))
    };
    let pattern = Pattern::parse(source)?;
    let mut found: Vec<Found> = take(source)?.into_iter().collect();
    if found.is_empty() && !pattern.is_plain() {
        let root = EntryPath::default();
        for (place, _) in tree.below(&root).filter(|(place, _)| pattern.matches(place.components())) {
            found.extend(take(&place.to_string())?);
        }
    }
    if found.is_empty() {
        let pattern = source.chars().take(200).flat_map(char::escape_debug).collect();
        return Err(Problem::NoMatch { pattern, context: PathBuf::from(stage), ignored: false });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(context: &Context, source: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for found in context.find(source).map_err(|problem| problem.to_string())? {
            names.push(found.name.clone());
            names.extend(found.below.iter().map(|(path, _)| format!("{}/{path}", found.name)));
        }
        Ok(names)
    }

    fn bench(ignore: &str) -> (tempfile::TempDir, Context) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        for file in ["a.txt", "b.txt", "src/one.py", "src/deep/two.py", "src/deep/notes.md"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("src", root.join("in")).unwrap();
        fs::write(root.join(".dockerignore"), ignore).unwrap();
        let context = Context::open(&root, Path::new("/nowhere/Dockerfile")).unwrap();
        (folder, context)
    }

    #[test]
    fn patterns_links_and_folders() {
        let (_folder, context) = bench("");
        assert_eq!(names(&context, "*.txt").unwrap(), ["a.txt", "b.txt"]);
        assert_eq!(names(&context, "/src/../a.txt").unwrap(), ["a.txt"]);
        assert_eq!(
            names(&context, "in").unwrap(),
            ["in", "in/deep", "in/deep/notes.md", "in/deep/two.py", "in/one.py"]
        );
        assert_eq!(names(&context, "s*/one.py").unwrap(), ["one.py"]);
        for escaping in ["../secret", "out", "src/../../secret"] {
            assert!(names(&context, escaping).unwrap_err().contains("leads out of"), "{escaping}");
        }
        assert!(names(&context, "none*").unwrap_err().contains("matches nothing"));
    }

    #[test]
    fn ignored_files_are_not_there_and_the_message_says_so() {
        let (_folder, context) = bench("*\n!src/deep/*.py\n");
        assert_eq!(names(&context, "src").unwrap(), ["src", "src/deep", "src/deep/two.py"]);
        assert!(names(&context, "a.txt").unwrap_err().contains("that .dockerignore lets through"));
        let (_folder, context) = bench("**/*.md\nb.txt");
        assert_eq!(names(&context, "src/deep").unwrap(), ["deep", "deep/two.py"]);
        assert_eq!(names(&context, "*.txt").unwrap(), ["a.txt"]);
    }
}
