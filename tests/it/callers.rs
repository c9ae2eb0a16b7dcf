//! Callers of `mynah relay` that bring tokens of a tenant, as Event Grid does, and those that forge them.

use mynah_testkit::issuer::Issuer;
use mynah_testkit::pipelines::Pipelines;
use mynah_testkit::tokens::TENANT;
use serde_json::json;

use crate::given::Ran;
use crate::relay::{KEY, Relay, upload};

const AUDIENCE: &str = "api://mynah-relay";
const EVENT_GRID: &str = "4962773b-9cdb-44cf-a8bf-237846a00ab7";
const TRUST: [&str; 4] = ["--tenant", TENANT, "--audience", AUDIENCE];

#[test]
fn event_grid_delivers_with_a_token_and_no_key_need_be_known() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let issuer = Issuer::start().unwrap();
    let mut command = Relay::command(&pipelines, folder.path(), &TRUST);
    command.env_remove("MYNAH_RELAY_KEY").env("AZURE_AUTHORITY_HOST", issuer.url());
    let relay = Relay::of(command);
    let token = issuer.sign(0, &Issuer::header(0), &Issuer::claims(AUDIENCE, EVENT_GRID)).unwrap();
    let bearer = format!("Bearer {token}");
    let known = [("authorization", bearer.as_str())];

    let validation = json!([{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "topic": "", "subject": "", "data": {"validationCode": "512d38b6"}}]);
    let (status, said) = relay.ask("POST", "/events", &known, &validation.to_string());
    assert!(status == 200 && said.ends_with(r#"{"validationResponse":"512d38b6"}"#), "{said}");
    let origin = [known[0], ("webhook-request-origin", "eventgrid.azure.net")];
    assert_eq!(relay.ask("OPTIONS", "/events", &origin, "").0, 200);
    assert_eq!(relay.ask("POST", "/events", &known, &json!([upload("1")]).to_string()).0, 200);
    let (_, figures) = relay.ask("GET", "/metrics", &known, "");
    assert!(figures.contains("\nmynah_relay_uploads_total 1\n"), "{figures}");

    let forged = json!([upload("forged")]).to_string();
    let other = Issuer::claims(AUDIENCE, "99999999-8888-7777-6666-555555555555");
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    for (token, why) in [
        (issuer.sign(0, &Issuer::header(0), &other).unwrap(), "an application that may not deliver here"),
        (
            issuer.sign(1, &Issuer::header(1), &Issuer::claims(AUDIENCE, EVENT_GRID)).unwrap(),
            "does not publish",
        ),
        (unsigned, "signature is wrong"),
        (KEY.to_owned(), "not a json web token"),
    ] {
        let bearer = format!("Bearer {token}");
        let (status, said) = relay.ask("POST", "/events", &[("authorization", bearer.as_str())], &forged);
        assert_eq!(status, 401, "{said}");
        assert!(said.to_lowercase().contains(why) && !said.contains(&token), "{said}");
        assert!(said.contains("www-authenticate: bearer error=\"invalid_token\""), "{said}");
    }
    assert_eq!(relay.ask("POST", "/events", &[], &forged).0, 401);
    let (_, figures) = relay.ask("GET", "/metrics", &known, "");
    assert!(figures.contains("\nmynah_relay_strangers_total 5\n"), "{figures}");
    assert!(figures.contains("\nmynah_relay_uploads_total 1\n"), "{figures}");
    assert_eq!(issuer.wire.violations(), Vec::<String>::new());
}

#[test]
fn a_key_goes_on_beside_tokens_while_the_tenant_is_away() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let issuer = Issuer::start().unwrap();
    let token = issuer.sign(0, &Issuer::header(0), &Issuer::claims(AUDIENCE, EVENT_GRID)).unwrap();
    let authority = issuer.url();
    drop(issuer);
    let mut command = Relay::command(&pipelines, folder.path(), &TRUST);
    command.env("AZURE_AUTHORITY_HOST", authority);
    let relay = Relay::of(command);
    let delivery = json!([upload("1")]).to_string();
    assert_eq!(relay.ask("POST", "/events", &[("x-mynah-key", KEY)], &delivery).0, 200);
    let bearer = format!("Bearer {token}");
    let (status, said) = relay.ask("POST", "/events", &[("authorization", bearer.as_str())], &delivery);
    assert!(status == 503 && said.contains("retry-after: "), "{said}");
}

#[test]
fn half_a_trust_is_refused() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    for (more, words) in [
        (&["--tenant", TENANT][..], &["`--audience`", "is required"][..]),
        (&["--audience", AUDIENCE], &["`--audience`", "--tenant"]),
        (&["--tenant", "contoso", "--audience", AUDIENCE], &["is `contoso`", "a tenant's id"]),
    ] {
        Ran::from(Relay::command(&pipelines, folder.path(), more).output().unwrap()).ill(2, words);
    }
}
