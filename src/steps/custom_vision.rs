//! The options of Custom Vision, declared once for every step that offers them.

use std::time::Duration;

use mynah_contracts::{FOLDS, Fault};

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::azure::customvision::{Course, Domain, Place};

/// Who trains.
pub(crate) const TRAINER: OptionSpec = OptionSpec::with_default(
    "trainer",
    OptionKind::Choice(&["embedded", "custom-vision"]),
    "embedded",
    "Who trains: `embedded` learns on this machine, `custom-vision` uses that Azure service.",
);

/// The resource.
pub(crate) const ENDPOINT: OptionSpec = OptionSpec::optional(
    "endpoint",
    OptionKind::Text,
    "Custom Vision: the endpoint of the training resource. The key comes from CUSTOM_VISION_KEY or the secret input \
     `customVisionKey`; without one, the sign-in to Azure is used.",
);

/// The key, as a task is given it.
pub(crate) const KEY: OptionSpec = OptionSpec::optional(
    "customVisionKey",
    OptionKind::Secret,
    "Custom Vision: the key of the training resource, as a secret variable such as `$(customVisionKey)`, where no \
     service connection signs in.",
);

/// The project.
pub(crate) const PROJECT: OptionSpec = OptionSpec::optional(
    "project",
    OptionKind::Text,
    "Custom Vision: the project's name. A project of this name is used, or made.",
);

/// The kind of model.
pub(crate) const DOMAIN: OptionSpec = OptionSpec::with_default(
    "domain",
    OptionKind::Text,
    "General (compact)",
    "Custom Vision: the domain of a new project, one of the compact ones: only those can be exported.",
);

/// How to sign in.
pub(crate) const CONNECTION: OptionSpec = OptionSpec::optional(
    "connection",
    OptionKind::Text,
    "Custom Vision: the Azure service connection to sign in with, instead of a key.",
);

/// What the service never gets.
pub(crate) const HOLDOUT_FOLD: OptionSpec = OptionSpec::with_default(
    "holdoutFold",
    OptionKind::Choice(&["0", "1", "2", "3", "4", "none"]),
    "0",
    "Custom Vision: the fifth of the photos that is never uploaded and judges the exported model; `none` sends all \
     and needs --holdout.",
);

/// Whether what left the dataset leaves the project.
pub(crate) const PRUNE_IMAGES: OptionSpec = OptionSpec::optional(
    "pruneImages",
    OptionKind::Switch,
    "Custom Vision: remove images from the project whose photos left the dataset.",
);

/// How many iterations stay.
pub(crate) const KEEP_ITERATIONS: OptionSpec = OptionSpec::with_default(
    "keepIterations",
    OptionKind::Integer { min: 1, max: 19 },
    "10",
    "Custom Vision: how many unpublished iterations stay in the project, the new one included.",
);

/// How long to wait.
pub(crate) const TIMEOUT: OptionSpec = OptionSpec::with_default(
    "timeout",
    OptionKind::Integer { min: 1, max: 1440 },
    "60",
    "Custom Vision: how many minutes to wait for a training.",
);

/// All options of a training with Custom Vision, beside who trains.
pub(crate) const OF_TRAINING: [OptionSpec; 8] =
    [ENDPOINT, PROJECT, DOMAIN, CONNECTION, HOLDOUT_FOLD, PRUNE_IMAGES, KEEP_ITERATIONS, TIMEOUT];

/// A training with Custom Vision, if that is who trains.
pub(crate) fn chosen(inputs: &Inputs) -> Result<Option<(Place, Course)>, Fault> {
    if inputs.choice(TRAINER.name)? != Some("custom-vision") {
        return Ok(None);
    }
    inputs.text(KEY.name)?;
    let domain = inputs.required(DOMAIN.name)?;
    let domain = Domain::parse(domain).ok_or_else(|| {
        inputs.refused(DOMAIN.name, domain, "the name of a compact domain, such as `General (compact)`,")
    })?;
    let (endpoint, project) = (inputs.required(ENDPOINT.name)?, inputs.required(PROJECT.name)?);
    let connection = inputs.text(CONNECTION.name)?.map(str::to_owned);
    let place = Place::parse(endpoint, project, domain, connection)?;
    let held_out = inputs.choice(HOLDOUT_FOLD.name)?.and_then(|fold| fold.parse::<u8>().ok());
    debug_assert!(held_out.is_none_or(|fold| fold < FOLDS));
    if held_out.is_none() && inputs.text("holdout")?.is_none() {
        let allowed = "a fold, or `none` together with `--holdout`,";
        return Err(inputs.refused(HOLDOUT_FOLD.name, "none", allowed).into());
    }
    let course = Course {
        held_out,
        prune: inputs.switch(PRUNE_IMAGES.name)?,
        keep_iterations: inputs.integer(KEEP_ITERATIONS.name)?.unwrap_or(10) as usize,
        timeout: Duration::from_secs(60 * inputs.integer(TIMEOUT.name)?.unwrap_or(60)),
    };
    Ok(Some((place, course)))
}
