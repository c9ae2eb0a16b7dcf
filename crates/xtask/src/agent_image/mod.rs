//! Builds the agent's image, looks into it, and lives an agent's life in it: as process 1, on a read-only root, as the
//! image's user. Where the agent's own package cannot be had, a stand-in is packed in its place.

mod container;
mod look;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::Platform;
use mynah_testkit::agentpool;

use crate::dist::{self, folder_name};
use crate::process::{built, cargo, run};
use crate::say;
use container::Container;

/// What is tried.
#[derive(Debug, PartialEq)]
pub(crate) struct Image {
    platform: Platform,
    of: Of,
    /// Where Debian's packages come from, as a `sources.list`.
    sources: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
enum Of {
    /// The image built of what `dist` put into this folder, for all platforms.
    Programs(PathBuf),
    /// An image with a stand-in for the agent that is there already, as an OCI layout.
    Layout(PathBuf),
}

impl Image {
    /// Reads `[--platform PLATFORM] [--sources FILE] [--programs DIR | --layout DIR]`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let host = Platform::host().context("this machine is no platform of ours")?;
        let programs = Of::Programs(crate::root().join("target/dist-all"));
        let mut image = Self { platform: host, of: programs, sources: None };
        for pair in words.chunks(2) {
            match pair {
                ["--platform", platform] => image.platform = platform.parse()?,
                ["--sources", file] => image.sources = Some(fs::canonicalize(file)?),
                ["--programs", folder] => image.of = Of::Programs(folder.into()),
                ["--layout", folder] => image.of = Of::Layout(folder.into()),
                other => bail!(
                    "`{}` is not understood: [--platform PLATFORM] [--sources FILE] [--programs DIR | --layout DIR]",
                    other.join(" ")
                ),
            }
        }
        Ok(image)
    }

    /// Builds where needed, looks, says the sizes, and lives.
    pub(crate) fn check(&self) -> Result<()> {
        let root = fs::canonicalize(crate::root())?;
        let scratch = tempfile::tempdir()?;
        let layout = match &self.of {
            Of::Programs(programs) => self.build(&root, programs, scratch.path())?,
            Of::Layout(layout) => fs::canonicalize(layout)?,
        };
        let bundle = scratch.path().join("bundle");
        let image = format!("{}:latest", layout.display());
        run(&root, "umoci", ["unpack", "--image", &image, &bundle.display().to_string()], &[])?;
        look::sizes(&layout, &bundle.join("rootfs"))?;
        look::settings(&layout, self.platform)?;
        look::files(&bundle.join("rootfs"))?;
        let container = Container { root: &root, bundle: &bundle, platform: self.platform };
        container.programs()?;
        container.live()
    }

    /// Builds the image with a stand-in for the agent, and gives its layout.
    fn build(&self, root: &Path, programs: &Path, scratch: &Path) -> Result<PathBuf> {
        let platform = self.platform;
        let programs = fs::canonicalize(programs)
            .with_context(|| format!("no {}: run `cargo xtask dist`", programs.display()))?;
        let package = scratch.join("package");
        let stand_in = if Platform::host() == Some(platform) {
            run(root, cargo(), ["build", "--release", "--locked"], &[])?;
            built(root, "release")?.join("stand-in-agent")
        } else {
            dist::cross_built(root, platform, "mynah-agent")?.join("stand-in-agent")
        };
        agentpool::package(&package, &stand_in)?;
        let archive = scratch.join("agent.tar.gz");
        let (from, to) = (package.display().to_string(), archive.display().to_string());
        run(
            root,
            "tar",
            ["--create", "--gzip", "--sort=name", "--file", &to, "--directory", &from, "."],
            &[],
        )?;
        let digest = String::from_utf8(run(root, "sha256sum", [&archive], &[])?.stdout)?;
        let digest = digest.split(' ').next().unwrap_or_default();
        say(&format!("agent-image: building for {platform} on Debian's packages"));
        let layout = scratch.join("layout");
        let (all, out) = (programs.display().to_string(), layout.display().to_string());
        let name = format!("localhost/mynah/agent:{}", folder_name(platform));
        let mut arguments =
            vec!["--debian", "--platform", platform.as_str(), "--programs", &all, "--name", &name];
        arguments.extend(["--agent", &to, "--sha256", digest, "--layout", &out]);
        if Platform::host() != Some(platform) {
            arguments.push("--emulate");
        }
        let sources = self.sources.as_ref().map(|file| file.display().to_string());
        if let Some(sources) = &sources {
            arguments.extend(["--sources", sources]);
        }
        run(root, root.join("agent-image/build"), &arguments, &[])?;
        ensure!(layout.is_dir(), "agent-image/build wrote no layout");
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_order_and_others_refused() {
        let image = Image::parse(&["--layout", "there", "--platform", "linux/arm/v7"]).unwrap();
        assert_eq!((image.platform, image.of), (Platform::LinuxArmV7, Of::Layout("there".into())));
        assert!(matches!(Image::parse(&[]).unwrap().of, Of::Programs(_)));
        for words in [&["--platform"][..], &["--platform", "linux/mips"], &["there"], &["--base", "x"]] {
            assert!(Image::parse(words).is_err(), "{words:?}");
        }
    }
}
