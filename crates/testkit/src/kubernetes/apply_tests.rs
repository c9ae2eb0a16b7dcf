//! The rules of "Server-Side Apply" in Kubernetes' reference, one by one.

use super::*;

/// An object with owners, to which managers apply one after the other.
#[derive(Default)]
struct Live {
    object: Option<Value>,
    owners: Owners,
}

impl Live {
    fn apply(&mut self, manager: &str, wanted: &Value) -> Result<(), Refusal> {
        self.apply_by(manager, wanted, false)
    }

    fn apply_by(&mut self, manager: &str, wanted: &Value, force: bool) -> Result<(), Refusal> {
        let (object, owners) = apply(self.object.as_ref(), &self.owners, manager, wanted, force)?;
        (self.object, self.owners) = (Some(object), owners);
        Ok(())
    }

    /// The fields in conflict, each with its owner.
    fn conflicts(&mut self, manager: &str, wanted: &Value) -> Vec<(String, String)> {
        let (object, owners) = (self.object.clone(), self.owners.clone());
        let Err(Refusal::Conflicts(conflicts)) = self.apply(manager, wanted) else { panic!("no conflict") };
        assert_eq!((&self.object, &self.owners), (&object, &owners), "a conflict changes nothing");
        conflicts.into_iter().map(|conflict| (conflict.owner, conflict.field)).collect()
    }

    fn object(&self) -> &Value {
        self.object.as_ref().unwrap()
    }

    /// The managers, as the object shows them.
    fn managers(&self) -> Vec<&str> {
        self.owners.keys().map(String::as_str).collect()
    }
}

/// A pod's container `eye` with these fields beside its name.
fn eye(fields: &Value) -> Value {
    let mut container = json!({"name": "eye"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"spec": {"containers": [container]}})
}

fn refused(wanted: &Value) -> String {
    match Live::default().apply("a", wanted) {
        Err(Refusal::Malformed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_is_the_same_after_it_was_taken_apart() {
    let object = json!({
        "metadata": {"finalizers": ["z", "a"], "labels": {}},
        "spec": {
            "nodeSelector": {"a": "b"}, "tolerations": [{"key": "x"}, {"key": "x"}], "volumes": [],
            "containers": [
                {"name": "z", "ports": [{"containerPort": 2, "protocol": "UDP"}, {"containerPort": 1}]},
                {"name": "a", "args": ["z", "a"], "env": [{"name": "Z", "value": "$(A)"}, {"name": "A"}]},
            ],
        },
    });
    let Parts { leaves, order } = parts(&object).unwrap();
    assert_eq!(together(leaves, &order), object);
}

#[test]
fn a_field_of_another_is_a_conflict_unless_both_say_the_same() {
    let mut live = Live::default();
    live.apply("kubectl", &json!({"spec": {"replicas": 2, "x": 1}})).unwrap();
    let ours = json!({"spec": {"replicas": 1, "paused": false}});
    assert_eq!(live.conflicts("mynah", &ours), [("kubectl".into(), ".spec.replicas".into())]);
    live.apply("mynah", &json!({"spec": {"replicas": 2}})).unwrap();
    assert_eq!(live.managers(), ["kubectl", "mynah"]);
    // Two now own it: whoever changes it meets the other.
    assert_eq!(
        live.conflicts("kubectl", &json!({"spec": {"replicas": 3}})),
        [("mynah".into(), ".spec.replicas".into())]
    );
    let three = live.conflicts("third", &json!({"spec": {"replicas": 3}}));
    assert_eq!(three.iter().map(|(owner, _)| owner.as_str()).collect::<Vec<_>>(), ["kubectl", "mynah"]);
}

#[test]
fn force_takes_a_field_and_its_former_owner_meets_that() {
    let mut live = Live::default();
    live.apply("kubectl", &json!({"spec": {"replicas": 2, "x": 1}})).unwrap();
    live.apply_by("mynah", &json!({"spec": {"replicas": 1}}), true).unwrap();
    assert_eq!(*live.object(), json!({"spec": {"replicas": 1, "x": 1}}));
    let back = json!({"spec": {"replicas": 2, "x": 1}});
    assert_eq!(live.conflicts("kubectl", &back), [("mynah".into(), ".spec.replicas".into())]);
    // One who has lost all of its fields is no manager any more.
    live.apply_by("mynah", &back, true).unwrap();
    live.apply_by("mynah", &json!({"spec": {"replicas": 3, "x": 3}}), true).unwrap();
    assert_eq!(live.managers(), ["mynah"]);
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_has_it() {
    let mut live = Live::default();
    live.apply("a", &json!({"spec": {"x": 1, "y": {"z": 1}}, "data": {"k": "v"}})).unwrap();
    live.apply("b", &json!({"spec": {"x": 1}})).unwrap();
    live.apply("a", &json!({"data": {"k": "v"}})).unwrap();
    // `y` goes with its last field.
    assert_eq!(*live.object(), json!({"spec": {"x": 1}, "data": {"k": "v"}}));
    live.apply("b", &json!({})).unwrap();
    assert_eq!(*live.object(), json!({"data": {"k": "v"}}));
    assert_eq!(live.managers(), ["a"]);
    // Applied again, it is anyone's.
    live.apply("b", &json!({"spec": {"x": 2}})).unwrap();
    assert_eq!(live.object()["spec"], json!({"x": 2}));
}

#[test]
fn elements_of_a_list_are_told_apart_by_their_key() {
    let mut live = Live::default();
    live.apply("a", &eye(&json!({"image": "1", "env": [{"name": "A", "value": "1"}]}))).unwrap();
    let other = json!({"spec": {"containers": [{"name": "ear", "image": "1"}]}});
    live.apply("b", &other).unwrap();
    live.apply(
        "b",
        &json!({"spec": {"containers": [{"name": "ear", "image": "2"}, {"name": "eye", "env": [
            {"name": "B", "value": "2"},
        ]}]}}),
    )
    .unwrap();
    let conflicts = live.conflicts("b", &eye(&json!({"image": "2", "env": [{"name": "A", "value": "2"}]})));
    let fields: Vec<&str> = conflicts.iter().map(|(_, field)| field.as_str()).collect();
    assert_eq!(
        fields,
        [".spec.containers[name=\"eye\"].env[name=\"A\"].value", ".spec.containers[name=\"eye\"].image"]
    );
    // A lets its container go: of it stays what B has there, its name included.
    live.apply("a", &json!({"spec": {}})).unwrap();
    let left = json!([
        {"name": "ear", "image": "2"},
        {"name": "eye", "env": [{"name": "B", "value": "2"}]},
    ]);
    assert_eq!(live.object()["spec"]["containers"], left);
    live.apply("b", &other).unwrap();
    assert_eq!(live.object()["spec"]["containers"], json!([{"name": "ear", "image": "1"}]));
}

#[test]
fn a_key_of_two_fields_has_a_default() {
    let ports = |ports: Value| json!({"spec": {"ports": ports}});
    let mut live = Live::default();
    live.apply("a", &ports(json!([{"port": 53, "protocol": "UDP", "name": "u"}, {"port": 53, "name": "t"}])))
        .unwrap();
    let tcp = ports(json!([{"port": 53, "protocol": "TCP", "name": "other"}]));
    let conflicts = live.conflicts("b", &tcp);
    assert_eq!(conflicts, [("a".into(), ".spec.ports[port=53,protocol=\"TCP\"].name".into())]);
    let missing = refused(&ports(json!([{"protocol": "TCP"}])));
    assert!(
        missing.contains(".spec.ports: element 0: ") && missing.contains("omits key field \"port\""),
        "{missing}"
    );
}

#[test]
fn two_elements_with_one_key_are_refused() {
    let twice = eye(&json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}));
    assert_eq!(refused(&twice), ".spec.containers[name=\"eye\"].env: duplicate entries for key [name=\"A\"]");
    let finalizers = json!({"metadata": {"finalizers": ["a", "a"]}});
    assert!(refused(&finalizers).starts_with(".metadata.finalizers: duplicate entries"));
}

#[test]
fn what_is_atomic_has_one_value() {
    let mut live = Live::default();
    let args = |words: &[&str]| eye(&json!({"args": words}));
    live.apply("a", &args(&["x"])).unwrap();
    assert_eq!(live.conflicts("b", &args(&["x", "y"]))[0].1, ".spec.containers[name=\"eye\"].args");
    // A map that is one: another's key beside it is a conflict, and goes where it is forced.
    let on = |labels: Value| json!({"spec": {"nodeSelector": labels}});
    live.apply("a", &on(json!({"disk": "ssd"}))).unwrap();
    assert_eq!(
        live.conflicts("b", &on(json!({"room": "hall"}))),
        [("a".into(), ".spec.nodeSelector".into())]
    );
    live.apply_by("b", &on(json!({"room": "hall"})), true).unwrap();
    assert_eq!(live.object()["spec"]["nodeSelector"], json!({"room": "hall"}));
}

#[test]
fn an_empty_map_takes_nothing_from_others() {
    let mut live = Live::default();
    live.apply("a", &json!({"spec": {}})).unwrap();
    live.apply("b", &json!({"spec": {"x": 1}})).unwrap();
    live.apply("c", &json!({"spec": {}})).unwrap();
    assert_eq!(*live.object(), json!({"spec": {"x": 1}}));
    live.apply("c", &json!({})).unwrap();
    assert_eq!(*live.object(), json!({"spec": {"x": 1}}));
}

#[test]
fn members_of_a_set_have_owners_of_their_own() {
    let with = |names: &[&str]| json!({"metadata": {"finalizers": names}});
    let mut live = Live::default();
    live.apply("a", &with(&["a", "both"])).unwrap();
    live.apply("b", &with(&["both", "b"])).unwrap();
    live.apply("a", &json!({"metadata": {}})).unwrap();
    assert_eq!(live.object()["metadata"]["finalizers"], json!(["both", "b"]));
}

#[test]
fn a_list_stands_as_it_was_applied_and_what_others_have_after_it() {
    let env = |names: &[&str]| -> Value {
        let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        eye(&json!({"env": items}))
    };
    let mut live = Live::default();
    live.apply("other", &env(&["Q", "P"])).unwrap();
    live.apply("a", &env(&["C", "A", "B"])).unwrap();
    live.apply("a", &env(&["B", "C", "A"])).unwrap();
    let names: Vec<&Value> = live.object()["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, ["B", "C", "A", "Q", "P"]);
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut live = Live::default();
    live.apply("a", &json!({"data": {"x": "1", "y": "1", "z": "1"}})).unwrap();
    let edited = json!({"data": {"x": "2", "y": "1", "new": "1"}});
    live.owners = update(live.object.as_ref(), &live.owners, "editor", &edited);
    live.object = Some(edited);
    let applied = BTreeSet::from(["a".to_owned()]);
    let fields = managed_fields(&live.owners, "v1", &applied);
    assert_eq!(fields[0]["fieldsV1"], json!({"f:data": {"f:y": {}}}));
    assert_eq!(
        (&fields[1]["operation"], &fields[1]["fieldsV1"]),
        (&json!("Update"), &json!({"f:data": {"f:x": {}, "f:new": {}}}))
    );
    let again = json!({"data": {"x": "1", "y": "1", "z": "1"}});
    assert_eq!(live.conflicts("a", &again), [("editor".into(), ".data.x".into())]);
}

#[test]
fn managed_fields_are_written_as_the_api_does() {
    let mut live = Live::default();
    let mut wanted = eye(&json!({"ports": [{"containerPort": 80}]}));
    wanted["apiVersion"] = "v1".into();
    wanted["metadata"] = json!({"name": "n", "namespace": "s", "finalizers": ["f"]});
    live.apply("a", &wanted).unwrap();
    let fields = managed_fields(&live.owners, "v1", &BTreeSet::from(["a".to_owned()]));
    let expected = json!([{
        "manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:metadata": {"f:finalizers": {"v:\"f\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"eye\"}": {
                "f:name": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {"f:containerPort": {}}},
            }}},
        },
    }]);
    assert_eq!(fields, expected);
}
