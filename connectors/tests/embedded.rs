//! Kafka sources against the embedded broker.

mod support;

use std::time::Duration;

use rivermark_connectors::Registry;
use rivermark_connectors::kafka::{EmbeddedBroker, count_bare};
use rivermark_executor::source::{ConnectorFactory, ReaderState, SourceError};
use rivermark_planner::catalog::{Include, Positions};
use rivermark_planner::types::SqlType;
use support::*;

fn broker(topic: &str, partitions: i32) -> (EmbeddedBroker, String) {
    let broker = EmbeddedBroker::start().expect("a broker");
    broker.create_topic(topic, partitions).expect("a topic");
    let bootstrap = broker.bootstrap_servers();
    (broker, bootstrap)
}

/// `count` messages in each of `partitions`, ids ascending.
fn fill(bootstrap: &str, topic: &str, partitions: i32, count: i64) {
    let producer = producer(bootstrap);
    for id in 0..count {
        for partition in 0..partitions {
            let payload = format!("{{\"id\":{id},\"name\":\"p{partition}\"}}");
            send(&producer, topic, partition, payload.as_bytes());
        }
    }
    flush(&producer);
}

#[test]
fn a_bounded_read_delivers_every_partition_and_ends() {
    let (_broker, bootstrap) = broker("t", 4);
    fill(&bootstrap, "t", 4, 5000);
    let source = source(&def(&bootstrap, "t", &[]));
    let start = source.resolve_start(10_000).expect("start");
    let end = source.end_offsets(10_000).expect("end");
    assert_eq!(start, Positions::from([(0, 0), (1, 0), (2, 0), (3, 0)]));
    assert_eq!(
        end,
        Positions::from([(0, 5000), (1, 5000), (2, 5000), (3, 5000)])
    );

    let mut reader = source
        .reader(request(&[0, 1], start.clone(), Some(end)))
        .expect("a reader");
    let batches = take_all(&mut reader);
    let by_partition = offsets(&batches);
    assert!(
        by_partition
            .values()
            .all(|o| *o == (0..5000).collect::<Vec<_>>())
    );
    assert_eq!(by_partition.len(), 4);
    assert!(reader.status().partitions.iter().all(|p| p.taken == 5000));
    for batch in &batches {
        let line = print(std::slice::from_ref(batch))[0].clone();
        assert_eq!(
            line,
            format!("{}|p{}", batch.offsets.value(0), batch.partition)
        );
    }

    // A part of one partition only, and no column at all.
    let stop = Positions::from([(2, 4321)]);
    let mut reader = source
        .reader(request(
            &[],
            Positions::from([(0, 0), (2, 1000)]),
            Some(stop),
        ))
        .expect("a reader");
    let batches = take_all(&mut reader);
    assert_eq!(rows(&batches), 3321);
    assert_eq!(offsets(&batches)[&2], (1000..4321).collect::<Vec<_>>());

    // Nothing to read at all.
    let mut reader = source
        .reader(request(&[0], start.clone(), Some(start)))
        .expect("a reader");
    assert_eq!(rows(&take_all(&mut reader)), 0);

    // A partition whose start is to be found.
    let stop = Positions::from([(1, 10), (3, 20)]);
    let start = Positions::from([(1, 5)]);
    let mut reader = source
        .reader(request(&[0], start, Some(stop)))
        .expect("a reader");
    let batches = take_all(&mut reader);
    assert_eq!(
        offsets(&batches),
        [(1, (5..10).collect()), (3, (0..20).collect())].into()
    );

    let count = count_bare(&bootstrap, "t", 16 << 20).expect("counted");
    assert_eq!(count.messages, 20_000);
}

#[test]
fn bad_messages_are_isolated_with_their_offsets() {
    let (_broker, bootstrap) = broker("t", 1);
    let producer = producer(&bootstrap);
    let huge = format!("{{\"id\":7,\"name\":\"{}\"}}", "x".repeat(3_000_000));
    let payloads: [&[u8]; 9] = [
        br#"{"id":0,"name":"a"}"#,
        b"{",
        br#"{"id":"two","name":"b"}"#,
        b"",
        b"{\"id\":4,\"name\":\"\xff\"}",
        br#"{"id":99999999999999999999,"name":"c"}"#,
        br#"{"id":6}"#,
        huge.as_bytes(),
        br#"{"id":8,"name":"z"} trailing"#,
    ];
    for payload in payloads {
        send(&producer, "t", 0, payload);
    }
    send_full(&producer, "t", b"key", None, ("h", b"v"));
    flush(&producer);

    let source = source(&def(&bootstrap, "t", &[]));
    let mut reader = source
        .reader(request(&[1, 0], Positions::from([(0, 0)]), None))
        .expect("a reader");
    let batches = take_until(&mut reader, |_, status| status.partitions[0].taken == 10);
    assert_eq!(offsets(&batches)[&0], [0, 2, 5, 6, 7]);
    let lines = print(&batches);
    assert_eq!(lines[..4], ["a|0", "b|", "c|", "|6"]);
    let malformed: Vec<_> = batches.iter().flat_map(|b| &b.malformed).collect();
    assert_eq!(
        malformed.iter().map(|m| m.offset).collect::<Vec<_>>(),
        [1, 3, 4, 8, 9]
    );
    assert_eq!(malformed[2].payload, payloads[4]);
    assert_eq!(malformed[4].key.as_deref(), Some(&b"key"[..]));
    let errors: Vec<_> = batches
        .iter()
        .flat_map(|b| {
            b.column_errors
                .iter()
                .map(|e| (b.offsets.value(e.row), e.column, e.payload.clone()))
        })
        .collect();
    assert_eq!(
        errors,
        [(2, 1, payloads[2].to_vec()), (5, 1, payloads[5].to_vec())]
    );

    // A plan that does not use the column has no error.
    let mut reader = source
        .reader(request(&[1], Positions::from([(0, 0)]), None))
        .expect("a reader");
    let batches = take_until(&mut reader, |_, status| status.partitions[0].taken == 10);
    assert!(batches.iter().all(|b| b.column_errors.is_empty()));
    assert_eq!(batches.iter().map(|b| b.malformed.len()).sum::<usize>(), 5);
}

#[test]
fn metadata_becomes_columns() {
    let (_broker, bootstrap) = broker("t", 1);
    let producer = producer(&bootstrap);
    send_full(
        &producer,
        "t",
        b"k1",
        Some(br#"{"id":1}"#),
        ("trace", b"abc"),
    );
    flush(&producer);
    let mut def = def(&bootstrap, "t", &[]);
    let header = SqlType::Struct(vec![
        ("key".to_string(), text()),
        ("value".to_string(), SqlType::Bytea),
    ]);
    def.columns.extend([
        included("k", text(), Include::Key),
        included("p", SqlType::Integer, Include::Partition),
        included("o", SqlType::BigInt, Include::Offset),
        included("ts", SqlType::Timestamptz, Include::Timestamp),
        included("hs", SqlType::Array(Box::new(header)), Include::Headers),
        included(
            "trace",
            SqlType::Bytea,
            Include::Header("trace".to_string()),
        ),
        included(
            "other",
            SqlType::Bytea,
            Include::Header("other".to_string()),
        ),
        included("raw", text(), Include::Payload),
    ]);
    let columns: Vec<_> = (0..10).collect();
    let mut reader = source(&def)
        .reader(request(
            &columns,
            Positions::from([(0, 0)]),
            Some(Positions::from([(0, 1)])),
        ))
        .expect("a reader");
    let batches = take_all(&mut reader);
    assert_eq!(
        print(&batches),
        ["1||k1|0|0|2023-11-14T22:13:20.123Z|[{key: trace, value: 616263}]|616263||{\"id\":1}"]
    );
    assert_eq!(batches[0].timestamps_ms.value(0), 1_700_000_000_123);
}

#[test]
fn a_following_reader_pauses_resumes_and_sees_the_end() {
    let (_broker, bootstrap) = broker("t", 2);
    fill(&bootstrap, "t", 2, 10);
    let start = Positions::from([(0, 0), (1, 0)]);
    let mut reader = source(&def(&bootstrap, "t", &[]))
        .reader(request(&[0], start, None))
        .expect("a reader");
    reader.set_paused(1, true);
    take_until(&mut reader, |_, status| status.partitions[0].taken == 10);
    assert_eq!(reader.status().partitions[1].taken, 0);
    reader.set_paused(1, false);
    let batches = take_until(&mut reader, |_, status| {
        status.partitions.iter().all(|p| p.is_at_end)
    });
    assert_eq!(offsets(&batches)[&1], (0..10).collect::<Vec<_>>());

    // Paused with everything read, then more arrives.
    reader.set_paused(0, true);
    fill(&bootstrap, "t", 2, 5);
    take_until(&mut reader, |_, status| status.partitions[1].taken == 15);
    assert_eq!(reader.status().partitions[0].taken, 10);
    reader.set_paused(0, false);
    let batches = take_until(&mut reader, |_, status| status.partitions[0].taken == 15);
    assert_eq!(offsets(&batches)[&0], (10..15).collect::<Vec<_>>());
    let status = reader.status();
    assert_eq!(
        (status.state, status.partitions[0].end_offset),
        (ReaderState::Running, 15)
    );
}

#[test]
fn a_small_budget_holds_everything_back_but_loses_nothing() {
    let (_broker, bootstrap) = broker("t", 2);
    fill(&bootstrap, "t", 2, 20_000);
    let stop = Positions::from([(0, 20_000), (1, 20_000)]);
    let mut request = request(&[0, 1], Positions::from([(0, 0), (1, 0)]), Some(stop));
    request.prefetch_bytes = 1;
    let mut reader = source(&def(&bootstrap, "t", &[]))
        .reader(request)
        .expect("a reader");
    std::thread::sleep(Duration::from_millis(300));
    let batches = take_all(&mut reader);
    assert_eq!(rows(&batches), 40_000);
    offsets(&batches);
}

#[test]
fn a_missing_topic_is_refused_unless_it_is_allowed() {
    let (_broker, bootstrap) = broker("t", 1);
    let error = source(&def(&bootstrap, "nope", &[]))
        .resolve_start(10_000)
        .expect_err("missing");
    assert!(
        matches!(&error, SourceError::MissingTopic(m) if m.contains("\"nope\"") && m.contains("allow_missing_topic")),
        "{error}"
    );

    let allowed = source(&def(
        &bootstrap,
        "later",
        &[("allow_missing_topic", "true")],
    ));
    let start = allowed.resolve_start(10_000).expect("allowed");
    assert_eq!(start, Positions::new());
    let mut reader = allowed
        .reader(request(&[0], start, None))
        .expect("a reader");
    take_until(&mut reader, |_, status| {
        status.state == ReaderState::Retrying
    });
    assert!(
        reader
            .status()
            .last_error
            .is_some_and(|e| e.contains("does not exist"))
    );
    _broker.create_topic("later", 2).expect("a topic");
    fill(&bootstrap, "later", 2, 3);
    let batches = take_until(&mut reader, |batches, _| rows(batches) == 6);
    assert_eq!(offsets(&batches).len(), 2);
    assert_eq!(reader.status().state, ReaderState::Running);
}

#[test]
fn an_unreachable_broker_is_named() {
    let source = source(&def("127.0.0.1:1", "t", &[]));
    let error = source.resolve_start(2_000).expect_err("unreachable");
    assert!(
        matches!(&error, SourceError::Unreachable(m) if m.contains("127.0.0.1:1")),
        "{error}"
    );
}

#[test]
fn a_broker_that_goes_away_comes_back() {
    let (broker, bootstrap) = broker("t", 1);
    fill(&bootstrap, "t", 1, 10);
    let mut reader = source(&def(&bootstrap, "t", &[]))
        .reader(request(&[0], Positions::from([(0, 0)]), None))
        .expect("a reader");
    take_until(&mut reader, |_, status| {
        status.partitions[0].taken == 10 && status.state == ReaderState::Running
    });
    broker.set_down(true).expect("down");
    take_until(&mut reader, |_, status| {
        status.state == ReaderState::Retrying
    });
    assert!(reader.status().last_error.is_some());
    broker.set_down(false).expect("up");
    take_until(&mut reader, |_, status| {
        status.state == ReaderState::Running
    });
    fill(&bootstrap, "t", 1, 5);
    take_until(&mut reader, |_, status| status.partitions[0].taken == 15);
}

#[test]
fn start_modes() {
    let (_broker, bootstrap) = broker("t", 2);
    fill(&bootstrap, "t", 2, 7);
    let check = |options: &[(&str, &str)], expected: i64| {
        let start = source(&def(&bootstrap, "t", options))
            .resolve_start(10_000)
            .expect("start");
        assert_eq!(
            start,
            Positions::from([(0, expected), (1, expected)]),
            "{options:?}"
        );
    };
    check(&[], 0);
    check(&[("scan.startup.mode", "earliest")], 0);
    check(&[("scan.startup.mode", "latest")], 7);
    // The embedded broker knows no times: it says that there are no messages so late.
    check(&[("scan.startup.timestamp.millis", "4000000000000")], 7);
}

#[test]
fn offsets_that_are_gone_fail_or_are_noted() {
    let (_broker, bootstrap) = broker("t", 1);
    fill(&bootstrap, "t", 1, 10);
    let beyond = || request(&[0], Positions::from([(0, 50)]), None);
    let mut reader = source(&def(&bootstrap, "t", &[]))
        .reader(beyond())
        .expect("a reader");
    take_until(&mut reader, |_, status| status.state == ReaderState::Failed);
    let error = reader.status().last_error.unwrap_or_default();
    assert!(
        error.contains("partition 0: offset 50 was next, but the log is now 0 to 10"),
        "{error}"
    );

    let lenient = source(&def(&bootstrap, "t", &[("on_data_loss", "continue")]));
    let mut reader = lenient.reader(beyond()).expect("a reader");
    let batches = take_until(&mut reader, |_, status| status.partitions[0].is_at_end);
    assert_eq!(offsets(&batches)[&0], (0..10).collect::<Vec<_>>());
    assert!(
        reader
            .status()
            .last_error
            .is_some_and(|e| e.contains("data loss"))
    );
}

#[test]
fn wrong_options_are_named() {
    let check = |options: &[(&str, &str)], expected: &str| {
        let mut def = def("localhost:9092", "t", options);
        if options.contains(&("unit", "h")) {
            def.options.remove("unit");
            def.encode_options
                .insert("timestamp.unit".to_string(), "h".to_string());
        }
        let error = Registry
            .source("s", &def)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains(expected), "{options:?}: {error}");
    };
    check(&[("topik", "t")], "unknown option \"topik\"");
    check(
        &[("connector", "kafa")],
        "option \"connector\": 'kafa' is unknown; allowed are: 'kafka', 'datagen'",
    );
    check(
        &[("properties.no.such", "1")],
        "option \"properties.no.such\"",
    );
    check(
        &[("properties.fetch.min.bytes", "lots")],
        "option \"properties.fetch.min.bytes\"",
    );
    check(
        &[("properties.auto.offset.reset", "latest")],
        "can not be set",
    );
    check(
        &[("idle_timeout", "soon")],
        "option \"idle_timeout\" takes an interval",
    );
    check(
        &[
            ("scan.startup.mode", "latest"),
            ("scan.startup.timestamp.millis", "1"),
        ],
        "exclude each other",
    );
    check(
        &[("unit", "h")],
        "option \"timestamp.unit\" takes 's' or 'ms' or 'us', not 'h'",
    );
    let mut without = def("b", "t", &[]);
    without.options.remove("properties.bootstrap.server");
    let error = Registry
        .source("s", &without)
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("option \"properties.bootstrap.server\" is missing"),
        "{error}"
    );
    let mut include = def("b", "t", &[]);
    include.columns.push(included("o", text(), Include::Offset));
    let error = Registry
        .source("s", &include)
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("takes a column of type bigint, not text"),
        "{error}"
    );
}
