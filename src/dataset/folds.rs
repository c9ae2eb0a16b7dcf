//! Dealing photos into cross-validation folds: stratified by label, whole groups, drawn from a seed.

use std::collections::BTreeMap;

use mynah_contracts::{FOLDS, Hasher, Label, Sha256Digest};

/// A photo as the dealing sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dealt<'a> {
    pub(super) label: &'a Label,
    pub(super) digest: Sha256Digest,
    /// Photos of one label with the same number share a fold.
    pub(super) group: usize,
}

/// The fold of each photo, and the labels that all fall into one fold because they are one group.
///
/// A function of labels, digests, groups and seed; neither the order of `photos` nor how groups are numbered
/// matters. Within a label the groups come in the order of SHA-256(seed, smallest digest) and each goes to
/// the fold with the fewest photos of that label, then the fewest photos overall, then the lowest number.
pub(super) fn deal<'a>(photos: &[Dealt<'a>], seed: u64) -> (Vec<u8>, Vec<&'a Label>) {
    let mut groups: BTreeMap<(&Label, usize), Vec<usize>> = BTreeMap::new();
    for (i, photo) in photos.iter().enumerate() {
        groups.entry((photo.label, photo.group)).or_default().push(i);
    }
    let mut by_label: BTreeMap<&'a Label, Vec<(Sha256Digest, Vec<usize>)>> = BTreeMap::new();
    for members in groups.into_values() {
        let digests = members.iter().filter_map(|&i| photos.get(i));
        let Some(smallest) = digests.min_by_key(|photo| photo.digest) else { continue };
        by_label.entry(smallest.label).or_default().push((drawn(seed, &smallest.digest), members));
    }
    let mut folds = vec![0; photos.len()];
    let mut overall = [0_usize; FOLDS as usize];
    let mut single = Vec::new();
    for (label, mut groups) in by_label {
        groups.sort_unstable();
        if groups.len() == 1 {
            single.push(label);
        }
        let mut of_label = [0_usize; FOLDS as usize];
        for (_, members) in groups {
            let emptiest =
                of_label.iter().zip(&overall).enumerate().min_by_key(|(fold, counts)| (*counts, *fold));
            let fold = emptiest.map_or(0, |(fold, _)| fold);
            for counts in [&mut of_label, &mut overall] {
                if let Some(count) = counts.get_mut(fold) {
                    *count += members.len();
                }
            }
            for i in members {
                if let Some(slot) = folds.get_mut(i) {
                    *slot = fold as u8;
                }
            }
        }
    }
    (folds, single)
}

/// A number drawn for a digest.
fn drawn(seed: u64, digest: &Sha256Digest) -> Sha256Digest {
    let mut hasher = Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(digest.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> [Label; 3] {
        ["a", "b", "c"].map(|text| text.parse().unwrap())
    }

    /// Photos from (label, group) pairs.
    fn photos<'a>(labels: &'a [Label; 3], spec: &[(usize, usize)]) -> Vec<Dealt<'a>> {
        spec.iter()
            .enumerate()
            .map(|(i, &(label, group))| Dealt {
                label: &labels[label],
                digest: Sha256Digest::of(&i.to_le_bytes()),
                group,
            })
            .collect()
    }

    #[test]
    fn another_seed_deals_otherwise() {
        let labels = labels();
        let photos = photos(&labels, &(0..60).map(|i| (i % 3, i)).collect::<Vec<_>>());
        assert_eq!(deal(&photos, 1), deal(&photos, 1));
        assert_ne!(deal(&photos, 1).0, deal(&photos, 2).0);
    }

    #[test]
    fn a_label_that_is_one_group_is_told() {
        let labels = labels();
        let (folds, single) = deal(&photos(&labels, &[(0, 0), (0, 0), (0, 0), (1, 1), (1, 2)]), 7);
        assert_eq!(single, [&labels[0]]);
        assert!(folds[0] == folds[1] && folds[1] == folds[2] && folds[3] != folds[4]);
    }

    proptest! {
        #[test]
        fn folds_are_balanced_grouped_and_pure(
            spec in prop::collection::vec((0..3_usize, 0..20_usize), 1..80),
            seed in any::<u64>(),
            turn in any::<prop::sample::Index>(),
        ) {
            let labels = labels();
            let photos = photos(&labels, &spec);
            let (folds, _) = deal(&photos, seed);

            // The order of the photos and the numbers of the groups do not matter.
            let turn = turn.index(photos.len());
            let mut turned: Vec<_> = photos.iter().map(|p| Dealt { group: 1000 - p.group, ..*p }).collect();
            turned.rotate_left(turn);
            let mut expected = folds.clone();
            expected.rotate_left(turn);
            prop_assert_eq!(deal(&turned, seed).0, expected);

            for label in &labels {
                let mut groups: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
                let mut counts = [0_usize; FOLDS as usize];
                for (photo, &fold) in photos.iter().zip(&folds).filter(|(p, _)| p.label == label) {
                    groups.entry(photo.group).or_default().push(fold);
                    counts[usize::from(fold)] += 1;
                }
                prop_assert!(groups.values().all(|folds| folds.iter().all(|f| *f == folds[0])));
                // No fold is ahead of another by more than the largest group.
                let largest = groups.values().map(Vec::len).max().unwrap_or(0);
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= largest);
                if groups.len() >= 2 {
                    prop_assert!(counts.iter().filter(|&&n| n > 0).count() >= 2);
                }
            }
        }
    }
}
