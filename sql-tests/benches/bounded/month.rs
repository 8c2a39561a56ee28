//! A month of a fleet: whether state and memory are the same after thirty days as after three.
//!
//! 5,000 devices send about 100 million readings in 30 simulated days through Kafka; event time runs as fast as they are
//! produced and read, and the server's clock with it. Views of every kind that is bounded keep up with them: windows, sessions,
//! an interval join, first rows, all with a retention, and a temporal filter. For each day it prints what RocksDB takes on the
//! disk after a compaction, resident memory and rows per second. Targets: day 30 within 10 % of day 3.
//!
//! `RIVERMARK_BENCH_RATE` (39 readings a simulated second, all devices together) and `RIVERMARK_BENCH_DAYS` (30) make it
//! shorter.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rdkafka::producer::{BaseProducer, Producer};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::kafka::{Kafka, Message, send};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

const DEVICES: u64 = 5000;
const PARTITIONS: u64 = 4;
const DAY: u64 = 86_400;
/// Readings come so late at most, which the watermark waits for.
const MOST_LATE_MS: u64 = 10_000;
/// The day that the last one is compared with.
const STEADY_DAY: u64 = 3;
const MOST_GROWTH: f64 = 1.1;
const RETENTION: &str = "WITH (retention = '6 hours')";
/// Readings between two looks at the clock.
const CLOCK_STEP: u64 = 10_000;

/// What was measured at the end of a simulated day.
struct Day {
    disk: u64,
    memory: u64,
}

/// Feeds day after day.
pub fn stays_bounded(targets: &mut Targets) -> Result<()> {
    let rate = env_number("RIVERMARK_BENCH_RATE").unwrap_or(39).max(1);
    let days = env_number("RIVERMARK_BENCH_DAYS").unwrap_or(30);
    ensure!(days > STEADY_DAY, "more than {STEADY_DAY} days are needed");
    let mut server = Server::options().memory_limit("512MB").start()?;
    let mut session = server.connect();
    session.timeout = Duration::from_secs(3600);
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("bench_bounded", PARTITIONS as i32)?;
    session.must(&format!(
        "CREATE SOURCE readings (device INT, v DOUBLE PRECISION, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}', max_future = '1000 days')
         FORMAT PLAIN ENCODE JSON (timestamp.unit = 'ms')",
        kafka.bootstrap()
    ));
    for (name, query) in views(rate) {
        session.must(&format!(
            "CREATE MATERIALIZED VIEW {name} {RETENTION} AS {query}"
        ));
    }
    session.must(
        "CREATE MATERIALIZED VIEW recent AS SELECT device, count(*) AS n, max(v) AS most FROM readings
         WHERE ts > now() - INTERVAL '1 hour' GROUP BY device",
    );
    println!("day   disk MB   memory MB   rows/s");
    let mut measured: Vec<Day> = Vec::new();
    let producer = kafka.producer()?;
    let mut time = SimulatedTime {
        begin_ms: now_ms(),
        ahead_ms: 0,
    };
    for day in 1..=days {
        let begin = Instant::now();
        produce(&producer, &topic, rate, day, &mut time, &mut server)?;
        wait_until(&mut session, rate * day * DAY)?;
        let speed = (rate * DAY) as f64 / begin.elapsed().as_secs_f64();
        session.must("VACUUM");
        let found = Day {
            disk: table_bytes(server.data_dir())?,
            memory: server.resident_bytes(),
        };
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{day:3} {:9.1} {:11.0} {speed:8.0}",
            mb(found.disk),
            mb(found.memory)
        );
        measured.push(found);
    }
    let refused = session.integer("SELECT sum(dead_letters)::BIGINT FROM rivermark.sources");
    ensure!(refused == 0, "{refused} readings became dead letters");
    for row in session.rows(
        "SELECT object, operator, name, state_keys, state_bytes FROM rivermark.operators \
         WHERE state_bytes > 0 ORDER BY state_bytes DESC LIMIT 12",
    ) {
        let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("-")).collect();
        println!("{}", cells.join(" "));
    }
    let steady = &measured[STEADY_DAY as usize - 1];
    let end = measured.last().context("no day")?;
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    let what = |of: &str| format!("{of}, day {days} / day {STEADY_DAY}");
    targets.at_most(&what("RocksDB"), ratio(end.disk, steady.disk), MOST_GROWTH);
    targets.at_most(
        &what("memory"),
        ratio(end.memory, steady.memory),
        MOST_GROWTH,
    );
    server.stop()?;
    kafka.delete_topic(&topic)
}

/// The time of the readings, from that of the wall on.
struct SimulatedTime {
    begin_ms: u64,
    /// What the server's clock is ahead of the wall's.
    ahead_ms: u64,
}

impl SimulatedTime {
    /// Sets the server's clock to what it is when the reading of this number comes.
    fn reach(&mut self, reading: u64, rate: u64, server: &mut Server) -> Result<()> {
        let ahead_ms = (self.begin_ms + reading * 1000 / rate).saturating_sub(now_ms());
        let more = ahead_ms.saturating_sub(self.ahead_ms);
        self.ahead_ms += more;
        server.set_ahead(Duration::from_millis(more))
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A day's readings, in the order of time but for some seconds.
fn produce(
    producer: &BaseProducer,
    topic: &str,
    rate: u64,
    day: u64,
    time: &mut SimulatedTime,
    server: &mut Server,
) -> Result<()> {
    let (first, end) = ((day - 1) * rate * DAY, day * rate * DAY);
    for i in first..end {
        if i.is_multiple_of(CLOCK_STEP) {
            time.reach(i + CLOCK_STEP, rate, server)?;
        }
        let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let ts_ms = (time.begin_ms + i * 1000 / rate).saturating_sub(random % MOST_LATE_MS);
        let text = format!(
            "{{\"device\": {}, \"v\": 0.{:04}, \"ts\": {ts_ms}}}",
            (random >> 32) % DEVICES,
            (random >> 16) % 10_000
        );
        let partition = (i % PARTITIONS) as i32;
        send(producer, topic, &Message::new(text).to_partition(partition))?;
        if i.is_multiple_of(10_000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120))?;
    ensure!(producer.in_flight_count() == 0, "messages are undelivered");
    Ok(())
}

/// Names and queries. Fewer readings come less often, so sessions are longer then.
fn views(rate: u64) -> Vec<(&'static str, String)> {
    // On average a device sends once in half a gap, so sessions last for some gaps.
    let gap = 2 * DEVICES / rate;
    vec![
        (
            "tumble",
            "SELECT device, window_start, count(*) AS n, avg(v) AS mean, max(v) AS most
             FROM TUMBLE(readings, ts, INTERVAL '10 minutes') GROUP BY 1, 2"
                .into(),
        ),
        (
            "hop",
            "SELECT device % 50 AS site, window_end, count(*) AS n, avg(v) AS mean
             FROM HOP(readings, ts, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY 1, 2 EMIT ON WINDOW CLOSE"
                .into(),
        ),
        (
            "sessions",
            format!(
                "SELECT device, window_start, window_end, count(*) AS n
                 FROM SESSION(readings, ts, INTERVAL '{gap} seconds' PARTITION BY device)
                 GROUP BY 1, 2, 3 EMIT ON WINDOW CLOSE"
            ),
        ),
        (
            "relapses",
            "SELECT a.device, a.ts, a.v, b.ts AS later, b.v AS low FROM readings a JOIN readings b
             ON a.device = b.device AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10 minutes'
             WHERE a.v > 0.9 AND b.v < 0.1"
                .into(),
        ),
        (
            "firsts",
            "SELECT device, window_start, ts, v FROM (
               SELECT device, window_start, ts, v, row_number() OVER (PARTITION BY device, window_start ORDER BY ts, v) AS place
               FROM TUMBLE(readings, ts, INTERVAL '10 minutes')) AS r WHERE place = 1"
                .into(),
        ),
    ]
}

/// Waits until so many readings have been read.
fn wait_until(session: &mut Session, rows: u64) -> Result<()> {
    let begin = Instant::now();
    while session.integer("SELECT sum(rows)::BIGINT FROM rivermark.sources") < rows as i64 {
        ensure!(
            begin.elapsed() < Duration::from_secs(3600),
            "a simulated day took more than an hour"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Bytes of RocksDB's tables, wherever they lie below the directory.
fn table_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_table = entry.path().extension().is_some_and(|e| e == "sst");
        // A file may be compacted away meanwhile.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += table_bytes(&entry.path())?,
            Ok(metadata) if is_table => bytes += metadata.len(),
            _ => {}
        }
    }
    Ok(bytes)
}
