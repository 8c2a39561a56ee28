//! Kafka, through librdkafka: a source that reads every partition of a topic with offsets that are ours.
//!
//! A reader has one fetching thread, which moves librdkafka's messages in long runs of one partition to decoding
//! threads, which fill the lanes that the epoch loop takes batches from; a fourth thread watches the topic.

mod client;
pub mod config;
pub mod count;
mod decode;
pub mod embedded;
mod fetch;
mod lanes;
mod loss;
mod messages;
pub mod producer;
mod reader;
pub mod source;
mod topic_id;
mod watch;

pub use count::{BareCount, count_bare};
pub use embedded::EmbeddedBroker;
