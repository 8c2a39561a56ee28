//! Views with the same beginning: what an epoch costs with 20 of them, as a multiple of one; and what it costs with 20
//! views whose conditions differ.
//!
//! `RIVERMARK_BENCH_ROWS` changes the number of rows of an epoch.

use anyhow::{Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;

const VIEWS: usize = 20;
const EPOCHS: usize = 9;

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let rows = env_number("RIVERMARK_BENCH_ROWS").unwrap_or(100_000);
    let none = compute_us(rows, 0, true)?;
    let one = compute_us(rows, 1, true)?;
    let same = compute_us(rows, VIEWS, true)?;
    let different = compute_us(rows, VIEWS, false)?;
    println!(
        "epochs of {rows} rows, median of {EPOCHS}: without a view {none} us, with one {one} us"
    );
    let ratio = |many: i64| (many - none) as f64 / (one - none).max(1) as f64;
    println!(
        "{VIEWS} views that begin alike: {same} us, {:.1} times one",
        ratio(same)
    );
    println!(
        "{VIEWS} views with conditions of their own: {different} us, {:.1} times one",
        ratio(different)
    );
    Ok(())
}

/// The median of what an epoch takes to compute.
fn compute_us(rows: u64, views: usize, is_same: bool) -> Result<i64> {
    let mut server = Server::options().memory_limit("2GB").start()?;
    let mut session = server.connect();
    session.timeout = std::time::Duration::from_secs(300);
    session.must("CREATE TABLE readings (device TEXT, v DOUBLE PRECISION, at TIMESTAMP) WITH (append_only = 'true')");
    for view in 0..views {
        // A condition that every row fulfils, the same or another one for each view.
        let least = if is_same { 0 } else { view };
        session.must(&format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT window_start, max(v) AS most FROM (
               SELECT window_start, upper(device) AS device, sqrt(v * v + 1) AS v
               FROM HOP(readings, at, INTERVAL '10 seconds', INTERVAL '1 minute')
               WHERE v > -1000000 - {least} AND device LIKE 'machine-%' AND substr(device, 9) <> '17'
             ) AS r GROUP BY window_start HAVING max(v) > {view}"
        ));
    }
    let mut times: Vec<i64> = Vec::new();
    for epoch in 0..EPOCHS {
        insert(&mut session, rows, epoch)?;
        times.push(
            session.integer("SELECT compute_us FROM rivermark.epochs ORDER BY epoch DESC LIMIT 1"),
        );
    }
    times.sort_unstable();
    server.stop()?;
    Ok(times[EPOCHS / 2])
}

fn insert(session: &mut Session, rows: u64, epoch: usize) -> Result<()> {
    let begin = epoch as u64 * rows;
    session.must(&format!(
        "INSERT INTO readings SELECT 'machine-' || (n % 1000), n % 97, TIMESTAMP '2024-01-01' + (n / 100) * INTERVAL '1 second'
         FROM generate_series({begin}, {}) AS g(n)",
        begin + rows - 1
    ));
    let count =
        session.integer("SELECT rows_in FROM rivermark.epochs ORDER BY epoch DESC LIMIT 1") as u64;
    ensure!(count == rows, "an epoch of {count} rows");
    Ok(())
}
