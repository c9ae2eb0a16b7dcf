//! How often the container's memory limit has killed a process (cgroup v2, `memory.events`).

use std::fs;

/// Where a container finds its own.
const EVENTS: &str = "/sys/fs/cgroup/memory.events";

/// The kills since the container started; none where the kernel does not tell.
pub fn kills() -> u64 {
    fs::read_to_string(EVENTS).ok().and_then(|text| parse(&text)).unwrap_or_default()
}

fn parse(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_others() {
        assert_eq!(parse("low 0\nhigh 2\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse("low 0\n"), None);
        assert_eq!(parse("oom_kill many\n"), None);
    }
}
