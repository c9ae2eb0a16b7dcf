//! Text → a Dockerfile's stages and instructions (Dockerfile reference 1.x). Variables are not expanded here.

use std::collections::BTreeSet;

use super::error::Problem;
use super::instruction::{Command, Copy, CopySource, Dockerfile, Instruction, Stage};
use super::lines::{self, Line};
use super::words::split_quoted;
use crate::nearest::nearest;

/// The most logical lines read.
const MAX_LINES: usize = 10_000;

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
            let nearest = nearest(keyword, NAMES.map(str::to_owned).to_vec()).into_iter().next();
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

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
