//! Exactly once: while a producer writes, the server is killed with `kill -9` again and again with an epoch in
//! flight, some of the kills followed by cutting off the tail of the write-ahead log, as a power cut does. After each
//! restart the views agree with one another, and in the end they equal what is computed from the produced messages.
//! The fail points make the server kill itself at each step of a commit and of an ingestion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::producer::Producer;
use rivermark_sql_tests::kafka::{Kafka, Message, send};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Row, Session};
use rivermark_sql_tests::values::difference;
use rivermark_sql_tests::{env_number, is_full, seed};

const PARTITIONS: u64 = 4;
const DEVICES: u64 = 50;
/// The messages that the producer may be ahead of the views: enough that the server always has work.
const AHEAD: u64 = 300_000;
/// At most so many bytes are cut off the log: less than what is written between two syncs under this load.
const LARGEST_CUT_BYTES: u64 = 64 * 1024;

/// The steps of a commit and of an ingestion at which the server can be told to kill itself.
const FAIL_POINTS: [&str; 6] = [
    "before_commit",
    "after_wal_write",
    "ingest_files_written",
    "ingest_recorded",
    "ingest_ingested",
    "ingest_published",
];

/// Message number `i`: what it says is a function of `i`, so that any prefix can be recomputed.
fn message(i: u64) -> Message {
    let (device, value) = reading(i);
    let (second, milli) = (i / 100, i % 100 * 10);
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    let day = 1 + second / 86_400;
    let text = format!(
        "{{\"device\": {device}, \"v\": {value}, \"ts\": \"2024-01-{day:02}T{hour:02}:{minute:02}:{:02}.{milli:03}Z\"}}",
        second % 60
    );
    Message::new(text).to_partition((i % PARTITIONS) as i32)
}

fn reading(i: u64) -> (u64, u64) {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    (mixed % DEVICES, mixed / DEVICES % 1000)
}

/// What the views must hold after the first `n` messages: (device, window) → (count, sum, maximum).
fn expected(n: u64) -> BTreeMap<(u64, u64), (u64, u64, u64)> {
    let mut groups: BTreeMap<(u64, u64), (u64, u64, u64)> = BTreeMap::new();
    for i in 0..n {
        let (device, value) = reading(i);
        let group = groups.entry((device, i / 1000)).or_default();
        *group = (group.0 + 1, group.1 + value, group.2.max(value));
    }
    groups
}

fn declare(session: &Session, kafka: &Kafka, topic: &str) {
    session.must(&format!(
        "CREATE SOURCE events (device INT, v BIGINT, ts TIMESTAMPTZ)
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}')
         FORMAT PLAIN ENCODE JSON",
        kafka.bootstrap()
    ));
    session.must(
        "CREATE MATERIALIZED VIEW per_window AS
         SELECT device, window_start, count(*) AS n, sum(v) AS s, max(v) AS hi
         FROM TUMBLE(events, ts, INTERVAL '10 seconds') GROUP BY device, window_start",
    );
    session.must(
        "CREATE MATERIALIZED VIEW per_device AS
         SELECT device, sum(n) AS n, sum(s) AS s, max(hi) AS hi FROM per_window GROUP BY device",
    );
}

/// One SELECT over both views sees one epoch: they agree on every device.
fn check_consistent(session: &Session) -> u64 {
    let rows = session.rows(
        "SELECT 'window', device, sum(n), sum(s), max(hi) FROM per_window GROUP BY device
         UNION ALL SELECT 'device', device, n, s, hi FROM per_device",
    );
    let of = |side: &str| -> Vec<Row> {
        let own = rows.iter().filter(|r| r[0].as_deref() == Some(side));
        own.map(|r| r[1..].to_vec()).collect()
    };
    if let Some(difference) = difference(&of("window"), &of("device")) {
        panic!("a view and the view on it are of different epochs\n{difference}");
    }
    let counts = rows
        .iter()
        .filter(|r| r[0].as_deref() == Some("device"))
        .filter_map(|r| r[2].clone());
    counts.map(|n| n.parse::<u64>().unwrap_or(0)).sum()
}

/// The views against a plain computation over everything that was produced.
fn check_complete(session: &Session, produced: u64) {
    session.must("FLUSH");
    let expected = expected(produced);
    let rows = expected.iter().map(|((device, window), (n, s, hi))| {
        [*device, *window, *n, *s, *hi]
            .iter()
            .map(|v| Some(v.to_string()))
            .collect::<Row>()
    });
    let actual = session.rows(
        "SELECT device, ((extract(epoch FROM window_start) - 1704067200) / 10)::bigint, n, s, hi FROM per_window
         ORDER BY 1, 2",
    );
    // Both are in order, so a walk along them finds the first difference without comparing all pairs.
    let mut unequal = rows.clone().zip(&actual).filter(|(e, a)| e != *a);
    if let Some((expected, actual)) = unequal.next() {
        panic!("after {produced} messages: expected {expected:?}, found {actual:?}");
    }
    assert_eq!(rows.len(), actual.len(), "groups after {produced} messages");
    assert_eq!(check_consistent(session), produced, "the sum of all counts");
}

/// Produces until told to stop, never more than the limit allows; returns how many messages the broker has.
fn produce_while(
    kafka: &Kafka,
    topic: &str,
    from: u64,
    limit: &AtomicU64,
    stop: &AtomicBool,
) -> Result<u64> {
    let producer = kafka.producer()?;
    let mut next = from;
    while !stop.load(Ordering::Relaxed) {
        if next >= limit.load(Ordering::Relaxed) {
            producer.poll(Duration::from_millis(2));
            continue;
        }
        send(&producer, topic, &message(next))?;
        next += 1;
        if next.is_multiple_of(1000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    ensure!(producer.in_flight_count() == 0, "messages are undelivered");
    Ok(next)
}

/// Waits until the server has both advanced since its start and has more to do: an epoch is in flight. However fast it
/// reads, `produce_ahead_of` lets the producer stay before it.
fn wait_in_flight(
    session: &Session,
    at_start: u64,
    deadline: Instant,
    produce_ahead_of: impl Fn(u64),
) -> Result<u64> {
    loop {
        let now = session.integer("SELECT sum(n)::bigint FROM per_device") as u64;
        produce_ahead_of(now);
        let lag = session.integer("SELECT sum(lag)::bigint FROM rivermark.sources");
        if now > at_start && lag > 0 {
            return Ok(now);
        }
        ensure!(
            Instant::now() < deadline,
            "no epoch in flight: {now} rows, {at_start} at the start, lag {lag}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The newest write-ahead log below a directory: RocksDB numbers them.
fn newest_wal(dir: &Path) -> Result<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let mut rest = vec![dir.to_path_buf()];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let number = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.parse().ok());
            match number {
                _ if path.is_dir() => rest.push(path),
                Some(number) if path.extension().is_some_and(|e| e == "log") => {
                    found.push((number, path))
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
        .pop()
        .map(|(_, path)| path)
        .context("there is no write-ahead log")
}

/// Cuts a random part off the end of the log and returns how many bytes.
fn cut_wal(dir: &Path, random: &mut StdRng) -> Result<u64> {
    let wal = newest_wal(dir)?;
    let length = std::fs::metadata(&wal)?.len();
    let cut = random.random_range(0..=length.min(LARGEST_CUT_BYTES));
    std::fs::OpenOptions::new()
        .write(true)
        .open(&wal)?
        .set_len(length - cut)?;
    Ok(cut)
}

#[test]
fn killed_at_random_moments() {
    let seed = seed();
    println!("RIVERMARK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let kafka = Kafka::shared();
    let (default_kills, most) = match (kafka.is_real(), is_full()) {
        (true, false) => (30, u64::MAX),
        (true, true) => (300, u64::MAX),
        (false, _) => (5, 200_000),
    };
    let kills = env_number("RIVERMARK_KILLS").unwrap_or(default_kills);
    let topic = kafka
        .new_topic("crash", PARTITIONS as i32)
        .expect("a topic");
    let mut server = Server::options().start().expect("the server starts");
    declare(&server.connect(), kafka, &topic);

    let (limit, stop) = (AtomicU64::new(AHEAD.min(most)), AtomicBool::new(false));
    let produced = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_while(kafka, &topic, 0, &limit, &stop));
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut at_start = 0;
            let mut cuts = 0;
            for kill in 0..kills {
                let session = server.connect();
                let deadline = Instant::now() + Duration::from_secs(30);
                std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
                let ahead_of = |rows: u64| limit.store((rows + AHEAD).min(most), Ordering::Relaxed);
                let rows = wait_in_flight(&session, at_start, deadline, ahead_of)
                    .expect("an epoch is in flight at the kill");
                server.kill9().expect("the server is killed");
                let mut cut = 0;
                if kill % 3 == 2 {
                    cut = cut_wal(server.data_dir(), &mut random).expect("the log is cut");
                    cuts += u64::from(cut > 0);
                }
                server
                    .start_again()
                    .expect("the server starts after a crash");
                at_start = check_consistent(&server.connect());
                println!(
                    "kill {kill}: saw {rows} rows, cut {cut} bytes of the log, came back with {at_start} rows"
                );
                assert!(
                    cut > 0 || at_start >= rows,
                    "rows that were visible before a mere kill are gone"
                );
                limit.store((at_start + AHEAD).min(most), Ordering::Relaxed);
            }
            assert!(kills < 10 || cuts > 0, "the log was never cut");
        }));
        stop.store(true, Ordering::Relaxed);
        let produced = producer
            .join()
            .expect("the producer does not panic")
            .expect("everything is delivered");
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        produced
    });
    println!("{produced} messages, {kills} kills");
    check_complete(&server.connect(), produced);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn killed_at_every_step_of_a_commit() {
    let kafka = Kafka::shared();
    let topic = kafka
        .new_topic("failpoints", PARTITIONS as i32)
        .expect("a topic");
    kafka
        .produce(&topic, (0..20_000).map(message))
        .expect("messages are produced");
    let mut produced = 20_000;
    for fail_point in FAIL_POINTS {
        // A tiny threshold makes every commit of these statements an ingestion.
        let threshold = if fail_point.starts_with("ingest") {
            "4096"
        } else {
            "67108864"
        };
        let threshold = ("RIVERMARK_INGEST_THRESHOLD", threshold);
        let mut server = Server::options()
            .env(threshold.0, threshold.1)
            .start()
            .expect("the server starts");
        server.connect().must("CREATE TABLE numbers (a INT)");
        server.stop().expect("the server stops cleanly");

        let fifth = format!("{fail_point}:5");
        server.set_env(&[threshold, ("RIVERMARK_FAILPOINT", &fifth)]);
        server
            .start_again()
            .unwrap_or_else(|e| panic!("{fail_point}: {e:#}"));
        die_while_inserting(&mut server, fail_point);

        server.set_env(&[threshold]);
        server
            .start_again()
            .unwrap_or_else(|e| panic!("no start after {fail_point}: {e:#}"));
        let session = server.connect();
        let rows = session.integer("SELECT count(*) FROM numbers");
        assert!(
            rows > 0 && rows % 2000 == 0,
            "{fail_point}: {rows} rows, a part of a statement"
        );
        declare(&session, kafka, &topic);
        check_complete(&session, produced);
        server.stop().expect("the server stops cleanly");

        server.set_env(&[threshold, ("RIVERMARK_FAILPOINT", &fifth)]);
        produced = die_while_reading(&mut server, kafka, &topic, produced, fail_point);
        server.set_env(&[threshold]);
        server
            .start_again()
            .unwrap_or_else(|e| panic!("no start after {fail_point}: {e:#}"));
        check_complete(&server.connect(), produced);
        println!("{fail_point}: everything is there once, {produced} messages");
        server.stop().expect("the server stops cleanly");
    }
}

fn die_while_inserting(server: &mut Server, fail_point: &str) {
    let session = server.connect();
    let until = Instant::now() + Duration::from_secs(30);
    while server.is_running() && Instant::now() < until {
        // The statement that meets the fail point fails: its server is gone.
        let _ = session.run("INSERT INTO numbers SELECT g FROM generate_series(1, 2000) AS s(g)");
    }
    assert!(
        !server.is_running(),
        "{fail_point} was never reached by INSERT"
    );
}

/// Starts the server and produces until it has died; returns the number of messages produced by then.
fn die_while_reading(
    server: &mut Server,
    kafka: &Kafka,
    topic: &str,
    from: u64,
    fail_point: &str,
) -> u64 {
    let mut produced = from;
    if let Err(error) = server.start_again() {
        assert!(!server.is_running(), "{fail_point}: {error:#}");
    }
    let until = Instant::now() + Duration::from_secs(30);
    while server.is_running() && Instant::now() < until {
        kafka
            .produce(topic, (produced..produced + 500).map(message))
            .expect("messages are produced");
        produced += 500;
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(
        !server.is_running(),
        "{fail_point} was not reached by {} messages",
        produced - from
    );
    produced
}
