//! A double of the API of Kubernetes, for what a deployment asks of it.
//!
//! | route | contract |
//! |---|---|
//! | `GET /version`, `GET /api/v1`, `GET /apis/{group}/{version}` | version and discovery |
//! | `GET /api…/{plural}[?labelSelector&watch&resourceVersion]` | lists and watches, of a namespace or of the cluster |
//! | `GET`, `PATCH` (server-side apply), `PUT`, `DELETE` `…/{plural}/{name}`, `POST …/{plural}` | objects |
//! | `POST …/selfsubjectaccessreviews` | what whoever asks may do |
//! | `GET …/pods/{name}:{port}/proxy/{path}` | `readyz` and `metrics` of the device's runtime |
//!
//! It has a state: fields have owners, workloads make pods on nodes, and pods behave as their image's name says. It is
//! strict: a namespace that is not there, a field it does not know, an old version and a missing right are refused in
//! the words of the real one. Watches can be cut in the middle of a line, and versions forgotten.

mod apply;
mod controllers;
mod routes;
mod scheduler;
mod store;
mod structure;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use controllers::Behaviour;

use crate::wire::{Served, Wire};
use controllers::{Node, World};
use store::{Kind, Store};

/// The token it accepts.
pub const TOKEN: &str = "token-of-the-test-cluster";

/// A cluster; its clones are the same one.
#[derive(Clone)]
pub struct Cluster {
    /// The record of what was asked, and what is to go wrong.
    pub wire: Arc<Wire>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    store: Store,
    world: World,
    /// Verb and plural name of what is not allowed.
    denied: BTreeSet<(String, String)>,
    token: String,
    /// How many watches end in the middle of their next line.
    cuts: usize,
    /// Kinds beside those that every cluster has.
    custom: Vec<(Kind, String)>,
}

impl Default for Cluster {
    fn default() -> Self {
        let mut state = State {
            store: Store::default(),
            world: World::default(),
            denied: BTreeSet::new(),
            token: TOKEN.to_owned(),
            cuts: 0,
            custom: Vec::new(),
        };
        let default = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        state.store.replace(&(Kind::of("v1", "namespaces"), String::new(), "default".into()), "k3s", default);
        let shared = Shared { state: Mutex::new(state), changed: Notify::new() };
        Self { wire: Arc::new(Wire::default()), shared: Arc::new(shared) }
    }
}

impl Cluster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens on `port` (0: any free one).
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(&self, port: u16) -> Result<Served> {
        Served::start(routes::router(self.clone()), Arc::clone(&self.wire), port)
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(url: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: {url}\n\
             users:\n- name: test\n  user:\n    token: {TOKEN}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n"
        )
    }

    /// Adds a node that has these labels.
    pub fn add_node(&self, name: &str, labels: &[(&str, &str)]) {
        let mut state = self.lock();
        let labels: std::collections::BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        state.store.replace(&(Kind::of("v1", "nodes"), String::new(), name.to_owned()), "k3s", node);
        state.world.nodes.insert(name.to_owned(), Node { labels, offers: std::collections::BTreeMap::new() });
    }

    /// Has a device plugin of a node offer units of a resource, as [`Self::add_node`] does not.
    pub fn offer(&self, node: &str, resource: &str, units: u64) {
        let mut state = self.lock();
        if let Some(of) = state.world.nodes.get_mut(node) {
            of.offers.insert(resource.to_owned(), units);
            let offers: std::collections::BTreeMap<&String, String> =
                of.offers.iter().map(|(name, units)| (name, units.to_string())).collect();
            let status = json!({"allocatable": offers, "capacity": offers});
            let place = (Kind::of("v1", "nodes"), String::new(), node.to_owned());
            state.store.set(&place, "status", status);
        }
    }

    /// Says how pods behave whose image's name holds this text.
    pub fn behaves(&self, image: &str, behaviour: Behaviour) {
        self.lock().world.behaviours.push((image.to_owned(), behaviour));
    }

    /// Takes a right away, such as `patch` of `deployments` or `get` of `pods/proxy`.
    pub fn deny(&self, verb: &str, plural: &str) {
        self.lock().denied.insert((verb.to_owned(), plural.to_owned()));
    }

    /// Accepts this token only.
    pub fn accept(&self, token: &str) {
        token.clone_into(&mut self.lock().token);
    }

    /// Adds a kind, as a custom resource definition does.
    pub fn define(&self, api: &str, kind: &str, plural: &str) {
        self.lock().custom.push((Kind::of(api, plural), kind.to_owned()));
    }

    /// Cuts the next watches in the middle of a line.
    pub fn cut_watches(&self, count: usize) {
        self.lock().cuts = count;
    }

    /// Forgets all versions before the present one, as after a compaction.
    pub fn forget_versions(&self) {
        let mut state = self.lock();
        state.store.oldest = state.store.version + 1;
        state.store.version += 1;
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Applies an object as another manager does.
    ///
    /// # Errors
    /// It has no kind or name, or fields of others.
    pub fn apply_as(&self, manager: &str, object: &Value) -> Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let kind = routes::KINDS
            .iter()
            .find(|known| known.0 == text("/apiVersion") && known.1 == text("/kind"))
            .map(|known| Kind::of(known.0, known.2));
        let Some(kind) = kind else { anyhow::bail!("the double knows no such kind") };
        let place = (kind, text("/metadata/namespace").to_owned(), text("/metadata/name").to_owned());
        let applied = self.lock().store.apply(&place, manager, object, (true, false));
        applied.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        self.settle();
        Ok(())
    }

    /// Lets everything that the cluster does by itself happen.
    pub fn settle(&self) {
        let mut state = self.lock();
        let State { store, world, .. } = &mut *state;
        // It ends: each thing goes forward only.
        while controllers::step(store, world) {}
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// An object as it is now.
    pub fn object(&self, api: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let place = (Kind::of(api, plural), namespace.to_owned(), name.to_owned());
        self.lock().store.objects.get(&place).map(store::Stored::shown)
    }

    /// Every object of the cluster, as it is now.
    pub fn objects(&self) -> Vec<Value> {
        self.lock().store.objects.values().map(store::Stored::shown).collect()
    }

    /// The names of a kind's objects.
    pub fn names(&self, api: &str, plural: &str) -> Vec<String> {
        let state = self.lock();
        state.store.of_kind(&Kind::of(api, plural)).map(|(place, _)| place.2.clone()).collect()
    }

    /// The image of the pod on each node, by node.
    pub fn images(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut images: Vec<(String, String)> = state
            .store
            .of_kind(&controllers::pods())
            .map(|(_, pod)| {
                (text(&pod.object["spec"]["nodeName"]), text(&pod.object["spec"]["containers"][0]["image"]))
            })
            .collect();
        images.sort();
        images
    }
}
