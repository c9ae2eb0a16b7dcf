//! How the API's schema takes objects apart for owners of fields: `x-kubernetes-list-type`,
//! `x-kubernetes-list-map-keys` and `x-kubernetes-map-type` of the published `OpenAPI`, for the kinds the double knows.

/// Stands for any element of a list in a path.
pub(super) const ELEMENT: &str = "[]";

/// How a list or a map is owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Structure {
    /// Each field by itself.
    Granular,
    /// As a whole.
    Atomic,
    /// Each element by itself; two of a kind are one.
    Set,
    /// Each element by itself, told from others by these of its fields.
    Keyed(&'static [&'static str]),
}

/// The structure of the list at a path of names.
pub(super) fn of_list(path: &[&str]) -> Structure {
    use Structure::{Atomic, Keyed, Set};
    match ends(path) {
        ("spec", "hostAliases") => Keyed(&["ip"]),
        (
            "spec",
            "imagePullSecrets"
            | "resourceClaims"
            | "schedulingGates"
            | "evictionResponders"
            | "volumes"
            | "containers"
            | "initContainers"
            | "ephemeralContainers",
        )
        | (ELEMENT, "env")
        | ("resources", "claims")
        | ("", "secrets") => Keyed(&["name"]),
        ("spec", "ports") => Keyed(&["port", "protocol"]),
        ("spec", "topologySpreadConstraints") => Keyed(&["topologyKey", "whenUnsatisfiable"]),
        (ELEMENT, "ports") => Keyed(&["containerPort", "protocol"]),
        (ELEMENT, "volumeMounts") => Keyed(&["mountPath"]),
        (ELEMENT, "volumeDevices") => Keyed(&["devicePath"]),
        ("metadata", "ownerReferences") => Keyed(&["uid"]),
        ("metadata", "finalizers") | (ELEMENT, "bindMountOptions") => Set,
        _ => Atomic,
    }
}

/// The structure of the map at a path of names.
pub(super) fn of_map(path: &[&str]) -> Structure {
    match ends(path) {
        ("spec", "nodeSelector" | "selector" | "dataSource")
        | (ELEMENT, "labelSelector")
        | ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        | ("imagePullSecrets" | "secrets" | "ownerReferences" | "evictionResponders", ELEMENT)
        | ("valueFrom", _)
        | (_, "secretRef" | "nodePublishSecretRef") => Structure::Atomic,
        _ => Structure::Granular,
    }
}

/// What a key's field is where an element says nothing of it (`ContainerPort` and `ServicePort`: "Defaults to TCP").
pub(super) fn key_default(name: &str) -> Option<&'static str> {
    (name == "protocol").then_some("TCP")
}

/// The last two names of a path.
fn ends<'a>(path: &[&'a str]) -> (&'a str, &'a str) {
    match path {
        [.., above, name] => (above, name),
        [name] => ("", name),
        [] => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use serde_json::Value;

    use super::*;

    /// The published schema, read by Python's `kubernetes-validate`, which carries it.
    #[test]
    fn the_published_schema_says_the_same() {
        let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
        let probe = Command::new(&python).args(["-c", "import kubernetes_validate"]).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: Python's kubernetes-validate is not here");
            return;
        }
        let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/judges/structures.py");
        let output = Command::new(python).arg(judge).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (mut told, mut apart) = (0, 0);
        for line in text.lines() {
            let place: Value = serde_json::from_str(line).unwrap();
            let names = |key: &str| -> Vec<String> {
                place[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
            };
            let (path, keys) = (names("path"), names("keys"));
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let ours = if place["list"] == true { of_list(&path) } else { of_map(&path) };
            let agrees = match ours {
                Structure::Granular => place["as"] == "granular",
                Structure::Atomic => place["as"] == "atomic",
                Structure::Set => place["as"] == "set",
                Structure::Keyed(ours) => place["as"] == "map" && ours == keys,
            };
            assert!(agrees, "{line}: {ours:?}");
            told += 1;
            apart += usize::from(!matches!(ours, Structure::Granular));
        }
        assert!(told > 500 && apart > 100, "{told} places, {apart} of them not granular");
    }
}
