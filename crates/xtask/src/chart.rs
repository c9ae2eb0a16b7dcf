//! The chart of agents and what is rendered from it: the plain manifests beside it are its own output, so that both
//! say the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::run;
use crate::{judges, say};

/// The plain manifests, and how the chart is asked for them. The Job that removes a placeholder before a release is
/// deleted would run at once without Helm.
const PLAIN: [(&str, &[&str]); 2] =
    [("deployment.yaml", &[]), ("scaledjob.yaml", &["--set", "mode=scaledJob,placeholder.remove=false"])];

/// Other settings that must give valid objects.
const ALSO: [(&str, &str); 5] = [
    ("with hooks", "mode=scaledJob"),
    (
        "service principal",
        "signIn.kind=servicePrincipal,signIn.clientId=66666666-7777-8888-9999-000000000000,signIn.tenantId=11111111-2222-3333-4444-555555555555",
    ),
    (
        "workload identity",
        "mode=scaledJob,signIn.kind=workloadIdentity,signIn.clientId=66666666-7777-8888-9999-000000000000",
    ),
    ("without cache", "cache.enabled=false,networkPolicy.enabled=false"),
    (
        "32-bit ARM, by digest",
        "architectures[0].name=arm,architectures[0].replicas=3,image.digest=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
];

/// Settings that must be refused, and a word of why.
const REFUSED: [(&str, &str); 5] = [
    ("mode=daemon", "mode"),
    ("azure.url=http://dev.azure.com/contoso", "url"),
    ("mode=scaledJob,signIn.kind=servicePrincipal,signIn.clientId=x,signIn.tenantId=y", "KEDA cannot"),
    ("signIn.kind=servicePrincipal", "clientId"),
    ("drainSecond=5", "drainSecond"),
];

/// Helm, where `MYNAH_HELM` says or on the path.
fn helm() -> std::ffi::OsString {
    std::env::var_os("MYNAH_HELM").unwrap_or_else(|| "helm".into())
}

fn folder(root: &Path) -> PathBuf {
    root.join("agent-image/chart")
}

fn render(root: &Path, more: &[&str]) -> Result<Vec<u8>> {
    let chart = folder(root).display().to_string();
    let fixed = ["template", "mynah-agent", &chart, "--namespace", "mynah"];
    Ok(run(root, helm(), fixed.iter().chain(more), &[])?.stdout)
}

/// Writes the plain manifests.
pub(crate) fn write() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    for (name, more) in PLAIN {
        let text = render(&root, more)?;
        fs::write(root.join("agent-image/kubernetes").join(name), text)?;
    }
    Ok(())
}

/// Lints the chart, holds the plain manifests against it, and has the Kubernetes schemas judge them and what other
/// settings give.
pub(crate) fn check() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    let mut judged: Vec<PathBuf> =
        PLAIN.iter().map(|(name, _)| root.join("agent-image/kubernetes").join(name)).collect();
    let scratch = tempfile::tempdir()?;
    if judges::present("helm", Command::new(helm()).args(["version", "--short"]))? {
        let chart = folder(&root).display().to_string();
        run(&root, helm(), ["lint", "--strict", &chart], &[])?;
        for ((name, more), file) in PLAIN.iter().zip(&judged) {
            let rendered = render(&root, more)?;
            let kept = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            ensure!(rendered == kept, "{name} is not what the chart gives; run `cargo xtask chart`");
        }
        for (index, (_, set)) in ALSO.iter().enumerate() {
            let file = scratch.path().join(format!("{index}.yaml"));
            fs::write(&file, render(&root, &["--set", set])?)?;
            judged.push(file);
        }
        for (set, word) in REFUSED {
            let Err(error) = render(&root, &["--set", set]) else {
                anyhow::bail!("the chart takes `{set}`");
            };
            ensure!(format!("{error:#}").contains(word), "`{set}` is refused without `{word}`: {error:#}");
        }
        say(&format!(
            "helm: lints the chart, gives the plain manifests, refuses {} bad settings; judged beside them: {}",
            REFUSED.len(),
            ALSO.map(|(name, _)| name).join(", ")
        ));
    }
    judges::agents(&root, &judged)
}
