//! What the tests of pushing and pulling share: an image, a client that does not wait long, guards.

mod pull;
mod push;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::{Diagnosis as _, FaultKind, Platform, Quiet, Sha256Digest, error_chain};
use mynah_testkit::faults::Fault as WireFault;
use mynah_testkit::registry::{Fault, Guard, Mishap, Registry as Double, Stage};

use super::blobs::Repository;
use super::push::Homes;
use super::session::{Pace, Scope};
use super::{Attachment, Listing, Moved, Registry, RegistryError, RegistryImages, SignIn};
use crate::agent::Env;
use crate::http::{Client, Policy, block_on};
use crate::oci::base::BaseImages as _;
use crate::oci::layer::{Layer, Owner, Source};
use crate::oci::layer_cache::LayerCache;
use crate::oci::layout::LayoutWriter;
use crate::oci::spec::{
    Descriptor, History, ImageConfig, Index, Manifest, RootFs, RunConfig, canonical, media_type,
};

const REPOSITORY: &str = "mynah/runtime";

/// An image of two layers in a layout.
struct Image {
    folder: tempfile::TempDir,
    index: Descriptor,
    layers: Vec<Descriptor>,
}

/// An image whose upper layer holds `model`.
fn image(model: &[u8]) -> Image {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut layout = LayoutWriter::open(folder.path()).unwrap();
    let contents = [("program", b"the program".as_slice()), ("model", model)].map(|(name, bytes)| {
        let mut layer = Layer::new(Owner::ROOT, 0);
        layer.add_file(name, 0o644, Source::Bytes(bytes.to_vec())).unwrap();
        layer
    });
    let added = layout.add_layers(&contents, &LayerCache::new(cache.path())).unwrap();
    let diff_ids = added.iter().map(|(_, written)| written.diff_id).collect();
    let layers: Vec<_> = added.into_iter().map(|(descriptor, _)| descriptor).collect();
    let config = ImageConfig {
        created: None,
        author: None,
        platform: Platform::LinuxAmd64.into(),
        config: RunConfig::default(),
        rootfs: RootFs { kind: "layers".into(), diff_ids },
        history: Vec::<History>::new(),
    };
    let config = layout.add_document(media_type::CONFIG, &canonical(&config)).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config,
        layers: layers.clone(),
        annotations: BTreeMap::new(),
    };
    let mut descriptor = layout.add_document(media_type::MANIFEST, &canonical(&manifest)).unwrap();
    descriptor.platform = Some(Platform::LinuxAmd64.into());
    let index = Index::new(vec![descriptor], BTreeMap::new());
    let index = layout.add_document(media_type::INDEX, &canonical(&index)).unwrap();
    layout.finish(index.clone(), "1").unwrap();
    Image { folder, index, layers }
}

/// Bytes that do not shrink, the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}

/// A client that does not wait long, and sends chunks of 1,000 bytes.
fn registry(double: &Double, env: &[(&str, &str)]) -> Registry {
    let sign_in = SignIn::new(env.iter().copied().collect::<Env>(), None, false);
    let mut registry = Registry::new(&double.host(), &sign_in, &Quiet).unwrap();
    let policy = Policy { first_wait: Duration::from_millis(1), tries: 3, ..Policy::default() };
    let credentials = sign_in
        .credentials(&registry.session.address, &Client::new(Policy::default()).unwrap(), &Quiet)
        .unwrap();
    registry.session =
        super::Session::new(Client::new(policy).unwrap(), registry.session.address.clone(), credentials);
    registry.session.pace = Pace { chunk: 1000, first_wait: Duration::from_millis(1) };
    registry
}

fn push(registry: &Registry, image: &Image, tag: &str) -> Result<Moved, RegistryError> {
    push_to(registry, image, REPOSITORY, tag, &Homes::new())
}

/// Pushes without company.
fn push_to(
    registry: &Registry,
    image: &Image,
    repository: &str,
    tag: &str,
    homes: &Homes,
) -> Result<Moved, RegistryError> {
    let outgoing = registry.outgoing(image.folder.path(), &image.index, repository, tag, homes)?;
    let alone = async { Ok((Moved::default(), async { Ok(Moved::default()) })) };
    block_on(&Quiet, outgoing.push(alone, &Quiet))
}

/// The registry gives the image back, layer by layer.
fn arrived(double: &Double, image: &Image, tag: &str) {
    assert_eq!(Sha256Digest::of(&double.manifest(REPOSITORY, tag).unwrap().1), image.index.digest);
    for layer in &image.layers {
        assert_eq!(double.blob(REPOSITORY, layer.digest).unwrap().len() as u64, layer.size);
    }
}

const USER: [(&str, &str); 2] =
    [("MYNAH_REGISTRY_USER", "ada"), ("MYNAH_REGISTRY_PASSWORD", "pass-word-1815")];

fn basic() -> Guard {
    Guard::basic("ada", "pass-word-1815")
}

fn bearer(anonymous_pull: bool) -> Guard {
    Guard::Bearer { user: "ada".into(), password: "pass-word-1815".into(), anonymous_pull }
}
