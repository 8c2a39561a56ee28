//! A month of a fleet: whether state and memory are the same after thirty days as after three.
//!
//! 5,000 devices send about 100 million readings in 30 simulated days; event time runs as fast as the server reads. Views of
//! every kind that is bounded by watermarks keep up with them: windows, sessions, an interval join, first rows, all with
//! a retention. (A temporal filter follows the wall clock, which a simulated month does not move: it is not measured here.) For each day it prints what RocksDB takes on the disk after a compaction, resident memory
//! and rows per second. Targets: day 30 within 10 % of day 3. Then what hopping windows cost (`hop.rs`).
//!
//! `RIVERMARK_BENCH_RATE` (39 readings a simulated second, all devices together) and `RIVERMARK_BENCH_DAYS` (30) make it
//! shorter; `RIVERMARK_BENCH_PART=month|hop` runs one part.

mod hop;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

const DEVICES: u64 = 5000;
const DAY: u64 = 86_400;
/// The day that the last one is compared with.
const STEADY_DAY: u64 = 3;
const MOST_GROWTH: f64 = 1.1;
const RETENTION: &str = "WITH (retention = '6 hours')";

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let mut targets = Targets::default();
    let part = std::env::var("RIVERMARK_BENCH_PART").unwrap_or_default();
    if part != "hop" {
        month(&mut targets)?;
    }
    if part != "month" {
        hop::costs(&mut targets)?;
    }
    targets.verdict()
}

/// What was measured at the end of a simulated day.
struct Day {
    disk: u64,
    memory: u64,
}

fn month(targets: &mut Targets) -> Result<()> {
    let rate = env_number("RIVERMARK_BENCH_RATE").unwrap_or(39).max(1);
    let days = env_number("RIVERMARK_BENCH_DAYS").unwrap_or(30);
    ensure!(days > STEADY_DAY, "more than {STEADY_DAY} days are needed");
    let mut server = Server::options().memory_limit("1GB").start()?;
    let mut session = server.connect();
    session.timeout = Duration::from_secs(3600);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let begin = now - (days + 1) * DAY;
    session.must(&format!(
        "CREATE SOURCE readings (device INT, v DOUBLE PRECISION, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
         WITH (connector = 'datagen', rows_per_second = '{rate}', rows = '{}', start_time = '{}',
               fields.device.kind = 'random', fields.device.min = '0', fields.device.max = '{}')",
        rate * days * DAY,
        session
            .scalar(&format!("SELECT to_timestamp({begin})"))
            .unwrap_or_default(),
        DEVICES - 1
    ));
    session.must("SET background_ddl = true");
    for (name, query) in views(rate) {
        session.must(&format!(
            "CREATE MATERIALIZED VIEW {name} {RETENTION} AS {query}"
        ));
    }
    println!("day   disk MB   memory MB   rows/s");
    let mut measured: Vec<Day> = Vec::new();
    let mut last = (Instant::now(), 0);
    for day in 1..=days {
        let due = begin + day * DAY;
        let rows = wait_until(&mut session, due, rate * days * DAY)?;
        let (at, rows_before) = last;
        let speed = (rows - rows_before) as f64 / at.elapsed().as_secs_f64();
        last = (Instant::now(), rows);
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
    server.stop()
}

/// Names and queries. Fewer readings come less often, so sessions are longer then.
fn views(rate: u64) -> Vec<(&'static str, String)> {
    let gap = 4 * DEVICES / rate;
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

/// Waits until the source has been read up to a time, in seconds since 1970; how many rows that are.
fn wait_until(session: &mut Session, due: u64, all_rows: u64) -> Result<u64> {
    let begin = Instant::now();
    loop {
        let found = session.rows(
            "SELECT coalesce(extract(epoch FROM watermark)::BIGINT, 0), rows FROM rivermark.sources",
        );
        let number = |i: usize| -> Option<u64> { found.first()?.get(i)?.as_ref()?.parse().ok() };
        let (watermark, rows) = (number(0).unwrap_or(0), number(1).unwrap_or(0));
        // The last readings have no watermark behind them.
        if watermark + 20 >= due || rows >= all_rows {
            return Ok(rows);
        }
        ensure!(
            begin.elapsed() < Duration::from_secs(3600),
            "a simulated day took more than an hour"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
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
