//! Layers as an attacker would write them, and whiteouts as the specification wants them.

use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;

/// Writes archives without the tar crate's own checks of names.
#[derive(Default, Debug)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(mut self, kind: EntryType, name: &[u8], target: &[u8], mode: u32, body: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name);
        gnu.linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, body: &[u8]) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), b"", 0o644, body)
    }

    fn folder(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), b"", mode, b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.entry(kind, name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    fn gzip(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.0).unwrap();
        encoder.finish().unwrap()
    }
}

/// A root inside a folder that must stay as it is.
struct Cage {
    outer: tempfile::TempDir,
}

impl Cage {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("root")).unwrap();
        fs::write(outer.path().join("victim"), b"untouched").unwrap();
        Self { outer }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    fn unpack(&self, layers: impl IntoIterator<Item = Archive>) -> Result<(), OciError> {
        self.unpack_within(layers, Limits::default())
    }

    fn unpack_within(
        &self,
        layers: impl IntoIterator<Item = Archive>,
        limits: Limits,
    ) -> Result<(), OciError> {
        let mut unpacker = Unpacker::new(&self.root(), limits);
        for layer in layers {
            unpacker.layer(layer.gzip().as_slice(), "test")?;
        }
        unpacker.finish()
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.root().join(name)).ok()
    }

    fn assert_intact(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["root", "victim"]);
        assert_eq!(fs::read(self.outer.path().join("victim")).unwrap(), b"untouched");
    }
}

fn refused(layers: impl IntoIterator<Item = Archive>, says: &str) {
    let cage = Cage::new();
    let error = cage.unpack(layers).unwrap_err().to_string();
    assert!(error.contains(says), "{error:?} does not say {says:?}");
    cage.assert_intact();
}

#[test]
fn files_folders_links_and_modes_come_back() {
    let cage = Cage::new();
    let layer = Archive::default()
        .folder("opt/", 0o555)
        .entry(EntryType::Regular, b"opt/run", b"", 0o755, b"program")
        .link(EntryType::Symlink, "opt/again", "run")
        .link(EntryType::Link, "opt/same", "opt/run");
    cage.unpack([layer]).unwrap();
    assert_eq!(cage.read("opt/again").unwrap(), b"program");
    assert_eq!(cage.read("opt/same").unwrap(), b"program");
    let mode = |name: &str| fs::metadata(cage.root().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("opt"), mode("opt/run")), (0o755, 0o755));
}

#[test]
fn set_user_id_bits_are_dropped() {
    let cage = Cage::new();
    cage.unpack([Archive::default().entry(EntryType::Regular, b"su", b"", 0o4755, b"")]).unwrap();
    assert_eq!(fs::metadata(cage.root().join("su")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn names_that_leave_are_refused() {
    refused([Archive::default().file("../victim", b"x")], "climbs");
    refused([Archive::default().file("a/../../victim", b"x")], "climbs");
    refused([Archive::default().file("/victim", b"x")], "absolute");
}

#[test]
fn links_that_leave_are_refused() {
    refused([Archive::default().link(EntryType::Symlink, "out", "../victim")], "outside the image");
    refused([Archive::default().link(EntryType::Symlink, "out", "/etc/passwd")], "outside the image");
    refused([Archive::default().link(EntryType::Link, "out", "../victim")], "climbs");
    refused([Archive::default().link(EntryType::Link, "out", "missing")], "no file of the image");
}

#[test]
fn nothing_is_written_through_a_link() {
    let layer = Archive::default()
        .folder("inner", 0o755)
        .link(EntryType::Symlink, "way", "inner")
        .file("way/file", b"x");
    refused([layer], "passes through the symbolic link `way`");
    // A hard link to a symbolic link would follow it from another depth.
    let layer =
        Archive::default().link(EntryType::Symlink, "a/b/up", "../..").link(EntryType::Link, "up", "a/b/up");
    refused([layer], "no file of the image");
    // A file replaces a link, never what it leads to.
    let cage = Cage::new();
    let lower = Archive::default().file("kept", b"kept").link(EntryType::Symlink, "link", "kept");
    cage.unpack([lower, Archive::default().file("link", b"new")]).unwrap();
    assert_eq!((cage.read("kept").unwrap(), cage.read("link").unwrap()), (b"kept".to_vec(), b"new".to_vec()));
}

#[test]
fn devices_pipes_and_unknown_kinds_are_refused() {
    refused([Archive::default().link(EntryType::Char, "null", "")], "is a device");
    refused([Archive::default().link(EntryType::Block, "sda", "")], "is a device");
    refused([Archive::default().link(EntryType::Fifo, "pipe", "")], "is a pipe");
    refused([Archive::default().link(EntryType::new(b'V'), "volume", "")], "kind that layers do not have");
}

#[test]
fn whiteouts_remove_what_lower_layers_made_and_nothing_else() {
    let cage = Cage::new();
    let lower = Archive::default().file("d/old", b"1").file("d/gone", b"2").file("e/old", b"3");
    let upper = Archive::default()
        .file("d/.wh.gone", b"")
        .file("e/new", b"4")
        .file("e/.wh..wh..opq", b"")
        .file("e/later", b"5");
    cage.unpack([lower, upper]).unwrap();
    let found =
        ["d/old", "d/gone", "d/.wh.gone", "e/old", "e/new", "e/later"].map(|name| cage.read(name).is_some());
    assert_eq!(found, [true, false, false, false, true, true]);
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    refused([Archive::default().file(".wh.", b"")], "whiteout of nothing");
    refused([Archive::default().file(".wh..", b"")], "whiteout of nothing");
    refused([Archive::default().file("a/.wh...", b"")], "whiteout of nothing");
}

#[test]
fn an_image_that_is_too_large_stops() {
    let bomb = || Archive::default().file("zeros", &vec![0; 1 << 20]);
    let cage = Cage::new();
    let error = cage.unpack_within([bomb()], Limits { bytes: 1 << 16, entries: 10 }).unwrap_err();
    assert_eq!(error.to_string(), "the image holds more than 65536 bytes");
    // The limit holds for all layers together.
    let cage = Cage::new();
    assert!(cage.unpack_within([bomb(), bomb()], Limits { bytes: 3 << 19, entries: 10 }).is_err());
    let cage = Cage::new();
    let many = Archive::default().file("1", b"").file("2", b"");
    assert!(cage.unpack_within([many], Limits { bytes: 1 << 20, entries: 1 }).is_err());
}

#[test]
fn long_names_are_put_together_and_limited() {
    let name = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let mut long = name.clone().into_bytes();
    long.push(0);
    let cage = Cage::new();
    cage.unpack([Archive::default()
        .entry(EntryType::GNULongName, b"././@LongLink", b"", 0, &long)
        .file("x", b"1")])
        .unwrap();
    assert_eq!(cage.read(&name).unwrap(), b"1");
    let cage = Cage::new();
    let record = format!("path={name}\n");
    let pax = format!("{} {record}", record.len() + 4);
    cage.unpack([Archive::default()
        .entry(EntryType::XHeader, b"pax", b"", 0, pax.as_bytes())
        .file("x", b"2")])
        .unwrap();
    assert_eq!(cage.read(&name).unwrap(), b"2");
    let huge = vec![b'a'; 1 << 20];
    refused(
        [Archive::default().entry(EntryType::GNULongName, b"././@LongLink", b"", 0, &huge).file("x", b"")],
        "bytes of headers for one entry",
    );
}

#[test]
fn a_stream_that_breaks_off_is_told() {
    let cage = Cage::new();
    let mut bytes = Archive::default().file("whole", &[7; 5000]).gzip();
    bytes.truncate(bytes.len() / 2);
    let mut unpacker = Unpacker::new(&cage.root(), Limits::default());
    let error = unpacker.layer(bytes.as_slice(), "half").unwrap_err();
    assert!(matches!(error, OciError::LayerStream { .. }), "{error}");
}

fn any_archive() -> impl Strategy<Value = Archive> {
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::GNULongName,
    ]);
    let name = prop::sample::select(vec![
        "a",
        "a/b",
        "a/b/c",
        "b",
        "b/a",
        "../victim",
        "..",
        "/victim",
        "a/..",
        "a/.wh.b",
        ".wh.a",
        "a/.wh..wh..opq",
        ".",
    ]);
    let target =
        prop::sample::select(vec!["", "a", "../victim", "..", "../..", "a/..", "b/../..", "/victim", "a/b"]);
    prop::collection::vec((kind, name, target), 0..12).prop_map(|entries| {
        entries.into_iter().fold(Archive::default(), |archive, (kind, name, target)| {
            archive.entry(kind, name.as_bytes(), target.as_bytes(), 0o644, b"body")
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_archive_touches_what_is_outside(layers in prop::collection::vec(any_archive(), 1..4)) {
        let cage = Cage::new();
        let _ = cage.unpack(layers);
        cage.assert_intact();
        assert_links_stay(&cage.root(), &cage.root().canonicalize().unwrap());
    }
}

/// Whatever a link below `folder` really leads to lies below `root`.
fn assert_links_stay(folder: &Path, root: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            assert_links_stay(&path, root);
        } else if let (true, Ok(real)) = (kind.is_symlink(), path.canonicalize()) {
            assert!(real.starts_with(root), "{} leads to {}", path.display(), real.display());
        }
    }
}
