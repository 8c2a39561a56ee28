//! The fetching thread: takes messages from librdkafka, sorts them by partition and hands them to the decoding threads.
//!
//! It alone knows the position of each partition. A position moves past messages that were handed on, and past what is
//! never delivered (control records, compacted or aborted messages) when librdkafka reports the partition's end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka_sys::types::RDKafkaRespErr;
use rivermark_executor::source::SourceError;

use super::client::Client;
use super::config::OnDataLoss;
use super::decode::{FailOnPanic, Job};
use super::lanes::Lanes;
use super::loss::Loss;
use super::messages::{KafkaMessage, Queue, Run};
use crate::message::Message;

/// Messages taken from librdkafka at once.
const MAX_BATCH: usize = 8192;
/// A run is handed on when it has so many messages or bytes; arrays of that size stay in the processor's cache.
const MAX_RUN_MESSAGES: usize = 4096;
const MAX_RUN_BYTES: usize = 1 << 20;

const IDLE_WAIT_MS: i32 = 100;
const END_INTERVAL: Duration = Duration::from_millis(100);
const LOSS_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What other threads ask of the fetching thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Read a partition that was not there before.
    Open { partition: i32, start: i64 },
    /// The topic was deleted and created again.
    Recreated,
}

/// A partition's place.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    /// The next offset to hand on.
    pub position: i64,
    pub stop: Option<i64>,
    pub is_done: bool,
}

impl Cursor {
    pub fn new(position: i64, stop: Option<i64>) -> Self {
        let is_done = stop.is_some_and(|stop| stop <= position);
        Cursor {
            position,
            stop,
            is_done,
        }
    }

    /// Moves forward to `position`, at most to the stop.
    fn advance(&mut self, position: i64) {
        self.position = self.stop.map_or(position, |stop| stop.min(position));
        self.is_done = self.stop == Some(self.position);
    }

    /// Whether the message at `offset` is to be handed on; moves past it.
    fn accepts(&mut self, offset: i64) -> bool {
        if self.is_done || offset < self.position {
            return false;
        }
        let is_before_stop = self.stop.is_none_or(|stop| offset < stop);
        self.advance(offset + 1);
        is_before_stop
    }
}

/// A run being collected.
struct OpenRun {
    run: Run,
    cursor: Cursor,
    /// Position when the run began.
    start: i64,
    reached_end: Option<i64>,
}

/// A partition whose wanted offset is gone.
struct PendingLoss {
    partition: i32,
    is_recreated: bool,
    retry_at: Instant,
}

pub struct Fetcher {
    pub client: Arc<Client>,
    pub queue: Arc<Queue>,
    pub lanes: Arc<Lanes>,
    pub jobs: Sender<Job>,
    pub commands: Receiver<Command>,
    /// Makes the watching thread look at once.
    pub pokes: Sender<()>,
    pub on_data_loss: OnDataLoss,
    pub cursors: BTreeMap<i32, Cursor>,
    /// By partition, for those that are opened later.
    pub stop_at: Option<BTreeMap<i32, i64>>,
    runs: Vec<OpenRun>,
    losses: Vec<PendingLoss>,
    /// Partitions that are not fetched for the moment.
    paused: BTreeSet<i32>,
}

/// The reader can not go on (its state says why), or is through.
struct Ended;

impl Fetcher {
    #[expect(
        clippy::too_many_arguments,
        reason = "the thread's ends of the reader's channels"
    )]
    pub fn new(
        client: Arc<Client>,
        queue: Arc<Queue>,
        lanes: Arc<Lanes>,
        jobs: Sender<Job>,
        commands: Receiver<Command>,
        pokes: Sender<()>,
        on_data_loss: OnDataLoss,
        cursors: BTreeMap<i32, Cursor>,
        stop_at: Option<BTreeMap<i32, i64>>,
    ) -> Self {
        Fetcher {
            client,
            queue,
            lanes,
            jobs,
            commands,
            pokes,
            on_data_loss,
            cursors,
            stop_at,
            runs: Vec::new(),
            losses: Vec::new(),
            paused: BTreeSet::new(),
        }
    }

    /// Fetches until the reader is dropped, fails, or every partition has reached its stop.
    pub fn run(mut self) {
        let lanes = self.lanes.clone();
        let _guard = FailOnPanic(&lanes);
        if let Err(Ended) = self.fetch() {
            for partition in self.cursors.keys() {
                self.client.stop(*partition);
            }
        }
    }

    fn fetch(&mut self) -> Result<(), Ended> {
        self.cursors
            .keys()
            .try_for_each(|partition| self.start(*partition))?;
        let mut messages = Vec::new();
        let mut seen_events = 0;
        let mut ends_at = Instant::now();
        loop {
            if self.lanes.is_stopped() || self.is_through() {
                return Err(Ended);
            }
            if let Some(event) = self.client.poll(&mut seen_events) {
                if event.is_all_brokers_down {
                    self.lanes.set_retrying(event.message);
                }
                let _ = self.pokes.try_send(());
            }
            self.obey()?;
            self.settle_losses()?;
            if ends_at.elapsed() >= END_INTERVAL {
                ends_at = Instant::now();
                self.update_ends();
            }
            if self.lanes.wait_for_room(Duration::from_millis(100)) {
                self.queue.consume(&mut messages, MAX_BATCH, IDLE_WAIT_MS);
                self.hand_on(&mut messages)?;
            }
        }
    }

    fn is_through(&self) -> bool {
        self.stop_at.as_ref().is_some_and(|stops| {
            stops
                .keys()
                .all(|p| self.cursors.get(p).is_some_and(|c| c.is_done))
        })
    }

    /// Fetches the partition from its position, unless it is paused or done.
    fn start(&self, partition: i32) -> Result<(), Ended> {
        let Some(cursor) = self.cursors.get(&partition).filter(|c| !c.is_done) else {
            return Ok(());
        };
        if self.paused.contains(&partition) {
            return Ok(());
        }
        self.client
            .start(partition, cursor.position, &self.queue)
            .map_err(|e| {
                self.lanes.set_failed(e.to_string());
                Ended
            })
    }

    /// Commands of the watching thread, pauses of the reader's owner.
    fn obey(&mut self) -> Result<(), Ended> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open { partition, start } => {
                    let stop = self
                        .stop_at
                        .as_ref()
                        .map(|s| s.get(&partition).copied().unwrap_or(start));
                    let cursor = Cursor::new(start, stop);
                    self.lanes.open(partition, start, cursor.is_done);
                    // Nothing else says where a partition is of which all messages are gone.
                    let position = stop.map_or(start, |stop| stop.min(start));
                    self.runs.push(OpenRun {
                        run: Run::new(partition, position, self.client.clone()),
                        cursor: Cursor { position, ..cursor },
                        start: 0,
                        reached_end: None,
                    });
                    self.close_run(self.runs.len() - 1)?;
                    self.start(partition)?;
                }
                Command::Recreated => {
                    let read: Vec<_> = self
                        .cursors
                        .iter()
                        .filter(|(_, c)| c.position > 0 && !c.is_done)
                        .map(|(p, _)| *p)
                        .collect();
                    read.into_iter()
                        .for_each(|partition| self.lose(partition, true));
                }
            }
        }
        for (partition, is_paused) in self.lanes.take_pause_changes() {
            // Not librdkafka's own pausing: that resumes one message too late after an end of partition (2.12).
            if is_paused {
                self.paused.insert(partition);
                self.client.stop(partition);
            } else if self.paused.remove(&partition) {
                self.start(partition)?;
            }
        }
        Ok(())
    }

    fn update_ends(&self) {
        for (partition, cursor) in &self.cursors {
            let end_offset = self.client.cached_end(*partition);
            if end_offset >= cursor.position {
                self.lanes.set_end(*partition, end_offset);
            }
        }
    }

    /// Sorts a batch by partition and sends it to be decoded.
    fn hand_on(&mut self, messages: &mut Vec<KafkaMessage>) -> Result<(), Ended> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut current = usize::MAX;
        let mut has_news = false;
        for message in messages.drain(..) {
            let partition = message.partition();
            if self
                .runs
                .get(current)
                .is_none_or(|open| open.run.partition != partition)
            {
                match self.open_run(partition) {
                    Some(index) => current = index,
                    None => {
                        self.note_stray(&message);
                        continue;
                    }
                }
            }
            let open = &mut self.runs[current];
            if message.error() != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                has_news |= self.observe(current, &message);
                continue;
            }
            has_news = true;
            if open.cursor.accepts(message.offset()) {
                open.run.bytes += message.size();
                open.run.messages.push(message);
                open.reached_end = None;
                if open.run.messages.len() >= MAX_RUN_MESSAGES || open.run.bytes >= MAX_RUN_BYTES {
                    self.close_run(current)?;
                    current = usize::MAX;
                }
            }
        }
        while !self.runs.is_empty() {
            self.close_run(0)?;
        }
        if has_news {
            self.lanes.set_running();
        }
        Ok(())
    }

    /// The index of the partition's run; `None` for a partition that is not read.
    fn open_run(&mut self, partition: i32) -> Option<usize> {
        if let Some(index) = self
            .runs
            .iter()
            .position(|open| open.run.partition == partition)
        {
            return Some(index);
        }
        let cursor = *self.cursors.get(&partition)?;
        let run = Run::new(partition, cursor.position, self.client.clone());
        self.runs.push(OpenRun {
            run,
            cursor,
            start: cursor.position,
            reached_end: None,
        });
        Some(self.runs.len() - 1)
    }

    fn close_run(&mut self, index: usize) -> Result<(), Ended> {
        let OpenRun {
            mut run,
            cursor,
            start,
            reached_end,
        } = self.runs.remove(index);
        let partition = run.partition;
        self.cursors.insert(partition, cursor);
        if !run.messages.is_empty() || cursor.position != start {
            run.next_offset = cursor.position;
            self.lanes.set_end(
                partition,
                self.client.cached_end(partition).max(cursor.position),
            );
            let place = self.lanes.reserve(partition, run.memory());
            self.jobs.send(Job { place, run }).map_err(|_| Ended)?;
        }
        if let Some(end_offset) = reached_end {
            self.lanes.reached_end(partition, end_offset);
        }
        if cursor.is_done {
            self.client.stop(partition);
            self.lanes.set_done(partition);
        }
        Ok(())
    }

    /// An event of the partition whose run is at `index`; tells whether it shows that the broker answers.
    fn observe(&mut self, index: usize, event: &KafkaMessage) -> bool {
        let open = &mut self.runs[index];
        match event.error() {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                let end_offset = event.offset();
                if !open.cursor.is_done && end_offset >= open.cursor.position {
                    open.cursor.advance(end_offset);
                    open.reached_end = Some(end_offset);
                }
                true
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__LOG_TRUNCATION => {
                let partition = open.run.partition;
                self.lose(partition, false);
                false
            }
            _ => {
                self.note_stray(event);
                false
            }
        }
    }

    /// Some other trouble: the watching thread finds out whether it lasts.
    fn note_stray(&self, event: &KafkaMessage) {
        if event.error() != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.lanes.note(event.error_text());
            let _ = self.pokes.try_send(());
        }
    }

    fn lose(&mut self, partition: i32, is_recreated: bool) {
        match self.losses.iter_mut().find(|l| l.partition == partition) {
            Some(loss) => loss.is_recreated |= is_recreated,
            None => self.losses.push(PendingLoss {
                partition,
                is_recreated,
                retry_at: Instant::now(),
            }),
        }
    }

    /// Decides about partitions whose offset is gone, once the broker says what there is.
    fn settle_losses(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        for mut pending in std::mem::take(&mut self.losses) {
            let Some(cursor) = self
                .cursors
                .get(&pending.partition)
                .copied()
                .filter(|c| !c.is_done)
            else {
                continue;
            };
            if pending.retry_at > now {
                self.losses.push(pending);
                continue;
            }
            match Loss::find(
                &self.client,
                pending.partition,
                cursor.position,
                pending.is_recreated,
            ) {
                Ok(loss) => self.settle(&loss, cursor)?,
                Err(error) => {
                    self.lanes.set_retrying(error.to_string());
                    pending.retry_at = now + LOSS_RETRY_INTERVAL;
                    self.losses.push(pending);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, loss: &Loss, mut cursor: Cursor) -> Result<(), Ended> {
        let Loss {
            partition,
            wanted,
            first,
            end,
            is_recreated,
        } = *loss;
        let is_lost = is_recreated || wanted < first || wanted > end;
        if is_lost {
            let error = loss.describe(&self.client.topic());
            match self.on_data_loss {
                OnDataLoss::Fail => {
                    let error = SourceError::DataLoss(format!("{error} (on_data_loss = 'fail')"));
                    self.lanes.set_failed(error.to_string());
                    return Err(Ended);
                }
                OnDataLoss::Continue => {
                    self.lanes
                        .note(format!("{error}; reading goes on at {first}"));
                    cursor = Cursor::new(cursor.position, cursor.stop);
                    cursor.advance(first);
                    cursor.is_done = cursor.stop.is_some_and(|stop| stop <= cursor.position);
                }
            }
        }
        self.client.stop(partition);
        let run = Run::new(partition, cursor.position, self.client.clone());
        self.runs.push(OpenRun {
            run,
            cursor,
            start: wanted,
            reached_end: None,
        });
        self.close_run(self.runs.len() - 1)?;
        self.start(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_passes_gaps_and_ends_at_its_stop() {
        let check = |stop: Option<i64>, offsets: &[i64], accepted: &[i64], end: (i64, bool)| {
            let mut cursor = Cursor::new(10, stop);
            let got: Vec<_> = offsets
                .iter()
                .copied()
                .filter(|o| cursor.accepts(*o))
                .collect();
            assert_eq!(
                (got.as_slice(), (cursor.position, cursor.is_done)),
                (accepted, end),
                "{offsets:?}"
            );
        };
        check(None, &[9, 10, 11, 15], &[10, 11, 15], (16, false));
        check(Some(12), &[10, 11, 12], &[10, 11], (12, true));
        check(Some(13), &[10, 15, 16], &[10], (13, true));
        check(Some(10), &[10], &[], (10, true));
        check(Some(5), &[10], &[], (10, true));
    }
}
