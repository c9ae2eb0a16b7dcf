//! What a Dockerfile says: its stages and their instructions, variables as written.

pub use super::lines::Heredoc;

/// A parsed Dockerfile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dockerfile {
    /// The escape character, `\` or a backtick.
    pub escape: char,
    /// The `ARG`s before the first `FROM`: line, name, default.
    pub arguments: Vec<(usize, Argument)>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
}

/// A build argument's name and its default.
pub type Argument = (String, Option<String>);

/// From one `FROM` to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stage {
    /// The line of its `FROM`.
    pub line: usize,
    /// The base image or stage, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Its name after `AS`, in lower case.
    pub name: Option<String>,
    /// What follows, with line numbers.
    pub instructions: Vec<(usize, Instruction)>,
}

/// An instruction of a stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// `ADD` and `COPY`.
    Copy(Copy),
    /// `ENV`.
    Env(Vec<(String, String)>),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `LABEL`.
    Label(Vec<(String, String)>),
    /// `EXPOSE`: ports as written.
    Expose(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `CMD`.
    Cmd(Command),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `HEALTHCHECK`: flags, and the command; none = `HEALTHCHECK NONE`.
    HealthCheck(Vec<(String, String)>, Option<Command>),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `RUN`, which is not carried out.
    Run,
}

/// A program to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A JSON array: the program and its arguments.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// `ADD` or `COPY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Whether it is `ADD`, which unpacks archives.
    pub add: bool,
    /// `--from`, as written.
    pub from: Option<String>,
    /// `--chown`, as written.
    pub chown: Option<String>,
    /// `--chmod`, as written.
    pub chmod: Option<String>,
    /// The sources, as written; at least one.
    pub sources: Vec<CopySource>,
    /// The destination, as written.
    pub destination: String,
}

/// What is copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopySource {
    /// A path or pattern.
    Path(String),
    /// Text given in place.
    Text(Heredoc),
}
