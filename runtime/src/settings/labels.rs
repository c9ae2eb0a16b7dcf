//! The texts that name labels: lists, and lists with a probability each.

use mynah_contracts::Label;

use super::values::probability;

/// Labels separated by `;`.
pub(super) fn labels(text: &str) -> Result<Vec<Label>, String> {
    let mut labels = Vec::new();
    for part in parts(text) {
        let label = part.parse::<Label>().map_err(|error| error.to_string())?;
        if labels.contains(&label) {
            return Err(format!("`{label}` stands in the list twice"));
        }
        labels.push(label);
    }
    Ok(labels)
}

/// `LABEL=P` separated by `;`. A label may hold `=`: the last one counts.
pub(super) fn thresholds(text: &str) -> Result<Vec<(Label, f32)>, String> {
    let mut thresholds: Vec<(Label, f32)> = Vec::new();
    for part in parts(text) {
        let (label, value) = part
            .rsplit_once('=')
            .ok_or_else(|| format!("`{}` is not of the form `LABEL=P`", part.escape_debug()))?;
        let label = label.trim().parse::<Label>().map_err(|error| error.to_string())?;
        let value = probability(value.trim(), 1.0).map_err(|what| format!("for `{label}`, {what}"))?;
        if thresholds.iter().any(|(other, _)| *other == label) {
            return Err(format!("`{label}` stands in the list twice"));
        }
        thresholds.push((label, value));
    }
    Ok(thresholds)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_what_is_wrong_is_named() {
        let names: Vec<_> = labels("red apple; a,b ;").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["red apple", "a,b"]);
        let own = thresholds("a=b=0.5;c = 1").unwrap();
        assert_eq!(own, [("a=b".parse().unwrap(), 0.5), ("c".parse().unwrap(), 1.0)]);
        for (text, says) in
            [("a", "LABEL=P"), ("a=2", "for `a`, a number"), ("a=1;a=0", "twice"), ("a/b=1", "slash")]
        {
            let error = thresholds(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(labels("a;a").is_err());
    }
}
