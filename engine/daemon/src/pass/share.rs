//! Who may begin how many jobs: places for jobs are shared between deployments, by their weights.

/// How many jobs a deployment may begin in its turn. Deployments come by the number of their jobs for their weight, the
/// fewest first; none gets beyond its part while one that may want more comes after it, and the last takes what is left. So
/// whoever holds more than its part gets places again only when nobody with fewer wants them, and whoever holds none gets
/// one, however little it weighs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Places for jobs, taken and free.
    pub(super) all: usize,
    /// Places that are free.
    pub(super) free: usize,
    /// What all deployments weigh that hold a place or may want one.
    pub(super) sharing: usize,
}

impl Places {
    /// What is there for one of some weight that holds `own` places, with others of so much weight to come `after` it in this
    /// round.
    pub(super) fn share(self, own: usize, weight: usize, after: usize) -> usize {
        if after == 0 {
            return self.free;
        }
        let part = (self.all * weight / self.sharing.max(1)).saturating_sub(own);
        part.max(self.free * weight / (after + weight)).max(1).min(self.free)
    }
}

/// The order in which deployments come: by how many places they hold for their weight, then by who they are.
pub(super) fn order<T: Ord>(one: &(usize, usize, T), other: &(usize, usize, T)) -> std::cmp::Ordering {
    let (own, weight, who) = one;
    let (others, other_weight, other_who) = other;
    (own * other_weight, who).cmp(&(others * weight, other_who))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::{Places, order};

    /// A round: those who want the most jobs that they may have, by how many they hold and want.
    fn round(all: usize, held: &mut BTreeMap<usize, (usize, usize)>) {
        weighed(all, held, &|_| 1);
    }

    fn weighed(all: usize, held: &mut BTreeMap<usize, (usize, usize)>, weight: &dyn Fn(usize) -> usize) {
        let mut turns: Vec<(usize, usize, usize)> =
            held.iter().map(|(who, (own, _))| (*own, weight(*who), *who)).collect();
        turns.sort_by(order);
        let sharing: usize = turns.iter().map(|(_, weight, _)| weight).sum();
        for (place, (_, weight, who)) in turns.iter().enumerate() {
            let taken: usize = held.values().map(|(own, _)| own).sum();
            let places = Places { all, free: all - taken, sharing };
            let after = turns[place + 1..].iter().map(|(_, weight, _)| weight).sum();
            let (own, wanted) = held.get_mut(who).expect("one of them");
            let got = places.share(*own, *weight, after).min(*wanted);
            *own += got;
            *wanted -= got;
        }
    }

    fn shares(all: usize, held: &[(usize, usize)]) -> Vec<usize> {
        let mut held: BTreeMap<usize, (usize, usize)> = held.iter().copied().enumerate().collect();
        round(all, &mut held);
        held.into_values().map(|(own, _)| own).collect()
    }

    #[test]
    fn a_share_is_equal_and_nothing_is_left_over_that_the_last_wants() {
        // Holding, wanting.
        assert_eq!(shares(100, &[(0, 500), (0, 500)]), [50, 50]);
        assert_eq!(shares(100, &[(0, 500), (0, 3)]), [50, 3], "the rest goes to the first in the next round");
        assert_eq!(shares(100, &[(90, 500), (0, 500)]), [90, 10], "places that come free go to who has fewer");
        assert_eq!(shares(10, &[(10, 500), (0, 500)]), [10, 0]);
        assert_eq!(shares(2, &[(0, 9), (0, 9), (0, 9)]), [1, 1, 0]);
        assert_eq!(shares(100, &[(0, 500)]), [100]);
    }

    #[test]
    fn jobs_that_end_make_shares_equal() {
        // One has everything when two others come; jobs end in the order in which they began.
        let mut held = BTreeMap::from([(0, (12, 500)), (1, (0, 500)), (2, (0, 500))]);
        let mut running: VecDeque<usize> = std::iter::repeat_n(0, 12).collect();
        for _ in 0..12 {
            let before = held.clone();
            held.get_mut(&running.pop_front().expect("a job")).expect("one of them").0 -= 1;
            let ended = held.clone();
            round(12, &mut held);
            running.extend(held.keys().flat_map(|who| std::iter::repeat_n(*who, held[who].0 - ended[who].0)));
            assert_eq!(running.len(), 12, "nothing stays free: {before:?} {held:?}");
        }
        assert_eq!(held.values().map(|(own, _)| *own).collect::<Vec<_>>(), [4, 4, 4]);
    }

    /// Jobs end in the order in which they began, for many rounds; who holds how many then.
    fn after_many(all: usize, weights: &[usize]) -> Vec<usize> {
        let mut held: BTreeMap<usize, (usize, usize)> = weights.iter().map(|_| (0, 10_000)).enumerate().collect();
        // The last has everything.
        held.get_mut(&(weights.len() - 1)).expect("the last").0 = all;
        let mut running: VecDeque<usize> = std::iter::repeat_n(weights.len() - 1, all).collect();
        for _ in 0..all * 4 {
            held.get_mut(&running.pop_front().expect("a job")).expect("one of them").0 -= 1;
            let ended = held.clone();
            weighed(all, &mut held, &|who| weights[who]);
            running.extend(held.keys().flat_map(|who| std::iter::repeat_n(*who, held[who].0 - ended[who].0)));
            assert_eq!(running.len(), all, "nothing stays free: {held:?}");
        }
        held.into_values().map(|(own, _)| own).collect()
    }

    #[test]
    fn parts_are_as_large_as_weights_and_nobody_has_none() {
        assert_eq!(after_many(12, &[3, 1]), [9, 3]);
        assert_eq!(after_many(12, &[1, 3]), [3, 9]);
        assert_eq!(after_many(12, &[1, 1, 4]), [2, 2, 8]);
        let light = after_many(10, &[100, 1]);
        assert!(light[1] >= 1, "{light:?}");
        assert_eq!(light.iter().sum::<usize>(), 10);
    }
}
