//! Who may begin how many jobs: places for jobs are shared fairly between deployments.

/// How many jobs a deployment may begin in its turn. Deployments come by the number of their jobs, the fewest first;
/// none gets beyond an equal share while one that may want more comes after it, and the last takes what is left. So
/// whoever holds more than its share gets places again only when nobody with fewer wants them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Places for jobs, taken and free.
    pub(super) all: usize,
    /// Places that are free.
    pub(super) free: usize,
    /// Deployments that hold a place or may want one.
    pub(super) sharing: usize,
}

impl Places {
    /// What is there for one that holds `own` places, with so many to come `after` it in this round.
    pub(super) fn share(self, own: usize, after: usize) -> usize {
        if after == 0 {
            return self.free;
        }
        let equal = (self.all / self.sharing.max(1)).saturating_sub(own);
        equal.max(self.free / (after + 1)).max(1).min(self.free)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::Places;

    /// A round: those who want the most jobs that they may have, by how many they hold and want.
    fn round(all: usize, held: &mut BTreeMap<usize, (usize, usize)>) {
        let mut order: Vec<usize> = held.keys().copied().collect();
        order.sort_by_key(|who| held[who].0);
        for (place, who) in order.iter().enumerate() {
            let taken: usize = held.values().map(|(own, _)| own).sum();
            let places = Places { all, free: all - taken, sharing: held.len() };
            let (own, wanted) = held.get_mut(who).expect("one of them");
            let got = places.share(*own, order.len() - place - 1).min(*wanted);
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
}
