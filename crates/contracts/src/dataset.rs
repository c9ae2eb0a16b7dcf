//! `dataset.json`: which photos, what they show, and which fold each belongs to.

use serde::{Deserialize, Serialize};

use crate::{Artifact, Hasher, Label, RelativePath, SchemaVersion, Sha256Digest, Tool, colliding};

/// How many cross-validation folds a dataset is dealt into.
pub const FOLDS: u8 = 5;

/// The imported photos. A pure function of the photos and the seed: no clock, no machine, no order of listing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// Who wrote it.
    pub tool: Tool,
    /// What the folds were dealt with.
    pub seed: u64,
    /// [`Dataset::content_digest`] of the fields below: the identity of these photos, labels and folds.
    pub digest: Sha256Digest,
    /// The labels in alphabetical order (by Unicode code point): the order of every probability vector from here on.
    pub labels: Vec<LabelCount>,
    /// The photos, ordered by label, then digest.
    pub photos: Vec<Photo>,
    /// Files that are not photos or could not be used.
    pub skipped: Vec<Skipped>,
    /// Pairs of photos of different labels that look alike.
    pub near_duplicates: Vec<NearDuplicate>,
    /// The container the photos came from, where it was one: an import that finds it unchanged fetches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// What a container of Blob Storage held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The container's URL with the folder that was imported, without credentials.
    pub source: String,
    /// The blobs in it, ordered by name.
    pub blobs: Vec<SnapshotBlob>,
}

/// A blob of a [`Snapshot`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotBlob {
    /// Its name below the folder that was imported; a photo's or a skipped file's `source`.
    pub name: String,
    /// The version of its content.
    pub etag: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, if that is a photo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
}

/// A label and how many photos carry it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelCount {
    /// The label.
    pub label: Label,
    /// Its photos.
    pub photos: u32,
}

/// One photo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Photo {
    /// The SHA-256 of the file's bytes.
    pub sha256: Sha256Digest,
    /// What it shows.
    pub label: Label,
    /// The copy below the dataset's folder.
    pub file: RelativePath,
    /// Where it came from, below the source's root.
    pub source: String,
    /// Its type, by content.
    pub format: ImageFormat,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// The file's size in bytes.
    pub bytes: u64,
    /// What it looks like: a 256-bit difference hash as 64 hexadecimal digits. Near-duplicates differ in few bits.
    pub likeness: String,
    /// The cross-validation fold, 0 to [`FOLDS`] − 1; near-duplicates share one.
    pub fold: u8,
}

/// The image types we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// JPEG (also CMYK and grey).
    Jpeg,
    /// PNG.
    Png,
    /// Windows bitmap.
    Bmp,
    /// GIF; its first frame.
    Gif,
    /// WebP.
    Webp,
}

impl ImageFormat {
    /// The file name extension we store it under.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Bmp => "bmp",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }
}

/// A file below the source that did not become a photo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// Where, below the source's root.
    pub source: String,
    /// The class of the reason.
    pub reason: SkipReason,
    /// The reason in words.
    pub detail: String,
}

/// Why a file was left out.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// No bytes.
    Empty,
    /// Not one of the image types we read.
    NotAnImage,
    /// An image whose bytes are damaged.
    Corrupt,
    /// Fewer pixels than can be learnt from.
    TooSmall,
    /// More pixels or bytes than can be real.
    TooLarge,
    /// The same bytes as another photo of the same label.
    Duplicate,
    /// The same bytes as a photo of another label: one of the two labels is wrong, nobody can say which.
    Contradictory,
    /// Directly in the root: no folder says what it shows.
    Unlabelled,
    /// Could not be read.
    Unreadable,
}

impl SkipReason {
    /// The words people read in a table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotAnImage => "not an image",
            Self::Corrupt => "corrupt",
            Self::TooSmall => "too small",
            Self::TooLarge => "too large",
            Self::Duplicate => "duplicate",
            Self::Contradictory => "under two labels",
            Self::Unlabelled => "no label folder",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether `--strict` makes it an error: duplicates lose nothing, and neither do files that never were images.
    pub const fn is_defect(self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::Corrupt
                | Self::TooSmall
                | Self::TooLarge
                | Self::Contradictory
                | Self::Unreadable
        )
    }
}

/// Two photos of different labels that look alike: perhaps one is in the wrong folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NearDuplicate {
    /// The first photo's source.
    pub first: String,
    /// The second photo's source.
    pub second: String,
    /// How many of the 256 likeness bits differ.
    pub distance: u32,
}

impl Dataset {
    /// The digest of what training depends on: seed, labels in order, and each photo's digest, label and fold.
    pub fn content_digest(seed: u64, photos: &[Photo]) -> Sha256Digest {
        let mut hasher = Hasher::new();
        hasher.update(format!("mynah dataset 1\nseed {seed}\n").as_bytes());
        for photo in photos {
            hasher.update(format!("{} {} {}\n", photo.sha256, photo.fold, photo.label).as_bytes());
        }
        hasher.finish()
    }

    /// The labels in order.
    pub fn label_names(&self) -> Vec<Label> {
        self.labels.iter().map(|count| count.label.clone()).collect()
    }
}

impl Artifact for Dataset {
    const FILE: &'static str = "dataset.json";

    fn validate(&self) -> Result<(), String> {
        let names = self.label_names();
        if let Some((a, b)) = colliding(&names) {
            return Err(format!("the labels `{a}` and `{b}` differ only in letter case"));
        }
        if !names.is_sorted() || names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("`labels` is not in alphabetical order without repetition".into());
        }
        for count in &self.labels {
            let found = self.photos.iter().filter(|photo| photo.label == count.label).count();
            if found != count.photos as usize {
                return Err(format!(
                    "`labels` counts {} photos of `{}`, `photos` holds {found}",
                    count.photos, count.label
                ));
            }
        }
        if let Some(stray) = self.photos.iter().find(|photo| names.binary_search(&photo.label).is_err()) {
            return Err(format!(
                "the photo `{}` has the label `{}`, which `labels` lacks",
                stray.source, stray.label
            ));
        }
        if let Some(photo) = self.photos.iter().find(|photo| photo.fold >= FOLDS) {
            return Err(format!(
                "the photo `{}` is in fold {}, folds are 0 to {}",
                photo.source,
                photo.fold,
                FOLDS - 1
            ));
        }
        let digest = Self::content_digest(self.seed, &self.photos);
        if digest != self.digest {
            return Err(format!("`digest` is {}, its photos, labels and folds give {digest}", self.digest));
        }
        Ok(())
    }
}
