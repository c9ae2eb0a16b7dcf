//! Which labels the model takes for which others.

use std::cmp::Reverse;
use std::fmt;

use mynah_contracts::{Evaluation, Label};

use super::figures::share;

/// Photos of one label that were taken for another.
#[derive(Clone, PartialEq, Debug)]
pub struct Confusion<'a> {
    /// What the photos show.
    pub truth: &'a Label,
    /// What the model said.
    pub predicted: &'a Label,
    /// How many; at least 1.
    pub photos: u32,
    /// How many photos show `truth`.
    pub of: u32,
}

impl Confusion<'_> {
    /// The share of `truth`'s photos that were taken for `predicted`, 0 to 1.
    pub fn share(&self) -> f64 {
        share(self.photos, self.of)
    }
}

impl fmt::Display for Confusion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` taken for `{}` ({} of {})", self.truth, self.predicted, self.photos, self.of)
    }
}

/// All pairs that were confused, the most photos first; equal counts by share, then in the labels' order.
pub fn most_confused<'a>(evaluation: &Evaluation, labels: &'a [Label]) -> Vec<Confusion<'a>> {
    let mut confusions: Vec<Confusion<'a>> = Vec::new();
    for (truth, row) in labels.iter().zip(&evaluation.confusion) {
        let of = row.iter().sum();
        for (predicted, &photos) in labels.iter().zip(row) {
            if photos > 0 && predicted != truth {
                confusions.push(Confusion { truth, predicted, photos, of });
            }
        }
    }
    // A stable sort: what is equal stays in the labels' order. With equal counts, the smaller label suffers more.
    confusions.sort_by_key(|confusion| (Reverse(confusion.photos), confusion.of));
    confusions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_worst_pair_comes_first_and_ties_go_to_the_smaller_label() {
        let labels = fixture::labels(&["ant", "bee", "cat"]);
        let evaluation = fixture::evaluation(&labels, &[vec![7, 2, 1], vec![5, 5, 0], vec![0, 2, 2]], 5);
        let told: Vec<String> = most_confused(&evaluation, &labels).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`bee` taken for `ant` (5 of 10)",
                "`cat` taken for `bee` (2 of 4)",
                "`ant` taken for `bee` (2 of 10)",
                "`ant` taken for `cat` (1 of 10)",
            ]
        );
    }

    #[test]
    fn no_mistakes_no_pairs() {
        let labels = fixture::labels(&["ant", "bee"]);
        let evaluation = fixture::evaluation(&labels, &[vec![3, 0], vec![0, 3]], 5);
        assert!(most_confused(&evaluation, &labels).is_empty());
    }
}
