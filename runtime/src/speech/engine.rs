//! What can speak on a device: espeak-ng and Piper as programs of their own (their licence, the GPL, stays with them),
//! or the service Azure Speech.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mynah_contracts::azure_speech::{DEFAULT_VOICE, FORMAT, FORMAT_HEADER, KEY_HEADER, ssml, with_length};
use mynah_contracts::{Diagnosis, FaultKind};

use crate::program::{find, wait};
use crate::secret::Secret;
use crate::settings::{AzureSpeech, EngineSpec};
use crate::web;

/// How long a program may take for one sentence: Piper on a Pi reads its model first.
const PROGRAM_TIME: Duration = Duration::from_secs(30);
/// How long the service may take.
const SERVICE_TIME: Duration = Duration::from_secs(20);
/// The largest clip, in bytes: a minute and a half at 48 kHz.
const MAX_CLIP: u64 = 9 << 20;
/// The programs.
const ESPEAK: &str = "espeak-ng";
const PIPER: &str = "piper";
/// The voice of espeak-ng where none is asked for.
const ESPEAK_VOICE: &str = "en";

/// An engine.
#[derive(Clone, Debug)]
pub enum Engine {
    /// espeak-ng.
    Espeak {
        /// Its file.
        program: PathBuf,
    },
    /// Piper with one of its voices.
    Piper {
        /// Its file.
        program: PathBuf,
        /// The voice's model.
        model: PathBuf,
    },
    /// A resource of Azure Speech.
    Azure {
        /// Where it speaks.
        url: String,
        /// Its key.
        key: Secret,
    },
}

/// Why nothing was spoken.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no such program.
    #[error("the speech engine `{program}` is not installed")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// The service has no place or no key.
    #[error("Azure Speech needs both `azure-speech` and `azure-speech-key-file`")]
    NoPlace,
    /// The program cannot be run.
    #[error("cannot run `{program}`")]
    Run {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("`{program}` ended with {status}: {said}")]
    Failed {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// Its last line.
        said: String,
    },
    /// The program hung.
    #[error("`{program}` hung and was ended")]
    Hung {
        /// Which.
        program: String,
    },
    /// The service refused, or is not there.
    #[error("Azure Speech does not speak")]
    Service(#[source] Box<ureq::Error>),
}

impl Diagnosis for EngineError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NoProgram { .. } | Self::NoPlace => FaultKind::BadInput,
            Self::Service(_) => FaultKind::ServiceRefused,
            Self::Run { .. } | Self::Failed { .. } | Self::Hung { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram { program } => {
                Some(format!("install `{program}`, or choose another with `--speech-engine`"))
            }
            Self::NoPlace => Some("the key stands in a file, never on the command line".into()),
            _ => None,
        }
    }
}

impl Engine {
    /// The engine that `spec` names, if any: `auto` is espeak-ng where it is installed, else Azure Speech where that
    /// is set up. `search` is the `PATH` of programs.
    ///
    /// # Errors
    /// One that is asked for by name is not there.
    pub fn open(
        spec: &EngineSpec,
        azure: Option<&AzureSpeech>,
        search: Option<&OsStr>,
    ) -> Result<Option<Self>, EngineError> {
        let program = |name: &'static str| find(name, search).ok_or(EngineError::NoProgram { program: name });
        let service = || azure.map(|azure| Self::Azure { url: azure.url.clone(), key: azure.key.clone() });
        Ok(match spec {
            EngineSpec::Off => None,
            EngineSpec::Auto => find(ESPEAK, search).map(|program| Self::Espeak { program }).or_else(service),
            EngineSpec::Espeak => Some(Self::Espeak { program: program(ESPEAK)? }),
            EngineSpec::Piper(model) => Some(Self::Piper { program: program(PIPER)?, model: model.clone() }),
            EngineSpec::Azure => Some(service().ok_or(EngineError::NoPlace)?),
        })
    }

    /// What makes its clips differ from those of others.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Espeak { .. } => ESPEAK.into(),
            Self::Piper { model, .. } => format!("{PIPER} {}", model.display()),
            Self::Azure { .. } => format!("azure {FORMAT}"),
        }
    }

    /// Speaks `words` and gives the bytes of a WAV file, which nobody has looked at yet. `voice` is the speech map's;
    /// espeak-ng names its voices by language and takes `en` of `en-AU-NatashaNeural`.
    ///
    /// # Errors
    /// The program or the service fails.
    pub(super) fn speak(
        &self,
        words: &str,
        voice: Option<&str>,
        language: Option<&str>,
    ) -> Result<Vec<u8>, EngineError> {
        match self {
            Self::Espeak { program } => {
                let of_voice = voice.map(|voice| match voice.split('-').collect::<Vec<_>>().as_slice() {
                    [language, _, _, ..] => (*language).to_owned(),
                    _ => voice.to_owned(),
                });
                let of_language = language.and_then(|language| language.split('-').next()).map(str::to_owned);
                let voice = of_voice.or(of_language).unwrap_or_else(|| ESPEAK_VOICE.into());
                // `-b 1` is UTF-8; `-v` takes the argument that follows, whatever it is.
                by_program(program, words, |command, file| {
                    command.args(["-b", "1", "-v", &voice, "-w"]).arg(file).arg("--stdin");
                })
            }
            Self::Piper { program, model } => by_program(program, words, |command, file| {
                command.arg("-m").arg(model).arg("-f").arg(file);
            }),
            Self::Azure { url, key } => {
                let agent = web::config(SERVICE_TIME).max_redirects(0).build().new_agent();
                let failed = |error: ureq::Error| EngineError::Service(Box::new(error));
                let mut answer = agent
                    .post(url)
                    .header(KEY_HEADER, key.expose())
                    .header(FORMAT_HEADER, FORMAT)
                    .header("content-type", "application/ssml+xml")
                    .send(ssml(words, voice.unwrap_or(DEFAULT_VOICE), language))
                    .map_err(failed)?;
                let bytes = answer.body_mut().with_config().limit(MAX_CLIP).read_to_vec().map_err(failed)?;
                Ok(with_length(bytes))
            }
        }
    }
}

/// Has a program write a WAV file of the words on its standard input: a label that begins with `-` is no option there.
fn by_program(
    program: &Path,
    words: &str,
    arguments: impl FnOnce(&mut Command, &Path),
) -> Result<Vec<u8>, EngineError> {
    let name = || program.display().to_string();
    let failed = |source| EngineError::Run { program: name(), source };
    let folder = tempfile::tempdir().map_err(failed)?;
    let (file, log) = (folder.path().join("clip.wav"), folder.path().join("log"));
    let mut command = Command::new(program);
    arguments(&mut command, &file);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ended before it read says why by its status.
        let _ = input.write_all(words.as_bytes());
    }
    let status = wait(&mut child, PROGRAM_TIME)
        .map_err(failed)?
        .ok_or_else(|| EngineError::Hung { program: name() })?;
    if !status.success() {
        let said = std::fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = said.unwrap_or_default();
        let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        return Err(EngineError::Failed { program: name(), status, said: line.escape_debug().to_string() });
    }
    std::fs::read(&file).map_err(failed)
}
