//! Runs every file of `slt/<feature>/*.slt` over the wire: once in a fresh server with one shard, and once more with a
//! clean restart of the server in its middle, three shards and epochs split into small pieces: every behaviour that has
//! a SQL test also survives a restart, and no answer depends on how the work is divided.
//!
//! A file marked `# oracle: postgres` is also run against PostgreSQL, where a materialized view becomes a plain view
//! (always up to date, as ours are): what such a file expects is what PostgreSQL answers, not what we believe.
//!
//! `RIVERMARK_SLT=part-of-a-path` runs fewer files, `RIVERMARK_SLT_MODE=plain|restart|oracle` one way only; `RIVERMARK_SLT_UPDATE=1` rewrites the expected results from what
//! the oracle or else the server answers (read the diff). What a file may say besides SQL is described in `src/script.rs`. A file that
//! depends on session state opts out of the restart with a comment `# no-restart: reason`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use rivermark_sql_tests::kafka::{Kafka, unique_name};
use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::script::Directive;
use rivermark_sql_tests::server::{Options, Server};
use rivermark_sql_tests::session::{Session, SqlError, runtime};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner};

const PARALLEL_FILES: usize = 2;
/// Rows that are worked on together in the run with a restart.
const SMALL_PIECE_ROWS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Restart,
    Oracle,
}

/// The server of one file, shared by the file's connections and by the restart in its middle.
type SharedServer = Arc<Mutex<Server>>;

/// Who answers the statements of a file.
#[derive(Clone)]
enum Target {
    Rivermark(SharedServer),
    Oracle { config: String },
}

/// One connection of a file; it is opened anew after the server was restarted.
struct Wire {
    target: Target,
    session: Option<Session>,
    run: String,
}

impl Wire {
    async fn session(&mut self) -> Result<&Session, SqlError> {
        if !self.session.as_ref().is_some_and(Session::is_open) {
            let config = match &self.target {
                Target::Rivermark(server) => lock(server).connection_string(),
                Target::Oracle { config } => config.clone(),
            };
            self.session = Some(Session::connect_async(&config).await?);
        }
        Ok(self.session.as_ref().expect("opened just above"))
    }

    fn obey(&mut self, directive: &Directive) -> Result<(), SqlError> {
        let done = match (directive, &self.target) {
            (Directive::RestartServer, Target::Rivermark(server)) => lock(server).restart(),
            (Directive::RestartServer, Target::Oracle { .. }) => Ok(()),
            (Directive::Wait(time), Target::Rivermark(server)) => lock(server).set_ahead(*time),
            (Directive::Wait(_), Target::Oracle { .. }) => {
                Err(anyhow::anyhow!("CLOCK: PostgreSQL has another one"))
            }
            // The broker's client blocks; the runtime has a second thread for the sessions.
            (other, _) => std::thread::scope(|scope| {
                let applied = scope.spawn(|| other.apply(Kafka::shared())).join();
                applied.unwrap_or_else(|_| Err(anyhow::anyhow!("the directive panicked")))
            }),
        };
        done.map_err(harness_error)
    }
}

fn lock(server: &SharedServer) -> std::sync::MutexGuard<'_, Server> {
    server.lock().expect("no holder of the lock panics")
}

fn harness_error(error: anyhow::Error) -> SqlError {
    SqlError {
        code: "harness".into(),
        message: format!("{error:#}"),
        detail: String::new(),
    }
}

/// Marks an index on a materialized view: PostgreSQL has a plain view there, which takes none.
const ON_A_VIEW: &str = "/* on a view */";

/// What PostgreSQL is asked instead: a plain view is what a materialized view is to us.
fn for_oracle(sql: &str) -> String {
    if sql.trim() == "FLUSH" || sql.contains(ON_A_VIEW) {
        return "SELECT".into();
    }
    sql.replace("CREATE MATERIALIZED VIEW", "CREATE VIEW")
        .replace("DROP MATERIALIZED VIEW", "DROP VIEW")
}

/// The statement and the data of a COPY FROM STDIN, whose data stands in the lines behind it.
fn copy_data(sql: &str) -> Option<(&str, &str)> {
    let (copy, data) = sql.split_once('\n').unwrap_or((sql, ""));
    let is_copy = copy.starts_with("COPY ") && copy.contains(" FROM STDIN");
    is_copy.then_some((copy, data))
}

/// Lines are compared word by word; numbers may differ in trailing zeros and in a float's last digits.
fn validate(
    normalize: sqllogictest::Normalizer,
    actual: &[Vec<String>],
    expected: &[String],
) -> bool {
    if expected.iter().any(|line| line.contains("<slt:ignore>")) {
        return sqllogictest::default_validator(normalize, actual, expected);
    }
    let words = |line: &str| {
        line.split_whitespace()
            .map(|w| Some(w.to_string()))
            .collect::<Vec<_>>()
    };
    actual.len() == expected.len()
        && actual.iter().zip(expected).all(|(row, line)| {
            rivermark_sql_tests::values::difference(&[words(line)], &[words(&row.join(" "))])
                .is_none()
        })
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        let mut sql = sql.replace("$RUN", &self.run);
        if sql.contains("$KAFKA") {
            sql = sql.replace("$KAFKA", Kafka::shared().bootstrap());
        }
        if let Some(directive) = Directive::parse(&sql).map_err(harness_error)? {
            self.obey(&directive)?;
            return Ok(DBOutput::StatementComplete(0));
        }
        if matches!(self.target, Target::Oracle { .. }) {
            sql = for_oracle(&sql);
        }
        let session = self.session().await?;
        let answer = match copy_data(&sql) {
            Some((copy, data)) => session.copy_in_async(copy, data).await?,
            None => session.run_async(&sql).await?,
        };
        if answer.columns.is_empty() && answer.rows.is_empty() {
            return Ok(DBOutput::StatementComplete(answer.affected));
        }
        let text = |value: Option<String>| match value {
            None => "NULL".to_string(),
            Some(text) if text.is_empty() => "(empty)".to_string(),
            Some(text) => text,
        };
        Ok(DBOutput::Rows {
            types: vec![DefaultColumnType::Text; answer.columns.len()],
            rows: answer
                .rows
                .into_iter()
                .map(|row| row.into_iter().map(text).collect())
                .collect(),
        })
    }

    async fn shutdown(&mut self) {
        self.session = None;
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &SqlError) -> Option<String> {
        Some(error.code.clone())
    }
}

fn slt_files() -> Vec<PathBuf> {
    let root = rivermark_sql_tests::repository().join("sql-tests/slt");
    let filter = std::env::var("RIVERMARK_SLT").unwrap_or_default();
    let mut files = Vec::new();
    for feature in std::fs::read_dir(root).expect("sql-tests/slt exists") {
        let feature = feature.expect("a readable directory").path();
        for file in std::fs::read_dir(&feature).into_iter().flatten() {
            let file = file.expect("a readable directory").path();
            if file.extension().is_some_and(|e| e == "slt")
                && file.to_string_lossy().contains(&filter)
            {
                files.push(file);
            }
        }
    }
    files.sort();
    files
}

fn runner(target: Target) -> Runner<Wire, impl sqllogictest::MakeConnection<Conn = Wire>> {
    let run = unique_name("run");
    let mut runner = Runner::new(move || {
        let wire = Wire {
            target: target.clone(),
            session: None,
            run: run.clone(),
        };
        async move { Ok::<_, SqlError>(wire) }
    });
    runner.with_validator(validate);
    runner
}

/// The plain run does all work in one place and at once, the run with a restart divides it as much as it can.
fn options(mode: Mode) -> Options {
    match mode {
        Mode::Restart => Server::options().shards(3).small_pieces(SMALL_PIECE_ROWS),
        Mode::Plain | Mode::Oracle => Server::options().shards(1),
    }
}

fn run_file(path: &Path, mode: Mode, oracle: &Postgres) -> Result<()> {
    if mode == Mode::Oracle {
        let mut runner = runner(oracle_target(oracle)?);
        return Ok(runtime().block_on(runner.run_file_async(path))?);
    }
    let server: SharedServer = Arc::new(Mutex::new(options(mode).start()?));
    let mut runner = runner(Target::Rivermark(Arc::clone(&server)));
    let records = sqllogictest::parse_file::<DefaultColumnType>(path)?;
    let is_step = |r: &Record<_>| matches!(r, Record::Statement { .. } | Record::Query { .. });
    let half = records.iter().filter(|r| is_step(r)).count() / 2;
    let mut steps = 0;
    let outcome = runtime().block_on(async {
        for record in records {
            if is_step(&record) {
                if steps == half && mode == Mode::Restart {
                    lock(&server)
                        .restart()
                        .context("the restart in the middle")?;
                }
                steps += 1;
            }
            runner.run_async(record).await?;
        }
        Ok::<(), anyhow::Error>(())
    });
    let mut server = lock(&server);
    let stopped = if server.is_running() {
        server.stop()
    } else {
        Err(anyhow::anyhow!("the server has died"))
    };
    outcome.and(stopped).with_context(|| server.log_tail())
}

/// A database of its own for one file.
fn oracle_target(oracle: &Postgres) -> Result<Target> {
    let database = unique_name("slt");
    oracle
        .connect()?
        .run(&format!("CREATE DATABASE {database}"))?;
    Ok(Target::Oracle {
        config: oracle
            .connection_string()
            .replace("dbname=postgres", &format!("dbname={database}")),
    })
}

fn update_file(path: &Path, oracle: &Postgres) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let target = match has_oracle(&text) {
        true => oracle_target(oracle)?,
        false => Target::Rivermark(Arc::new(Mutex::new(Server::options().start()?))),
    };
    let normalize = sqllogictest::default_normalizer;
    let any_type = sqllogictest::default_column_validator;
    let mut runner = runner(target);
    let updated =
        runtime().block_on(runner.update_test_file(path, " ", validate, normalize, any_type));
    updated.map_err(|e| anyhow::anyhow!("{e}"))
}

fn has_oracle(text: &str) -> bool {
    text.lines().any(|l| l == "# oracle: postgres")
}

fn run_all(jobs: &[(PathBuf, Mode)], oracle: &Postgres) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL_FILES {
            scope.spawn(|| {
                while let Some((path, mode)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let outcome = run_file(path, *mode, oracle);
                    let name = path
                        .strip_prefix(rivermark_sql_tests::repository())
                        .unwrap_or(path)
                        .display();
                    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
                    println!(
                        "{name} ({mode:?}) … {verdict} ({:.1} s)",
                        begin.elapsed().as_secs_f32()
                    );
                    if let Err(error) = outcome {
                        let mut failures = failures.lock().expect("no holder of the lock panics");
                        failures.push(format!("{name} ({mode:?})\n{error:?}"));
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no holder of the lock panics")
}

#[test]
fn sql_files() {
    let files = slt_files();
    assert!(!files.is_empty(), "no file matches RIVERMARK_SLT");
    let oracle = Postgres::start().expect("PostgreSQL is the oracle of many files");
    if std::env::var("RIVERMARK_SLT_UPDATE").is_ok_and(|v| v == "1") {
        let oracle_only = std::env::var("RIVERMARK_SLT_MODE").is_ok_and(|m| m == "oracle");
        for file in &files {
            let text = std::fs::read_to_string(file).expect("a readable file");
            if oracle_only && !has_oracle(&text) {
                continue;
            }
            update_file(file, &oracle).unwrap_or_else(|e| panic!("{}: {e:?}", file.display()));
        }
        return;
    }
    let mut jobs: Vec<(PathBuf, Mode)> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        if has_oracle(&text) {
            jobs.push((file.clone(), Mode::Oracle));
        }
        jobs.push((file.clone(), Mode::Plain));
        if !text.lines().any(|l| l.starts_with("# no-restart:")) {
            jobs.push((file, Mode::Restart));
        }
    }
    if let Ok(mode) = std::env::var("RIVERMARK_SLT_MODE") {
        jobs.retain(|(_, m)| format!("{m:?}").eq_ignore_ascii_case(&mode));
    }
    let failures = run_all(&jobs, &oracle);
    println!("{} runs, {} failed", jobs.len(), failures.len());
    assert!(
        failures.is_empty(),
        "{} of {} runs failed:\n\n{}",
        failures.len(),
        jobs.len(),
        failures.join("\n\n")
    );
}
