//! `buildOptions` of a `module.json`: flags of `docker build`, as far as they mean something here.

use std::collections::BTreeMap;

/// What the flags ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct BuildOptions {
    pub(super) arguments: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) target: Option<String>,
    /// Flags that change nothing here.
    pub(super) ignored: Vec<String>,
}

/// Flags with a value that matter to a running build only.
const IGNORED_WITH_VALUE: [&str; 14] = [
    "--add-host",
    "--cache-from",
    "--cpu-shares",
    "-c",
    "--cpuset-cpus",
    "--file",
    "-f",
    "--memory",
    "-m",
    "--memory-swap",
    "--network",
    "--shm-size",
    "--tag",
    "-t",
];

/// Flags without a value that change nothing here.
const IGNORED: [&str; 6] = ["--force-rm", "--no-cache", "--pull", "--quiet", "-q", "--rm"];

impl BuildOptions {
    /// Reads the flags, each `--name value`, `--name=value`, or the value as the next text.
    pub(super) fn parse(flags: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = flags.iter().flat_map(|flag| {
            let flag = flag.trim();
            match flag.split_once(char::is_whitespace) {
                Some((name, value)) if flag.starts_with('-') => {
                    vec![name.to_owned(), value.trim().to_owned()]
                }
                _ => vec![flag.to_owned()],
            }
        });
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            if IGNORED.contains(&name.as_str()) {
                options.ignored.push(name);
                continue;
            }
            let takes = ["--build-arg", "--label", "--target", "--platform"].contains(&name.as_str())
                || IGNORED_WITH_VALUE.contains(&name.as_str());
            if !takes {
                return Err(format!("the build option `{}` is not supported", name.escape_debug()));
            }
            let value = inline
                .or_else(|| words.next())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("the build option `{name}` has no value"))?;
            let pair = || {
                let (name, value) = value.split_once('=').ok_or_else(|| {
                    format!("the value of `{name}` is `{}`, name=value is expected", value.escape_debug())
                })?;
                Ok::<_, String>((unquoted(name).to_owned(), unquoted(value).to_owned()))
            };
            match name.as_str() {
                "--build-arg" => options.arguments.extend([pair()?]),
                "--label" => options.labels.extend([pair()?]),
                "--target" => options.target = Some(value),
                _ => options.ignored.push(name),
            }
        }
        Ok(options)
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<BuildOptions, String> {
        BuildOptions::parse(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_in_all_spellings() {
        let options = parse(&[
            "--build-arg A=1",
            "--build-arg=B=x=y",
            "--build-arg",
            "C=3",
            "--label l=\"v\"",
            "--target t",
            "--rm",
            "--memory 1g",
            "--platform linux/amd64",
        ])
        .unwrap();
        let pairs: Vec<_> = options.arguments.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y"), ("C", "3")]);
        assert_eq!((options.labels["l"].as_str(), options.target.as_deref()), ("v", Some("t")));
        assert_eq!(options.ignored, ["--rm", "--memory", "--platform"]);
        assert!(parse(&["--secret id=a"]).unwrap_err().contains("`--secret` is not supported"));
        assert!(parse(&["--build-arg"]).unwrap_err().contains("has no value"));
        assert!(parse(&["--build-arg A"]).unwrap_err().contains("name=value"));
    }
}
