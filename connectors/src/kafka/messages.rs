//! librdkafka's messages, borrowed in place: taken from a queue in batches, freed when dropped.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use rdkafka_sys as rd;
use rdkafka_sys::types::RDKafkaRespErr;

use super::client::Client;
use crate::message::{HeaderVisitor, Message};

/// A queue that librdkafka puts messages of several partitions into.
pub struct Queue {
    queue: *mut rd::rd_kafka_queue_t,
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub(super) fn new(queue: *mut rd::rd_kafka_queue_t, client: Arc<Client>) -> Self {
        Queue { queue, client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn as_ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.queue
    }

    /// Moves what is ready into `out`, at most up to its `capacity`; waits up to `timeout_ms` if nothing is.
    pub fn consume(&self, out: &mut Vec<KafkaMessage>, capacity: usize, timeout_ms: i32) {
        // librdkafka waits until the batch is full: so take what is there, and wait only for a first message.
        self.consume_batch(out, capacity, 0);
        if out.is_empty() && timeout_ms > 0 {
            self.consume_batch(out, 1, timeout_ms);
            self.consume_batch(out, capacity, 0);
        }
    }

    fn consume_batch(&self, out: &mut Vec<KafkaMessage>, capacity: usize, timeout_ms: c_int) {
        let room = capacity.saturating_sub(out.len());
        if room == 0 {
            return;
        }
        out.reserve(room);
        // SAFETY: `KafkaMessage` is a transparent pointer, there is room for `room` of them, and the call says how
        // many it wrote.
        unsafe {
            let end = out
                .as_mut_ptr()
                .add(out.len())
                .cast::<*mut rd::rd_kafka_message_t>();
            let count = rd::rd_kafka_consume_batch_queue(self.queue, timeout_ms, end, room);
            out.set_len(out.len() + usize::try_from(count).unwrap_or(0));
        }
    }

    /// Makes a waiting `consume` return.
    pub fn wake(&self) {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_yield(self.queue) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: ours, and used no more.
        unsafe { rd::rd_kafka_queue_destroy(self.queue) };
    }
}

/// A message or an event of a partition.
#[repr(transparent)]
pub struct KafkaMessage(ptr::NonNull<rd::rd_kafka_message_t>);

// SAFETY: a message belongs to whoever holds it and may be read and freed on any thread.
unsafe impl Send for KafkaMessage {}

impl KafkaMessage {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: valid until dropped.
        unsafe { self.0.as_ref() }
    }

    /// `NO_ERROR` for a message; else an event.
    pub fn error(&self) -> RDKafkaRespErr {
        self.raw().err
    }

    /// librdkafka's words for the event.
    pub fn error_text(&self) -> String {
        // SAFETY: the message is valid; the string belongs to it.
        super::client::text(unsafe { rd::rd_kafka_message_errstr(self.0.as_ptr()) })
    }

    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Bytes of key and payload.
    pub fn size(&self) -> usize {
        self.raw().len + self.raw().key_len
    }
}

impl Message for KafkaMessage {
    fn offset(&self) -> i64 {
        self.raw().offset
    }

    fn timestamp_ms(&self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        let timestamp_ms = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        timestamp_ms.max(-1)
    }

    fn key(&self) -> Option<&[u8]> {
        bytes(self.raw().key, self.raw().key_len)
    }

    fn payload(&self) -> Option<&[u8]> {
        bytes(self.raw().payload, self.raw().len)
    }

    fn for_each_header(&self, visit: &mut HeaderVisitor<'_>) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; its headers belong to it and live as long.
        unsafe {
            if rd::rd_kafka_message_headers(self.0.as_ptr(), &mut headers)
                != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let mut index = 0;
            while rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size)
                == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                visit(
                    std::ffi::CStr::from_ptr(name).to_bytes(),
                    bytes(value, size),
                );
                index += 1;
            }
        }
    }
}

impl Drop for KafkaMessage {
    fn drop(&mut self) {
        // SAFETY: ours, and used no more.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// Null is `None`; of length zero it is empty.
fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: librdkafka has `length` bytes there for as long as the message lives.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), length) })
}

/// Consecutive messages of one partition. They are freed before the client they came from.
pub struct Run {
    pub partition: i32,
    pub messages: Vec<KafkaMessage>,
    /// Where to resume after them.
    pub next_offset: i64,
    /// Bytes of keys and payloads.
    pub bytes: usize,
    _client: Arc<Client>,
}

impl Run {
    pub fn new(partition: i32, next_offset: i64, client: Arc<Client>) -> Self {
        Run {
            partition,
            messages: Vec::new(),
            next_offset,
            bytes: 0,
            _client: client,
        }
    }

    /// What it occupies, librdkafka's own structures included.
    pub fn memory(&self) -> usize {
        self.bytes + self.messages.len() * 500
    }
}
