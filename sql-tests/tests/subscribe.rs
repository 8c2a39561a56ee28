//! Following changes: what SUBSCRIBE sends in its three forms adds up to the relation at every epoch, a subscriber that
//! does not read costs the others nothing, and those who LISTEN are told of each epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rivermark_sql_tests::following::{Digest, Subscriber};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::wire::{Wire, query};

type Row = Vec<Option<String>>;

/// What a subscriber knows: rows with their weights, and up to which epoch.
#[derive(Default)]
struct Known {
    rows: BTreeMap<Row, i64>,
    epoch: u64,
    /// The last epoch of which everything has come.
    complete: u64,
}

impl Known {
    fn add(&mut self, row: &[Option<String>]) {
        let number = |i: usize| row[i].as_deref().expect("no NULL").to_string();
        let epoch: u64 = number(0).parse().expect("an epoch");
        let weight: i64 = number(1).parse().expect("a weight");
        assert!(epoch >= self.epoch, "epochs come in order");
        assert!(
            weight == 0 || epoch > self.complete || self.complete == 0,
            "an epoch is complete once"
        );
        self.epoch = epoch;
        if weight == 0 {
            assert!(
                row[2..].iter().all(Option::is_none),
                "progress has no values"
            );
            self.complete = epoch;
            return;
        }
        let known = self.rows.entry(row[2..].to_vec()).or_default();
        *known += weight;
        assert!(*known >= 0, "only what is there is taken away: {row:?}");
        if *known == 0 {
            self.rows.remove(&row[2..]);
        }
    }

    /// The rows as a query would give them, sorted.
    fn sorted(&self) -> Vec<Row> {
        let repeated = self.rows.iter().flat_map(|(row, weight)| {
            std::iter::repeat_n(row.clone(), usize::try_from(*weight).expect("not negative"))
        });
        repeated.collect()
    }
}

/// Reads rows of a running SUBSCRIBE until all of an epoch have come.
fn read_until(wire: &mut Wire, known: &mut Known, epoch: u64) {
    while known.complete < epoch {
        let (tag, body) = wire.receive().expect("in time").expect("a message");
        match tag {
            b'D' => known.add(&rivermark_sql_tests::wire::row(&body)),
            b'E' => panic!("{}", rivermark_sql_tests::wire::field(&body, b'M')),
            _ => {}
        }
    }
}

fn sorted(session: &Session, sql: &str) -> Vec<Row> {
    let mut rows = session.rows(sql);
    rows.sort();
    rows
}

fn epoch(session: &Session) -> u64 {
    let epoch = session.integer("SELECT max(epoch) FROM rivermark.epochs");
    u64::try_from(epoch).expect("an epoch")
}

#[test]
fn changes_add_up_to_the_view() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY, kind TEXT, price NUMERIC(10,2))");
    session.must("CREATE MATERIALIZED VIEW totals AS SELECT kind, count(*) AS n, sum(price) AS total FROM t GROUP BY kind");
    session.must("INSERT INTO t VALUES (1, 'a', 1.5), (2, 'a', 2), (3, 'b', NULL)");
    let mut followers: Vec<(&str, Wire, Known)> = ["t", "totals"]
        .into_iter()
        .map(|relation| {
            let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
            wire.send(&query(&format!("SUBSCRIBE {relation} WITH (PROGRESS)")))
                .expect("sent");
            (relation, wire, Known::default())
        })
        .collect();
    for change in [
        "INSERT INTO t SELECT i, 'kind ' || i % 7, i FROM generate_series(10, 3000) AS i",
        "UPDATE t SET price = price + 1 WHERE id % 3 = 0",
        "DELETE FROM t WHERE kind = 'a'",
        "INSERT INTO t VALUES (1, NULL, 0.01)",
        "BEGIN; DELETE FROM t WHERE id < 100; INSERT INTO t VALUES (5, 'b', 5); COMMIT",
        "TRUNCATE t",
        "INSERT INTO t VALUES (7, 'last', 7)",
    ] {
        session.must(change);
        let now = epoch(&session);
        for (relation, wire, known) in &mut followers {
            read_until(wire, known, now);
            let columns = if *relation == "t" {
                "id, kind, price"
            } else {
                "kind, n, total"
            };
            let mut expected = sorted(&session, &format!("SELECT {columns} FROM {relation}"));
            let mut found = known.sorted();
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{relation} after {change}");
        }
    }
    server.stop().expect("the server stops cleanly");
}

#[test]
fn cursors_and_copy_give_the_same_rows() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)");
    session.must("INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
    let mut run = |sql: &str| {
        let reply = wire.simple(sql).expect("an answer");
        assert_eq!(reply.error, None, "{sql}");
        reply.rows
    };
    run("BEGIN");
    run("DECLARE c CURSOR FOR SUBSCRIBE t");
    run("DECLARE changes CURSOR FOR SUBSCRIBE TO t WITH (SNAPSHOT = false)");
    let mut known = Known::default();
    for row in run("FETCH 1 FROM c").iter().chain(&run("FETCH ALL c")) {
        known.add(row);
    }
    assert_eq!(known.sorted(), sorted(&session, "SELECT id, v FROM t"));
    assert_eq!(run("FETCH ALL changes").len(), 0, "nothing has changed");
    session.must("UPDATE t SET v = 'c' WHERE id = 2");
    let changes = run("FETCH 10 FROM changes WITH (timeout = '2s')");
    let shown: Vec<Vec<Option<&str>>> = changes
        .iter()
        .map(|row| row[1..].iter().map(|v| v.as_deref()).collect())
        .collect();
    assert_eq!(
        shown,
        [
            [Some("-1"), Some("2"), Some("b")],
            [Some("1"), Some("2"), Some("c")]
        ]
    );
    let started = Instant::now();
    assert_eq!(
        run("FETCH 1 FROM changes WITH (timeout = '200ms')").len(),
        0
    );
    assert!(started.elapsed() >= Duration::from_millis(200));
    run("CLOSE changes");
    run("COMMIT");

    wire.send(&query("COPY (SUBSCRIBE t) TO STDOUT (FORMAT csv)"))
        .expect("sent");
    let mut lines = Vec::new();
    session.must("DELETE FROM t WHERE id = 1");
    while lines.len() < 3 {
        let (tag, body) = wire.receive().expect("in time").expect("a message");
        if tag == b'd' {
            let line = String::from_utf8(body).expect("text");
            lines.push(
                line.split_once(',')
                    .expect("an epoch")
                    .1
                    .trim_end()
                    .to_string(),
            );
        }
    }
    lines.sort();
    assert_eq!(lines, ["-1,1,a", "1,1,a", "1,2,c"]);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn what_cannot_be_followed_says_so() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY)");
    session.must("CREATE VIEW plain AS SELECT id FROM t");
    session.must("CREATE SOURCE s (n INT) WITH (connector = 'datagen', rows_per_second = '1')");
    for (sql, code) in [
        ("SUBSCRIBE plain", "0A000"),
        ("SUBSCRIBE s", "0A000"),
        ("SUBSCRIBE rivermark.epochs", "0A000"),
        ("SUBSCRIBE missing", "42P01"),
        ("SUBSCRIBE (SELECT 1)", "0A000"),
        ("SUBSCRIBE t AS OF 999999", "55000"),
        ("SUBSCRIBE t AS OF 1", "55000"),
        ("SUBSCRIBE t AS OF now()", "42601"),
        ("SUBSCRIBE t AS OF 1 WITH (PROGRESS) AS OF 2", "42601"),
        ("SUBSCRIBE t WITH (SPEED)", "22023"),
        ("DECLARE c CURSOR FOR SUBSCRIBE t", "25P01"),
    ] {
        assert_eq!(session.must_fail(sql).code, code, "{sql}");
    }
    // What is followed goes away.
    let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
    wire.send(&query("SUBSCRIBE t WITH (SNAPSHOT = false, PROGRESS)"))
        .expect("sent");
    wire.receive().expect("in time");
    session.must("DROP TABLE t CASCADE");
    let reply = wire.reply().expect("an answer");
    let (code, message) = reply.error.expect("an error");
    assert_eq!(code, "55000", "{message}");
    assert_eq!(wire.simple("SELECT 1").expect("an answer").rows.len(), 1);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn who_does_not_read_is_cut_off_and_costs_others_nothing() {
    let options = Server::options().memory_limit("64MB");
    let mut server = options.start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)");
    let mut stopped = Wire::connect(server.port(), "rivermark").expect("a session");
    stopped
        .send(&query("SUBSCRIBE t WITH (PROGRESS)"))
        .expect("sent");
    let mut reading = Wire::connect(server.port(), "rivermark").expect("a session");
    reading
        .send(&query("SUBSCRIBE t WITH (PROGRESS)"))
        .expect("sent");
    let mut known = Known::default();
    for i in 0..20 {
        session.must(&format!(
            "INSERT INTO t SELECT {i} * 1000 + n, repeat('x', 1000) FROM generate_series(1, 1000) AS n"
        ));
        let now = epoch(&session);
        read_until(&mut reading, &mut known, now);
    }
    assert_eq!(known.sorted().len(), 20_000);
    let reply = stopped.reply().expect("an answer");
    let (code, message) = reply.error.expect("an error");
    assert_eq!(code, "53400", "{message}");
    assert!(reply.rows.len() < 20_000);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn listeners_are_told_of_each_epoch_and_of_each_other() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE SCHEMA s");
    session.must("CREATE TABLE t (id INT PRIMARY KEY)");
    session.must("CREATE TABLE s.t (id INT PRIMARY KEY)");
    session.must("CREATE MATERIALIZED VIEW evens AS SELECT id FROM t WHERE id % 2 = 0");
    let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
    for channel in ["evens", "s.t", "news"] {
        assert_eq!(
            wire.simple(&format!("LISTEN {channel}"))
                .expect("an answer")
                .error,
            None
        );
    }
    // What was created just now may still be told of.
    std::thread::sleep(Duration::from_millis(100));
    wire.simple("SELECT 1").expect("an answer");
    session.must("INSERT INTO t VALUES (1)");
    session.must("INSERT INTO t VALUES (2)");
    let evens = epoch(&session).to_string();
    session.must("INSERT INTO s.t VALUES (1)");
    let other = epoch(&session).to_string();
    session.must("BEGIN; NOTIFY news, 'undone'; ROLLBACK");
    session.must("BEGIN; NOTIFY news, 'hello'; NOTIFY news, 'hello'; COMMIT");
    let mut told = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while told.len() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        told.extend(wire.simple("SELECT 1").expect("an answer").notifications);
    }
    let expected = [
        ("evens", evens.as_str()),
        ("s.t", &other),
        ("news", "hello"),
    ];
    let mut expected: Vec<(String, String)> = expected
        .iter()
        .map(|(c, p)| (c.to_string(), p.to_string()))
        .collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(wire.simple("UNLISTEN *").expect("an answer").error, None);
    session.must("NOTIFY news");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        wire.simple("SELECT 1").expect("an answer").notifications,
        []
    );
    server.stop().expect("the server stops cleanly");
}

/// Each of a hundred subscribers adds up to the view after every epoch, while one does not read at all.
#[test]
fn a_hundred_subscribers_see_every_epoch() {
    const SUBSCRIBERS: usize = 100;
    const EPOCHS: u64 = 20;
    let options = Server::options().memory_limit("256MB");
    let mut server = options.start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY, kind INT, v NUMERIC(10,2), note TEXT)");
    session.must(
        "CREATE MATERIALIZED VIEW totals AS SELECT kind, count(*) AS n, sum(v) AS total, max(note) AS note FROM t GROUP BY kind",
    );
    session.must(
        "INSERT INTO t SELECT i, i % 900, i, 'note ' || i FROM generate_series(1, 2000) AS i",
    );
    let mut stopped = Wire::connect(server.port(), "rivermark").expect("a session");
    stopped
        .send(&query("SUBSCRIBE totals WITH (PROGRESS)"))
        .expect("sent");
    let port = server.port();
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let followers: Vec<JoinHandle<Vec<(u64, Digest)>>> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut subscriber = Subscriber::start(port, "totals").expect("a subscription");
            let last = last.clone();
            std::thread::spawn(move || {
                let mut seen = vec![subscriber.next_epoch().expect("a snapshot")];
                while seen.last().is_none_or(|(e, _)| *e < last.load(Relaxed)) {
                    seen.push(subscriber.next_epoch().expect("an epoch"));
                }
                seen
            })
        })
        .collect();
    let view = || Digest::of(&session.rows("SELECT kind, n, total, note FROM totals"));
    let mut expected = BTreeMap::from([(epoch(&session), view())]);
    for i in 0..EPOCHS {
        session.must(&match i % 4 {
            0 => format!("DELETE FROM t WHERE id % 7 = {}", i % 7),
            1 => format!("UPDATE t SET v = v + {i}, note = NULL WHERE id % 3 = 1"),
            _ => format!(
                "INSERT INTO t SELECT {i} * 10000 + n, n % 1100, n, 'new ' || n FROM generate_series(1, 700) AS n"
            ),
        });
        expected.insert(epoch(&session), view());
    }
    // Nobody knows yet that this one is the last.
    last.store(epoch(&session), Relaxed);
    session.must("CREATE TABLE other (id INT PRIMARY KEY)");
    for follower in followers {
        let seen = follower.join().expect("no subscriber fails");
        let mut changed = 0;
        for (epoch, digest) in &seen {
            let before = expected.range(..=epoch).next_back();
            let (at, rows) = before.expect("no subscription began before the rows were there");
            assert_eq!(digest, rows, "epoch {epoch}");
            changed += usize::from(at == epoch);
        }
        assert!(
            changed >= EPOCHS as usize,
            "every epoch is heard of: {changed}"
        );
    }
    drop(stopped);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_subscriber_that_comes_back_goes_on_where_it_was() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)");
    session.must("CREATE MATERIALIZED VIEW counts AS SELECT v, count(*) AS n FROM t GROUP BY v");
    session.must("INSERT INTO t SELECT i, 'v' || i % 10 FROM generate_series(1, 100) AS i");
    let mut known = Known::default();
    let follow = |port: u16, known: &mut Known, sql: &str, until: u64| {
        let mut wire = Wire::connect(port, "rivermark").expect("a session");
        wire.send(&query(sql)).expect("sent");
        read_until(&mut wire, known, until);
    };
    let view = "SELECT v, n FROM counts";
    let begin = epoch(&session);
    follow(
        server.port(),
        &mut known,
        "SUBSCRIBE counts WITH (PROGRESS)",
        begin,
    );
    // Each time the connection is gone while the view changes.
    for change in [
        "INSERT INTO t SELECT i, 'w' || i % 3 FROM generate_series(101, 200) AS i",
        "DELETE FROM t WHERE id % 2 = 0; UPDATE t SET v = 'u' WHERE id < 20",
        "TRUNCATE t; INSERT INTO t VALUES (1, NULL)",
    ] {
        session.must(change);
        session.must("INSERT INTO t VALUES (1000, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y'");
        let now = epoch(&session);
        let sql = format!("SUBSCRIBE counts AS OF {} WITH (PROGRESS)", known.complete);
        follow(server.port(), &mut known, &sql, now);
        assert_eq!(known.sorted(), sorted(&session, view), "{change}");
    }
    // It is a form of the statement like any other.
    let mut wire = Wire::connect(server.port(), "rivermark").expect("a session");
    wire.simple("BEGIN").expect("an answer");
    let declare = format!("DECLARE c CURSOR FOR SUBSCRIBE counts AS OF {begin}");
    assert_eq!(wire.simple(&declare).expect("an answer").error, None);
    let rows = wire.simple("FETCH ALL FROM c").expect("an answer").rows;
    assert!(!rows.is_empty() && rows[0][0] > Some(begin.to_string()));

    // A new definition is another relation, and what is not kept is said.
    session.must("ALTER TABLE t ADD COLUMN extra INT");
    for (sql, code) in [
        (format!("SUBSCRIBE t AS OF {begin}"), "55000"),
        (format!("SUBSCRIBE counts AS OF {}", begin - 1), "55000"),
        (format!("SUBSCRIBE counts AS OF {}", u32::MAX), "55000"),
    ] {
        assert_eq!(session.must_fail(&sql).code, code, "{sql}");
    }
    server.restart().expect("the server starts again");
    let session = server.connect();
    let error = session.must_fail(&format!("SUBSCRIBE counts AS OF {begin}"));
    assert_eq!(error.code, "55000");
    assert!(error.message.contains("are not kept"), "{}", error.message);
    server.stop().expect("the server stops cleanly");
}
