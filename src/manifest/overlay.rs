//! Overlays: what differs from one environment to the next, as JSON merge patches (RFC 7396) on the filled-in template.
//!
//! An overlay is itself a template: it may hold comments and variables. `"$extends"` names overlays that are applied
//! before it, by paths relative to its own file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind};
use serde_json::{Map, Value};

use super::content::escaped;
use super::placeholder::Names;
use super::{ManifestError, create_options, json, template};

const EXTENDS: &str = "$extends";

/// Why an overlay could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The file system refused.
    #[error("cannot read the overlay `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is refused.
    #[error("cannot use the overlay `{path}`", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ManifestError>,
    },
    /// It is no object, or `$extends` no path.
    #[error("the overlay `{path}` {what}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It extends itself.
    #[error("the overlays extend each other in a circle: `{}`", chain.join("` extends `"))]
    Circular {
        /// The files, the first again at the end.
        chain: Vec<String>,
    },
}

impl Diagnosis for OverlayError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Content { source, .. } => source.hint(),
            Self::Circular { .. } => Some("take one `$extends` out".into()),
            Self::Io { .. } | Self::Form { .. } => None,
        }
    }
}

/// Applies the overlays in `files` to `document`, in their order. Gives the values that came out of variables.
pub(super) fn apply(
    document: &mut Value,
    files: &[PathBuf],
    names: &Names<'_>,
    warnings: &mut Vec<String>,
) -> Result<BTreeSet<String>, OverlayError> {
    let mut reader = Reader { names, patches: Vec::new(), values: BTreeSet::new() };
    for file in files {
        reader.read(file, &mut Vec::new())?;
    }
    for (path, patch) in &reader.patches {
        let mut idle = Vec::new();
        merge(document, patch, "", &mut idle);
        warnings.extend(idle.into_iter().map(|pointer| {
            format!(
                "the overlay `{}` removes `{}`, which is not there",
                path.display(),
                pointer.escape_debug()
            )
        }));
    }
    Ok(reader.values)
}

struct Reader<'a> {
    names: &'a Names<'a>,
    patches: Vec<(PathBuf, Value)>,
    values: BTreeSet<String>,
}

impl Reader<'_> {
    /// Reads a file and, before it, those it extends. `within` are the files that led here.
    fn read(&mut self, file: &Path, within: &mut Vec<PathBuf>) -> Result<(), OverlayError> {
        let failed = |source| OverlayError::Io { path: file.to_owned(), source };
        let identity = fs::canonicalize(file).map_err(failed)?;
        if let Some(first) = within.iter().position(|earlier| *earlier == identity) {
            let circle = within[first..].iter().chain(std::iter::once(&identity));
            let chain = circle.map(|path| path.display().to_string()).collect();
            return Err(OverlayError::Circular { chain });
        }
        let bytes = fs::read(file).map_err(failed)?;
        let content = |source| OverlayError::Content { path: file.to_owned(), source: Box::new(source) };
        let expanded =
            json::text_of(&bytes).and_then(|text| template::expand(text, self.names)).map_err(content)?;
        self.values.extend(expanded.values);
        let form = |what| OverlayError::Form { path: file.to_owned(), what };
        let patch = json::parse(&expanded.text).map_err(|error| content(ManifestError::Json(error)))?;
        let Value::Object(mut patch) = patch else { return Err(form("is not a JSON object")) };
        patch.remove("$schema");
        let parents = match patch.remove(EXTENDS) {
            None => Vec::new(),
            Some(Value::String(parent)) => vec![parent],
            Some(Value::Array(parents)) => parents
                .into_iter()
                .map(|parent| parent.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| form("has something else than paths in `$extends`"))?,
            Some(_) => return Err(form("has something else than paths in `$extends`")),
        };
        within.push(identity);
        for parent in parents {
            self.read(&file.parent().unwrap_or(Path::new("")).join(parent), within)?;
        }
        within.pop();
        self.patches.push((file.to_owned(), Value::Object(patch)));
        Ok(())
    }
}

/// RFC 7396 §2, but for options for Docker: text is opened first, so that it can be changed in part. `idle` takes the
/// places that a patch removes and that are not there.
fn merge(target: &mut Value, patch: &Value, pointer: &str, idle: &mut Vec<String>) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    if patch.iter().any(|(key, value)| create_options::piece_number(key).is_some() && value.is_object()) {
        create_options::open(target);
    }
    for (key, value) in patch {
        let pointer = format!("{pointer}/{}", escaped(key));
        if !value.is_null() {
            merge(target.entry(key.clone()).or_insert(Value::Null), value, &pointer, idle);
        } else if target.remove(key).is_none() {
            idle.push(pointer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Variables;
    use crate::manifest::tests::modules;
    use proptest::prelude::*;
    use serde_json::json;

    fn merged(mut target: Value, patch: &Value) -> Value {
        merge(&mut target, patch, "", &mut Vec::new());
        target
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn it_merges_as_the_rfc_says() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(target, &patch), result, "{patch}");
        }
    }

    #[test]
    fn options_written_as_text_are_changed_in_part() {
        let target = json!({"image": "a", "createOptions": "{\"Env\":[\"A=1\"],\"Us", "createOptions01": "er\":\"1\"}"});
        let result = merged(target, &json!({"createOptions": {"User": "2"}}));
        assert_eq!(result, json!({"image": "a", "createOptions": {"Env": ["A=1"], "User": "2"}}));
    }

    fn applied(files: &[(&str, &str)], named: &[&str]) -> Result<(Value, Vec<String>), OverlayError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let named: Vec<_> = named.iter().map(|name| folder.path().join(name)).collect();
        let (modules, variables) = (modules(), [("N", "7")].into_iter().collect::<Variables>());
        let (mut document, mut warnings) = (json!({"a": 1}), Vec::new());
        apply(&mut document, &named, &Names::new(&modules, None, &variables), &mut warnings)?;
        Ok((document, warnings))
    }

    #[test]
    fn what_an_overlay_extends_comes_first_and_later_files_win() {
        let files = [
            ("base.json", r#"{"b": 1, "c": 1, "$schema": "x"}"#),
            (
                "prod.json",
                "\u{FEFF}{ // production\r\n\"$extends\": [\"base.json\"], \"c\": $N, \"gone\": null}",
            ),
            ("site.json", r#"{"b": "$N", "$extends": "base.json"}"#),
        ];
        let (document, warnings) = applied(&files, &["prod.json", "site.json"]).unwrap();
        assert_eq!(document, json!({"a": 1, "b": "7", "c": 1}));
        assert!(warnings.len() == 1 && warnings[0].contains("removes `/gone`"), "{warnings:?}");
    }

    #[test]
    fn circles_holes_and_other_things_are_told() {
        let files = [
            ("a.json", r#"{"$extends": "b.json"}"#),
            ("b.json", r#"{"$extends": ["./a.json"]}"#),
            ("list.json", "[]"),
            ("number.json", r#"{"$extends": 3}"#),
            ("broken.json", "{\n\"$X\": 1}"),
        ];
        for (file, says) in [
            ("a.json", "in a circle"),
            ("list.json", "is not a JSON object"),
            ("number.json", "something else than paths"),
            ("gone.json", "cannot read the overlay"),
            ("broken.json", "`$X` in line 2 stands for nothing"),
        ] {
            let error = applied(&files, &[file]).unwrap_err();
            let text = mynah_contracts::error_chain(&error);
            assert!(text.contains(says) && text.contains(".json`"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_patch_that_says_what_is_there_changes_nothing(a in "[a-c]{1,2}", b in "[a-c]{1,2}", n in 0..9_u8) {
            let document = json!({a: {b: n}, "d": [n]});
            prop_assert_eq!(merged(document.clone(), &document), document);
        }
    }
}
