//! A hundred subscribers to a view in which 10,000 rows a second change, beside one that does not read: how long after
//! its commit a change has reached all of them, and what the one costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::following::{Digest, Subscriber};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::targets::Targets;
use rivermark_sql_tests::wire::{Wire, query};

const SUBSCRIBERS: usize = 100;
const EPOCHS_PER_SECOND: u64 = 20;
/// An update takes one row away and adds one.
const UPDATES_PER_EPOCH: u64 = 250;
const GROUPS: u64 = 5000;

/// Epochs with what a subscriber knew after each, and when.
type Seen = Vec<(u64, Digest, Instant)>;

pub fn run(targets: &mut Targets) -> Result<()> {
    let seconds = env_number("RIVERMARK_BENCH_SECONDS").unwrap_or(15);
    let server = Server::options().memory_limit("1GB").start()?;
    let session = server.connect();
    session.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v DOUBLE PRECISION)");
    session.must("CREATE MATERIALIZED VIEW per_group AS SELECT id % 5000 AS g, count(*) AS n, sum(v) AS total FROM t GROUP BY 1");
    session.must(&format!(
        "INSERT INTO t SELECT i, i FROM generate_series(0, {}) AS i",
        GROUPS - 1
    ));
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let followers: Vec<JoinHandle<Result<Seen>>> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut subscriber = Subscriber::start(server.port(), "per_group")?;
            let last = last.clone();
            Ok(std::thread::spawn(move || {
                let mut seen = Seen::new();
                while seen.last().is_none_or(|(e, ..)| *e < last.load(Relaxed)) {
                    let (epoch, digest) = subscriber.next_epoch()?;
                    seen.push((epoch, digest, Instant::now()));
                }
                Ok(seen)
            }))
        })
        .collect::<Result<_>>()?;
    let mut stopped = Wire::connect(server.port(), "rivermark")?;
    stopped.send(&query("SUBSCRIBE per_group WITH (PROGRESS)"))?;
    std::thread::sleep(Duration::from_secs(2));

    let epoch = || session.integer("SELECT max(epoch) FROM rivermark.epochs") as u64;
    let before = server.resident_bytes();
    let begin = Instant::now();
    let mut committed: BTreeMap<u64, Instant> = BTreeMap::new();
    let epochs = seconds * EPOCHS_PER_SECOND;
    for i in 0..epochs {
        let due = begin + Duration::from_millis(i * 1000 / EPOCHS_PER_SECOND);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = GROUPS + i * UPDATES_PER_EPOCH;
        session.must(&format!(
            "INSERT INTO t SELECT i, i FROM generate_series({from}, {}) AS i",
            from + UPDATES_PER_EPOCH - 1
        ));
        let now = Instant::now();
        committed.insert(epoch(), now);
    }
    let rate = (2 * epochs * UPDATES_PER_EPOCH) as f64 / begin.elapsed().as_secs_f64();
    last.store(epoch(), Relaxed);
    session.must("CREATE TABLE other (id INT PRIMARY KEY)");
    let view = Digest::of(&session.rows("SELECT g, n, total FROM per_group"));

    let mut micros: Vec<u128> = Vec::new();
    for follower in followers {
        let seen = follower.join().ok().context("a subscriber panicked")??;
        let (_, digest, _) = seen.last().context("a subscriber saw nothing")?;
        ensure!(
            *digest == view,
            "a subscriber does not have the view's rows"
        );
        let mut heard: BTreeMap<u64, Instant> = BTreeMap::new();
        for (epoch, _, at) in seen {
            heard.entry(epoch).or_insert(at);
        }
        for (epoch, commit) in &committed {
            let (_, at) = heard.range(epoch..).next().context("an epoch is missing")?;
            micros.push(at.saturating_duration_since(*commit).as_micros());
        }
    }
    micros.sort_unstable();
    let at = |part: usize| micros[(micros.len() - 1) * part / 100] as f64 / 1000.0;
    println!(
        "{SUBSCRIBERS} subscribers, {rate:.0} changed rows a second: from the INSERT's answer to the subscriber p50 {:.1} ms, \
         p99 {:.1} ms, most {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
    targets.at_least("changed rows a second", rate, 9_500.0);
    targets.at_most("from commit to a subscriber, p99 in ms", at(99), 100.0);
    let grown = server.resident_bytes().saturating_sub(before) as f64 / 1e6;
    println!("memory grew by {grown:.0} MB meanwhile, with a subscriber that does not read");
    Ok(())
}
