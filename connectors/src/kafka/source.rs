//! A topic as a source: where it starts and ends, and readers of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rivermark_executor::source::{ReadRequest, Source, SourceError, SourceReader};
use rivermark_planner::catalog::{Positions, SourceDef};

use super::client::{BEGINNING, Client, END, TopicError};
use super::config::{KafkaConfig, StartMode};
use super::reader::KafkaReader;
use crate::format::BatchDecoder;

/// Memory for a client that reads no messages.
const QUERY_PREFETCH_BYTES: usize = 1 << 20;
/// One attempt to reach a broker.
const ATTEMPT_MS: u64 = 1_000;
/// When brokers that refuse connections are given up, though the caller would wait longer.
const REFUSAL: Duration = Duration::from_secs(3);

pub struct KafkaSource {
    def: SourceDef,
    config: KafkaConfig,
    /// For questions; made when first needed.
    client: Mutex<Option<Arc<Client>>>,
}

/// Checks the definition's options and makes the source; contacts nothing.
pub fn build(_name: &str, def: &SourceDef) -> Result<Arc<dyn Source>, SourceError> {
    let config = KafkaConfig::new(def)?;
    // Finds properties that librdkafka refuses, and columns that can not be decoded.
    Client::new(&config, QUERY_PREFETCH_BYTES)?;
    BatchDecoder::new(def, &[], config.timestamp_unit)?;
    Ok(Arc::new(KafkaSource {
        def: def.clone(),
        config,
        client: Mutex::new(None),
    }))
}

impl KafkaSource {
    fn client(&self) -> Result<Arc<Client>, SourceError> {
        let mut client = self.client.lock();
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let new = Arc::new(Client::new(&self.config, QUERY_PREFETCH_BYTES)?);
        *client = Some(new.clone());
        Ok(new)
    }

    /// The topic's partitions; none if it is missing and may be.
    fn partitions(&self, client: &Client, deadline: Instant) -> Result<Vec<i32>, SourceError> {
        let started = Instant::now();
        let mut seen_events = 0;
        loop {
            let error = match client.partitions(remaining_ms(deadline).clamp(1, ATTEMPT_MS)) {
                Ok(topic) => return Ok(topic.partitions),
                Err(TopicError::Missing) if self.config.allow_missing_topic => {
                    return Ok(Vec::new());
                }
                Err(TopicError::Missing) => {
                    return Err(SourceError::MissingTopic(format!(
                        "Kafka topic \"{}\" does not exist at {}; create it first, or say \
                         allow_missing_topic = 'true' to wait for it",
                        self.config.topic, self.config.bootstrap
                    )));
                }
                Err(TopicError::Unavailable(error)) => error,
            };
            let is_refused = client
                .poll(&mut seen_events)
                .is_some_and(|e| e.is_all_brokers_down)
                && started.elapsed() >= REFUSAL;
            if is_refused || remaining_ms(deadline) == 0 {
                return Err(SourceError::Unreachable(error));
            }
        }
    }
}

impl Source for KafkaSource {
    fn resolve_start(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let client = self.client()?;
        let partitions = self.partitions(&client, deadline)?;
        let at = match self.config.start_mode {
            StartMode::Earliest => BEGINNING,
            StartMode::Latest => END,
            StartMode::TimestampMs(timestamp_ms) => timestamp_ms,
        };
        let mut positions = client.list_offsets(&partitions, at, remaining_ms(deadline).max(1))?;
        // A partition without a message so late starts at its end.
        let later: Vec<_> = positions
            .iter()
            .filter(|(_, o)| **o < 0)
            .map(|(p, _)| *p)
            .collect();
        positions.extend(client.list_offsets(&later, END, remaining_ms(deadline).max(1))?);
        Ok(positions)
    }

    fn end_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let client = self.client()?;
        let partitions = self.partitions(&client, deadline)?;
        client.list_offsets(&partitions, END, remaining_ms(deadline).max(1))
    }

    fn first_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let client = self.client()?;
        let partitions = self.partitions(&client, deadline)?;
        client.list_offsets(&partitions, BEGINNING, remaining_ms(deadline).max(1))
    }

    fn reader(&self, request: ReadRequest) -> Result<Box<dyn SourceReader>, SourceError> {
        Ok(Box::new(KafkaReader::start(
            &self.def,
            &self.config,
            request,
        )?))
    }
}

fn remaining_ms(deadline: Instant) -> u64 {
    deadline
        .saturating_duration_since(Instant::now())
        .as_millis() as u64
}
