//! Domains, projects and tags.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::answer::{Ask, Refusal, ok};
use super::state::{DOMAINS, Project, State, Tag};

impl State {
    pub(super) fn domains() -> Response {
        // The published example says `exportable: false` of compact domains too.
        let domains: Vec<Value> = DOMAINS
            .iter()
            .map(|domain| {
                json!({ "id": domain.id, "name": domain.name, "type": domain.kind,
                        "exportable": false, "enabled": true })
            })
            .collect();
        ok(&domains)
    }

    pub(super) fn list_projects(&self) -> Response {
        ok(&self.projects.iter().map(project_json).collect::<Vec<_>>())
    }

    pub(super) fn create_project(&mut self, ask: &Ask) -> Result<Response, Refusal> {
        let name = ask.need("name")?.to_owned();
        let description = ask.get("description").unwrap_or_default().to_owned();
        let domain = ask.need("domainId")?;
        let domain = DOMAINS.iter().find(|known| known.id == domain).copied().ok_or_else(|| {
            Refusal::wrong("BadRequestProjectUnknownDomain", format!("there is no domain {domain}"))
        })?;
        if !matches!(ask.get("classificationType"), None | Some("Multiclass" | "Multilabel")) {
            return Err(Refusal::wrong("BadRequestProjectUnknownClassification", "unknown type"));
        }
        ask.list("targetExportPlatforms", 5)?;
        if ask.has_body() {
            return Err(Refusal::wrong("BadRequest", "a project is made without a body"));
        }
        if self.projects.iter().any(|project| project.name == name) {
            return Err(Refusal::bad("BadRequestProjectNameNotUnique", "the name is taken"));
        }
        if self.projects.len() >= self.settings.limits.projects {
            return Err(Refusal::bad("BadRequestExceedProjectLimit", "there are as many projects as may be"));
        }
        let (id, created) = (self.id(), self.time());
        let project = Project {
            id,
            name,
            description,
            domain,
            created,
            tags: Vec::new(),
            images: Vec::new(),
            iterations: Vec::new(),
            numbered: 0,
        };
        let answer = ok(&project_json(&project));
        self.projects.push(project);
        Ok(answer)
    }

    pub(super) fn get_project(&mut self, id: &str) -> Result<Response, Refusal> {
        Ok(ok(&project_json(self.project(id)?)))
    }

    pub(super) fn delete_project(&mut self, id: &str) -> Result<Response, Refusal> {
        self.project(id)?;
        self.projects.retain(|project| project.id != id);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    pub(super) fn list_tags(&mut self, project: &str) -> Result<Response, Refusal> {
        let project = self.project(project)?;
        Ok(ok(&project.tags.iter().map(|tag| tag_json(project, tag)).collect::<Vec<_>>()))
    }

    pub(super) fn create_tag(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let name = ask.need("name")?.to_owned();
        let description = ask.get("description").unwrap_or_default().to_owned();
        let kind = ask.get("type").unwrap_or("Regular").to_owned();
        if !matches!(kind.as_str(), "Regular" | "Negative" | "GeneralProduct") {
            return Err(Refusal::wrong("BadRequestTagType", format!("`{kind}` is no type of tag")));
        }
        let (id, limit) = (self.id(), self.settings.limits.tags);
        let project = self.project(project)?;
        if kind == "Negative" && project.tags.iter().any(|tag| tag.kind == "Negative") {
            return Err(Refusal::bad("BadRequestMultipleNegativeTag", "there is one already"));
        }
        if project.tags.iter().any(|tag| tag.name == name) {
            return Err(Refusal::bad("BadRequestTagNameNotUnique", "the name is taken"));
        }
        if project.tags.len() >= limit {
            return Err(Refusal::bad(
                "BadRequestExceedTagPerProjectLimit",
                "there are as many tags as may be",
            ));
        }
        let tag = Tag { id, name, description, kind };
        let answer = ok(&tag_json(project, &tag));
        project.tags.push(tag);
        Ok(answer)
    }

    pub(super) fn delete_tag(&mut self, project: &str, id: &str) -> Result<Response, Refusal> {
        let project = self.project(project)?;
        if !project.tags.iter().any(|tag| tag.id == id) {
            return Err(Refusal::absent("NotFoundTag", format!("there is no tag {id}")));
        }
        project.tags.retain(|tag| tag.id != id);
        for image in &mut project.images {
            image.tags.retain(|tag| tag != id);
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

fn project_json(project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "settings": {
            "domainId": project.domain.id,
            "classificationType": "Multiclass",
            "targetExportPlatforms": [],
            "useNegativeSet": true,
            "imageProcessingSettings": { "augmentationMethods": {} },
        },
        "created": project.created,
        "lastModified": project.created,
        "thumbnailUri": null,
        "drModeEnabled": false,
        "status": "Succeeded",
    })
}

fn tag_json(project: &Project, tag: &Tag) -> Value {
    let images = project.images.iter().filter(|image| image.tags.contains(&tag.id)).count();
    json!({ "id": tag.id, "name": tag.name, "description": tag.description, "type": tag.kind,
            "imageCount": images })
}
