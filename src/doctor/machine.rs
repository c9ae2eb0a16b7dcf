//! What this machine has: camera, sound, clock, processor; and a model that lies on it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mynah_contracts::{ModelCard, Sha256Digest};

use super::{Finding, State, shown};
use crate::artifact;

/// Whose rights count.
#[derive(Clone, Debug)]
pub(super) struct Myself {
    user: u32,
    groups: Vec<u32>,
}

impl Myself {
    /// This process.
    pub(super) fn now() -> Self {
        let mut groups: Vec<u32> = rustix::process::getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        groups.push(rustix::process::getegid().as_raw());
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }

    /// Whether a file with this owner, group and mode can be read and written.
    fn may_open(&self, owner: u32, group: u32, mode: u32) -> bool {
        let class = if self.user == owner {
            6
        } else if self.groups.contains(&group) {
            3
        } else {
            0
        };
        self.user == 0 || (mode >> class) & 0o6 == 0o6
    }
}

/// Looks at the machine below `root`.
pub(super) fn look(root: &Path, me: &Myself) -> Vec<Finding> {
    vec![camera(root, me), sound(root, me), clock(root), processor(root)]
}

fn camera(root: &Path, me: &Myself) -> Finding {
    const EFFECT: &str = "the device sees nothing";
    let nodes = entries(&root.join("dev"), |name| {
        name.strip_prefix("video")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    if nodes.is_empty() {
        let remedy = "plug a USB camera in and look at `dmesg`; in a container or pod, hand /dev/video0 in";
        return Finding::new("camera", State::Problem, "there is no /dev/video0, no camera that Linux knows")
            .but(EFFECT, remedy);
    }
    rights(root, me, "camera", &nodes, "video").unwrap_or_else(|cause| {
        Finding::new("camera", State::Problem, cause).but(EFFECT, group_remedy("video"))
    })
}

fn sound(root: &Path, me: &Myself) -> Finding {
    const EFFECT: &str = "words are printed, not heard";
    let nodes = entries(&root.join("dev/snd"), |name| name.starts_with("pcm") && name.ends_with('p'));
    if nodes.is_empty() {
        let remedy = "plug a speaker or USB sound card in; on a Raspberry Pi, `dtparam=audio=on` in \
                      /boot/firmware/config.txt switches the socket on";
        return Finding::new("sound", State::Warning, "there is no sound card that can play")
            .but(EFFECT, remedy);
    }
    rights(root, me, "sound", &nodes, "audio").unwrap_or_else(|cause| {
        Finding::new("sound", State::Warning, cause).but(EFFECT, group_remedy("audio"))
    })
}

fn group_remedy(group: &str) -> String {
    format!(
        "`sudo usermod -aG {group} $USER`, then log in again; a container needs the group's number in GroupAdd"
    )
}

/// Good where one of the nodes can be opened; otherwise why the first cannot.
fn rights(
    root: &Path,
    me: &Myself,
    check: &'static str,
    nodes: &[PathBuf],
    usual: &str,
) -> Result<Finding, String> {
    let mut refused = None;
    for node in nodes {
        let Ok(about) = fs::metadata(node) else { continue };
        if me.may_open(about.uid(), about.gid(), about.mode()) {
            return Ok(Finding::good(check, format!("{} can be opened", shown(root, node))));
        }
        let group = group_name(root, about.gid()).unwrap_or_else(|| usual.to_owned());
        refused.get_or_insert(format!(
            "{} belongs to the group `{}` ({}), in which this user is not",
            shown(root, node),
            group.escape_debug(),
            about.gid()
        ));
    }
    Err(refused.unwrap_or_else(|| "its device node cannot be looked at".into()))
}

fn group_name(root: &Path, id: u32) -> Option<String> {
    let groups = fs::read_to_string(root.join("etc/group")).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// Whether the clock is kept right: systemd leaves a mark once it has been set.
fn clock(root: &Path) -> Finding {
    let mark = root.join("run/systemd/timesync/synchronized");
    if mark.exists() || root.join("run/chrony/chronyd.pid").exists() || root.join("run/chronyd.pid").exists()
    {
        return Finding::good("clock", "it is kept right over the network");
    }
    Finding::new("clock", State::Warning, "nothing shows that it is kept right over the network").but(
        "where it is off by minutes, sign-in to hubs, registries and agents' servers is refused",
        "`timedatectl set-ntp true`; a Raspberry Pi has no clock of its own while it is off",
    )
}

fn processor(root: &Path) -> Finding {
    let said = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    if said.lines().any(|line| line.starts_with("model name") && line.contains("ARMv6")) {
        return Finding::new(
            "processor",
            State::Problem,
            "it is of the kind ARMv6, as in the Pi Zero W and Pi 1",
        )
        .but(
            "neither agents of Azure Pipelines nor our images run on it",
            "take a Pi Zero 2 W, Pi 3 or later, best with a 64-bit system",
        );
    }
    Finding::good("processor", "it is one that our programs are made for")
}

/// Whether a model is whole.
pub(super) fn model(folder: Option<&Path>) -> Finding {
    const EFFECT: &str = "a device refuses to start with it";
    const REMEDY: &str = "run export-model again";
    let Some(folder) = folder else { return Finding::skipped("model", "--model with a folder") };
    let card: ModelCard = match artifact::load(folder) {
        Ok(card) => card,
        Err(error) => {
            return Finding::new("model", State::Problem, mynah_contracts::error_chain(&error))
                .but(EFFECT, REMEDY);
        }
    };
    for file in [&card.model, &card.labels_file] {
        let path = file.path.below(folder);
        let cause = match fs::read(&path) {
            Err(error) => format!("`{}` cannot be read: {error}", path.display()),
            Ok(bytes) if Sha256Digest::of(&bytes) != file.sha256 => {
                format!("`{}` is not what model.json says", path.display())
            }
            Ok(_) => continue,
        };
        return Finding::new("model", State::Problem, cause).but(EFFECT, REMEDY);
    }
    Finding::good("model", format!("{} of {} labels is whole", card.model.sha256, card.labels.len()))
}

/// The entries of a folder whose names fit, in their order.
fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(all) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = all
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn rights_are_those_of_owner_group_and_others() {
        let me = Myself { user: 1000, groups: vec![1000, 44] };
        for (owner, group, mode, may) in [
            (0, 44, 0o660, true),
            (0, 29, 0o660, false),
            (0, 29, 0o666, true),
            (1000, 29, 0o600, true),
            (0, 44, 0o640, false),
        ] {
            assert_eq!(me.may_open(owner, group, mode), may, "{owner} {group} {mode:o}");
        }
        assert!(Myself { user: 0, groups: Vec::new() }.may_open(1000, 1000, 0));
    }

    #[test]
    fn an_empty_machine_has_neither_camera_nor_sound_nor_time() {
        let root = machine(&[]);
        let found = look(root.path(), &Myself { user: 1000, groups: Vec::new() });
        let states: Vec<_> = found.iter().map(|finding| (finding.check, finding.state)).collect();
        assert_eq!(
            states,
            [
                ("camera", State::Problem),
                ("sound", State::Warning),
                ("clock", State::Warning),
                ("processor", State::Good)
            ]
        );
        let bad = found.iter().filter(|finding| finding.state != State::Good);
        assert!(bad.into_iter().all(|finding| finding.effect.is_some() && finding.remedy.is_some()));
    }

    #[test]
    fn a_camera_of_another_group_is_told_by_its_name() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = machine(&[("dev/video0", ""), ("dev/snd/pcmC0D0p", ""), ("dev/videofoo", "")]);
        let node = root.path().join("dev/video0");
        fs::set_permissions(&node, fs::Permissions::from_mode(0o660)).unwrap();
        let about = fs::metadata(&node).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/group"), format!("root:x:4294967294:\nseers:x:{}:pi\n", about.gid()))
            .unwrap();
        let stranger = Myself { user: about.uid() + 1, groups: vec![about.gid() + 1] };
        let found = camera(root.path(), &stranger);
        assert_eq!(found.state, State::Problem);
        assert!(found.cause.starts_with("/dev/video0 belongs to the group `seers`"), "{}", found.cause);
        let member = Myself { user: about.uid() + 1, groups: vec![about.gid()] };
        assert_eq!(camera(root.path(), &member).state, State::Good);
    }

    #[test]
    fn an_old_processor_and_a_clock_are_seen() {
        let root = machine(&[
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n"),
            ("run/systemd/timesync/synchronized", ""),
        ]);
        assert_eq!(processor(root.path()).state, State::Problem);
        assert_eq!(clock(root.path()).state, State::Good);
    }

    #[test]
    fn a_changed_model_is_told() {
        let folder = tempfile::tempdir().unwrap();
        mynah_testkit::tiny_model_package(folder.path()).unwrap();
        assert_eq!(model(Some(folder.path())).state, State::Good);
        let file = folder.path().join("labels.txt");
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("violet\n");
        fs::write(file, text).unwrap();
        let found = model(Some(folder.path()));
        assert!(found.state == State::Problem && found.cause.contains("labels.txt"), "{found:?}");
        assert_eq!(model(None).state, State::Skipped);
        assert_eq!(model(Some(Path::new("nowhere"))).state, State::Problem);
    }
}
