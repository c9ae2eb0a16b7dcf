//! Who looks like whom: near-duplicates without comparing every pair.
//!
//! Likenesses that differ in at most t bits agree wholly in one of t + 1 bands of bits, so only photos that
//! share a band are compared. The bands take every (t + 1)th bit: neighbouring bits agree too often, a white
//! background fills whole rows with zeros.

use std::collections::{BTreeMap, BTreeSet};

use mynah_contracts::Label;
use mynah_photo::Likeness;

const BANDS: usize = Likeness::NEAR as usize + 1;

/// What is compared: one photo for each label and likeness stands for all that have both.
pub(super) struct Neighbours {
    /// For each photo the index of its group's first photo; a group is what near-duplicates of one label
    /// connect.
    pub(super) groups: Vec<usize>,
    /// Photos of different labels that look alike, each pair with the smaller index first, and their distance.
    pub(super) across: Vec<(usize, usize, u32)>,
}

/// Compares photos, given by label and likeness.
pub(super) fn neighbours(photos: &[(&Label, Likeness)]) -> Neighbours {
    let mut groups = Groups::new(photos.len());
    // Equal likenesses meet here and not in the bands, where they would be compared pair by pair.
    let mut distinct: BTreeMap<(Likeness, &Label), usize> = BTreeMap::new();
    for (i, &(label, likeness)) in photos.iter().enumerate() {
        groups.join(*distinct.entry((likeness, label)).or_insert(i), i);
    }
    let entries: Vec<(Likeness, &Label, usize)> =
        distinct.into_iter().map(|((likeness, label), i)| (likeness, label, i)).collect();
    let mut across = BTreeSet::new();
    for band in 0..BANDS {
        let mut keyed: Vec<(u32, &(Likeness, &Label, usize))> =
            entries.iter().map(|entry| (band_bits(&entry.0, band), entry)).collect();
        keyed.sort_by_key(|(key, entry)| (*key, entry.2));
        for bucket in keyed.chunk_by(|a, b| a.0 == b.0) {
            for (at, (_, a)) in bucket.iter().enumerate() {
                for (_, b) in bucket.iter().skip(at + 1) {
                    let distance = a.0.distance(&b.0);
                    if distance > Likeness::NEAR {
                        continue;
                    }
                    if a.1 == b.1 {
                        groups.join(a.2, b.2);
                    } else {
                        across.insert((a.2.min(b.2), a.2.max(b.2), distance));
                    }
                }
            }
        }
    }
    let groups = (0..photos.len()).map(|i| groups.first(i)).collect();
    Neighbours { groups, across: across.into_iter().collect() }
}

/// Every [`BANDS`]th bit, from bit `band` on.
fn band_bits(likeness: &Likeness, band: usize) -> u32 {
    (band..256).step_by(BANDS).fold(0, |key, bit| {
        let word = likeness.words().get(bit / 64).copied().unwrap_or(0);
        (key << 1) | (word >> (63 - bit % 64) & 1) as u32
    })
}

/// Disjoint sets; a set's name is its smallest member.
struct Groups(Vec<usize>);

impl Groups {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn first(&mut self, mut i: usize) -> usize {
        while let Some(&parent) = self.0.get(i)
            && parent != i
        {
            // Halves the path, so that later walks are short.
            let grandparent = self.0.get(parent).copied().unwrap_or(parent);
            if let Some(slot) = self.0.get_mut(i) {
                *slot = grandparent;
            }
            i = grandparent;
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        if let Some(slot) = self.0.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn likeness([a, b, c, d]: [u64; 4]) -> Likeness {
        format!("{a:016x}{b:016x}{c:016x}{d:016x}").parse().unwrap()
    }

    #[test]
    fn a_million_pairs_of_equals_are_one_group_and_one_pair_across() {
        let (a, b): (Label, Label) = ("a".parse().unwrap(), "b".parse().unwrap());
        let blank = likeness([0; 4]);
        let photos: Vec<_> = (0..4000).map(|i| (if i % 2 == 0 { &a } else { &b }, blank)).collect();
        let found = neighbours(&photos);
        assert_eq!(found.across, [(0, 1, 0)]);
        assert!(found.groups.iter().enumerate().all(|(i, &group)| group == i % 2));
    }

    proptest! {
        /// The index finds what comparing every pair finds.
        #[test]
        fn no_pair_is_missed(
            seeds in prop::collection::vec(any::<[u64; 4]>(), 1..4),
            copies in prop::collection::vec((any::<prop::sample::Index>(), 0..2_usize, prop::collection::vec(0..256_usize, 0..8)), 1..24),
        ) {
            let labels: [Label; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
            let photos: Vec<_> = copies.iter().map(|(seed, label, flips)| {
                let mut words = seeds[seed.index(seeds.len())];
                for flip in flips {
                    words[flip / 64] ^= 1 << (flip % 64);
                }
                (&labels[*label], likeness(words))
            }).collect();
            let found = neighbours(&photos);
            for (i, a) in photos.iter().enumerate() {
                for (j, b) in photos.iter().enumerate().skip(i + 1) {
                    let near = a.1.is_near(&b.1);
                    if near && a.0 == b.0 {
                        prop_assert_eq!(found.groups[i], found.groups[j]);
                    }
                    if near && a.0 != b.0 {
                        // The pair itself, or the pair of those that look exactly the same and stand for it.
                        let told = found.across.iter().any(|&(x, y, distance)| {
                            let pair = (photos[x], photos[y]);
                            distance == a.1.distance(&b.1) && (pair == (*a, *b) || pair == (*b, *a))
                        });
                        prop_assert!(told);
                    }
                }
                prop_assert_eq!(photos[found.groups[i]].0, a.0);
            }
            for &(x, y, distance) in &found.across {
                prop_assert!(x < y && photos[x].0 != photos[y].0);
                prop_assert_eq!(distance, photos[x].1.distance(&photos[y].1));
            }
        }
    }
}
