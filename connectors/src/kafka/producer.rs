//! A small producer of text messages, for the demo's fleet and for tests.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rivermark_executor::source::SourceError;

/// How long [`Producer::send`] waits for room in the queue.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(100);

/// Publishes messages; delivery happens in the background.
pub struct Producer {
    producer: BaseProducer,
}

impl Producer {
    /// `bootstrap` is `host:port[,…]`. Does not contact the broker yet.
    pub fn new(bootstrap: &str) -> Result<Self, SourceError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("linger.ms", "5")
            .create()
            .map_err(failed)?;
        Ok(Producer { producer })
    }

    /// Queues a message for the partition that its key chooses.
    pub fn send(&self, topic: &str, key: &str, payload: &str) -> Result<(), SourceError> {
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(FULL_QUEUE_WAIT);
                }
                Err((error, _)) => return Err(failed(error)),
            }
        }
    }

    /// Lets librdkafka do its housekeeping; to be called now and then.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until every queued message has been delivered.
    pub fn flush(&self, timeout: Duration) -> Result<(), SourceError> {
        self.producer.flush(timeout).map_err(failed)
    }
}

fn failed(error: KafkaError) -> SourceError {
    SourceError::Unreachable(format!("producer: {error}"))
}
