//! Signing in to the registry while modules are built: the network and whoever checks the password take their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use mynah_contracts::Monitor;

use crate::http;
use crate::oci::reference::Repository;
use crate::registry::{self, Registry, RegistryError, SignIn, split};

/// A registry that is being signed in to. Dropped, it gives that up.
pub struct Ahead<'scope> {
    thread: ScopedJoinHandle<'scope, Result<Registry, RegistryError>>,
    wanted: Wanted,
}

/// Says that something is wanted until it is dropped.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Asks to stop when its owner does, or when nobody wants the work any more.
struct WhileWanted<'a> {
    monitor: &'a dyn Monitor,
    wanted: Arc<AtomicBool>,
}

impl Monitor for WhileWanted<'_> {
    fn progress(&self, what: &str, done: u64, total: u64) {
        self.monitor.progress(what, done, total);
    }

    fn cancelled(&self) -> bool {
        !self.wanted.load(Ordering::Relaxed) || self.monitor.cancelled()
    }
}

impl<'scope> Ahead<'scope> {
    /// Begins to sign in to the registry of `repository`, for whoever pushes there.
    pub(super) fn begin(
        scope: &'scope Scope<'scope, '_>,
        repository: Repository,
        sign_in: SignIn,
        monitor: &'scope dyn Monitor,
    ) -> Self {
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let monitor = WhileWanted { monitor, wanted: Arc::clone(&wanted.0) };
        let thread = scope.spawn(move || {
            let (name, path) = split(&repository);
            let registry = Registry::new(name, &sign_in, &monitor)?;
            // Should it fail, the push tells: it asks for the same.
            let prepared = http::block_on(&monitor, registry.prepare(&registry::Scope::push(path)));
            if let Err(error) = prepared {
                tracing::debug!("{}", mynah_contracts::error_chain(&error));
            }
            Ok(registry)
        });
        Self { thread, wanted }
    }

    /// The registry.
    ///
    /// # Errors
    /// When nobody can sign in, no connection can be prepared, or the name is none.
    pub(super) fn registry(self) -> Result<Registry, RegistryError> {
        let Self { thread, wanted } = self;
        let joined = thread.join();
        drop(wanted);
        joined.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    }
}
