//! The journey of the device: an hour in which everything goes wrong once, in fast motion. It must end healthy, and what
//! it promised to report must have arrived, each sighting once and in order.

mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use mynah_contracts::{DeviceState, Sha256Digest};
use mynah_testkit::edge::Mosquitto;
use mynah_testkit::{
    BLUE, GREEN, GREY, RED, edit_card, serve_folder, solid_colour_jpeg, tiny_labels, tiny_model_package,
    tiny_speech,
};
use serde_json::{Value, json};

use crate::process::{built, cargo, run};
use crate::{judges, say};
use world::World;

/// How many sightings make a while: the camera gives twenty pictures a second.
const A_WHILE: usize = 40;

/// All of it.
pub(crate) fn device(out: Option<&Path>) -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let release = built(&root, "release")?;
    let out = out.map_or_else(|| release.with_file_name("journey-device"), Path::to_owned);
    let program = release.join("mynah-runtime");
    let scratch = tempfile::tempdir()?;
    each_label_once(&scratch.path().join("once"), &program)?;
    if !judges::present("mosquitto", Command::new("sh").args(["-c", "command -v /usr/sbin/mosquitto"]))? {
        return Ok(());
    }
    ensure!(Mosquitto::missing().is_none(), "`{}` is needed", Mosquitto::missing().unwrap_or_default());
    let hour = scratch.path().join("hour");
    fs::create_dir(&hour)?;
    let mut world = World::new(&hour, program)?;
    say("journey device: it starts, sees and speaks");
    world.start()?;
    sees_and_speaks(&mut world)?;
    pages_and_clients(&root, &world, &hour, &out)?;
    camera_gone(&mut world)?;
    hub_gone(&mut world)?;
    sound_gone(&mut world)?;
    disk_full(&mut world)?;
    bad_models(&mut world, &hour)?;
    power_gone_in_trial(&mut world)?;
    healthy_end(&mut world)?;
    say("journey device: done");
    Ok(())
}

/// Words of a folder of pictures, each once, as clips.
fn each_label_once(folder: &Path, program: &Path) -> Result<()> {
    say("journey device: a folder of pictures, each label once");
    let frames = folder.join("frames");
    fs::create_dir_all(&frames)?;
    let labels = tiny_labels();
    tiny_model_package(&folder.join("model"))?;
    let speech = tiny_speech(&folder.join("speech"), &labels)?;
    for (number, colour) in [RED, GREEN, BLUE, BLUE].into_iter().enumerate() {
        fs::write(frames.join(format!("{number}.jpg")), solid_colour_jpeg(colour, number as u64))?;
    }
    let arguments =
        ["--model", "model", "--source", "dir:frames/", "--speech", "speech", "--speaker", "wav:out/"];
    run(folder, program, arguments, &[])?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("out"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    ensure!(files.len() == labels.len(), "{} words were spoken for {} labels", files.len(), labels.len());
    for (file, clip) in files.iter().zip(&speech.clips) {
        ensure!(
            fs::read(file)? == fs::read(clip.file.path.below(&folder.join("speech")))?,
            "{} is not the clip of `{}`",
            file.display(),
            clip.label
        );
    }
    Ok(())
}

/// Waits until the device knows what it sees.
fn shows(world: &mut World, colour: [u8; 3], words: usize) -> Result<()> {
    let before = world.heard();
    world.camera.show(colour);
    world.until("words are heard", |world| Ok(world.heard() >= before + words))?;
    world.camera.show(GREY);
    world.until_more(A_WHILE / 4)
}

fn sees_and_speaks(world: &mut World) -> Result<()> {
    for colour in [RED, GREEN, BLUE, RED] {
        shows(world, colour, 1)?;
    }
    world.until("the hub knows that it runs", |world| {
        Ok(world.property("status")["state"] == "running" && world.property("status")["problem"].is_null())
    })
}

/// The page as people see it, and an old camera module.
fn pages_and_clients(root: &Path, world: &World, folder: &Path, out: &Path) -> Result<()> {
    say("journey device: the page in a browser, and a client of the Custom Vision container");
    world.camera.show(BLUE);
    judges::page(root, &format!("http://{}/", world.host()?), out)?;
    say(&format!("screenshots are in {}", out.display()));
    let mut pictures = Vec::new();
    for (label, colour) in [("red", RED), ("green", GREEN), ("blue", BLUE)] {
        let path = folder.join(format!("{label}.jpg"));
        fs::write(&path, solid_colour_jpeg(colour, 7))?;
        pictures.push(format!("{label}={}", path.display()));
    }
    judges::container_client(root, &world.host()?, &pictures)?;
    world.camera.show(GREY);
    Ok(())
}

fn camera_gone(world: &mut World) -> Result<()> {
    say("journey device: the camera is unplugged");
    let reopened = world.figure("mynah_camera_reconnects_total")?;
    world.camera.plug(false);
    world.until("the hub hears that the camera is gone", |world| {
        let problem = &world.property("status")["problem"];
        Ok(problem.as_str().is_some_and(|problem| problem.contains("camera") || problem.contains("stream")))
    })?;
    ensure!(world.problem().is_some(), "the status says nothing of the camera");
    world.camera.plug(true);
    world.until("the camera is back", |world| {
        Ok(world.problem().is_none() && world.figure("mynah_camera_reconnects_total")? > reopened)
    })?;
    shows(world, GREEN, 1)
}

fn hub_gone(world: &mut World) -> Result<()> {
    say("journey device: the hub is gone, for a while");
    world.broker.down()?;
    world.until("sightings wait", |world| Ok(world.figure("mynah_spool_messages")? >= A_WHILE as f64))?;
    let before = world.heard();
    world.camera.show(RED);
    world.until("it speaks without a hub", |world| Ok(world.heard() > before))?;
    world.camera.show(GREY);
    world.broker.up()?;
    world.until("nothing waits any more", |world| Ok(world.figure("mynah_spool_messages")? < 2.0))?;
    world.until_more(A_WHILE)
}

fn sound_gone(world: &mut World) -> Result<()> {
    say("journey device: the loudspeaker's cable is out");
    fs::remove_file(world.folder.join("cable"))?;
    world.camera.show(BLUE);
    world.until("it says that nothing is heard", |world| {
        Ok(world.problem().is_some_and(|problem| problem.contains("exit status: 1")))
    })?;
    world.camera.show(GREY);
    world.until_more(A_WHILE / 4)?;
    fs::write(world.folder.join("cable"), "")?;
    shows(world, GREEN, 1)?;
    world.until("all is well", |world| Ok(world.problem().is_none()))
}

fn disk_full(world: &mut World) -> Result<()> {
    say("journey device: the disk is full, while the hub is gone");
    world.broker.down()?;
    world.until("sightings wait on disk", |world| Ok(world.figure("mynah_spool_messages")? >= 10.0))?;
    if world.fill_disk()? {
        world.until("it says that the disk is full", |world| {
            Ok(world.said("they wait in memory")?
                && world.problem().is_some_and(|problem| problem.contains("the disk takes no messages")))
        })?;
        let waiting = world.figure("mynah_spool_messages")?;
        world.until("sightings wait in memory", |world| {
            Ok(world.figure("mynah_spool_messages")? >= waiting + A_WHILE as f64)
        })?;
        world.empty_disk()?;
        world.until("they are written down", |world| world.said("written to the disk again"))?;
    }
    world.broker.up()?;
    world.until("nothing waits any more", |world| Ok(world.figure("mynah_spool_messages")? < 2.0))?;
    world.until("all is well", |world| Ok(world.problem().is_none()))
}

/// The desired property that names the model in `folder`.
fn wish(world: &World, folder: &Path, signature: Option<String>) -> Result<Value> {
    let card = fs::read(folder.join("model.json"))?;
    let address = serve_folder(folder.to_owned())?;
    let signature = signature.unwrap_or_else(|| world.signer.sign(&card));
    let sha256 = Sha256Digest::of(&card).hex();
    Ok(
        json!({ "model": { "url": format!("{address}/model.json"), "sha256": sha256, "signature": signature } }),
    )
}

fn bad_models(world: &mut World, folder: &Path) -> Result<()> {
    say("journey device: models that are forged or do not hold what they promise");
    let good = world.status()?.model;
    let forged = folder.join("forged");
    tiny_model_package(&forged)?;
    edit_card(&forged, |card| card.calibration.reject_threshold = 0.5)?;
    let other = mynah_testkit::ModelSigner::new(2)?.sign(&fs::read(forged.join("model.json"))?);
    let liar = folder.join("liar");
    tiny_model_package(&liar)?;
    edit_card(&liar, |card| card.probes.iter_mut().for_each(|probe| probe.probabilities.reverse()))?;
    for (version, wish, says) in
        [(2, wish(world, &forged, Some(other))?, "signature"), (3, wish(world, &liar, None)?, "probe")]
    {
        world.hub.desire(version, &wish)?;
        world.until("the model is refused", |world| {
            let answer = world.property("model");
            Ok(answer["av"] == version && answer["ac"] == 400)
        })?;
        let why = world.property("model")["ad"].to_string();
        ensure!(why.contains(says), "the model is refused for another reason: {why}");
        ensure!(world.status()?.model == good, "another model is in use");
        shows(world, RED, 1)?;
    }
    Ok(())
}

fn power_gone_in_trial(world: &mut World) -> Result<()> {
    say("journey device: a good model, and the power goes before it has proved itself");
    let folder = world.folder.join("sure");
    tiny_model_package(&folder)?;
    edit_card(&folder, |card| card.calibration.reject_threshold = 0.1)?;
    let wish = wish(world, &folder, None)?;
    world.hub.desire(4, &wish)?;
    world.until("the model is taken up", |world| {
        Ok(world.property("model")["av"] == 4 && world.property("model")["ac"] == 200)
    })?;
    world.until_more(A_WHILE)?;
    world.cut_power()?;
    world.start()?;
    ensure!(world.said("threshold 0.60")?, "the model in trial is used again");
    world.until("the model is refused from now on", |world| {
        let answer = world.property("model");
        Ok(answer["av"] == 4 && answer["ac"] == 400)
    })?;
    shows(world, BLUE, 1)
}

fn healthy_end(world: &mut World) -> Result<()> {
    say("journey device: asked to stop while it speaks");
    fs::write(world.folder.join("dawdle"), "")?;
    let before = world.heard();
    world.camera.show(GREEN);
    world.until("it speaks", |world| world.said("says: green"))?;
    world.ask_to_stop()?;
    world.until("the hub hears that it is busy", |world| Ok(world.property("status")["state"] == "busy"))?;
    fs::remove_file(world.folder.join("dawdle"))?;
    let code = world.ended()?;
    ensure!(code == 0, "it ended with {code}");
    ensure!(world.heard() == before + 1, "the last word was not said to its end");
    let status = world.status()?;
    ensure!(status.state == DeviceState::Finished, "its last state is {:?}", status.state);
    let (promised, repeated) = world.settle()?;
    ensure!(world.property("status")["state"] == "finished", "the hub was not told of the end");
    say(&format!(
        "journey device: {promised} sightings were promised and arrived, in order; {repeated} of them twice, on the wire"
    ));
    Ok(())
}
