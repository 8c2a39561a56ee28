//! The yardstick: a consumer that uses librdkafka's batch-consume call and does nothing but count bytes.

use std::ffi::CString;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer};

const BATCH: usize = 4096;

/// What draining a topic took.
pub struct Drained {
    pub messages: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// Reads all partitions of a topic from the start until `messages` have come.
pub fn drain(bootstrap: &str, topic: &str, partitions: i32, messages: u64) -> Result<Drained> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bare");
    config
        .set("queued.max.messages.kbytes", "65536")
        .set("queued.min.messages", "1000000");
    config
        .set("check.crcs", "false")
        .set("fetch.max.bytes", "52428800")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let name = CString::new(topic)?;
    let begin = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    // SAFETY: the client lives as long as `consumer`; topic and queue are made here and destroyed below, after
    // consuming has stopped; every message handed out is destroyed exactly once.
    unsafe {
        let client = consumer.client().native_ptr();
        let handle = rd::rd_kafka_topic_new(client, name.as_ptr(), null_mut());
        let queue = rd::rd_kafka_queue_new(client);
        for partition in 0..partitions {
            let started = rd::rd_kafka_consume_start_queue(handle, partition, -2, queue);
            ensure!(started == 0, "partition {partition} cannot be read");
        }
        let mut batch = vec![null_mut(); BATCH];
        let mut last = Instant::now();
        while count < messages && last.elapsed() < Duration::from_secs(20) {
            let got = rd::rd_kafka_consume_batch_queue(queue, 100, batch.as_mut_ptr(), BATCH);
            for message in &batch[..usize::try_from(got).unwrap_or(0)] {
                if (**message).err as i32 == 0 {
                    count += 1;
                    bytes += (**message).len as u64;
                    last = Instant::now();
                }
                rd::rd_kafka_message_destroy(*message);
            }
        }
        for partition in 0..partitions {
            rd::rd_kafka_consume_stop(handle, partition);
        }
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_topic_destroy(handle);
    }
    ensure!(
        count >= messages,
        "only {count} of {messages} messages came"
    );
    let seconds = begin.elapsed().as_secs_f64();
    drop(consumer);
    Ok(Drained {
        messages: count,
        bytes,
        seconds,
    })
}
