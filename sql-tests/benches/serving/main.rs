//! How fast views are read, side by side with PostgreSQL 15 on the same rows and in the same run: point lookups by key
//! through pgbench with prepared statements, first while nothing else happens and then while rows flow into the view; and
//! a dashboard's query over a view of millions of rows with an index; a hundred subscribers to a view that changes all the
//! time; and COPY in both directions.
//!
//! `RIVERMARK_BENCH_ROWS` (5 million) is the size of the dashboard's view, `RIVERMARK_BENCH_SECONDS` (15) how long each load lasts.
//! Targets: at least 0.7 of PostgreSQL's rate, 0.5 while 50,000 rows a second come in, and a dashboard that is not slower.

mod copying;
mod following;
mod pgbench;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

use pgbench::{Endpoint, Load};

const KEYS: u64 = 1_000_000;
const ROWS_PER_SECOND: u64 = 50_000;
const CONNECTIONS: [usize; 2] = [8, 64];
/// Rows of one INSERT.
const PIECE: u64 = 200_000;
const DEVICES: u64 = 1000;
const ROUNDS: usize = 41;

const LOOKUP: &str =
    "\\set id random(1, 1000000)\nSELECT id, n, total FROM per_id WHERE id = :id;\n";

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let mut targets = Targets::default();
    // One of them alone: RIVERMARK_BENCH_PART=dashboard.
    let part = std::env::var("RIVERMARK_BENCH_PART").ok();
    let is_wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if is_wanted("lookups") {
        lookups(&mut targets)?;
    }
    if is_wanted("dashboard") {
        dashboard(&mut targets)?;
    }
    if is_wanted("following") {
        following::run(&mut targets)?;
    }
    if is_wanted("copying") {
        copying::run()?;
    }
    targets.verdict()
}

fn patient(mut session: Session) -> Session {
    session.timeout = Duration::from_secs(1800);
    session
}

/// Has `sql` run for pieces of `1..=rows`, whose bounds replace `$from` and `$to`.
fn in_pieces(session: &Session, rows: u64, sql: &str) {
    let mut from = 1;
    while from <= rows {
        let to = rows.min(from + PIECE - 1);
        session.must(
            &sql.replace("$from", &from.to_string())
                .replace("$to", &to.to_string()),
        );
        from = to + 1;
    }
}

fn rivermark(server: &Server) -> Endpoint {
    Endpoint {
        port: server.port(),
        user: "rivermark",
        database: "rivermark",
    }
}

fn load(what: &str, endpoint: &Endpoint, connections: usize) -> Result<Load> {
    let seconds = env_number("RIVERMARK_BENCH_SECONDS").unwrap_or(15);
    let load = pgbench::run(endpoint, LOOKUP, connections, seconds)?;
    println!(
        "{what}, {connections} connections: {:.0} lookups a second, p99 {:.2} ms",
        load.transactions_per_second, load.p99_ms
    );
    Ok(load)
}

fn lookups(targets: &mut Targets) -> Result<()> {
    let postgres = Postgres::start()?;
    let session = patient(postgres.connect()?);
    session.must("CREATE TABLE per_id (id BIGINT PRIMARY KEY, n BIGINT, total DOUBLE PRECISION)");
    in_pieces(
        &session,
        KEYS,
        "INSERT INTO per_id SELECT i, 1, i FROM generate_series($from, $to) AS i",
    );
    session.must("VACUUM ANALYZE per_id");
    let postgres_endpoint = Endpoint {
        port: postgres.port(),
        user: "postgres",
        database: "postgres",
    };

    let server = Server::options().memory_limit("1GB").start()?;
    let session = patient(server.connect());
    session.must("CREATE TABLE base (id BIGINT PRIMARY KEY, v DOUBLE PRECISION)");
    in_pieces(
        &session,
        KEYS,
        "INSERT INTO base SELECT i, i FROM generate_series($from, $to) AS i",
    );
    session.must(
        "CREATE MATERIALIZED VIEW per_id AS SELECT id, count(*) AS n, sum(v) AS total FROM base GROUP BY id",
    );
    let endpoint = rivermark(&server);
    let mut idle = Vec::new();
    for connections in CONNECTIONS {
        let theirs = load("PostgreSQL, idle", &postgres_endpoint, connections)?;
        let ours = load("Rivermark, idle", &endpoint, connections)?;
        targets.at_least(
            &format!("lookups / PostgreSQL's, idle, {connections} connections"),
            ours.transactions_per_second / theirs.transactions_per_second,
            0.7,
        );
        idle.push(theirs);
    }

    session.must("DROP MATERIALIZED VIEW per_id");
    session.must(&format!(
        "CREATE SOURCE readings (id BIGINT, v DOUBLE PRECISION) WITH (connector = 'datagen',
         rows_per_second = '{ROWS_PER_SECOND}', fields.id.kind = 'random', fields.id.min = '1', fields.id.max = '{KEYS}')"
    ));
    session.must(
        "CREATE MATERIALIZED VIEW per_id AS SELECT id, count(*) AS n, sum(v) AS total
         FROM (SELECT id, v FROM base UNION ALL SELECT id, v FROM readings) AS all_rows GROUP BY id",
    );
    for (connections, theirs) in CONNECTIONS.into_iter().zip(idle) {
        let before = rows_read(&session);
        let begin = Instant::now();
        let ours = load("Rivermark, rows flowing in", &endpoint, connections)?;
        let rate = (rows_read(&session) - before) / begin.elapsed().as_secs_f64();
        println!("rows a second meanwhile: {rate:.0}");
        targets.at_least(
            "rows a second, as a part of those due",
            rate / ROWS_PER_SECOND as f64,
            0.9,
        );
        targets.at_least(
            &format!("lookups / PostgreSQL's idle, rows flowing in, {connections} connections"),
            ours.transactions_per_second / theirs.transactions_per_second,
            0.5,
        );
    }
    Ok(())
}

fn rows_read(session: &Session) -> f64 {
    session.integer("SELECT sum(rows)::bigint FROM rivermark.sources WHERE name = 'readings'")
        as f64
}

/// A reading of each device every ten seconds.
const READINGS: &str = "INSERT INTO readings SELECT i, 'device-' || i % 1000,
    timestamptz '2026-01-01 00:00:00+00' + i / 1000 * interval '10 seconds', i % 97 FROM generate_series($from, $to) AS i";

fn dashboard(targets: &mut Targets) -> Result<()> {
    let rows = env_number("RIVERMARK_BENCH_ROWS").unwrap_or(5_000_000);
    let seconds = rows / DEVICES * 10;
    let query = format!(
        "SELECT date_trunc('minute', ts) AS minute, count(*), avg(v), max(v) FROM latest
         WHERE ts > timestamptz '2026-01-01 00:00:00+00' + interval '{} seconds' GROUP BY 1 ORDER BY 1",
        seconds.saturating_sub(3600)
    );
    let table = "CREATE TABLE readings (id BIGINT PRIMARY KEY, device TEXT, ts TIMESTAMPTZ, v DOUBLE PRECISION)";

    let postgres = Postgres::start()?;
    let theirs = patient(postgres.connect()?);
    theirs.must(table);
    in_pieces(&theirs, rows, READINGS);
    theirs.must("ALTER TABLE readings RENAME TO latest");
    theirs.must("CREATE INDEX latest_ts ON latest (ts)");
    theirs.must("VACUUM ANALYZE latest");

    let server = Server::options().memory_limit("2GB").start()?;
    let ours = patient(server.connect());
    ours.must(table);
    ours.must("CREATE MATERIALIZED VIEW latest AS SELECT id, device, ts, v FROM readings");
    in_pieces(&ours, rows, READINGS);
    ours.must("CREATE INDEX latest_ts ON latest (ts)");

    ensure!(
        ours.rows(&query) == theirs.rows(&query),
        "the dashboard differs from PostgreSQL's"
    );
    // In turns, so that both meet the same disturbances; the first round is for caches to fill.
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (session, times) in [&ours, &theirs].into_iter().zip(&mut times) {
            let seconds = seconds_for(session, &query);
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    let [ours, theirs] = times.map(median);
    println!(
        "dashboard over {rows} rows: {:.0} ms, PostgreSQL {:.0} ms",
        ours * 1000.0,
        theirs * 1000.0
    );
    targets.at_most("dashboard / PostgreSQL's", ours / theirs, 1.0);
    Ok(())
}

fn seconds_for(session: &Session, query: &str) -> f64 {
    let begin = Instant::now();
    session.rows(query);
    begin.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
