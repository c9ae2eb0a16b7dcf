//! Programs of others that judge what we made: onnxruntime, skopeo, umoci, a JSON Schema validator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::run;

/// Whether a judge is there. With `CI=true` a missing one is an error, else it is skipped loudly.
pub(crate) fn present(name: &str, probe: &mut Command) -> Result<bool> {
    if probe.output().is_ok_and(|output| output.status.success()) {
        return Ok(true);
    }
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("{name} is not installed, and CI needs it (.ci/run installs it)");
    }
    crate::say(&format!("SKIPPED: {name} is not installed"));
    Ok(false)
}

/// The Python that has the judges' packages.
fn python() -> std::ffi::OsString {
    std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into())
}

/// Where the published contracts are: `MYNAH_CONTRACTS`, or beside the repository.
fn contracts(root: &Path) -> PathBuf {
    std::env::var_os("MYNAH_CONTRACTS").map_or_else(|| root.join("../shared/contracts"), PathBuf::from)
}

/// onnxruntime gives the probabilities that our own code gave, on every photo.
pub(crate) fn onnxruntime(root: &Path, model: &Path, dataset: &Path, classified: &Path) -> Result<()> {
    if !present("onnxruntime", Command::new(python()).args(["-c", "import onnxruntime, numpy"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/onnxruntime_agrees.py");
    let output = run(
        root,
        python(),
        [script.as_os_str(), model.as_os_str(), dataset.as_os_str(), classified.as_os_str()],
        &[],
    )?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// The published IoT Edge schemas accept a manifest.
pub(crate) fn iot_edge_schemas(root: &Path, manifest: &Path) -> Result<()> {
    let schemas = contracts(root).join("iotedge");
    if !schemas.is_dir() {
        crate::say("SKIPPED: the published IoT Edge schemas are not beside the repository");
        return Ok(());
    }
    if !present("jsonschema", Command::new(python()).args(["-c", "import jsonschema"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/manifest_validates.py");
    let output = run(root, python(), [script.as_os_str(), manifest.as_os_str(), schemas.as_os_str()], &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// What was said with the double of IoT Hub agrees with the service's published contract.
pub(crate) fn iot_hub(root: &Path, exchanges: &Path) -> Result<()> {
    let contract = contracts(root).join("iothub/iothub-service-2021-04-12.json");
    if !contract.is_file() {
        crate::say("SKIPPED: the published contract of IoT Hub is not beside the repository");
        return Ok(());
    }
    if !present("jsonschema", Command::new(python()).args(["-c", "import jsonschema"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/exchanges_agree.py");
    let output = run(root, python(), [script.as_os_str(), contract.as_os_str(), exchanges.as_os_str()], &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// What was said with the double of Custom Vision agrees with the service's published description.
pub(crate) fn custom_vision(root: &Path, exchanges: &Path) -> Result<()> {
    let description = contracts(root).join("customvision/training-v3.3/Training.json");
    if !description.is_file() {
        crate::say("SKIPPED: the published description of Custom Vision is not beside the repository");
        return Ok(());
    }
    if !present("jsonschema", Command::new(python()).args(["-c", "import jsonschema"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/openapi_agrees.py");
    let base = mynah_testkit::customvision::BASE;
    let arguments = [script.as_os_str(), exchanges.as_os_str(), description.as_os_str(), base.as_ref()];
    let output = run(root, python(), arguments, &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// onnxruntime gives the probes of a package, whose model a service trained, their probabilities.
pub(crate) fn foreign_package(root: &Path, model: &Path) -> Result<()> {
    if !present("onnxruntime", Command::new(python()).args(["-c", "import onnxruntime, numpy, PIL"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/foreign_package_agrees.py");
    let output = run(root, python(), [script.as_os_str(), model.as_os_str()], &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// On templates of others, our rules and the published schemas agree, and Kubernetes' schemas accept the objects.
pub(crate) fn manifest_examples(root: &Path, generate_manifest: &Path) -> Result<()> {
    let contracts = contracts(root).join("iotedge");
    if !contracts.is_dir() {
        crate::say("SKIPPED: the published IoT Edge schemas are not beside the repository");
        return Ok(());
    }
    let packages = "import jsonschema, kubernetes_validate, yaml";
    if !present("kubernetes-validate", Command::new(python()).args(["-c", packages]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/manifest_examples.py");
    let schema = root.join("schemas/deployment.schema.json");
    let arguments =
        [script.as_os_str(), generate_manifest.as_os_str(), schema.as_os_str(), contracts.as_os_str()];
    let output = run(root, python(), arguments, &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// Azure's management models and Kubernetes' schemas find nothing wrong with what is deployed.
pub(crate) fn templates(root: &Path, files: &[PathBuf]) -> Result<()> {
    let packages = "import azure.mgmt.storage, azure.mgmt.appcontainers, kubernetes_validate, yaml";
    if !present("azure-mgmt", Command::new(python()).args(["-c", packages]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/templates_validate.py");
    let output = run(root, python(), std::iter::once(&script).chain(files), &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// Kubernetes' schemas and our own rules accept the manifests of agents.
pub(crate) fn agents(root: &Path, files: &[PathBuf]) -> Result<()> {
    let packages = "import kubernetes_validate, yaml";
    if !present("kubernetes-validate", Command::new(python()).args(["-c", packages]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/agents_validate.py");
    let arguments = std::iter::once(script.as_os_str()).chain(files.iter().map(|file| file.as_os_str()));
    let output = run(root, python(), arguments, &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// skopeo reads the image, umoci unpacks it.
pub(crate) fn oci(root: &Path, layout: &Path, tag: &str, scratch: &Path) -> Result<()> {
    let reference = format!("oci:{}:{tag}", layout.display());
    if present("skopeo", Command::new("skopeo").arg("--version"))? {
        run(root, "skopeo", ["inspect", &reference], &[])?;
        crate::say("skopeo: reads the image");
    }
    if present("umoci", Command::new("umoci").arg("--version"))? {
        let image = format!("{}:{tag}", layout.display());
        let bundle = scratch.join("bundle");
        run(root, "umoci", ["unpack", "--rootless", "--image", &image, &bundle.display().to_string()], &[])?;
        if !bundle.join("rootfs/usr/local/bin/mynah-runtime").is_file() {
            bail!("umoci unpacked no mynah-runtime");
        }
        crate::say("umoci: unpacks the image");
    }
    Ok(())
}

/// A client written for the Custom Vision container is answered by the device at `host`.
pub(crate) fn container_client(root: &Path, host: &str, pictures: &[String]) -> Result<()> {
    if !present("requests", Command::new(python()).args(["-c", "import requests"]))? {
        return Ok(());
    }
    let script = root.join("tests/judges/container_client.py").display().to_string();
    let arguments = [script.as_str(), host].into_iter().chain(pictures.iter().map(String::as_str));
    let output = run(root, python(), arguments, &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// The live page at `url` looks right in a browser; its pictures are left in `out`.
pub(crate) fn page(root: &Path, url: &str, out: &Path) -> Result<()> {
    if !present("chromedriver", Command::new("chromedriver").arg("--version"))?
        || !present("pillow", Command::new(python()).args(["-c", "import PIL, numpy"]))?
    {
        return Ok(());
    }
    let script = root.join("tests/judges/page_fits.py").display().to_string();
    let output = run(root, python(), [&script, url, &out.display().to_string()], &[])?;
    crate::say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}
