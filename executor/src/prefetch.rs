//! The memory that all readers of sources may fill together.
//!
//! Each reader leases half of what is free, so that the first ones read fast and later ones still get something; at
//! least [`LEAST_BYTES`], without which no reader could work. A lease ends with its reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a reader gets even if nothing is free.
const LEAST_BYTES: usize = 1 << 20;
/// More than this makes no reader faster.
const MOST_BYTES: usize = 64 << 20;

/// What is left of the budget, in bytes.
#[derive(Clone)]
pub struct PrefetchBudget(Arc<AtomicUsize>);

impl PrefetchBudget {
    pub fn new(bytes: usize) -> Self {
        PrefetchBudget(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A share for one reader.
    pub fn lease(&self) -> PrefetchLease {
        let mut taken = 0;
        let halve = |free: usize| {
            taken = (free / 2).min(MOST_BYTES);
            Some(free - taken)
        };
        // The closure never refuses.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, halve);
        PrefetchLease {
            budget: self.clone(),
            taken,
        }
    }
}

/// A reader's share. Give it back after the reader is gone: declare it behind the reader.
pub struct PrefetchLease {
    budget: PrefetchBudget,
    taken: usize,
}

impl PrefetchLease {
    pub fn bytes(&self) -> usize {
        self.taken.max(LEAST_BYTES)
    }
}

impl Drop for PrefetchLease {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_halve_and_come_back() {
        let budget = PrefetchBudget::new(40 << 20);
        let first = budget.lease();
        let second = budget.lease();
        assert_eq!((first.bytes(), second.bytes()), (20 << 20, 10 << 20));
        let more: Vec<PrefetchLease> = (0..100).map(|_| budget.lease()).collect();
        assert_eq!(more[99].bytes(), LEAST_BYTES);
        let taken: usize = more.iter().map(|lease| lease.taken).sum();
        assert!(taken <= 10 << 20);
        drop((first, more));
        assert_eq!(budget.lease().bytes(), 15 << 20);
    }
}
