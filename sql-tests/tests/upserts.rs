//! Many sessions count with INSERT … ON CONFLICT, while others insert and delete the same keys: nothing is lost and
//! nothing is counted twice, in the table and in a view over it.

use std::thread;

use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;

const ROUNDS: i64 = 60;
const KEYS: i64 = 5;

/// Counts, and returns how much it has counted.
fn count_up(session: &Session, thread: i64) -> i64 {
    let mut counted = 0;
    let conflict = "ON CONFLICT (k) DO UPDATE SET n = c.n + excluded.n";
    for round in 0..ROUNDS {
        let key = (round + thread) % KEYS;
        let sql = match round % 4 {
            0 => {
                let rows: Vec<String> = (0..KEYS).map(|k| format!("({k}, 1)")).collect();
                counted += KEYS;
                format!("INSERT INTO c VALUES {} {conflict}", rows.join(", "))
            }
            // one message, one transaction
            1 => {
                counted += 5;
                let other = (key + 1) % KEYS;
                format!(
                    "INSERT INTO c VALUES ({key}, 2) {conflict}; INSERT INTO c VALUES ({other}, 3) {conflict}"
                )
            }
            _ => {
                counted += 1;
                format!("INSERT INTO c VALUES ({key}, 1) {conflict}")
            }
        };
        session.must(&sql);
        if round % 4 == 3 {
            let returned = session.rows(&format!(
                "INSERT INTO c VALUES ({key}, 1) {conflict} RETURNING k, n"
            ));
            counted += 1;
            assert_eq!(returned.len(), 1);
        }
    }
    counted
}

/// Inserts rows that may be there, deletes others; the balance of both.
fn interfere(session: &Session) -> i64 {
    let mut balance = 0;
    for round in 0..ROUNDS {
        let key = round % KEYS;
        match session.run(&format!("INSERT INTO c VALUES ({key}, 100)")) {
            Ok(_) => balance += 100,
            Err(error) => assert_eq!(error.code, "23505", "{error}"),
        }
        let rows = session.rows(&format!(
            "DELETE FROM c USING (VALUES ({key}), ({})) AS v(k) WHERE v.k = c.k RETURNING n",
            (key + 2) % KEYS
        ));
        for row in rows {
            let n = row[0].as_deref().and_then(|n| n.parse::<i64>().ok());
            balance -= n.expect("n is a number");
        }
    }
    balance
}

#[test]
fn concurrent_upserts_count_right() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE c (k BIGINT PRIMARY KEY, n BIGINT NOT NULL)");
    session.must("CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n, count(*) AS rows FROM c");
    let expected: i64 = thread::scope(|scope| {
        let mut workers = Vec::new();
        for thread in 0..4 {
            let session = server.connect();
            workers.push(scope.spawn(move || count_up(&session, thread)));
        }
        let other = server.connect();
        workers.push(scope.spawn(move || interfere(&other)));
        let results = workers.into_iter().map(|worker| worker.join());
        results.map(|n| n.expect("no worker fails")).sum()
    });
    assert_eq!(session.integer("SELECT sum(n) FROM c"), expected);
    assert_eq!(session.integer("SELECT n FROM total"), expected);
    let rows = session.integer("SELECT count(*) FROM c");
    assert_eq!(session.integer("SELECT rows FROM total"), rows);
    server.stop().expect("the server stops cleanly");
}

/// A block reads by its snapshot: a key that was taken since is a conflict at its end, not a duplicate.
#[test]
fn a_block_with_an_upsert_fails_at_its_end() {
    let mut server = Server::options().start().expect("the server starts");
    let (one, two) = (server.connect(), server.connect());
    one.must("CREATE TABLE c (k INT PRIMARY KEY, n INT)");
    one.must("BEGIN");
    one.must("INSERT INTO c VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET n = c.n + 1");
    two.must("INSERT INTO c VALUES (1, 10)");
    // The block still sees what it saw.
    one.must("INSERT INTO c VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET n = c.n + 1");
    assert_eq!(one.integer("SELECT n FROM c"), 2);
    assert_eq!(one.must_fail("COMMIT").code, "40001");
    one.must("BEGIN");
    one.must("INSERT INTO c VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET n = c.n + 1");
    one.must("COMMIT");
    assert_eq!(two.integer("SELECT n FROM c"), 11);
    server.stop().expect("the server stops cleanly");
}
