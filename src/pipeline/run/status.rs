//! What conditions and runtime expressions see of what ran before.

use super::expression::Scope;
use super::store::{JobRecord, StageRecord, Verdict};
use super::value::Value;

/// Names and results where a condition stands.
pub(super) struct Surroundings<'a> {
    pub(super) variables: Value,
    /// What it depends on directly; for a job also stages.
    pub(super) dependencies: Value,
    pub(super) stage_dependencies: Value,
    /// The results that functions such as `succeeded` look at, by name.
    pub(super) before: Vec<(&'a str, Verdict)>,
}

impl Scope for Surroundings<'_> {
    fn name(&self, name: &str) -> Option<Value> {
        match name.to_ascii_lowercase().as_str() {
            "variables" => Some(self.variables.clone()),
            "dependencies" => Some(self.dependencies.clone()),
            "stagedependencies" => Some(self.stage_dependencies.clone()),
            _ => None,
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Option<Value> {
        let named: Vec<String> = arguments.iter().filter_map(Value::to_text).collect();
        let mut results = self
            .before
            .iter()
            .filter(|(name, _)| {
                named.is_empty() || named.iter().any(|named| named.eq_ignore_ascii_case(name))
            })
            .map(|(_, result)| *result);
        let holds = match name {
            "succeeded" => results.all(Verdict::is_good),
            "failed" => results.any(|result| result == Verdict::Failed),
            "succeededorfailed" => results.all(|result| result.is_good() || result == Verdict::Failed),
            // Nothing goes on here after somebody asked to stop.
            "canceled" => false,
            _ => return None,
        };
        Some(Value::Bool(holds))
    }
}

/// A job, as `dependencies` of a job and `stageDependencies` show it.
pub(super) fn job(record: &JobRecord) -> Value {
    let outputs = record.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Value::Map(vec![
        ("result".into(), Value::text(record.result.name())),
        ("outputs".into(), Value::texts(outputs)),
    ])
}

/// A stage, as `dependencies` of a stage shows it: its outputs begin with the job's name.
pub(super) fn stage(record: &StageRecord) -> Value {
    let outputs = record.jobs.iter().flat_map(|(job, record)| {
        record.outputs.iter().map(move |(name, value)| (format!("{job}.{name}"), Value::text(value.as_str())))
    });
    Value::Map(vec![
        ("result".into(), Value::text(record.result.name())),
        ("outputs".into(), Value::Map(outputs.collect())),
    ])
}

/// A stage, as `stageDependencies` shows it: job by job.
pub(super) fn stage_by_job(record: &StageRecord) -> Value {
    Value::Map(record.jobs.iter().map(|(name, record)| (name.clone(), job(record))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::run::expression::Expression;
    use std::collections::BTreeMap;

    #[test]
    fn results_and_outputs_are_seen() {
        let record = JobRecord {
            result: Verdict::SucceededWithIssues,
            outputs: BTreeMap::from([("import.changed".into(), "true".into())]),
        };
        let whole = StageRecord {
            result: Verdict::Succeeded,
            jobs: BTreeMap::from([("model".into(), record.clone())]),
        };
        let scope = Surroundings {
            variables: Value::Null,
            dependencies: Value::Map(vec![("model".into(), job(&record)), ("early".into(), stage(&whole))]),
            stage_dependencies: Value::Map(vec![("early".into(), stage_by_job(&whole))]),
            before: vec![
                ("model", Verdict::SucceededWithIssues),
                ("other", Verdict::Failed),
                ("rest", Verdict::Skipped),
            ],
        };
        for (text, expected) in [
            ("eq(dependencies.model.outputs['import.changed'], 'true')", true),
            ("eq(dependencies.early.outputs['model.import.changed'], true)", true),
            ("eq(stageDependencies.early.model.outputs['import.changed'], 'true')", true),
            ("in(dependencies.model.result, 'Succeeded', 'SucceededWithIssues')", true),
            ("succeeded()", false),
            ("succeeded('model')", true),
            ("failed()", true),
            ("failed('model')", false),
            ("succeededOrFailed('model', 'other')", true),
            ("succeededOrFailed()", false),
            ("always()", true),
            ("canceled()", false),
        ] {
            let value = Expression::parse(text).unwrap().value(&scope).unwrap();
            assert_eq!(value, Value::Bool(expected), "{text}");
        }
    }
}
