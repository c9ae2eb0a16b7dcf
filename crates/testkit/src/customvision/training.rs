//! Iterations: trained over some polls, judged, published, removed.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Ask, Refusal, ok};
use super::model::Model;
use super::state::{Image, Iteration, Project, State, Status};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrainingParameters {
    #[serde(default)]
    selected_tags: Vec<String>,
}

impl State {
    pub(super) fn train(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        if !matches!(ask.get("trainingType"), None | Some("Regular")) {
            return Err(Refusal::bad("BadRequestDomainNotSupportedForAdvancedTraining", "Regular only"));
        }
        ask.number("reservedBudgetInHours", 0, usize::MAX)?;
        let force = ask.get("forceTrain") == Some("true");
        let parameters: TrainingParameters =
            if ask.has_body() { ask.json()? } else { TrainingParameters::default() };
        let (id, created) = (self.id(), self.time());
        let (limits, polls) = (self.settings.limits, self.settings.training_polls);
        let project = self.project(project)?;
        let selected: BTreeSet<&String> = parameters.selected_tags.iter().collect();
        if let Some(stranger) = selected.iter().find(|id| !project.tags.iter().any(|tag| tag.id == ***id)) {
            return Err(Refusal::wrong("NotFoundTag", format!("there is no tag {stranger}")));
        }
        let tags: Vec<(String, String)> = project
            .tags
            .iter()
            .filter(|tag| selected.is_empty() || selected.contains(&tag.id))
            .map(|tag| (tag.id.clone(), tag.name.clone()))
            .collect();
        if project.iterations.iter().any(|iteration| matches!(iteration.status, Status::Training { .. })) {
            return Err(Refusal::bad("BadRequestTrainingAlreadyInProgress", "a training runs"));
        }
        let of = |tag: &str| -> Vec<&Image> {
            project.images.iter().filter(|image| image.tags.iter().any(|id| id == tag)).collect()
        };
        if tags.len() < 2 || tags.iter().any(|(id, _)| of(id).len() < limits.images_per_tag) {
            let message = "at least 2 tags with at least 5 images each are needed";
            return Err(Refusal::bad("BadRequestMultiClassClassificationTrainingValidationFailed", message));
        }
        let mut learnt: Vec<(String, Vec<String>)> = project
            .images
            .iter()
            .map(|image| {
                let kept = image.tags.iter().filter(|id| tags.iter().any(|(tag, _)| tag == *id));
                (image.id.clone(), kept.cloned().collect())
            })
            .filter(|(_, tags): &(String, Vec<String>)| !tags.is_empty())
            .collect();
        learnt.sort();
        let last = project.iterations.iter().rev().find(|iteration| iteration.status == Status::Completed);
        if !force && last.is_some_and(|last| last.learnt == learnt) {
            return Err(Refusal::bad(
                "BadRequestTrainingNotNeeded",
                "nothing changed since the last training",
            ));
        }
        if project.iterations.len() >= limits.iterations {
            return Err(Refusal::bad("BadRequestExceedIterationPerProjectLimit", "remove an iteration"));
        }
        let means = tags.iter().map(|(id, name)| (name.clone(), mean(&of(id)))).collect();
        project.numbered += 1;
        let iteration = Iteration {
            id,
            name: format!("Iteration {}", project.numbered),
            status: Status::Training { polls },
            created,
            learnt,
            model: Model::new(means),
            published: None,
            exports: Vec::new(),
        };
        let answer = ok(&iteration_json(project, &iteration));
        project.iterations.push(iteration);
        Ok(answer)
    }

    pub(super) fn list_iterations(&mut self, project: &str) -> Result<Response, Refusal> {
        let project = self.project(project)?;
        let all: Vec<Value> = project.iterations.iter().map(|one| iteration_json(project, one)).collect();
        Ok(ok(&all))
    }

    pub(super) fn get_iteration(&mut self, project: &str, id: &str) -> Result<Response, Refusal> {
        let fails = self.settings.training_fails;
        let project = self.project(project)?;
        let iteration = project.iteration(id)?;
        iteration.status = match iteration.status {
            Status::Training { polls: 0 } if fails => Status::Failed,
            Status::Training { polls: 0 } => Status::Completed,
            Status::Training { polls } => Status::Training { polls: polls - 1 },
            done => done,
        };
        let found = project.iterations.iter().find(|iteration| iteration.id == id);
        Ok(found
            .map_or_else(|| StatusCode::NOT_FOUND.into_response(), |one| ok(&iteration_json(project, one))))
    }

    pub(super) fn delete_iteration(&mut self, project: &str, id: &str) -> Result<Response, Refusal> {
        let project = self.project(project)?;
        let iteration = project.iteration(id)?;
        if iteration.published.is_some() {
            return Err(Refusal::bad("BadRequestIterationIsPublished", "unpublish it first"));
        }
        if matches!(iteration.status, Status::Training { .. }) {
            return Err(Refusal::bad("BadRequestWorkspaceNotDeletable", "it is being trained"));
        }
        project.iterations.retain(|iteration| iteration.id != id);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    pub(super) fn publish(&mut self, project: &str, id: &str, ask: &Ask) -> Result<Response, Refusal> {
        let (name, _resource) = (ask.need("publishName")?.to_owned(), ask.need("predictionId")?);
        ask.get("overwrite");
        let iteration = self.project(project)?.iteration(id)?;
        if iteration.status != Status::Completed {
            return Err(Refusal::bad("BadRequestIterationIsNotTrained", "it is not trained"));
        }
        iteration.published = Some(name);
        Ok(ok(&true))
    }

    pub(super) fn performance(&mut self, project: &str, id: &str, ask: &Ask) -> Result<Response, Refusal> {
        ask.get("threshold");
        ask.get("overlapThreshold");
        let project = self.project(project)?;
        let trained = project.iteration(id)?.status == Status::Completed;
        if !trained {
            return Err(Refusal::bad("BadRequestIterationIsNotTrained", "it is not trained"));
        }
        let found = project.iterations.iter().find(|iteration| iteration.id == id);
        let body = found.map(|iteration| performance_json(project, iteration));
        Ok(ok(&body))
    }
}

fn mean(images: &[&Image]) -> [f64; 3] {
    [0, 1, 2].map(|channel| {
        images.iter().map(|image| image.mean[channel]).sum::<f64>() / images.len().max(1) as f64
    })
}

/// What the model makes of the images that it learnt from and that are still there.
fn performance_json(project: &Project, iteration: &Iteration) -> Value {
    let judged: Vec<(String, String)> = iteration
        .learnt
        .iter()
        .filter_map(|(id, tags)| {
            let image = project.images.iter().find(|image| image.id == *id)?;
            Some((project.tag_name(tags.first()?), iteration.model.classify(image.mean)))
        })
        .collect();
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let right = judged.iter().filter(|(truth, said)| truth == said).count();
    let per_tag: Vec<Value> = project
        .tags
        .iter()
        .filter(|tag| iteration.model.knows(&tag.name))
        .map(|tag| {
            let hits = judged.iter().filter(|(truth, said)| truth == said && *truth == tag.name).count();
            let said = judged.iter().filter(|(_, said)| *said == tag.name).count();
            let there = judged.iter().filter(|(truth, _)| *truth == tag.name).count();
            json!({
                "id": tag.id, "name": tag.name,
                "precision": share(hits, said), "precisionStdDeviation": 0.0,
                "recall": share(hits, there), "recallStdDeviation": 0.0,
                "averagePrecision": share(hits, said),
            })
        })
        .collect();
    json!({
        "perTagPerformance": per_tag,
        "precision": share(right, judged.len()), "precisionStdDeviation": 0.0,
        "recall": share(right, judged.len()), "recallStdDeviation": 0.0,
        "averagePrecision": share(right, judged.len()),
    })
}

fn iteration_json(project: &Project, iteration: &Iteration) -> Value {
    let trained = iteration.status == Status::Completed;
    let compact = project.domain.is_compact();
    let platforms: &[&str] = if compact { &["ONNX", "DockerFile", "TensorFlow", "CoreML"] } else { &[] };
    json!({
        "id": iteration.id,
        "name": iteration.name,
        "status": iteration.status.text(),
        "created": iteration.created,
        "lastModified": iteration.created,
        "trainedAt": trained.then_some(&iteration.created),
        "projectId": project.id,
        "exportable": trained && compact,
        "exportableTo": platforms,
        "domainId": project.domain.id,
        "classificationType": "Multiclass",
        "trainingType": "Regular",
        "reservedBudgetInHours": 0,
        "trainingTimeInMinutes": 0,
        "publishName": iteration.published.as_deref().unwrap_or_default(),
        "originalPublishResourceId": "",
    })
}
