//! What the embedded broker can not do: transactions, retention, new partitions, deleted and recreated topics.
//!
//! Starts an Apache Kafka (or uses the one at `RIVERMARK_TEST_KAFKA`). Where there is no JDK to run it with, the tests say
//! so and end; in continuous integration that is a failure.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rivermark_executor::source::{ReaderState, SourceReader};
use rivermark_planner::catalog::Positions;
use support::*;

struct Kafka {
    broker: &'static rivermark_sql_tests::kafka::Kafka,
    bootstrap: String,
}

impl Kafka {
    /// The broker, or `None` (after saying so) if there is only an embedded one.
    fn find() -> Option<Kafka> {
        let broker = rivermark_sql_tests::kafka::Kafka::shared();
        if !broker.is_real() {
            println!(
                "skipped: the embedded broker has no transactions, retention or deleted topics"
            );
            return None;
        }
        let bootstrap = broker.bootstrap().to_string();
        Some(Kafka { broker, bootstrap })
    }

    /// A new topic with a name of its own.
    fn topic(&self, prefix: &str, partitions: i32) -> String {
        let topic = rivermark_sql_tests::kafka::unique_name(prefix);
        self.create(&topic, partitions);
        topic
    }

    fn create(&self, topic: &str, partitions: i32) {
        self.broker
            .create_topic(topic, partitions)
            .expect("created");
        // The broker answers before its metadata has the topic.
        std::thread::sleep(Duration::from_millis(300));
    }

    fn delete(&self, topic: &str) {
        self.broker.delete_topic(topic).expect("deleted");
        std::thread::sleep(Duration::from_millis(500));
    }

    fn delete_records(&self, topic: &str, before: i64) {
        self.broker
            .delete_records(topic, 0, before)
            .expect("deleted");
    }

    fn fill(&self, topic: &str, partition: i32, ids: std::ops::Range<i64>) {
        let producer = producer(&self.bootstrap);
        for id in ids {
            send(
                &producer,
                topic,
                partition,
                format!("{{\"id\":{id}}}").as_bytes(),
            );
        }
        flush(&producer);
    }

    fn follow(
        &self,
        topic: &str,
        start: Positions,
        options: &[(&str, &str)],
    ) -> Box<dyn SourceReader> {
        source(&def(&self.bootstrap, topic, options))
            .reader(request(&[0], start, None))
            .expect("a reader")
    }
}

#[test]
fn transactions_leave_only_what_was_committed_and_no_gap_in_the_progress() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("transactions", 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("transactional.id", &topic)
        .create()
        .expect("a producer");
    producer
        .init_transactions(Duration::from_secs(20))
        .expect("initialised");
    for (ids, is_committed) in [(0..3, true), (3..6, false), (6..9, true), (9..12, false)] {
        producer.begin_transaction().expect("begun");
        ids.for_each(|id| send(&producer, &topic, 0, format!("{{\"id\":{id}}}").as_bytes()));
        flush(&producer);
        if is_committed {
            producer
                .commit_transaction(Duration::from_secs(20))
                .expect("committed");
        } else {
            producer
                .abort_transaction(Duration::from_secs(20))
                .expect("aborted");
        }
    }
    let source = source(&def(&kafka.bootstrap, &topic, &[]));
    let end = source.end_offsets(10_000).expect("end");
    assert_eq!(
        end,
        Positions::from([(0, 16)]),
        "twelve messages, four markers"
    );

    let mut reader = source
        .reader(request(&[0], Positions::from([(0, 0)]), Some(end)))
        .expect("a reader");
    let batches = take_all(&mut reader);
    assert_eq!(print(&batches), ["0", "1", "2", "6", "7", "8"]);
    assert_eq!(reader.status().partitions[0].taken, 16);

    let mut reader = kafka.follow(&topic, Positions::from([(0, 0)]), &[]);
    take_until(&mut reader, |_, status| status.partitions[0].is_at_end);
    assert_eq!(reader.status().partitions[0].taken, 16);

    // An open transaction is not read past, and is not in the end either.
    producer.begin_transaction().expect("begun");
    send(&producer, &topic, 0, br#"{"id":100}"#);
    flush(&producer);
    kafka.fill(&topic, 0, 200..201);
    assert_eq!(
        source.end_offsets(10_000).expect("end"),
        Positions::from([(0, 16)])
    );
    producer
        .commit_transaction(Duration::from_secs(20))
        .expect("committed");
    let batches = take_until(&mut reader, |_, status| status.partitions[0].taken == 19);
    assert_eq!(print(&batches), ["100", "200"]);
}

#[test]
fn new_partitions_are_read_from_their_first_offset() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("grows", 1);
    kafka.fill(&topic, 0, 0..5);
    let mut reader = kafka.follow(&topic, Positions::from([(0, 0)]), &[]);
    take_until(&mut reader, |batches, _| rows(batches) == 5);
    kafka.broker.set_partitions(&topic, 3).expect("widened");
    std::thread::sleep(Duration::from_millis(300));
    kafka.fill(&topic, 1, 10..15);
    kafka.fill(&topic, 2, 20..25);
    let batches = take_until(&mut reader, |batches, _| rows(batches) == 10);
    let expected: Vec<i64> = (0..5).collect();
    assert_eq!(
        offsets(&batches),
        [(1, expected.clone()), (2, expected)].into()
    );
    assert_eq!(reader.status().state, ReaderState::Running);
}

#[test]
fn deleted_records_are_a_loss_that_is_named() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("retention", 1);
    kafka.fill(&topic, 0, 0..100);
    kafka.delete_records(&topic, 40);
    let start = Positions::from([(0, 10)]);
    let mut reader = kafka.follow(&topic, start.clone(), &[]);
    take_until(&mut reader, |_, status| status.state == ReaderState::Failed);
    let error = reader.status().last_error.unwrap_or_default();
    assert!(
        error.contains("partition 0: offsets 10 to 39 were deleted before they were read"),
        "{error}"
    );

    let mut reader = kafka.follow(&topic, start, &[("on_data_loss", "continue")]);
    let batches = take_until(&mut reader, |_, status| status.partitions[0].is_at_end);
    assert_eq!(offsets(&batches)[&0], (40..100).collect::<Vec<_>>());
    assert!(
        reader
            .status()
            .last_error
            .is_some_and(|e| e.contains("offsets 10 to 39"))
    );
    assert_eq!(reader.status().state, ReaderState::Running);
    let earliest = source(&def(&kafka.bootstrap, &topic, &[]))
        .resolve_start(10_000)
        .expect("start");
    assert_eq!(earliest, Positions::from([(0, 40)]));
}

#[test]
fn a_deleted_topic_is_waited_for_and_a_recreated_one_is_a_loss() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("recreated", 1);
    kafka.fill(&topic, 0, 0..10);
    let start = Positions::from([(0, 0)]);
    let mut strict = kafka.follow(&topic, start.clone(), &[]);
    let mut lenient = kafka.follow(&topic, start, &[("on_data_loss", "continue")]);
    for reader in [&mut strict, &mut lenient] {
        take_until(reader, |_, status| {
            status.partitions[0].taken == 10 && status.state == ReaderState::Running
        });
    }
    // The watching threads have seen the topic's id.
    std::thread::sleep(Duration::from_millis(500));
    kafka.delete(&topic);
    for reader in [&mut strict, &mut lenient] {
        take_until(reader, |_, status| status.state == ReaderState::Retrying);
        assert!(
            reader
                .status()
                .last_error
                .is_some_and(|e| e.contains("does not exist"))
        );
    }
    // More messages than before: every offset that was next exists again, and means something else.
    kafka.create(&topic, 1);
    kafka.fill(&topic, 0, 100..120);
    take_until(&mut strict, |_, status| status.state == ReaderState::Failed);
    let error = strict.status().last_error.unwrap_or_default();
    assert!(error.contains("created anew"), "{error}");
    let batches = take_until(&mut lenient, |batches, status| {
        status.partitions[0].is_at_end
            && batches
                .iter()
                .any(|b| b.rows.num_rows() > 0 && b.offsets.value(0) == 0)
    });
    let ids = print(&batches);
    assert!(
        (100..120).all(|id| ids.contains(&id.to_string())),
        "{ids:?}"
    );
}

#[test]
fn starts_by_time_and_messages_of_ten_megabytes() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("large", 1);
    kafka.fill(&topic, 0, 0..3);
    std::thread::sleep(Duration::from_millis(20));
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis()
        .to_string();
    let producer = producer(&kafka.bootstrap);
    let large = format!("{{\"id\":3,\"name\":\"{}\"}}", "x".repeat(10_000_000));
    send(&producer, &topic, 0, large.as_bytes());
    flush(&producer);
    kafka.fill(&topic, 0, 4..6);
    let source = source(&def(
        &kafka.bootstrap,
        &topic,
        &[("scan.startup.timestamp.millis", &now_ms)],
    ));
    let start = source.resolve_start(10_000).expect("start");
    assert_eq!(start, Positions::from([(0, 3)]));
    let mut small = request(&[0, 1], start, Some(Positions::from([(0, 6)])));
    small.prefetch_bytes = 1 << 20;
    let mut reader = source.reader(small).expect("a reader");
    let batches = take_all(&mut reader);
    assert_eq!(rows(&batches), 3);
    assert!(batches.iter().map(|b| b.bytes).sum::<u64>() > 10_000_000);
}

#[test]
fn a_named_group_shows_what_is_durable() {
    let Some(kafka) = Kafka::find() else { return };
    let topic = kafka.topic("lag", 2);
    kafka.fill(&topic, 0, 0..10);
    let group = format!("group-{topic}");
    let mut reader = kafka.follow(
        &topic,
        Positions::from([(0, 0), (1, 0)]),
        &[("properties.group.id", &group)],
    );
    take_until(&mut reader, |batches, _| rows(batches) == 10);
    let observer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("group.id", &group)
        .create()
        .expect("a consumer");
    for durable in [4, 10] {
        reader.durable(&Positions::from([(0, durable), (1, 0)]));
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&topic, 0);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let committed = observer
                .committed_offsets(asked.clone(), Duration::from_secs(10))
                .expect("an answer");
            let offset = committed.elements()[0].offset();
            if offset == Offset::Offset(durable) {
                break;
            }
            assert!(Instant::now() < deadline, "{offset:?} instead of {durable}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
