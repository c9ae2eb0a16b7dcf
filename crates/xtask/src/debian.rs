//! Packages of Debian 12 for any platform, downloaded and unpacked, never installed.
//!
//! They come through apt with a configuration of its own, so that the machine's is never touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use mynah_contracts::Platform;

use crate::process::run;
use crate::say;

/// Debian's name of the architecture, the folder of its libraries, the place of its program loader.
pub(crate) fn names(platform: Platform) -> (&'static str, &'static str, &'static str) {
    match platform {
        Platform::LinuxAmd64 => ("amd64", "x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2"),
        Platform::LinuxArm64 => ("arm64", "aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1"),
        Platform::LinuxArmV7 => ("armhf", "arm-linux-gnueabihf", "lib/ld-linux-armhf.so.3"),
    }
}

/// Downloads `wanted` below `scratch` and gives the packages' files.
pub(crate) fn download(scratch: &Path, platform: Platform, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let (architecture, ..) = names(platform);
    let place = scratch.join(architecture);
    for folder in ["state/lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(place.join(folder))?;
    }
    fs::write(place.join("state/status"), "")?;
    let config = format!(
        "Dir::State \"{0}/state\";\nDir::State::status \"{0}/state/status\";\nDir::Cache \"{0}/cache\";\n\
         APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Sandbox::User \"root\";\n",
        place.display()
    );
    let file = place.join("apt.conf");
    fs::write(&file, config)?;
    let file = file.display().to_string();
    let env = [("APT_CONFIG", file.as_str())];
    let packages = place.join("packages");
    // One of the archive's indexes being out of step is no reason to stop: the download says whether it is.
    if let Err(error) = run(&packages, "apt-get", ["update", "-qq"], &env) {
        say(&format!("apt-get update for {platform}: {error:#}"));
    }
    run(&packages, "apt-get", ["download", "-qq"].iter().chain(wanted), &env)?;
    let mut files: Vec<PathBuf> =
        fs::read_dir(&packages)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    ensure!(files.len() == wanted.len(), "apt-get downloaded {} packages", files.len());
    Ok(files)
}
