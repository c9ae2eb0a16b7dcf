//! No job sees what registered its agent, by whichever way it came.

use std::fs;

use mynah_testkit::agentpool::Job;
use mynah_testkit::tokens::{self, TokenService};

use crate::pod::Pod;

const DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";

#[test]
fn one_job_and_nothing_is_left() {
    let pod = Pod::new();
    let job = pod.job(Job { leaves: true, ..Job::default() });
    let ended = pod.start(&mut pod.command(&["--once"])).end().well();
    pod.clean(job);
    pod.nothing_left();
    for words in ["registered agent `pod-1` in pool `Default`", "agent `pod-1` is unregistered"] {
        assert!(ended.log.contains(words), "{}", ended.log);
    }
}

/// The control: what looks for the secret finds one that is there.
#[test]
fn a_secret_left_in_a_file_is_found() {
    let pod = Pod::new();
    let job = pod.job(Job::default());
    let mut command = pod.command(&["--once"]);
    fs::create_dir_all(pod.at("home/_work")).unwrap();
    fs::write(pod.at("home/_work/leak.txt"), format!("token={}", pod.token)).unwrap();
    command.env("LEAK", &pod.token);
    pod.start(&mut command).end().well();
    let found = pod.report(job)["found"].to_string();
    for place in ["leak.txt", "variable LEAK", "/environ"] {
        assert!(found.contains(place), "{found}");
    }
}

#[test]
fn a_token_file_is_gone_before_the_first_job() {
    let pod = Pod::new();
    let file = pod.at("tmp/token");
    fs::write(&file, format!("{}\n", pod.token)).unwrap();
    let job = pod.job(Job::default());
    let mut command = pod.bare(&["--once"]);
    pod.start(command.env("AZP_TOKEN_FILE", &file)).end().well();
    pod.clean(job);
    assert!(!file.exists());
    pod.nothing_left();
}

#[test]
fn a_token_by_the_agents_own_variable_never_reaches_a_job() {
    let pod = Pod::new();
    let job = pod.job(Job { needles: vec!["proxy-password-5521".into()], ..Job::default() });
    let mut command = pod.command(&["--once"]);
    pod.start(command.env("VSTS_AGENT_INPUT_PROXYPASSWORD", "proxy-password-5521")).end().well();
    pod.clean(job);
    pod.nothing_left();
}

#[test]
fn a_service_principal_registers_with_a_token_of_its_own() {
    let pod = Pod::new();
    let entra = TokenService::start(0).unwrap();
    let job = pod.job(Job { needles: vec![tokens::CLIENT_SECRET.into()], ..Job::default() });
    let mut command = pod.bare(&["--once"]);
    command.env("AZP_CLIENTID", tokens::CLIENT_ID).env("AZP_TENANTID", tokens::TENANT);
    command.env("AZP_CLIENTSECRET", tokens::CLIENT_SECRET).env("AZURE_AUTHORITY_HOST", entra.url());
    let ended = pod.start(&mut command).end().well();
    assert!(!ended.log.contains(tokens::CLIENT_SECRET));
    pod.clean(job);
    pod.nothing_left();
    let bearers = pod.pools.bearers();
    assert!(!bearers.is_empty() && bearers.iter().all(|token| entra.gave(token, DEVOPS)), "{bearers:?}");
}

#[test]
fn workload_identity_registers_and_says_what_stays_readable() {
    let pod = Pod::new();
    let entra = TokenService::start(0).unwrap();
    let file = pod.at("federated");
    fs::write(&file, entra.federated_token()).unwrap();
    let job = pod.job(Job::default());
    let mut command = pod.bare(&["--once"]);
    command.env("AZURE_CLIENT_ID", tokens::CLIENT_ID).env("AZURE_TENANT_ID", tokens::TENANT);
    command.env("AZURE_FEDERATED_TOKEN_FILE", &file).env("AZURE_AUTHORITY_HOST", entra.url());
    let ended = pod.start(&mut command).end().well();
    assert!(ended.log.contains("federated token stays"), "{}", ended.log);
    pod.clean(job);
    pod.nothing_left();
    assert!(pod.pools.bearers().iter().all(|token| entra.gave(token, DEVOPS)));
    assert!(file.exists(), "it is the cluster's");
}
