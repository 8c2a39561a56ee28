//! How soon a window is there once it is over: from the call that produces the row which moves the watermark past the
//! window's end until a SELECT on another connection shows the window's rows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::producer::Producer;
use rivermark_sql_tests::kafka::{Kafka, Message, send, unique_name};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

use crate::{DEVICES, FRESH_RATE, PARTITIONS, now_ms, patient};

const WINDOW_MS: u64 = 100;
/// Long enough that a percentile is not one stall.
const SECONDS: u64 = 60;
/// An epoch of this length or more is shown.
const SLOW_EPOCH_US: u64 = 30_000;

/// Windows of a tenth of a second over a thousand devices, at 20,000 rows a second whose time is that of the wall.
pub fn close_latency(targets: &mut Targets) -> Result<()> {
    let kafka = Kafka::shared();
    let topic = kafka.new_topic(&unique_name("bench_close"), PARTITIONS)?;
    let mut server = Server::options().memory_limit("1GB").start()?;
    let session = patient(&server);
    session.must(&format!(
        "CREATE SOURCE readings (device INT, v BIGINT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts)
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}')
         FORMAT PLAIN ENCODE JSON (timestamp.unit = 'ms')",
        kafka.bootstrap()
    ));
    session.must(
        "CREATE MATERIALIZED VIEW closed AS
         SELECT device, window_start, window_end, count(*) AS n, avg(v) AS mean
         FROM TUMBLE(readings, ts, INTERVAL '100 milliseconds') GROUP BY device, window_start, window_end
         EMIT ON WINDOW CLOSE",
    );
    session.must("CREATE MATERIALIZED VIEW latest AS SELECT max(window_end) AS at FROM closed");
    let watcher = patient(&server);
    let (passed, seen) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(kafka, &topic));
        // (time of seeing, end of the latest window that is closed)
        let mut seen: Vec<(u64, u64)> = Vec::new();
        scope.spawn(|| show_slow_epochs(&watcher));
        while !producer.is_finished() {
            let sql = "SELECT coalesce((extract(epoch FROM at) * 1000)::bigint, 0) FROM latest";
            let latest = session.integer(sql) as u64;
            seen.push((now_ms(), latest));
            // Asking without a pause would take a core from the server.
            std::thread::sleep(Duration::from_millis(2));
        }
        let passed = producer.join().expect("the producer does not panic")?;
        Ok::<_, anyhow::Error>((passed, seen))
    })?;
    let mut delays: Vec<u64> = passed
        .iter()
        .filter_map(|(end, passed_ms)| {
            let at = seen.partition_point(|(_, latest)| latest < end);
            seen.get(at)
                .map(|(time, _)| time.saturating_sub(*passed_ms))
        })
        .collect();
    ensure!(
        delays.len() * 10 > passed.len() * 9,
        "too few windows were closed"
    );
    // The first second warms up.
    delays.drain(..delays.len() / SECONDS as usize);
    delays.sort_unstable();
    let percentile = |p: usize| delays[(delays.len() - 1) * p / 100];
    println!(
        "close latency at {FRESH_RATE} rows/s, {} windows: p50 {} ms, p99 {} ms, most {} ms",
        delays.len(),
        percentile(50),
        percentile(99),
        percentile(100)
    );
    targets.at_most("close latency p99, ms", percentile(99) as f64, 100.0);
    server.stop()?;
    kafka.delete_topic(&topic)
}

/// Prints where the time went of epochs that took long, while they happen.
fn show_slow_epochs(session: &Session) {
    let begin = Instant::now();
    let mut shown = 0;
    while begin.elapsed() < Duration::from_secs(SECONDS) {
        // The server keeps the last thousand.
        std::thread::sleep(Duration::from_secs(3));
        for row in session.rows(&format!(
            "SELECT epoch, rows_in, compute_us, commit_us FROM rivermark.epochs
             WHERE epoch > {shown} AND compute_us + commit_us > {SLOW_EPOCH_US} ORDER BY epoch"
        )) {
            let cells: Vec<u64> = row
                .iter()
                .filter_map(|cell| cell.as_deref()?.parse().ok())
                .collect();
            if let [epoch, rows, compute, commit] = cells[..] {
                println!(
                    "  {} s: an epoch of {rows} rows: {compute} us, commit {commit} us",
                    begin.elapsed().as_secs()
                );
                shown = epoch;
            }
        }
    }
}

/// Produces at the rate of the test. For each window's end, when the last of the partitions had passed it.
fn produce(kafka: &Kafka, topic: &str) -> Result<BTreeMap<u64, u64>> {
    let producer = kafka.producer().context("a producer")?;
    let begin = Instant::now();
    let mut seq: u64 = 0;
    let mut ends = vec![0; PARTITIONS as usize];
    let mut passed: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    while begin.elapsed() < Duration::from_secs(SECONDS) {
        let due = (begin.elapsed().as_micros() as u64 * FRESH_RATE) / 1_000_000;
        while seq < due {
            seq += 1;
            let (partition, ts_ms) = (seq % PARTITIONS as u64, now_ms());
            let device = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let end = ts_ms / WINDOW_MS * WINDOW_MS;
            if ends[partition as usize] < end {
                ends[partition as usize] = end;
                passed.entry(end).or_default().push(ts_ms);
            }
            let text = format!(
                "{{\"device\": {}, \"v\": {seq}, \"ts\": {ts_ms}, \"filler\": \"{:0>60}\"}}",
                device % DEVICES,
                seq
            );
            let message = Message::new(text).to_partition(partition as i32);
            send(&producer, topic, &message)?;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(1));
    let all = passed
        .into_iter()
        .filter(|(_, times)| times.len() == PARTITIONS as usize);
    Ok(all
        .filter_map(|(end, times)| Some((end, times.into_iter().max()?)))
        .collect())
}
