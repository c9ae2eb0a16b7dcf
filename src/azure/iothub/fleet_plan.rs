//! Which calls bring a fleet from what the hub has to a new deployment. Pure: the calls are made elsewhere.
//!
//! The content of a configuration cannot be changed, so new content is a new configuration. It gets a higher
//! priority than those before it, which stay until it is seen running; then they go, and it takes the priority
//! that was asked for. Whatever moment a run ends at, the next one finds its way from what is there.

use super::content::Content;
use super::wire::Configuration;

/// The label by which a configuration is known as one of ours.
pub(super) const LABEL: &str = "mynahDeployment";

/// A deployment to a fleet.
pub(super) struct Fleet<'a> {
    /// Its name: the beginning of its configurations' ids.
    pub(super) name: &'a str,
    /// Which devices.
    pub(super) condition: &'a str,
    /// The priority once it is the only one.
    pub(super) priority: i64,
    /// What they are to run.
    pub(super) content: &'a Content,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FleetPlan {
    /// The configuration that is to stay.
    pub(super) id: String,
    pub(super) first: First,
    /// The configurations that go once it runs.
    pub(super) retire: Vec<String>,
}

/// What is done before waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    /// It is not there: it is created with this priority.
    Create(i64),
    /// It is there, below another of ours: it gets this priority.
    Raise(i64),
    /// It is there and in force.
    Nothing,
}

impl FleetPlan {
    /// Compares what is asked for with the configurations of the hub.
    pub(super) fn make(fleet: &Fleet<'_>, existing: &[Configuration]) -> Self {
        let ours: Vec<&Configuration> =
            existing.iter().filter(|configuration| name_of(configuration) == Some(fleet.name)).collect();
        let same = |configuration: &&&Configuration| {
            configuration.target_condition.as_deref() == Some(fleet.condition)
                && Content::of_hub(&configuration.content) == *fleet.content
        };
        let kept = ours.iter().filter(same).max_by_key(|configuration| configuration.priority).copied();
        let others = ours.iter().filter(|other| kept.is_none_or(|kept| kept.id != other.id));
        let highest = others.clone().map(|other| other.priority).max();
        // Equal priorities are decided by the time of creation; ours is not to depend on that.
        let above = highest.map_or(fleet.priority, |highest| fleet.priority.max(highest.saturating_add(1)));
        let (id, first) = match kept {
            Some(kept) if highest.is_some_and(|highest| kept.priority <= highest) => {
                (kept.id.clone(), First::Raise(above))
            }
            Some(kept) => (kept.id.clone(), First::Nothing),
            None => (free_id(fleet, existing), First::Create(above)),
        };
        let mut retire: Vec<String> = others.map(|other| other.id.clone()).collect();
        retire.sort();
        Self { id, first, retire }
    }
}

/// The deployment a configuration belongs to, if it is one of ours.
pub(super) fn name_of(configuration: &Configuration) -> Option<&str> {
    configuration.labels.as_ref()?.get(LABEL).map(String::as_str)
}

/// The content's id, or the next one where that is taken by other content: only passwords differ then.
fn free_id(fleet: &Fleet<'_>, existing: &[Configuration]) -> String {
    let id = fleet.content.configuration_id(fleet.name, fleet.condition);
    let is_free = |id: &str| existing.iter().all(|configuration| configuration.id != id);
    if is_free(&id) {
        return id;
    }
    // One more number than there are configurations: one of them is free.
    (2..existing.len() + 3).map(|number| format!("{id}-{number}")).find(|id| is_free(id)).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn content(image: &str) -> Content {
        Content::of_manifest(&json!({"modulesContent": {"$edgeAgent": {"properties.desired": {
            "systemModules": {}, "modules": {"eye": {"settings": {"image": image}}}}}}}))
    }

    fn configuration(id: &str, name: Option<&str>, image: &str, priority: i64) -> Configuration {
        Configuration {
            id: id.into(),
            schema_version: None,
            labels: name.map(|name| BTreeMap::from([(LABEL.to_owned(), name.to_owned())])),
            content: content(image).body(),
            target_condition: Some("*".into()),
            priority,
            etag: None,
        }
    }

    fn plan(image: &str, existing: &[Configuration]) -> FleetPlan {
        let content = content(image);
        FleetPlan::make(&Fleet { name: "mynah", condition: "*", priority: 10, content: &content }, existing)
    }

    fn id(image: &str) -> String {
        content(image).configuration_id("mynah", "*")
    }

    #[test]
    fn new_content_goes_above_and_the_old_goes_later() {
        assert_eq!(
            plan("eye:1", &[]),
            FleetPlan { id: id("eye:1"), first: First::Create(10), retire: vec![] }
        );
        let old =
            [configuration("old", Some("mynah"), "eye:1", 10), configuration("theirs", None, "eye:2", 99)];
        let expected = FleetPlan { id: id("eye:2"), first: First::Create(11), retire: vec!["old".into()] };
        assert_eq!(plan("eye:2", &old), expected);
    }

    #[test]
    fn what_is_there_is_kept_and_a_stopped_run_goes_on() {
        let now = [configuration("now", Some("mynah"), "eye:2", 10)];
        assert_eq!(
            plan("eye:2", &now),
            FleetPlan { id: "now".into(), first: First::Nothing, retire: vec![] }
        );
        let stopped = [
            configuration("old", Some("mynah"), "eye:1", 10),
            configuration("new", Some("mynah"), "eye:2", 11),
        ];
        let expected = FleetPlan { id: "new".into(), first: First::Nothing, retire: vec!["old".into()] };
        assert_eq!(plan("eye:2", &stopped), expected);
        let back = FleetPlan { id: "old".into(), first: First::Raise(12), retire: vec!["new".into()] };
        assert_eq!(plan("eye:1", &stopped), back);
    }

    #[test]
    fn a_name_that_is_taken_is_counted_on() {
        let taken = [configuration(&id("eye:1"), Some("other"), "eye:9", 1)];
        assert_eq!(plan("eye:1", &taken).id, format!("{}-2", id("eye:1")));
    }

    proptest! {
        /// From any set of configurations: the chosen one is above all others of ours, no other's is touched,
        /// and once the plan was carried out there is nothing left to do.
        #[test]
        fn a_plan_carried_out_is_done(set in proptest::collection::vec((0..4_u8, 0..3_u8, 0..30_i64), 0..6)) {
            let existing: Vec<Configuration> = set.iter().enumerate().map(|(number, (image, name, priority))| {
                let name = ["mynah", "other", ""][usize::from(*name)];
                configuration(&format!("c{number}"), Some(name).filter(|n| !n.is_empty()), &format!("eye:{image}"), *priority)
            }).collect();
            let plan_made = plan("eye:1", &existing);
            let mut after = existing.clone();
            match plan_made.first {
                First::Create(priority) => after.push(configuration(&plan_made.id, Some("mynah"), "eye:1", priority)),
                First::Raise(priority) => after.iter_mut().filter(|c| c.id == plan_made.id).for_each(|c| c.priority = priority),
                First::Nothing => {}
            }
            let chosen = after.iter().find(|c| c.id == plan_made.id).unwrap().priority;
            prop_assert!(after.iter().all(|c| c.id == plan_made.id || name_of(c) != Some("mynah") || c.priority < chosen));
            prop_assert!(existing.iter().filter(|c| name_of(c) != Some("mynah")).all(|c| !plan_made.retire.contains(&c.id)));
            after.retain(|c| !plan_made.retire.contains(&c.id));
            let again = plan("eye:1", &after);
            prop_assert_eq!(again, FleetPlan { id: plan_made.id, first: First::Nothing, retire: vec![] });
        }
    }
}
