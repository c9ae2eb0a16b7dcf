//! However an agent's life ends, no job is torn apart unasked and no agent stays in its pool.

use mynah_testkit::agentpool::{Job, Stage};
use mynah_testkit::faults::Fault;
use rustix::process::{Pid, Signal};

use crate::pod::Pod;

#[test]
fn an_idle_agent_is_unregistered_when_asked_to_stop() {
    let pod = Pod::new();
    for signal in [Signal::TERM, Signal::INT] {
        let running = pod.start(&mut pod.command(&[]));
        pod.wait("listening", |pools| !pools.online().is_empty());
        running.signal(signal);
        let ended = running.end().well();
        assert!(ended.log.contains("asked to stop: taking no new job"), "{}", ended.log);
        pod.nothing_left();
    }
}

#[test]
fn a_running_job_ends_first_and_no_other_begins() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, ..Job::default() });
    let running = pod.start(&mut pod.command(&[]));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    running.signal(Signal::TERM);
    pod.wait("disabled", |pools| pools.wire.exchanges().iter().any(|said| said.method == "PATCH"));
    let next = pod.job(Job::default());
    pod.pools.finish(job);
    running.end().well();
    pod.clean(job);
    assert_eq!(pod.pools.stage(next), Some(Stage::Queued));
    pod.nothing_left();
}

#[test]
fn a_second_signal_cancels_the_job() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, ..Job::default() });
    let running = pod.start(&mut pod.command(&["--once"]));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    running.signal(Signal::TERM);
    pod.wait("disabled", |pools| pools.wire.exchanges().iter().any(|said| said.method == "PATCH"));
    running.signal(Signal::TERM);
    let ended = running.end().well();
    assert!(ended.log.contains("asked to stop again"), "{}", ended.log);
    assert!(matches!(pod.pools.stage(job), Some(Stage::Ended(result, _)) if result == "canceled"));
    pod.nothing_left();
}

#[test]
fn a_job_that_outlasts_patience_is_cancelled() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, ..Job::default() });
    let mut command = pod.command(&[]);
    let running = pod.start(command.env("MYNAH_AGENT_DRAIN_SECONDS", "1"));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    running.signal(Signal::TERM);
    let ended = running.end().well();
    assert!(ended.log.contains("did not end in time"), "{}", ended.log);
    assert!(matches!(pod.pools.stage(job), Some(Stage::Ended(result, _)) if result == "canceled"));
    pod.nothing_left();
}

#[test]
fn an_agent_that_is_killed_is_told_of_and_unregistered() {
    let pod = Pod::new();
    let running = pod.start(&mut pod.command(&[]));
    pod.wait("listening", |pools| !pools.online().is_empty());
    for pid in pod.processes("Agent.Listener") {
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    running.end().ill(1, &["agent `pod-1` ended with exit code 137", "resources.limits.memory"]);
    pod.nothing_left();
}

#[test]
fn a_container_that_was_killed_takes_its_place_again() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, ..Job::default() });
    let running = pod.start(&mut pod.command(&[]));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    running.signal(Signal::KILL);
    for pid in pod.processes("") {
        // As the container's end takes all its processes along.
        let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    drop(running);
    assert_eq!(pod.pools.online(), ["pod-1"], "the service does not know yet");
    let again = pod.job(Job::default());
    pod.start(&mut pod.command(&["--once"])).end().well();
    pod.clean(again);
    pod.nothing_left();
}

#[test]
fn a_token_that_expires_in_mid_life_is_told_of() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, ..Job::default() });
    let running = pod.start(&mut pod.command(&["--once"]));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    pod.pools.expire(&pod.token);
    pod.pools.finish(job);
    running.end().ill(
        3,
        &["cannot unregister agent `pod-1`", "it has expired", "start a container under the name `pod-1`"],
    );
    pod.clean(job);
    assert_eq!(pod.pools.agents(), ["pod-1"]);
}

#[test]
fn a_service_with_trouble_is_asked_again() {
    let pod = Pod::new();
    let busy = Fault::Refuse { status: 503, retry_after: Some(0) };
    let faults = &pod.pools.wire.faults;
    faults.script("GET", "/contoso/_apis/distributedtask/pools", busy.clone(), 2);
    faults.script("POST", "/contoso/_apis/distributedtask/pools/1/agents", busy.clone(), 2);
    faults.script("DELETE", "/contoso/_apis/distributedtask/pools/1/agents/*", busy, 1);
    let job = pod.job(Job::default());
    let ended = pod.start(&mut pod.command(&["--once"])).end().well();
    assert!(ended.log.contains("trying again in 1 s (1 of 5)"), "{}", ended.log);
    pod.clean(job);
    pod.nothing_left();
    assert_eq!(pod.pools.wire.faults.left(), 0);
}

#[test]
fn a_placeholder_stays_until_it_is_removed() {
    let pod = Pod::new();
    pod.start(&mut pod.command(&["--placeholder"])).end().well();
    assert_eq!(pod.pools.agents(), ["pod-1"]);
    assert!(pod.pools.online().is_empty());
    pod.start(&mut pod.command(&["--remove"])).end().well();
    assert!(pod.pools.agents().is_empty());
    pod.start(&mut pod.command(&["--remove"])).end().well();
}

#[test]
fn an_orphan_is_waited_for() {
    let pod = Pod::new();
    let job = pod.job(Job { held: true, leaves: true, ..Job::default() });
    let running = pod.start(&mut pod.command(&[]));
    pod.wait("running", |pools| pools.stage(job) == Some(Stage::Running));
    pod.pools.finish(job);
    pod.wait("done", |pools| matches!(pools.stage(job), Some(Stage::Ended(..))));
    let orphan = loop {
        if let [orphan] = pod.processes("home")[..] {
            break orphan;
        }
    };
    rustix::process::kill_process(Pid::from_raw(orphan).unwrap(), Signal::KILL).unwrap();
    // Gone, not a zombie: nothing but the entrypoint can have waited for it.
    while std::path::Path::new(&format!("/proc/{orphan}")).exists() {
        std::thread::yield_now();
    }
    assert!(running.pid() > 0);
    running.signal(Signal::TERM);
    running.end().well();
    pod.nothing_left();
}
