//! Turns at tables: who has lost against other writers too often gets a table's rows for itself.
//!
//! A change that takes rows away is computed on a snapshot and refused if the rows are gone by then. Whoever only tries
//! takes a shared turn, and only while the engine applies the change; so a long statement never holds others up.
//! Whoever has an exclusive turn when it takes its snapshot meets no conflict. Turns are given in order of asking.

use rivermark_planner::ObjectId;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tables share this many locks: two that share one only wait a little more than they had to.
const LOCKS: usize = 64;

pub struct TableTurns {
    locks: Vec<RwLock<()>>,
}

impl Default for TableTurns {
    fn default() -> TableTurns {
        TableTurns {
            locks: (0..LOCKS).map(|_| RwLock::new(())).collect(),
        }
    }
}

/// The locks of some tables, each once and in an order that is the same for all, so that nobody waits in a circle.
fn places(tables: impl IntoIterator<Item = ObjectId>) -> Vec<usize> {
    let mut places: Vec<usize> = tables
        .into_iter()
        .map(|table| table.0 as usize % LOCKS)
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

impl TableTurns {
    /// To apply a change that takes rows away.
    pub async fn shared(
        &self,
        tables: impl IntoIterator<Item = ObjectId>,
    ) -> Vec<RwLockReadGuard<'_, ()>> {
        let mut turns = Vec::new();
        for place in places(tables) {
            turns.push(self.locks[place].read().await);
        }
        turns
    }

    /// To compute and apply a change while nobody else takes rows of these tables away.
    pub async fn exclusive(
        &self,
        tables: impl IntoIterator<Item = ObjectId>,
    ) -> Vec<RwLockWriteGuard<'_, ()>> {
        let mut turns = Vec::new();
        for place in places(tables) {
            turns.push(self.locks[place].write().await);
        }
        turns
    }
}
