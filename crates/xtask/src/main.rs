//! Generators and checks of this repository: `cargo xtask <what> [--check]`.

mod agent_image;
mod base;
mod chart;
mod counting_proxy;
mod crates;
mod debian;
mod dist;
mod forms;
mod journey;
mod journey_agents;
mod journey_azure;
mod journey_cluster;
mod journey_device;
mod journey_modules;
mod journey_pipeline;
mod journey_pipeline_run;
mod journey_pipeline_tasks;
mod journey_relay;
mod judges;
mod licences;
mod manifests;
mod process;
mod schemas;
mod sizes;
mod tasks;
mod vsix;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <what>

  agent-image [--platform PLATFORM] [--sources FILE] [--programs DIR | --layout DIR]
                      build the image of agents with what `dist` built, for this machine or emulated for another
                      platform, look into it, and live an agent's life in it
  base DIR            assemble the image below the device's runtime from Debian packages, as an OCI layout
  dist [--out DIR] [--quick] [--runtime-only] [PLATFORM…]
                      build what ships for linux/amd64, linux/arm64 and linux/arm/v7, or for those named
  chart [--check]     write the plain manifests of agents from the chart, or check both
  journey agents      register agents, give them jobs, stop them at random moments; judge the manifests
  journey embedded    walk the samples and every set of ../shared/datasets/dev, and have other programs judge
  journey azure       walk from Blob Storage to a fleet against Azurite and doubles of Azure's services, killed on the way
  journey device [OUT]
                      an hour of faults for the device's runtime, in fast motion: camera, hub, sound, disk, models, power;
                      screenshots of its page are left in OUT (default: below the target folder)
  journey modules [--programs DIR] [PLATFORM…]
                      build the samples' image for three platforms, push it, have others fetch it and start it on each
  journey cluster     deploy two models of the samples to a double of Kubernetes: killed, failing, by canary, pruned
  journey manifests   fill in the templates of ../shared/contracts, and have the published schemas judge
  crates [--check]    list the crates inside the device's program, or check that the list is up to date
  journey pipeline    pack the extension, walk the samples with its tasks under Node, and have every pipeline judged
  journey relay       deliver 10,000 uploads to the relay, killed on the way, and have what is deployed judged
  schemas [--check]   write the JSON Schemas of the artifacts to schemas/, or check that they are up to date
  tasks [--check]     write task.json and README.md of the tasks from the steps' options, or check them
  tasks --schema IN OUT
                      add the tasks to the schema of pipelines that editors use
  vsix [--check] [--test] [--quick] [--programs DIR] [--out FILE] [PLATFORM…]
                      pack the extension with what `dist` built, or check one: its size, files and tasks
  sizes [--check]     build what ships and print each binary's size, or fail where one is over its budget

A judge that is not installed is skipped loudly; with CI=true it is required.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["agent-image", rest @ ..] => agent_image::Image::parse(rest).and_then(|image| image.check()),
        ["base", out] => base::assemble(out.as_ref()),
        ["dist", rest @ ..] => dist::Dist::parse(rest).and_then(|dist| dist.build()),
        ["chart"] => chart::write(),
        ["chart", "--check"] => chart::check(),
        ["journey", "agents"] => journey_agents::agents(),
        ["journey", "embedded"] => journey::embedded(),
        ["journey", "azure"] => journey_azure::azure(),
        ["journey", "device"] => journey_device::device(None),
        ["journey", "device", out] => journey_device::device(Some(out.as_ref())),
        ["journey", "modules", rest @ ..] => journey_modules::modules(rest),
        ["journey", "cluster"] => journey_cluster::cluster(),
        ["journey", "manifests"] => manifests::journey(),
        ["crates"] => crates::write(),
        ["crates", "--check"] => crates::check(),
        ["schemas"] => schemas::write(),
        ["schemas", "--check"] => schemas::check(),
        ["journey", "pipeline"] => journey_pipeline::pipeline(),
        ["journey", "relay"] => journey_relay::relay(),
        ["vsix", "--check", rest @ ..] => vsix::Vsix::parse(rest).and_then(|vsix| vsix.check()),
        ["vsix", rest @ ..] => vsix::Vsix::parse(rest).and_then(|vsix| vsix.build()),
        ["tasks"] => tasks::write(),
        ["tasks", "--check"] => tasks::check(),
        ["tasks", "--schema", service, out] => tasks::write_pipeline_schema(service.as_ref(), out.as_ref()),
        ["sizes"] => sizes::measure(false),
        ["sizes", "--check"] => sizes::measure(true),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody left to tell is no reason for another exit code.
            let _ = writeln!(std::io::stderr(), "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says what is being done.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
