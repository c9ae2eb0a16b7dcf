//! Photos in a container of Blob Storage: what is fetched, what is known from the last import, what is not looked at.
//!
//! A blob is known by its name and ETag. The last import's snapshot tells which content each had; only what is new or
//! other is fetched. Fetched blobs wait under names of their own below the dataset's folder until the record is
//! written, so an import that was killed fetches nothing twice and goes on in the middle of a file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use mynah_contracts::{
    Dataset, Label, LabelError, Monitor, Photo, Sha256Digest, SkipReason, Skipped, Snapshot, SnapshotBlob,
    Tool,
};
use mynah_photo::{Likeness, Limits};
use rayon::prelude::*;

use super::error::ImportError;
use super::import::Counted;
use super::inspect::{Facts, Inspected};
use super::scan::{Candidate, Scan, is_passed_over};
use super::store::Store;
use crate::azure::storage::{Blob, BlobError, BlobKind, Container};
use crate::http;

/// How many blobs are fetched at a time.
const PARALLEL: usize = 16;

/// How often a blob's connection may break.
const BREAKS: u32 = 5;

/// How often the container is listed again because a blob changed meanwhile.
const ROUNDS: u32 = 3;

/// What a container holds, below its prefix.
#[derive(Debug)]
pub(super) struct Listed {
    /// The URL without credentials.
    source: String,
    /// Files and what is left of names that are no files, ordered by name.
    blobs: Vec<Blob>,
}

/// Photos that are at hand, and what is to be recorded of the container.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) scan: Scan,
    listed: Listed,
    pub(super) fetched: u64,
}

/// Lists the container page by page; only what is needed of each blob is kept.
pub(super) async fn list(container: &Container, monitor: &dyn Monitor) -> Result<Listed, ImportError> {
    let location = container.location();
    let mut blobs = Vec::new();
    let mut marker = None;
    loop {
        let page = container.list(marker.as_deref()).await?;
        for mut blob in page.blobs {
            // A service that gives what was not asked for must not make us write elsewhere.
            let Some(name) = blob.name.strip_prefix(location.prefix()).map(str::to_owned) else { continue };
            if blob.kind == BlobKind::Folder || name.split('/').any(is_hidden) {
                continue;
            }
            blob.name = name;
            blobs.push(blob);
        }
        monitor.progress(
            "listing blobs",
            blobs.len() as u64,
            blobs.len() as u64 + u64::from(page.next.is_some()),
        );
        match page.next {
            Some(next) => marker = Some(next),
            None => break,
        }
    }
    blobs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Listed { source: location.to_string(), blobs })
}

/// Hidden as a file of that name would be; `.` and `..` are no names of files, and are told.
fn is_hidden(part: &str) -> bool {
    !matches!(part, "." | "..") && is_passed_over(part.as_ref())
}

impl Listed {
    /// Whether the container is what it was at the import that wrote `dataset`.
    pub(super) fn is_that_of(&self, dataset: &Dataset) -> bool {
        dataset.tool == Tool::current()
            && dataset.snapshot.as_ref().is_some_and(|snapshot| {
                snapshot.source == self.source
                    && snapshot.blobs.len() == self.blobs.len()
                    && snapshot.blobs.iter().zip(&self.blobs).all(|(known, blob)| is_same(known, blob))
            })
    }
}

fn is_same(known: &SnapshotBlob, blob: &Blob) -> bool {
    known.name == blob.name && known.etag == blob.etag && known.bytes == blob.bytes
}

/// Whether every photo of `dataset` is where it says, as it says.
pub(super) fn is_whole(store: &Store, dataset: &Dataset) -> bool {
    dataset.photos.par_iter().all(|photo| store.holds(photo))
        && dataset.labels.iter().all(|count| store.sheet_path(&count.label).is_file())
}

/// Brings every photo of the container to hand, and looks at each as soon as it is there.
///
/// # Errors
/// What the service refuses, and names that cannot be labels, which are told before anything is fetched.
pub(super) fn gather(
    container: &Container,
    mut listed: Listed,
    store: &Store,
    previous: Option<&Dataset>,
    look: &(dyn Fn(&Candidate) -> Inspected + Sync),
    limits: &Limits,
    monitor: &dyn Monitor,
) -> Result<Gathered, ImportError> {
    let known = Known::of(previous, &listed.source, store);
    let fetched = AtomicU64::new(0);
    for round in 1.. {
        let mut scan = plan(&listed, container, &known, store, limits)?;
        scan.finish()?;
        let looked_at = thread::scope(|scope| {
            let (arrived, arriving) = mpsc::channel();
            let fetching = scope.spawn(|| {
                let jobs = Jobs { container, store, monitor, fetched: &fetched, arrived };
                http::block_on(monitor, jobs.fetch_all(&scan, &listed))
            });
            let looked_at: Vec<(usize, Inspected)> = arriving
                .into_iter()
                .par_bridge()
                .filter_map(|place: usize| Some((place, look(scan.candidates.get(place)?))))
                .collect();
            // A panic there is a panic here.
            let ended = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.map(|()| looked_at)
        });
        match looked_at {
            Ok(looked_at) => {
                for (place, inspected) in looked_at {
                    if let Some(candidate) = scan.candidates.get_mut(place) {
                        candidate.settled = Some(inspected);
                    }
                }
                return Ok(Gathered { scan, listed, fetched: fetched.into_inner() });
            }
            Err(ImportError::Blob(BlobError::Changed { name })) if round < ROUNDS => {
                tracing::info!("`{}` changed meanwhile, looking again", name.escape_debug());
                listed = http::block_on::<_, ImportError>(monitor, list(container, monitor))?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(mynah_contracts::Cancelled.into())
}

impl Gathered {
    /// What to record of the container, `inspected` holding one entry for each candidate of `scan`.
    pub(super) fn snapshot(self, scan: &Scan, inspected: &[Inspected]) -> Snapshot {
        let digests: BTreeMap<&str, Sha256Digest> = scan
            .candidates
            .iter()
            .zip(inspected)
            .filter_map(|(candidate, inspected)| match inspected {
                Inspected::Photo { digest, .. } => Some((candidate.source.as_str(), *digest)),
                Inspected::Unusable { .. } => None,
            })
            .collect();
        let blobs = self.listed.blobs.into_iter().map(|blob| SnapshotBlob {
            sha256: digests.get(blob.name.as_str()).copied(),
            name: blob.name,
            etag: blob.etag,
            bytes: blob.bytes,
        });
        Snapshot { source: self.listed.source, blobs: blobs.collect() }
    }
}

/// What the last import knew, by name.
struct Known<'a> {
    blobs: BTreeMap<&'a str, &'a SnapshotBlob>,
    /// Photos whose copies are there, as they should be.
    photos: BTreeMap<Sha256Digest, &'a Photo>,
    skipped: BTreeMap<&'a str, &'a Skipped>,
}

impl<'a> Known<'a> {
    /// Nothing, where the last import was of another container, or by another version, which may see photos otherwise.
    fn of(previous: Option<&'a Dataset>, source: &str, store: &Store) -> Self {
        let previous = previous.filter(|dataset| dataset.tool == Tool::current());
        let snapshot =
            previous.and_then(|dataset| dataset.snapshot.as_ref()).filter(|known| known.source == source);
        let blobs = snapshot.map(|known| known.blobs.iter().map(|blob| (blob.name.as_str(), blob)).collect());
        let photos = previous.map(|dataset| {
            dataset
                .photos
                .par_iter()
                .filter(|photo| store.holds(photo))
                .map(|photo| (photo.sha256, photo))
                .collect()
        });
        let skipped = previous.map(|dataset| {
            dataset.skipped.iter().map(|skipped| (skipped.source.as_str(), skipped)).collect()
        });
        Self {
            blobs: blobs.unwrap_or_default(),
            photos: photos.unwrap_or_default(),
            skipped: skipped.unwrap_or_default(),
        }
    }

    /// What became of the blob at the last import, and where its copy lies.
    fn settled(&self, blob: &Blob, store: &Store) -> Option<(Inspected, PathBuf)> {
        let known = self.blobs.get(blob.name.as_str()).filter(|known| is_same(known, blob))?;
        if let Some(digest) = known.sha256 {
            let photo = self.photos.get(&digest)?;
            let likeness: Likeness = photo.likeness.parse().ok()?;
            let (format, bytes) = (photo.format, photo.bytes);
            let facts = Facts { format, width: photo.width, height: photo.height, bytes, likeness };
            return Some((Inspected::Photo { digest, facts }, store.photo_path(photo)));
        }
        let skipped = self.skipped.get(blob.name.as_str())?;
        let inspected = Inspected::Unusable { reason: skipped.reason, detail: skipped.detail.clone() };
        Some((inspected, PathBuf::new()))
    }
}

/// What of the listing is a photo and what is left out; what must be fetched is not settled.
fn plan(
    listed: &Listed,
    container: &Container,
    known: &Known<'_>,
    store: &Store,
    limits: &Limits,
) -> Result<Scan, ImportError> {
    let mut scan = Scan::default();
    let mut labels: BTreeMap<&str, Result<Label, LabelError>> = BTreeMap::new();
    let full = |blob: &Blob| format!("{}{}", container.location().prefix(), blob.name);
    for blob in &listed.blobs {
        let Some((folder, _)) = blob.name.split_once('/') else {
            scan.skip(&blob.name, SkipReason::Unlabelled, "it lies beside the label folders, not in one");
            continue;
        };
        let label = match labels.entry(folder).or_insert_with(|| folder.parse()) {
            Ok(label) => label.clone(),
            // All of them are told, once the listing was gone through.
            Err(_) => continue,
        };
        let unusable = |reason, detail: String| Some(Inspected::Unusable { reason, detail });
        let (settled, path) = if let Err(error) = limits.check_file(blob.bytes) {
            (unusable(error.skip_reason(), error.to_string()), PathBuf::new())
        } else if blob.kind == BlobKind::Archived {
            let detail = "it is in the archive, from where it must be brought back first";
            (unusable(SkipReason::Unreadable, detail.into()), PathBuf::new())
        } else if !container.location().reaches(&full(blob)) {
            let detail = "its name holds `.` or `..` as a folder, to which no URL leads";
            (unusable(SkipReason::Unreadable, detail.into()), PathBuf::new())
        } else if let Some((inspected, path)) = known.settled(blob, store) {
            (Some(inspected), path)
        } else {
            (None, fetched_path(store, blob))
        };
        scan.candidates.push(Candidate { path, source: blob.name.clone(), label, settled });
    }
    let bad: Vec<_> = labels
        .into_iter()
        .filter_map(|(folder, label)| label.err().map(|why| (folder.to_owned(), why)))
        .collect();
    if bad.is_empty() { Ok(scan) } else { Err(ImportError::BadLabels(bad)) }
}

/// Where a version of a blob waits: its name may be any text, so it is not made a path of.
fn fetched_path(store: &Store, blob: &Blob) -> PathBuf {
    let digest = Sha256Digest::of(format!("{}\n{}", blob.etag, blob.name).as_bytes());
    store.fetched().join(digest.hex())
}

/// What is fetched, and who is told.
struct Jobs<'a> {
    container: &'a Container,
    store: &'a Store,
    monitor: &'a dyn Monitor,
    /// How many blobs came over the network.
    fetched: &'a AtomicU64,
    /// Is told each candidate whose bytes are there.
    arrived: mpsc::Sender<usize>,
}

impl Jobs<'_> {
    /// Fetches what `scan` has not settled.
    async fn fetch_all(self, scan: &Scan, listed: &Listed) -> Result<(), ImportError> {
        // They are ordered by name.
        let blob = |name: &str| {
            let place = listed.blobs.binary_search_by(|blob| blob.name.as_str().cmp(name)).ok()?;
            listed.blobs.get(place)
        };
        let wanted: Vec<(usize, &Candidate, &Blob)> = scan
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.settled.is_none())
            .filter_map(|(place, candidate)| Some((place, candidate, blob(&candidate.source)?)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        self.store.hold()?;
        let folder = self.store.fetched();
        fs::create_dir_all(&folder).map_err(ImportError::io("make the folder", &folder))?;
        let counted = &Counted::new(self.monitor, "fetching photos", wanted.len());
        let each = futures::stream::iter(wanted).map(|(place, candidate, blob)| async move {
            counted.next()?;
            let new = fetch(self.container, blob, &candidate.path).await?;
            Ok::<_, ImportError>((place, new))
        });
        let mut each = std::pin::pin!(each.buffer_unordered(PARALLEL));
        while let Some((place, new)) = each.try_next().await? {
            self.fetched.fetch_add(u64::from(new), Ordering::Relaxed);
            // Whoever looks at them ends only after us.
            let _ = self.arrived.send(place);
        }
        Ok(())
    }
}

/// Fetches a blob, unless it is there; tells whether anything was sent.
async fn fetch(container: &Container, blob: &Blob, path: &Path) -> Result<bool, ImportError> {
    let cannot = |error| ImportError::io("write", path)(error);
    if present(path, blob).map_err(cannot)? {
        return Ok(false);
    }
    let part = path.with_extension("part");
    let (mut breaks, mut damages) = (0, 0);
    loop {
        match append(container, blob, &part).await {
            Ok(true) => {
                fs::rename(&part, path).map_err(cannot)?;
                return Ok(true);
            }
            Ok(false) => {
                // Once it may have been an old half; twice it is the blob.
                fs::remove_file(&part).map_err(cannot)?;
                damages += 1;
                if damages > 1 {
                    return Err(BlobError::Damaged { name: blob.name.clone() }.into());
                }
            }
            Err(ImportError::Blob(error)) if error.is_interruption() && breaks < BREAKS => {
                tokio::time::sleep(Duration::from_millis(200 << breaks)).await;
                breaks += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the whole blob lies at `path`.
fn present(path: &Path, blob: &Blob) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == blob.bytes => match blob.md5 {
            Some(md5) => Ok(digest(path)?.finalize().as_slice() == md5),
            // Complete files alone have this name.
            None => Ok(true),
        },
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn digest(path: &Path) -> io::Result<Md5> {
    let mut digest = Md5::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest),
            read => digest.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Fetches what `part` lacks of the blob; tells whether it is then what its length and MD5 say.
async fn append(container: &Container, blob: &Blob, part: &Path) -> Result<bool, ImportError> {
    let cannot = |error| ImportError::io("write", part)(error);
    let there = fs::metadata(part).map_or(0, |metadata| metadata.len());
    // Without an MD5 nothing would tell whether the halves belong together.
    let from = if blob.md5.is_some() && there < blob.bytes { there } else { 0 };
    let mut digest = if from > 0 { digest(part).map_err(cannot)? } else { Md5::new() };
    let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(cannot)?;
    file.set_len(from).map_err(cannot)?;
    let full = Blob { name: format!("{}{}", container.location().prefix(), blob.name), ..blob.clone() };
    let mut incoming = container.get(&full, from).await?;
    let mut length = from;
    loop {
        let chunk = incoming.chunk().await;
        let Some(bytes) = chunk.map_err(BlobError::Network)? else { break };
        let bytes = bytes.as_ref();
        length += bytes.len() as u64;
        if length > blob.bytes {
            return Err(BlobError::Changed { name: blob.name.clone() }.into());
        }
        digest.update(bytes);
        file.write_all(bytes).map_err(cannot)?;
    }
    Ok(length == blob.bytes && blob.md5.is_none_or(|md5| digest.finalize().as_slice() == md5))
}
