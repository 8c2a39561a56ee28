//! State larger than memory: a `GROUP BY` over 20 million distinct keys with a limit of 1 GB completes, is right, stays
//! below 1.5 GB resident, and the server is back within 5 seconds of a restart. Once with keys in ascending order, which
//! RocksDB likes, and once with keys all over the place.
//!
//! `RIVERMARK_BENCH_KEYS` changes the number of keys.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::server::Server;

const LARGEST_RESIDENT: u64 = 3 << 29;

/// What the keys are called, and a bijection of `id` that makes them.
const KEYS: [(&str, &str); 2] = [
    ("ascending", "id"),
    // Multiplication modulo a prime, 2^31 - 1.
    ("scattered", "id * 1103515245 % 2147483647"),
];

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let keys = env_number("RIVERMARK_BENCH_KEYS").unwrap_or(20_000_000);
    for (order, key) in KEYS {
        group_by(keys, order, key)?;
    }
    println!("all targets met");
    Ok(())
}

fn group_by(keys: u64, order: &str, key: &str) -> Result<()> {
    let mut server = Server::options().memory_limit("1GB").start()?;
    let mut session = server.connect();
    session.timeout = Duration::from_secs(30);
    session.must(&format!(
        "CREATE SOURCE gen (id BIGINT, v DOUBLE PRECISION) WITH (connector = 'datagen', rows = '{keys}',
         rows_per_second = '10000000', fields.id.kind = 'sequence')"
    ));
    session.must("SET background_ddl = true");
    session.must(&format!(
        "CREATE MATERIALIZED VIEW per_key AS SELECT {key} AS k, count(*) AS n, sum(v) AS s FROM gen GROUP BY {key}"
    ));
    let begin = Instant::now();
    let mut peak = 0;
    loop {
        peak = peak.max(server.resident_bytes());
        let rows = session
            .run("SELECT rows FROM rivermark.materialized_views WHERE status = 'RUNNING'")
            .ok()
            .and_then(|a| a.rows.first()?.first()?.clone()?.parse().ok());
        if rows == Some(keys) {
            break;
        }
        ensure!(
            begin.elapsed() < Duration::from_secs(3600),
            "after an hour {rows:?} of {keys} keys are there"
        );
        ensure!(peak <= LARGEST_RESIDENT, "{} MB resident", peak >> 20);
        std::thread::sleep(Duration::from_millis(100));
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{keys} keys, {order}, in {seconds:.0} s, {:.0} keys/s",
        keys as f64 / seconds,
    );
    session.timeout = Duration::from_secs(600);
    let counted = session.integer("SELECT count(*) FROM per_key") as u64;
    ensure!(counted == keys, "{counted} rows instead of {keys}");
    peak = peak.max(server.resident_bytes());
    server.stop()?;
    let begin = Instant::now();
    server.start_again()?;
    let restart = begin.elapsed().as_secs_f64();
    let mut session = server.connect();
    session.timeout = Duration::from_secs(600);
    let total = session.integer("SELECT count(*) FROM per_key") as u64;
    peak = peak.max(server.resident_bytes());
    println!(
        "restart in {restart:.1} s, {} MB resident at most",
        peak >> 20
    );
    ensure!(total == keys, "after the restart {total} instead of {keys}");
    ensure!(restart < 5.0, "the restart took {restart:.1} s");
    ensure!(peak <= LARGEST_RESIDENT, "{} MB resident", peak >> 20);
    server.stop()
}
