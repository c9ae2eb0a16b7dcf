//! The calls of the training API that we make.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::VisionError;
use super::pace::Pace;
use super::place::{Credential, Place};
use super::wire::{
    Domain, Export, Image, ImageCreateSummary, ImageFileCreateBatch, ImageMetadataUpdateSummary,
    ImageTagCreateBatch, Iteration, IterationPerformance, Project, Tag, TrainingParameters,
};
use crate::agent::Env;
use crate::http::{Client, HttpError, Policy, Repeat, Request};

/// The largest page of a listing of images.
const PAGE: usize = 256;

/// The largest export that is read, in bytes.
const LARGEST_EXPORT: u64 = 1 << 30;

/// How long the upload of one batch may take, all tries included.
const UPLOAD: Duration = Duration::from_mins(15);

/// The API of one resource.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    credential: Credential,
    place: Place,
    pace: Pace,
}

impl Api {
    pub(super) fn new(place: &Place, env: &Env) -> Result<Self, VisionError> {
        let client = Client::new(Policy { largest_body: LARGEST_EXPORT, ..Policy::default() })?;
        let credential = Credential::find(place, env, &client)?;
        let pace = if place.is_here() { Pace::free() } else { Pace::of_service() };
        Ok(Self { client, credential, place: place.clone(), pace })
    }

    /// Sends a request in its turn, signed. Every call of ours is safe to repeat: the service refuses or reports
    /// what is there already, and callers take that as done.
    async fn send(&self, request: Request) -> Result<crate::http::Response, VisionError> {
        let request = self.credential.sign(request.repeat(Repeat::Always)).await?;
        self.pace.turn().await;
        Ok(self.client.send(&request).await?)
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, VisionError> {
        Ok(self.send(request).await?.json()?)
    }

    fn get(&self, path: &str) -> Request {
        Request::get(self.place.call(path))
    }

    fn post(&self, path: &str) -> Request {
        Request::post(self.place.call(path))
    }

    fn delete(&self, path: &str) -> Request {
        Request::delete(self.place.call(path))
    }

    pub(super) async fn domains(&self) -> Result<Vec<Domain>, VisionError> {
        self.ask(self.get("/domains")).await
    }

    pub(super) async fn projects(&self) -> Result<Vec<Project>, VisionError> {
        self.ask(self.get("/projects")).await
    }

    pub(super) async fn create_project(&self, name: &str, domain: &str) -> Result<Project, VisionError> {
        let request = self
            .post("/projects")
            .query("name", name)
            .query("domainId", domain)
            .query("classificationType", "Multiclass");
        self.ask(request).await
    }

    pub(super) async fn tags(&self, project: &str) -> Result<Vec<Tag>, VisionError> {
        self.ask(self.get(&format!("/projects/{project}/tags"))).await
    }

    pub(super) async fn create_tag(&self, project: &str, name: &str) -> Result<Tag, VisionError> {
        self.ask(self.post(&format!("/projects/{project}/tags")).query("name", name)).await
    }

    /// All images of the workspace, a page at a time, the oldest first: what is added meanwhile comes last.
    pub(super) async fn images(&self, project: &str) -> Result<Vec<Image>, VisionError> {
        let mut images = Vec::new();
        loop {
            let request = self
                .get(&format!("/projects/{project}/images"))
                .query("taggingStatus", "All")
                .query("orderBy", "Oldest")
                .query("take", &PAGE.to_string())
                .query("skip", &images.len().to_string());
            let page: Vec<Image> = self.ask(request).await?;
            let last = page.len() < PAGE;
            images.extend(page);
            if last {
                return Ok(images);
            }
        }
    }

    pub(super) async fn upload(
        &self,
        project: &str,
        batch: &ImageFileCreateBatch,
    ) -> Result<ImageCreateSummary, VisionError> {
        let request = self.post(&format!("/projects/{project}/images/files")).json(batch).within(UPLOAD);
        self.ask(request).await
    }

    pub(super) async fn set_metadata(
        &self,
        project: &str,
        image: &str,
        metadata: &BTreeMap<&str, String>,
    ) -> Result<ImageMetadataUpdateSummary, VisionError> {
        let path = format!("/projects/{project}/images/metadata");
        self.ask(self.post(&path).query("imageIds", image).json(metadata)).await
    }

    pub(super) async fn add_tags(
        &self,
        project: &str,
        batch: &ImageTagCreateBatch,
    ) -> Result<(), VisionError> {
        self.send(self.post(&format!("/projects/{project}/images/tags")).json(batch)).await?;
        Ok(())
    }

    /// Takes tags off images: at most 64 images and 20 tags.
    pub(super) async fn remove_tags(
        &self,
        project: &str,
        images: &[String],
        tags: &[String],
    ) -> Result<(), VisionError> {
        let request = self
            .delete(&format!("/projects/{project}/images/tags"))
            .query("imageIds", &images.join(","))
            .query("tagIds", &tags.join(","));
        self.send(request).await?;
        Ok(())
    }

    /// Removes at most 256 images from the workspace.
    pub(super) async fn delete_images(&self, project: &str, images: &[String]) -> Result<(), VisionError> {
        let path = format!("/projects/{project}/images");
        self.send(self.delete(&path).query("imageIds", &images.join(","))).await?;
        Ok(())
    }

    /// Trains on all tags, or on the selected ones only.
    pub(super) async fn train(
        &self,
        project: &str,
        selected: Option<TrainingParameters>,
    ) -> Result<Iteration, VisionError> {
        let request = self.post(&format!("/projects/{project}/train"));
        let request = match &selected {
            Some(parameters) => request.json(parameters),
            None => request,
        };
        self.ask(request).await
    }

    pub(super) async fn iterations(&self, project: &str) -> Result<Vec<Iteration>, VisionError> {
        self.ask(self.get(&format!("/projects/{project}/iterations"))).await
    }

    pub(super) async fn iteration(&self, project: &str, iteration: &str) -> Result<Iteration, VisionError> {
        self.ask(self.get(&format!("/projects/{project}/iterations/{iteration}"))).await
    }

    /// Removes an iteration; one that is gone already is as good.
    pub(super) async fn delete_iteration(&self, project: &str, iteration: &str) -> Result<(), VisionError> {
        match self.send(self.delete(&format!("/projects/{project}/iterations/{iteration}"))).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    pub(super) async fn performance(
        &self,
        project: &str,
        iteration: &str,
    ) -> Result<IterationPerformance, VisionError> {
        self.ask(self.get(&format!("/projects/{project}/iterations/{iteration}/performance"))).await
    }

    pub(super) async fn queue_export(
        &self,
        project: &str,
        iteration: &str,
        platform: &str,
    ) -> Result<Export, VisionError> {
        let path = format!("/projects/{project}/iterations/{iteration}/export");
        self.ask(self.post(&path).query("platform", platform)).await
    }

    pub(super) async fn exports(&self, project: &str, iteration: &str) -> Result<Vec<Export>, VisionError> {
        self.ask(self.get(&format!("/projects/{project}/iterations/{iteration}/export"))).await
    }

    /// Fetches an export from where the service says it is: an address signed by itself, which gets no key, or a
    /// path for the artifact call where the resource is in a virtual network.
    pub(super) async fn download(&self, project: &str, address: &str) -> Result<Vec<u8>, VisionError> {
        if let Ok(url) = reqwest::Url::parse(address) {
            return Ok(self.client.send(&Request::get(url)).await?.into_bytes());
        }
        let path = format!("/projects/{project}/artifacts");
        Ok(self.send(self.get(&path).query("path", address)).await?.into_bytes())
    }
}

impl VisionError {
    /// The service's code, where it refused.
    pub(super) fn code(&self) -> Option<&str> {
        self.http().and_then(HttpError::code)
    }

    /// The status of the service's refusal.
    pub(super) fn status(&self) -> Option<u16> {
        self.http().and_then(HttpError::status)
    }
}
