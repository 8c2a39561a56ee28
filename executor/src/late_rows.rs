//! What is stored of lateness besides counts: the latest late rows of each relation, and the floors of partitions that
//! came back from silence (`lateness.rs`). Both are committed with the epoch that met them.
//!
//! ```text
//! late rows:  | object 4 BE | number 8 BE |                -> JSON; the last 1,000 of each object
//! floors:     | source 4 BE | partition 4 BE | offset 8 BE |  -> bound, 8 bytes BE
//! ```

use rivermark_planner::TableId;
use rivermark_planner::catalog::ObjectId;
use serde::{Deserialize, Serialize};

use crate::api::LateRow;
use crate::error::{ExecutorError, Result};
use crate::lateness::{Floor, Late};
use crate::state::{KeyRange, StateTable, WriteSet};
use crate::storage_retry;

/// Table ids at the top of the id space belong to the engine itself.
pub const LATE_ROWS_TABLE: TableId = TableId(u32::MAX - 3);
pub const FLOORS_TABLE: TableId = TableId(u32::MAX - 4);

/// Late rows kept of each relation.
const KEPT: u64 = 1_000;

/// What is stored of a late row.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    at_us: i64,
    partition: Option<i32>,
    offset: Option<i64>,
    time_us: i64,
    bound_us: i64,
}

/// See the module text.
pub struct LateRows {
    rows: StateTable,
    floors: StateTable,
}

impl LateRows {
    pub fn new(rows: StateTable, floors: StateTable) -> Self {
        LateRows { rows, floors }
    }

    /// Keeps late rows. `counted`: how many the object had before these.
    pub fn add(
        &mut self,
        object: ObjectId,
        partition: Option<i32>,
        counted: u64,
        late: &[(Option<i64>, Late)],
        now_us: i64,
    ) -> Result<()> {
        let first_kept = late.len().saturating_sub(KEPT as usize);
        for (index, (offset, row)) in late.iter().enumerate().skip(first_kept) {
            let number = counted + index as u64;
            let stored = Stored {
                at_us: now_us,
                partition,
                offset: *offset,
                time_us: row.time_us,
                bound_us: row.bound_us,
            };
            let value = serde_json::to_vec(&stored)
                .map_err(|e| ExecutorError::Internal(format!("late row: {e}")))?;
            self.rows.put(&late_key(object, number), &value);
        }
        let end = (counted + late.len() as u64).saturating_sub(KEPT);
        // of these rows themselves the first were not kept at all
        let end = end.min(counted);
        for number in counted.saturating_sub(KEPT)..end {
            self.rows.delete(&late_key(object, number));
        }
        Ok(())
    }

    /// From `offset` on the partition's bound is at least `bound_us`.
    pub fn add_floor(&mut self, source: ObjectId, partition: i32, floor: Floor) {
        let key = floor_key(source, partition, floor.offset);
        self.floors.put(&key, &floor.bound_us.to_be_bytes());
    }

    /// The floors of a partition from offset `from` to before `to`.
    pub fn floors(
        &self,
        source: ObjectId,
        partition: i32,
        (from, to): (i64, i64),
    ) -> Result<Vec<Floor>> {
        let range = KeyRange::new(
            floor_key(source, partition, from),
            Some(floor_key(source, partition, to).to_vec()),
        );
        storage_retry::read(&mut &self.floors, |table| {
            let mut floors = Vec::new();
            for entry in table.scan(&range)? {
                let (key, value) = entry?;
                floors.push(read_floor(&key, &value)?.1);
            }
            Ok(floors)
        })
    }

    /// Forgets what was stored of a dropped object.
    pub fn forget(&mut self, object: ObjectId) -> Result<()> {
        let all = KeyRange::prefix(&object.0.to_be_bytes());
        self.rows.delete_range(&all)?;
        Ok(self.floors.delete_range(&all)?)
    }

    /// Whether there is something to commit.
    pub fn is_dirty(&self) -> bool {
        self.rows.overlay_bytes() > 0 || self.floors.overlay_bytes() > 0
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.rows.drain_into(writes);
        self.floors.drain_into(writes);
    }

    pub fn committed(&mut self) {
        self.rows.committed();
        self.floors.committed();
    }
}

fn late_key(object: ObjectId, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&object.0.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Partitions and offsets are not negative, so their order is that of their bytes.
fn floor_key(source: ObjectId, partition: i32, offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&source.0.to_be_bytes());
    key[4..8].copy_from_slice(&partition.to_be_bytes());
    key[8..].copy_from_slice(&offset.max(0).to_be_bytes());
    key
}

/// The partition and floor that are stored in an entry of [`FLOORS_TABLE`].
pub fn read_floor(key: &[u8], value: &[u8]) -> Result<(i32, Floor)> {
    let damaged = || ExecutorError::Storage("a stored floor is damaged".into());
    let [_, _, _, _, place @ ..] = key.first_chunk::<16>().ok_or_else(damaged)?;
    let partition = place.first_chunk::<4>().ok_or_else(damaged)?;
    let offset = place.last_chunk::<8>().ok_or_else(damaged)?;
    let bound = <[u8; 8]>::try_from(value).map_err(|_| damaged())?;
    let floor = Floor {
        offset: i64::from_be_bytes(*offset),
        bound_us: i64::from_be_bytes(bound),
    };
    Ok((i32::from_be_bytes(*partition), floor))
}

/// A stored late row, for readers of a snapshot.
pub fn read_late_row(key: &[u8], value: &[u8]) -> Result<LateRow> {
    let damaged = || ExecutorError::Storage("a stored late row is damaged".into());
    let object = key.first_chunk::<4>().ok_or_else(damaged)?;
    let stored: Stored = serde_json::from_slice(value).map_err(|_| damaged())?;
    Ok(LateRow {
        at_us: stored.at_us,
        object: ObjectId(u32::from_be_bytes(*object)),
        partition: stored.partition,
        offset: stored.offset,
        time_us: stored.time_us,
        watermark_us: stored.bound_us,
    })
}
