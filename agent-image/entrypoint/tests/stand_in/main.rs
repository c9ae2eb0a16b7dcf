//! Stands in for the agent's programs in tests: `Agent.Listener` and `Agent.Worker`, by the name it is started under.
//!
//! It takes the options that the agent's source takes and refuses others, keeps its registration in the same files,
//! and has its jobs look for secrets: in environments, command lines, files, and other processes' memory.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the agent speaks to its log")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How often it asks for a job, and whether one may end.
const GLANCE: Duration = Duration::from_millis(20);

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let arguments: Vec<String> = arguments.collect();
    let worker = program.file_name().is_some_and(|name| name == "Agent.Worker");
    let home = program.canonicalize().ok().and_then(|path| Some(path.parent()?.parent()?.to_owned()));
    let Some(home) = home else { return ExitCode::FAILURE };
    let done = match (worker, arguments.first().map(String::as_str)) {
        (true, _) => work(&home),
        (false, Some("configure")) => configure(&home, &arguments[1..]),
        (false, Some("remove")) => remove(&home, &arguments[1..]),
        (false, Some("run")) => listen(&home, &arguments[1..]),
        _ => Err("unrecognized command".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the agent writes to `.agent`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    agent_id: i64,
    agent_name: String,
    pool_id: i64,
    server_url: String,
    work_folder: String,
}

/// Options as the agent's parser takes them: flags, and arguments with a value; others end it.
fn options(words: &[String], flags: &[&str], arguments: &[&str]) -> Result<BTreeMap<String, String>, Failed> {
    let mut found = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word
            .strip_prefix("--")
            .ok_or_else(|| format!("Unrecognized command-line input arguments: '{word}'"))?;
        if flags.contains(&name) {
            found.insert(name.to_owned(), String::new());
        } else if arguments.contains(&name) {
            found.insert(
                name.to_owned(),
                words.next().ok_or_else(|| format!("`{word}` has no value"))?.clone(),
            );
        } else {
            return Err(format!("Unrecognized command-line input arguments: '{name}'").into());
        }
    }
    if !found.contains_key("unattended") {
        return Err("without --unattended it would ask a person".into());
    }
    if let Some(token) = mynah::agent::Env::capture().get("VSTS_AGENT_INPUT_TOKEN") {
        found.insert("token".into(), token.to_owned());
    }
    if found.get("auth").is_none_or(|auth| auth != "PAT") || !found.contains_key("token") {
        return Err("Invalid configuration provided for token. Terminating unattended configuration.".into());
    }
    Ok(found)
}

fn configure(home: &Path, words: &[String]) -> Result<(), Failed> {
    if home.join(".agent").exists() {
        return Err("Cannot configure the agent because it is already configured.".into());
    }
    let options = options(
        words,
        &["unattended", "acceptTeeEula", "replace"],
        &["url", "auth", "token", "pool", "agent", "work"],
    )?;
    let need = |name: &str| options.get(name).cloned().ok_or_else(|| format!("no --{name}"));
    let (url, pool, name, work) = (need("url")?, need("pool")?, need("agent")?, need("work")?);
    if !options.contains_key("acceptTeeEula") {
        return Err("the licence is not accepted".into());
    }
    let service = Service { url: url.clone(), authorization: basic(&need("token")?) };
    let (_, pools) = service.ask("GET", &format!("pools?poolName={pool}"), None)?;
    let pool_id = pools["value"][0]["id"].as_i64().ok_or("Agent pool not found")?;
    let body = json!({"name": name});
    let (status, answer) = service.ask("POST", &format!("pools/{pool_id}/agents"), Some(&body))?;
    let answer = match status {
        200 => answer,
        409 if options.contains_key("replace") => {
            let (_, agents) =
                service.ask("GET", &format!("pools/{pool_id}/agents?agentName={name}"), None)?;
            let id = agents["value"][0]["id"].as_i64().ok_or("the agent is gone")?;
            service.ask("PUT", &format!("pools/{pool_id}/agents/{id}"), Some(&body))?.1
        }
        status => return Err(format!("registering was answered with {status}").into()),
    };
    let agent_id = answer["id"].as_i64().ok_or("no number")?;
    let key = answer["key"].as_str().ok_or("no key")?;
    fs::create_dir_all(home.join(&work))?;
    fs::write(home.join(".credentials"), serde_json::to_vec(&json!({"key": key}))?)?;
    let written = Written { agent_id, agent_name: name, pool_id, server_url: url, work_folder: work };
    fs::write(home.join(".agent"), format!("\u{feff}{}", serde_json::to_string(&written)?))?;
    println!("Settings Saved.");
    Ok(())
}

fn remove(home: &Path, words: &[String]) -> Result<(), Failed> {
    let options = options(words, &["unattended"], &["auth", "token"])?;
    let written = read(home)?;
    let service = Service { url: written.server_url, authorization: basic(&options["token"]) };
    let path = format!("pools/{}/agents/{}", written.pool_id, written.agent_id);
    let (status, _) = service.ask("DELETE", &path, None)?;
    if !matches!(status, 204 | 404) {
        return Err(format!("removing was answered with {status}").into());
    }
    for name in [".agent", ".credentials"] {
        fs::remove_file(home.join(name))?;
    }
    println!("Succeeded: Removing agent from the server");
    Ok(())
}

fn read(home: &Path) -> Result<Written, Failed> {
    let text = fs::read_to_string(home.join(".agent"))?;
    Ok(serde_json::from_str(text.trim_start_matches('\u{feff}'))?)
}

/// Opens a session and gives jobs to workers, until it is interrupted or had one job.
fn listen(home: &Path, words: &[String]) -> Result<(), Failed> {
    let once = match words {
        [] => false,
        [word] if word == "--once" => true,
        _ => return Err("Unrecognized command-line input arguments".into()),
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let stopped = || stop.load(Ordering::Relaxed);
    let (service, pool) = own(home)?;
    let (status, session) = service.ask("POST", &format!("pools/{pool}/sessions"), Some(&json!({})))?;
    if status == 409 {
        return Err("A session for this agent already exists.".into());
    }
    let session = session["sessionId"].as_str().ok_or("no session")?.to_owned();
    println!("Listening for Jobs");
    while !stopped() {
        let (status, job) =
            service.ask("GET", &format!("pools/{pool}/messages?sessionId={session}"), None)?;
        if status != 200 {
            sleep(GLANCE);
            continue;
        }
        println!("Running job {}", job["requestId"]);
        let mut worker = Command::new(home.join("bin/Agent.Worker"))
            .current_dir(home)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(mut stdin) = worker.stdin.take() {
            stdin.write_all(&serde_json::to_vec(&job)?)?;
        }
        loop {
            if let Some(status) = worker.try_wait()? {
                println!("Job completed with {status}");
                break;
            }
            if stopped() {
                worker.kill()?;
                worker.wait()?;
                let path = format!("pools/{pool}/jobrequests/{}", job["requestId"]);
                service.ask("PATCH", &path, Some(&json!({"result": "canceled", "report": null})))?;
                break;
            }
            sleep(GLANCE);
        }
        if once {
            break;
        }
    }
    println!("Exiting...");
    service.ask("DELETE", &format!("pools/{pool}/sessions/{session}"), None)?;
    Ok(())
}

/// The service as the agent's own process asks it, and the pool's number.
fn own(home: &Path) -> Result<(Service, i64), Failed> {
    let written = read(home)?;
    let credentials: Value = serde_json::from_slice(&fs::read(home.join(".credentials"))?)?;
    let key = credentials["key"].as_str().ok_or("no key")?;
    Ok((Service { url: written.server_url, authorization: format!("Bearer {key}") }, written.pool_id))
}

/// A job: looks for its needles, waits until it may end, reports.
fn work(home: &Path) -> Result<(), Failed> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let job: Value = serde_json::from_slice(&text)?;
    let needles: Vec<String> = serde_json::from_value(job["needles"].clone())?;
    if job["leaves"] == true {
        // As a build server that a job forgot to end.
        Command::new("bash")
            .args(["-c", "trap '' TERM; while :; do sleep 0.1; done"])
            .arg(home)
            .process_group(0)
            .spawn()?;
    }
    let report = search(home, &needles);
    let (service, pool) = own(home)?;
    let path = format!("pools/{pool}/jobrequests/{}", job["requestId"]);
    while service.ask("GET", &path, None)?.1["released"] != true {
        sleep(GLANCE);
    }
    let (status, _) = service.ask("PATCH", &path, Some(&json!({"result": "succeeded", "report": report})))?;
    if status == 204 { Ok(()) } else { Err(format!("the result was answered with {status}").into()) }
}

/// Everywhere a job of the same user can look.
fn search(home: &Path, needles: &[String]) -> Value {
    let mut found = Vec::new();
    let mut looked = 0_u64;
    let mut look = |name: String, bytes: &[u8]| {
        looked += 1;
        for needle in needles.iter().filter(|needle| !needle.is_empty()) {
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(format!("{name}: {needle}"));
            }
        }
    };
    let mut memory = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) =
            entry.file_name().to_str().filter(|name| name.parse::<u32>().is_ok()).map(str::to_owned)
        else {
            continue;
        };
        for part in ["environ", "cmdline"] {
            if let Ok(bytes) = fs::read(entry.path().join(part)) {
                look(format!("/proc/{pid}/{part}"), &bytes);
            }
        }
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if command.contains("mynah-agent") && fs::File::open(entry.path().join("mem")).is_ok() {
            memory.push(pid);
        }
    }
    for (name, value) in std::env::vars() {
        look(format!("variable {name}"), value.as_bytes());
    }
    let mut folders = vec![home.to_owned()];
    folders.extend(std::env::var_os("TMPDIR").map(PathBuf::from));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    if let Ok(bytes) = fs::read(entry.path()) {
                        look(entry.path().display().to_string(), &bytes);
                    }
                }
                _ => {}
            }
        }
    }
    json!({"found": found, "looked": looked, "memory": memory, "uid": rustix::process::getuid().as_raw()})
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!(":{token}")))
}

/// The pools' API over one plain connection a request.
struct Service {
    url: String,
    authorization: String,
}

impl Service {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Failed> {
        let rest = self.url.strip_prefix("http://").ok_or("the stand-in speaks to doubles only")?;
        let (host, organization) = rest.split_once('/').ok_or("no organisation")?;
        let joint = if path.contains('?') { '&' } else { '?' };
        let body = body.map(serde_json::to_string).transpose()?.unwrap_or_default();
        let mut stream = TcpStream::connect(host)?;
        write!(
            stream,
            "{method} /{organization}/_apis/distributedtask/{path}{joint}api-version=7.1 HTTP/1.1\r\nhost: {host}\r\n\
             authorization: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}
