//! What the tests of registries share: keys, lists of referrers, programs that may be missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use mynah_testkit::registry::Registry;
use serde_json::Value;

/// A private key for these tests, of a fixed number, with its public half beside it (`key.pub`).
pub(super) fn signing_key(path: &Path) -> PathBuf {
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    std::fs::write(path, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    std::fs::write(path.with_extension("pub"), public).unwrap();
    path.to_owned()
}

/// Fails the test unless OpenSSL, where it is installed, accepts the signature (base64) of `payload`.
pub(super) fn openssl_accepts(public: &Path, payload: &[u8], signature: &str, scratch: &Path) {
    use base64::Engine as _;
    if !installed(&[("openssl", "version")]) {
        return;
    }
    let (signed, bytes) = (scratch.join("payload"), scratch.join("signature"));
    std::fs::write(&signed, payload).unwrap();
    std::fs::write(&bytes, base64::engine::general_purpose::STANDARD.decode(signature).unwrap()).unwrap();
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-verify"]).arg(public).arg("-signature").args([&bytes, &signed]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What refers to `subject`, from the registry's list or from the tag in its place.
pub(super) fn referrers(registry: &Registry, repository: &str, subject: &str) -> Vec<Value> {
    let own = registry.referrers(repository, subject);
    if !own.is_empty() {
        return own;
    }
    let list = registry.manifest(repository, &subject.replace(':', "-"));
    let list = list.map(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).unwrap());
    list.map(|list| list["manifests"].as_array().unwrap().clone()).unwrap_or_default()
}

/// Whether all these programs are installed; if not, says which is missing.
pub(super) fn installed(programs: &[(&str, &str)]) -> bool {
    programs.iter().all(|(program, probe)| {
        let there = Command::new(program).arg(probe).output().is_ok();
        if !there {
            eprintln!("SKIPPED: {program} is not installed");
        }
        there
    })
}
