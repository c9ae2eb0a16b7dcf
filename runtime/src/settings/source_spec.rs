//! The text that says where frames come from: `dir:FOLDER[?hold=N&fps=N]`.

use std::path::PathBuf;

use super::{count, decimal, path};

/// Where frames come from.
#[derive(Clone, PartialEq, Debug)]
pub enum SourceSpec {
    /// The pictures below a folder, in natural order.
    Folder {
        /// The folder.
        path: PathBuf,
        /// For how many frames each picture is shown, 1 to 1000.
        hold: u32,
        /// Frames per second, 0.01 to 240; absent = as fast as they are taken.
        fps: Option<f32>,
    },
}

impl SourceSpec {
    /// Reads the text; what follows the last `?` are options. `hold` is the default for each picture.
    pub(super) fn parse(text: &str, hold: u32) -> Result<Self, String> {
        let rest = text.strip_prefix("dir:").ok_or("a source is written `dir:FOLDER`")?;
        let (folder, options) = rest.rsplit_once('?').unwrap_or((rest, ""));
        if folder.is_empty() {
            return Err("`dir:` is followed by a folder".into());
        }
        let (mut hold, mut fps) = (hold, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let named = |what| format!("in the option `{}`, {what}", option.escape_debug());
            match option.split_once('=') {
                Some(("hold", value)) => hold = count(value, 1, 1000).map_err(named)?,
                Some(("fps", value)) => fps = Some(decimal(value, 0.01, 240.0).map_err(named)?),
                _ => return Err(named("a name other than `hold=` or `fps=` stands".into())),
            }
        }
        Ok(Self::Folder { path: path(folder)?, hold, fps })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_follow_the_last_question_mark() {
        let folder = |path: &str, hold, fps| SourceSpec::Folder { path: path.into(), hold, fps };
        for (text, expected) in [
            ("dir:frames", folder("frames", 3, None)),
            ("dir:/a b/c?hold=1", folder("/a b/c", 1, None)),
            ("dir:f?fps=4&hold=2", folder("f", 2, Some(4.0))),
            ("dir:odd?name?", folder("odd?name", 3, None)),
        ] {
            assert_eq!(SourceSpec::parse(text, 3).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("frames", "`dir:FOLDER`"),
            ("dir:", "followed by a folder"),
            ("dir:f?hold=0", "in the option `hold=0`, a whole number from 1 to 1000 is allowed"),
            ("dir:f?fps=fast", "in the option `fps=fast`, a number from 0.01 to 240"),
            ("dir:f?loop=1", "a name other than"),
        ] {
            let error = SourceSpec::parse(text, 3).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_in_range(text in "(dir:)?.{0,20}(\\?(hold|fps)?=?[0-9.]{0,5}&?)?") {
            if let Ok(SourceSpec::Folder { hold, fps, .. }) = SourceSpec::parse(&text, 3) {
                prop_assert!((1..=1000).contains(&hold));
                prop_assert!(fps.is_none_or(|fps| (0.01..=240.0).contains(&fps)));
            }
        }
    }
}
