//! Messages with several statements and pipelines, on a real engine: each is one implicit transaction.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use super::raw_client::{RawClient, bind, execute, message, parse, query, sync};
use crate::session::Connector;
use crate::session_tests::Bed;
use crate::wire::{Listener, ListenerConfig};

struct Server {
    bed: Bed,
    port: u16,
    shutdown: CancellationToken,
}

impl Server {
    /// With a table `t (id INT PRIMARY KEY, n INT NOT NULL)`.
    async fn start() -> Server {
        let mut bed = Bed::new();
        bed.check(&[(
            "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)",
            "CREATE TABLE",
        )])
        .await;
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(address, ListenerConfig::default());
        let listener = listener.await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let factory = Arc::new(Connector(bed.state.clone()));
        tokio::spawn(listener.run(factory, shutdown.clone()));
        Server {
            bed,
            port,
            shutdown,
        }
    }

    async fn raw(&self) -> RawClient {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await;
        RawClient::connect(socket.unwrap()).await
    }

    async fn driver(&self) -> tokio_postgres::Client {
        let config = format!("host=127.0.0.1 port={} user=u dbname=rivermark", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn epoch(&self) -> u64 {
        self.bed.state.engine.snapshot().epoch
    }

    async fn check(&mut self, sql: &str, expected: &str) {
        assert_eq!(self.bed.run(sql).await, expected, "{sql}");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.bed.state.engine.shutdown().await;
    }
}

/// Parse, Bind and Execute.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_is_one_commit() {
    let mut server = Server::start().await;
    let mut client = server.raw().await;
    let before = server.epoch();
    let inserts = (0..100).map(|i| run(&format!("INSERT INTO t VALUES ({i}, {i})")));
    let mut messages: Vec<Vec<u8>> = inserts.collect();
    messages.push(sync());
    client.send(&messages).await;
    let answers = "1 2 C ".repeat(100);
    assert_eq!(client.until_ready().await, format!("{answers}ZI"));
    assert_eq!(server.epoch(), before + 1);
    server
        .check("SELECT count(*), sum(n) FROM t", "100 4950")
        .await;
    // each Sync ends a transaction, as drivers send them
    let driver = server.driver().await;
    let update = driver.prepare("UPDATE t SET n = n + $1 WHERE id = 7");
    let update = update.await.unwrap();
    let updates = (1..=20i32).map(|i| {
        let (driver, update) = (&driver, &update);
        async move { driver.execute(update, &[&i]).await }
    });
    assert_eq!(try_join_all(updates).await.unwrap(), [1; 20]);
    assert_eq!(server.epoch(), before + 21);
    server.check("SELECT n FROM t WHERE id = 7", "217").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_undoes_the_pipeline() {
    let mut server = Server::start().await;
    let mut client = server.raw().await;
    for (messages, expected) in [
        (
            vec![
                run("INSERT INTO t VALUES (1, 1)"),
                run("INSERT INTO t VALUES (2, 1 / 0)"),
                run("INSERT INTO t VALUES (3, 3)"),
                sync(),
            ],
            "1 2 C 1 2 E:22012 ZI",
        ),
        (
            vec![
                run("INSERT INTO t VALUES (1, 1)"),
                run("INSERT INTO t VALUES (1, 2)"),
                sync(),
            ],
            "1 2 C 1 2 E:23505 ZI",
        ),
        (
            vec![
                run("INSERT INTO t VALUES (1, 1)"),
                parse("", "SELEC"),
                sync(),
            ],
            "1 2 C E:42601 ZI",
        ),
        (
            vec![query(
                "INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, NULL)",
            )],
            "C E:23502 ZI",
        ),
        (
            vec![query("SET application_name = 'x'; SELECT 1 / 0")],
            "S C S E:22012 ZI",
        ),
    ] {
        client.send(&messages).await;
        // whether the division fails before or after the description of its row
        let seen = client.until_ready().await.replace("T ", "");
        assert_eq!(seen, expected);
        server.check("SELECT count(*) FROM t", "0").await;
    }
    // without a Sync nothing is committed
    client
        .send(&[run("INSERT INTO t VALUES (1, 1)"), flush()])
        .await;
    for expected in ['1', '2', 'C'] {
        assert_eq!(client.receive().await.unwrap().0, expected);
    }
    server.check("SELECT count(*) FROM t", "0").await;
    client.send(&[message(b'X', b"")]).await;
    assert_eq!(client.until_ready().await, "closed");
    server.check("SELECT count(*) FROM t", "0").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_and_definitions_end_an_implicit_transaction() {
    let mut server = Server::start().await;
    let mut client = server.raw().await;
    for (messages, expected, rows) in [
        (
            vec![query(
                "INSERT INTO t VALUES (1, 1); COMMIT; INSERT INTO t VALUES (2, 2); SELECT 1 / 0",
            )],
            "C N C C E:22012 ZI",
            "1",
        ),
        (
            vec![
                query("INSERT INTO t VALUES (3, 3); BEGIN; INSERT INTO t VALUES (4, 4)"),
                query("ROLLBACK"),
            ],
            "C C C ZT",
            "",
        ),
        (vec![], "C ZI", "1"),
        (
            vec![
                run("BEGIN"),
                run("INSERT INTO t VALUES (5, 5)"),
                sync(),
                run("COMMIT"),
                sync(),
            ],
            "1 2 C 1 2 C ZT",
            "",
        ),
        (vec![], "1 2 C ZI", "1; 5"),
        (
            vec![query(
                "INSERT INTO t VALUES (6, 6); CREATE TABLE u (a INT); INSERT INTO t VALUES (7, 7); SELECT 1 / 0",
            )],
            "C C C E:22012 ZI",
            "1; 5; 6",
        ),
        (
            vec![query(
                "INSERT INTO t VALUES (8, 8); SELECT id FROM t WHERE n = 8; UPDATE t SET n = 80 WHERE id = 8",
            )],
            "C T D C C ZI",
            "1; 5; 6; 8",
        ),
    ] {
        client.send(&messages).await;
        let seen = client.until_ready().await.replace("T E", "E");
        assert_eq!(seen, expected);
        if !rows.is_empty() {
            server.check("SELECT id FROM t ORDER BY id", rows).await;
        }
    }
    server.check("SELECT count(*) FROM u", "0").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_meets_a_conflict_runs_again_unless_rows_were_shown() {
    let mut server = Server::start().await;
    server
        .check("INSERT INTO t VALUES (1, 0), (2, 0)", "INSERT 0 2")
        .await;
    let mut client = server.raw().await;
    let updates = || {
        vec![
            run("UPDATE t SET n = n + 1 WHERE id = 1"),
            run("UPDATE t SET n = n * 2 WHERE id = 1"),
        ]
    };
    let other = "UPDATE t SET n = n + 10 WHERE id = 1";
    let mut pipeline = updates();
    pipeline.push(flush());
    client.send(&pipeline).await;
    for expected in ['1', '2', 'C', '1', '2', 'C'] {
        assert_eq!(client.receive().await.unwrap().0, expected);
    }
    server.check(other, "UPDATE 1").await;
    client.send(&[sync()]).await;
    assert_eq!(client.until_ready().await, "ZI");
    server.check("SELECT n FROM t WHERE id = 1", "22").await;

    // rows that the client has seen can not be taken back
    let mut pipeline = updates();
    pipeline.extend([run("SELECT n FROM t WHERE id = 1"), flush()]);
    client.send(&pipeline).await;
    for expected in ['1', '2', 'C', '1', '2', 'C', '1', '2', 'D', 'C'] {
        assert_eq!(client.receive().await.unwrap().0, expected);
    }
    server.check(other, "UPDATE 1").await;
    client.send(&[sync()]).await;
    assert_eq!(client.until_ready().await, "E:40001 ZI");
    server.check("SELECT n FROM t WHERE id = 1", "32").await;

    // nor can the number of rows
    client
        .send(&[run("UPDATE t SET n = 0 WHERE n = 32"), flush()])
        .await;
    for expected in ['1', '2', 'C'] {
        assert_eq!(client.receive().await.unwrap().0, expected);
    }
    server.check(other, "UPDATE 1").await;
    client.send(&[sync()]).await;
    assert_eq!(client.until_ready().await, "E:40001 ZI");
    server.check("SELECT n FROM t WHERE id = 1", "42").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_on_one_row_all_come_through() {
    let mut server = Server::start().await;
    server
        .check("INSERT INTO t VALUES (1, 0)", "INSERT 0 1")
        .await;
    let mut tasks = Vec::new();
    for session in 0..8 {
        let mut client = server.raw().await;
        tasks.push(tokio::spawn(async move {
            for i in 0..10 {
                let id = 1000 + session * 100 + i;
                let messages = [
                    run(&format!("INSERT INTO t VALUES ({id}, 1)")),
                    run("UPDATE t SET n = n + 1 WHERE id = 1"),
                    run("UPDATE t SET n = n + 1 WHERE id = 1"),
                    sync(),
                ];
                client.send(&messages).await;
                assert_eq!(client.until_ready().await, "1 2 C 1 2 C 1 2 C ZI");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    server.check("SELECT n FROM t WHERE id = 1", "160").await;
    server.check("SELECT count(*) FROM t", "81").await;
    server.stop().await;
}
