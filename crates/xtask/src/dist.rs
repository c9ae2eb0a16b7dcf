//! Builds what ships for every platform a device or an agent may have.
//!
//! The ARM binaries are cross-built: std from rustup, linker and C library from Debian's cross packages
//! (`gcc-aarch64-linux-gnu`, `gcc-arm-linux-gnueabihf`). The device's program has sound cards built in; the sound
//! library's headers come from Debian's packages, unpacked below the target folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::Platform;

use crate::debian;
use crate::process::{built, cargo, run};
use crate::say;

/// The newest C library a binary may ask for: that of Raspberry Pi OS bookworm and Debian 12.
pub(crate) const GLIBC_FLOOR: (u32, u32) = (2, 36);

/// What is built, and how.
pub(crate) struct Dist {
    /// The platforms, each a folder below `out`.
    pub(crate) platforms: Vec<Platform>,
    /// The device's program alone, without the tasks.
    pub(crate) runtime_only: bool,
    /// Without the slow optimisation across crates: to try, not to ship.
    pub(crate) quick: bool,
    /// Where the folders `linux-amd64`, `linux-arm64`, `linux-arm-v7` go.
    pub(crate) out: PathBuf,
}

impl Dist {
    /// Reads `[--out DIR] [--quick] [--runtime-only] [PLATFORM…]`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut dist = Self {
            platforms: Vec::new(),
            runtime_only: false,
            quick: false,
            out: crate::root().join("target/dist-all"),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => dist.quick = true,
                "--runtime-only" => dist.runtime_only = true,
                "--out" => dist.out = words.next().context("--out needs a folder")?.into(),
                platform => dist.platforms.push(platform.parse()?),
            }
        }
        if dist.platforms.is_empty() {
            dist.platforms = Platform::ALL.to_vec();
        }
        Ok(dist)
    }

    /// Builds for each platform, and refuses a binary that needs a newer C library than the device has.
    pub(crate) fn build(&self) -> Result<()> {
        let root = fs::canonicalize(crate::root())?;
        for &platform in &self.platforms {
            let folder = self.out.join(folder_name(platform));
            fs::create_dir_all(&folder)?;
            for name in self.build_one(&root, platform, &folder)? {
                let program = folder.join(&name);
                let (major, minor) = glibc_floor(&root, &program)?;
                say(&format!(
                    "{platform:13} {name:18} {:>6.2} MB, glibc {major}.{minor}",
                    fs::metadata(&program)?.len() as f64 / 1e6
                ));
                ensure!(
                    (major, minor) <= GLIBC_FLOOR,
                    "{name} for {platform} needs glibc {major}.{minor}, the device has {}.{}",
                    GLIBC_FLOOR.0,
                    GLIBC_FLOOR.1
                );
            }
        }
        Ok(())
    }

    fn build_one(&self, root: &Path, platform: Platform, folder: &Path) -> Result<Vec<String>> {
        let profile = if self.quick { "release" } else { "dist" };
        let mut arguments = vec!["build", "--locked", "--profile", profile];
        let mut env = Vec::new();
        let cross = Cross::of(platform);
        if let Some(cross) = &cross {
            cross.prepare(root)?;
            arguments.extend(["--target", cross.target]);
            env.push((cross.linker_variable, cross.linker));
        }
        if self.runtime_only {
            arguments.extend(["--package", "mynah-runtime"]);
        }
        arguments.extend(["--features", "mynah-runtime/sound-card"]);
        let sound = sound_library(root, platform)?;
        env.extend(sound.iter().map(|(name, value)| (*name, value.as_str())));
        run(root, cargo(), arguments, &env)?;
        let triple = cross.map_or(String::new(), |cross| format!("{}/", cross.target));
        let from = built(root, &format!("{triple}{profile}"))?;
        let mut names = vec!["mynah-runtime".to_owned()];
        if !self.runtime_only {
            names.extend(crate::sizes::tasks().map(str::to_owned));
        }
        for name in &names {
            fs::copy(from.join(name), folder.join(name)).with_context(|| format!("{name} was not built"))?;
        }
        Ok(names)
    }
}

/// The folder of a platform's binaries: `linux-arm-v7`.
pub(crate) fn folder_name(platform: Platform) -> String {
    platform.as_str().replace('/', "-")
}

/// Builds a package quickly for a foreign platform, and gives the folder of its programs.
pub(crate) fn cross_built(root: &Path, platform: Platform, package: &str) -> Result<PathBuf> {
    let cross = Cross::of(platform).context("this is the machine's own platform")?;
    cross.prepare(root)?;
    let arguments = ["build", "--locked", "--release", "--target", cross.target, "--package", package];
    run(root, cargo(), arguments, &[(cross.linker_variable, cross.linker)])?;
    built(root, &format!("{}/release", cross.target))
}

/// The sound library to build with, and where its build finds it.
fn sound_library(root: &Path, platform: Platform) -> Result<[(&'static str, String); 3]> {
    let place = built(root, "sound-library")?.join(folder_name(platform));
    let (_, triplet, _) = debian::names(platform);
    let descriptions = place.join("usr/lib").join(triplet).join("pkgconfig");
    if !descriptions.is_dir() {
        let scratch = tempfile::tempdir()?;
        let packages = debian::download(scratch.path(), platform, &["libasound2", "libasound2-dev"])?;
        fs::create_dir_all(&place)?;
        // The headers last: what is looked for above is among them.
        for package in packages.iter().rev() {
            run(&place, "dpkg-deb", ["-x".as_ref(), package.as_os_str(), ".".as_ref()], &[])?;
        }
    }
    Ok([
        ("PKG_CONFIG_ALLOW_CROSS", "1".to_owned()),
        ("PKG_CONFIG_LIBDIR", descriptions.display().to_string()),
        ("PKG_CONFIG_SYSROOT_DIR", place.display().to_string()),
    ])
}

/// What building for a foreign platform takes.
struct Cross {
    target: &'static str,
    linker: &'static str,
    linker_variable: &'static str,
}

impl Cross {
    fn of(platform: Platform) -> Option<Self> {
        if Platform::host() == Some(platform) {
            return None;
        }
        Some(match platform {
            Platform::LinuxAmd64 => Self {
                target: "x86_64-unknown-linux-gnu",
                linker: "x86_64-linux-gnu-gcc",
                linker_variable: "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            },
            Platform::LinuxArm64 => Self {
                target: "aarch64-unknown-linux-gnu",
                linker: "aarch64-linux-gnu-gcc",
                linker_variable: "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            },
            Platform::LinuxArmV7 => Self {
                target: "armv7-unknown-linux-gnueabihf",
                linker: "arm-linux-gnueabihf-gcc",
                linker_variable: "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER",
            },
        })
    }

    /// Fetches std where it is missing; says which package the linker is in where that is missing.
    fn prepare(&self, root: &Path) -> Result<()> {
        if run(root, self.linker, ["--version"], &[]).is_err() {
            bail!("{} is missing: install gcc-{}", self.linker, self.linker.trim_end_matches("-gcc"));
        }
        let library = run(root, "rustc", ["--print", "target-libdir", "--target", self.target], &[])?;
        if !Path::new(String::from_utf8(library.stdout)?.trim()).is_dir() {
            run(root, "rustup", ["target", "add", self.target], &[])?;
        }
        Ok(())
    }
}

/// The newest version of the C library among the symbols `program` asks for.
fn glibc_floor(root: &Path, program: &Path) -> Result<(u32, u32)> {
    let output =
        run(root, "readelf", ["--version-info".as_ref(), "--wide".as_ref(), program.as_os_str()], &[])?;
    newest_glibc(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{} asks for no glibc", program.display()))
}

fn newest_glibc(versions: &str) -> Option<(u32, u32)> {
    let versions: BTreeSet<(u32, u32)> = versions
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let mut parts = version.split('.').map(str::parse);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        })
        .collect();
    versions.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_number() {
        let text = "Name: GLIBC_2.9  Flags: none\n Name: GLIBC_2.34 \n Name: GLIBC_2.2.5\n Name: GCC_3.0";
        assert_eq!(newest_glibc(text), Some((2, 34)));
        assert_eq!(newest_glibc("nothing"), None);
    }

    #[test]
    fn platforms_and_switches_are_read() {
        let dist = Dist::parse(&["--quick", "linux/arm/v7", "--out", "there"]).unwrap();
        assert_eq!(dist.platforms, [Platform::LinuxArmV7]);
        assert!(dist.quick && !dist.runtime_only);
        assert_eq!(folder_name(Platform::LinuxArmV7), "linux-arm-v7");
        assert!(Dist::parse(&["linux/sparc"]).is_err());
    }
}
