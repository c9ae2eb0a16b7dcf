//! What is in an image: its settings, its files, how large its parts are.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::Platform;
use serde_json::{Value, json};

use super::container::USER;
use crate::say;

/// Where the image's user may write: the agent's home, the cache, and what every Debian gives everyone.
const WRITABLE: [&str; 6] = ["azp", "cache", "tmp", "var/tmp", "run/lock", "dev"];

/// The image's settings are those of an agent: a user without rights, our first process, no secret.
pub(super) fn settings(layout: &Path, platform: Platform) -> Result<()> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let manifest = blob(layout, &index["manifests"][0])?;
    let config = blob(layout, &manifest["config"])?;
    ensure!(config["architecture"] == platform.architecture(), "the image is for {}", config["architecture"]);
    let of = &config["config"];
    ensure!(of["User"] == format!("{USER}:{USER}"), "the image's user is {}", of["User"]);
    ensure!(
        of["Entrypoint"] == json!(["/opt/mynah/bin/mynah-agent"]),
        "the first process is {}",
        of["Entrypoint"]
    );
    for never in ["ExposedPorts", "Volumes"] {
        ensure!(of[never].is_null(), "the image has {never}: {}", of[never]);
    }
    let env = of["Env"].as_array().context("the image has no environment")?;
    let secrets = ["TOKEN", "SECRET", "PASSWORD", "KEY"];
    for variable in env.iter().filter_map(Value::as_str) {
        let name = variable.split('=').next().unwrap_or_default();
        ensure!(!secrets.iter().any(|word| name.contains(word)), "the image says `{name}`");
    }
    Ok(())
}

fn blob(layout: &Path, descriptor: &Value) -> Result<Value> {
    let digest = descriptor["digest"].as_str().context("a descriptor has no digest")?;
    let bytes = fs::read(layout.join("blobs").join(digest.replace(':', "/")))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// No way to Docker, and nothing that a job could change: the programs are root's.
pub(super) fn files(rootfs: &Path) -> Result<()> {
    for socket in ["var/run/docker.sock", "run/docker.sock"] {
        ensure!(fs::symlink_metadata(rootfs.join(socket)).is_err(), "the image has {socket}");
    }
    let mut seen = 0;
    let mut walk = walkdir::WalkDir::new(rootfs).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let name = entry.path().strip_prefix(rootfs)?;
        if WRITABLE.iter().any(|writable| Path::new(writable) == name) {
            walk.skip_current_dir();
            continue;
        }
        if entry.path_is_symlink() {
            continue;
        }
        let metadata = entry.metadata()?;
        let theirs = metadata.uid() == USER || metadata.gid() == USER;
        let open = metadata.permissions().mode() & 0o002 != 0;
        ensure!(!theirs && !open, "every job may write {}", name.display());
        let docker = ["docker", "dockerd", "containerd"].iter().any(|program| entry.file_name() == *program);
        ensure!(!(docker && metadata.is_file()), "the image has {}", name.display());
        seen += 1;
    }
    say(&format!("agent-image: no way to Docker; of {seen} files and folders a job may write none"));
    Ok(())
}

/// Says how large the image and its parts are.
pub(super) fn sizes(layout: &Path, rootfs: &Path) -> Result<()> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let of = |part: &str| Ok::<_, anyhow::Error>(megabytes(size(&rootfs.join(part))?));
    let (compressed, all) = (megabytes(size(layout)?), megabytes(size(rootfs)?));
    let (agent, ours) = (of("opt/agent")?, of("opt/mynah")?);
    say(&format!(
        "agent-image: {compressed:.0} MB compressed, {all:.0} MB on disk: Debian {:.0}, a stand-in for the agent's package \
         {agent:.0}, Mynah {ours:.0} (programs {:.0}, the devices' runtimes {:.0}, backbone {:.0})",
        all - agent - ours,
        of("opt/mynah/bin")?,
        of("opt/mynah/runtime")?,
        of("opt/mynah/models")?,
    ));
    Ok(())
}

/// The bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_job_may_write_and_a_client_of_docker_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for below in ["tmp", "usr/bin"] {
            fs::create_dir_all(at(below)).unwrap();
        }
        fs::write(at("usr/bin/tool"), "").unwrap();
        fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        files(folder.path()).unwrap();
        fs::set_permissions(at("usr/bin/tool"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(files(folder.path()).unwrap_err().to_string().contains("usr/bin/tool"));
        fs::rename(at("usr/bin/tool"), at("usr/bin/docker")).unwrap();
        fs::set_permissions(at("usr/bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(files(folder.path()).unwrap_err().to_string().contains("usr/bin/docker"));
    }
}
