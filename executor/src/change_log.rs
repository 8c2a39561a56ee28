//! The newest changes of a relation that is or was followed, so that a subscriber whose connection broke can go on
//! behind the last epoch it knows, without a snapshot.
//!
//! Kept in memory for `change_log_retention` and within a bound; a restart forgets them, and so does a change that was
//! spilled to disk. Who asks for more gets an error that says from which epoch on there are changes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::changes::EpochChange;

/// Changes of one relation without a gap.
pub struct ChangeLog {
    /// Everything behind this epoch is here.
    since: u64,
    /// With the time of the epoch, oldest first.
    changes: VecDeque<(i64, Arc<EpochChange>)>,
    bytes: usize,
    /// When somebody followed the relation last.
    followed_us: i64,
}

impl ChangeLog {
    /// A log of what comes behind this epoch.
    pub fn new(since: u64, now_us: i64) -> Self {
        ChangeLog {
            since,
            changes: VecDeque::new(),
            bytes: 0,
            followed_us: now_us,
        }
    }

    pub fn since(&self) -> u64 {
        self.since
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All changes behind `epoch`; `None` if some are not here any more.
    pub fn behind(&self, epoch: u64) -> Option<VecDeque<Arc<EpochChange>>> {
        let changes = self.changes.iter().map(|(_, change)| change);
        let wanted = changes.filter(|change| change.epoch > epoch).cloned();
        (epoch >= self.since).then(|| wanted.collect())
    }

    /// Adds an epoch's change, and forgets what is older than the retention.
    pub fn add(&mut self, change: &Arc<EpochChange>, now_us: i64, retention_us: i64) {
        if change.is_spooled() || retention_us == 0 {
            self.changes.clear();
            self.bytes = 0;
            self.since = change.epoch;
            return;
        }
        self.bytes += change.memory();
        self.changes.push_back((now_us, change.clone()));
        let from_us = now_us.saturating_sub(retention_us);
        while self.changes.front().is_some_and(|(at, _)| *at < from_us) {
            self.forget_oldest();
        }
    }

    /// Gives up the oldest change; whether there was one.
    pub fn forget_oldest(&mut self) -> bool {
        let Some((_, change)) = self.changes.pop_front() else {
            return false;
        };
        self.bytes -= change.memory();
        self.since = change.epoch;
        true
    }

    /// Whether a subscriber that went away may still come back.
    pub fn is_wanted(&mut self, is_followed: bool, now_us: i64, retention_us: i64) -> bool {
        if is_followed {
            self.followed_us = now_us;
        }
        is_followed || now_us.saturating_sub(self.followed_us) < retention_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(epoch: u64) -> Arc<EpochChange> {
        Arc::new(EpochChange::new(epoch, Vec::new()))
    }

    fn epochs(log: &ChangeLog, behind: u64) -> Option<Vec<u64>> {
        let changes = log.behind(behind)?;
        Some(changes.iter().map(|change| change.epoch).collect())
    }

    #[test]
    fn what_is_older_than_the_retention_is_forgotten() {
        let mut log = ChangeLog::new(10, 0);
        assert_eq!(epochs(&log, 10), Some(vec![]));
        assert_eq!(epochs(&log, 9), None);
        for (epoch, at) in [(12, 100), (13, 150), (17, 220)] {
            log.add(&change(epoch), at, 100);
        }
        assert_eq!(log.since(), 12);
        assert_eq!(epochs(&log, 11), None);
        assert_eq!(epochs(&log, 12), Some(vec![13, 17]));
        assert_eq!(epochs(&log, 15), Some(vec![17]));
        assert!(log.forget_oldest());
        assert_eq!((epochs(&log, 12), log.since()), (None, 13));
        log.add(&change(18), 230, 0);
        assert_eq!((epochs(&log, 17), log.since()), (None, 18));
        assert!(!log.forget_oldest());
    }

    #[test]
    fn it_waits_for_a_subscriber_that_went_away() {
        let mut log = ChangeLog::new(1, 0);
        assert!(log.is_wanted(true, 50, 100));
        assert!(log.is_wanted(false, 149, 100));
        assert!(!log.is_wanted(false, 150, 100));
    }
}
