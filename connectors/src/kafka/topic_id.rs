//! The identity of a topic beyond its name. librdkafka goes on reading at the same offset when a topic is deleted and
//! created again (2.12 has a FIXME there), which would skip messages in silence, so it is asked for here.

use std::ffi::{CStr, c_char, c_int};

use rdkafka_sys as rd;

use super::client::{Client, text};

/// What brokers without topic ids (before Kafka 2.8, and the embedded one) say.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

impl Client {
    /// The topic's id; `None` if the broker does not answer in time, or has none.
    pub fn topic_id(&self, timeout_ms: u64) -> Option<String> {
        let timeout_ms = c_int::try_from(timeout_ms).unwrap_or(c_int::MAX);
        // SAFETY: the handle and the name are valid for the whole call.
        unsafe { describe_topic(self.as_ptr(), self.topic_name(), timeout_ms) }
    }
}

/// # Safety
/// `handle` is a valid client.
unsafe fn describe_topic(
    handle: *mut rd::rd_kafka_t,
    topic: &CStr,
    timeout_ms: c_int,
) -> Option<String> {
    let mut names = [topic.as_ptr()];
    let mut error = [0 as c_char; 256];
    // SAFETY: everything that is made here is destroyed here, the event last, because the result belongs to it.
    unsafe {
        let queue = rd::rd_kafka_queue_new(handle);
        let options = rd::rd_kafka_AdminOptions_new(
            handle,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms,
            error.as_mut_ptr(),
            error.len(),
        );
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd::rd_kafka_DescribeTopics(handle, topics, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, timeout_ms);
        let id = if event.is_null() { None } else { id_in(event) };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_queue_destroy(queue);
        id
    }
}

/// # Safety
/// `event` is a valid event.
unsafe fn id_in(event: *mut rd::rd_kafka_event_t) -> Option<String> {
    // SAFETY: each result is checked before it is used, and belongs to the event.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return None;
        }
        let error = rd::rd_kafka_TopicDescription_error(*topics);
        if rd::rd_kafka_error_code(error) != rd::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(*topics);
        let id = if id.is_null() {
            return None;
        } else {
            text(rd::rd_kafka_Uuid_base64str(id))
        };
        (id != NO_ID).then_some(id)
    }
}
