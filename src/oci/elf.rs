//! For which platform a program was built, by its ELF header.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, Platform};

/// Why a file is no program for one of our platforms.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It cannot be read.
    #[error("cannot read the program `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// It is no ELF program.
    #[error("`{path}` is not a Linux program", path = .0.display())]
    NotAProgram(PathBuf),
    /// It was built for another processor.
    #[error("`{path}` is built for {machine}, which is none of our platforms", path = path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What its header says.
        machine: String,
    },
    /// It was built for another of our platforms.
    #[error("`{path}` is built for {found}, not for {wanted}", path = path.display())]
    OtherPlatform {
        /// The file.
        path: PathBuf,
        /// Built for.
        found: Platform,
        /// Asked for.
        wanted: Platform,
    },
}

impl Diagnosis for ElfError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::OtherPlatform { wanted, .. } => {
                Some(format!("give --runtime a mynah-runtime built for {wanted}"))
            }
            _ => Some("give --runtime the mynah-runtime program".into()),
        }
    }
}

/// Checks that the program at `path` is built for `wanted`.
///
/// # Errors
/// When it cannot be read, is no program, or is one for another platform.
pub fn check_platform(path: &Path, wanted: Platform) -> Result<(), ElfError> {
    let io = |source| ElfError::Io { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(20).read_to_end(&mut start).map_err(io)?;
    match platform_of(&start) {
        Some(Ok(found)) if found == wanted => Ok(()),
        Some(Ok(found)) => Err(ElfError::OtherPlatform { path: path.to_owned(), found, wanted }),
        Some(Err(machine)) => Err(ElfError::OtherMachine { path: path.to_owned(), machine }),
        None => Err(ElfError::NotAProgram(path.to_owned())),
    }
}

/// Reads the first 20 bytes of an ELF header (System V ABI, chapter 4): class, byte order, type, machine.
/// The inner error is the machine in words.
fn platform_of(start: &[u8]) -> Option<Result<Platform, String>> {
    let start: &[u8; 20] = start.first_chunk()?;
    let [0x7f, b'E', b'L', b'F', class, order, ..] = start else { return None };
    let [.., kind_low, kind_high, machine_low, machine_high] = start;
    let (kind, machine) = match order {
        1 => (u16::from_le_bytes([*kind_low, *kind_high]), u16::from_le_bytes([*machine_low, *machine_high])),
        2 => (u16::from_be_bytes([*kind_low, *kind_high]), u16::from_be_bytes([*machine_low, *machine_high])),
        _ => return None,
    };
    // ET_EXEC and ET_DYN: a program, or a position-independent one.
    if kind != 2 && kind != 3 {
        return None;
    }
    Some(match (class, order, machine) {
        (2, 1, 62) => Ok(Platform::LinuxAmd64),
        (2, 1, 183) => Ok(Platform::LinuxArm64),
        (1, 1, 40) => Ok(Platform::LinuxArmV7),
        _ => Err(format!("ELF machine {machine}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, kind: u16, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order];
        bytes.resize(16, 0);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_of_our_platforms_are_known() {
        assert_eq!(platform_of(&header(2, 1, 3, 62)), Some(Ok(Platform::LinuxAmd64)));
        assert_eq!(platform_of(&header(2, 1, 2, 183)), Some(Ok(Platform::LinuxArm64)));
        assert_eq!(platform_of(&header(1, 1, 3, 40)), Some(Ok(Platform::LinuxArmV7)));
        assert_eq!(platform_of(&header(2, 1, 3, 243)), Some(Err("ELF machine 243".into())));
    }

    #[test]
    fn what_is_no_program_is_told_as_such() {
        assert_eq!(platform_of(b"#!/bin/sh\necho hello there\n"), None);
        assert_eq!(platform_of(&header(2, 1, 1, 62)), None);
        assert_eq!(platform_of(&header(2, 1, 3, 62)[..19]), None);
    }

    #[test]
    fn this_very_test_is_a_program_for_its_host() {
        let program = std::env::current_exe().unwrap();
        if let Some(host) = Platform::host() {
            check_platform(&program, host).unwrap();
            let other =
                if host == Platform::LinuxArmV7 { Platform::LinuxAmd64 } else { Platform::LinuxArmV7 };
            assert!(matches!(check_platform(&program, other), Err(ElfError::OtherPlatform { .. })));
        }
    }
}
