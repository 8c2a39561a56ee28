//! Views and tables that are changed while everything goes on: `kill -9` in the middle, cancelled statements, and many
//! views at once over a large table.

use std::time::{Duration, Instant};

use rivermark_sql_tests::seed;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Session, runtime};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ROWS: i64 = 300_000;

/// `big(k, g, v)` with many rows.
fn fill(session: &Session) {
    session.must("CREATE TABLE big (k INT PRIMARY KEY, g INT, v BIGINT)");
    for first in (1..=ROWS).step_by(50_000) {
        let last = first + 49_999;
        session.must(&format!(
            "INSERT INTO big SELECT i, i % 1000, i FROM generate_series({first}, {last}) AS s (i)"
        ));
    }
}

/// A query whose result tells which version it is.
fn version(n: i64) -> String {
    format!("SELECT g, sum(v) + {n} AS s, {n} AS version FROM big GROUP BY g")
}

/// The view is of one version, whole, and so is what reads it; which one.
fn checked_version(session: &Session) -> i64 {
    // One moment for all of its queries.
    session.must("BEGIN");
    let versions = session.rows("SELECT DISTINCT version FROM m");
    assert_eq!(versions.len(), 1, "of one version: {versions:?}");
    let n = session.integer("SELECT max(version) FROM m");
    let wrong = session.rows(&format!(
        "(SELECT * FROM ({}) AS q EXCEPT SELECT * FROM m) UNION ALL (SELECT * FROM m EXCEPT SELECT * FROM ({}) AS q)",
        version(n),
        version(n)
    ));
    assert!(wrong.is_empty(), "{} rows differ", wrong.len());
    let (above, from_m) = (
        session.integer("SELECT s FROM above"),
        session.integer("SELECT sum(s)::bigint FROM m"),
    );
    assert_eq!(above, from_m, "what reads the view is of the same moment");
    session.must("COMMIT");
    n
}

fn wait_until_running(session: &Session) {
    let until = Instant::now() + Duration::from_secs(120);
    let rest = "SELECT name, status FROM rivermark.materialized_views WHERE status <> 'RUNNING'";
    loop {
        let left = session.rows(rest);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "still not running: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_while_a_view_is_replaced() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    fill(&session);
    session.must(&format!("CREATE MATERIALIZED VIEW m AS {}", version(0)));
    session.must("CREATE MATERIALIZED VIEW above AS SELECT sum(s)::bigint AS s FROM m");
    let mut began = 0;
    for round in 1..=4 {
        let session = server.connect();
        session.must("SET background_ddl = true");
        session.must(&format!(
            "CREATE OR REPLACE MATERIALIZED VIEW m AS {}",
            version(round)
        ));
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        // In the middle the old one is there, whole.
        let seen = checked_version(&session);
        assert!(seen == round || seen == round - 1);
        began += i64::from(seen == round - 1);
        session.must(&format!("UPDATE big SET v = v + 1 WHERE k = {round}"));
        server.kill9().expect("the server is killed");
        server.start_again().expect("the server starts again");
        let session = server.connect();
        let seen = checked_version(&session);
        assert!(seen == round || seen == round - 1);
        wait_until_running(&session);
        assert_eq!(
            checked_version(&session),
            round,
            "it goes on after the crash"
        );
        session.must(&format!("DELETE FROM big WHERE k = {}", round + 100));
        checked_version(&session);
    }
    println!("{began} of 4 kills in the middle");
    server.stop().expect("the server stops cleanly");
}

#[test]
fn killed_while_a_table_is_altered() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    fill(&session);
    session.must(&format!("CREATE MATERIALIZED VIEW m AS {}", version(0)));
    session.must("CREATE MATERIALIZED VIEW above AS SELECT sum(s)::bigint AS s FROM m");
    let mut columns = 3;
    for round in 1..=4 {
        let connection = server.connection_string();
        let alter = std::thread::spawn(move || {
            let session = Session::connect(&connection)?;
            session.run(&format!(
                "ALTER TABLE big ADD COLUMN c{round} INT DEFAULT {round}"
            ))
        });
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        let session = server.connect();
        // May meet the very moment of the change.
        session.must(&format!("UPDATE big SET v = v + 1 WHERE k = {round}"));
        server.kill9().expect("the server is killed");
        let was_done = alter.join().expect("the thread does not panic").is_ok();
        server.start_again().expect("the server starts again");
        let session = server.connect();
        let added = session
            .integer("SELECT count(*) FROM information_schema.columns WHERE table_name = 'big'");
        assert!(added == columns + 1 || (added == columns && !was_done));
        if added > columns {
            columns = added;
            let filled = format!("SELECT count(*) FROM big WHERE c{round} = {round}");
            assert_eq!(session.integer(&filled), ROWS);
        }
        assert_eq!(session.integer("SELECT count(*) FROM big"), ROWS);
        checked_version(&session);
    }
    server.stop().expect("the server stops cleanly");
}

#[test]
fn cancelled_statements_leave_what_was_there() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    fill(&session);
    session.must(&format!("CREATE MATERIALIZED VIEW m AS {}", version(0)));
    session.must("CREATE MATERIALIZED VIEW above AS SELECT sum(s)::bigint AS s FROM m");
    let slow = [
        format!("CREATE OR REPLACE MATERIALIZED VIEW m AS {}", version(1)),
        "ALTER MATERIALIZED VIEW m REBUILD".to_string(),
        "ALTER TABLE big ADD COLUMN c INT".to_string(),
        format!("CREATE MATERIALIZED VIEW another AS {}", version(2)),
    ];
    for statement in &slow {
        let running = server.connect();
        let token = running.cancel_token();
        let failed = std::thread::scope(|scope| {
            let run = scope.spawn(|| running.run(statement));
            std::thread::sleep(Duration::from_millis(15));
            // An error: there is nothing to cancel any more.
            let _ = runtime().block_on(token.cancel_query(tokio_postgres::NoTls));
            run.join().expect("the thread does not panic")
        });
        match failed {
            Err(error) => assert_eq!(error.code, "57014", "{statement}: {error}"),
            Ok(_) => println!("{statement} was faster than its cancelling"),
        }
        wait_until_running(&session);
        checked_version(&session);
        session.must("UPDATE big SET v = v + 1 WHERE k <= 10");
        checked_version(&session);
    }
    server.stop().expect("the server stops cleanly");
}

#[test]
fn many_views_at_once() {
    let mut server = Server::options()
        .memory_limit("512MB")
        .start()
        .expect("the server starts");
    let session = server.connect();
    fill(&session);
    session.must("CREATE TABLE small (a INT)");
    session.must("CREATE MATERIALIZED VIEW of_small AS SELECT count(*) AS n FROM small");
    session.must("SET background_ddl = true");
    const VIEWS: usize = 24;
    for i in 0..VIEWS {
        session.must(&format!(
            "CREATE MATERIALIZED VIEW v{i} AS SELECT g % {m} AS g, count(*) AS n, sum(v) AS s FROM big GROUP BY g % {m}",
            m = 100 + i
        ));
    }
    let mut latencies = Vec::new();
    let mut largest = 0;
    let until = Instant::now() + Duration::from_secs(180);
    let mut n = 0;
    loop {
        let left = session.integer(
            "SELECT count(*) FROM rivermark.materialized_views WHERE status = 'BACKFILLING'",
        );
        if left == 0 {
            break;
        }
        assert!(Instant::now() < until, "{left} views are still being built");
        let started = Instant::now();
        session.must("INSERT INTO small VALUES (1)");
        latencies.push(started.elapsed());
        n += 1;
        assert_eq!(session.integer("SELECT n FROM of_small"), n);
        largest = largest.max(server.resident_bytes());
    }
    latencies.sort();
    let median = latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default();
    println!(
        "{} inserts meanwhile, median {median:?}, slowest {:?}, at most {} MB",
        latencies.len(),
        latencies.last().copied().unwrap_or_default(),
        largest >> 20
    );
    for i in 0..VIEWS {
        let total = session.integer(&format!("SELECT sum(n)::bigint FROM v{i}"));
        assert_eq!(total, ROWS, "v{i}");
    }
    // Of the budget and what the process takes besides; a view that read by itself would take as much as all.
    assert!(largest < 1 << 30, "{} MB", largest >> 20);
    // A debug build on a loaded machine; what matters is that no statement waits for the backfills to end.
    assert!(median < Duration::from_secs(2), "{median:?}");
    server.stop().expect("the server stops cleanly");
}
