//! `mynah pipeline check` and `mynah pipeline run`, on our own pipelines and on broken ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::given::{Ran, binary, files, root, run, small_source};

#[test]
fn our_own_pipelines_have_nothing_to_mend() {
    let files = ["azure-pipelines.yml", "release.yml"].map(|file| root().join("pipelines").join(file));
    let words =
        ["pipeline".into(), "check".into()].into_iter().chain(files.map(std::path::PathBuf::into_os_string));
    let ran = run("mynah", words).well();
    assert!(ran.stdout.contains("2 pipelines looked at, nothing to mend"), "{}", ran.stdout);
}

#[test]
fn findings_are_told_with_line_and_hint_and_end_with_1() {
    let file = root().join("tests/judges/broken/unknown-input.yml");
    let ran = run("mynah", ["pipeline".as_ref(), "check".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let expected = "unknown-input.yml:6:7: error: ImportImages has no input `sauce`; was `source` meant?";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    run("mynah", ["pipeline", "check", "no-such.yml"])
        .ill(2, &["cannot read the pipeline `no-such.yml`", "name the YAML file"]);
}

/// A folder with a pipeline of this text.
fn pipeline(text: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("p.yml"), text).unwrap();
    root
}

fn start(folder: &Path, more: &[&str]) -> Command {
    let mut command = binary("mynah");
    command.args(["pipeline", "run", "p.yml", "--out", "out"]).args(more).current_dir(folder);
    command
}

fn try_out(folder: &Path, more: &[&str]) -> Ran {
    start(folder, more).output().unwrap().into()
}

fn record(folder: &Path, run: u32) -> Value {
    let file = folder.join(format!("out/runs/{run}/run.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn stages_jobs_and_steps_run_in_the_order_of_what_they_need() {
    let root = pipeline(
        "variables: {greeting: hello}\n\
         stages:\n\
         - stage: late\n  dependsOn: early\n  condition: and(succeeded(), eq(dependencies.early.outputs['a.set.word'], 'wörd'))\n  jobs:\n\
         \x20 - job: c\n    variables: {word: \"$[ stageDependencies.early.a.outputs['set.word'] ]\"}\n    steps:\n\
         \x20   - download: current\n      artifact: made\n\
         \x20   - script: echo \"late $(word) $(cat $(Pipeline.Workspace)/made/f)\"\n\
         - stage: early\n  dependsOn: []\n  jobs:\n\
         \x20 - job: b\n    dependsOn: a\n    variables: {word: \"$[ dependencies.a.outputs['set.word'] ]\"}\n    steps:\n\
         \x20   - bash: echo \"b $(word) $GREETING $(System.JobName)\"\n\
         \x20 - job: a\n    steps:\n\
         \x20   - script: |\n        echo '##vso[task.setvariable variable=word;isOutput=true]wörd'\n        echo '##vso[task.setvariable variable=plain]p q'\n      name: set\n\
         \x20   - script: mkdir $(Build.ArtifactStagingDirectory)/x; echo $(set.word) $(plain) > $(Build.ArtifactStagingDirectory)/x/f\n\
         \x20   - publish: $(Build.ArtifactStagingDirectory)/x\n      artifact: made\n",
    );
    let ran = try_out(root.path(), &[]).well();
    let at =
        |text: &str| ran.stderr.find(text).unwrap_or_else(|| panic!("`{text}` is not in:\n{}", ran.stderr));
    assert!(at("b wörd hello b") < at("late wörd wörd p q"), "{}", ran.stderr);
    assert!(ran.stdout.contains("run 1 of p.yml: Succeeded"), "{}", ran.stdout);
    assert_eq!(record(root.path(), 1)["stages"]["early"]["jobs"]["a"]["outputs"]["set.word"], "wörd");
}

#[test]
fn a_failed_step_ends_its_job_but_not_what_runs_always() {
    let root = pipeline(
        "jobs:\n- job: a\n  steps:\n  - script: exit 7\n    displayName: breaks\n  - script: echo not this\n\
         \x20 - script: echo tidy $(Agent.JobStatus)\n    condition: always()\n\
         - job: b\n  dependsOn: a\n  steps: [{script: echo nor this}]\n\
         - job: c\n  dependsOn: a\n  condition: failed()\n  steps: [{script: echo after the failure}]\n",
    );
    let ran = try_out(root.path(), &[]).ill(
        1,
        &[
            "breaks: it ended with exit code 7",
            "tidy Failed",
            "after the failure",
            "`p.yml` failed in its jobs",
        ],
    );
    assert!(!ran.stderr.contains("not this") && !ran.stderr.contains("nor this"), "{}", ran.stderr);
    assert_eq!(record(root.path(), 1)["stages"]["__default"]["jobs"]["b"]["result"], "Skipped");
}

#[test]
fn secrets_are_masked_kept_from_scripts_and_written_nowhere() {
    let root = pipeline(
        "steps:\n- script: |\n    echo \"mine is $(key), theirs is [$SECRET_KEY$KEY]\"\n    echo '##vso[task.setvariable variable=new;isSecret=true;isOutput=true]late-9411-secret'\n  name: s\n\
         - script: echo \"$MAPPED and $(s.new)\"\n  env: {MAPPED: $(key)}\n",
    );
    let ran: Ran =
        start(root.path(), &["--secret", "key"]).env("KEY", "hunter22hunter22").output().unwrap().into();
    let ran = ran.well();
    assert!(ran.stderr.contains("*** and ***"), "{}", ran.stderr);
    let written: Vec<u8> =
        files(&root.path().join("out/runs")).into_iter().flat_map(|(_, bytes)| bytes).collect();
    let all = format!("{}{}{}", ran.stdout, ran.stderr, String::from_utf8_lossy(&written));
    assert!(!all.contains("hunter22") && !all.contains("late-9411-secret"), "{all}");
    try_out(root.path(), &["--secret", "key"])
        .ill(2, &["`key` is not in the environment as `KEY`", "export `KEY`"]);
}

#[test]
fn a_deployment_runs_its_hooks_and_names_its_outputs_after_itself() {
    let root = pipeline(
        "jobs:\n- deployment: d\n  environment: e\n  strategy:\n    runOnce:\n      deploy:\n        steps:\n\
         \x20       - script: echo '##vso[task.setvariable variable=v;isOutput=true]1'\n          name: s\n\
         \x20       - script: ls; exit 1\n\
         \x20     on:\n        failure:\n          steps: [{script: echo rolled back}]\n        success:\n          steps: [{script: echo celebrated}]\n",
    );
    let ran = try_out(root.path(), &[]).ill(1, &["approvals and checks are not asked", "  rolled back"]);
    assert!(!ran.stderr.contains("celebrated") && !ran.stderr.contains("p.yml\n"), "{}", ran.stderr);
    assert_eq!(record(root.path(), 1)["stages"]["__default"]["jobs"]["d"]["outputs"]["d.s.v"], "1");
}

#[test]
fn deployments_in_turns_and_in_shares_are_named_and_left_out_if_asked() {
    let root = pipeline(
        "jobs:\n- deployment: turns\n  environment: {name: e, resourceType: virtualMachine}\n  strategy:\n    rolling:\n      maxParallel: 2\n      deploy:\n        steps: [{script: echo in turns}]\n\
         - deployment: shares\n  environment: e.space\n  strategy:\n    canary:\n      increments: [10, 20]\n      deploy:\n        steps: [{script: echo in shares}]\n\
         - job: a\n  steps: [{script: echo the rest}]\n",
    );
    let ran = try_out(root.path(), &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    for text in [
        "p.yml:6:7: error: the deployment job `turns` is `rolling`: it deploys in turns over the machines",
        "p.yml:13:7: error: the deployment job `shares` is `canary`: it deploys in growing shares",
        "only `runOnce` runs here",
    ] {
        assert!(ran.stdout.contains(text), "`{text}` is not in:\n{}", ran.stdout);
    }
    assert!(!root.path().join("out").exists());
    let ran = try_out(root.path(), &["--skip"]).well();
    assert!(ran.stderr.contains("the rest") && !ran.stderr.contains("in turns\n"), "{}", ran.stderr);

    let root = pipeline("jobs:\n- deployment: d\n  environment: e\n  strategy: {runTwice: {}}\n");
    let ran = try_out(root.path(), &[]).ill(2, &["must be mended"]);
    assert!(
        ran.stdout.contains("the strategy of a deployment has no `runTwice`; was `runOnce` meant?"),
        "{}",
        ran.stdout
    );
    let root = pipeline("jobs:\n- deployment: d\n  environment: e\n");
    let ran = try_out(root.path(), &[]).ill(2, &["must be mended"]);
    assert!(ran.stdout.contains("the deployment job `d` has no strategy"), "{}", ran.stdout);
}

#[test]
fn copies_of_a_job_know_their_places() {
    let root = pipeline(
        "jobs:\n- job: p\n  strategy: {parallel: 3}\n  steps:\n  - script: echo part $(System.JobPositionInPhase) of $(System.TotalJobsInPhase)\n\
         - job: m\n  strategy:\n    matrix:\n      one: {who: cat}\n      two: {who: dog}\n  steps:\n  - script: echo see $(who)\n",
    );
    let ran = try_out(root.path(), &[]).well();
    for text in ["part 1 of 3", "part 2 of 3", "part 3 of 3", "see cat", "see dog"] {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
}

#[test]
fn what_cannot_be_done_here_is_named_before_anything_starts() {
    let root = pipeline(
        "variables:\n- group: far\nresources: {pipelines: [{pipeline: ci, source: x}]}\njobs:\n- job: a\n  steps:\n  - script: echo begun\n  - task: UsePythonVersion@0\n\
         \x20 - download: ci\n    artifact: x\n\
         \x20 - task: DeployModules@0\n    inputs: {manifest: m, out: o, target: iot-hub, hub: $(hub), device: pi, connection: there}\n\
         - job: w\n  pool: {vmImage: windows-2025}\n  steps: [{script: dir}]\n- job: b\n  container: debian\n  steps: [{script: ls}]\n",
    );
    let ran = try_out(root.path(), &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    for text in [
        "p.yml:8:11: error: the task `UsePythonVersion@0` does not run here",
        "the runs of the pipeline `ci` are not known here; give the folder of its runs with --resource ci=DIR",
        "the service connection `there` is kept in Azure DevOps",
        "the job `w` wants agents that run no Linux",
        "the job `b` wants a container",
    ] {
        assert!(ran.stdout.contains(text), "`{text}` is not in:\n{}", ran.stdout);
    }
    assert!(!ran.stderr.contains("begun") && !root.path().join("out").exists(), "{}", ran.stderr);
    let ran = try_out(root.path(), &["--skip"]).well();
    assert!(ran.stderr.contains("begun") && ran.stderr.contains("the job b is left out"), "{}", ran.stderr);
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let root = pipeline(
        "jobs:\n- job: a\n  dependsOn: c\n  steps:\n  - scirpt: echo\n  - script: x\n    condition: eq(vars.a, 1)\n  - task: ImportImages@0\n    inputs: {source: a, out: b}\n",
    );
    let ran = try_out(root.path(), &[]).ill(2, &["4 of its lines must be mended", "hint:"]);
    for text in [
        "p.yml:5:5: error: this step has no `scirpt`; was `script` meant?",
        "p.yml:7:16: error: nothing is named `vars` in this condition",
        "the job `a` depends on `c`, which is not there",
    ] {
        assert!(ran.stdout.contains(text), "`{text}` is not in:\n{}", ran.stdout);
    }
    assert!(!root.path().join("out").exists());
    let root = pipeline("steps: [{script: ls}]\n");
    try_out(root.path(), &["--stage", "x"]).ill(2, &["has no stage `x`"]);
    try_out(root.path(), &["--variable", "x"]).ill(2, &["`--variable` is `x`, NAME=VALUE is expected"]);
    let mut onto = binary("mynah");
    onto.args(["pipeline", "run", "p.yml", "--out", "."]).current_dir(root.path());
    Ran::from(onto.output().unwrap()).ill(2, &["is not empty and holds no `runs`", "--out"]);
}

#[test]
fn a_task_gets_its_inputs_as_an_agent_gives_them() {
    let root = pipeline(
        "parameters: [{name: photos}]\nvariables: {where: 'a folder/dätäset'}\nsteps:\n\
         - task: ImportImages@0\n  name: import\n  inputs:\n    source: ${{ parameters.photos }}\n    out: $(Pipeline.Workspace)/$(where)\n\
         - script: echo \"$(import.photos) photos, changed $(import.changed)\"\n\
         - task: TrainModel@0\n  continueOnError: true\n  inputs: {dataset: $(nowhere)/d, out: o}\n\
         - task: TrainModel@0\n  condition: eq(variables['import.photos'], '11')\n  inputs: {dataset: d, out: o}\n",
    );
    let source = small_source(root.path());
    let parameter = format!("photos={}", source.display());
    let ran = try_out(root.path(), &["--parameter", &parameter]).well();
    assert!(ran.stderr.contains("10 photos, changed true"), "{}", ran.stderr);
    assert!(ran.stderr.contains("still holds the unexpanded variable `$(nowhere)`"), "{}", ran.stderr);
    assert!(root.path().join("out/work/1/a folder/dätäset/dataset.json").is_file());
    assert!(ran.stdout.contains("SucceededWithIssues"), "{}", ran.stdout);
    try_out(root.path(), &[]).ill(2, &[]);
}

#[test]
fn stopped_in_a_step_it_ends_with_130_and_leaves_no_program_behind() {
    let root = pipeline(
        "steps:\n- script: |\n    echo $$ > pid\n    sleep 600 & wait\n- script: touch late\n  condition: always()\n",
    );
    let mut child = start(root.path(), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = || fs::read_to_string(root.path().join("pid")).ok().filter(|text| text.ends_with('\n'));
    let deadline = Instant::now() + Duration::from_mins(1);
    while pid().is_none() && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    let step = pid().unwrap();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!Path::new(&format!("/proc/{}", step.trim())).exists());
    assert!(!root.path().join("late").exists());
    assert_eq!(record(root.path(), 1)["result"], "Canceled");
}
