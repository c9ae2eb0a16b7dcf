//! Where a training came from: what must be equal for its bytes to be made again, and what the import left out.

use std::collections::BTreeMap;

use mynah_contracts::{Dataset, Geometry, Preprocess, ResizeFilter, SkipReason, TrainerKind, Training};

use super::figures::decimal;

/// The facts, as name and value, in reading order.
pub(super) fn facts(training: &Training) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Dataset digest", training.dataset.digest.to_string()),
        (
            "Trainer",
            match training.trainer {
                TrainerKind::Embedded => "embedded: frozen backbone, linear head".into(),
                TrainerKind::CustomVision => "Azure Custom Vision".into(),
            },
        ),
    ];
    if let Some(model) = &training.custom_vision {
        let metrics = &model.metrics;
        facts.push((
            "Project",
            format!("{} ({}), {}", model.project_name, model.domain, model.iteration_name),
        ));
        facts.push((
            "Learnt from",
            match model.held_out_fold {
                Some(fold) => format!("{} photos; fold {fold} was never uploaded", model.photos),
                None => format!("{} photos", model.photos),
            },
        ));
        facts.push((
            "The service's own figures",
            format!("precision {}, recall {}", decimal(metrics.precision), decimal(metrics.recall)),
        ));
    }
    if let Some(backbone) = &training.backbone {
        facts.push(("Backbone", format!("{} ({} features)", backbone.name, backbone.embedding_length)));
        facts.push(("Backbone digest", backbone.sha256.to_string()));
    }
    facts.push(("Model input", input(&training.preprocess)));
    facts.push((
        "Augmentations",
        if training.augmentations.is_empty() { "none".into() } else { training.augmentations.join(", ") },
    ));
    if let Some(head) = &training.head {
        facts.push(("Head", format!("L2 penalty {}, {} iterations", head.l2, head.iterations)));
    }
    facts.push(("Temperature", decimal(f64::from(training.calibration.temperature))));
    facts.push(("Seed", training.seed.to_string()));
    facts.push(("Tool", format!("{} {}", training.tool.name, training.tool.version)));
    if let Some(created) = &training.created {
        facts.push(("Created", created.clone()));
    }
    facts
}

fn input(preprocess: &Preprocess) -> String {
    let geometry = match preprocess.geometry {
        Geometry::CenterCrop { fraction } => {
            format!("central square of {:.1}% of the shorter side", f64::from(fraction) * 100.0)
        }
        Geometry::Squash => "whole picture, aspect ratio given up".into(),
    };
    let filter = match preprocess.filter {
        ResizeFilter::Bilinear => "bilinear",
        ResizeFilter::CatmullRom => "Catmull-Rom",
        ResizeFilter::Lanczos3 => "Lanczos",
    };
    let size = preprocess.size;
    format!("{size} × {size} pixels, {geometry}, {filter}")
}

/// How many files the import left out, by reason, in the reasons' order.
pub(super) fn skipped(dataset: &Dataset) -> BTreeMap<SkipReason, u32> {
    let mut counts = BTreeMap::new();
    for skipped in &dataset.skipped {
        *counts.entry(skipped.reason).or_insert(0) += 1;
    }
    counts
}
