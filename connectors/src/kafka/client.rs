//! A safe face for the few parts of librdkafka that a source needs: one client with one topic.
//!
//! Partitions are consumed with explicit offsets through one queue (librdkafka's "simple" consumer): no group, no
//! coordinator, and no permission on either is needed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka_sys as rd;
use rdkafka_sys::types::RDKafkaRespErr;
use rivermark_executor::source::SourceError;
use rivermark_planner::catalog::Positions;

use super::config::KafkaConfig;
use super::messages::Queue;
use crate::options::invalid;

/// Offsets with a meaning, in requests for offsets.
pub const BEGINNING: i64 = rd::RD_KAFKA_OFFSET_BEGINNING as i64;
pub const END: i64 = rd::RD_KAFKA_OFFSET_END as i64;

/// Why the topic's partitions are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicError {
    Missing,
    /// Broker away, no permission, no leader: it may pass.
    Unavailable(String),
}

/// What a topic is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    pub partitions: Vec<i32>,
    /// Partitions without a leader, with librdkafka's words.
    pub trouble: Option<String>,
}

/// One connection to a cluster, and one topic of it.
pub struct Client {
    handle: *mut rd::rd_kafka_t,
    topic: *mut rd::rd_kafka_topic_t,
    topic_name: CString,
    bootstrap: String,
    events: Box<Events>,
}

// SAFETY: librdkafka's handles may be used from any thread; `events` is synchronised.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// What librdkafka reported out of band.
#[derive(Default)]
struct Events {
    count: AtomicU64,
    last: Mutex<Option<ClientEvent>>,
}

/// An error of the client as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    pub message: String,
    pub is_all_brokers_down: bool,
}

impl Client {
    /// Does not contact anything. An unknown or wrong property is an error that names it.
    pub fn new(config: &KafkaConfig, prefetch_bytes: usize) -> Result<Self, SourceError> {
        let topic_name = CString::new(config.topic.as_str())
            .map_err(|_| invalid("option \"topic\" contains a zero byte"))?;
        let conf = Conf::new(&config.consumer_properties(prefetch_bytes))?;
        let mut events = Box::new(Events::default());
        // SAFETY: `conf` is valid; `events` lives in a box as long as the client, which is what the callbacks need.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf.0, ptr::from_mut(events.as_mut()).cast());
            rd::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
        }
        let mut error = [0 as c_char; 512];
        // SAFETY: on success librdkafka owns the configuration, on failure we still do.
        let handle = unsafe {
            rd::rd_kafka_new(
                rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                conf.0,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        if handle.is_null() {
            return Err(invalid(format!(
                "Kafka properties are refused: {}",
                text(error.as_ptr())
            )));
        }
        std::mem::forget(conf);
        // SAFETY: the handle is valid; a null configuration means the default one.
        let topic = unsafe { rd::rd_kafka_topic_new(handle, topic_name.as_ptr(), ptr::null_mut()) };
        let client = Client {
            handle,
            topic,
            topic_name,
            bootstrap: config.bootstrap.clone(),
            events,
        };
        if topic.is_null() {
            return Err(invalid(format!(
                "option \"topic\": '{}' is no topic name",
                config.topic
            )));
        }
        Ok(client)
    }

    /// Serves librdkafka's callbacks; does not block. Returns the last error reported since `seen` and counts it.
    pub fn poll(&self, seen: &mut u64) -> Option<ClientEvent> {
        // SAFETY: the handle is valid.
        unsafe { rd::rd_kafka_poll(self.handle, 0) };
        let count = self.events.count.load(Ordering::Acquire);
        if count == *seen {
            return None;
        }
        *seen = count;
        self.events.last.lock().clone()
    }

    /// Asks a broker for the topic's partitions.
    pub fn partitions(&self, timeout_ms: u64) -> Result<TopicPartitions, TopicError> {
        let mut metadata = ptr::null();
        // SAFETY: all pointers are valid; the result is freed below.
        let error = unsafe {
            rd::rd_kafka_metadata(
                self.handle,
                0,
                self.topic,
                &mut metadata,
                timeout(timeout_ms),
            )
        };
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(TopicError::Unavailable(self.unreachable(error)));
        }
        // SAFETY: on success `metadata` points to a valid description of the one topic asked for.
        let result = unsafe {
            let topics = slice((*metadata).topics, (*metadata).topic_cnt);
            match topics.first() {
                Some(topic) => describe(topic),
                None => Err(TopicError::Missing),
            }
        };
        // SAFETY: it came from rd_kafka_metadata and is used no more.
        unsafe { rd::rd_kafka_metadata_destroy(metadata) };
        result
    }

    /// For each partition the offset of `at`: [`BEGINNING`], [`END`] (under the isolation level), or the first
    /// message at or after so many milliseconds since 1970 (a negative offset: there is none).
    pub fn list_offsets(
        &self,
        partitions: &[i32],
        at: i64,
        timeout_ms: u64,
    ) -> Result<Positions, SourceError> {
        if partitions.is_empty() {
            return Ok(Positions::new());
        }
        let list = PartitionList::new(&self.topic_name, partitions, at);
        // The request carries the value as it is, and the protocol means by -1 and -2 what librdkafka does.
        // SAFETY: handle and list are valid.
        let error =
            unsafe { rd::rd_kafka_offsets_for_times(self.handle, list.0, timeout(timeout_ms)) };
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(SourceError::Unreachable(self.unreachable(error)));
        }
        let mut positions = Positions::new();
        for element in list.elements() {
            if element.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(SourceError::Unreachable(format!(
                    "Kafka topic \"{}\" partition {}: {}",
                    self.topic(),
                    element.partition,
                    describe_error(element.err)
                )));
            }
            positions.insert(element.partition, element.offset);
        }
        Ok(positions)
    }

    /// Commits the offsets of the configured consumer group, in the background: only lag tools read them, so one that
    /// fails is made good by the next.
    pub fn commit_offsets(&self, positions: &Positions) {
        let partitions: Vec<i32> = positions.keys().copied().collect();
        let mut list = PartitionList::new(&self.topic_name, &partitions, 0);
        for (element, offset) in list.elements_mut().iter_mut().zip(positions.values()) {
            element.offset = *offset;
        }
        let is_async = 1;
        // SAFETY: handle and list are valid; librdkafka copies the list.
        let error = unsafe { rd::rd_kafka_commit(self.handle, list.0, is_async) };
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            tracing::debug!(
                "consumer group offsets of topic \"{}\" are not committed: {}",
                self.topic(),
                describe_error(error)
            );
        }
    }

    /// The partition's end as last heard (under the isolation level), -1 if never.
    pub fn cached_end(&self, partition: i32) -> i64 {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: all pointers are valid.
        unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.handle,
                self.topic_name.as_ptr(),
                partition,
                &mut low,
                &mut high,
            );
        }
        high.max(-1)
    }

    /// A queue for the messages of any partitions.
    pub fn queue(self: &Arc<Self>) -> Queue {
        // SAFETY: the handle is valid, and the queue keeps the client alive.
        Queue::new(unsafe { rd::rd_kafka_queue_new(self.handle) }, self.clone())
    }

    /// Begins to fetch `partition` from `offset` into `queue`.
    pub fn start(&self, partition: i32, offset: i64, queue: &Queue) -> Result<(), SourceError> {
        // SAFETY: topic and queue are valid.
        let status = unsafe {
            rd::rd_kafka_consume_start_queue(self.topic, partition, offset, queue.as_ptr())
        };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: reads this thread's last error.
        let error = unsafe { rd::rd_kafka_last_error() };
        Err(SourceError::Internal(format!(
            "partition {partition} can not be read from offset {offset}: {}",
            describe_error(error)
        )))
    }

    /// Ends fetching; what is in the queue already is dropped by librdkafka.
    pub fn stop(&self, partition: i32) {
        // SAFETY: the topic is valid. Stopping what was not started does nothing.
        unsafe { rd::rd_kafka_consume_stop(self.topic, partition) };
    }

    pub fn topic(&self) -> String {
        self.topic_name.to_string_lossy().into_owned()
    }

    pub(super) fn as_ptr(&self) -> *mut rd::rd_kafka_t {
        self.handle
    }

    pub(super) fn topic_name(&self) -> &CStr {
        &self.topic_name
    }

    /// "can not be reached" with the address and the best reason known.
    fn unreachable(&self, error: RDKafkaRespErr) -> String {
        // SAFETY: the handle is valid. Fetches the reason, if there is one by now.
        unsafe { rd::rd_kafka_poll(self.handle, 0) };
        let reason = match self.events.last.lock().as_ref() {
            Some(event) => event.message.clone(),
            None => describe_error(error),
        };
        format!("Kafka at {} can not be reached: {reason}", self.bootstrap)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: everything that was made from the handle keeps the client alive, so nothing of it is left.
        unsafe {
            if !self.topic.is_null() {
                rd::rd_kafka_topic_destroy(self.topic);
            }
            rd::rd_kafka_destroy(self.handle);
        }
    }
}

/// A configuration not yet given to a client.
struct Conf(*mut rd::rd_kafka_conf_t);

impl Conf {
    fn new(properties: &[(String, String)]) -> Result<Self, SourceError> {
        // SAFETY: always succeeds.
        let conf = Conf(unsafe { rd::rd_kafka_conf_new() });
        for (name, value) in properties {
            let refused =
                |reason: String| invalid(format!("option \"properties.{name}\": {reason}"));
            let (Ok(c_name), Ok(c_value)) =
                (CString::new(name.as_str()), CString::new(value.as_str()))
            else {
                return Err(refused("contains a zero byte".to_string()));
            };
            let mut error = [0 as c_char; 512];
            // SAFETY: all strings end with a zero, `error` is as long as it says.
            let result = unsafe {
                rd::rd_kafka_conf_set(
                    conf.0,
                    c_name.as_ptr(),
                    c_value.as_ptr(),
                    error.as_mut_ptr(),
                    error.len(),
                )
            };
            if result != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                return Err(refused(text(error.as_ptr())));
            }
        }
        Ok(conf)
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: it was not given away.
        unsafe { rd::rd_kafka_conf_destroy(self.0) };
    }
}

/// librdkafka's list of partitions with an offset each.
struct PartitionList(*mut rd::rd_kafka_topic_partition_list_t);

impl PartitionList {
    fn new(topic: &CStr, partitions: &[i32], offset: i64) -> Self {
        // SAFETY: the list copies the name; `add` returns a valid element.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(partitions.len() as c_int);
            for partition in partitions {
                let element =
                    rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), *partition);
                (*element).offset = offset;
            }
            PartitionList(list)
        }
    }

    fn elements(&self) -> &[rd::rd_kafka_topic_partition_t] {
        // SAFETY: the list is valid and not changed while borrowed.
        unsafe { slice((*self.0).elems, (*self.0).cnt) }
    }

    fn elements_mut(&mut self) -> &mut [rd::rd_kafka_topic_partition_t] {
        // SAFETY: the list is valid, ours alone, and has `cnt` elements (none of a list made for none).
        unsafe {
            match usize::try_from((*self.0).cnt) {
                Ok(count) if count > 0 => std::slice::from_raw_parts_mut((*self.0).elems, count),
                _ => &mut [],
            }
        }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, and used no more.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

fn describe(topic: &rd::rd_kafka_metadata_topic) -> Result<TopicPartitions, TopicError> {
    use RDKafkaRespErr::*;
    match topic.err {
        RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => return Err(TopicError::Missing),
        error => return Err(TopicError::Unavailable(describe_error(error))),
    }
    // SAFETY: librdkafka describes `partition_cnt` partitions there.
    let partitions = unsafe { slice(topic.partitions, topic.partition_cnt) };
    if partitions.is_empty() {
        return Err(TopicError::Missing);
    }
    let trouble = partitions.iter().find(|p| p.leader < 0).map(|p| {
        format!(
            "partition {} has no leader: {}",
            p.id,
            describe_error(p.err)
        )
    });
    Ok(TopicPartitions {
        partitions: partitions.iter().map(|p| p.id).collect(),
        trouble,
    })
}

/// librdkafka's words for an error.
pub fn describe_error(error: RDKafkaRespErr) -> String {
    // SAFETY: returns a static string.
    text(unsafe { rd::rd_kafka_err2str(error) })
}

fn timeout(timeout_ms: u64) -> c_int {
    c_int::try_from(timeout_ms).unwrap_or(c_int::MAX)
}

/// # Safety
/// `first` points to `count` elements, or `count` is not positive.
unsafe fn slice<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: as promised by the caller.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// Copies a C string; null is empty.
pub fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings end with a zero.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}

unsafe extern "C" fn on_error(
    _: *mut rd::rd_kafka_t,
    error: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque pointer is the client's `Events`, which outlives the handle.
    let events = unsafe { &*opaque.cast::<Events>() };
    let is_all_brokers_down = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int;
    let mut last = events.last.lock();
    let message = match last.as_ref() {
        // "1/1 brokers are down" says less than why the last one went down.
        Some(previous) if is_all_brokers_down => previous.message.clone(),
        _ => text(reason),
    };
    *last = Some(ClientEvent {
        message,
        is_all_brokers_down,
    });
    drop(last);
    events.count.fetch_add(1, Ordering::Release);
}

unsafe extern "C" fn on_log(
    _: *const rd::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    let (facility, message) = (text(facility), text(message));
    if level <= 3 {
        tracing::debug!(target: "librdkafka", "{facility}: {message}");
    } else {
        tracing::trace!(target: "librdkafka", "{facility}: {message}");
    }
}
