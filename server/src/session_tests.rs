//! Sessions over a real engine in a temporary directory: what a client gets for its statements, without the wire.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use futures::StreamExt;
use rivermark_connectors::Registry;
use rivermark_executor::engine::Engine;

use crate::catalog::DATABASE_NAME;
use crate::channels::Channels;
use crate::config::{ServeArgs, ServerConfig};
use crate::pg_error::PgError;
use crate::query_runtime::QueryRuntime;
use crate::serve::ServerState;
use crate::session::Session;
use crate::session_api::{Execution, SqlSession, TransactionStatus};
use crate::sessions::SessionShared;
use crate::settings::Settings;
use crate::table_turns::TableTurns;

pub struct Bed {
    pub session: Session,
    pub state: Arc<ServerState>,
    _directory: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Bed {
        let directory = tempfile::tempdir().unwrap();
        let config = ServerConfig::resolve(ServeArgs {
            data_dir: Some(directory.path().display().to_string()),
            memory_limit: Some("256MB".to_string()),
            ..ServeArgs::default()
        });
        let engine = Engine::open(config.unwrap().engine(), Arc::new(Registry)).unwrap();
        let handle = tokio::runtime::Handle::current();
        let state = Arc::new(ServerState {
            engine,
            sessions: Arc::default(),
            ddl: Arc::default(),
            turns: TableTurns::default(),
            queries: QueryRuntime::new(handle, 32 << 20).unwrap(),
            started_at_us: 0,
            memory_limit: 256 << 20,
            channels: Channels::default(),
            is_trusting: true,
        });
        let session = Bed::connect(&state);
        Bed {
            session,
            state,
            _directory: directory,
        }
    }

    fn connect(state: &Arc<ServerState>) -> Session {
        let catalog = state.engine.snapshot().catalog.clone();
        let user = DATABASE_NAME.to_string();
        let shared = SessionShared::new(1, user, true, None, Settings::default(), catalog);
        Session::new(state.clone(), Arc::new(shared), None)
    }

    /// Runs statements; the last one's tag or rows, or the error as "SQLSTATE: message".
    pub async fn run(&mut self, sql: &str) -> String {
        match run(&mut self.session, sql).await {
            Ok(result) => result,
            Err(error) => {
                self.session.statement_failed(&error);
                format!("{}: {}", error.state.code(), error.message)
            }
        }
    }

    /// Checks results, one statement text and its expected result each.
    pub async fn check(&mut self, cases: &[(&str, &str)]) {
        for (sql, expected) in cases {
            assert_eq!(self.run(sql).await, *expected, "{sql}");
        }
    }
}

async fn run(session: &mut Session, sql: &str) -> Result<String, PgError> {
    let mut last = String::new();
    for statement in session.parse(sql).await? {
        last = match session.execute(&statement, &[]).await? {
            Execution::Command { tag } => tag,
            Execution::CopyIn { .. } => String::new(),
            Execution::Rows { stream, .. } | Execution::CopyOut { stream, .. } => {
                let batches: Vec<_> = stream.collect().await;
                let batches = batches.into_iter().collect::<Result<Vec<_>, _>>()?;
                let table = pretty_format_batches(&batches)?.to_string();
                let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
                let cells = |row: &str| -> Vec<String> {
                    row.trim_matches('|')
                        .split('|')
                        .map(|c| c.trim().to_string())
                        .collect()
                };
                rows.map(|row| cells(row).join(" "))
                    .collect::<Vec<_>>()
                    .join("; ")
            }
        };
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_checked_and_stored() {
    let mut bed = Bed::new();
    bed.check(&[
        (
            "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(5) NOT NULL DEFAULT 'none', n NUMERIC(5,2),
             twice NUMERIC(6,2) GENERATED ALWAYS AS (n * 2) STORED, CHECK (n > 0))",
            "CREATE TABLE",
        ),
        ("INSERT INTO t (id, n) VALUES (1, 1.5), (2, 2.25)", "INSERT 0 2"),
        ("INSERT INTO t VALUES (3, DEFAULT, NULL)", "INSERT 0 1"),
        ("SELECT * FROM t ORDER BY id", "1 none 1.50 3.00; 2 none 2.25 4.50; 3 none  "),
        ("UPDATE t SET n = n + (SELECT max(n) FROM t) WHERE id < 3", "UPDATE 2"),
        ("SELECT n, twice FROM t WHERE id = 1", "3.75 7.50"),
        ("DELETE FROM t WHERE n IS NULL", "DELETE 1"),
        ("SELECT count(*) FROM t", "2"),
        (
            "INSERT INTO t VALUES (4, 'toolong', 1)",
            "22001: value too long for type character varying(5)",
        ),
        ("INSERT INTO t VALUES (4, 'x', 12345)", "22003: numeric field overflow"),
        (
            "INSERT INTO t VALUES (4, 'x', -1)",
            "23514: new row for relation \"t\" violates check constraint \"t_n_check\"",
        ),
        (
            "INSERT INTO t VALUES (1, 'x', 1)",
            "23505: duplicate key value violates unique constraint \"t_pkey\"",
        ),
        (
            "INSERT INTO t (id, twice) VALUES (9, 1)",
            "428C9: cannot insert a non-DEFAULT value into column \"twice\"",
        ),
    ])
    .await;
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_commit_at_once_or_not_at_all() {
    let mut bed = Bed::new();
    bed.check(&[
        ("CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE"),
        (
            "BEGIN; INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2); ROLLBACK",
            "ROLLBACK",
        ),
        ("SELECT count(*) FROM t", "0"),
        (
            "BEGIN; INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2)",
            "INSERT 0 1",
        ),
    ])
    .await;
    let mut other = Bed::connect(&bed.state);
    assert_eq!(
        run(&mut other, "SELECT count(*) FROM t").await.unwrap(),
        "0"
    );
    bed.check(&[("COMMIT", "COMMIT"), ("SELECT sum(n) FROM t", "3")])
        .await;

    // a row that someone else changed meanwhile
    bed.check(&[("BEGIN; UPDATE t SET n = 10 WHERE id = 1", "UPDATE 1")])
        .await;
    run(&mut other, "UPDATE t SET n = 20 WHERE id = 1")
        .await
        .unwrap();
    bed.check(&[
        (
            "COMMIT",
            "40001: could not serialize access due to concurrent update",
        ),
        ("SELECT n FROM t WHERE id = 1", "20"),
    ])
    .await;

    bed.check(&[("BEGIN; SELECT 1 / 0", "22012: division by zero")])
        .await;
    assert_eq!(bed.session.transaction_status(), TransactionStatus::Failed);
    bed.check(&[
        (
            "SELECT 1",
            "25P02: current transaction is aborted, commands ignored until end of transaction block",
        ),
        ("COMMIT", "ROLLBACK"),
        ("SELECT 1", "1"),
    ])
    .await;
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_reads_what_it_has_written() {
    let mut bed = Bed::new();
    bed.check(&[
        ("CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE"),
        ("CREATE TABLE b (n INT)", "CREATE TABLE"),
        (
            "CREATE TABLE l (n INT) WITH (append_only = 'true')",
            "CREATE TABLE",
        ),
        (
            "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t",
            "CREATE MATERIALIZED VIEW",
        ),
        ("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)", "INSERT 0 3"),
        ("INSERT INTO b VALUES (1), (1), (2)", "INSERT 0 3"),
        ("INSERT INTO l VALUES (1)", "INSERT 0 1"),
        (
            "BEGIN; INSERT INTO t VALUES (4, 4); UPDATE t SET n = n * 10 WHERE id <> 2",
            "UPDATE 3",
        ),
        ("SELECT id, n FROM t ORDER BY id", "1 10; 2 2; 3 30; 4 40"),
        ("DELETE FROM t WHERE id IN (1, 4)", "DELETE 2"),
        ("UPDATE t SET id = id - 1", "UPDATE 2"),
        ("SELECT id, n FROM t ORDER BY id", "1 2; 2 30"),
        ("SELECT n FROM m", "3"),
        (
            "DECLARE c CURSOR FOR SELECT n FROM b ORDER BY n",
            "DECLARE CURSOR",
        ),
        ("DELETE FROM b WHERE n = 1", "DELETE 2"),
        ("INSERT INTO b VALUES (1), (3), (3)", "INSERT 0 3"),
        ("UPDATE b SET n = n + 1 WHERE n < 3", "UPDATE 2"),
        ("SELECT n FROM b ORDER BY n", "2; 3; 3; 3"),
        ("FETCH ALL FROM c", "1; 1; 2"),
        ("INSERT INTO l SELECT n + 1 FROM l", "INSERT 0 1"),
        ("INSERT INTO l SELECT n + 2 FROM l", "INSERT 0 2"),
        ("SELECT n FROM l ORDER BY n", "1; 2; 3; 4"),
    ])
    .await;
    let mut other = Bed::connect(&bed.state);
    for (sql, expected) in [
        ("SELECT sum(id) FROM t", "6"),
        ("SELECT sum(n) FROM b", "4"),
        ("SELECT count(*) FROM l", "1"),
    ] {
        assert_eq!(run(&mut other, sql).await.unwrap(), expected, "{sql}");
    }
    let epoch = bed.state.engine.snapshot().epoch;
    bed.check(&[
        ("COMMIT", "COMMIT"),
        ("SELECT id, n FROM t ORDER BY id", "1 2; 2 30"),
        ("SELECT n FROM b ORDER BY n", "2; 3; 3; 3"),
        ("SELECT n FROM l ORDER BY n", "1; 2; 3; 4"),
        ("SELECT n FROM m", "2"),
        (
            "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (1, 2)",
            "23505: duplicate key value violates unique constraint \"t_pkey\"",
        ),
        ("ROLLBACK", "ROLLBACK"),
        ("SELECT count(*) FROM t", "2"),
        // no change in the end, no commit
        (
            "BEGIN; INSERT INTO t VALUES (9, 9); DELETE FROM t WHERE id = 9; COMMIT",
            "COMMIT",
        ),
    ])
    .await;
    assert_eq!(bed.state.engine.snapshot().epoch, epoch + 1);
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_or_refused_under_contention() {
    const SESSIONS: usize = 16;
    const UPDATES: usize = 50;
    let mut bed = Bed::new();
    bed.check(&[
        ("CREATE TABLE counter (n INT)", "CREATE TABLE"),
        ("INSERT INTO counter VALUES (0)", "INSERT 0 1"),
    ])
    .await;
    let tasks = (0..SESSIONS).map(|_| {
        let mut session = Bed::connect(&bed.state);
        tokio::spawn(async move {
            for _ in 0..UPDATES {
                let tag = run(&mut session, "UPDATE counter SET n = n + 1").await;
                assert_eq!(tag.unwrap(), "UPDATE 1");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let total = (SESSIONS * UPDATES).to_string();
    bed.check(&[("SELECT n FROM counter", &total)]).await;
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_depend_on_one_another() {
    let mut bed = Bed::new();
    bed.check(&[
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW"),
        (
            "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM v",
            "CREATE MATERIALIZED VIEW",
        ),
        ("INSERT INTO t VALUES (1), (2)", "INSERT 0 2"),
        ("SELECT n FROM m", "2"),
        (
            "DROP TABLE t",
            "2BP01: cannot drop table t because other objects depend on it",
        ),
        ("DROP VIEW m", "42809: \"m\" is not a view"),
        (
            "CREATE OR REPLACE VIEW v AS SELECT a + 1 AS b FROM t",
            "42P16: cannot change name of view column \"a\" to \"b\"",
        ),
        (
            "CREATE TABLE t (a INT)",
            "42P07: relation \"t\" already exists",
        ),
        ("CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE"),
        ("COMMENT ON TABLE t IS 'numbers'", "COMMENT"),
        (
            "SELECT obj_description('t'::regclass::oid, 'pg_class')",
            "numbers",
        ),
        (
            "SELECT relname, relkind FROM pg_class WHERE relname IN ('t', 'v', 'm') ORDER BY 1",
            "m m; t r; v v",
        ),
        ("DROP TABLE t CASCADE", "DROP TABLE"),
        ("SHOW MATERIALIZED VIEWS", ""),
        ("DROP TABLE IF EXISTS t", "DROP TABLE"),
    ])
    .await;
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_prepared_and_fetched() {
    let mut bed = Bed::new();
    bed.check(&[
        ("PREPARE p (INT) AS SELECT $1 + 1", "PREPARE"),
        ("EXECUTE p (41)", "42"),
        ("EXECUTE q", "26000: prepared statement \"q\" does not exist"),
        ("BEGIN; DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 5) AS s(g); FETCH 2 FROM c", "1; 2"),
        ("FETCH ALL FROM c", "3; 4; 5"),
        ("COMMIT; FETCH 1 FROM c", "34000: cursor \"c\" does not exist"),
        ("SET statement_timeout = '50ms'; SELECT count(*) FROM generate_series(1, 100000000000) AS s(g)",
         "57014: canceling statement due to statement timeout"),
        ("RESET ALL; SHOW statement_timeout", "0"),
    ])
    .await;
    bed.state.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_whose_statement_is_given_up_is_dropped() {
    let mut bed = Bed::new();
    bed.check(&[
        ("CREATE TABLE t (a INT, b TEXT)", "CREATE TABLE"),
        (
            "INSERT INTO t SELECT g, 'x' || g FROM generate_series(1, 100000) AS s(g)",
            "INSERT 0 100000",
        ),
        (
            "SET statement_timeout = '5ms'; CREATE MATERIALIZED VIEW m AS SELECT b, count(*) AS n FROM t GROUP BY b",
            "57014: canceling statement due to statement timeout",
        ),
        ("RESET ALL", "RESET"),
    ])
    .await;
    let mut is_gone = false;
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        // whatever was submitted has been applied and dropped once another definition has had its turn
        is_gone = bed.run("CREATE SCHEMA IF NOT EXISTS after").await == "CREATE SCHEMA"
            && bed.run("SHOW MATERIALIZED VIEWS").await.is_empty();
        if is_gone {
            break;
        }
    }
    assert!(is_gone);
    bed.state.engine.shutdown().await;
}
