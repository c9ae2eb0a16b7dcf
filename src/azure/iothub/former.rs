//! What a device ran before, kept in the hub until its new content is seen running.
//!
//! It is a configuration without a target condition, which targets no device. There it outlives this process and
//! the machine it runs on, and the passwords of registries in it are nowhere they have not been. Labels say whose
//! content it is and which deployment was sent in its place.

use mynah_contracts::Sha256Digest;

use super::HubError;
use super::content::Content;
use super::fleet::MAX_CONFIGURATIONS;
use super::hub::Hub;
use super::wire::Configuration;

/// The label with the device whose former content a configuration keeps.
const DEVICE: &str = "mynahFormerOf";

/// The label with the digest of the content that took its place.
const SENT: &str = "mynahSent";

/// The former contents that a hub keeps for one device.
pub(super) struct Former<'a> {
    hub: &'a Hub,
    device: &'a str,
    kept: Vec<Configuration>,
    /// How many configurations the hub has altogether.
    all: usize,
}

impl<'a> Former<'a> {
    /// Looks what the hub keeps.
    pub(super) async fn find(hub: &'a Hub, device: &'a str) -> Result<Self, HubError> {
        let mut kept = hub.configurations().await?;
        let all = kept.len();
        kept.retain(|configuration| label(configuration, DEVICE) == Some(device));
        Ok(Self { hub, device, kept, all })
    }

    /// What the device is to have again should its next content not run: `present`, unless a run that was stopped
    /// sent that and never saw it running.
    pub(super) fn to_go_back_to(&self, present: &Content) -> Option<Content> {
        self.unproven(present).or_else(|| present.is_whole().then(|| present.clone()))
    }

    /// What the device ran before `present`, where `present` was sent and not seen running.
    pub(super) fn unproven(&self, present: &Content) -> Option<Content> {
        let sent = present.agent_digest().to_string();
        let kept = self.kept.iter().find(|configuration| label(configuration, SENT) == Some(&sent))?;
        Some(Content::of_hub(&kept.content))
    }

    /// Keeps `former` before `next` is sent.
    pub(super) async fn keep(&mut self, former: &Content, next: &Content) -> Result<(), HubError> {
        let sent = next.agent_digest();
        let id = id(self.device, sent);
        if let Some(there) = self.kept.iter().position(|configuration| configuration.id == id) {
            if self.kept.get(there).is_some_and(|there| Content::of_hub(&there.content) == *former) {
                return Ok(());
            }
            // Of a run that was stopped before it sent anything, and the device has got something else since.
            self.hub.delete(&id).await?;
            self.kept.remove(there);
            self.all -= 1;
        }
        if self.all >= MAX_CONFIGURATIONS {
            tracing::warn!(
                "the hub has {} configurations, no further one fits: should this run be stopped, the former content of device `{}` is lost",
                self.all,
                self.device.escape_debug()
            );
            return Ok(());
        }
        let mut new = Hub::new_configuration(id.clone(), (DEVICE, self.device), "", 0, former);
        new.labels.get_or_insert_default().insert(SENT.to_owned(), sent.to_string());
        if let Some(there) = self.hub.create(&new).await?
            && Content::of_hub(&there.content) != *former
        {
            return Err(HubError::Taken(id));
        }
        self.kept.push(new);
        self.all += 1;
        Ok(())
    }

    /// The device runs what it has: nothing is kept any more.
    pub(super) async fn forget(self) -> Result<(), HubError> {
        for configuration in &self.kept {
            self.hub.delete(&configuration.id).await?;
        }
        Ok(())
    }
}

fn label<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a str> {
    configuration.labels.as_ref()?.get(name).map(String::as_str)
}

/// A device's id may hold what a configuration's may not, so it is hashed.
fn id(device: &str, sent: Sha256Digest) -> String {
    let device = Sha256Digest::of(device.as_bytes()).hex();
    let short = |hex: &str| hex.get(..12).unwrap_or_default().to_owned();
    format!("mynah-former-{}-{}", short(&device), short(&sent.hex()))
}
