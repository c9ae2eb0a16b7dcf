//! The import itself: what is looked at, copied and written, in which order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mynah_contracts::{Cancelled, Dataset, Label, Monitor, Photo, Skipped};
use mynah_photo::{Limits, RgbImage, decode, file, thumbnail};
use rayon::prelude::*;
use tempfile::TempPath;
use tracing::warn;

use super::assemble::{Assembled, assemble, sort_out};
use super::container::{self, Gathered};
use super::error::ImportError;
use super::inspect::{Known, Thumbnails, inspect};
use super::scan::{Candidate, Scan, scan};
use super::sheet;
use super::store::{Store, persist, remove};
use crate::azure::storage::Container;
use crate::http;

/// How many of a kind are warned of one by one.
const WARNED: usize = 10;

/// Where the photos are: one folder for each label.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A container of Blob Storage.
    Container(Box<Container>),
}

impl Source {
    fn place(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Container(container) => container.location().to_string(),
        }
    }
}

/// What to import.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Where the photos are.
    pub source: Source,
    /// The dataset's folder: new, empty, or from an earlier import, of which only what changed is touched.
    pub out: PathBuf,
    /// What the folds are drawn from.
    pub seed: u64,
    /// Whether unusable files are an error.
    pub strict: bool,
    /// What a photo may be.
    pub limits: Limits,
    /// The dataset the last model was trained on. If the container has not changed since, nothing is imported.
    pub trained: Option<Dataset>,
}

/// What an import did.
#[derive(Clone, PartialEq, Debug)]
pub struct Imported {
    /// The dataset as it stands.
    pub dataset: Dataset,
    /// Photos fetched over the network.
    pub fetched: u64,
    /// Photos copied into the dataset's folder.
    pub copied: u64,
    /// Copies removed, their photos being gone.
    pub removed: u64,
    /// Whether anything in the dataset's folder is other than before.
    pub changed: bool,
}

/// Imports photos: [`ImportRequest::source`] becomes a dataset in [`ImportRequest::out`].
///
/// # Errors
/// Nothing to import, contradictions and a foreign output folder are bad input, told before anything is
/// written. A failure later, or a kill, leaves the previous dataset valid; running again continues.
pub fn import(request: &ImportRequest, monitor: &dyn Monitor) -> Result<Imported, ImportError> {
    match &request.source {
        Source::Folder(folder) => {
            let store = Store::open(Some(folder), &request.out)?;
            let previous = store.previous()?;
            let found = Found { scan: scan(folder)?, gathered: None, thumbnails: Thumbnails::default() };
            make(request, &store, previous.as_ref(), found, monitor)
        }
        Source::Container(container) => follow(request, container, monitor),
    }
}

/// Imports from a container, if it changed.
fn follow(
    request: &ImportRequest,
    container: &Container,
    monitor: &dyn Monitor,
) -> Result<Imported, ImportError> {
    let store = Store::open(None, &request.out)?;
    let previous = store.previous()?;
    let listed = http::block_on::<_, ImportError>(monitor, container::list(container, monitor))?;
    let same = |dataset: &&Dataset| {
        let defects = dataset.skipped.iter().any(|skipped| skipped.reason.is_defect());
        dataset.seed == request.seed && listed.is_that_of(dataset) && !(request.strict && defects)
    };
    let trained = request.trained.as_ref().filter(same);
    let whole = |dataset: &&Dataset| {
        container::is_whole(&store, dataset)
            && dataset.labels.iter().all(|count| store.sheet_path(&count.label).is_file())
    };
    let unchanged = || previous.as_ref().filter(same).filter(whole);
    if trained.is_none()
        && let Some(dataset) = unchanged()
    {
        // An import that was killed after its record was written has left things behind.
        store.clear(dataset)?;
    }
    if let Some(dataset) = trained.or_else(unchanged) {
        return Ok(Imported { dataset: dataset.clone(), fetched: 0, copied: 0, removed: 0, changed: false });
    }
    let (known, thumbnails) = (Known::from(previous.as_ref()), Thumbnails::default());
    let look = |candidate: &Candidate| inspect(candidate, &known, &request.limits, &thumbnails);
    let limits = &request.limits;
    let mut gathered =
        container::gather(container, listed, &store, previous.as_ref(), &look, limits, monitor)?;
    let found = Found { scan: std::mem::take(&mut gathered.scan), gathered: Some(gathered), thumbnails };
    make(request, &store, previous.as_ref(), found, monitor)
}

/// Photos that are at hand.
struct Found {
    scan: Scan,
    /// Where they came over the network.
    gathered: Option<Gathered>,
    thumbnails: Thumbnails,
}

/// Makes the dataset of photos that are at hand.
fn make(
    request: &ImportRequest,
    store: &Store,
    previous: Option<&Dataset>,
    found: Found,
    monitor: &dyn Monitor,
) -> Result<Imported, ImportError> {
    let Found { scan: mut found, gathered, thumbnails } = found;
    let inspected = {
        let known = Known::from(previous);
        let counted = Counted::new(monitor, "looking at photos", found.candidates.len());
        found
            .candidates
            .par_iter_mut()
            .map(|candidate| {
                counted.next()?;
                Ok(match candidate.settled.take() {
                    Some(inspected) => inspected,
                    None => inspect(candidate, &known, &request.limits, &thumbnails),
                })
            })
            .collect::<Result<Vec<_>, ImportError>>()?
    };
    let fetched = gathered.as_ref().map_or(0, |gathered| gathered.fetched);
    let snapshot = gathered.map(|gathered| gathered.snapshot(&found, &inspected));
    let sorted = sort_out(&found, inspected);
    if !request.strict {
        warn_of_defects(&sorted.skipped);
    }
    let place = request.source.place();
    let Assembled { mut dataset, alike } = assemble(&place, sorted, request.seed, request.strict)?;
    dataset.snapshot = snapshot;
    warn_of_likeness(&dataset, &alike);

    // Of a container with many other files only the photos are needed from here on.
    let paths: BTreeMap<String, PathBuf> = found
        .candidates
        .into_iter()
        .filter(|candidate| !candidate.path.as_os_str().is_empty())
        .map(|candidate| (candidate.source, candidate.path))
        .collect();
    store.begin(previous)?;
    let copied = copy(store, &dataset, &paths, monitor)?;
    let sheets = render_sheets(store, &dataset, previous, &thumbnails, &request.limits, monitor)?;
    // A sheet that is out of date goes before the record changes and comes after: whenever this process dies,
    // a sheet that is there shows what the record says.
    for (_, path) in &sheets {
        remove(path)?;
    }
    let rewritten = previous != Some(&dataset);
    if rewritten {
        store.commit(&dataset)?;
    }
    let changed_sheets = !sheets.is_empty();
    for (temporary, path) in sheets {
        persist(temporary, &path)?;
    }
    let removed = store.clear(&dataset)?;
    let changed = rewritten || copied > 0 || removed > 0 || changed_sheets;
    Ok(Imported { dataset, fetched, copied, removed, changed })
}

/// Copies the photos that are not there yet; tells how many.
fn copy(
    store: &Store,
    dataset: &Dataset,
    paths: &BTreeMap<String, PathBuf>,
    monitor: &dyn Monitor,
) -> Result<u64, ImportError> {
    let counted = Counted::new(monitor, "copying photos", dataset.photos.len());
    dataset
        .photos
        .par_iter()
        .map(|photo| {
            counted.next()?;
            match paths.get(&photo.source) {
                Some(path) if !store.holds(photo) => store.copy(photo, path).map(|()| 1),
                _ => Ok(0),
            }
        })
        .sum()
}

/// Renders the sheets of labels whose shown photos changed, under temporary names; with the names they are to get.
fn render_sheets(
    store: &Store,
    dataset: &Dataset,
    previous: Option<&Dataset>,
    thumbnails: &Thumbnails,
    limits: &Limits,
    monitor: &dyn Monitor,
) -> Result<Vec<(TempPath, PathBuf)>, ImportError> {
    let shown = |dataset: &'_ Dataset, label: &Label| -> Vec<_> {
        sheet::shown(dataset.photos.iter().filter(|photo| photo.label == *label))
            .iter()
            .map(|photo| photo.sha256)
            .collect()
    };
    let stale: Vec<&Label> = dataset
        .labels
        .iter()
        .map(|count| &count.label)
        .filter(|label| {
            previous.is_none_or(|previous| {
                // Another version may draw otherwise.
                previous.tool != dataset.tool || shown(previous, label) != shown(dataset, label)
            }) || !store.sheet_path(label).is_file()
        })
        .collect();
    let counted = Counted::new(monitor, "making contact sheets", stale.len());
    stale
        .into_par_iter()
        .map(|label| {
            counted.next()?;
            let photos = sheet::shown(dataset.photos.iter().filter(|photo| photo.label == *label));
            let small: Result<Vec<RgbImage>, ImportError> = photos
                .iter()
                .map(|photo| match thumbnails.take(label, &photo.sha256) {
                    Some(thumbnail) => Ok(thumbnail),
                    None => thumbnail_of(store, photo, limits),
                })
                .collect();
            let png = sheet::render(&small?)
                .map_err(|source| ImportError::Sheet { label: label.clone(), source })?;
            let path = store.sheet_path(label);
            Ok((store.temporary(&path, &png)?, path))
        })
        .collect()
}

/// The thumbnail of a photo that was not decoded in this run.
fn thumbnail_of(store: &Store, photo: &Photo, limits: &Limits) -> Result<RgbImage, ImportError> {
    let path = store.photo_path(photo);
    let changed = || ImportError::Changed { path: path.clone() };
    // It was decoded once and its bytes are verified: it fails only if someone writes to the folder meanwhile.
    let bytes = file::read_verified(&path, &photo.sha256).map_err(|_| changed())?;
    let decoded = decode(&bytes, limits).map_err(|_| changed())?;
    Ok(thumbnail(&decoded.image, sheet::CELL))
}

/// Warns of files that should have been photos.
fn warn_of_defects(skipped: &[Skipped]) {
    let defects: Vec<&Skipped> = skipped.iter().filter(|skipped| skipped.reason.is_defect()).collect();
    for skipped in defects.iter().take(WARNED) {
        warn!("left out `{}`: {}", skipped.source, skipped.detail);
    }
    if defects.len() > WARNED {
        warn!("left out {} more unusable files; `dataset.json` names them all", defects.len() - WARNED);
    }
}

/// Warns of photos that look alike where they should not.
fn warn_of_likeness(dataset: &Dataset, alike: &[Label]) {
    for pair in dataset.near_duplicates.iter().take(WARNED) {
        warn!(
            "`{}` and `{}` look alike but have different labels (distance {})",
            pair.first, pair.second, pair.distance
        );
    }
    if dataset.near_duplicates.len() > WARNED {
        let more = dataset.near_duplicates.len() - WARNED;
        warn!("{more} more pairs look alike across labels; `dataset.json` names them all");
    }
    for label in alike {
        warn!(
            "all photos of `{label}` look alike: cross-validation cannot judge this label, add other photos of it"
        );
    }
}

/// Counts units of work for a monitor, and stops when asked to.
pub(super) struct Counted<'a> {
    monitor: &'a dyn Monitor,
    what: &'static str,
    done: AtomicU64,
    total: u64,
}

impl<'a> Counted<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor, what: &'static str, total: usize) -> Self {
        Self { monitor, what, done: AtomicU64::new(0), total: total as u64 }
    }

    /// Called when a unit begins.
    pub(super) fn next(&self) -> Result<(), Cancelled> {
        if self.monitor.cancelled() {
            return Err(Cancelled);
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.monitor.progress(self.what, done, self.total);
        Ok(())
    }
}
