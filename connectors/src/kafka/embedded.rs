//! A broker inside the process, for the demo and for tests: librdkafka's mock cluster.
//!
//! It keeps about 5 MB per partition and drops the oldest messages beyond, so a source on it may lose messages and
//! then says so.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rivermark_executor::source::SourceError;

/// A running broker; it stops when dropped.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

// SAFETY: the cluster runs on a thread of its own, and every call on it passes through that thread's queue.
unsafe impl Send for EmbeddedBroker {}

impl EmbeddedBroker {
    /// Starts a broker on a free port of the loopback interface.
    pub fn start() -> Result<Self, SourceError> {
        let cluster = MockCluster::new(1).map_err(refused)?;
        Ok(EmbeddedBroker { cluster })
    }

    /// `host:port` for clients.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), SourceError> {
        self.cluster
            .create_topic(topic, partitions, 1)
            .map_err(refused)
    }

    /// Disconnects all clients and takes no new ones, or takes them again.
    pub fn set_down(&self, is_down: bool) -> Result<(), SourceError> {
        if is_down {
            self.cluster.broker_down(-1)
        } else {
            self.cluster.broker_up(-1)
        }
        .map_err(refused)
    }
}

fn refused(error: rdkafka::error::KafkaError) -> SourceError {
    SourceError::Internal(format!("embedded broker: {error}"))
}
