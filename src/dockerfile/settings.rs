//! Instructions that change an image's settings and no file.

use crate::oci::spec::{Empty, HealthCheck, RunConfig};

use super::error::Problem;
use super::instruction::Command;

/// What runs a command given as a line, where `SHELL` does not say otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Sets an environment variable, in its place where it is there already.
pub(super) fn set_env(config: &mut RunConfig, name: &str, value: &str) {
    let set = format!("{name}={value}");
    let same = |entry: &String| entry.split_once('=').is_some_and(|(other, _)| other == name);
    match config.env.iter().position(same).and_then(|at| config.env.get_mut(at)) {
        Some(entry) => *entry = set,
        None => config.env.push(set),
    }
}

/// The value of an environment variable.
pub(super) fn env(config: &RunConfig, name: &str) -> Option<String> {
    let pairs = config.env.iter().filter_map(|entry| entry.split_once('='));
    pairs.filter(|(other, _)| *other == name).map(|(_, value)| value.to_owned()).next()
}

/// A command as the words to start.
pub(super) fn words(config: &RunConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) if line.is_empty() => Vec::new(),
        Command::Shell(line) => {
            let mut words = if config.shell.is_empty() {
                SHELL.map(str::to_owned).to_vec()
            } else {
                config.shell.clone()
            };
            words.push(line.clone());
            words
        }
    }
}

/// Adds ports such as `80`, `53/udp`, `8000-8010/tcp`.
pub(super) fn expose(config: &mut RunConfig, port: &str) -> Result<(), Problem> {
    let wrong =
        || Problem::Text(format!("`{}` is no port such as `80`, `53/udp`, `8000-8010`", port.escape_debug()));
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (low, high) = number(low).zip(number(high)).filter(|(low, high)| low <= high).ok_or_else(wrong)?;
    config.exposed_ports.extend((low..=high).map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

/// The check that `HEALTHCHECK`'s flags and command describe.
pub(super) fn health_check(
    config: &RunConfig,
    flags: &[(String, String)],
    command: Option<&Command>,
) -> Result<HealthCheck, Problem> {
    let test = match command {
        None => vec!["NONE".to_owned()],
        Some(Command::Exec(words)) => [vec!["CMD".to_owned()], words.clone()].concat(),
        Some(Command::Shell(line)) if config.shell.is_empty() => vec!["CMD-SHELL".into(), line.clone()],
        Some(shell) => [vec!["CMD".to_owned()], words(config, shell)].concat(),
    };
    if test.len() < 2 && command.is_some() {
        return Err(Problem::Text("`HEALTHCHECK CMD` names no command".into()));
    }
    let mut check = HealthCheck { test, ..HealthCheck::default() };
    for (name, value) in flags {
        let field = match name.as_str() {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            _ => {
                let count = value.parse().map_err(|_| {
                    Problem::Text(format!(
                        "`--retries` is `{}`, a whole number is expected",
                        value.escape_debug()
                    ))
                })?;
                check.retries = Some(count);
                continue;
            }
        };
        *field = Some(nanoseconds(value).ok_or_else(|| {
            Problem::Text(format!(
                "`--{name}` is `{}`, a time such as `1m30s` is expected",
                value.escape_debug()
            ))
        })?);
    }
    Ok(check)
}

/// Reads a duration as Go writes it: `300ms`, `1m30s`, `1.5h`.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, after) = unit.split_at_checked(end)?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // Above a hundred years something else is meant.
    (!text.is_empty() && total < 3.2e18).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (text, value) in
            [("30s", 30_000_000_000), ("1m30s", 90_000_000_000), ("1.5ms", 1_500_000), ("0s", 0)]
        {
            assert_eq!(nanoseconds(text), Some(value), "{text}");
        }
        for bad in ["", "5", "s", "5x", "1..5s", "9e9h", "-1s"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn ports_are_checked() {
        let mut config = RunConfig::default();
        for port in ["80", "53/UDP", "8000-8002"] {
            expose(&mut config, port).unwrap();
        }
        let ports: Vec<_> = config.exposed_ports.keys().cloned().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        for bad in ["", "0", "70000", "80/icmp", "9-8", "a"] {
            assert!(expose(&mut config, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_keeps_its_place() {
        let mut config = RunConfig { env: vec!["A=1".into(), "AB=2".into()], ..RunConfig::default() };
        set_env(&mut config, "A", "x=y");
        set_env(&mut config, "C", "");
        assert_eq!(config.env, ["A=x=y", "AB=2", "C="]);
        assert_eq!((env(&config, "A").unwrap(), env(&config, "D")), ("x=y".to_owned(), None));
    }
}
