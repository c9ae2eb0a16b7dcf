//! `mynah relay` as Event Grid meets it, before a strict double of Azure Pipelines.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mynah_testkit::caller::Caller;
use mynah_testkit::faults::Fault;
use mynah_testkit::pipelines::{PIPELINE, PROJECT, Pipelines, READING_TOKEN, Status, TOKEN};
use mynah_testkit::tokens::{CLIENT_ID, CLIENT_SECRET, TENANT, TokenService};
use serde_json::{Value, json};

use crate::given::{Ran, binary};

pub(crate) const KEY: &str = "key-of-the-relay-9411-0815";
const TOPIC: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/photos9411";

/// A relay at work; it is killed when it is dropped.
pub(crate) struct Relay {
    child: Child,
    address: String,
    path: String,
}

impl Relay {
    pub(crate) fn command(pipelines: &Pipelines, state: &Path, more: &[&str]) -> Command {
        let mut command = binary("mynah");
        command
            .args(["relay", "--source", "https://photos9411.blob.core.windows.net/in"])
            .args(["--organization", &pipelines.organization(), "--project", PROJECT])
            .args(["--pipeline", &PIPELINE.to_string(), "--listen", "127.0.0.1:0"])
            .arg("--state")
            .arg(state)
            .args(more)
            .env("MYNAH_RELAY_KEY", KEY)
            .env("AZURE_DEVOPS_EXT_PAT", TOKEN);
        command
    }

    fn start(pipelines: &Pipelines, state: &Path, more: &[&str]) -> Self {
        Self::of(Self::command(pipelines, state, more))
    }

    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let place =
            line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("it said {line}"));
        let (address, path) = place.split_once('/').unwrap();
        Self { child, address: address.to_owned(), path: format!("/{path}") }
    }

    fn line(&self) -> Caller {
        Caller::connect(&self.address).unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        self.line().ask(method, path, headers, body).unwrap()
    }

    fn deliver(&self, events: &Value) -> u16 {
        self.ask("POST", &self.path, &[("x-mynah-key", KEY)], &events.to_string()).0
    }

    fn figure(&self, name: &str) -> u64 {
        let path = self.path.replace("events", "metrics");
        let (status, text) = self.ask("GET", &path, &[("authorization", &format!("Bearer {KEY}"))], "");
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn upload(id: &str) -> Value {
    json!({
        "topic": TOPIC, "subject": "/blobServices/default/containers/in/blobs/cat/1.jpg", "id": id,
        "eventType": "Microsoft.Storage.BlobCreated", "eventTime": "2026-11-23T10:00:00Z",
        "data": {"api": "PutBlob", "contentLength": 7}, "dataVersion": "", "metadataVersion": "1"
    })
}

/// Waits for a condition; a loaded machine is slow, so the limit is far off.
#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sound(pipelines: &Pipelines) {
    assert_eq!(pipelines.wire.violations(), Vec::<String>::new());
}

#[test]
fn ten_thousand_uploads_in_a_burst_are_at_most_two_runs() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    pipelines.start_at_once(true);
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "1", "--max-wait", "600"]);
    std::thread::scope(|scope| {
        for caller in 0..20 {
            let relay = &relay;
            scope.spawn(move || {
                let mut line = relay.line();
                for batch in 0..50 {
                    let events: Vec<Value> =
                        (0..10).map(|at| upload(&format!("{caller}-{batch}-{at}"))).collect();
                    let (status, said) = line
                        .ask("POST", "/events", &[("x-mynah-key", KEY)], &json!(events).to_string())
                        .unwrap();
                    assert_eq!(status, 200, "{said}");
                }
            });
        }
    });
    assert_eq!(relay.figure("mynah_relay_uploads_total"), 10_000);
    wait_for("a run for all", || relay.figure("mynah_relay_pending") == 0);
    let runs = pipelines.runs().len();
    assert!((1..=2).contains(&runs), "{runs} runs");

    // All of them again, in another order, as a caller does that missed the answers.
    let again: Vec<Value> = (0..50).rev().map(|batch| upload(&format!("3-{batch}-7"))).collect();
    assert_eq!(relay.deliver(&json!(again)), 200);
    assert_eq!(relay.figure("mynah_relay_duplicates_total"), 50);
    assert_eq!(relay.figure("mynah_relay_pending"), 0);
    sound(&pipelines);
}

#[test]
fn kills_lose_no_upload_that_was_acknowledged() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "3600", "--max-wait", "3600"]);
        let known = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|caller| {
                    let mut line = relay.line();
                    scope.spawn(move || {
                        let mut known = Vec::new();
                        for number in 0.. {
                            let id = format!("{round}-{caller}-{number}");
                            let body = json!([upload(&id)]).to_string();
                            let head = format!(
                                "POST /events HTTP/1.1\r\nhost: relay\r\nx-mynah-key: {KEY}\r\ncontent-length: {}\r\n\r\n",
                                body.len()
                            );
                            // Killed in between.
                            if line.send(&(head + &body)).is_err() {
                                break;
                            }
                            match line.answer() {
                                Ok((status, _)) => assert_eq!(status, 200),
                                Err(_) => break,
                            }
                            known.push(id);
                        }
                        known
                    })
                })
                .collect();
            wait_for("some uploads", || relay.figure("mynah_relay_uploads_total") > 50);
            relay.kill();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(known.len() > 20, "round {round} acknowledged {}", known.len());
        acknowledged.extend(known);
    }
    assert!(pipelines.runs().is_empty());
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "2"]);
    wait_for("the journal", || relay.figure("mynah_relay_standby") == 0);
    // Every one is known: delivered again, none is new.
    let events: Vec<Value> = acknowledged.iter().map(|id| upload(id)).collect();
    assert_eq!(relay.deliver(&json!(events)), 200);
    assert_eq!(relay.figure("mynah_relay_uploads_total"), 0);
    assert_eq!(relay.figure("mynah_relay_duplicates_total"), acknowledged.len() as u64);
    wait_for("a run for all", || relay.figure("mynah_relay_pending") == 0);
    assert_eq!(pipelines.runs().len(), 1);
    sound(&pipelines);
}

#[test]
fn a_run_that_was_queued_before_a_kill_is_found_again() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    pipelines.start_at_once(true);
    pipelines.add("refs/heads/main", Status::Completed, &[]);
    // The service does its work, and its answer takes long enough for a kill to come first.
    let slow = Fault::Slow { pause: Duration::from_secs(20) };
    pipelines.wire.faults.script("POST", "/**", slow, 1);
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "0"]);
    assert_eq!(relay.deliver(&json!([upload("1")])), 200);
    wait_for("the run", || pipelines.runs().len() == 2);
    relay.kill();
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "0"]);
    wait_for("the run to be found", || {
        relay.figure("mynah_relay_standby") == 0 && relay.figure("mynah_relay_pending") == 0
    });
    assert_eq!(pipelines.runs().len(), 2);
    assert_eq!(relay.figure("mynah_relay_runs_joined_total"), 1);
    sound(&pipelines);
}

#[test]
fn a_run_that_waits_is_joined_and_one_of_other_work_is_not() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    pipelines.add("refs/heads/other", Status::NotStarted, &[]);
    pipelines.add("refs/heads/main", Status::NotStarted, &[("force", "false")]);
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "0", "--parameters", "force=true"]);
    let handed = |relay: &Relay| relay.figure("mynah_relay_pending") == 0;
    assert_eq!(relay.deliver(&json!([upload("1")])), 200);
    wait_for("a run", || handed(&relay));
    let runs = pipelines.runs();
    assert_eq!(runs.len(), 3);
    assert_eq!((runs[2].branch.as_str(), runs[2].parameters["force"].as_str()), ("refs/heads/main", "true"));
    // It still waits, so it sees this one too.
    assert_eq!(relay.deliver(&json!([upload("2")])), 200);
    wait_for("the run to be joined", || handed(&relay));
    assert_eq!(pipelines.runs().len(), 3);
    // It has started, and may not see this one.
    pipelines.advance(Status::InProgress);
    assert_eq!(relay.deliver(&json!([upload("3")])), 200);
    wait_for("another run", || handed(&relay));
    assert_eq!(pipelines.runs().len(), 4);
    sound(&pipelines);
}

#[test]
fn refusals_lose_nothing_and_a_lost_answer_makes_no_second_run() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    pipelines.start_at_once(true);
    pipelines.wire.faults.script("GET", "/**", Fault::Refuse { status: 403, retry_after: None }, 1);
    pipelines.wire.faults.script("POST", "/**", Fault::Lose { status: 500 }, 1);
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "0"]);
    assert_eq!(relay.deliver(&json!([upload("1")])), 200);
    wait_for("the run", || relay.figure("mynah_relay_pending") == 0);
    assert_eq!(pipelines.runs().len(), 1, "a lost answer made another run");
    assert_eq!(relay.figure("mynah_relay_service_failures_total"), 2);
    assert_eq!(relay.figure("mynah_relay_problem"), 0);
    sound(&pipelines);
}

#[test]
fn both_handshakes_are_answered_and_strangers_are_not() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let mut command = Relay::command(&pipelines, folder.path(), &[]);
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
    let relay = Relay::of(command);
    assert_eq!(
        (relay.address.as_str(), relay.path.as_str()),
        (format!("127.0.0.1:{port}").as_str(), "/api/events")
    );
    let keyed = format!("{}?key={KEY}", relay.path);
    let validation = json!([{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "topic": TOPIC, "subject": "", "data": {"validationCode": "512d38b6-c7b8-40c8", "validationUrl": "https://x.example"}}]);
    let (status, said) =
        relay.ask("POST", &keyed, &[("aeg-event-type", "SubscriptionValidation")], &validation.to_string());
    assert_eq!(status, 200);
    assert!(said.ends_with(r#"{"validationResponse":"512d38b6-c7b8-40c8"}"#), "{said}");
    let origin = [("webhook-request-origin", "eventgrid.azure.net")];
    let (status, said) = relay.ask("OPTIONS", &keyed, &origin, "");
    assert_eq!(status, 200);
    assert!(said.contains("webhook-allowed-origin: eventgrid.azure.net\r\n"), "{said}");
    assert_eq!(relay.ask("OPTIONS", &keyed, &[], "").0, 400);

    let forged = json!([upload("forged")]).to_string();
    for (path, headers) in [
        (relay.path.clone(), &[][..]),
        (format!("{}?key=key-of-the-relay-9411-0816", relay.path), &[]),
        (relay.path.clone(), &[("x-mynah-key", "")]),
        (relay.path.clone(), &[("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")]),
    ] {
        let (status, said) = relay.ask("POST", &path, headers, &forged);
        assert_eq!(status, 401, "{path}");
        assert!(!said.contains(KEY));
    }
    assert_eq!(relay.ask("OPTIONS", &relay.path, &origin, "").0, 401);
    assert_eq!(relay.ask("GET", "/api/metrics", &[], "").0, 401);
    assert_eq!(relay.ask("GET", "/api/healthz", &[], "").0, 200);
    assert_eq!(relay.figure("mynah_relay_strangers_total"), 6);
    assert_eq!(relay.figure("mynah_relay_uploads_total"), 0);
}

#[test]
fn bad_deliveries_are_told_and_take_no_others_with_them() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let relay = Relay::start(&pipelines, folder.path(), &["--quiet-for", "3600", "--max-wait", "3600"]);
    let ask = |body: &str| relay.ask("POST", "/events", &[("x-mynah-key", KEY)], body);
    for (body, words) in [
        ("", "the body is not json"),
        ("{\"a\":", "the body is not json"),
        ("[1]", "neither an event nor a list of events"),
        ("[{\"eventType\":\"a\"}]", "event 1 has no `id`"),
    ] {
        let (status, said) = ask(body);
        assert_eq!(status, 400, "{body}");
        assert!(said.to_lowercase().contains(words), "{said}");
    }
    // Nobody reads what is announced as too large.
    let mut line = relay.line();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: relay\r\nx-mynah-key: {KEY}\r\ncontent-length: 999999999\r\n\r\n"
    );
    line.send(&head).unwrap();
    assert_eq!(line.answer().unwrap().0, 413);
    // One that sends its head and never its body is let go, and others are served meanwhile.
    let mut slow = relay.line();
    slow.send(&head.replace("999999999", "9")).unwrap();
    let mut other = upload("2");
    other["subject"] = json!("/blobServices/default/containers/in/blobs/cat/notes.txt");
    assert_eq!(relay.deliver(&json!([other, upload("1")])), 200);
    assert_eq!(relay.figure("mynah_relay_ignored_total"), 1);
    assert_eq!(relay.figure("mynah_relay_pending"), 1);
    assert_eq!(slow.answer().unwrap().0, 408);
    assert_eq!(relay.ask("GET", "/", &[], "").0, 404);
}

#[test]
fn a_second_relay_waits_until_the_first_has_ended() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let waits = ["--quiet-for", "3600", "--max-wait", "3600"];
    let first = Relay::start(&pipelines, folder.path(), &waits);
    assert_eq!(first.deliver(&json!([upload("1")])), 200);
    let second = Relay::start(&pipelines, folder.path(), &waits);
    assert_eq!(second.ask("GET", "/healthz", &[], "").0, 200);
    assert_eq!(second.figure("mynah_relay_standby"), 1);
    assert_eq!(second.deliver(&json!([upload("2")])), 503);
    first.kill();
    wait_for("the second to take over", || second.figure("mynah_relay_standby") == 0);
    assert_eq!(second.deliver(&json!([upload("2")])), 200);
    assert_eq!(second.figure("mynah_relay_pending"), 2);
}

#[test]
fn it_signs_in_as_a_service_principal_and_ends_well_when_asked() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let tokens = TokenService::start(0).unwrap();
    let mut command = Relay::command(&pipelines, folder.path(), &["--quiet-for", "0"]);
    command
        .env_remove("AZURE_DEVOPS_EXT_PAT")
        .env("AZURE_AUTHORITY_HOST", tokens.url())
        .env("AZURE_TENANT_ID", TENANT)
        .env("AZURE_CLIENT_ID", CLIENT_ID)
        .env("AZURE_CLIENT_SECRET", CLIENT_SECRET);
    let mut relay = Relay::of(command);
    assert_eq!(relay.deliver(&json!([upload("1")])), 200);
    wait_for("the run", || relay.figure("mynah_relay_pending") == 0);
    let bearers = pipelines.bearers();
    assert_eq!(bearers.len(), 1);
    assert!(tokens.gave(&bearers[0], "499b84ac-1321-427f-aa17-267ca6975798/.default"));
    let pid = relay.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(relay.child.wait().unwrap().code(), Some(0));
    sound(&pipelines);
}

#[test]
fn what_it_cannot_start_with_is_told() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let state = folder.path().join("state");
    let ended = |change: &dyn Fn(&mut Command)| {
        let mut command = Relay::command(&pipelines, &state, &[]);
        change(&mut command);
        Ran::from(command.output().unwrap())
    };
    ended(&|command| {
        command.env_remove("MYNAH_RELAY_KEY");
    })
    .ill(2, &["no key is given", "openssl rand"]);
    let weak = ended(&|command| {
        command.env("MYNAH_RELAY_KEY", "weak-9411");
    });
    assert!(!weak.stderr.contains("weak-9411"));
    weak.ill(2, &["key 1 of the relay is too short"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    ended(&|command| {
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", address.split(':').nth(1).unwrap());
    })
    .ill(2, &["cannot listen on", "--listen"]);
    // A journal that is not what was written is left as it is.
    let relay = Relay::start(&pipelines, &state, &["--quiet-for", "3600", "--max-wait", "3600"]);
    assert_eq!((relay.deliver(&json!([upload("1")])), relay.deliver(&json!([upload("2")]))), (200, 200));
    relay.kill();
    let journal = state.join("relay.journal");
    let damaged = std::fs::read_to_string(&journal).unwrap().replacen("uploads", "upl0ads", 1);
    std::fs::write(&journal, &damaged).unwrap();
    ended(&|_| ()).ill(1, &["line 1 of the journal", "is damaged", "run the pipeline once"]);
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), damaged);
}

#[test]
fn who_may_only_read_is_told_what_is_missing() {
    let (pipelines, folder) = (Pipelines::start(0).unwrap(), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let mut command = Relay::command(&pipelines, &folder.path().join("state"), &["--quiet-for", "0"]);
    command.env("AZURE_DEVOPS_EXT_PAT", READING_TOKEN);
    let mut child =
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().replace("listening on http://", "").replace("/events", "");
    let relay = Relay { child, address, path: "/events".into() };
    assert_eq!(relay.deliver(&json!([upload("1")])), 200);
    wait_for("the refusal", || relay.figure("mynah_relay_problem") == 1);
    assert_eq!(relay.figure("mynah_relay_pending"), 1);
    wait_for("the words", || {
        std::fs::read_to_string(&log).unwrap().contains("`Queue builds` on the pipeline")
    });
    assert!(!std::fs::read_to_string(&log).unwrap().contains(READING_TOKEN));
}
