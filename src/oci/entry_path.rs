//! Names inside a layer: where an entry goes, and whether a link stays inside.
//!
//! A layer may come from anyone. A name is therefore parsed into plain components once, here, and the
//! rest of the code only ever sees components that cannot leave the folder they are joined to.

use std::fmt;
use std::path::{Path, PathBuf};

/// The most bytes a name in a layer may have (`PATH_MAX` of Linux).
pub const MAX_NAME_BYTES: usize = 4096;

/// The most bytes one component may have (`NAME_MAX` of Linux).
const MAX_COMPONENT_BYTES: usize = 255;

/// A place below a layer's root: components that are neither empty, `.` nor `..`. No component = the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct EntryPath(Vec<String>);

/// Why a name or a link's target is refused; completes the sentence "the entry …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Begins with a slash.
    #[error("has an absolute path")]
    Absolute,
    /// Holds `..`.
    #[error("climbs with `..`")]
    Climbs,
    /// Holds a NUL.
    #[error("has a NUL in its name")]
    Nul,
    /// Longer than Linux allows.
    #[error("has a name that is too long")]
    TooLong,
    /// Not UTF-8.
    #[error("has a name that is not UTF-8")]
    NotUtf8,
    /// A link without a target.
    #[error("is a link without a target")]
    NoTarget,
    /// A link whose target lies outside.
    #[error("links to `{0}`, outside the image")]
    LinkLeaves(String),
}

impl EntryPath {
    /// Reads an entry's name as tar writes it: `./` at its start and `/` at its end mean nothing.
    pub fn parse(name: &[u8]) -> Result<Self, PathProblem> {
        if name.contains(&0) {
            return Err(PathProblem::Nul);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(PathProblem::TooLong);
        }
        let text = std::str::from_utf8(name).map_err(|_| PathProblem::NotUtf8)?;
        if text.starts_with('/') {
            return Err(PathProblem::Absolute);
        }
        let mut components = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(PathProblem::Climbs),
                part if part.len() > MAX_COMPONENT_BYTES => return Err(PathProblem::TooLong),
                part => components.push(part.to_owned()),
            }
        }
        Ok(Self(components))
    }

    /// The components, outermost first.
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component and the folder that holds it; nothing for the root.
    pub fn split_last(&self) -> Option<(&str, Self)> {
        let (name, parent) = self.0.split_last()?;
        Some((name, Self(parent.to_vec())))
    }

    /// The place `name` below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut components = self.0.clone();
        components.push(name.to_owned());
        Self(components)
    }

    /// The place below this one that `rest`, which is below the root, names.
    #[must_use]
    pub(crate) fn join(&self, rest: &Self) -> Self {
        Self([self.0.as_slice(), rest.0.as_slice()].concat())
    }

    /// What leads from `folder` to this place; nothing where it is not below.
    pub(crate) fn below_folder(&self, folder: &Self) -> Option<Self> {
        self.0.strip_prefix(folder.0.as_slice()).map(|rest| Self(rest.to_vec()))
    }

    /// The real path below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        path.extend(&self.0);
        path
    }

    /// Checks a symbolic link at this place: its target must stay inside the image when the kernel follows
    /// it from here.
    ///
    /// `..` is allowed at the target's start only. After a component, `..` would be taken from wherever
    /// that component really leads, which a chain of links can move outside.
    pub fn check_symlink(&self, target: &[u8]) -> Result<String, PathProblem> {
        let leaves =
            || PathProblem::LinkLeaves(String::from_utf8_lossy(target).escape_debug().take(80).collect());
        if target.is_empty() {
            return Err(PathProblem::NoTarget);
        }
        if target.contains(&0) {
            return Err(PathProblem::Nul);
        }
        if target.len() > MAX_NAME_BYTES {
            return Err(PathProblem::TooLong);
        }
        let text = std::str::from_utf8(target).map_err(|_| PathProblem::NotUtf8)?;
        if text.starts_with('/') {
            return Err(leaves());
        }
        let mut depth = self.0.len().saturating_sub(1);
        let mut descended = false;
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." if descended || depth == 0 => return Err(leaves()),
                ".." => depth -= 1,
                _ => descended = true,
            }
        }
        Ok(text.to_owned())
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        f.write_str(&self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_spellings_of_tar_name_the_same_place() {
        assert_eq!(path("./usr//bin/"), path("usr/bin"));
        assert!(path("./").is_root());
    }

    #[test]
    fn what_leaves_the_root_is_refused() {
        assert_eq!(EntryPath::parse(b"/etc/passwd"), Err(PathProblem::Absolute));
        assert_eq!(EntryPath::parse(b"a/../../b"), Err(PathProblem::Climbs));
        assert_eq!(EntryPath::parse(b"a\0b"), Err(PathProblem::Nul));
        assert_eq!(EntryPath::parse(b"\xff"), Err(PathProblem::NotUtf8));
        assert_eq!(EntryPath::parse(&[b'a'; 256]), Err(PathProblem::TooLong));
    }

    #[test]
    fn a_link_may_climb_to_the_root_and_no_further() {
        assert!(path("usr/lib/libc.so").check_symlink(b"../../lib/libc.so.6").is_ok());
        assert!(path("usr/lib/libc.so").check_symlink(b"../../../etc").is_err());
        assert!(path("lib").check_symlink(b"/etc").is_err());
        // Seems to stay inside, but `up` may itself lead to the root.
        assert!(path("a/b/link").check_symlink(b"up/..").is_err());
    }

    /// Follows `target` from `place` by text, `..` included, and says whether it ever leaves.
    fn leaves_by_text(place: &EntryPath, target: &str) -> bool {
        let mut depth = place.components().len() as i64 - 1;
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => depth -= 1,
                _ => depth += 1,
            }
            if depth < 0 {
                return true;
            }
        }
        false
    }

    proptest! {
        #[test]
        fn a_parsed_name_stays_below_the_root(name in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(parsed) = EntryPath::parse(&name) {
                let root = Path::new("/root-of-image");
                let joined = parsed.below(root);
                prop_assert!(joined.starts_with(root));
                prop_assert!(joined.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
            }
        }

        #[test]
        fn names_made_of_dots_and_slashes_stay_below_too(name in "[./a]{0,24}") {
            match EntryPath::parse(name.as_bytes()) {
                Ok(parsed) => prop_assert!(parsed.components().iter().all(|c| c != ".." && c != "." && !c.is_empty())),
                Err(_) => prop_assert!(name.starts_with('/') || name.split('/').any(|part| part == "..")),
            }
        }

        #[test]
        fn an_accepted_link_does_not_leave(place in "[ab](/[ab]){0,4}", target in "[./a]{0,24}") {
            let place = path(&place);
            if place.check_symlink(target.as_bytes()).is_ok() {
                prop_assert!(!target.starts_with('/'));
                prop_assert!(!leaves_by_text(&place, &target));
            }
        }
    }
}
