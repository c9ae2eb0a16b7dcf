//! What is wrong with a Dockerfile, and on which line.

use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, Fault, FaultKind};

use crate::oci::OciError;

/// A problem without its place.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The text is not what the Dockerfile reference says.
    #[error("{0}")]
    Text(String),
    /// An instruction there is none of.
    #[error("`{found}` is no instruction{}", nearest.as_ref().map_or(String::new(), |name| format!(", did you mean `{name}`?")))]
    UnknownInstruction {
        /// What stands there.
        found: String,
        /// The instruction spelt most alike.
        nearest: Option<String>,
    },
    /// `RUN` starts programs of the image.
    #[error("`RUN` starts programs inside the image, which needs a builder: buildah or docker")]
    Run,
    /// Something else that is not carried out here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// `COPY` or `ADD` found nothing.
    #[error("`{pattern}` matches nothing in `{context}`{}", if *ignored { " that .dockerignore lets through" } else { "" }, context = context.display())]
    NoMatch {
        /// The source as written, expanded.
        pattern: String,
        /// The build context's folder, or the stage.
        context: PathBuf,
        /// Whether an ignored file would have matched.
        ignored: bool,
    },
    /// A source or a link leads out of the build context.
    #[error("`{path}` leads out of the build context `{context}`", context = context.display())]
    Escapes {
        /// The source, or the link.
        path: String,
        /// The build context's folder.
        context: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// The base image or a layer of it cannot be used.
    #[error("cannot use the base image `{reference}`")]
    Base {
        /// As written.
        reference: String,
        /// Why.
        #[source]
        source: FaultSource,
    },
    /// An image cannot be read or written.
    #[error("the image cannot be made")]
    Image(#[source] OciError),
}

/// A [`Fault`] as the cause of another error.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct FaultSource {
    /// The fault.
    pub fault: Fault,
}

/// A problem at a line of a Dockerfile.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` line {line}", file = file.display())]
pub struct DockerfileError {
    file: PathBuf,
    line: usize,
    #[source]
    problem: Problem,
}

impl DockerfileError {
    pub(crate) fn at(file: &Path, line: usize) -> impl FnOnce(Problem) -> Self {
        let file = file.to_owned();
        move |problem| Self { file, line, problem }
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What is wrong there.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl Diagnosis for DockerfileError {
    fn kind(&self) -> FaultKind {
        match &self.problem {
            Problem::Base { source, .. } => source.fault.kind(),
            Problem::Image(error) => error.kind(),
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.problem {
            Problem::Run => {
                "give `--builder buildah` or `--builder docker` where one is installed, or make the files beforehand and COPY them"
            }
            Problem::NoMatch { ignored: true, .. } => "change the .dockerignore, or name another file",
            Problem::NoMatch { .. } => {
                "sources are looked for below the context: `contextPath` of module.json, else its folder"
            }
            Problem::Escapes { .. } => "copy it into the context, or set `contextPath` in module.json",
            Problem::Base { source, .. } => return source.fault.hint(),
            Problem::Image(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.into())
    }
}
