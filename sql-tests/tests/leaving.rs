//! Long results, statements that are cancelled, and clients that vanish. Rows come as they are made and wait for a slow
//! client in bounded memory; whatever a statement is at when it is cancelled, or its client gone, it ends soon, and leaves no
//! session, no lock, no memory and no half of a change.

use std::time::{Duration, Instant};

use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::wire::{Wire, cancel, field, message, query};

/// How soon a statement must end. It is meant to take a fifth of a second; a busy machine takes longer.
const SOON: Duration = Duration::from_secs(10);
/// What a server may grow by that has nothing to keep: caches, and what its allocator holds back.
const SLACK: u64 = 150 << 20;
/// More rows than any client reads.
const ENDLESS: &str = "SELECT n, 'row ' || n AS t FROM generate_series(1, 10000000000) AS n";

fn prepared() -> Server {
    let server = Server::options().start().expect("the server starts");
    let session = server.connect();
    for sql in [
        "CREATE TABLE kept (id INT PRIMARY KEY, v TEXT NOT NULL)",
        "INSERT INTO kept SELECT n, 'value ' || n FROM generate_series(1, 100000) AS n",
        "CREATE TABLE bag (v TEXT)",
        "CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(id) AS s FROM kept",
    ] {
        session.must(sql);
    }
    server
}

/// What must be the same afterwards.
fn content(session: &Session) -> Vec<Vec<Option<String>>> {
    session.rows(
        "SELECT count(*), sum(id), min(v), max(v), (SELECT count(*) FROM bag), (SELECT n FROM sums) FROM kept",
    )
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pid(key: &[u8]) -> u32 {
    u32::from_be_bytes([key[0], key[1], key[2], key[3]])
}

fn state(session: &Session, pid: u32) -> Option<String> {
    let sql = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    session.rows(&sql).first().and_then(|row| row[0].clone())
}

#[test]
fn the_first_rows_come_before_the_last_are_made() {
    let mut server = prepared();
    let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
    let failing = "SELECT n, 1 / (1000000 - n) FROM generate_series(1, 1000000) AS n";
    let begin = Instant::now();
    wire.send(&query(failing)).expect("sent");
    let mut rows = 0;
    let mut first: Option<Duration> = None;
    let code = loop {
        let (tag, body) = wire.receive().expect("in time").expect("an answer");
        match tag {
            b'D' => {
                first.get_or_insert_with(|| begin.elapsed());
                rows += 1;
            }
            b'E' => break field(&body, b'C'),
            _ => {}
        }
    };
    let took = first.expect("rows come before the error of the last");
    println!(
        "the first of {rows} rows after {took:?}, the error after {:?}",
        begin.elapsed()
    );
    assert_eq!(code, "22012");
    // but for the batch with the row that fails
    assert!(rows > 900_000, "{rows}");
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_slow_client_costs_bounded_memory() {
    let mut server = prepared();
    let session = server.connect();
    let statements = [
        "SELECT n, repeat('x', 200) FROM generate_series(1, 10000000) AS n",
        "COPY (SELECT n, repeat('x', 200) FROM generate_series(1, 10000000) AS n) TO STDOUT",
        "SELECT a.v, b.v FROM kept AS a, kept AS b",
    ];
    for sql in statements {
        let before = server.resident_bytes();
        let (mut wire, key) =
            Wire::connect_with_key(server.port(), "rivermark").expect("a session");
        wire.send(&query(sql)).expect("sent");
        let mut most = before;
        for step in 0..30 {
            // some at a time, with pauses
            for _ in 0..2_000 {
                let (tag, _) = wire.receive().expect("in time").expect("an answer");
                assert_ne!(tag, b'E', "{sql}");
            }
            std::thread::sleep(Duration::from_millis(20));
            most = most.max(server.resident_bytes());
            assert_eq!(
                state(&session, pid(&key)).as_deref(),
                Some("active"),
                "{sql}, {step}"
            );
        }
        println!("{sql}: {} MB more", (most - before) >> 20);
        assert!(
            most - before < SLACK,
            "{sql}: {} MB more",
            (most - before) >> 20
        );
    }
    server.stop().expect("the server stops cleanly");
}

/// What is going on when the cancel request comes, and how it is begun.
fn statements() -> Vec<(&'static str, String)> {
    let wide: Vec<String> = (0..250).map(|i| format!("sum(id + {i})")).collect();
    let plain = |what, sql: &str| (what, sql.to_string());
    vec![
        ("planning", format!("SELECT {} FROM kept", wide.join(", "))),
        plain(
            "scan",
            "SELECT count(*) FROM kept WHERE md5(repeat(v, 100)) = 'x'",
        ),
        plain(
            "sort",
            "SELECT * FROM generate_series(1, 10000000) AS n WHERE n % 50 = 0 ORDER BY md5(n::text)",
        ),
        plain(
            "join",
            "SELECT count(*) FROM kept AS a JOIN kept AS b ON a.v < b.v || 'x' AND a.id + b.id < 0",
        ),
        plain(
            "groups",
            "SELECT count(*) FROM (SELECT n % 1000, count(*) FROM generate_series(1, 10000000000) AS n GROUP BY 1)",
        ),
        plain(
            "recursion",
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        ),
        plain("rows for a client that does not read", ENDLESS),
        (
            "COPY TO a client that does not read",
            format!("COPY ({ENDLESS}) TO STDOUT"),
        ),
        plain(
            "INSERT",
            "INSERT INTO bag SELECT n::text FROM generate_series(1, 10000000000) AS n WHERE n % 5000000000 = 0",
        ),
        plain("UPDATE", "UPDATE kept SET v = md5(repeat(v, 100))"),
        plain(
            "DELETE",
            "DELETE FROM kept WHERE md5(repeat(v, 100)) <> 'x'",
        ),
        plain("COPY FROM", "COPY kept FROM STDIN"),
        plain("SUBSCRIBE", "SUBSCRIBE sums"),
        plain("COPY of a SUBSCRIBE", "COPY (SUBSCRIBE kept) TO STDOUT"),
        plain(
            "statements before",
            "INSERT INTO bag VALUES ('no'); SELECT count(*) FROM kept AS a, kept AS b WHERE a.id + b.id < 0",
        ),
        plain(
            "a block",
            "BEGIN; DELETE FROM kept WHERE id < 1000; SELECT count(*) FROM kept AS a, kept AS b WHERE a.id + b.id < 0",
        ),
    ]
}

/// Sends a statement and waits until it runs.
fn begun(server: &Server, session: &Session, sql: &str) -> (Wire, Vec<u8>) {
    let (mut wire, key) = Wire::connect_with_key(server.port(), "rivermark").expect("a session");
    wire.send(&query(sql)).expect("sent");
    if sql.starts_with("COPY kept FROM") {
        // some rows, and the half of one
        wire.send(&message(b'd', b"200001\ta\n200002\tb\n2000"))
            .expect("sent");
    }
    let what: String = sql.chars().take(60).collect();
    wait_for(&what, || {
        state(session, pid(&key)).as_deref() == Some("active")
    });
    std::thread::sleep(Duration::from_millis(200));
    (wire, key)
}

#[test]
fn a_cancel_request_ends_whatever_runs() {
    let mut server = prepared();
    let session = server.connect();
    let before = content(&session);
    for (what, sql) in statements() {
        let (mut wire, key) = begun(&server, &session, &sql);
        let begin = Instant::now();
        cancel(server.port(), &key).expect("the cancel request is delivered");
        let reply = wire.reply().expect("in time");
        let took = begin.elapsed();
        println!("{what}: {took:?}");
        let code = reply.error.map(|(code, _)| code);
        assert_eq!(code.as_deref(), Some("57014"), "{what}");
        assert!(took < SOON, "{what}: ended {took:?} after it was cancelled");
        // the session goes on
        wire.simple("ROLLBACK").expect("an answer");
        let one = wire.simple("SELECT 1").expect("an answer");
        assert_eq!(one.rows, [[Some("1".to_string())]], "{what}");
        assert_eq!(content(&session), before, "{what}");
    }
    server.stop().expect("the server stops cleanly");
}

/// Clients that are in the middle of a message, or between two.
fn halves() -> Vec<(&'static str, Vec<u8>)> {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let parse = |sql: &str| message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let bind = message(b'B', &[0; 8]);
    let execute = message(b'E', &[0; 5]);
    let insert = parse("INSERT INTO bag VALUES ('half')");
    let copy = query("COPY kept FROM STDIN");
    let line = message(b'd', b"300001\tx\n");
    vec![
        (
            "half a query",
            half(query("INSERT INTO bag VALUES ('half')")),
        ),
        (
            "a pipeline without Sync",
            [insert.clone(), bind.clone(), execute].concat(),
        ),
        ("half a Bind", [insert, half(bind)].concat()),
        (
            "half a CopyData",
            [copy.clone(), line.clone(), half(line.clone())].concat(),
        ),
        ("a COPY without an end", [copy, line].concat()),
        (
            "a block",
            query("BEGIN; INSERT INTO bag VALUES ('half'); DELETE FROM kept WHERE id < 50000"),
        ),
        (
            "a block that failed",
            query("BEGIN; INSERT INTO bag VALUES ('half'); SELECT 1 / 0"),
        ),
        (
            "a cursor",
            query("BEGIN; DECLARE c CURSOR FOR SELECT * FROM kept ORDER BY v; FETCH 10 FROM c"),
        ),
        ("a listener", query("LISTEN kept")),
        (
            "half a message that was announced to be long",
            message(b'Q', &vec![b' '; 4 << 20])[..1 << 20].to_vec(),
        ),
    ]
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    let mut server = prepared();
    let session = server.connect();
    let before = content(&session);
    let mut size = 0;
    for round in 0..3 {
        for (what, sql) in statements() {
            drop(begun(&server, &session, &sql));
            forgotten(&session, what);
            assert_eq!(content(&session), before, "{what}");
        }
        for (what, bytes) in halves() {
            let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
            wire.send(&bytes).expect("sent");
            std::thread::sleep(Duration::from_millis(100));
            drop(wire);
            forgotten(&session, what);
            assert_eq!(content(&session), before, "{what}");
        }
        // nothing is locked, and what queries had of the memory is free
        for sql in [
            "UPDATE kept SET v = v WHERE id < 10",
            "ALTER TABLE kept RENAME TO other",
            "ALTER TABLE other RENAME TO kept",
            "SELECT count(*) FROM (SELECT DISTINCT n, repeat('x', 100) FROM generate_series(1, 300000) AS n)",
        ] {
            session.must(sql);
        }
        let now = server.resident_bytes();
        println!("round {round}: {} MB", now >> 20);
        // the first round fills caches
        size = if round == 0 { now } else { size };
        assert!(
            now < size + SLACK,
            "grown from {} to {} MB",
            size >> 20,
            now >> 20
        );
    }
    server.stop().expect("the server stops cleanly");
}

/// Only the session that asks is left.
fn forgotten(session: &Session, what: &str) {
    let begin = Instant::now();
    wait_for(what, || {
        session.integer("SELECT count(*) FROM pg_stat_activity") == 1
    });
    println!("{what}: forgotten after {:?}", begin.elapsed());
}
