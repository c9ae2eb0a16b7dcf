//! The JSON Schemas of the artifacts, generated from their Rust types.

use std::fs;

use anyhow::{Result, bail};
use mynah_contracts::{
    Dataset, DeploymentRecord, DeviceStatus, ModelCard, ModuleSet, Sighting, Speech, Training,
    iot_edge::EdgeDeployment,
};
use schemars::schema_for;

fn all() -> Result<Vec<(&'static str, String)>> {
    let schemas = [
        ("dataset", schema_for!(Dataset)),
        ("training", schema_for!(Training)),
        ("model", schema_for!(ModelCard)),
        ("modules", schema_for!(ModuleSet)),
        ("speech", schema_for!(Speech)),
        ("deployment", schema_for!(EdgeDeployment)),
        ("deployment-record", schema_for!(DeploymentRecord)),
        ("status", schema_for!(DeviceStatus)),
        ("sighting", schema_for!(Sighting)),
    ];
    schemas
        .into_iter()
        .map(|(name, schema)| Ok((name, serde_json::to_string_pretty(&schema)? + "\n")))
        .collect()
}

/// Writes `schemas/*.schema.json`.
pub(crate) fn write() -> Result<()> {
    let folder = crate::root().join("schemas");
    fs::create_dir_all(&folder)?;
    for (name, text) in all()? {
        fs::write(folder.join(format!("{name}.schema.json")), text)?;
    }
    Ok(())
}

/// Fails where a schema differs from its type.
pub(crate) fn check() -> Result<()> {
    let folder = crate::root().join("schemas");
    for (name, text) in all()? {
        let file = folder.join(format!("{name}.schema.json"));
        if fs::read_to_string(&file).unwrap_or_default() != text {
            bail!("schemas/{name}.schema.json is not what the types say; run `cargo xtask schemas`");
        }
    }
    crate::say("schemas: up to date");
    Ok(())
}
