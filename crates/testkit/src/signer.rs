//! Whoever signs models: an Ed25519 key made from a seed.

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// The key.
#[derive(Debug)]
pub struct ModelSigner(Ed25519KeyPair);

impl ModelSigner {
    /// Another key for each seed.
    ///
    /// # Errors
    /// The seed makes no key.
    pub fn new(seed: u8) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]);
        Ok(Self(pair.map_err(|_| anyhow!("the seed {seed} makes no key"))?))
    }

    /// A line for the file of keys a device trusts.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }

    /// The signature, in base64.
    pub fn sign(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.0.sign(bytes))
    }
}
