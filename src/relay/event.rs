//! What is delivered: events in the Event Grid schema and as CloudEvents 1.0, and the handshake of the former.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A blob was written (Azure Blob Storage as an Event Grid source).
const CREATED: &str = "Microsoft.Storage.BlobCreated";
/// Event Grid asks whether this endpoint wants its events (webhook validation).
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
/// The longest validation code that is given back; Event Grid's are ids of 36 characters.
const LONGEST_CODE: usize = 256;

/// The endings of photos that an import takes.
const PHOTOS: &[&str] = &["jpg", "jpeg", "jfif", "png", "bmp", "gif", "webp"];

/// What one delivery holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The handshake: this code is to be given back.
    Validation(String),
    /// Events.
    Events(Vec<Event>),
}

/// Why a delivery cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum DeliveryError {
    /// No JSON.
    #[error("the body is not JSON")]
    NoJson,
    /// JSON of another form.
    #[error("the body is neither an event nor a list of events")]
    NoEvents,
    /// An event without what every event has.
    #[error("event {number} has no `{field}`")]
    Incomplete {
        /// Counted from 1.
        number: usize,
        /// What it lacks.
        field: &'static str,
    },
    /// A version of CloudEvents that is not known.
    #[error("event {number} is not a CloudEvent of version 1.0")]
    Version {
        /// Counted from 1.
        number: usize,
    },
    /// A handshake that cannot be answered.
    #[error("the subscription's validation has no code, or is not alone")]
    Validation,
}

/// One event, in either schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Who sent it: the Azure resource's id.
    pub(super) source: String,
    /// What the sender calls it.
    pub(super) id: String,
    /// What happened.
    pub(super) kind: String,
    /// To what.
    pub(super) subject: String,
    /// The size of a blob, in bytes, where it is told.
    pub(super) length: Option<u64>,
}

/// Tells one event from every other: a digest of the sender and the sender's id, so that it has one length and
/// holds no foreign text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct EventId([u8; 16]);

impl EventId {
    fn of(source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        // The length parts both, so that no two pairs are one text.
        hash.update((source.len() as u64).to_le_bytes());
        hash.update(source);
        hash.update(id);
        let digest: [u8; 32] = hash.finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        format!("{id:?}")
    }
}

impl TryFrom<String> for EventId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "an event's digest has 32 hexadecimal digits";
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        u128::from_str_radix(&text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| WRONG)
    }
}

impl Delivery {
    /// Reads a body. The schema shows in the body itself, so that a subscription may change it.
    pub(super) fn read(body: &[u8]) -> Result<Self, DeliveryError> {
        let values = match serde_json::from_slice(body).map_err(|_| DeliveryError::NoJson)? {
            Value::Array(values) => values,
            value @ Value::Object(_) => vec![value],
            _ => return Err(DeliveryError::NoEvents),
        };
        if values.iter().any(|value| text(value, "eventType") == Some(VALIDATION)) {
            let code = match values.as_slice() {
                [value] => value.pointer("/data/validationCode").and_then(Value::as_str),
                _ => None,
            };
            return code
                .filter(|code| !code.is_empty() && code.len() <= LONGEST_CODE)
                .map(|code| Self::Validation(code.to_owned()))
                .ok_or(DeliveryError::Validation);
        }
        let read = |(at, value): (usize, &Value)| Event::read(at + 1, value);
        Ok(Self::Events(values.iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl Event {
    fn read(number: usize, value: &Value) -> Result<Self, DeliveryError> {
        if !value.is_object() {
            return Err(DeliveryError::NoEvents);
        }
        let (source, kind) = match value.get("specversion") {
            Some(version) if version == "1.0" => ("source", "type"),
            Some(_) => return Err(DeliveryError::Version { number }),
            None => ("topic", "eventType"),
        };
        let needed =
            |field| text(value, field).map(str::to_owned).ok_or(DeliveryError::Incomplete { number, field });
        Ok(Self {
            // A custom topic need not name itself in the Event Grid schema.
            source: if source == "topic" {
                text(value, source).unwrap_or_default().into()
            } else {
                needed(source)?
            },
            id: needed("id")?,
            kind: needed(kind)?,
            subject: text(value, "subject").unwrap_or_default().to_owned(),
            length: value.pointer("/data/contentLength").and_then(Value::as_u64),
        })
    }

    /// What tells it from others.
    pub(super) fn digest(&self) -> EventId {
        EventId::of(&self.source, &self.id)
    }
}

/// Which uploads start a run: photos below a prefix of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The storage account, where it is known.
    pub(super) account: Option<String>,
    pub(super) container: String,
    /// Empty, or a folder and a slash.
    pub(super) prefix: String,
}

impl Watched {
    /// Whether the event tells of such a photo.
    pub(super) fn concerns(&self, event: &Event) -> bool {
        // A hierarchical namespace tells of a file when it is made, empty, and again when it is complete.
        event.kind == CREATED && event.length != Some(0) && self.is_ours(event)
    }

    fn is_ours(&self, event: &Event) -> bool {
        let sent_by = event.source.rsplit_once("/storageAccounts/").map(|(_, account)| account);
        let other_account = self
            .account
            .as_ref()
            .zip(sent_by)
            .is_some_and(|(ours, theirs)| !ours.eq_ignore_ascii_case(theirs));
        let blob = event
            .subject
            .strip_prefix("/blobServices/default/containers/")
            .and_then(|rest| rest.strip_prefix(self.container.as_str()))
            .and_then(|rest| rest.strip_prefix("/blobs/"))
            .and_then(|name| name.strip_prefix(self.prefix.as_str()));
        let is_photo = |name: &str| {
            name.rsplit_once('.')
                .is_some_and(|(_, ending)| PHOTOS.iter().any(|known| known.eq_ignore_ascii_case(ending)))
        };
        !other_account && blob.is_some_and(is_photo)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TOPIC: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/photos9411";

    fn grid(id: &str, subject: &str) -> Value {
        json!({
            "topic": TOPIC, "subject": subject, "eventType": CREATED, "id": id,
            "eventTime": "2026-11-23T10:00:00Z", "dataVersion": "", "metadataVersion": "1",
            "data": {"api": "PutBlob", "contentLength": 524_288, "eTag": "0x8D", "url": "https://photos9411.blob.core.windows.net/in/cat/1.jpg"}
        })
    }

    fn cloud(id: &str, subject: &str) -> Value {
        json!({
            "source": TOPIC, "subject": subject, "type": CREATED, "id": id, "specversion": "1.0",
            "time": "2026-11-23T10:00:00Z", "data": {"api": "PutBlockList", "contentLength": 7}
        })
    }

    fn events(value: &Value) -> Vec<Event> {
        match Delivery::read(value.to_string().as_bytes()).unwrap() {
            Delivery::Events(events) => events,
            Delivery::Validation(code) => panic!("a validation with {code}"),
        }
    }

    const CAT: &str = "/blobServices/default/containers/in/blobs/cat/1.jpg";

    #[test]
    fn both_schemas_tell_the_same() {
        let watched =
            Watched { account: Some("photos9411".into()), container: "in".into(), prefix: String::new() };
        let [first, second, third] = [json!([grid("a", CAT)]), cloud("a", CAT), json!([cloud("a", CAT)])]
            .map(|value| events(&value).remove(0));
        for event in [&first, &second, &third] {
            assert!(watched.concerns(event), "{event:?}");
            assert_eq!(event.digest(), first.digest());
        }
        assert_ne!(events(&json!([grid("b", CAT)]))[0].digest(), first.digest());
    }

    #[test]
    fn only_photos_of_the_container_and_the_prefix_concern_us() {
        let watched =
            Watched { account: Some("photos9411".into()), container: "in".into(), prefix: "shop/".into() };
        let concerns = |subject: &str| {
            let subject = format!("/blobServices/default/containers/{subject}");
            watched.concerns(&events(&json!([grid("a", &subject)]))[0])
        };
        assert!(concerns("in/blobs/shop/cat/ü 1.JPG"));
        for other in [
            "in/blobs/cat/1.jpg",
            "in2/blobs/shop/cat/1.jpg",
            "in/blobs/shop/cat/notes.txt",
            "in/blobs/shop/cat/jpg",
            "in/blobs/shop",
        ] {
            assert!(!concerns(other), "{other}");
        }
        let event = |change: &dyn Fn(&mut Value)| {
            let mut value = grid("a", "/blobServices/default/containers/in/blobs/shop/cat/1.png");
            change(&mut value);
            events(&json!([value])).remove(0)
        };
        assert!(watched.concerns(&event(&|_| ())));
        assert!(!watched.concerns(&event(&|value| value["data"]["contentLength"] = json!(0))));
        assert!(
            !watched.concerns(&event(&|value| value["eventType"] = json!("Microsoft.Storage.BlobDeleted")))
        );
        assert!(!watched.concerns(&event(&|value| value["topic"] = json!("/x/storageAccounts/other"))));
    }

    #[test]
    fn a_handshake_is_answered_only_alone() {
        let validation = json!({"id": "1", "eventType": VALIDATION, "data": {"validationCode": "512d38b6"}});
        let read = |value: &Value| Delivery::read(value.to_string().as_bytes());
        assert_eq!(read(&json!([validation])), Ok(Delivery::Validation("512d38b6".into())));
        for broken in [
            json!([validation, grid("a", CAT)]),
            json!([{"id": "1", "eventType": VALIDATION, "data": {}}]),
            json!([{"id": "1", "eventType": VALIDATION, "data": {"validationCode": "x".repeat(257)}}]),
        ] {
            assert_eq!(read(&broken), Err(DeliveryError::Validation));
        }
    }

    #[test]
    fn what_is_no_event_is_named() {
        for (body, expected) in [
            ("", "the body is not JSON"),
            ("[{]", "the body is not JSON"),
            ("7", "the body is neither an event nor a list of events"),
            ("[7]", "the body is neither an event nor a list of events"),
            (r#"[{"eventType":"a","id":"1"},{"id":"1"}]"#, "event 2 has no `eventType`"),
            (r#"{"specversion":"1.0","type":"a","source":"s"}"#, "event 1 has no `id`"),
            (
                r#"{"specversion":"0.3","type":"a","source":"s","id":"1"}"#,
                "event 1 is not a CloudEvent of version 1.0",
            ),
        ] {
            assert_eq!(Delivery::read(body.as_bytes()).unwrap_err().to_string(), expected);
        }
        assert_eq!(Delivery::read(b"[]"), Ok(Delivery::Events(Vec::new())));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Delivery::read(&body);
        }

        #[test]
        fn digests_survive_the_journal(source in ".*", id in ".*") {
            let digest = EventId::of(&source, &id);
            let text = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<EventId>(&text).unwrap(), digest);
        }
    }
}
