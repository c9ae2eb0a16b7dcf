//! Clips played by another program, such as `aplay -q`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mynah_contracts::error_chain;

use super::SpeakerError;
use super::queue::Player;
use crate::program::{find, wait};
use crate::speech::Clip;

/// What a program may take beyond the clip's own length before it counts as hung.
const GRACE: Duration = Duration::from_secs(5);

/// A program that plays a file.
pub(super) struct CommandPlayer {
    program: PathBuf,
    arguments: Vec<String>,
}

impl CommandPlayer {
    /// Finds the program. `search` is a list of folders as in `PATH`.
    ///
    /// # Errors
    /// There is no such program.
    pub(super) fn find(
        program: &str,
        arguments: &[String],
        search: Option<&OsStr>,
    ) -> Result<Self, SpeakerError> {
        let path =
            find(program, search).ok_or_else(|| SpeakerError::NoProgram { program: program.to_owned() })?;
        Ok(Self { program: path, arguments: arguments.to_vec() })
    }
}

impl Player for CommandPlayer {
    fn play(&mut self, clip: &Clip) -> Result<(), String> {
        play(&self.program, &self.arguments, clip)
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

#[cfg(test)]
mod tests {
    use mynah_testkit::{tiny_labels, tiny_speech};

    use super::*;
    use crate::program::LOOK;
    use crate::speaker::queue::QueueSpeaker;
    use crate::speaker::{Speaker as _, Utterance};
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

        fn speaker(&self, script: &str) -> QueueSpeaker {
            let path = self.folder.path().join("player.sh");
            std::fs::write(&path, script).unwrap();
            let arguments =
                [path, self.folder.path().to_path_buf()].map(|path| path.to_str().unwrap().to_owned());
            QueueSpeaker::start(CommandPlayer::find("sh", &arguments, None).unwrap()).unwrap()
        }

        fn say(&self, speaker: &mut QueueSpeaker, label: usize) {
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
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), "").unwrap();
        for program in ["no-such-player", "data", "/no/such/player"] {
            let error = CommandPlayer::find(program, &[], Some(folder.path().as_os_str())).err().unwrap();
            assert!(
                matches!(&error, SpeakerError::NoProgram { program: named } if named == program),
                "{error}"
            );
        }
    }
}
