//! `module.json`, as the IoT Edge tools have it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ModuleError;

/// The largest document read.
const MAX_BYTES: usize = 1 << 20;

/// The document.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ModuleJson {
    /// The image.
    pub image: ImageSection,
    /// What the module is for.
    #[serde(default)]
    pub description: Option<String>,
}

/// `image`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSection {
    /// The repository, variables expanded, in lower case.
    pub repository: String,
    /// Version and Dockerfiles.
    pub tag: TagSection,
    /// Flags of `docker build`.
    #[serde(default)]
    pub build_options: Vec<String>,
    /// The build context, from the module's folder.
    #[serde(default = "here")]
    pub context_path: String,
}

fn here() -> String {
    ".".into()
}

/// `image.tag`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct TagSection {
    /// The version.
    #[serde(default = "first_version")]
    pub version: String,
    /// Dockerfiles by platform names such as `amd64`, `arm64v8`, `arm32v7`, `amd64.debug`.
    pub platforms: BTreeMap<String, String>,
}

fn first_version() -> String {
    "0.0.0".into()
}

impl ModuleJson {
    /// Reads the document. `$NAME` and `${NAME}` in its texts are environment variables, which `variable` gives;
    /// they are put in after parsing, so that no value can change the document's structure.
    ///
    /// # Errors
    /// When it is no such document, or names a variable there is none of.
    pub fn parse(
        bytes: &[u8],
        path: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ModuleError> {
        let content = |problem: String| ModuleError::Content { path: path.to_owned(), problem };
        if bytes.len() > MAX_BYTES {
            return Err(content(format!("is larger than {MAX_BYTES} bytes")));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut document: Self = serde_json::from_slice(bytes)
            .map_err(|source| ModuleError::Document { path: path.to_owned(), source })?;
        let image = &mut document.image;
        let texts = [&mut image.repository, &mut image.tag.version, &mut image.context_path]
            .into_iter()
            .chain(&mut image.build_options)
            .chain(image.tag.platforms.values_mut());
        for text in texts {
            *text = expand(text, variable).map_err(content)?;
        }
        image.repository = image.repository.trim().trim_end_matches('/').to_lowercase();
        if image.repository.is_empty() {
            return Err(content("`image.repository` is empty".into()));
        }
        if image.tag.platforms.is_empty() {
            return Err(content("`image.tag.platforms` names no Dockerfile".into()));
        }
        Ok(document)
    }
}

/// Puts environment variables in, as Python's `os.path.expandvars` does, but refuses unknown ones.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, then) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(|| format!("`${{` in `{text}` has no `}}`"))?,
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            out.push('$');
        } else {
            let unknown = || format!("the environment variable `{}` is not set", name.escape_debug());
            out.push_str(&variable(name).ok_or_else(unknown)?);
        }
        rest = then;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use mynah_contracts::error_chain;

    use super::*;

    fn parse(text: &str) -> Result<ModuleJson, String> {
        let variable = |name: &str| (name == "REGISTRY").then(|| "Host.example\"".to_owned());
        ModuleJson::parse(text.as_bytes(), Path::new("module.json"), &variable)
            .map_err(|error| error_chain(&error))
    }

    #[test]
    fn the_tools_own_form_is_read() {
        let module = parse(
            "\u{feff}{\"$schema-version\":\"0.0.1\",\"description\":\"\",\"language\":\"python\",\"image\":{\
             \"repository\":\"${REGISTRY}/Camera\",\"tag\":{\"version\":\"0.0.1\",\"platforms\":\
             {\"amd64\":\"./Dockerfile.amd64\"}},\"buildOptions\":[\"--rm\"]}}",
        )
        .unwrap();
        assert_eq!(module.image.repository, "host.example\"/camera");
        assert_eq!(module.image.context_path, ".");
        assert_eq!(module.image.tag.platforms["amd64"], "./Dockerfile.amd64");
    }

    #[test]
    fn what_is_missing_is_told() {
        let with = |repository: &str| {
            format!(
                "{{\"image\":{{\"repository\":\"{repository}\",\"tag\":{{\"platforms\":{{\"amd64\":\"D\"}}}}}}}}"
            )
        };
        assert!(parse(&with("$NONE/a")).unwrap_err().contains("variable `NONE` is not set"));
        assert!(parse(&with("${NONE/a")).unwrap_err().contains("has no `}`"));
        assert!(parse(&with("/")).unwrap_err().contains("is empty"));
        assert!(parse("{\"image\":{}}").unwrap_err().contains("repository"));
        assert_eq!(parse(&with("a$")).unwrap().image.repository, "a$");
    }
}
