//! The yardstick of the ingestion benchmark: a consumer that only counts, with the batch call that readers use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka_sys::types::RDKafkaRespErr;
use rivermark_executor::source::SourceError;

use super::client::{BEGINNING, Client, END, TopicError};
use super::config::KafkaConfig;
use crate::message::Message;

const TIMEOUT_MS: u64 = 10_000;
const MAX_BATCH: usize = 8192;

/// What was counted, and how long it took from the first fetch on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BareCount {
    pub messages: u64,
    /// Of keys and payloads.
    pub bytes: u64,
    pub elapsed: Duration,
}

/// Reads `topic` from its first offset to its present end. `prefetch_bytes` bounds librdkafka's queue as a reader's
/// does.
pub fn count_bare(
    bootstrap: &str,
    topic: &str,
    prefetch_bytes: usize,
) -> Result<BareCount, SourceError> {
    let config = KafkaConfig::bare(bootstrap, topic);
    let client = Arc::new(Client::new(&config, prefetch_bytes)?);
    let partitions = client.partitions(TIMEOUT_MS).map_err(|e| match e {
        TopicError::Missing => {
            SourceError::MissingTopic(format!("Kafka topic \"{topic}\" does not exist"))
        }
        TopicError::Unavailable(error) => SourceError::Unreachable(error),
    })?;
    let starts = client.list_offsets(&partitions.partitions, BEGINNING, TIMEOUT_MS)?;
    let ends = client.list_offsets(&partitions.partitions, END, TIMEOUT_MS)?;
    let mut open: BTreeMap<i32, i64> = ends
        .into_iter()
        .filter(|(p, end)| starts[p] < *end)
        .collect();
    let queue = client.queue();
    let started = Instant::now();
    for partition in open.keys() {
        client.start(*partition, starts[partition], &queue)?;
    }
    let mut count = BareCount {
        messages: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
    };
    let mut batch = Vec::new();
    while !open.is_empty() {
        queue.consume(&mut batch, MAX_BATCH, 1000);
        for message in batch.drain(..) {
            let position = match message.error() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    count.messages += 1;
                    count.bytes += message.size() as u64;
                    message.offset() + 1
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => message.offset(),
                _ => return Err(SourceError::Unreachable(message.error_text())),
            };
            if open
                .get(&message.partition())
                .is_some_and(|end| position >= *end)
            {
                open.remove(&message.partition());
            }
        }
    }
    count.elapsed = started.elapsed();
    Ok(count)
}
