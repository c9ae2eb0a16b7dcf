//! A speaker that plays clips through another program, such as `aplay -q`, one at a time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mynah_contracts::error_chain;

use super::{Speaker, SpeakerError, Utterance};
use crate::speech::Clip;

/// A word that has waited longer is no longer true.
const STALE: Duration = Duration::from_secs(2);

/// What a program may take beyond the clip's own length before it counts as hung.
const GRACE: Duration = Duration::from_secs(5);

/// How often a playing program is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Where programs are looked for when nobody says.
const USUAL_FOLDERS: &str = "/usr/local/bin:/usr/bin:/bin";

/// Plays clips through a program on a thread of its own: at most one at a time, the newest waits, an older
/// one that waited gives way.
pub struct CommandSpeaker {
    desk: Arc<Desk>,
    player: Option<JoinHandle<()>>,
}

/// What the frame loop and the player share.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    closed: bool,
    problem: Option<String>,
}

struct Waiting {
    clip: Clip,
    since: Instant,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next clip to play; `None` = no more will come.
    fn take(&self) -> Option<Waiting> {
        let state = self.lock();
        self.changed
            .wait_while(state, |state| state.waiting.is_none() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner)
            .waiting
            .take()
    }
}

impl CommandSpeaker {
    /// Finds the program and starts the thread that runs it. `search` is a list of folders as in `PATH`.
    ///
    /// # Errors
    /// There is no such program, or no thread to be had.
    pub fn open(program: &str, arguments: &[String], search: Option<&OsStr>) -> Result<Self, SpeakerError> {
        let path =
            find(program, search).ok_or_else(|| SpeakerError::NoProgram { program: program.to_owned() })?;
        let arguments = arguments.to_vec();
        let desk = Arc::new(Desk::default());
        let shared = desk.clone();
        let player = std::thread::Builder::new()
            .name("speaker".into())
            .spawn(move || {
                while let Some(waiting) = shared.take() {
                    if waiting.since.elapsed() > STALE {
                        tracing::warn!("unsaid, since it waited too long: {}", waiting.clip.text);
                        continue;
                    }
                    let problem = play(&path, &arguments, &waiting.clip).err();
                    if let Some(problem) = &problem {
                        tracing::warn!("cannot play `{}`: {problem}", waiting.clip.path.display());
                    }
                    shared.lock().problem = problem;
                }
            })
            .map_err(SpeakerError::Start)?;
        Ok(Self { desk, player: Some(player) })
    }
}

impl Speaker for CommandSpeaker {
    fn say(&mut self, utterance: Utterance<'_>) -> Result<(), SpeakerError> {
        let newest = Waiting { clip: utterance.clip.clone(), since: Instant::now() };
        if let Some(older) = self.desk.lock().waiting.replace(newest) {
            tracing::warn!("unsaid, since something newer is to be said: {}", older.clip.text);
        }
        self.desk.changed.notify_all();
        Ok(())
    }

    fn problem(&self) -> Option<String> {
        self.desk.lock().problem.clone()
    }

    fn finish(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
        if let Some(player) = self.player.take()
            && player.join().is_err()
        {
            tracing::error!("the speaker's thread ended with a panic");
        }
    }
}

impl Drop for CommandSpeaker {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Runs the program on the clip and waits for it; says in words why the clip was not heard.
fn play(program: &Path, arguments: &[String], clip: &Clip) -> Result<(), String> {
    clip.bytes().map_err(|error| error_chain(&error))?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(&clip.path)
        .stdin(Stdio::null())
        // Standard output may be where the sightings go.
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", program.display()))?;
    match wait(&mut child, clip.length + GRACE) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("`{}` ended with {status}", program.display())),
        Ok(None) => Err(format!("`{}` hung and was ended", program.display())),
        Err(error) => Err(format!("cannot wait for `{}`: {error}", program.display())),
    }
}

/// Waits for the program to end; `None` = it did not within `limit` and was killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// The file of the program: a path as it is, a name in the folders of `search`.
fn find(program: &str, search: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_FOLDERS)))
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| {
        #[cfg(unix)]
        let executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
        #[cfg(not(unix))]
        let executable = true;
        metadata.is_file() && executable
    })
}

#[cfg(test)]
mod tests {
    use mynah_testkit::{tiny_labels, tiny_speech};

    use super::*;
    use crate::speech::Clips;

    /// A player that notes the clip's name in `log`, then waits for the file `go`.
    const PLAYER: &str = r#"basename "$2" >> "$1/log"; while [ ! -e "$1/go" ]; do sleep 0.01; done"#;

    struct Scene {
        folder: tempfile::TempDir,
        clips: Clips,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            tiny_speech(folder.path(), &tiny_labels()).unwrap();
            let clips = Clips::open(folder.path(), &tiny_labels()).unwrap().0;
            Self { folder, clips }
        }

        fn speaker(&self, script: &str) -> CommandSpeaker {
            let path = self.folder.path().join("player.sh");
            std::fs::write(&path, script).unwrap();
            let arguments =
                [path, self.folder.path().to_path_buf()].map(|path| path.to_str().unwrap().to_owned());
            CommandSpeaker::open("sh", &arguments, None).unwrap()
        }

        fn say(&self, speaker: &mut CommandSpeaker, label: usize) {
            let clip = self.clips.get(label).unwrap();
            speaker.say(Utterance { number: 1, label: &tiny_labels()[label], clip }).unwrap();
        }

        fn played(&self) -> Vec<PathBuf> {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            log.lines().map(PathBuf::from).collect()
        }

        fn name(&self, label: usize) -> PathBuf {
            self.clips.get(label).unwrap().path.file_name().unwrap().into()
        }
    }

    #[test]
    fn while_one_plays_only_the_newest_waits() {
        let scene = Scene::new();
        let mut speaker = scene.speaker(PLAYER);
        scene.say(&mut speaker, 0);
        while scene.played().is_empty() {
            std::thread::sleep(LOOK);
        }
        scene.say(&mut speaker, 1);
        scene.say(&mut speaker, 2);
        std::fs::write(scene.folder.path().join("go"), "").unwrap();
        speaker.finish();
        assert_eq!(scene.played(), [scene.name(0), scene.name(2)]);
        assert_eq!(speaker.problem(), None);
    }

    #[test]
    fn a_player_that_fails_is_a_problem_until_it_succeeds() {
        let scene = Scene::new();
        let mut speaker = scene.speaker(r#"[ -e "$1/go" ]"#);
        scene.say(&mut speaker, 0);
        let problem = loop {
            if let Some(problem) = speaker.problem() {
                break problem;
            }
            std::thread::sleep(LOOK);
        };
        assert!(problem.contains("exit status: 1"), "{problem}");
        std::fs::write(scene.folder.path().join("go"), "").unwrap();
        scene.say(&mut speaker, 0);
        speaker.finish();
        assert_eq!(speaker.problem(), None);
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), "").unwrap();
        for program in ["no-such-player", "data", "/no/such/player"] {
            let error = CommandSpeaker::open(program, &[], Some(folder.path().as_os_str())).err().unwrap();
            assert!(
                matches!(&error, SpeakerError::NoProgram { program: named } if named == program),
                "{error}"
            );
        }
    }
}
