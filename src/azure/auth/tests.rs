//! Signing in, against a double of the token endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mynah_contracts::{Cancelled, Diagnosis as _, FaultKind, Quiet, error_chain};
use mynah_testkit::faults::Fault;
use mynah_testkit::tokens::{
    CLIENT_ID, CLIENT_SECRET, CONNECTION, EXPIRED_SECRET, IDENTITY_HEADER, JOB_TOKEN, TENANT, TokenService,
};
use rustls::crypto::ring::default_provider;

use super::certificate::Certificate;
use super::*;
use crate::http::{HttpError, Policy, block_on};

/// An RSA key and its certificate, made for these tests.
const PEM: &str = include_str!("fixture.pem");

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

type Pairs<'a> = Vec<(String, &'a str)>;

fn client() -> Client {
    Client::new(Policy { first_wait: Duration::from_millis(1), ..Policy::default() }).unwrap()
}

fn tokens(env: &Env, connection: Option<&str>, scopes: &[&str]) -> Result<Vec<String>, AuthError> {
    let source = TokenSource::discover(env, &client(), connection)?;
    let fetched = block_on::<_, Ended>(&Quiet, async {
        let mut tokens = Vec::new();
        for scope in scopes {
            tokens.push(source.token(scope).await?.expose().to_owned());
        }
        Ok(tokens)
    });
    fetched.map_err(|ended| match ended {
        Ended::Auth(error) => error,
        other => panic!("{other}"),
    })
}

fn token(env: &Env, connection: Option<&str>) -> Result<String, AuthError> {
    tokens(env, connection, &[scope::STORAGE]).map(|mut tokens| tokens.remove(0))
}

/// An environment with a service connection of this scheme and these parameters.
fn connection<'a>(service: &TokenService, scheme: &'a str, parameters: &[(&str, &'a str)]) -> Env {
    let mut pairs: Pairs<'a> = vec![(format!("ENDPOINT_AUTH_SCHEME_{CONNECTION}"), scheme)];
    pairs.push((format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_TENANTID"), TENANT));
    pairs.push((format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_SERVICEPRINCIPALID"), CLIENT_ID));
    for (key, value) in parameters {
        pairs.push((format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_{key}"), value));
    }
    let authority = service.url();
    let oidc = format!("{authority}/oidc");
    pairs
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .chain([
            (format!("ENDPOINT_DATA_{CONNECTION}_ENVIRONMENTAUTHORITYURL"), authority.clone()),
            ("SYSTEM_OIDCREQUESTURI".to_owned(), oidc),
            ("SYSTEM_ACCESSTOKEN".to_owned(), JOB_TOKEN.to_owned()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned(), authority),
        ])
        .collect()
}

fn application(service: &TokenService, more: &[(&str, &str)]) -> Env {
    let authority = service.url();
    let base = [
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
    ];
    base.iter().chain(more).copied().collect()
}

fn thumbprint() -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use sha2::Digest as _;
    let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(&der))
}

#[test]
fn every_kind_of_service_connection_signs_in() {
    let service = TokenService::start(0).unwrap();
    service.trust(&thumbprint());
    let certificate = [("AUTHENTICATIONTYPE", "spnCertificate"), ("SERVICEPRINCIPALCERTIFICATE", PEM)];
    for env in [
        connection(&service, "WorkloadIdentityFederation", &[]),
        connection(&service, "ServicePrincipal", &[("SERVICEPRINCIPALKEY", CLIENT_SECRET)]),
        connection(&service, "", &[("SERVICEPRINCIPALKEY", CLIENT_SECRET)]),
        connection(&service, "ServicePrincipal", &certificate),
        connection(&service, "ManagedServiceIdentity", &[]),
    ] {
        let token = token(&env, Some(&CONNECTION.to_uppercase())).unwrap();
        assert!(service.gave(&token, scope::STORAGE));
    }
    assert_eq!(service.wire.violations(), [""; 0]);
}

#[test]
fn the_environment_signs_in() {
    let service = TokenService::start(0).unwrap();
    service.trust(&thumbprint());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pem = write("app.pem", PEM);
    let federated = write("token", &format!("{}\n", service.federated_token()));
    let app_service = format!("{}/app-service/token", service.url());
    let metadata = service.url();
    for env in [
        application(&service, &[("AZURE_CLIENT_SECRET", CLIENT_SECRET)]),
        application(&service, &[("AZURE_CLIENT_CERTIFICATE_PATH", &pem)]),
        application(&service, &[("AZURE_FEDERATED_TOKEN_FILE", &federated)]),
        Env::from_iter([("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.as_str())]),
        Env::from_iter([
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.as_str()),
            ("AZURE_CLIENT_ID", CLIENT_ID),
        ]),
        Env::from_iter([("IDENTITY_ENDPOINT", app_service.as_str()), ("IDENTITY_HEADER", IDENTITY_HEADER)]),
    ] {
        let token = token(&env, None).unwrap();
        assert!(service.gave(&token, scope::STORAGE));
    }
    assert_eq!(service.wire.violations(), [""; 0]);
}

#[test]
fn a_token_is_kept_until_it_is_about_to_end() {
    let service = TokenService::start(0).unwrap();
    let env = application(&service, &[("AZURE_CLIENT_SECRET", CLIENT_SECRET)]);
    let all = tokens(&env, None, &[scope::STORAGE, scope::IOT_HUB, scope::STORAGE, scope::IOT_HUB]).unwrap();
    assert_eq!((&all[0], &all[1]), (&all[2], &all[3]));
    assert_ne!(all[0], all[1]);
    assert!(service.gave(&all[1], scope::IOT_HUB));
    service.set_life(200);
    let all = tokens(&env, None, &[scope::STORAGE, scope::STORAGE]).unwrap();
    assert_ne!(all[0], all[1]);
}

#[test]
fn a_busy_tenant_is_asked_again() {
    let service = TokenService::start(0).unwrap();
    let busy = Fault::Refuse { status: 503, retry_after: Some(0) };
    service.wire.faults.script("POST", "/*/oauth2/v2.0/token", busy, 2);
    service.wire.faults.script("POST", "/oidc", Fault::Cut, 1);
    assert!(token(&connection(&service, "WorkloadIdentityFederation", &[]), Some(CONNECTION)).is_ok());
    assert_eq!(service.wire.faults.left(), 0);
}

/// The text and the hint of a sign-in that must fail.
fn refused(env: &Env, connection: Option<&str>) -> (AuthError, String) {
    let error = token(env, connection).unwrap_err();
    let text = format!("{}. {}", error_chain(&error), error.hint().unwrap_or_default());
    (error, text)
}

#[test]
fn each_refusal_says_what_to_do_and_no_secret() {
    let service = TokenService::start(0).unwrap();
    let wrong = "wrong~client.secret";
    for (env, part) in [
        (application(&service, &[("AZURE_CLIENT_SECRET", wrong)]), "the secret's value, not its id"),
        (application(&service, &[("AZURE_CLIENT_SECRET", EXPIRED_SECRET)]), "has expired; make a new one"),
        (
            application(&service, &[("AZURE_CLIENT_SECRET", wrong), ("AZURE_TENANT_ID", "other.example")]),
            "there is no such tenant",
        ),
        (
            application(&service, &[("AZURE_CLIENT_SECRET", wrong), ("AZURE_CLIENT_ID", "other")]),
            "does not know this application",
        ),
    ] {
        let (error, text) = refused(&env, None);
        assert_eq!(error.kind(), FaultKind::ServiceRefused);
        assert!(text.contains(part) && text.contains("as the application `"), "{text}");
        assert!(!text.contains(wrong) && !text.contains(EXPIRED_SECRET), "{text}");
    }
    let (_, text) = refused(
        &connection(&service, "WorkloadIdentityFederation", &[("TENANTID", "other.example")]),
        Some(CONNECTION),
    );
    assert!(text.contains(&format!("as the service connection `{CONNECTION}`")), "{text}");
}

#[test]
fn what_is_incomplete_is_told_before_anything_is_sent() {
    let service = TokenService::start(0).unwrap();
    let no_key = connection(&service, "ServicePrincipal", &[]);
    let no_certificate = [("AUTHENTICATIONTYPE", "spnCertificate"), ("SERVICEPRINCIPALCERTIFICATE", "none")];
    let ec_key = format!("{}{}", include_str!("fixture_ec.pem"), PEM);
    let ec = [("AUTHENTICATIONTYPE", "spnCertificate"), ("SERVICEPRINCIPALCERTIFICATE", ec_key.as_str())];
    let not_ours = connection(&service, "PublishProfile", &[]);
    let no_job_token = Env::from_iter([
        (format!("ENDPOINT_AUTH_SCHEME_{CONNECTION}").as_str(), "WorkloadIdentityFederation"),
        (format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_TENANTID").as_str(), TENANT),
        (format!("ENDPOINT_AUTH_PARAMETER_{CONNECTION}_SERVICEPRINCIPALID").as_str(), CLIENT_ID),
    ]);
    for (env, part) in [
        (Env::default(), "not known to this job. name the service connection"),
        (no_key, "has no `SERVICEPRINCIPALKEY`"),
        (connection(&service, "ServicePrincipal", &no_certificate), "holds no certificate"),
        (connection(&service, "ServicePrincipal", &ec), "is no RSA key"),
        (not_ours, "signs in by `PublishProfile`, which is not supported"),
        (
            connection(&service, "ServicePrincipal", &[("TENANTID", "a/b"), ("SERVICEPRINCIPALKEY", "k")]),
            "`a/b`",
        ),
        (no_job_token, "has no `SYSTEM_ACCESSTOKEN`"),
    ] {
        let (error, text) = refused(&env, Some(CONNECTION));
        assert_eq!(error.kind(), FaultKind::BadInput, "{text}");
        assert!(text.contains(part), "{text}");
    }
    assert!(service.wire.exchanges().is_empty());
}

#[test]
fn an_assertions_signature_is_the_certificates() {
    let certificate = Certificate::read(PEM, "me").unwrap();
    let assertion = certificate.assertion(CLIENT_ID, "https://login.example/t", "me").unwrap();
    let (text, signature) = assertion.expose().rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = certificate.public_key();
    // The algorithm's key is the content of the certificate's: 24 bytes of wrapping come first for 2048 bits.
    let verify = |text: &str| {
        default_provider()
            .signature_verification_algorithms
            .all
            .iter()
            .filter(|algorithm| {
                algorithm.signature_alg_id() == rustls::pki_types::alg_id::RSA_PSS_SHA256
                    && algorithm.public_key_alg_id() == rustls::pki_types::alg_id::RSA_ENCRYPTION
            })
            .any(|algorithm| algorithm.verify_signature(&key[24..], text.as_bytes(), &signature).is_ok())
    };
    assert!(verify(text));
    assert!(!verify(&text.replace('.', "_")));
    let header: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["x5t#S256"], thumbprint());
}
