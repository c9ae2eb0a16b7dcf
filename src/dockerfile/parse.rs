//! A Dockerfile's stages and instructions (Dockerfile reference 1.x). Variables are not expanded here.

use std::collections::BTreeSet;

use super::error::Problem;
pub use super::lines::Heredoc;
use super::lines::{self, Line};
use super::words::split_quoted;

/// The most logical lines read.
const MAX_LINES: usize = 10_000;

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

/// Every instruction, for the nearest name to a misspelt one.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile. The error names the line, from 1.
///
/// # Errors
/// The first line that is not what the Dockerfile reference says, or asks for what is not supported. `RUN` is
/// read; carrying it out is refused.
pub fn parse(text: &str) -> Result<Dockerfile, (usize, Problem)> {
    if text.len() > lines::MAX_BYTES {
        return Err((1, Problem::Text(format!("the file is larger than {} bytes", lines::MAX_BYTES))));
    }
    let lines::Lines { escape, lines } = lines::split(text)?;
    if lines.len() > MAX_LINES {
        return Err((1, Problem::Text(format!("the file has more than {MAX_LINES} instructions"))));
    }
    let mut file = Dockerfile { escape, arguments: Vec::new(), stages: Vec::new() };
    let mut names = BTreeSet::new();
    for line in &lines {
        let at = |problem| (line.number, problem);
        let (keyword, rest) = line.text.split_once(char::is_whitespace).unwrap_or((&line.text, ""));
        let (keyword, rest) = (keyword.to_ascii_uppercase(), rest.trim());
        if keyword == "FROM" {
            let stage = from(line.number, rest).map_err(at)?;
            if let Some(name) = &stage.name
                && !names.insert(name.clone())
            {
                return Err(at(Problem::Text(format!("there are two stages named `{name}`"))));
            }
            file.stages.push(stage);
            continue;
        }
        let instruction = instruction(&keyword, rest, line, escape).map_err(at)?;
        match (file.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.instructions.push((line.number, instruction)),
            (None, Instruction::Arg(arguments)) => {
                file.arguments.extend(arguments.into_iter().map(|argument| (line.number, argument)));
            }
            (None, _) => {
                return Err(at(Problem::Text(format!("`{keyword}` stands before the first `FROM`"))));
            }
        }
    }
    if file.stages.is_empty() {
        return Err((1, Problem::Text("there is no `FROM`".into())));
    }
    Ok(file)
}

fn from(line: usize, rest: &str) -> Result<Stage, Problem> {
    let (flags, rest) = flags("FROM", rest, &["platform"])?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (*base, Some(name.to_ascii_lowercase()))
        }
        _ => return Err(Problem::Text("`FROM` takes an image, and `AS` with a name".into())),
    };
    if let Some(name) = &name {
        let mut chars = name.chars();
        let starts = chars.next().is_some_and(|c| c.is_ascii_lowercase());
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if !starts || !chars.all(valid) {
            return Err(Problem::Text(format!("`{}` cannot name a stage", name.escape_debug())));
        }
    }
    let platform = flags.into_iter().next().map(|(_, value)| value);
    Ok(Stage { line, base: base.to_owned(), platform, name, instructions: Vec::new() })
}

fn instruction(keyword: &str, rest: &str, line: &Line, escape: char) -> Result<Instruction, Problem> {
    let text = || {
        if rest.is_empty() {
            return Err(Problem::Text(format!("`{keyword}` says nothing")));
        }
        Ok(rest.to_owned())
    };
    Ok(match keyword {
        "ADD" | "COPY" => Instruction::Copy(copy(keyword, rest, line)?),
        "ENV" => Instruction::Env(pairs(keyword, rest, escape)?),
        "LABEL" => Instruction::Label(pairs(keyword, rest, escape)?),
        "ARG" => {
            let words = split_quoted(&text()?, escape);
            let argument = |word: String| {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                };
                check_name(keyword, &name)?;
                Ok((name, value))
            };
            Instruction::Arg(words.into_iter().map(argument).collect::<Result<_, Problem>>()?)
        }
        "EXPOSE" => Instruction::Expose(text()?.split_whitespace().map(Into::into).collect()),
        "WORKDIR" => Instruction::Workdir(text()?),
        "USER" => Instruction::User(text()?),
        "VOLUME" => Instruction::Volume(match array(rest)? {
            Some(places) => places,
            None => text()?.split_whitespace().map(Into::into).collect(),
        }),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)?),
        "CMD" => Instruction::Cmd(command(rest)?),
        "STOPSIGNAL" => Instruction::StopSignal(text()?),
        "HEALTHCHECK" => {
            let (flags, rest) =
                flags(keyword, rest, &["interval", "timeout", "start-period", "start-interval", "retries"])?;
            let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            match kind.to_ascii_uppercase().as_str() {
                "NONE" if rest.trim().is_empty() => Instruction::HealthCheck(flags, None),
                "CMD" => Instruction::HealthCheck(flags, Some(command(rest.trim())?)),
                _ => return Err(Problem::Text("`HEALTHCHECK` takes `NONE` or `CMD` with a command".into())),
            }
        }
        "SHELL" => match array(rest)? {
            Some(shell) if !shell.is_empty() => Instruction::Shell(shell),
            _ => return Err(Problem::Text("`SHELL` takes a JSON array".into())),
        },
        "MAINTAINER" => Instruction::Maintainer(text()?),
        "RUN" => Instruction::Run,
        "ONBUILD" => {
            return Err(Problem::Unsupported("`ONBUILD`, which acts in images built on this one,".into()));
        }
        _ => {
            let nearest = NAMES
                .into_iter()
                .map(|name| (distance(keyword, name), name))
                .filter(|(distance, _)| *distance <= 2)
                .min()
                .map(|(_, name)| name);
            let found = keyword.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(Problem::UnknownInstruction { found, nearest });
        }
    })
}

fn copy(keyword: &str, rest: &str, line: &Line) -> Result<Copy, Problem> {
    let (flags, rest) = flags(keyword, rest, &["from", "chown", "chmod", "link"])?;
    let mut copy = Copy {
        add: keyword == "ADD",
        from: None,
        chown: None,
        chmod: None,
        sources: Vec::new(),
        destination: String::new(),
    };
    for (name, value) in flags {
        match name.as_str() {
            "from" if copy.add => return Err(Problem::Text("`ADD` has no `--from`, `COPY` has".into())),
            "from" => copy.from = Some(value),
            "chown" => copy.chown = Some(value),
            "chmod" => copy.chmod = Some(value),
            // `--link` asks for a layer that does not depend on those below: so are all of ours.
            _ => {}
        }
    }
    let mut words = match array(rest)? {
        Some(words) => words,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    copy.destination = words.pop().unwrap_or_default();
    let mut heredocs = line.heredocs.iter();
    for word in words {
        if lines::opening(&word).is_some()
            && let Some(heredoc) = heredocs.next()
        {
            copy.sources.push(CopySource::Text(heredoc.clone()));
        } else {
            copy.sources.push(CopySource::Path(word));
        }
    }
    if copy.sources.is_empty() || copy.destination.is_empty() {
        return Err(Problem::Text(format!("`{keyword}` takes at least one source and a destination")));
    }
    Ok(copy)
}

/// Flags' names and values.
type Flags = Vec<(String, String)>;

/// Takes `--name=value` flags off the front.
fn flags<'a>(keyword: &str, rest: &'a str, known: &[&str]) -> Result<(Flags, &'a str), Problem> {
    let mut flags: Vec<(String, String)> = Vec::new();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            None => (flag, "true"),
        };
        if !known.contains(&name) {
            return Err(Problem::Unsupported(format!("`--{}` of `{keyword}`", name.escape_debug())));
        }
        if value.is_empty() || (value == "true" && !flag.contains('=') && name != "link") {
            return Err(Problem::Text(format!("`--{name}` of `{keyword}` needs a value: `--{name}=…`")));
        }
        if flags.iter().any(|(other, _)| other == name) {
            return Err(Problem::Text(format!("`--{name}` of `{keyword}` is given twice")));
        }
        flags.push((name.to_owned(), value.to_owned()));
    }
    Ok((flags, rest))
}

/// `name=value …`, or the old `name value`.
fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<(String, String)>, Problem> {
    let words = split_quoted(rest, escape);
    let wrong = || Problem::Text(format!("`{keyword}` takes `name=value`"));
    let first = words.first().ok_or_else(wrong)?;
    if !first.contains('=') {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
        check_name(keyword, name)?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').ok_or_else(wrong)?;
            check_name(keyword, name)?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn check_name(keyword: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::Text(format!("`{keyword}` has a value without a name")));
    }
    Ok(())
}

fn command(rest: &str) -> Result<Command, Problem> {
    Ok(match array(rest)? {
        Some(words) => Command::Exec(words),
        None => Command::Shell(rest.to_owned()),
    })
}

/// A JSON array of strings. Nothing where the text is no JSON array, which is then meant as it stands.
fn array(text: &str) -> Result<Option<Vec<String>>, Problem> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Ok(None),
        Ok(values) => values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Ok(text),
                other => Err(Problem::Text(format!("`{other}` in the array is no string"))),
            })
            .collect::<Result<_, _>>()
            .map(Some),
    }
}

/// How many letters must be put in, taken out or replaced (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().take(40).enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        let mut next = vec![left];
        for (other, above) in b.iter().zip(row.iter().skip(1)) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(c != *other));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(text: &str) -> Instruction {
        let mut file = parse(&format!("FROM scratch\n{text}")).unwrap();
        file.stages.remove(0).instructions.remove(0).1
    }

    fn refused(text: &str) -> String {
        let (line, problem) = parse(text).unwrap_err();
        format!("{line}: {problem}")
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn stages_and_arguments() {
        let file =
            parse("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nfrom build\nARG V X=2\n").unwrap();
        assert_eq!(file.arguments, [(1, ("V".into(), Some("1".into())))]);
        assert_eq!(file.stages[0].platform.as_deref(), Some("$BUILDPLATFORM"));
        assert_eq!(file.stages[0].name.as_deref(), Some("build"));
        assert_eq!((file.stages[1].line, file.stages[1].base.as_str()), (3, "build"));
        let arguments = vec![("V".to_owned(), None), ("X".to_owned(), Some("2".to_owned()))];
        assert_eq!(file.stages[1].instructions, [(4, Instruction::Arg(arguments))]);
    }

    #[test]
    fn both_forms_of_everything() {
        let exec = Command::Exec(strings(&["a", "b c"]));
        assert_eq!(only(r#"CMD ["a", "b c"]"#), Instruction::Cmd(exec.clone()));
        assert_eq!(only("cmd a $b"), Instruction::Cmd(Command::Shell("a $b".into())));
        assert_eq!(only("CMD ['a']"), Instruction::Cmd(Command::Shell("['a']".into())));
        assert_eq!(only("VOLUME /a /b"), Instruction::Volume(strings(&["/a", "/b"])));
        assert_eq!(only(r#"VOLUME ["/a"]"#), Instruction::Volume(strings(&["/a"])));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(only("ENV a b  c"), Instruction::Env(vec![pair("a", "b  c")]));
        assert_eq!(only(r#"ENV a="b c" d=e"#), Instruction::Env(vec![pair("a", "\"b c\""), pair("d", "e")]));
        assert_eq!(
            only(r#"HEALTHCHECK --interval=5s --retries=3 CMD ["a", "b c"]"#),
            Instruction::HealthCheck(vec![pair("interval", "5s"), pair("retries", "3")], Some(exec))
        );
        assert_eq!(only("HEALTHCHECK none"), Instruction::HealthCheck(Vec::new(), None));
        let Instruction::Copy(copy) = only(r#"COPY --from=x --chown=1:2 --link ["a b", "c", "/d/"]"#) else {
            panic!("no copy");
        };
        assert_eq!((copy.from.as_deref(), copy.chown.as_deref()), (Some("x"), Some("1:2")));
        assert_eq!(copy.sources, [CopySource::Path("a b".into()), CopySource::Path("c".into())]);
        assert_eq!(copy.destination, "/d/");
        let Instruction::Copy(copy) = only("COPY a <<EOF /d/\ntext\nEOF\n") else { panic!("no copy") };
        assert!(matches!(&copy.sources[1], CopySource::Text(text) if text.content == "text\n"));
    }

    #[test]
    fn what_people_read_when_it_is_wrong() {
        let told: Vec<String> = [
            "",
            "COPY a b",
            "FROM a AS b c",
            "FROM a AS 1",
            "FROM a AS b\nFROM a AS B",
            "FROM a\n\nCOPPY a b",
            "FROM a\nFRUMP a b",
            "FROM a\nCOPY a",
            "FROM a\nCOPY --parents a b",
            "FROM a\nCOPY --chown a b",
            "FROM a\nADD --from=b a b",
            "FROM a\nENV a",
            "FROM a\nENV =b",
            "FROM a\nCMD [1]",
            "FROM a\nSHELL sh",
            "FROM a\nHEALTHCHECK maybe",
            "FROM a\nONBUILD COPY a b",
            "FROM a\nUSER",
            "FROM a\nCOPY <<EOF b\n",
        ]
        .into_iter()
        .map(refused)
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
    1: there is no `FROM`
    1: `COPY` stands before the first `FROM`
    1: `FROM` takes an image, and `AS` with a name
    1: `1` cannot name a stage
    2: there are two stages named `b`
    3: `COPPY` is no instruction, did you mean `COPY`?
    2: `FRUMP` is no instruction, did you mean `FROM`?
    2: `COPY` takes at least one source and a destination
    2: `--parents` of `COPY` is not supported
    2: `--chown` of `COPY` needs a value: `--chown=…`
    2: `ADD` has no `--from`, `COPY` has
    2: `ENV` takes `name=value`
    2: `ENV` has a value without a name
    2: `1` in the array is no string
    2: `SHELL` takes a JSON array
    2: `HEALTHCHECK` takes `NONE` or `CMD` with a command
    2: `ONBUILD`, which acts in images built on this one, is not supported
    2: `USER` says nothing
    2: the here-document `EOF` does not end
    "#);
    }

    #[test]
    fn distances_are_counted_in_letters() {
        assert_eq!((distance("COPPY", "COPY"), distance("", "ab"), distance("abc", "abc")), (1, 2, 0));
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(FROM a\n)?[A-Z]{0,6}[ -~\n\\\\]{0,120}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_command_in_json_comes_back(words in prop::collection::vec("[^\u{0}-\u{1f}]{0,12}", 1..5)) {
            let json = serde_json::to_string(&words).unwrap();
            // An odd number of escapes at the end of a line would continue it; an array ends with `]`.
            prop_assert_eq!(only(&format!("CMD {json}")), Instruction::Cmd(Command::Exec(words)));
        }
    }
}
