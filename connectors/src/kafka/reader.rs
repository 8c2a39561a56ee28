//! A reader of one topic: starts the threads, and is the epoch loop's end of their lanes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::thread;

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Sender, bounded, unbounded};
use rivermark_executor::source::{
    ReadRequest, ReaderStatus, SourceBatch, SourceError, SourceReader,
};
use rivermark_planner::catalog::{Positions, SourceDef};

use super::client::Client;
use super::config::KafkaConfig;
use super::decode::decode_runs;
use super::fetch::{Cursor, Fetcher};
use super::lanes::Lanes;
use super::messages::Queue;
use super::watch::Watcher;
use crate::format::BatchDecoder;
use crate::format::batch::projected_schema;

/// Threads that decode for one reader.
const DECODERS: usize = 2;

pub struct KafkaReader {
    schema: SchemaRef,
    lanes: Arc<Lanes>,
    /// The threads own it: whoever drops it last waits for librdkafka's threads to end.
    queue: Weak<Queue>,
    /// Commit the offsets of a consumer group: the user named one.
    has_group: bool,
    pokes: Sender<()>,
}

impl KafkaReader {
    /// Starts reading; contacts nothing before it returns.
    pub fn start(
        def: &SourceDef,
        config: &KafkaConfig,
        request: ReadRequest,
    ) -> Result<Self, SourceError> {
        let schema = projected_schema(def, &request.columns)?;
        let client = Arc::new(Client::new(config, request.prefetch_bytes)?);
        let queue = Arc::new(client.queue());
        let budget = (request.prefetch_bytes / 2).max(1);
        let lanes = Arc::new(Lanes::new(
            budget,
            request.stop_at.is_some(),
            request.wake.clone(),
        ));
        let cursors = cursors(&request, &lanes);
        let (job_sender, jobs) = unbounded();
        let (command_sender, commands) = unbounded();
        let (pokes, poke_receiver) = bounded(1);
        for _ in 0..DECODERS {
            let decoder = BatchDecoder::new(def, &request.columns, config.timestamp_unit)?;
            let (jobs, lanes) = (jobs.clone(), lanes.clone());
            spawn("kafka-decode", move || decode_runs(&jobs, decoder, &lanes))?;
        }
        let watcher = Watcher {
            client: client.clone(),
            queue: queue.clone(),
            lanes: lanes.clone(),
            commands: command_sender,
            pokes: poke_receiver,
            interval: config.metadata_interval,
            known: cursors.keys().copied().collect(),
            only: request
                .stop_at
                .as_ref()
                .map(|stops| stops.keys().copied().collect()),
        };
        let fetcher = Fetcher::new(
            client,
            queue.clone(),
            lanes.clone(),
            job_sender,
            commands,
            pokes.clone(),
            config.on_data_loss,
            cursors,
            request.stop_at,
        );
        // Until it is complete, dropping it (on an error below) stops the threads that run already.
        let reader = KafkaReader {
            schema,
            lanes,
            queue: Arc::downgrade(&queue),
            has_group: config.has_group(),
            pokes,
        };
        spawn("kafka-fetch", move || fetcher.run())?;
        spawn("kafka-watch", move || watcher.run())?;
        Ok(reader)
    }
}

impl KafkaReader {
    fn wake_fetcher(&self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.wake();
        }
    }
}

/// Opens the lanes of all partitions known so far. Those that a bounded reader has to find the start of have a lane
/// but no cursor yet.
fn cursors(request: &ReadRequest, lanes: &Lanes) -> BTreeMap<i32, Cursor> {
    let mut cursors = BTreeMap::new();
    for (partition, start) in &request.start {
        let stop = match &request.stop_at {
            None => None,
            Some(stops) => match stops.get(partition) {
                Some(stop) => Some(*stop),
                None => continue,
            },
        };
        let cursor = Cursor::new(*start, stop);
        lanes.open(*partition, *start, cursor.is_done);
        cursors.insert(*partition, cursor);
    }
    for partition in request.stop_at.iter().flat_map(BTreeMap::keys) {
        if !cursors.contains_key(partition) {
            lanes.open(*partition, 0, false);
        }
    }
    cursors
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), SourceError> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(body)
        .map(|_| ())
        .map_err(|e| SourceError::Internal(format!("no thread for a Kafka reader: {e}")))
}

impl SourceReader for KafkaReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn take(&mut self, max_rows: usize) -> Option<SourceBatch> {
        self.lanes.take(max_rows)
    }

    fn status(&self) -> ReaderStatus {
        self.lanes.status()
    }

    fn durable(&mut self, positions: &Positions) {
        if self.has_group
            && let Some(queue) = self.queue.upgrade()
        {
            queue.client().commit_offsets(positions);
        }
    }

    fn set_paused(&mut self, partition: i32, is_paused: bool) {
        self.lanes.set_paused(partition, is_paused);
        self.wake_fetcher();
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.lanes.stop();
        self.wake_fetcher();
        let _ = self.pokes.try_send(());
    }
}
