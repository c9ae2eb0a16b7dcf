//! What opens a container: a key, a shared access signature, or a connection string that holds one of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use super::Location;
use super::error::CredentialError;
use crate::agent::Env;
use crate::secret::Secret;

/// What opens a container. Keys are read from the environment alone, under the names the Azure CLI uses.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A storage account's key.
    Key {
        /// The account.
        account: String,
        /// The key, in base64 as the portal shows it.
        key: Secret,
    },
    /// A shared access signature: decoded names and values of its query.
    Signature(Vec<(String, Secret)>),
}

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const KEY: &str = "AZURE_STORAGE_KEY";
const SIGNATURE: &str = "AZURE_STORAGE_SAS_TOKEN";
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";

/// The emulator's account and key, which are the same everywhere (Microsoft, "Use the Azurite emulator").
const EMULATOR: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

impl Credential {
    /// The credential in the environment, if there is one: a connection string, a key, a signature, in this order.
    ///
    /// # Errors
    /// One that cannot be read, or is for another place than `location`.
    pub fn of_environment(env: &Env, location: &Location) -> Result<Option<Self>, CredentialError> {
        if let Some(text) = env.get(CONNECTION_STRING) {
            return Self::of_connection_string(text, location).map(Some);
        }
        if let Some(key) = env.get(KEY) {
            let account = location
                .account()
                .or_else(|| env.get(ACCOUNT))
                .ok_or(CredentialError::NoAccount { variable: ACCOUNT })?;
            return Self::key(account, key, KEY).map(Some);
        }
        env.get(SIGNATURE).map(|text| Self::signature(text, SIGNATURE)).transpose()
    }

    fn of_connection_string(text: &str, location: &Location) -> Result<Self, CredentialError> {
        // Masked as a whole too: someone may print it.
        let text = Secret::new(text);
        let fields: Vec<(String, &str)> = text
            .expose()
            .split(';')
            .filter(|field| !field.trim().is_empty())
            .map(|field| {
                // Keys end in `=`, so the first one parts name and value.
                let (name, value) = field.split_once('=').ok_or(CredentialError::ConnectionString)?;
                Ok((name.trim().to_ascii_lowercase(), value.trim()))
            })
            .collect::<Result<_, CredentialError>>()?;
        let field = |name: &str| {
            fields
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let emulated = field("usedevelopmentstorage").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (account, key) = if emulated {
            (Some(EMULATOR.0), Some(EMULATOR.1))
        } else {
            (field("accountname"), field("accountkey"))
        };
        let elsewhere = |there: &str| CredentialError::Elsewhere {
            variable: CONNECTION_STRING,
            there: there.to_owned(),
            here: location.to_string(),
        };
        if let (Some(there), Some(here)) = (account, location.account())
            && there != here
        {
            return Err(elsewhere(there));
        }
        if let Some(there) = field("blobendpoint")
            && there.trim_end_matches('/') != location.endpoint()
        {
            return Err(elsewhere(there));
        }
        if let Some(key) = key {
            let account = account
                .or(location.account())
                .ok_or(CredentialError::NoAccount { variable: CONNECTION_STRING })?;
            return Self::key(account, key, CONNECTION_STRING);
        }
        match field("sharedaccesssignature") {
            Some(signature) => Self::signature(signature, CONNECTION_STRING),
            None => Err(CredentialError::ConnectionString),
        }
    }

    fn key(account: &str, key: &str, variable: &'static str) -> Result<Self, CredentialError> {
        let key = Secret::new(key.trim());
        match STANDARD.decode(key.expose()) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self::Key { account: account.to_owned(), key }),
            _ => Err(CredentialError::Key { variable }),
        }
    }

    fn signature(text: &str, variable: &'static str) -> Result<Self, CredentialError> {
        let whole = Secret::new(text.trim().trim_start_matches('?'));
        let pairs: Vec<(String, Secret)> = form_urlencoded::parse(whole.expose().as_bytes())
            .map(|(name, value)| {
                // Only the signature itself is secret; dates and permissions may be shown.
                let value =
                    if name == "sig" { Secret::new(value.into_owned()) } else { Secret::unmasked(&value) };
                (name.into_owned(), value)
            })
            .collect();
        if pairs.iter().any(|(name, _)| name == "sig") {
            Ok(Self::Signature(pairs))
        } else {
            Err(CredentialError::Signature { variable })
        }
    }

    /// How it is called in messages.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Key { .. } => "the account key",
            Self::Signature(_) => "the shared access signature",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Diagnosis as _;

    const AT: &str = "https://acc.blob.core.windows.net/c";

    fn read(at: &str, pairs: &[(&str, &str)]) -> Result<Option<Credential>, CredentialError> {
        Credential::of_environment(&pairs.iter().copied().collect(), &Location::parse(at).unwrap())
    }

    #[test]
    fn every_form_is_read() {
        let whole = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5LW9uZQ==;EndpointSuffix=core.windows.net";
        for pairs in
            [[(CONNECTION_STRING, whole), (KEY, "")], [(KEY, " a2V5LW9uZQ==\n"), (SIGNATURE, "sig=x")]]
        {
            let Ok(Some(Credential::Key { account, key })) = read(AT, &pairs) else { panic!("{pairs:?}") };
            assert_eq!((account.as_str(), key.expose()), ("acc", "a2V5LW9uZQ=="));
        }
        let emulated = "http://127.0.0.1:10000/devstoreaccount1/c";
        assert!(matches!(
            read(emulated, &[(CONNECTION_STRING, "UseDevelopmentStorage=true")]),
            Ok(Some(Credential::Key { .. }))
        ));
        let sas =
            "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=2021&sig=aB%2Fc%3D";
        for pairs in [[(CONNECTION_STRING, sas)], [(SIGNATURE, "?sv=2021&sig=aB%2Fc%3D")]] {
            let Ok(Some(Credential::Signature(parts))) = read(AT, &pairs) else { panic!("{pairs:?}") };
            let parts: Vec<_> = parts.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
            assert_eq!(parts, [("sv", "2021"), ("sig", "aB/c=")]);
        }
        assert!(read(AT, &[]).unwrap().is_none());
    }

    #[test]
    fn what_does_not_fit_is_told_and_not_shown() {
        for (at, pairs, part) in [
            (AT, (CONNECTION_STRING, "AccountName=other;AccountKey=c2VjcmV0LWtleQ=="), "is for `other`"),
            (
                AT,
                (CONNECTION_STRING, "BlobEndpoint=http://127.0.0.1:1/x;AccountKey=c2VjcmV0LWtleQ=="),
                "is for `http",
            ),
            (AT, (CONNECTION_STRING, "AccountName=acc;secret-key"), "not a connection string"),
            (AT, (CONNECTION_STRING, "AccountName=acc"), "not a connection string"),
            (AT, (KEY, "secret-key!"), "`AZURE_STORAGE_KEY` is not a storage key"),
            (AT, (SIGNATURE, "sv=1&secret-key=2"), "not a shared access signature"),
            ("https://photos.example/c", (KEY, "c2VjcmV0LWtleQ=="), "`AZURE_STORAGE_ACCOUNT`"),
        ] {
            let error = read(at, &[pairs]).unwrap_err();
            let text = format!("{error}. {}", error.hint().unwrap_or_default());
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("c2VjcmV0") && !text.contains("secret-key"), "{text}");
        }
    }
}
