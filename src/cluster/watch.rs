//! Lists that follow the cluster: read once, then kept up to date by a watch that is opened again wherever it ends.
//!
//! A watch ends after its time, when a connection is lost, or with 410 where the cluster no longer knows the version it
//! was to go on from; then the list is read anew (Kubernetes, "Efficient detection of changes").

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ClusterError;
use super::api::Api;
use super::object::Resource;

/// The wait before a lost watch is opened again; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// The longest event that is read, in bytes: more than the largest object.
const LARGEST: usize = 4 << 20;

/// What is followed.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) selector: String,
}

/// What a follower tells.
enum News {
    /// All there is, by name.
    All(BTreeMap<String, Value>),
    /// One that is there, or no longer.
    One(String, Option<Value>),
    /// It cannot go on.
    Lost(ClusterError),
}

/// Several lists, as they last were.
pub(super) struct Follower {
    lists: Vec<Option<BTreeMap<String, Value>>>,
    news: mpsc::Receiver<(usize, News)>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Begins to follow.
    pub(super) fn start(api: &Api, subjects: &[Subject]) -> Self {
        let (sender, news) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for (index, subject) in subjects.iter().enumerate() {
            let (api, subject, sender) = (api.clone(), subject.clone(), sender.clone());
            tasks.spawn(async move {
                if let Err(error) = follow(&api, &subject, index, &sender).await {
                    // Nobody listens any more: as good.
                    let _ = sender.send((index, News::Lost(error))).await;
                }
            });
        }
        Self { lists: vec![None; subjects.len()], news, _tasks: tasks }
    }

    /// Waits until something has changed, and takes in all that has.
    pub(super) async fn changed(&mut self) -> Result<(), ClusterError> {
        let Some(first) = self.news.recv().await else { return Err(ClusterError::Cancelled) };
        self.take(first)?;
        while let Ok(next) = self.news.try_recv() {
            self.take(next)?;
        }
        Ok(())
    }

    fn take(&mut self, (index, news): (usize, News)) -> Result<(), ClusterError> {
        let Some(list) = self.lists.get_mut(index) else { return Ok(()) };
        match news {
            News::All(all) => *list = Some(all),
            News::One(name, object) => {
                let list = list.get_or_insert_default();
                match object {
                    Some(object) => drop(list.insert(name, object)),
                    None => drop(list.remove(&name)),
                }
            }
            News::Lost(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether every list was read.
    pub(super) fn is_complete(&self) -> bool {
        self.lists.iter().all(Option::is_some)
    }

    /// One of the lists, by name.
    pub(super) fn list(&self, index: usize) -> impl Iterator<Item = &Value> {
        self.lists.get(index).into_iter().flatten().flat_map(BTreeMap::values)
    }

    /// An object of a list.
    pub(super) fn named(&self, index: usize, name: &str) -> Option<&Value> {
        self.lists.get(index)?.as_ref()?.get(name)
    }
}

type Sender = mpsc::Sender<(usize, News)>;

async fn follow(api: &Api, subject: &Subject, index: usize, sender: &Sender) -> Result<(), ClusterError> {
    let (resource, namespace, selector) =
        (&subject.resource, Some(subject.namespace.as_str()), &subject.selector);
    let mut wait = FIRST;
    loop {
        let list = api.list(resource, namespace, selector).await?;
        let mut version = list.version;
        let kind = kind_of(resource);
        let named = list.items.into_iter().filter_map(|mut item| {
            // A list leaves out what all its objects have in common.
            item["kind"] = kind.into();
            Some((item["metadata"]["name"].as_str()?.to_owned(), item))
        });
        if sender.send((index, News::All(named.collect()))).await.is_err() {
            return Ok(());
        }
        loop {
            let opened = api.watch(resource, namespace, selector, &version).await;
            let incoming = match opened {
                Ok(Some(incoming)) => incoming,
                Ok(None) => break,
                Err(ClusterError::Http(error)) => {
                    tracing::debug!("watch of {}: {}", resource.plural, mynah_contracts::error_chain(&error));
                    let asked = error.refusal().and_then(|refusal| refusal.retry_after);
                    sleep(asked.unwrap_or(wait).min(LONGEST)).await;
                    wait = (wait * 2).min(LONGEST);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match read(incoming, index, sender, &mut version).await {
                End::Closed(events) => {
                    // One that brings nothing and ends at once must not be opened a thousand times.
                    if events == 0 {
                        sleep(wait).await;
                        wait = (wait * 2).min(LONGEST);
                    } else {
                        wait = FIRST;
                    }
                }
                End::Outdated => break,
                End::Unwanted => return Ok(()),
            }
        }
        sleep(FIRST).await;
    }
}

const fn kind_of(resource: &Resource) -> &'static str {
    match resource.plural.as_bytes() {
        b"deployments" => "Deployment",
        b"daemonsets" => "DaemonSet",
        _ => "Pod",
    }
}

/// How a watch ended.
enum End {
    /// It may be gone on from the last version; it brought so many events.
    Closed(usize),
    /// The list must be read anew.
    Outdated,
    /// Nobody listens.
    Unwanted,
}

async fn read(
    mut incoming: crate::http::Incoming,
    index: usize,
    sender: &Sender,
    version: &mut String,
) -> End {
    let mut buffer: Vec<u8> = Vec::new();
    let mut events = 0;
    // A connection that breaks off ends the watch as its time does.
    while let Ok(Some(bytes)) = incoming.chunk().await {
        buffer.extend_from_slice(bytes.as_ref());
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match event(&line, version) {
                Some(Event::News(news)) => {
                    events += 1;
                    if sender.send((index, news)).await.is_err() {
                        return End::Unwanted;
                    }
                }
                Some(Event::Bookmark) => events += 1,
                Some(Event::Outdated) => return End::Outdated,
                None => {}
            }
        }
        if buffer.len() > LARGEST {
            return End::Outdated;
        }
    }
    End::Closed(events)
}

enum Event {
    News(News),
    Bookmark,
    Outdated,
}

/// One line of a watch; it moves `version` on.
fn event(line: &[u8], version: &mut String) -> Option<Event> {
    let Ok(mut event) = serde_json::from_slice::<Value>(line) else {
        return (!line.trim_ascii().is_empty()).then_some(Event::Outdated);
    };
    let object = event["object"].take();
    if event["type"] == "ERROR" {
        return Some(Event::Outdated);
    }
    if let Some(new) = object["metadata"]["resourceVersion"].as_str() {
        new.clone_into(version);
    }
    let name = object["metadata"]["name"].as_str().map(str::to_owned);
    match (event["type"].as_str(), name) {
        (Some("BOOKMARK"), _) => Some(Event::Bookmark),
        (Some("ADDED" | "MODIFIED"), Some(name)) => Some(Event::News(News::One(name, Some(object)))),
        (Some("DELETED"), Some(name)) => Some(Event::News(News::One(name, None))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_move_the_version_on_and_an_error_asks_for_the_list() {
        let mut version = "1".to_owned();
        let told = |line: &str, version: &mut String| match event(line.as_bytes(), version) {
            Some(Event::News(News::One(name, object))) => format!("{name} {}", object.is_some()),
            Some(Event::News(_)) => "all".into(),
            Some(Event::Bookmark) => "bookmark".into(),
            Some(Event::Outdated) => "outdated".into(),
            None => "nothing".to_owned(),
        };
        let line = r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}"#;
        assert_eq!((told(line, &mut version), version.as_str()), ("a true".into(), "7"));
        let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
        assert_eq!((told(line, &mut version), version.as_str()), ("bookmark".into(), "9"));
        let line = r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"11"}}}"#;
        assert_eq!(told(line, &mut version), "a false");
        let line = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"metadata":{}}}"#;
        assert_eq!((told(line, &mut version), version.as_str()), ("outdated".into(), "11"));
        for (line, says) in [("\n", "nothing"), ("<html>\n", "outdated"), ("{\"type\":\"NEW\"}", "nothing")] {
            assert_eq!(told(line, &mut version), says);
        }
    }
}
