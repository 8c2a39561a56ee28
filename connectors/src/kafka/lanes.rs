//! Decoded batches on their way to the epoch loop: one lane per partition, in offset order, all within one budget.
//!
//! The fetching thread reserves a place at a lane's end for each run it hands to a decoding thread, so runs of one
//! partition may be decoded side by side and are still taken in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rivermark_executor::source::{PartitionStatus, ReaderState, ReaderStatus, SourceBatch};

use crate::format::batch::split_front;

/// What fetching, decoding and taking threads share.
pub struct Lanes {
    state: Mutex<State>,
    /// Something was taken, or the reader is to stop.
    changed: Condvar,
    /// Bound on the bytes of all places that are not paused.
    budget: usize,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct State {
    lanes: BTreeMap<i32, Lane>,
    reader: ReaderState,
    last_error: Option<String>,
    /// Partition that was served last, for fairness.
    last_taken: i32,
    /// The partitions are all known, and end (`stop_at`).
    is_bounded: bool,
    is_stopped: bool,
    /// Partitions whose pausing has not yet reached the broker.
    pause_changes: Vec<(i32, bool)>,
}

struct Lane {
    places: VecDeque<Place>,
    /// Number of the first place.
    first: u64,
    bytes: usize,
    taken: i64,
    end_offset: i64,
    /// The fetch position reached the partition's end.
    is_fetched: bool,
    is_paused: bool,
    /// Nothing comes after what is here.
    is_done: bool,
}

/// A run that is being decoded, or its result.
struct Place {
    bytes: usize,
    batch: Option<SourceBatch>,
}

impl Lanes {
    /// `is_bounded`: the reader ends when every lane is done.
    pub fn new(budget: usize, is_bounded: bool, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let state = State {
            lanes: BTreeMap::new(),
            reader: ReaderState::Starting,
            last_error: None,
            last_taken: -1,
            is_bounded,
            is_stopped: false,
            pause_changes: Vec::new(),
        };
        Lanes {
            state: Mutex::new(state),
            changed: Condvar::new(),
            budget,
            wake,
        }
    }

    /// Adds a partition that is read from `start`, before anything else happens to it.
    pub fn open(&self, partition: i32, start: i64, is_done: bool) {
        let lane = Lane {
            places: VecDeque::new(),
            first: 0,
            bytes: 0,
            taken: start,
            end_offset: -1,
            is_fetched: false,
            is_paused: false,
            is_done,
        };
        let mut state = self.state.lock();
        let is_paused = state.lanes.get(&partition).is_some_and(|l| l.is_paused);
        state.lanes.insert(partition, Lane { is_paused, ..lane });
        drop(state);
        (self.wake)();
    }

    /// Reserves a place at the end of the partition's lane; its number is for [`Self::complete`].
    pub fn reserve(&self, partition: i32, bytes: usize) -> u64 {
        let mut state = self.state.lock();
        let lane = state.lane(partition);
        lane.is_fetched = false;
        lane.bytes += bytes;
        lane.places.push_back(Place { bytes, batch: None });
        lane.first + lane.places.len() as u64 - 1
    }

    /// Fills a reserved place.
    pub fn complete(&self, place: u64, batch: SourceBatch) {
        let bytes =
            batch.rows.get_array_memory_size() + 16 * batch.rows.num_rows() + batch.failed_bytes();
        let mut state = self.state.lock();
        let lane = state.lane(batch.partition);
        let index = (place - lane.first) as usize;
        let is_first = index == 0;
        let slot = &mut lane.places[index];
        lane.bytes = lane.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        slot.batch = Some(batch);
        drop(state);
        if is_first {
            (self.wake)();
        }
        self.changed.notify_all();
    }

    /// The fetch position is at the partition's end, `end_offset`.
    pub fn reached_end(&self, partition: i32, end_offset: i64) {
        let mut state = self.state.lock();
        let lane = state.lane(partition);
        lane.is_fetched = true;
        lane.end_offset = end_offset;
        drop(state);
        (self.wake)();
    }

    /// The partition's end as heard from the broker.
    pub fn set_end(&self, partition: i32, end_offset: i64) {
        if end_offset >= 0 {
            self.state.lock().lane(partition).end_offset = end_offset;
        }
    }

    /// No more places will be reserved for the partition.
    pub fn set_done(&self, partition: i32) {
        let mut state = self.state.lock();
        let lane = state.lane(partition);
        lane.is_done = true;
        lane.is_fetched = true;
        drop(state);
        (self.wake)();
    }

    /// The broker answers. An earlier failure stays.
    pub fn set_running(&self) {
        let mut state = self.state.lock();
        if matches!(state.reader, ReaderState::Starting | ReaderState::Retrying) {
            state.reader = ReaderState::Running;
            drop(state);
            (self.wake)();
        }
    }

    /// Something is wrong that may pass.
    pub fn set_retrying(&self, error: String) {
        let mut state = self.state.lock();
        if state.reader == ReaderState::Failed {
            return;
        }
        let is_news = state.reader != ReaderState::Retrying;
        state.reader = ReaderState::Retrying;
        state.last_error = Some(error);
        drop(state);
        if is_news {
            (self.wake)();
        }
    }

    /// Something is wrong that will not pass. What was fetched can still be taken.
    pub fn set_failed(&self, error: String) {
        let mut state = self.state.lock();
        state.reader = ReaderState::Failed;
        state.last_error = Some(error);
        drop(state);
        (self.wake)();
    }

    /// Records an error without changing the state.
    pub fn note(&self, error: String) {
        self.state.lock().last_error = Some(error);
        (self.wake)();
    }

    pub fn is_retrying(&self) -> bool {
        matches!(
            self.state.lock().reader,
            ReaderState::Retrying | ReaderState::Starting
        )
    }

    /// Waits until the budget has room, something changes or `timeout` is over; tells whether there is room.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if state.used() >= self.budget && !state.is_stopped && state.pause_changes.is_empty() {
            self.changed.wait_for(&mut state, timeout);
        }
        state.used() < self.budget
    }

    /// Ends the fetching thread's wait.
    pub fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    pub fn set_paused(&self, partition: i32, is_paused: bool) {
        let mut state = self.state.lock();
        let Some(lane) = state.lanes.get_mut(&partition) else {
            return;
        };
        if lane.is_paused != is_paused {
            lane.is_paused = is_paused;
            state.pause_changes.push((partition, is_paused));
            drop(state);
            self.changed.notify_all();
            (self.wake)();
        }
    }

    /// Partitions that were paused or resumed since the last call.
    pub fn take_pause_changes(&self) -> Vec<(i32, bool)> {
        std::mem::take(&mut self.state.lock().pause_changes)
    }

    /// The next batch of any partition, partitions taking turns.
    pub fn take(&self, max_rows: usize) -> Option<SourceBatch> {
        let mut state = self.state.lock();
        let partition = state.next_ready()?;
        state.last_taken = partition;
        let lane = state.lane(partition);
        let Some(Place {
            batch: Some(batch), ..
        }) = lane.places.front_mut()
        else {
            return None;
        };
        let is_whole = batch.rows.num_rows() <= max_rows.max(1);
        let taken = if is_whole {
            lane.first += 1;
            let place = lane.places.pop_front()?;
            lane.bytes -= place.bytes;
            place.batch?
        } else {
            split_front(batch, max_rows.max(1))
        };
        lane.taken = taken.next_offset;
        drop(state);
        if is_whole {
            self.changed.notify_all();
        }
        Some(taken)
    }

    pub fn status(&self) -> ReaderStatus {
        let state = self.state.lock();
        let is_finished = state.is_bounded
            && state.reader != ReaderState::Failed
            && state
                .lanes
                .values()
                .all(|l| l.is_done && l.places.is_empty());
        ReaderStatus {
            state: if is_finished {
                ReaderState::Finished
            } else {
                state.reader
            },
            last_error: state.last_error.clone(),
            partitions: state
                .lanes
                .iter()
                .map(|(p, lane)| lane.status(*p))
                .collect(),
        }
    }
}

impl State {
    fn lane(&mut self, partition: i32) -> &mut Lane {
        self.lanes
            .get_mut(&partition)
            .expect("a partition is opened before anything else happens to it")
    }

    fn used(&self) -> usize {
        self.lanes
            .values()
            .filter(|l| !l.is_paused)
            .map(|l| l.bytes)
            .sum()
    }

    /// The partition after the last one served that has a decoded batch.
    fn next_ready(&self) -> Option<i32> {
        let is_ready =
            |lane: &Lane| !lane.is_paused && lane.places.front().is_some_and(|p| p.batch.is_some());
        let after = self.lanes.range(self.last_taken.saturating_add(1)..);
        let before = self.lanes.range(..=self.last_taken);
        after
            .chain(before)
            .find(|(_, lane)| is_ready(lane))
            .map(|(partition, _)| *partition)
    }
}

impl Lane {
    fn status(&self, partition: i32) -> PartitionStatus {
        PartitionStatus {
            partition,
            taken: self.taken,
            end_offset: self.end_offset,
            is_at_end: self.is_fetched && self.places.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
    use arrow::datatypes::Schema;

    fn batch(partition: i32, first_offset: i64, rows: usize) -> SourceBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let empty =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
        let offsets: Vec<_> = (0..rows as i64).map(|i| first_offset + i).collect();
        SourceBatch {
            partition,
            next_offset: first_offset + rows as i64,
            rows: empty.expect("no columns"),
            timestamps_ms: Int64Array::from(vec![0; rows]),
            offsets: Int64Array::from(offsets),
            column_errors: Vec::new(),
            malformed: Vec::new(),
            bytes: rows as u64,
        }
    }

    fn lanes(budget: usize, is_bounded: bool) -> Lanes {
        let lanes = Lanes::new(budget, is_bounded, Arc::new(|| {}));
        lanes.open(0, 0, false);
        lanes.open(1, 0, false);
        lanes
    }

    /// Takes everything; each batch as (partition, first offset, rows).
    fn drain(lanes: &Lanes, max_rows: usize) -> Vec<(i32, i64, usize)> {
        std::iter::from_fn(|| lanes.take(max_rows))
            .map(|b| (b.partition, b.offsets.value(0), b.rows.num_rows()))
            .collect()
    }

    #[test]
    fn a_lane_keeps_the_order_in_which_places_were_reserved() {
        let lanes = lanes(1000, false);
        let first = lanes.reserve(0, 1);
        let second = lanes.reserve(0, 1);
        lanes.complete(second, batch(0, 2, 2));
        assert_eq!(drain(&lanes, 10), []);
        lanes.complete(first, batch(0, 0, 2));
        assert_eq!(drain(&lanes, 10), [(0, 0, 2), (0, 2, 2)]);
    }

    #[test]
    fn partitions_take_turns_and_large_batches_are_split() {
        let lanes = lanes(1000, false);
        for partition in [0, 1] {
            let place = lanes.reserve(partition, 1);
            lanes.complete(place, batch(partition, 0, 3));
        }
        assert_eq!(
            drain(&lanes, 2),
            [(0, 0, 2), (1, 0, 2), (0, 2, 1), (1, 2, 1)]
        );
        assert_eq!(lanes.status().partitions[0].taken, 3);
    }

    #[test]
    fn a_paused_partition_neither_hands_over_nor_uses_the_budget() {
        let lanes = lanes(10, false);
        lanes.reserve(1, 20);
        assert!(!lanes.wait_for_room(Duration::ZERO));
        lanes.set_paused(1, true);
        assert!(lanes.wait_for_room(Duration::ZERO));
        lanes.complete(0, batch(1, 0, 1));
        assert_eq!(drain(&lanes, 10), []);
        lanes.set_paused(1, false);
        assert_eq!(drain(&lanes, 10), [(1, 0, 1)]);
        assert_eq!(lanes.take_pause_changes(), [(1, true), (1, false)]);
    }

    #[test]
    fn finished_when_all_is_done_and_taken() {
        let lanes = lanes(10, true);
        let place = lanes.reserve(0, 1);
        lanes.complete(place, batch(0, 0, 1));
        lanes.set_done(0);
        lanes.set_done(1);
        assert_eq!(lanes.status().state, ReaderState::Starting);
        drain(&lanes, 10);
        assert_eq!(lanes.status().state, ReaderState::Finished);
    }
}
