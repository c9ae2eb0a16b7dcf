//! What the service holds, and how it is told to behave.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use mynah_contracts::Sha256Digest;

use super::answer::Refusal;
use super::model::{Model, Style};

/// How the double behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The training key it takes.
    pub key: String,
    /// The subscription's limits.
    pub limits: Limits,
    /// How often an iteration is asked for before it is trained.
    pub training_polls: u32,
    /// How often exports are asked for before one is ready.
    pub export_polls: u32,
    /// Whether trainings end in `Failed`.
    pub training_fails: bool,
    /// Whether exports end in `Failed`.
    pub export_fails: bool,
    /// Whether downloads are relative paths for the artifact call, as behind a virtual network.
    pub relative_downloads: bool,
    /// What exported models look like.
    pub style: Style,
    /// Statuses for the next images that are uploaded, instead of `OK`.
    pub image_statuses: VecDeque<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: "0123456789abcdef0123456789abcdef".into(),
            limits: Limits::S0,
            training_polls: 2,
            export_polls: 1,
            training_fails: false,
            export_fails: false,
            relative_downloads: false,
            style: Style::default(),
            image_statuses: VecDeque::new(),
        }
    }
}

/// The limits of a subscription, as documented on 2025-01-22.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Projects.
    pub projects: usize,
    /// Images of a project.
    pub images: usize,
    /// Tags of a project.
    pub tags: usize,
    /// Iterations of a project.
    pub iterations: usize,
    /// Images of a tag that a training needs.
    pub images_per_tag: usize,
    /// Bytes of an image.
    pub image_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
}

impl Limits {
    /// The free tier.
    pub const F0: Self = Self { projects: 2, images: 5_000, tags: 50, ..Self::S0 };
    /// The standard tier.
    pub const S0: Self = Self {
        projects: 100,
        images: 100_000,
        tags: 500,
        iterations: 20,
        images_per_tag: 5,
        image_bytes: 6_000_000,
        // Larger bodies ran into time-outs at about 55 MB.
        body_bytes: 50_000_000,
    };
}

/// What a test may ask about the service's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Projects by name.
    pub projects: Vec<ProjectSnapshot>,
}

/// One project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectSnapshot {
    /// Its name.
    pub name: String,
    /// The domain's name.
    pub domain: String,
    /// The tags' names, in order.
    pub tags: Vec<String>,
    /// Each image's digest, tags and metadata, in the digests' order.
    pub images: Vec<(String, Vec<String>, BTreeMap<String, String>)>,
    /// Each iteration's name and status, in the order of their making.
    pub iterations: Vec<(String, String)>,
    /// How many exports were made of all iterations.
    pub exports: usize,
}

pub(super) struct State {
    pub(super) settings: Settings,
    /// The double's own address.
    pub(super) base: String,
    pub(super) projects: Vec<Project>,
    made: u64,
}

pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) domain: Domain,
    pub(super) created: String,
    pub(super) tags: Vec<Tag>,
    pub(super) images: Vec<Image>,
    pub(super) iterations: Vec<Iteration>,
    pub(super) numbered: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
}

impl Domain {
    pub(super) fn is_compact(self) -> bool {
        self.name.contains("(compact)")
    }
}

/// The ids are the published ones; `[S1]` was given an id of this double's own.
pub(super) const DOMAINS: [Domain; 5] = [
    Domain { id: "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31", name: "General", kind: "Classification" },
    Domain { id: "0732100f-1a38-4e49-a514-c9b44c697ab5", name: "General (compact)", kind: "Classification" },
    Domain {
        id: "b5cfd229-2ac7-4b2b-8d0a-2b0661344894",
        name: "Landmarks (compact)",
        kind: "Classification",
    },
    Domain {
        id: "a1db07ca-a19a-4830-bae8-e004a42dc863",
        name: "General (compact) [S1]",
        kind: "Classification",
    },
    Domain { id: "a27d5ca5-bb19-49d8-a70a-fec086c47f5b", name: "General (compact)", kind: "ObjectDetection" },
];

pub(super) struct Tag {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) kind: String,
}

#[derive(Clone)]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) digest: Sha256Digest,
    pub(super) width: u32,
    pub(super) height: u32,
    /// The mean of each colour channel, 0 to 1.
    pub(super) mean: [f64; 3],
    /// Ids.
    pub(super) tags: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created: String,
}

pub(super) struct Iteration {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) created: String,
    /// What was learnt from: images with their tags.
    pub(super) learnt: Vec<(String, Vec<String>)>,
    pub(super) model: Model,
    pub(super) published: Option<String>,
    pub(super) exports: Vec<Export>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Training { polls: u32 },
    Completed,
    Failed,
}

impl Status {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Training { .. } => "Training",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }
}

pub(super) struct Export {
    pub(super) platform: String,
    pub(super) flavor: Option<String>,
    pub(super) polls: u32,
    pub(super) failed: bool,
    /// Its place below `/blobs/`.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, base: String::new(), projects: Vec::new(), made: 0 }
    }

    /// A new id, in the form of a UUID.
    pub(super) fn id(&mut self) -> String {
        self.made += 1;
        format!("{:08x}-c5d0-4b1e-8f00-{:012x}", self.made * 0x9E37 % 0xFFFF_FFFB, self.made)
    }

    /// A time later than all before.
    pub(super) fn time(&mut self) -> String {
        self.made += 1;
        let (minutes, seconds) = (self.made / 60, self.made % 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        format!("2026-01-{:02}T{:02}:{minutes:02}:{seconds:02}Z", 1 + hours / 24 % 28, hours % 24)
    }

    pub(super) fn project(&mut self, id: &str) -> Result<&mut Project, Refusal> {
        let wanted = id.to_owned();
        let found = self.projects.iter_mut().find(|project| project.id == wanted);
        found.ok_or_else(|| Refusal::absent("NotFoundProject", format!("there is no project {id}")))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let projects = self.projects.iter().map(Project::snapshot).collect();
        Snapshot { projects }
    }
}

impl Project {
    pub(super) fn tag_name(&self, id: &str) -> String {
        self.tags.iter().find(|tag| tag.id == id).map(|tag| tag.name.clone()).unwrap_or_default()
    }

    pub(super) fn iteration(&mut self, id: &str) -> Result<&mut Iteration, Refusal> {
        let found = self.iterations.iter_mut().find(|iteration| iteration.id == id);
        found.ok_or_else(|| Refusal::absent("NotFoundIteration", format!("there is no iteration {id}")))
    }

    fn snapshot(&self) -> ProjectSnapshot {
        let mut images: Vec<_> = self
            .images
            .iter()
            .map(|image| {
                let tags = image.tags.iter().map(|id| self.tag_name(id)).collect();
                (image.digest.to_string(), tags, image.metadata.clone())
            })
            .collect();
        images.sort();
        let mut tags: Vec<String> = self.tags.iter().map(|tag| tag.name.clone()).collect();
        tags.sort();
        ProjectSnapshot {
            name: self.name.clone(),
            domain: self.domain.name.to_owned(),
            tags,
            images,
            iterations: self
                .iterations
                .iter()
                .map(|iteration| (iteration.name.clone(), iteration.status.text().to_owned()))
                .collect(),
            exports: self.iterations.iter().map(|iteration| iteration.exports.len()).sum(),
        }
    }
}
