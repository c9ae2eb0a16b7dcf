//! `import-images`: a folder of photos → a dataset.

use std::fmt;
use std::path::PathBuf;

use mynah_contracts::{Artifact as _, Dataset, Fault};
use mynah_photo::Limits;

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::dataset::{ImportRequest, import};
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The step.
pub struct ImportImages;

/// What is to be imported.
#[derive(Debug)]
pub struct Plan {
    source: PathBuf,
    out: PathBuf,
    seed: u64,
    strict: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "import the photos in {}, each folder's name being a label", self.source.display())?;
        writeln!(f, "{} unusable files", if self.strict { "stop at" } else { "leave out" })?;
        writeln!(f, "deal them into folds with seed {}", self.seed)?;
        write!(f, "write {}", self.out.join(Dataset::FILE).display())
    }
}

impl Step for ImportImages {
    const NAME: &'static str = "import-images";
    const TASK: &'static str = "ImportImages";
    const ABOUT: &'static str = "Imports a folder of labelled photos as a dataset";
    const DETAILS: &'static str = "\
Reads a tree of folders: the first folder below the source is the label, and it may hold folders of its own.
JPEG, PNG, BMP, GIF and WebP are told by their content. Copies each photo, deals it into a cross-validation fold,
makes a contact sheet of each label, and writes dataset.json last. Run again, it touches only what changed.

The same photo twice under a label counts once; under two labels it is left out and both places are named, as are
files that are damaged, empty, too small or too large. At least 2 labels with 5 photos each are needed.

Example:
  import-images --source photos --out work/dataset";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required(
            "source",
            OptionKind::Path,
            "The folder with one folder of photos for each label, such as `photos/apple/1.jpg`.",
        ),
        OptionSpec::required(
            "out",
            OptionKind::Path,
            "The dataset's folder: new, empty, or the result of an earlier import.",
        ),
        OptionSpec::with_default(
            "seed",
            OptionKind::Integer { min: 0, max: u64::MAX },
            "1",
            "What the cross-validation folds are drawn from.",
        ),
        OptionSpec::optional(
            "strict",
            OptionKind::Switch,
            "Stop at damaged, empty, too small or too large photos and at photos under two labels, instead of leaving them out.",
        ),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "photos", about: "How many photos the dataset holds." },
        OutputSpec { name: "labels", about: "How many labels it has." },
        OutputSpec { name: "datasetDigest", about: "The digest of its photos, labels and folds." },
        OutputSpec {
            name: "changed",
            about: "`true` if the dataset's folder is other than before, else `false`.",
        },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        Ok(Plan {
            source: inputs.required_path("source")?,
            out: inputs.required_path("out")?,
            seed: inputs.integer("seed")?.unwrap_or(1),
            strict: inputs.switch("strict")?,
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let request = ImportRequest {
            source: plan.source.clone(),
            out: plan.out.clone(),
            seed: plan.seed,
            strict: plan.strict,
            limits: Limits::default(),
        };
        let imported = import(&request, context.monitor)?;
        let dataset = &imported.dataset;
        for count in &dataset.labels {
            tracing::debug!("{} photos of `{}`", count.photos, count.label);
        }
        let (photos, labels) = (dataset.photos.len(), dataset.labels.len());
        Ok(Outcome {
            headline: format!(
                "imported {photos} photos of {labels} labels ({} copied, {} removed, {} files left out): {}",
                imported.copied,
                imported.removed,
                dataset.skipped.len(),
                dataset.digest
            ),
            variables: vec![
                ("photos", photos.to_string()),
                ("labels", labels.to_string()),
                ("datasetDigest", dataset.digest.to_string()),
                ("changed", imported.changed.to_string()),
            ],
            ..Outcome::default()
        })
    }
}
