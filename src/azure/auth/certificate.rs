//! Proving to be an application by its certificate: a signed assertion (RFC 7523; Microsoft identity platform,
//! certificate credentials).

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::error::AuthError;
use crate::secret::Secret;

/// How long an assertion holds, in seconds.
const LIFETIME: i64 = 600;

/// A certificate and its private key.
#[derive(Debug)]
pub(super) struct Certificate {
    key: Arc<dyn SigningKey>,
    /// SHA-256 of the certificate's DER form, base64url.
    thumbprint: String,
}

impl Certificate {
    /// Reads one PEM text that holds both. `who` is for messages.
    pub(super) fn read(pem: &str, who: &str) -> Result<Self, AuthError> {
        let refused = |problem| AuthError::Certificate { who: who.to_owned(), problem };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| refused("the PEM text holds no certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| refused("the PEM text holds no private key"))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|_| refused("the private key cannot be used"))?;
        if key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]).is_none() {
            return Err(refused("the private key is no RSA key"));
        }
        Ok(Self { key, thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)) })
    }

    /// A fresh assertion that `client_id` is who asks at `audience`.
    pub(super) fn assertion(&self, client_id: &str, audience: &str, who: &str) -> Result<Secret, AuthError> {
        let refused = |problem| AuthError::Certificate { who: who.to_owned(), problem };
        let now = jiff::Timestamp::now().as_second();
        let random = || RandomState::new().build_hasher().finish();
        let id = format!("{:016x}{:016x}", random(), random());
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": id,
            "nbf": now, "iat": now, "exp": now + LIFETIME,
        });
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signer = self
            .key
            .choose_scheme(&[SignatureScheme::RSA_PSS_SHA256])
            .ok_or_else(|| refused("the private key is no RSA key"))?;
        let signature = signer.sign(text.as_bytes()).map_err(|_| refused("the private key does not sign"))?;
        Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// The key others verify with: a `SubjectPublicKeyInfo` in DER form.
    #[cfg(test)]
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.key.public_key().map(|key| key.to_vec()).unwrap_or_default()
    }
}
