//! Models that come while the device runs: named by a desired property, fetched with resume, proved by digest and
//! signature, tested on their own probes, taken up between two frames, and given back if they fail in their trial.

mod fetch;
mod store;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_contracts::Sha256Digest;
use mynah_model::{ModelError, ModelPackage};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

pub(crate) use store::Store;

/// Why a model is not taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error("`model` is an object of `url`, `sha256` and `signature`, all texts")]
    Form,
    #[error("this device takes no models: `model-keys-file` and `model-store` are not both set")]
    Off,
    #[error("the address of the model card begins with http:// or https:// and ends with a file's name")]
    Address,
    #[error("the signature is not one of the keys' of this device")]
    Signature,
    #[error("the model card has the digest {got}, {expected} is desired")]
    Digest { got: Sha256Digest, expected: Sha256Digest },
    #[error("`{file}` has another digest than the model card says")]
    File { file: String },
    #[error("`{file}` has more than {max} bytes")]
    TooLarge { file: String, max: u64 },
    #[error("cannot fetch `{file}`")]
    Fetch {
        file: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("cannot store the model")]
    Store(#[from] std::io::Error),
    #[error("the model cannot be used")]
    Model(#[from] ModelError),
    #[error("the model card cannot be used")]
    Card(#[from] mynah_contracts::ArtifactError),
    #[error("this model was taken up before and failed in its trial")]
    Refused,
    #[error("fetching the model ended without a result")]
    Ended,
}

/// The keys a device believes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Reads one key a line: 32 bytes in base64; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// Names the first line that holds none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text
            .lines()
            .map(str::trim)
            .zip(1..)
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<[u8; 32]>, String> = lines
            .map(|(line, number)| {
                let bytes = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.ok_or_else(|| format!("line {number} is no Ed25519 public key of 32 bytes in base64"))
            })
            .collect();
        match keys?.as_slice() {
            [] => Err("it holds no key".into()),
            keys => Ok(Self(keys.to_vec())),
        }
    }

    fn vouch_for(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok())
    }
}

/// Which model is desired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    /// Where its card is; its files lie beside it.
    pub(crate) url: String,
    /// The digest of the card, which names the digests of all files.
    pub(crate) card: Sha256Digest,
    /// The Ed25519 signature of the card's bytes.
    signature: Vec<u8>,
}

impl Wish {
    /// Reads the desired property.
    ///
    /// # Errors
    /// It is not of its form.
    pub(crate) fn parse(value: &Value) -> Result<Self, UpdateError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or(UpdateError::Form);
        let digest = text("sha256")?;
        let digest =
            if digest.starts_with("sha256:") { digest.to_owned() } else { format!("sha256:{digest}") };
        Ok(Self {
            url: text("url")?.to_owned(),
            card: digest.parse().map_err(|_| UpdateError::Form)?,
            signature: STANDARD.decode(text("signature")?).map_err(|_| UpdateError::Form)?,
        })
    }
}

/// A model that proved itself and waits to be taken up.
pub(crate) struct Ready {
    pub(crate) wish: Wish,
    pub(crate) folder: PathBuf,
    pub(crate) package: ModelPackage,
}

/// Fetching on a thread of its own.
pub(crate) struct Fetching {
    pub(crate) wish: Wish,
    done: Receiver<Result<ModelPackage, UpdateError>>,
    folder: PathBuf,
}

impl Fetching {
    /// Begins. What is fetched ends up in a folder of the store named after the card's digest.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(wish: Wish, keys: Keys, folder: PathBuf) -> Result<Self, UpdateError> {
        let (send, done) = channel();
        let (wanted, into) = (wish.clone(), folder.clone());
        std::thread::Builder::new().name("model".into()).spawn(move || {
            let outcome = fetch::package(&wanted, &keys, &into).and_then(|()| {
                let package = ModelPackage::open(&into)?;
                package.self_test(&into)?;
                Ok(package)
            });
            // A device that has ended takes no model.
            let _ = send.send(outcome);
        })?;
        Ok(Self { wish, done, folder })
    }

    /// The outcome, once there is one.
    pub(crate) fn outcome(&self) -> Option<Result<Ready, UpdateError>> {
        match self.done.try_recv() {
            Ok(outcome) => Some(outcome.map(|package| Ready {
                wish: self.wish.clone(),
                folder: self.folder.clone(),
                package,
            })),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(UpdateError::Ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    #[test]
    fn only_known_keys_vouch() {
        let [one, other] = [[1; 32], [2; 32]].map(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        let keys = Keys::parse(&format!("# ours\n{}\n", STANDARD.encode(one.public_key()))).unwrap();
        assert!(keys.vouch_for(b"card", one.sign(b"card").as_ref()));
        assert!(!keys.vouch_for(b"cart", one.sign(b"card").as_ref()));
        assert!(!keys.vouch_for(b"card", other.sign(b"card").as_ref()));
        assert!(!keys.vouch_for(b"card", b""));
        assert!(Keys::parse("#\n").is_err());
        assert_eq!(
            Keys::parse("\nabc").unwrap_err(),
            "line 2 is no Ed25519 public key of 32 bytes in base64"
        );
    }

    #[test]
    fn wishes_are_read() {
        let digest = Sha256Digest::of(b"card");
        let good =
            json!({ "url": "https://h/m/model.json?sig=x", "sha256": digest.hex(), "signature": "AAAA" });
        assert_eq!(Wish::parse(&good).unwrap().card, digest);
        for bad in [json!(1), json!({}), json!({ "url": "u", "sha256": "12", "signature": "" })] {
            assert!(matches!(Wish::parse(&bad), Err(UpdateError::Form)), "{bad}");
        }
    }
}
