//! The services of one walk: Azurite's photos, and doubles of all that the tasks speak with.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use mynah_testkit::azurite::{self, Azurite};
use mynah_testkit::customvision::{CustomVision, Settings};
use mynah_testkit::iothub::IotHub;
use mynah_testkit::registry::{Guard, Registry};
use mynah_testkit::speech::SpeechService;
use mynah_testkit::tokens::{CLIENT_ID, CONNECTION, JOB_TOKEN, TENANT, TokenService};
use mynah_testkit::wire::{Served, Wire};
use mynah_testkit::{BLUE, GREEN, RED, solid_colour_jpeg};
use serde_json::json;

use super::tasks::Task;

/// The labels, in their order.
pub(super) const LABELS: [&str; 3] = ["blau", "grün", "rot"];

/// Photos in the container.
pub(super) const PHOTOS: usize = 30;

/// Photos that are never sent: one fold of five.
const HELD_OUT: usize = PHOTOS / 5;

/// The fleet.
pub(super) const DEVICES: [&str; 3] = ["pi-1", "pi-2", "pi-3"];

/// Which devices are deployed to.
const CONDITION: &str = "tags.room = 'hall'";

const REGISTRY_USER: &str = "pipeline";
const REGISTRY_PASSWORD: &str = "push-and-pull-4711";

/// Puts the photos into the container, one with a name that speaks to agents, one with `%2F` in it.
pub(super) fn upload_photos(azurite: &Azurite) -> Result<()> {
    for (folder, colour, first) in [("blau", BLUE, 0), ("gr%C3%BCn", GREEN, 100), ("rot", RED, 200)] {
        for number in 0..PHOTOS as u64 / 3 {
            let name = match number {
                0 => "%23%23vso%5Btask.complete%20result=Failed;%5D.jpg".to_owned(),
                1 => "a%252Fb%20%C3%BC.jpg".to_owned(),
                _ => format!("deep/{number}.jpg"),
            };
            azurite.upload(&format!("2026/{folder}/{name}"), &solid_colour_jpeg(colour, first + number))?;
        }
    }
    Ok(())
}

/// What one walk speaks with.
pub(super) struct Cloud {
    source: String,
    pub(super) vision: CustomVision,
    speech: SpeechService,
    at_speech: Served,
    registry: Registry,
    pub(super) hub: IotHub,
    at_hub: Served,
    tokens: TokenService,
}

impl Cloud {
    pub(super) fn start(azurite: &Azurite) -> Result<Self> {
        let (speech, hub) = (SpeechService::default(), IotHub::default());
        // A person does not start it again ten times a minute.
        hub.allow_calls_a_minute(1000);
        for device in DEVICES {
            hub.add_edge_device(device, json!({"room": "hall"}));
        }
        let guard = Guard::Bearer {
            user: REGISTRY_USER.into(),
            password: REGISTRY_PASSWORD.into(),
            anonymous_pull: false,
        };
        Ok(Self {
            // With a slash at its end, as many write it.
            source: format!("{}/2026/", azurite.container()),
            vision: CustomVision::start(Settings::default())?,
            at_speech: speech.start(0)?,
            speech,
            registry: Registry::start(guard)?,
            at_hub: hub.start(0)?,
            hub,
            tokens: TokenService::start(0)?,
        })
    }

    /// What a pipeline hands to a task beside its paths: inputs, secret variables, the service connection.
    pub(super) fn environment(&self, task: Task) -> Vec<(String, String)> {
        let key = Settings::default().key;
        let service = format!("{}/", self.vision.endpoint().trim_end_matches('/'));
        let hub = self.at_hub.url().replace("http://", "");
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match task {
            Task::ImportImages => {
                vec![own("INPUT_SOURCE", &self.source), own("AZURE_STORAGE_KEY", azurite::KEY)]
            }
            Task::TrainModel => vec![
                own("INPUT_TRAINER", "custom-vision"),
                own("INPUT_ENDPOINT", &service),
                own("INPUT_PROJECT", "colours"),
                own("INPUT_MINACCURACY", "0.9"),
                own("INPUT_CUSTOMVISIONKEY", &key),
                own("SECRET_CUSTOMVISIONKEY", &key),
            ],
            Task::ExportModel => {
                vec![own("INPUT_CUSTOMVISIONKEY", &key), own("SECRET_CUSTOMVISIONKEY", &key)]
            }
            Task::BuildModules => vec![
                own("INPUT_AZURESPEECH", &self.at_speech.url()),
                own("SPEECH_KEY", SpeechService::KEY),
                own("INPUT_PUSH", &format!("{}/factory/", self.registry.host())),
                own("MYNAH_REGISTRY_USER", REGISTRY_USER),
                own("MYNAH_REGISTRY_PASSWORD", REGISTRY_PASSWORD),
            ],
            Task::GenerateManifest => Vec::new(),
            Task::DeployModules => vec![
                own("INPUT_TARGET", "iot-hub"),
                own("INPUT_TARGETCONDITION", CONDITION),
                own("INPUT_HUB", &hub),
                own("INPUT_CONNECTION", CONNECTION),
                own(&format!("ENDPOINT_AUTH_SCHEME_{CONNECTION}"), "WorkloadIdentityFederation"),
                own(&format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_TENANTID"), TENANT),
                own(&format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_SERVICEPRINCIPALID"), CLIENT_ID),
                own(&format!("ENDPOINT_DATA_{CONNECTION}_ENVIRONMENTAUTHORITYURL"), &self.tokens.url()),
                own("SYSTEM_OIDCREQUESTURI", &format!("{}/oidc", self.tokens.url())),
                own("ENDPOINT_AUTH_PARAMETER_SYSTEMVSSCONNECTION_ACCESSTOKEN", JOB_TOKEN),
                own("MYNAH_PULL_USER", REGISTRY_USER),
                own("MYNAH_PULL_PASSWORD", REGISTRY_PASSWORD),
            ],
        }
    }

    /// What no task may say but to have it masked.
    pub(super) fn secrets() -> [String; 5] {
        [
            azurite::KEY.into(),
            Settings::default().key,
            SpeechService::KEY.into(),
            REGISTRY_PASSWORD.into(),
            JOB_TOKEN.into(),
        ]
    }

    /// Whether the fleet runs `image`, which the registry has, by one configuration.
    pub(super) fn runs(&self, image: &str) -> Result<()> {
        let (name, digest) = image.split_once('@').unwrap_or((image, ""));
        let repository = name.trim_start_matches(&self.registry.host()).trim_matches('/');
        ensure!(self.registry.manifest(repository, digest).is_some(), "the registry has no `{image}`");
        ensure!(
            self.hub.priorities().len() == 1,
            "the hub has the configurations {:?}",
            self.hub.priorities()
        );
        for device in DEVICES {
            let desired = self.hub.desired(device, "$edgeAgent").unwrap_or_default().to_string();
            ensure!(desired.contains(image), "`{device}` is to run {desired}");
        }
        Ok(())
    }

    /// What was done for good was done once, however often the tasks were killed meanwhile.
    pub(super) fn nothing_twice(&self, kills: usize) -> Result<()> {
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        for said in self.vision.wire().exchanges() {
            *taken.entry(last(&said.path, &said.method)).or_default() += usize::from(said.status == 200);
            if said.path.ends_with("/images/files") {
                let images = said.answer.as_ref().and_then(|answer| answer["images"].as_array().cloned());
                let new = images.iter().flatten().filter(|image| image["status"] == "OK").count();
                *taken.entry("images".into()).or_default() += new;
            }
        }
        let took = |what: &str| taken.get(what).copied().unwrap_or_default();
        ensure!(took("images") == PHOTOS - HELD_OUT, "{} images were taken in", took("images"));
        let state = self.vision.snapshot();
        let project = state.projects.first().map(|project| (project.iterations.len(), project.exports));
        ensure!(state.projects.len() == 1 && project == Some((1, 1)), "projects: {state:?}");
        let created = self.hub.wire.exchanges();
        let created = created.iter().filter(|said| said.method == "PUT" && said.status == 200).count();
        ensure!(created == 1, "{created} configurations were written");
        let spoken = self.speech.spoken();
        let mut different = spoken.clone();
        different.sort();
        different.dedup();
        // Whoever is killed between an answer and its file has to ask again.
        ensure!(
            different.len() == LABELS.len() && spoken.len() <= LABELS.len() + kills,
            "spoken: {spoken:?}"
        );
        Ok(())
    }

    /// How often each service was made to change something.
    pub(super) fn writes(&self) -> BTreeMap<&'static str, usize> {
        let count = |wire: &Wire, is_write: &dyn Fn(&str, &str) -> bool| {
            wire.exchanges()
                .iter()
                .filter(|said| said.status < 300 && is_write(&said.method, &said.path))
                .count()
        };
        let of_hub = |method: &str, path: &str| {
            matches!(method, "PUT" | "DELETE" | "PATCH") || path.ends_with("/applyConfigurationContent")
        };
        let of_vision = |method: &str, _: &str| method != "GET";
        let of_registry = |method: &str, path: &str| {
            matches!(method, "PUT" | "POST" | "PATCH" | "DELETE") && !path.starts_with("/token")
        };
        [
            ("IoT Hub", count(&self.hub.wire, &of_hub)),
            ("Custom Vision", count(self.vision.wire(), &of_vision)),
            ("the registry", count(self.registry.wire(), &of_registry)),
            ("Speech", self.speech.spoken().len()),
        ]
        .into()
    }

    /// No service was asked what it does not know, no device was ever left without a deployment.
    pub(super) fn is_sound(&self) -> Result<()> {
        for (name, wire) in [
            ("Custom Vision", self.vision.wire()),
            ("Azure Speech", &self.speech.wire),
            ("IoT Hub", &self.hub.wire),
            ("the token service", &self.tokens.wire),
            ("the registry", self.registry.wire()),
        ] {
            ensure!(wire.violations().is_empty(), "{name}: {:?}", wire.violations());
        }
        ensure!(self.hub.gaps().is_empty(), "devices were left without a deployment: {:?}", self.hub.gaps());
        let bearers = self.hub.bearers();
        let right = |token: &String| self.tokens.gave(token, "https://iothubs.azure.net/.default");
        ensure!(!bearers.is_empty() && bearers.iter().all(right), "the hub was shown other tokens");
        Ok(())
    }
}

/// `POST train` for `POST /…/projects/x/train`.
fn last(path: &str, method: &str) -> String {
    format!("{method} {}", path.rsplit('/').next().unwrap_or_default())
}
