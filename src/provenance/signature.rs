//! A signature that says whose key vouches for an image, in the layout cosign uses: a tag beside the image, a
//! payload that names its digest (containers/image, "simple signing"), an ECDSA signature on it.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::{Diagnosis, FaultKind, Sha256Digest};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use serde_json::json;

use crate::oci::spec::Descriptor;

/// The media type of payloads.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of a payload's descriptor that holds its signature.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A private key to sign with (ECDSA on P-256, SHA-256).
pub struct Signer(SigningKey);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

/// A public key to verify with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checker(VerifyingKey);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("cannot read the key `{path}`", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key is locked by a password.
    #[error("the key `{path}` is encrypted", path = .0.display())]
    Encrypted(PathBuf),
    /// It is no key of the kind we use.
    #[error("`{path}` holds no {kind} key for ECDSA on P-256 in PEM", path = .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// `private` or `public`.
        kind: &'static str,
    },
}

impl Diagnosis for KeyError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "check that the file exists and may be read".into(),
            Self::Encrypted(_) => {
                "unlock it for the step with `openssl pkcs8 -in KEY -out UNLOCKED`, and remove the unlocked file afterwards".into()
            }
            Self::NoKey { .. } => {
                "make a pair with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem` and `openssl pkey -in key.pem -pubout -out key.pub`".into()
            }
        })
    }
}

impl Signer {
    /// Reads a private key: PKCS #8 in PEM, not encrypted.
    ///
    /// # Errors
    /// When it cannot be read or is another kind of key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        if text.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted(path.to_owned()));
        }
        let key = SigningKey::from_pkcs8_pem(text.trim());
        key.map(Self).map_err(|_| KeyError::NoKey { path: path.to_owned(), kind: "private" })
    }

    /// The descriptor of a payload, with its signature. The same payload gets the same one every time (RFC 6979).
    pub(crate) fn sign(&self, payload: &[u8]) -> Descriptor {
        let signature: DerSignature = self.0.sign(payload);
        let mut descriptor = Descriptor::of(PAYLOAD_TYPE, payload);
        descriptor.annotations.insert(SIGNATURE.into(), STANDARD.encode(signature.as_bytes()));
        descriptor
    }
}

impl Checker {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// When it cannot be read or is another kind of key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(read(path)?.trim());
        key.map(Self).map_err(|_| KeyError::NoKey { path: path.to_owned(), kind: "public" })
    }

    /// Whether `payload`, described by `descriptor`, is signed by this key's owner and names the image `digest`.
    pub(crate) fn accepts(&self, descriptor: &Descriptor, payload: &[u8], digest: Sha256Digest) -> bool {
        let named: Option<Sha256Digest> = serde_json::from_slice::<serde_json::Value>(payload)
            .ok()
            .and_then(|value| value["critical"]["image"]["docker-manifest-digest"].as_str()?.parse().ok());
        let signature = descriptor.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.and_then(|bytes| DerSignature::from_bytes(&bytes).ok());
        named == Some(digest)
            && Sha256Digest::of(payload) == descriptor.digest
            && signature.is_some_and(|signature| self.0.verify(payload, &signature).is_ok())
    }
}

/// The payload that is signed: which image, under which name.
pub(crate) fn payload(repository: &str, digest: Sha256Digest) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": repository },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    // A tree of strings, which serde_json cannot refuse.
    serde_json::to_vec(&payload).unwrap_or_default()
}

/// The configuration of a signature's manifest: cosign's tools read it as an image's.
pub(crate) fn configuration(payloads: &[Descriptor]) -> Vec<u8> {
    let layers: Vec<_> = payloads.iter().map(|payload| payload.digest).collect();
    let config = json!({
        "architecture": "",
        "config": {},
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": layers },
    });
    // A tree of strings, which serde_json cannot refuse.
    serde_json::to_vec(&config).unwrap_or_default()
}

/// The tag of the signatures of `digest`.
pub(crate) fn tag(digest: Sha256Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

    /// A pair of keys in files; made of a fixed number, for these tests alone.
    fn pair(folder: &Path, number: u8) -> (PathBuf, PathBuf) {
        let key = SigningKey::from_slice(&[number; 32]).unwrap();
        let (private, public) = (folder.join(format!("{number}.pem")), folder.join(format!("{number}.pub")));
        std::fs::write(&private, key.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap().as_bytes()).unwrap();
        let text = key.verifying_key().to_public_key_pem(p256::pkcs8::LineEnding::LF).unwrap();
        std::fs::write(&public, text).unwrap();
        (private, public)
    }

    #[test]
    fn a_signature_holds_for_its_image_its_key_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = pair(folder.path(), 7);
        let (_, other) = pair(folder.path(), 8);
        let digest = Sha256Digest::of(b"image");
        let signed = payload("registry.example/mynah", digest);
        let descriptor = Signer::read(&private).unwrap().sign(&signed);
        assert_eq!(descriptor, Signer::read(&private).unwrap().sign(&signed), "signed twice, two signatures");
        let checker = Checker::read(&public).unwrap();
        assert!(checker.accepts(&descriptor, &signed, digest));
        assert!(!checker.accepts(&descriptor, &signed, Sha256Digest::of(b"other")));
        assert!(!Checker::read(&other).unwrap().accepts(&descriptor, &signed, digest));
        let forged = payload("registry.example/mynah", Sha256Digest::of(b"other"));
        assert!(!checker.accepts(&descriptor, &forged, Sha256Digest::of(b"other")));
        let mut unsigned = descriptor;
        unsigned.annotations.clear();
        assert!(!checker.accepts(&unsigned, &signed, digest));
    }

    #[test]
    fn keys_of_other_kinds_are_told_apart_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = pair(folder.path(), 7);
        let locked = folder.path().join("locked.pem");
        std::fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n").unwrap();
        assert!(matches!(Signer::read(&locked), Err(KeyError::Encrypted(_))));
        assert!(matches!(Signer::read(&public), Err(KeyError::NoKey { .. })));
        assert!(matches!(Checker::read(&private), Err(KeyError::NoKey { .. })));
        assert!(matches!(Signer::read(&folder.path().join("none")), Err(KeyError::Io { .. })));
        assert_eq!(format!("{:?}", Signer::read(&private).unwrap()), "Signer(***)");
    }
}
