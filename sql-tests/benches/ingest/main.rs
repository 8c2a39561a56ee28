//! How fast a windowed view drains a topic, against a consumer that only counts bytes; how soon a message is visible,
//! and a window that is over; and what idle views cost. With the argument `close` only how soon windows are there. All figures are of one run on one machine, so the ratios are what counts.
//!
//! `RIVERMARK_BENCH_MESSAGES` (10 million) and `RIVERMARK_BENCH_MEMORY` (1GB) change the size. Targets: ratio at least
//! 0.4, p99 at most 150 ms (of closed windows 100 ms), memory under the limit, an epoch beside 500 idle views at most twice as long.

mod bare_consumer;
mod close_latency;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rdkafka::producer::Producer;
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::kafka::{Kafka, Message, send, unique_name};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

const PARTITIONS: i32 = 4;
const DEVICES: u64 = 1000;
const FRESH_RATE: u64 = 20_000;
const FRESH_SECONDS: u64 = 20;
const IDLE_VIEWS: usize = 500;

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let mut targets = Targets::default();
    if std::env::args().any(|a| a == "close") {
        close_latency::close_latency(&mut targets)?;
        return targets.verdict();
    }
    drain(&mut targets)?;
    freshness(&mut targets)?;
    close_latency::close_latency(&mut targets)?;
    idle_views(&mut targets)?;
    targets.verdict()
}

/// About 130 bytes; a thousand devices, a reading a millisecond.
fn reading(i: u64) -> String {
    let (device, ms) = (
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32,
        1_704_067_200_000 + i,
    );
    let (second, milli) = (ms / 1000 - 1_704_067_200, ms % 1000);
    format!(
        "{{\"device_id\": \"device-{:04}\", \"temperature\": {}.{:02}, \"vibration\": 0.{:04}, \"site\": \"north-{}\", \
         \"ts\": \"2024-01-{:02}T{:02}:{:02}:{:02}.{milli:03}Z\"}}",
        device % DEVICES,
        15 + device % 70,
        i % 100,
        i % 10_000,
        device % 7,
        1 + second / 86_400,
        second / 3600 % 24,
        second / 60 % 60,
        second % 60
    )
}

fn preload(kafka: &Kafka, messages: u64) -> Result<String> {
    let topic = kafka.new_topic("bench_ingest", PARTITIONS)?;
    let begin = Instant::now();
    let producer = kafka.producer()?;
    for i in 0..messages {
        let message = Message::new(reading(i)).to_partition((i % PARTITIONS as u64) as i32);
        send(&producer, &topic, &message)?;
        if i.is_multiple_of(10_000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120))?;
    ensure!(producer.in_flight_count() == 0, "messages are undelivered");
    println!(
        "preloaded {messages} messages of about 130 bytes in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    Ok(topic)
}

fn source(kafka: &Kafka, topic: &str) -> String {
    format!(
        "CREATE SOURCE readings (device_id VARCHAR, temperature DOUBLE PRECISION, ts TIMESTAMPTZ)
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}')
         FORMAT PLAIN ENCODE JSON",
        kafka.bootstrap()
    )
}

/// Runs `work` while watching how much memory the server holds; returns the maximum in bytes.
fn watching_memory<T>(server: &Server, work: impl FnOnce() -> T) -> (T, u64) {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(server.resident_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    });
    (result, peak.into_inner())
}

fn patient(server: &Server) -> Session {
    let mut session = server.connect();
    session.timeout = Duration::from_secs(3600);
    session
}

fn drain(targets: &mut Targets) -> Result<()> {
    let messages = env_number("RIVERMARK_BENCH_MESSAGES").unwrap_or(10_000_000);
    let limit = std::env::var("RIVERMARK_BENCH_MEMORY").unwrap_or_else(|_| "1GB".into());
    let kafka = Kafka::shared();
    let topic = preload(kafka, messages)?;
    // Once to warm the broker's page cache for both, once for the figure.
    bare_consumer::drain(kafka.bootstrap(), &topic, PARTITIONS, messages)?;
    let bare = bare_consumer::drain(kafka.bootstrap(), &topic, PARTITIONS, messages)?;
    let bare_rate = bare.messages as f64 / bare.seconds;
    println!(
        "bare librdkafka: {:.0} messages/s, {:.0} MB/s",
        bare_rate,
        bare.bytes as f64 / bare.seconds / 1e6
    );

    let mut server = Server::options().memory_limit(&limit).start()?;
    let session = patient(&server);
    session.must(&source(kafka, &topic));
    let (seconds, peak) = watching_memory(&server, || {
        let begin = Instant::now();
        session.must(
            "CREATE MATERIALIZED VIEW per_10s AS
             SELECT device_id, window_start, count(*) AS n, avg(temperature) AS mean, max(temperature) AS hi
             FROM TUMBLE(readings, ts, INTERVAL '10 seconds') GROUP BY device_id, window_start",
        );
        begin.elapsed().as_secs_f64()
    });
    let seen = session.integer("SELECT sum(n)::bigint FROM per_10s") as u64;
    ensure!(
        seen == messages,
        "the view holds {seen} of {messages} messages"
    );
    let rate = messages as f64 / seconds;
    println!(
        "view: {rate:.0} messages/s, {:.0} MB resident at most",
        peak as f64 / 1e6
    );
    targets.at_least("view / bare consumer", rate / bare_rate, 0.4);
    let allowed = memory_bytes(&limit)?;
    targets.at_most("resident / limit", peak as f64 / allowed, 1.0);
    server.stop()?;
    kafka.delete_topic(&topic)
}

fn memory_bytes(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = match text[digits.len()..].to_uppercase().as_str() {
        "GB" => 1u64 << 30,
        "MB" => 1 << 20,
        other => anyhow::bail!("RIVERMARK_BENCH_MEMORY: unit {other}"),
    };
    Ok(digits.parse::<f64>()? * unit as f64)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// From the call that produces a message until a SELECT on another connection has shown it.
fn freshness(targets: &mut Targets) -> Result<()> {
    let kafka = Kafka::shared();
    let topic = kafka.new_topic(&unique_name("bench_fresh"), PARTITIONS)?;
    let mut server = Server::options().memory_limit("1GB").start()?;
    let session = patient(&server);
    session.must(&format!(
        "CREATE SOURCE readings (seq BIGINT, p INT) WITH (connector = 'kafka', topic = '{topic}',
         properties.bootstrap.server = '{}') FORMAT PLAIN ENCODE JSON",
        kafka.bootstrap()
    ));
    session.must(
        "CREATE MATERIALIZED VIEW latest AS SELECT p, max(seq) AS seq FROM readings GROUP BY p",
    );
    let done = AtomicBool::new(false);
    let (sent, mut delays) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_paced(kafka, &topic, &done));
        // (time of seeing, highest sequence number seen), of partition 0 alone so that order is total.
        let mut seen: Vec<(u64, u64)> = Vec::new();
        while !producer.is_finished() {
            let latest =
                session.integer("SELECT coalesce(max(seq), 0) FROM latest WHERE p = 0") as u64;
            seen.push((now_ms(), latest));
        }
        let sent = producer.join().expect("the producer does not panic")?;
        Ok::<_, anyhow::Error>((sent, seen))
    })
    .map(|(sent, seen)| {
        let delays: Vec<u64> = sent.iter().filter_map(|s| first_seen(&seen, s)).collect();
        (sent.len(), delays)
    })?;
    ensure!(
        delays.len() * 10 > sent * 9,
        "too few of the samples became visible"
    );
    // The first second warms up.
    delays.drain(..delays.len() / FRESH_SECONDS as usize);
    delays.sort_unstable();
    let percentile = |p: usize| delays[(delays.len() - 1) * p / 100];
    println!(
        "freshness at {FRESH_RATE} messages/s: p50 {} ms, p99 {} ms",
        percentile(50),
        percentile(99)
    );
    targets.at_most("freshness p99, ms", percentile(99) as f64, 150.0);
    server.stop()?;
    kafka.delete_topic(&topic)
}

fn first_seen(seen: &[(u64, u64)], sample: &(u64, u64)) -> Option<u64> {
    let at = seen.partition_point(|(_, latest)| *latest < sample.1);
    seen.get(at).map(|(time, _)| time.saturating_sub(sample.0))
}

/// Produces at the rate of the test and returns (time, sequence number) of samples in partition 0.
fn produce_paced(kafka: &Kafka, topic: &str, done: &AtomicBool) -> Result<Vec<(u64, u64)>> {
    let producer = kafka.producer().context("a producer")?;
    let begin = Instant::now();
    let mut samples = Vec::new();
    let mut seq: u64 = 0;
    while begin.elapsed() < Duration::from_secs(FRESH_SECONDS) {
        let due = (begin.elapsed().as_micros() as u64 * FRESH_RATE) / 1_000_000;
        while seq < due {
            seq += 1;
            let partition = (seq % PARTITIONS as u64) as i32;
            if partition == 0 && seq.is_multiple_of(400) {
                samples.push((now_ms(), seq));
            }
            let text = format!(
                "{{\"seq\": {seq}, \"p\": {partition}, \"filler\": \"{:0>90}\"}}",
                seq
            );
            send(
                &producer,
                topic,
                &Message::new(text).to_partition(partition),
            )?;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(1));
    done.store(true, Ordering::Relaxed);
    Ok(samples)
}

/// The time of an epoch of one row, with one view and beside 500 idle ones.
fn idle_views(targets: &mut Targets) -> Result<()> {
    let mut server = Server::options().memory_limit("1GB").start()?;
    let session = patient(&server);
    session.must("CREATE TABLE busy (a INT)");
    session.must("CREATE TABLE idle (a INT, b INT)");
    session.must(
        "CREATE MATERIALIZED VIEW m AS SELECT a % 10 AS k, count(*) AS n FROM busy GROUP BY a % 10",
    );
    let alone = median_insert_ms(&session);
    for i in 0..IDLE_VIEWS {
        session.must(&format!(
            "CREATE MATERIALIZED VIEW idle_{i} AS SELECT a % {0} AS k, sum(b) AS s FROM idle GROUP BY a % {0}",
            i + 1
        ));
    }
    let beside = median_insert_ms(&session);
    println!(
        "an epoch of one row: {alone:.2} ms alone, {beside:.2} ms beside {IDLE_VIEWS} idle views"
    );
    targets.at_most("beside idle views / alone", beside / alone, 2.0);
    server.stop()
}

fn median_insert_ms(session: &Session) -> f64 {
    let mut times: Vec<f64> = (0..300)
        .map(|i| {
            let begin = Instant::now();
            session.must(&format!("INSERT INTO busy VALUES ({i})"));
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
