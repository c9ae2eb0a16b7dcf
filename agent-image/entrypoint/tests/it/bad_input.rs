//! What users and clusters get wrong: told in words, and nothing is registered.

use std::fs;

use mynah_testkit::agentpool::POWERLESS;

use crate::pod::Pod;

/// Runs the entrypoint with changed variables; an empty value takes one away.
fn refused(pod: &Pod, variables: &[(&str, &str)], code: i32, words: &[&str]) {
    let mut command = pod.command(&["--once"]);
    for (name, value) in variables {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    pod.start(&mut command).end().ill(code, words);
    assert!(pod.pools.agents().is_empty() && pod.pools.wire.violations().is_empty());
    assert!(!pod.at("home/.agent").exists());
}

#[test]
fn addresses() {
    let pod = Pod::new();
    refused(&pod, &[("AZP_URL", "")], 2, &["`AZP_URL` is not set", "https://dev.azure.com/ORGANIZATION"]);
    let page = [("AZP_URL", "https://dev.azure.com/contoso/edge/_settings")];
    refused(&pod, &page, 2, &["names a page inside", "set `AZP_URL` to `https://dev.azure.com/contoso`"]);
    refused(&pod, &[("AZP_URL", "http://dev.azure.com/contoso")], 2, &["is not encrypted"]);
    let other = pod.url().replace("contoso", "contosso");
    refused(&pod, &[("AZP_URL", &other)], 2, &["there is no organisation at", "contosso"]);
}

#[test]
fn a_name_that_nobody_knows() {
    let pod = Pod::new();
    // Reserved never to exist (RFC 2606).
    let url = [("AZP_URL", "https://dev.azure.invalid/contoso"), ("NO_PROXY", "*")];
    refused(&pod, &url, 3, &["cannot find the address of `dev.azure.invalid`", "DNS"]);
}

#[test]
fn tokens() {
    let pod = Pod::new();
    refused(&pod, &[("AZP_TOKEN", "")], 2, &["no way to sign in is given"]);
    refused(&pod, &[("AZP_TOKEN", "a-typo-in-the-token")], 3, &["does not accept the token", "Agent Pools"]);
    refused(&pod, &[("AZP_TOKEN", POWERLESS)], 3, &["may not manage the agents", "Read & manage"]);
    let both = [("AZP_CLIENTID", "app")];
    refused(&pod, &both, 2, &["both `AZP_TOKEN` and a service principal are given"]);
    let missing = [("AZP_TOKEN", ""), ("AZP_TOKEN_FILE", "/nowhere/token")];
    refused(&pod, &missing, 2, &["cannot read the token in `/nowhere/token`"]);
    pod.pools.expire(&pod.token);
    refused(&pod, &[], 3, &["does not accept the token: it has expired"]);
}

#[test]
fn pools_and_names() {
    let pod = Pod::new();
    let words = ["there is no agent pool `raspbery`", "`Default`, `raspberry`"];
    refused(&pod, &[("AZP_POOL", "raspbery")], 2, &words);
    refused(&pod, &[("AZP_POOL", "-x")], 2, &["`AZP_POOL` is `-x`, which is no name"]);
    pod.pools.add_agent("POD-1", true);
    let mut command = pod.command(&["--once"]);
    pod.start(&mut command)
        .end()
        .ill(2, &["an agent `pod-1` is online in pool `Default` already", "metadata.name"]);
    assert_eq!(pod.pools.agents(), ["POD-1"], "another pod's agent is left alone");
}

#[test]
fn a_name_is_waited_for_until_its_session_ends() {
    let pod = Pod::new();
    pod.pools.add_agent("pod-1", true);
    let mut command = pod.command(&["--once"]);
    let running = pod.start(command.env("MYNAH_AGENT_NAME_SECONDS", "60"));
    let log = pod.at("log");
    pod.wait("told", |_| fs::read_to_string(&log).unwrap().contains("online in pool `Default` already"));
    pod.pools.end_session("pod-1");
    let job = pod.job(mynah_testkit::agentpool::Job::default());
    running.end().well();
    pod.clean(job);
    pod.nothing_left();
}

#[test]
fn clocks() {
    let pod = Pod::new();
    pod.pools.set_clock_off();
    refused(&pod, &[], 1, &["the clock of this machine is", "ahead of", "NTP"]);
}

#[test]
fn folders_and_packages() {
    let pod = Pod::new();
    refused(&pod, &[("MYNAH_AGENT_PACKAGE", "/nowhere")], 2, &["there is no agent in `/nowhere`"]);
    // Nobody can make a folder there, root included: as on a read-only root.
    refused(&pod, &[("MYNAH_AGENT_HOME", "/proc/azp")], 2, &["cannot write in `/proc/azp`", "emptyDir"]);
    refused(&pod, &[("AZP_WORK", "/proc/work")], 2, &["cannot write in `/proc/work`", "the agent's work"]);
    refused(&pod, &[("MYNAH_AGENT_DRAIN_SECONDS", "1h")], 2, &["is `1h`, whole seconds"]);
    if rustix::process::getuid().is_root() {
        refused(&pod, &[("AGENT_ALLOW_RUNASROOT", "")], 2, &["does not run as root", "runAsUser"]);
    }
    fs::remove_file(pod.at("home/bin/Agent.Listener")).unwrap();
    let words = ["cannot register agent `pod-1`", "`config.sh` ended with exit code 127"];
    refused(&pod, &[], 1, &words);
}
