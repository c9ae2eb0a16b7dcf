//! How the device asks others over HTTP: the one configuration of the client, with ring for TLS.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::typestate::AgentScope;

/// A client's configuration; everything together may take `time`.
pub(crate) fn config(time: Duration) -> ConfigBuilder<AgentScope> {
    install_provider();
    let tls = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots()).build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(time))
        .user_agent(concat!("mynah-runtime/", env!("CARGO_PKG_VERSION")))
}

/// Has TLS done by ring, for this process.
pub(crate) fn install_provider() {
    // The error says that another thread was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates this machine trusts; none where it has no list of them.
fn roots() -> RootCerts {
    static ROOTS: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        Arc::new(
            found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect(),
        )
    });
    RootCerts::Specific(roots.clone())
}
