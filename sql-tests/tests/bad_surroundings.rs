//! Wrong statements, brokers that are away, queries that want too much, clients that vanish, disks that are full:
//! each gets a clear error or a visible state, and everything else goes on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rivermark_sql_tests::kafka::{Kafka, Message};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Session, runtime};

fn wait_until(what: &str, timeout: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {timeout:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn source(name: &str, topic: &str, bootstrap: &str, more: &str) -> String {
    format!(
        "CREATE SOURCE {name} (a INT) WITH (connector = 'kafka', topic = '{topic}',
         properties.bootstrap.server = '{bootstrap}'{more}) FORMAT PLAIN ENCODE JSON"
    )
}

/// Each error names what is wrong, and the statement has changed nothing.
#[test]
fn wrong_statements() {
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("options", 1).expect("a topic");
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();

    let unknown = session.must_fail(&source(
        "s",
        &topic,
        kafka.bootstrap(),
        ", scan.startup.mod = 'earliest'",
    ));
    assert!(unknown.message.contains("scan.startup.mod"), "{unknown}");
    assert!(
        unknown.to_string().contains("scan.startup.mode"),
        "the error lists what is allowed: {unknown}"
    );

    let missing = session.must_fail(&source("s", "no_such_topic", kafka.bootstrap(), ""));
    assert!(missing.message.contains("no_such_topic"), "{missing}");

    let begin = Instant::now();
    let unreachable = session.must_fail(&source("s", &topic, "127.0.0.1:1", ""));
    assert!(unreachable.message.contains("127.0.0.1:1"), "{unreachable}");
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "an unreachable broker is told in time"
    );

    session.must(&source("s", &topic, kafka.bootstrap(), ""));
    let column = session.must_fail("CREATE MATERIALIZED VIEW m AS SELECT nope FROM s");
    assert_eq!(column.code, "42703", "{column}");
    assert!(column.message.contains("nope"), "{column}");
    assert_eq!(session.must_fail("SELECT * FROM m").code, "42P01");
    server.stop().expect("the server stops cleanly");
}

/// While the broker is away queries go on and the source says so; when it is back, nothing was lost.
#[test]
fn broker_away_and_back() {
    let kafka = Kafka::private().expect("a broker of our own");
    kafka.create_topic("t", 2).expect("a topic");
    let number = |i: i32| Message::new(format!("{{\"a\": {i}}}")).to_partition(i % 2);
    kafka
        .produce("t", (0..100).map(number))
        .expect("messages are produced");
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must(&source("s", "t", kafka.bootstrap(), ""));
    session.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, sum(a) AS s FROM s");
    session.must("FLUSH");
    assert_eq!(session.integer("SELECT n FROM m"), 100);

    kafka.stop().expect("the broker stops");
    wait_until("status RETRYING", Duration::from_secs(30), || {
        session.integer(
            "SELECT count(*) FROM rivermark.sources WHERE status = 'RETRYING' AND last_error <> ''",
        ) > 0
    });
    assert_eq!(session.integer("SELECT n FROM m"), 100);
    session.must("CREATE TABLE beside (a INT)");
    session.must("INSERT INTO beside VALUES (1)");

    kafka.start().expect("the broker starts");
    kafka
        .produce("t", (100..200).map(number))
        .expect("messages are produced");
    wait_until("the view catches up", Duration::from_secs(60), || {
        session.integer("SELECT n FROM m") == 200
    });
    assert_eq!(session.integer("SELECT s FROM m"), 199 * 200 / 2);
    wait_until("status RUNNING", Duration::from_secs(30), || {
        session.integer("SELECT count(*) FROM rivermark.sources WHERE status = 'RETRYING'") == 0
    });
    server.stop().expect("the server stops cleanly");
}

/// The server starts while a broker is away, and goes on when it is back.
#[test]
fn start_without_the_broker() {
    let kafka = Kafka::private().expect("a broker of our own");
    kafka.create_topic("t", 1).expect("a topic");
    kafka
        .produce("t", [Message::new("{\"a\": 1}")])
        .expect("a message is produced");
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must(&source("s", "t", kafka.bootstrap(), ""));
    session.must("CREATE MATERIALIZED VIEW m AS SELECT a FROM s");
    session.must("FLUSH");
    kafka.stop().expect("the broker stops");
    server
        .restart()
        .expect("the server restarts without the broker");
    let session = server.connect();
    assert_eq!(session.integer("SELECT a FROM m"), 1);
    kafka.start().expect("the broker starts");
    kafka
        .produce("t", [Message::new("{\"a\": 2}")])
        .expect("a message is produced");
    wait_until("the view catches up", Duration::from_secs(60), || {
        session.integer("SELECT count(*) FROM m") == 2
    });
    server.stop().expect("the server stops cleanly");
}

/// A query that wants more memory than there is fails alone.
#[test]
fn query_over_the_memory_limit() {
    const LIMIT: u64 = 300 << 20;
    let mut server = Server::options()
        .memory_limit("300MB")
        .start()
        .expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (a INT)");
    session.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t");
    let greedy = session.must_fail(
        "SELECT count(*) FROM generate_series(1, 20000000) AS x(g)
         JOIN generate_series(1, 20000000) AS y(g) ON x.g = y.g",
    );
    assert_eq!(greedy.code, "53200", "{greedy}");
    assert!(greedy.message.to_lowercase().contains("memory"), "{greedy}");
    assert!(
        server.resident_bytes() < 2 * LIMIT,
        "{} MB resident",
        server.resident_bytes() >> 20
    );
    session.must("INSERT INTO t VALUES (1)");
    assert_eq!(session.integer("SELECT n FROM m"), 1);
    server.stop().expect("the server stops cleanly");
}

/// A client that goes away in the middle of a result stops the query; nobody else notices.
#[test]
fn client_that_disconnects() {
    let mut server = Server::options().start().expect("the server starts");
    let endless = "SELECT x.g + y.g FROM generate_series(1, 1000000) AS x(g), generate_series(1, 1000000) AS y(g)";
    for _ in 0..3 {
        let session = server.connect();
        let begun = runtime().block_on(async {
            let stream = session.client().simple_query_raw(endless).await?;
            let mut stream = std::pin::pin!(stream);
            // The first messages are here: the query runs.
            for _ in 0..10 {
                futures::StreamExt::next(&mut stream).await.transpose()?;
            }
            Ok::<(), tokio_postgres::Error>(())
        });
        begun.expect("the query begins");
        session.vanish();
    }
    std::thread::sleep(Duration::from_secs(2));
    let before = server.cpu_seconds();
    std::thread::sleep(Duration::from_secs(2));
    let used = server.cpu_seconds() - before;
    assert!(
        used < 0.7,
        "{used} s of processor time in 2 s after the clients went away"
    );
    assert_eq!(server.connect().integer("SELECT 1"), 1);
    server.stop().expect("the server stops cleanly");
}

/// Cancelling ends a statement with 57014 and leaves the session usable.
#[test]
fn statement_that_is_cancelled() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    let cancel = session.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        runtime().block_on(cancel.cancel_query(tokio_postgres::NoTls))
    });
    let begin = Instant::now();
    let error = session.must_fail(
        "SELECT count(*) FROM generate_series(1, 1000000) AS x(g), generate_series(1, 1000000) AS y(g)
         WHERE x.g + y.g < 0",
    );
    assert_eq!(error.code, "57014", "{error}");
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "cancelled after {:?}",
        begin.elapsed()
    );
    canceller
        .join()
        .expect("the canceller does not panic")
        .expect("the cancel request is delivered");
    assert_eq!(session.integer("SELECT 1"), 1);
    server.stop().expect("the server stops cleanly");
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(megabytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::Builder::new()
            .prefix("rivermark-disk-")
            .tempdir()
            .expect("a directory");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|o| o.status.success())
            .then_some(SmallDisk { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that a server which still runs after a failure does not keep the mount.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status();
    }
}

/// A full disk: writes fail or wait visibly, reads go on, nothing is corrupt, and freed space is all it takes.
#[test]
fn disk_full() {
    let Some(disk) = SmallDisk::mount(192) else {
        println!("skipped: a small file system cannot be mounted here (needs root)");
        return;
    };
    let mut server = Server::options()
        .data_dir(disk.path().join("data"))
        .start()
        .expect("the server starts");
    let mut session = server.connect();
    session.must("CREATE TABLE t (a INT, b TEXT)");
    session.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t");
    let insert =
        "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 1000) AS s(g)";
    session.must(insert);

    let filler = disk.path().join("filler");
    fill(&filler);
    session.timeout = Duration::from_secs(3);
    let (mut acknowledged, mut uncertain) = (1, 0);
    let error = loop {
        match session.run(insert) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(
            acknowledged < 100,
            "the disk is full, and 100 MB went through"
        );
    };
    uncertain += i64::from(error.code == "timeout" || error.code.starts_with("08"));
    assert!(
        error.code == "timeout" || error.code == "53100",
        "a clear error or a wait: {error}\n{}",
        server.log_tail()
    );
    assert!(
        server.is_running(),
        "the server has died:\n{}",
        server.log_tail()
    );
    let reader = server.connect();
    let visible = reader.integer("SELECT n FROM m");
    assert_eq!(
        visible,
        acknowledged * 1000,
        "reads go on and see what was acknowledged"
    );
    let log = server.log().to_lowercase();
    assert!(
        log.contains("no space") || log.contains("disk full"),
        "the state is visible:\n{}",
        server.log_tail()
    );

    std::fs::remove_file(&filler).expect("the filler is removed");
    let mut writer = server.connect();
    writer.timeout = Duration::from_secs(5);
    wait_until(
        "writing goes on after space is freed",
        Duration::from_secs(60),
        || match writer.run(insert) {
            Ok(_) => {
                acknowledged += 1;
                true
            }
            Err(error) => {
                uncertain += i64::from(error.code == "timeout");
                false
            }
        },
    );
    for after in ["freed space", "a crash"] {
        let rows = server.connect().integer("SELECT n FROM m");
        assert_eq!(rows % 1000, 0, "after {after}: a part of a statement");
        let statements = rows / 1000;
        let possible = acknowledged..=acknowledged + uncertain;
        assert!(
            possible.contains(&statements),
            "after {after}: {statements} statements, {possible:?} expected"
        );
        assert_eq!(server.connect().integer("SELECT count(*) FROM t"), rows);
        server.kill9().expect("the server is killed");
        server.start_again().expect("the server starts");
    }
    server.stop().expect("the server stops cleanly");
}

/// Writes zeros until the disk is full, then gives a little back so that small files can still be made.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a file");
    let block = vec![0u8; 1 << 20];
    let mut written: u64 = 0;
    while file.write_all(&block).is_ok() {
        written += block.len() as u64;
    }
    file.set_len(written.saturating_sub(2 << 20))
        .expect("the file is cut");
}

/// A second server on the same data is refused, and the first does not notice.
#[test]
fn second_server_on_the_same_data() {
    let mut server = Server::options().start().expect("the server starts");
    let second = Server::options().data_dir(server.data_dir()).start();
    let error = format!(
        "{:#}",
        second
            .err()
            .expect("a second server on the same data is refused")
    );
    let line = error.to_lowercase();
    assert!(
        line.contains("lock") || line.contains("in use") || line.contains("another"),
        "{error}"
    );
    assert_eq!(server.connect().integer("SELECT 1"), 1);
    server.stop().expect("the server stops cleanly");
}

/// Thirty sessions write at once, and each sees everything.
#[test]
fn many_sessions_at_once() {
    let sessions = 30;
    let mut server = Server::options().start().expect("the server starts");
    let setup = server.connect();
    setup.must("CREATE TABLE t (a INT)");
    setup.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t");
    let open: Vec<Session> = (0..sessions).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for session in &open {
            scope.spawn(|| session.must("INSERT INTO t VALUES (1)"));
        }
    });
    for session in &open {
        assert_eq!(session.integer("SELECT n FROM m"), sessions);
    }
    server.stop().expect("the server stops cleanly");
}
