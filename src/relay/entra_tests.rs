//! Tokens of a tenant that signs them itself, whole and bent.

use mynah_testkit::faults::Fault;
use mynah_testkit::issuer::{Issuer, PERSONAL};
use mynah_testkit::tokens::TENANT;
use serde_json::{Value, json};

use super::*;
use crate::http::Policy;
use crate::relay::OPTIONS;

const AUDIENCE: &str = "api://mynah-relay";
const LONG: Duration = Duration::from_hours(1);

fn trust(pairs: &[(&'static str, &str)], authority: &str) -> Result<Option<Trust>, InputError> {
    let pairs = pairs.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Trust::read(&Inputs::from_pairs(OPTIONS, pairs), &Env::from_iter([("AZURE_AUTHORITY_HOST", authority)]))
}

fn entra(issuer: &Issuer, ask_again: Duration) -> Entra {
    let trust = trust(&[("tenant", TENANT), ("audience", "0-1, api://mynah-relay")], &issuer.url());
    Entra::asking_after(ask_again, trust.unwrap().unwrap(), Client::new(Policy::default()).unwrap())
}

fn judge(entra: &Entra, token: &str) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(entra.judge(token))
}

/// A token whose claims were changed before it was signed.
fn bent(issuer: &Issuer, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = Issuer::claims(AUDIENCE, EVENT_GRID);
    change(&mut claims);
    issuer.sign(0, &Issuer::header(0), &claims).unwrap()
}

#[test]
fn tokens_of_both_versions_are_trusted() {
    let issuer = Issuer::start().unwrap();
    let entra = entra(&issuer, LONG);
    for claims in [Issuer::claims(AUDIENCE, EVENT_GRID), Issuer::claims_of_second_version("0-1", EVENT_GRID)]
    {
        assert_eq!(judge(&entra, &issuer.sign(0, &Issuer::header(0), &claims).unwrap()), Verdict::Trusted);
    }
    let several = bent(&issuer, |claims| claims["aud"] = json!(["api://other", AUDIENCE]));
    assert_eq!(judge(&entra, &several), Verdict::Trusted);
    // A clock that is a little behind.
    let expired = bent(&issuer, |claims| claims["exp"] = (claims["iat"].as_u64().unwrap() - 60).into());
    assert_eq!(judge(&entra, &expired), Verdict::Trusted);
    // Two descriptions and two lists of keys, once for all.
    assert_eq!(issuer.wire.exchanges().len(), 4);
    assert_eq!(issuer.wire.violations(), Vec::<String>::new());
}

#[test]
fn what_is_bent_is_denied_for_what_is_wrong_with_it() {
    let issuer = Issuer::start().unwrap();
    let entra = entra(&issuer, LONG);
    let other = "99999999-8888-7777-6666-555555555555";
    let claims = Issuer::claims(AUDIENCE, EVENT_GRID);
    let now = claims["iat"].as_u64().unwrap();
    let good = bent(&issuer, |_| {});
    let signed = |key: usize, change: &dyn Fn(&mut Value)| {
        let mut header = Issuer::header(key);
        change(&mut header);
        issuer.sign(key, &header, &claims).unwrap()
    };
    let (head, signature) = good.rsplit_once('.').unwrap();
    let others = bent(&issuer, |claims| claims["sub"] = "me".into());
    let (_, other_signature) = others.rsplit_once('.').unwrap();
    let second = Issuer::claims_of_second_version(AUDIENCE, EVENT_GRID);
    let personal = issuer.sign(1, &json!({"alg": "RS256", "kid": PERSONAL}), &second).unwrap();
    for (token, denied) in [
        (String::new(), Denied::Malformed),
        ("a.b.c".into(), Denied::Malformed),
        (head.to_owned(), Denied::Malformed),
        (format!("{good}="), Denied::Malformed),
        (format!("{head}{}.{signature}", "A".repeat(LONGEST)), Denied::Malformed),
        (signed(0, &|header| header["crit"] = json!(["b64"])), Denied::Malformed),
        (signed(0, &|header| header["kid"] = Value::Null), Denied::Malformed),
        (signed(0, &|header| header["alg"] = "none".into()), Denied::Algorithm),
        (signed(0, &|header| header["alg"] = "HS256".into()), Denied::Algorithm),
        (format!("{head}."), Denied::Signature),
        (format!("{head}.{other_signature}"), Denied::Signature),
        (signed(1, &|header| header["kid"] = Issuer::header(0)["kid"].clone()), Denied::Signature),
        (signed(1, &|_| {}), Denied::Key),
        (personal, Denied::Key),
        (
            bent(&issuer, |claims| claims["iss"] = format!("https://sts.windows.net/{other}/").into()),
            Denied::Issuer,
        ),
        (bent(&issuer, |claims| claims["tid"] = other.into()), Denied::Tenant),
        (bent(&issuer, |claims| claims["tid"] = Value::Null), Denied::Tenant),
        (bent(&issuer, |claims| claims["aud"] = "api://other".into()), Denied::Audience),
        (bent(&issuer, |claims| claims["appid"] = other.into()), Denied::Caller),
        (bent(&issuer, |claims| claims["appid"] = Value::Null), Denied::Caller),
        (bent(&issuer, |claims| claims["exp"] = (now - 400).into()), Denied::Expired),
        (bent(&issuer, |claims| claims["nbf"] = (now + 3000).into()), Denied::NotYet),
    ] {
        assert_eq!(judge(&entra, &token), Verdict::Denied(denied), "{token}");
    }
    assert_eq!(judge(&entra, &good), Verdict::Trusted);
}

#[test]
fn a_new_key_is_fetched_and_strangers_cannot_have_it_fetched_often() {
    let issuer = Issuer::start().unwrap();
    let by_second = issuer.sign(1, &Issuer::header(1), &Issuer::claims(AUDIENCE, EVENT_GRID)).unwrap();
    let patient = entra(&issuer, LONG);
    for _ in 0..5 {
        assert_eq!(judge(&patient, &by_second), Verdict::Denied(Denied::Key));
    }
    assert_eq!(issuer.wire.count("GET", "/discovery/v2.0/keys"), 1);

    let eager = entra(&issuer, Duration::ZERO);
    assert_eq!(judge(&eager, &by_second), Verdict::Denied(Denied::Key));
    issuer.publish(&[1]);
    assert_eq!(judge(&eager, &by_second), Verdict::Trusted);
    // What was withdrawn is trusted no more.
    let by_first = bent(&issuer, |_| {});
    assert_eq!(judge(&eager, &by_first), Verdict::Denied(Denied::Key));
}

#[test]
fn without_keys_nobody_is_denied_and_nobody_let_in() {
    let issuer = Issuer::start().unwrap();
    let gone = Fault::Refuse { status: 404, retry_after: None };
    issuer.wire.faults.script("GET", "/**", gone.clone(), 1);
    let entra = entra(&issuer, Duration::ZERO);
    let good = bent(&issuer, |_| {});
    assert_eq!(judge(&entra, &good), Verdict::Unknown);
    assert_eq!(judge(&entra, &good), Verdict::Trusted);
    // Once known, they serve while the tenant is away.
    issuer.wire.faults.script("GET", "/**", gone, 1);
    let unknown = issuer.sign(1, &Issuer::header(1), &Issuer::claims(AUDIENCE, EVENT_GRID)).unwrap();
    assert_eq!(judge(&entra, &unknown), Verdict::Denied(Denied::Key));
    assert_eq!(judge(&entra, &good), Verdict::Trusted);
}

#[test]
fn options_that_name_nobody_are_refused() {
    let authority = "https://login.microsoftonline.com";
    assert_eq!(trust(&[], authority).unwrap(), None);
    let said = trust(&[("tenant", TENANT), ("audience", AUDIENCE)], authority).unwrap().unwrap();
    assert_eq!(said.to_string(), format!("{EVENT_GRID} of tenant {TENANT}, for {AUDIENCE}"));
    for pairs in [
        &[("audience", AUDIENCE)][..],
        &[("tenant", TENANT)],
        &[("tenant", "contoso.com"), ("audience", AUDIENCE)],
        &[("tenant", TENANT), ("audience", AUDIENCE), ("callers", "Event Grid")],
    ] {
        assert!(trust(pairs, authority).is_err(), "{pairs:?}");
    }
}
