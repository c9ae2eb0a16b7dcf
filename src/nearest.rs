//! The known names that a mistyped one may have meant.

/// How many are offered.
const OFFERED: usize = 3;

/// The names most like `text`, most similar first; none that is altogether different.
pub(crate) fn nearest(text: &str, names: Vec<String>) -> Vec<String> {
    let most = (text.chars().count() / 2).max(2);
    let mut ranked: Vec<_> = names
        .into_iter()
        .map(|name| (edit_distance(text, &name), name))
        .filter(|(distance, _)| *distance <= most)
        .collect();
    ranked.sort();
    ranked.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

/// How many characters must be inserted, deleted or replaced (Levenshtein 1966). Long texts are cut: what
/// is far away is far away.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(200).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (line, right) in b.to_lowercase().chars().take(200).enumerate() {
        let mut diagonal = line;
        let mut left_of = line + 1;
        if let Some(first) = row.first_mut() {
            *first = left_of;
        }
        for (cell, left) in row.iter_mut().skip(1).zip(&a) {
            let above = *cell;
            let replaced = diagonal + usize::from(*left != right);
            *cell = replaced.min(above + 1).min(left_of + 1);
            diagonal = above;
            left_of = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, distance) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "SAME", 0)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn similar_names_are_offered_the_most_similar_first() {
        let names = || ["COPY", "CMD", "ENV", "STOPSIGNAL"].map(str::to_owned).to_vec();
        assert_eq!(nearest("COPPY", names()), ["COPY"]);
        assert_eq!(nearest("CMDX", names()).first().map(String::as_str), Some("CMD"));
        assert_eq!(nearest("HEALTHCHECK", names()), Vec::<String>::new());
    }
}
