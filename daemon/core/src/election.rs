//! Who leads a fleet that plays by the rules of 2.x (`leasing.md 4`): everybody computes the same answer from the owners
//! in the table.
//!
//! Owns the computation, to the bit as Java does it (`DeterministicShuffleShardSyncLeaderDecider`): any difference would
//! give a mixed fleet two leaders, or none (trap 52).

use crate::ids::WorkerId;

/// The seed of Java's shuffle.
const SEED: u64 = 1947;

/// The leader among the owners of all leases; `None` where there are no owners: then every worker leads.
pub fn elect<'a>(owners: impl IntoIterator<Item = &'a WorkerId>) -> Option<&'a WorkerId> {
    let mut owners: Vec<&WorkerId> = owners.into_iter().collect();
    // Java compares strings by their UTF-16 units, which differs from the order of bytes beyond the basic plane.
    owners.sort_by(|a, b| a.as_str().encode_utf16().cmp(b.as_str().encode_utf16()));
    owners.dedup();
    let mut random = JavaRandom::new(SEED);
    for i in (1..owners.len()).rev() {
        let bound = i32::try_from(i + 1).unwrap_or(i32::MAX);
        owners.swap(i, random.below(bound) as usize);
    }
    owners.first().copied()
}

/// Whether this worker leads, given the owners of all leases.
pub fn leads<'a>(me: &WorkerId, owners: impl IntoIterator<Item = &'a WorkerId>) -> bool {
    elect(owners).is_none_or(|leader| leader == me)
}

/// `java.util.Random`, as far as `Collections.shuffle` needs it.
struct JavaRandom(u64);

impl JavaRandom {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: u64) -> Self {
        Self((seed ^ Self::MULTIPLIER) & Self::MASK)
    }

    /// The next 31 bits.
    fn next(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(0xB) & Self::MASK;
        (self.0 >> 17) as i32
    }

    /// A number in `0..bound`; `bound` is positive.
    fn below(&mut self, bound: i32) -> i32 {
        if bound & (bound - 1) == 0 {
            return ((i64::from(bound) * i64::from(self.next())) >> 31) as i32;
        }
        loop {
            let bits = self.next();
            let value = bits % bound;
            // The last, incomplete stretch of numbers would favour small results.
            if bits
                .checked_sub(value)
                .and_then(|it| it.checked_add(bound - 1))
                .is_some()
            {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elected_place_in_the_sorted_list_is_javas_for_every_size() {
        let elected: Vec<usize> = (1..=24)
            .map(|count| {
                let owners: Vec<WorkerId> = (0..count).map(|i| format!("w-{i:02}").as_str().into()).collect();
                let leader = elect(&owners).unwrap();
                owners.iter().position(|owner| owner == leader).unwrap()
            })
            .collect();
        let java = [
            0, 0, 2, 3, 4, 2, 2, 2, 3, 8, 6, 9, 12, 4, 10, 11, 13, 11, 0, 14, 13, 7, 1, 1,
        ];
        assert_eq!(elected, java);
    }

    #[test]
    fn owners_count_once_and_their_order_does_not_matter() {
        let owners: Vec<WorkerId> = ["w-2", "w-1", "w-2", "w-0", "w-1"].map(WorkerId::from).to_vec();
        assert_eq!(elect(&owners), Some(&"w-2".into()));
    }

    #[test]
    fn names_are_sorted_by_their_utf16_units() {
        // U+10000 is greater than U+FFFD, but its first unit (D800) is less: it stands second of three, not third.
        let owners: Vec<WorkerId> = ["a", "\u{fffd}", "\u{10000}"].map(WorkerId::from).to_vec();
        assert_eq!(elect(&owners), Some(&"\u{fffd}".into()));
    }

    #[test]
    fn without_owners_every_worker_leads() {
        assert!(leads(&"me".into(), []));
        assert!(!leads(&"me".into(), [&"other".into()]));
    }
}
