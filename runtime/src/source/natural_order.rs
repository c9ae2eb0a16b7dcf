//! The order people expect of file names: `frame2` before `frame10`.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

/// Compares two names, runs of ASCII digits by their number; equal numbers by their leading zeros; total.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.chars().peekable(), b.chars().peekable());
    loop {
        let digits = |chars: &mut Peekable<Chars<'_>>| chars.peek().is_some_and(char::is_ascii_digit);
        let order = if digits(&mut left) && digits(&mut right) {
            let (x, y) = (number(&mut left), number(&mut right));
            // Without leading zeros, the longer number is the larger.
            x.len().cmp(&y.len()).then_with(|| x.cmp(&y))
        } else {
            match (left.next(), right.next()) {
                // Names that differ only in leading zeros must not be equal, or their order would be chance.
                (None, None) => return a.cmp(b),
                (x, y) => x.cmp(&y),
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes a run of digits; its leading zeros are dropped.
fn number(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        if digit != '0' || !digits.is_empty() {
            digits.push(digit);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_count() {
        let mut names =
            ["f10.jpg", "f2.jpg", "F1.jpg", "f2.jpeg", "f02.jpg", "f", "b/1", "b10", "f2a10", "f2a9"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(
            names,
            ["F1.jpg", "b/1", "b10", "f", "f2.jpeg", "f02.jpg", "f2.jpg", "f2a9", "f2a10", "f10.jpg"]
        );
    }

    #[test]
    fn numbers_longer_than_any_integer_are_compared() {
        let long = format!("f{}", "9".repeat(60));
        assert_eq!(natural_order(&long, "f10"), Ordering::Greater);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-2]{0,6}", b in "[a0-2]{0,6}", c in "[a0-2]{0,6}") {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                prop_assert!(natural_order(&a, &c).is_le());
            }
        }
    }
}
