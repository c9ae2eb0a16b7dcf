//! Where things stand in a manifest, whole (`modulesContent`) or layered (`content.modulesContent`, whose keys spell
//! out paths: `properties.desired.modules.<name>`).

use serde_json::Value;

/// The key under which a twin's desired properties stand; a layered deployment goes on after it with dots.
pub(super) const DESIRED: &str = "properties.desired";

/// A module of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ModulePlace {
    /// Its name.
    pub(super) name: String,
    /// Where it stands: a JSON Pointer.
    pub(super) pointer: String,
    /// Whether it is one of IoT Edge's own.
    pub(super) system: bool,
}

/// A key as a JSON Pointer writes it (RFC 6901 §3).
pub(crate) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Whether the document is a layered deployment by its form.
pub(super) fn is_layered(document: &Value) -> bool {
    document.get("content").is_some() && document.get("modulesContent").is_none()
}

/// Where the modules' twins stand: a JSON Pointer.
pub(super) fn content_pointer(document: &Value) -> &'static str {
    if is_layered(document) { "/content/modulesContent" } else { "/modulesContent" }
}

/// Every module, in the order of their names within their kind.
pub(super) fn modules(document: &Value) -> Vec<ModulePlace> {
    let agent = format!("{}/$edgeAgent", content_pointer(document));
    let mut places = Vec::new();
    let Some(Value::Object(twin)) = document.pointer(&agent) else { return places };
    for (key, value) in twin {
        let Some(path) = key.strip_prefix(DESIRED) else { continue };
        let pointer = format!("{agent}/{}", escaped(key));
        for (kind, system) in [("systemModules", true), ("modules", false)] {
            let group = |value: &Value, pointer: &str, places: &mut Vec<ModulePlace>| {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    let pointer = format!("{pointer}/{}", escaped(name));
                    places.push(ModulePlace { name: name.clone(), pointer, system });
                }
            };
            if path.is_empty() {
                if let Some(value) = value.get(kind) {
                    group(value, &format!("{pointer}/{kind}"), &mut places);
                }
            } else if let Some(rest) = path.strip_prefix('.').and_then(|path| path.strip_prefix(kind)) {
                match rest.strip_prefix('.') {
                    None if rest.is_empty() => group(value, &pointer, &mut places),
                    Some(name) if !name.contains('.') => {
                        places.push(ModulePlace { name: name.into(), pointer: pointer.clone(), system });
                    }
                    _ => {}
                }
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modules_are_found_whole_layered_and_in_between() {
        let names = |agent: Value, wrapped: bool| {
            let content = json!({"modulesContent": {"$edgeAgent": agent}});
            let document = if wrapped { json!({"content": content}) } else { content };
            modules(&document)
                .into_iter()
                .map(|place| {
                    assert!(document.pointer(&place.pointer).is_some(), "{}", place.pointer);
                    (place.name, place.system)
                })
                .collect::<Vec<_>>()
        };
        let both = [("edgeHub".to_owned(), true), ("a/b".to_owned(), false)];
        let whole = json!({DESIRED: {"modules": {"a/b": {}}, "systemModules": {"edgeHub": {}}}});
        assert_eq!(names(whole, false), both);
        let layered = json!({
            "properties.desired.systemModules.edgeHub": {}, "properties.desired.modules.a/b": {},
            "properties.desired.modules.a/b.env.X": {}, "properties.desired.modulesx": {"no": 1},
        });
        let mut found = names(layered, true);
        found.reverse();
        assert_eq!(found, both);
        assert_eq!(names(json!({"properties.desired.modules": {"m": {}}}), false), [("m".to_owned(), false)]);
        assert_eq!(names(json!([]), false), []);
    }
}
