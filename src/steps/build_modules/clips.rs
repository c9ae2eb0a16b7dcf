//! The spoken words: clips made once, kept below the output, taken as they are while nothing changes.

use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::{Artifact as _, Fault, Label, Speech, to_json};

use super::{Plan, SPEECH};
use crate::agent::Env;
use crate::azure::speech::{AzureSpeech, AzureSpeechError};
use crate::http::{Client, Policy, Url};
use crate::oci::OciError;
use crate::secret::Secret;
use crate::speech::{self, Engine, Espeak};
use crate::staging::StagedFolder;
use crate::step::Context;

/// Azure Speech with the key that the environment holds: a key on a command line is seen by everybody.
fn azure_engine(url: &Url, env: &Env) -> Result<AzureSpeech, Fault> {
    let key = ["INPUT_SPEECHKEY", "SPEECH_KEY"].iter().find_map(|name| env.get(name)).map(str::trim);
    let key = key.filter(|key| !key.starts_with("$(")).ok_or(AzureSpeechError::NoKey)?;
    Ok(AzureSpeech::new(Client::new(Policy::default())?, url.clone(), Secret::new(key)))
}

/// Makes the clips below the output. Says whether anything changed there.
pub(super) fn make(
    plan: &Plan,
    labels: &[Label],
    context: &Context<'_>,
) -> Result<(Option<Speech>, bool), Fault> {
    let place = plan.out.join(SPEECH);
    let map = plan.speech_map.as_deref().map(speech::read_map).transpose()?.unwrap_or_default();
    for key in map.unused(labels) {
        tracing::info!("the speech map has a sentence for `{}`, which is no label", key.escape_debug());
    }
    let engine = match &plan.azure_speech {
        Some(url) => Some(Engine::Azure(azure_engine(url, context.env)?)),
        None => Espeak::find(context.monitor).map(Engine::Espeak),
    };
    let voice = match (&plan.voice, &engine) {
        (Some(voice), _) => voice,
        (None, Some(engine)) => engine.voice_for(map.voice.as_deref()),
        (None, None) => map.voice.as_deref().unwrap_or("en"),
    };
    let staged = StagedFolder::begin(&place, Speech::FILE)?;
    let request = speech::Request {
        labels,
        given: plan.clips.as_deref(),
        earlier: &place,
        map: &map,
        engine: engine.as_ref(),
        voice,
    };
    let spoken = request.make(staged.path(), context.monitor)?;
    if !spoken.silent.is_empty() {
        let labels: Vec<_> = spoken.silent.iter().map(|label| format!("`{label}`")).collect();
        tracing::warn!(
            "no voice for {}: the device will print these words; install espeak-ng (`apt-get install espeak-ng`) or give --clips a folder of recordings, then build again",
            labels.join(", ")
        );
    }
    let Some(speech) = spoken.speech else {
        // Clips of an earlier build would look like this one's.
        let stale = place.join(Speech::FILE).is_file();
        if stale {
            fs::remove_dir_all(&place).map_err(OciError::io("remove", &place))?;
        }
        return Ok((None, stale));
    };
    if same_clips(&place, &speech) {
        return Ok((Some(speech), false));
    }
    staged.publish()?;
    Ok((Some(speech), true))
}

/// Whether `folder` holds just these clips already, intact.
fn same_clips(folder: &Path, speech: &Speech) -> bool {
    let same = |path: PathBuf, bytes: &dyn Fn(&[u8]) -> bool| fs::read(path).is_ok_and(|there| bytes(&there));
    let files = fs::read_dir(folder).map_or(0, Iterator::count);
    let mut named: Vec<_> = speech.clips.iter().map(|clip| &clip.file.path).collect();
    named.sort();
    named.dedup();
    files == named.len() + 1
        && same(folder.join(Speech::FILE), &|there| there == to_json(speech))
        && speech.clips.iter().all(|clip| {
            same(clip.file.path.below(folder), &|there| {
                mynah_contracts::Sha256Digest::of(there) == clip.file.sha256
            })
        })
}
