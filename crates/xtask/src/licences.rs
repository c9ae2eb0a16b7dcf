//! What the programs are made of: a list of software (CycloneDX 1.5) and the licences' texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::process::{cargo, run};

/// A package that is linked into a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    name: String,
    version: String,
    licence: String,
    folder: PathBuf,
}

/// The packages of others below the root package, by name.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = run(
        root,
        cargo(),
        ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
        &[],
    )?;
    linked(&serde_json::from_slice(&output.stdout)?)
}

fn linked(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let root = metadata["resolve"]["root"].as_str().context("the workspace has no root package")?;
    let (mut reached, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(id) = open.pop() {
        if !reached.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes.get(&id).with_context(|| format!("no package {id}"))?["deps"]) {
            // What only builds or tests is in no program.
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    let mut packages: Vec<Package> = list(&metadata["packages"])
        .into_iter()
        .filter(|package| reached.contains(&text(&package["id"])) && !package["source"].is_null())
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: text(&package["license"]),
            folder: Path::new(&text(&package["manifest_path"]))
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default(),
        })
        .collect();
    packages.sort();
    Ok(packages)
}

/// The list of software, CycloneDX 1.5.
pub(crate) fn sbom(packages: &[Package]) -> Value {
    let components: Vec<Value> = packages
        .iter()
        .map(|package| {
            json!({
                "type": "library",
                "name": package.name,
                "version": package.version,
                "purl": format!("pkg:cargo/{}@{}", package.name, package.version),
                // Cargo once wrote `MIT/Apache-2.0` for a choice.
                "licenses": [{"expression": package.licence.replace('/', " OR ")}],
            })
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "mynah", "version": env!("CARGO_PKG_VERSION")}},
        "components": components,
    })
}

/// The texts of the licences, each once, under the packages it belongs to.
pub(crate) fn texts(packages: &[Package]) -> Result<String> {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for package in packages {
        let name = format!("{} {} ({})", package.name, package.version, package.licence);
        let found = licence_files(&package.folder)?;
        if found.is_empty() {
            without.push(name.clone());
        }
        for file in found {
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned();
            owners.entry(text).or_default().push(name.clone());
        }
    }
    let mut sections: Vec<(Vec<String>, String)> =
        owners.into_iter().map(|(text, names)| (names, text)).collect();
    sections.sort();
    let mut out = String::from("Software of others in the programs of this extension, and its licences.\n");
    for (names, text) in sections {
        let _ = write!(out, "\n{}\n{}\n\n{text}\n", "=".repeat(80), names.join("\n"));
    }
    if !without.is_empty() {
        let _ = write!(
            out,
            "\n{}\nUnder the licence named, without a text of their own:\n\n{}\n",
            "=".repeat(80),
            without.join("\n")
        );
    }
    Ok(out)
}

fn licence_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        let known = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start));
        known && file.is_file()
    });
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_and_not_ours_is_listed() {
        let metadata = json!({
            "packages": [
                {"id": "us", "name": "mynah", "version": "1.0.0", "license": "MIT", "source": null, "manifest_path": "/a/Cargo.toml"},
                {"id": "dep", "name": "dep", "version": "2.0.0", "license": "MIT/Apache-2.0", "source": "registry", "manifest_path": "/b/Cargo.toml"},
                {"id": "dev", "name": "dev", "version": "3.0.0", "license": "MIT", "source": "registry", "manifest_path": "/c/Cargo.toml"},
            ],
            "resolve": {"root": "us", "nodes": [
                {"id": "us", "deps": [
                    {"pkg": "dep", "dep_kinds": [{"kind": null}, {"kind": "dev"}]},
                    {"pkg": "dev", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "dep", "deps": []},
                {"id": "dev", "deps": []},
            ]},
        });
        let packages = linked(&metadata).unwrap();
        assert_eq!(packages.len(), 1);
        let sbom = sbom(&packages);
        assert_eq!(sbom["components"][0]["purl"], "pkg:cargo/dep@2.0.0");
        assert_eq!(sbom["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
