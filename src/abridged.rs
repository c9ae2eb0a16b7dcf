//! Lists in messages: what a person reads of a thousand devices.

use std::fmt::{Display, Write as _};

/// So many are named.
const SHOWN: usize = 5;

/// The first of `all`, and how many more there are.
pub(crate) fn abridged(all: &[impl Display]) -> String {
    let mut text = all.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if all.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, "; and {} more", all.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_counted() {
        assert_eq!(abridged(&[""; 0]), "");
        assert_eq!(abridged(&["a", "b"]), "a; b");
        assert_eq!(abridged(&[1, 2, 3, 4, 5, 6, 7]), "1; 2; 3; 4; 5; and 2 more");
    }
}
