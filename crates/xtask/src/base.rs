//! Assembles the image below the device's runtime from Debian packages: the C library, the sound library,
//! certificates, the accounts it needs; no shell, no package manager.
//!
//! The packages come through apt with a configuration of its own, so that the machine's is never touched, and
//! are unpacked, not installed. What lies in the tree is then an ordinary module source: a Dockerfile without
//! `RUN` that `build-modules` carries out for all platforms.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::Platform;

use crate::debian::{download, names};
use crate::process::{built, cargo, run};
use crate::say;

/// The module's name, and the layout's folder.
const NAME: &str = "mynah-base";

/// What is taken from Debian.
const PACKAGES: [&str; 5] = ["libc6", "libgcc-s1", "libasound2", "libasound2-data", "ca-certificates"];

/// The libraries a program of ours may load, of those the packages hold.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1"];

/// The runtime's user is a member of the groups that own sound cards and cameras (Debian's numbers).
const PASSWD: &str = "root:x:0:0:root:/:/nonexistent\nmynah:x:10001:10001:mynah:/:/nonexistent\n";
const GROUP: &str = "root:x:0:\naudio:x:29:mynah\nvideo:x:44:mynah\nmynah:x:10001:\n";

const DOCKERFILE: &str = "\
FROM scratch
ARG TARGETOS TARGETARCH TARGETVARIANT
COPY $TARGETOS-$TARGETARCH${TARGETVARIANT:+-$TARGETVARIANT} /
ENV PATH=/usr/local/bin
";

const MODULE: &str = r#"{
  "image": {
    "repository": "localhost/mynah/base",
    "tag": {
      "version": "12",
      "platforms": { "amd64": "Dockerfile", "arm64v8": "Dockerfile", "arm32v7": "Dockerfile" }
    }
  }
}
"#;

/// Makes the base for all platforms, as an OCI layout below `out`.
pub(crate) fn assemble(out: &Path) -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    let scratch = tempfile::tempdir()?;
    let modules = scratch.path().join("modules");
    let source = modules.join(NAME);
    fs::create_dir_all(&source)?;
    fs::write(source.join("module.json"), MODULE)?;
    fs::write(source.join("Dockerfile"), DOCKERFILE)?;
    for platform in Platform::ALL {
        say(&format!("base: packages for {platform}"));
        let packages = download(scratch.path(), platform, &PACKAGES)?;
        tree(&packages, platform, &source.join(platform.as_str().replace('/', "-")))?;
    }
    run(&root, cargo(), ["build", "--release", "--locked", "--bin", "build-modules"], &[])?;
    let all = Platform::ALL.map(Platform::as_str).join(",");
    let (modules, shown) = (modules.display().to_string(), out.display().to_string());
    let program = built(&root, "release")?.join("build-modules");
    run(&root, program, ["--modules", &modules, "--platform", &all, "--out", &shown], &[])?;
    say(&format!("base: give `build-modules --base oci:{}`", out.join(NAME).display()));
    Ok(())
}

/// Takes what the runtime needs out of the packages.
fn tree(packages: &[PathBuf], platform: Platform, out: &Path) -> Result<()> {
    let (_, triplet, loader) = names(platform);
    let whole = tempfile::tempdir()?;
    let status = out.join("var/lib/dpkg/status.d");
    fs::create_dir_all(&status)?;
    for package in packages {
        let path = package.display().to_string();
        run(whole.path(), "dpkg-deb", ["-x", &path, "."], &[])?;
        // Where scanners of images without a package manager look.
        let control = run(whole.path(), "dpkg-deb", ["-f", &path], &[])?.stdout;
        let name = package.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        fs::write(status.join(name.split('_').next().unwrap_or(name)), control)?;
    }
    let loader_name = Path::new(loader).file_name().context("the loader has a name")?;
    let libraries = Path::new("lib").join(triplet);
    copy(&whole.path().join(&libraries).join(loader_name), &out.join(loader), 0o755)?;
    for library in LIBRARIES {
        copy(&whole.path().join(&libraries).join(library), &out.join(&libraries).join(library), 0o644)?;
    }
    let sound = Path::new("usr/lib").join(triplet).join("libasound.so.2");
    copy(&whole.path().join(&sound), &out.join(&sound), 0o644)?;
    let settings = Path::new("usr/share/alsa");
    for entry in walkdir::WalkDir::new(whole.path().join(settings)).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            copy(entry.path(), &out.join(entry.path().strip_prefix(whole.path())?), 0o644)?;
        }
    }
    for package in PACKAGES {
        // Some packages' copyright is a link into another one's folder.
        let copyright = Path::new("usr/share/doc").join(package).join("copyright");
        if fs::metadata(whole.path().join(&copyright)).is_ok() {
            copy(&whole.path().join(&copyright), &out.join(&copyright), 0o644)?;
        }
    }
    certificates(
        &whole.path().join("usr/share/ca-certificates"),
        &out.join("etc/ssl/certs/ca-certificates.crt"),
    )?;
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", "hosts: files dns\n")] {
        fs::write(out.join("etc").join(name), text)?;
    }
    let temporary = out.join("tmp");
    fs::create_dir_all(&temporary)?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o1777))?;
    Ok(())
}

/// Copies a file, or what a link leads to, with a mode of its own.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("the packages have no {}", from.display()))?;
    fs::set_permissions(to, Permissions::from_mode(mode))?;
    Ok(())
}

/// Joins the certificates into the one file that TLS libraries read.
fn certificates(folder: &Path, bundle: &Path) -> Result<()> {
    fs::create_dir_all(bundle.parent().context("a file is in a folder")?)?;
    let mut out = File::create(bundle)?;
    let mut count = 0;
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "crt") {
            out.write_all(&fs::read(entry.path())?)?;
            count += 1;
        }
    }
    ensure!(count > 0, "the package holds no certificates");
    Ok(())
}
