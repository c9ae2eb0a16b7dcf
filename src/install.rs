//! Where the program's own files are: the backbone, the samples, the device's runtime.
//!
//! They are looked for below `MYNAH_HOME`, beside the program, in its `../share/mynah`, in the folders above
//! it (a build inside the repository), and in the present folder, in this order.

use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind};

/// The backbone's file, below the places that are searched.
pub const BACKBONE: &str = "models/efficientnet-lite0-224.onnx";

/// The samples' folder, below the places that are searched.
pub const SAMPLES: &str = "samples";

/// A file of ours is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` was not found beside `{program}` nor in the present folder")]
pub struct NotInstalled {
    file: String,
    program: String,
}

impl Diagnosis for NotInstalled {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(format!("set MYNAH_HOME to the folder that holds `{}`", self.file))
    }
}

/// Finds one of our files or folders by its path below the places that are searched.
pub fn find(relative: &str) -> Result<PathBuf, NotInstalled> {
    let program = std::env::current_exe().unwrap_or_default();
    let home = std::env::var_os("MYNAH_HOME").map(PathBuf::from);
    places(home.as_deref(), &program)
        .into_iter()
        .map(|place| place.join(relative))
        .find(|path| path.exists())
        .ok_or_else(|| NotInstalled { file: relative.into(), program: program.display().to_string() })
}

fn places(home: Option<&Path>, program: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = home.map(Path::to_owned).into_iter().collect();
    if let Some(folder) = program.parent() {
        places.push(folder.to_owned());
        places.push(folder.join("../share/mynah"));
        places.extend(folder.ancestors().skip(1).take(3).map(Path::to_owned));
    }
    places.push(PathBuf::from("."));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_names_comes_first_and_the_present_folder_last() {
        let places = places(Some(Path::new("/home/mynah")), Path::new("/repo/target/release/mynah"));
        assert_eq!(places.first().unwrap(), Path::new("/home/mynah"));
        assert!(places.contains(&PathBuf::from("/repo")));
        assert_eq!(places.last().unwrap(), Path::new("."));
    }

    #[test]
    fn what_is_nowhere_is_named() {
        let error = find("models/no-such-file").unwrap_err();
        assert!(error.to_string().contains("models/no-such-file"));
    }
}
