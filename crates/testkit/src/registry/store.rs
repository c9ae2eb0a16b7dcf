//! What the registry keeps: blobs and manifests per repository, tags, open uploads.

use std::collections::BTreeMap;

use mynah_contracts::Sha256Digest;

/// Blobs and manifests of all repositories.
#[derive(Default)]
pub(super) struct Store {
    pub(super) knows_referrers: bool,
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<u64, Upload>,
    last_upload: u64,
}

#[derive(Default)]
struct Repository {
    blobs: BTreeMap<Sha256Digest, Vec<u8>>,
    manifests: BTreeMap<Sha256Digest, (String, Vec<u8>)>,
    tags: BTreeMap<String, Sha256Digest>,
}

/// An upload in progress.
#[derive(Clone, Default)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) bytes: Vec<u8>,
    /// Grows with every answer: only the newest `Location` is good.
    pub(super) state: u64,
}

impl Store {
    pub(super) fn new(knows_referrers: bool) -> Self {
        Self { knows_referrers, ..Self::default() }
    }

    pub(super) fn blob(&self, repository: &str, digest: Sha256Digest) -> Option<Vec<u8>> {
        self.repositories.get(repository)?.blobs.get(&digest).cloned()
    }

    pub(super) fn blob_count(&self, repository: &str) -> usize {
        self.repositories.get(repository).map_or(0, |repository| repository.blobs.len())
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        self.repositories
            .get(repository)
            .map(|found| found.tags.keys().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn put_blob(&mut self, repository: &str, bytes: Vec<u8>) -> Sha256Digest {
        let digest = Sha256Digest::of(&bytes);
        self.repositories.entry(repository.to_owned()).or_default().blobs.insert(digest, bytes);
        digest
    }

    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Vec<u8>)> {
        let repository = self.repositories.get(repository)?;
        let digest = reference.parse().ok().or_else(|| repository.tags.get(reference).copied())?;
        repository.manifests.get(&digest).cloned()
    }

    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Sha256Digest {
        let digest = Sha256Digest::of(&bytes);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest, (media_type.to_owned(), bytes));
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest);
        }
        digest
    }

    /// The digests a manifest names that the repository does not have.
    pub(super) fn missing(&self, repository: &str, manifest: &serde_json::Value) -> Vec<String> {
        let empty = Repository::default();
        let repository = self.repositories.get(repository).unwrap_or(&empty);
        let digests = |values: Vec<&serde_json::Value>| -> Vec<String> {
            values.iter().filter_map(|value| value["digest"].as_str()).map(str::to_owned).collect()
        };
        let list =
            |name: &str| manifest[name].as_array().map(|list| list.iter().collect()).unwrap_or_default();
        let has = |text: &str, blob: bool| {
            text.parse().is_ok_and(|digest: Sha256Digest| {
                if blob {
                    repository.blobs.contains_key(&digest)
                } else {
                    repository.manifests.contains_key(&digest)
                }
            })
        };
        let mut blobs = digests(list("layers"));
        blobs.extend(digests(vec![&manifest["config"]]));
        let mut missing: Vec<String> = blobs.into_iter().filter(|text| !has(text, true)).collect();
        missing.extend(digests(list("manifests")).into_iter().filter(|text| !has(text, false)));
        missing
    }

    /// The manifests whose subject is `digest`, as descriptors.
    pub(super) fn referrers(&self, repository: &str, digest: &str) -> Vec<serde_json::Value> {
        let Some(repository) = self.repositories.get(repository) else { return Vec::new() };
        let referring = |(found, (media_type, bytes)): (&Sha256Digest, &(String, Vec<u8>))| {
            let manifest: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            (manifest["subject"]["digest"] == digest).then(|| {
                let mut descriptor = serde_json::json!({
                    "mediaType": media_type,
                    "digest": found,
                    "size": bytes.len(),
                });
                for name in ["artifactType", "annotations"] {
                    if let Some(value) = manifest.get(name) {
                        descriptor[name] = value.clone();
                    }
                }
                descriptor
            })
        };
        repository.manifests.iter().filter_map(referring).collect()
    }

    /// Opens an upload and gives its number.
    pub(super) fn open(&mut self, repository: &str) -> u64 {
        self.last_upload += 1;
        self.uploads.insert(self.last_upload, Upload { repository: repository.into(), ..Upload::default() });
        self.last_upload
    }

    pub(super) fn upload(&mut self, number: u64) -> Option<&mut Upload> {
        self.uploads.get_mut(&number)
    }

    pub(super) fn close(&mut self, number: u64) -> Option<Upload> {
        self.uploads.remove(&number)
    }

    /// Adds bytes to the upload of `path`, as a registry does whose client broke off.
    pub(super) fn keep(&mut self, path: &str, bytes: &[u8]) {
        let number = path.rsplit('/').next().and_then(|number| number.parse().ok());
        if let Some(upload) = number.and_then(|number| self.upload(number)) {
            upload.bytes.extend_from_slice(bytes);
        }
    }
}
