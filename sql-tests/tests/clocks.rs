//! Clocks that are off, partitions that fall silent, backlogs and kills: which rows are late and which windows are closed
//! follows from the topic alone, and what a watermark has passed stays passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::producer::Producer;
use rivermark_sql_tests::kafka::{Kafka, Message, send};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;

const PARTITIONS: i32 = 2;
const DELAY_MS: i64 = 5_000;
const MINUTE_MS: i64 = 60_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One message, by a device whose clock says `ts_ms` when it is `sent_ms`.
#[derive(Clone, Copy)]
struct Reading {
    partition: i32,
    device: i64,
    value: i64,
    ts_ms: i64,
    sent_ms: i64,
}

impl Reading {
    fn message(&self) -> Message {
        let text = format!(
            "{{\"device\": {}, \"v\": {}, \"ts\": {}}}",
            self.device, self.value, self.ts_ms
        );
        Message::new(text)
            .to_partition(self.partition)
            .sent_at(self.sent_ms)
    }
}

/// The beginning of a minute somewhat more than an hour ago.
fn an_hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.expect("a clock after 1970").as_millis() as i64;
    (now_ms - 62 * MINUTE_MS) / MINUTE_MS * MINUTE_MS
}

/// An hour of two partitions, a reading a second each. Its time is up to three seconds before it is sent, and of one in
/// twenty up to `most_behind_ms`.
fn an_hour(most_behind_ms: i64) -> Vec<Reading> {
    let begin = an_hour_ago();
    let seconds = 0..3600;
    let both = seconds.flat_map(|second| (0..PARTITIONS).map(move |partition| (second, partition)));
    both.map(|(second, partition)| {
        let mixed =
            (second * 2 + i64::from(partition)).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
        let mixed = (mixed as u64 >> 33) as i64;
        let sent_ms = begin + second * 1000;
        Reading {
            partition,
            device: mixed % 8,
            value: mixed % 1000,
            ts_ms: sent_ms
                - mixed / 8
                    % if mixed % 20 == 0 {
                        most_behind_ms
                    } else {
                        3_000
                    },
            sent_ms,
        }
    })
    .collect()
}

/// What the definitions say, computed plainly.
#[derive(Default)]
struct Reference {
    /// (partition, offset, time, bound) of late rows.
    late: BTreeSet<(i64, i64, i64, i64)>,
    /// (partition, offset) of rows from the future.
    future: BTreeSet<(i64, i64)>,
    /// minute → count and sum.
    windows: BTreeMap<i64, (i64, i64)>,
    watermark: i64,
}

impl Reference {
    fn of(readings: &[Reading]) -> Reference {
        let mut reference = Reference::default();
        let mut bounds = [i64::MIN; PARTITIONS as usize];
        let mut offsets = [0; PARTITIONS as usize];
        for reading in readings {
            let at = reading.partition as usize;
            let place = (i64::from(reading.partition), offsets[at]);
            offsets[at] += 1;
            if reading.ts_ms - reading.sent_ms > 60 * MINUTE_MS {
                reference.future.insert(place);
            } else if reading.ts_ms < bounds[at] {
                let late = (place.0, place.1, reading.ts_ms, bounds[at]);
                reference.late.insert(late);
            } else {
                bounds[at] = bounds[at].max(reading.ts_ms - DELAY_MS);
                let minute = reading.ts_ms.div_euclid(MINUTE_MS);
                let window = reference.windows.entry(minute).or_default();
                *window = (window.0 + 1, window.1 + reading.value);
            }
        }
        reference.watermark = *bounds.iter().min().expect("there are partitions");
        reference
    }

    /// The windows that the watermark has passed.
    fn closed(&self) -> Vec<Vec<i64>> {
        let closed = self.windows.iter();
        let closed = closed.filter(|(minute, _)| (*minute + 1) * MINUTE_MS <= self.watermark);
        closed.map(|(m, (n, s))| vec![*m, *n, *s]).collect()
    }

    /// All that a server shows must be this.
    fn check(&self, session: &Session, who: &str) {
        let late = numbers(
            session,
            "SELECT partition, \"offset\", (extract(epoch FROM ts) * 1000)::bigint,
               (extract(epoch FROM watermark) * 1000)::bigint
             FROM rivermark.late_rows ORDER BY 1, 2",
        );
        let expected = self.late.iter().map(|l| vec![l.0, l.1, l.2, l.3]);
        assert_eq!(late, expected.collect::<Vec<_>>(), "{who}: late rows");
        let counted = session.integer("SELECT sum(late_rows)::bigint FROM rivermark.sources");
        assert_eq!(counted, self.late.len() as i64, "{who}: counted late rows");
        let letters = numbers(
            session,
            "SELECT partition, \"offset\" FROM rivermark.dead_letters ORDER BY 1, 2",
        );
        let expected = self.future.iter().map(|f| vec![f.0, f.1]);
        assert_eq!(letters, expected.collect::<Vec<_>>(), "{who}: dead letters");
        assert_eq!(closed(session), self.closed(), "{who}: closed windows");
        let watermark = session.integer(
            "SELECT (extract(epoch FROM min(watermark)) * 1000)::bigint FROM rivermark.sources",
        );
        assert_eq!(watermark, self.watermark, "{who}: watermark");
        let (n, s) = self
            .windows
            .values()
            .fold((0, 0), |a, w| (a.0 + w.0, a.1 + w.1));
        let on_update = numbers(
            session,
            "SELECT sum(n)::bigint, sum(s)::bigint FROM per_minute",
        );
        assert_eq!(on_update, [[n, s]], "{who}: what all views see");
        let asked = numbers(session, "SELECT count(*), sum(v)::bigint FROM readings");
        assert_eq!(asked, [[n, s]], "{who}: what a query on the source sees");
    }
}

fn numbers(session: &Session, sql: &str) -> Vec<Vec<i64>> {
    let number = |cell: &Option<String>| {
        let text = cell.as_deref().unwrap_or("no value");
        text.parse()
            .unwrap_or_else(|_| panic!("{text} is no number, from: {sql}"))
    };
    let rows = session.rows(sql);
    rows.iter()
        .map(|row| row.iter().map(number).collect())
        .collect()
}

fn closed(session: &Session) -> Vec<Vec<i64>> {
    numbers(
        session,
        "SELECT (extract(epoch FROM window_start) / 60)::bigint, n, s FROM closed ORDER BY 1",
    )
}

fn declare(session: &Session, kafka: &Kafka, topic: &str, options: &str) {
    session.must(&format!(
        "CREATE SOURCE readings (device INT, v BIGINT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}'{options})
         FORMAT PLAIN ENCODE JSON (timestamp.unit = 'ms')",
        kafka.bootstrap()
    ));
    for (name, emit) in [("per_minute", ""), ("closed", "EMIT ON WINDOW CLOSE")] {
        session.must(&format!(
            "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, count(*) AS n, sum(v)::bigint AS s
             FROM TUMBLE(readings, ts, INTERVAL '1 minute') GROUP BY window_start {emit}"
        ));
    }
}

fn produce(kafka: &Kafka, topic: &str, readings: &[Reading]) {
    let messages = readings.iter().map(Reading::message);
    kafka.produce(topic, messages).expect("messages are taken");
}

/// Waits until a query answers so.
fn wait_for(session: &Session, sql: &str, expected: &[Vec<i64>]) {
    let begin = Instant::now();
    loop {
        let found = numbers(session, sql);
        if found == expected {
            return;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{sql}: {found:?}, not {expected:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Device 90 believes in 2099, device 70 in 1970: each loses its own rows, to dead letters and as late.
#[test]
fn a_clock_that_is_off_costs_its_own_rows() {
    const IN_2099_MS: i64 = 4_070_908_800_000;
    let mut readings = an_hour(4_000);
    let good = Reference::of(&readings);
    assert!(good.late.is_empty(), "four seconds are within the delay");
    for at in (5..readings.len()).rev().step_by(50) {
        let off = |device, ts_ms| Reading {
            device,
            ts_ms,
            ..readings[at]
        };
        let (ahead, behind) = (off(90, IN_2099_MS), off(70, 0));
        readings.splice(at..at, [ahead, behind]);
    }
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("clocks", PARTITIONS).expect("a topic");
    let server = Server::options().start().expect("a server");
    let session = server.connect();
    declare(&session, kafka, &topic, "");
    produce(kafka, &topic, &readings);
    session.must("FLUSH");
    let reference = Reference::of(&readings);
    assert_eq!(reference.windows, good.windows, "nobody else loses a row");
    assert_eq!(reference.future.len(), reference.late.len(), "one for one");
    assert!(reference.future.len() > 100);
    reference.check(&session, "beside clocks that are off");
}

/// One server reads as rows come, one was killed and is away for most of the hour, and one finds all of it as a backlog.
#[test]
fn a_backlog_is_judged_as_it_was_live() {
    let readings = an_hour(12_000);
    let reference = Reference::of(&readings);
    assert!(
        (100..1000).contains(&reference.late.len()),
        "as many as are kept"
    );
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("backlog", PARTITIONS).expect("a topic");
    let live = Server::options().start().expect("a server");
    let mut away = Server::options().shards(2).start().expect("a server");
    for server in [&live, &away] {
        declare(&server.connect(), kafka, &topic, "");
    }
    let session = live.connect();
    for (part, readings) in readings.chunks(2 * 300).enumerate() {
        produce(kafka, &topic, readings);
        session.must("FLUSH");
        if part == 2 {
            away.connect().must("FLUSH");
            away.kill9().expect("it dies");
        }
    }
    reference.check(&session, "live");
    away.start_again().expect("it comes back");
    let session = away.connect();
    session.must("FLUSH");
    reference.check(&session, "after being away");
    let late = Server::options()
        .small_pieces(100)
        .start()
        .expect("a server");
    let session = late.connect();
    declare(&session, kafka, &topic, "");
    session.must("FLUSH");
    reference.check(&session, "as a backlog");
}

/// A partition falls silent, the others go on without it; what it sends for closed windows when it is back is late, for
/// every view, whenever it was made, and for queries, also after a kill.
#[test]
fn a_partition_that_comes_back_finds_windows_closed() {
    let begin = an_hour_ago();
    let reading = |partition, minute: i64, value| Reading {
        partition,
        device: 1,
        value,
        ts_ms: begin + minute * MINUTE_MS,
        sent_ms: begin + minute * MINUTE_MS,
    };
    let minute = |minute: i64| begin / MINUTE_MS + minute;
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("silent", PARTITIONS).expect("a topic");
    let mut server = Server::options().start().expect("a server");
    let session = server.connect();
    declare(&session, kafka, &topic, ", idle_timeout = '500 ms'");
    produce(kafka, &topic, &[reading(0, 0, 1), reading(1, 0, 2)]);
    session.must("FLUSH");
    assert!(closed(&session).is_empty(), "the first minute is not over");
    // Only one of them goes on: the other holds the minute open until it has been silent for long enough.
    produce(kafka, &topic, &[reading(0, 4, 4)]);
    session.must("FLUSH");
    let all = "SELECT (extract(epoch FROM window_start) / 60)::bigint, n, s FROM closed ORDER BY 1";
    let first = vec![minute(0), 2, 3];
    wait_for(&session, all, std::slice::from_ref(&first));
    let watermark =
        "SELECT (extract(epoch FROM max(watermark)) * 1000)::bigint FROM rivermark.sources";
    let before = session.integer(watermark);

    server.kill9().expect("it dies");
    server.start_again().expect("it comes back");
    let session = server.connect();
    assert!(
        session.integer(watermark) >= before,
        "a watermark never goes back"
    );
    assert_eq!(
        closed(&session),
        std::slice::from_ref(&first),
        "closed once"
    );
    // Back with a row of a closed window, one of an open minute that the watermark has not passed, and one of now.
    let back = [reading(1, 1, 8), reading(1, 4, 16), reading(1, 6, 32)];
    produce(kafka, &topic, &back);
    session.must("FLUSH");
    produce(kafka, &topic, &[reading(0, 6, 64)]);
    session.must("FLUSH");
    let expected = [first, vec![minute(4), 2, 20]];
    wait_for(&session, all, &expected);
    let late = numbers(
        &session,
        "SELECT partition, \"offset\" FROM rivermark.late_rows",
    );
    assert_eq!(late, [[1, 1]], "it was late by the others' time");

    session.must(
        "CREATE MATERIALIZED VIEW again AS SELECT count(*) AS n, sum(v)::bigint AS s FROM readings",
    );
    let seen = [vec![6, 1 + 2 + 4 + 16 + 32 + 64]];
    for sql in [
        "SELECT n, s FROM again",
        "SELECT sum(n)::bigint, sum(s)::bigint FROM per_minute",
        "SELECT count(*), sum(v)::bigint FROM readings",
    ] {
        assert_eq!(numbers(&session, sql), seen, "{sql}");
    }
}

/// While rows come in, the server is killed again and again: the watermark never goes back, and no window that was
/// there is there again or another.
#[test]
fn kills_close_no_window_twice() {
    const KILLS: usize = 8;
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("kills", PARTITIONS).expect("a topic");
    let mut server = Server::options().start().expect("a server");
    declare(&server.connect(), kafka, &topic, "");
    // Rows that a window close gives twice would be two here: this view has no key that could hide it.
    server
        .connect()
        .must("CREATE MATERIALIZED VIEW given AS SELECT n, s FROM closed");
    let stop = AtomicBool::new(false);
    let begin = an_hour_ago();
    let readings = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_while(kafka, &topic, begin, &stop));
        let (mut watermark, mut windows) = (0, Vec::new());
        for _ in 0..KILLS {
            for _ in 0..6 {
                std::thread::sleep(Duration::from_millis(50));
                look_on(&server.connect(), &mut watermark, &mut windows);
            }
            server.kill9().expect("it dies");
            server.start_again().expect("it comes back");
            look_on(&server.connect(), &mut watermark, &mut windows);
        }
        stop.store(true, Ordering::Relaxed);
        producer.join().expect("the producer does not panic")
    });
    let session = server.connect();
    session.must("FLUSH");
    let reference = Reference::of(&readings);
    let closed = reference.closed().len();
    assert!(
        closed > KILLS / 2,
        "{closed} windows closed between the kills"
    );
    reference.check(&session, "after the kills");
    let mut expected: Vec<Vec<i64>> = reference.closed().iter().map(|w| w[1..].to_vec()).collect();
    expected.sort_unstable();
    let given = numbers(&session, "SELECT n, s FROM given ORDER BY 1, 2");
    assert_eq!(given, expected, "each window was given once");
}

/// What is seen now continues what was seen before.
fn look_on(session: &Session, watermark: &mut i64, windows: &mut Vec<Vec<i64>>) {
    let sql = "SELECT coalesce((extract(epoch FROM min(watermark)) * 1000)::bigint, 0) FROM rivermark.sources";
    let now = session.integer(sql);
    assert!(
        now >= *watermark,
        "the watermark went back from {watermark} to {now}"
    );
    *watermark = now;
    let closed = closed(session);
    assert_eq!(
        closed.get(..windows.len()),
        Some(&windows[..]),
        "closed windows stay"
    );
    *windows = closed;
}

/// A reading for each 200 ms of an hour, a tenth of them late, until told to stop; returns all of them.
fn produce_while(kafka: &Kafka, topic: &str, begin: i64, stop: &AtomicBool) -> Vec<Reading> {
    let producer = kafka.producer().expect("a producer");
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) && all.len() < 18_000 {
        let i = all.len() as i64;
        let sent_ms = begin + i * 200;
        let reading = Reading {
            partition: (i % 2) as i32,
            device: i % 5,
            value: i,
            ts_ms: sent_ms - if i % 10 == 7 { 8_000 } else { i % 7 * 100 },
            sent_ms,
        };
        send(&producer, topic, &reading.message()).expect("a message is taken");
        producer.poll(Duration::from_millis(1));
        all.push(reading);
    }
    producer.flush(PATIENCE).expect("the broker takes all");
    all
}

#[test]
fn a_view_knows_its_watermark_after_a_restart() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    for sql in [
        "CREATE TABLE t (k TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (append_only = 'true')",
        "CREATE MATERIALIZED VIEW copy AS SELECT k, ts FROM t",
        "INSERT INTO t VALUES ('a', '2024-01-01 00:00:10'), ('b', '2024-01-01 00:02:00')",
    ] {
        session.must(sql);
    }
    server.restart().expect("the server restarts");
    // Nothing comes any more; what is over is known all the same.
    let session = server.connect();
    session.must(
        "CREATE MATERIALIZED VIEW closed AS SELECT window_end, count(*) AS n FROM TUMBLE(copy, ts, INTERVAL '1 minute') \
         GROUP BY window_end EMIT ON WINDOW CLOSE",
    );
    assert_eq!(session.integer("SELECT n FROM closed"), 1);
    server.stop().expect("the server stops cleanly");
}
