//! Runs every file of `slt/<feature>/*.slt` over the wire: once in a fresh server, and once more with a clean restart
//! of the server in its middle, so that every behaviour that has a SQL test also survives a restart.
//!
//! `RIVERMARK_SLT=part-of-a-path` runs fewer files; `RIVERMARK_SLT_UPDATE=1` rewrites the expected results from what
//! the server answers (read the diff). What a file may say besides SQL is described in `src/script.rs`. A file that
//! depends on session state opts out of the restart with a comment `# no-restart: reason`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use rivermark_sql_tests::kafka::{Kafka, unique_name};
use rivermark_sql_tests::script::Directive;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Session, SqlError, runtime};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner};

const PARALLEL_FILES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Restart,
}

/// The server of one file, shared by the file's connections and by the restart in its middle.
type SharedServer = Arc<Mutex<Server>>;

/// One connection of a file; it is opened anew after the server was restarted.
struct Wire {
    server: SharedServer,
    session: Option<Session>,
    run: String,
}

impl Wire {
    async fn session(&mut self) -> Result<&Session, SqlError> {
        if !self.session.as_ref().is_some_and(Session::is_open) {
            let config = self.server.lock().expect("no holder of the lock panics").connection_string();
            self.session = Some(Session::connect_async(&config).await?);
        }
        Ok(self.session.as_ref().expect("opened just above"))
    }

    fn obey(&mut self, directive: &Directive) -> Result<(), SqlError> {
        let done = match directive {
            Directive::RestartServer => self.server.lock().expect("no holder of the lock panics").restart(),
            // The broker's client blocks; the runtime has a second thread for the sessions.
            other => std::thread::scope(|scope| {
                let applied = scope.spawn(|| other.apply(Kafka::shared())).join();
                applied.unwrap_or_else(|_| Err(anyhow::anyhow!("the directive panicked")))
            }),
        };
        done.map_err(|e| SqlError { code: "harness".into(), message: format!("{e:#}"), detail: String::new() })
    }
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
        let directive = Directive::parse(&sql);
        let directive = directive
            .map_err(|e| SqlError { code: "harness".into(), message: format!("{e:#}"), detail: String::new() })?;
        if let Some(directive) = directive {
            self.obey(&directive)?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let answer = self.session().await?.run_async(&sql).await?;
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
            rows: answer.rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect(),
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
            if file.extension().is_some_and(|e| e == "slt") && file.to_string_lossy().contains(&filter) {
                files.push(file);
            }
        }
    }
    files.sort();
    files
}

fn run_file(path: &Path, mode: Mode) -> Result<()> {
    let server: SharedServer = Arc::new(Mutex::new(Server::options().start()?));
    let run = unique_name("run");
    let connecting = Arc::clone(&server);
    let mut runner = Runner::new(|| {
        let wire = Wire { server: Arc::clone(&connecting), session: None, run: run.clone() };
        async move { Ok::<_, SqlError>(wire) }
    });
    let records = sqllogictest::parse_file::<DefaultColumnType>(path)?;
    let is_step = |r: &Record<_>| matches!(r, Record::Statement { .. } | Record::Query { .. });
    let half = records.iter().filter(|r| is_step(r)).count() / 2;
    let mut steps = 0;
    let outcome = runtime().block_on(async {
        for record in records {
            if is_step(&record) {
                if steps == half && mode == Mode::Restart {
                    let mut server = server.lock().expect("no holder of the lock panics");
                    server.restart().context("the restart in the middle")?;
                }
                steps += 1;
            }
            runner.run_async(record).await?;
        }
        Ok::<(), anyhow::Error>(())
    });
    let mut server = server.lock().expect("no holder of the lock panics");
    let stopped = if server.is_running() { server.stop() } else { Err(anyhow::anyhow!("the server has died")) };
    outcome.and(stopped).with_context(|| server.log_tail())
}

fn update_file(path: &Path) -> Result<()> {
    let server: SharedServer = Arc::new(Mutex::new(Server::options().start()?));
    let run = unique_name("run");
    let mut runner = Runner::new(|| {
        let wire = Wire { server: Arc::clone(&server), session: None, run: run.clone() };
        async move { Ok::<_, SqlError>(wire) }
    });
    let updated = runtime().block_on(runner.update_test_file(
        path,
        " ",
        sqllogictest::default_validator,
        sqllogictest::default_normalizer,
        sqllogictest::default_column_validator,
    ));
    updated.map_err(|e| anyhow::anyhow!("{e}"))
}

fn run_all(jobs: &[(PathBuf, Mode)]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL_FILES {
            scope.spawn(|| {
                while let Some((path, mode)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let outcome = run_file(path, *mode);
                    let name = path.strip_prefix(rivermark_sql_tests::repository()).unwrap_or(path).display();
                    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
                    println!("{name} ({mode:?}) … {verdict} ({:.1} s)", begin.elapsed().as_secs_f32());
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
    if std::env::var("RIVERMARK_SLT_UPDATE").is_ok_and(|v| v == "1") {
        for file in &files {
            update_file(file).unwrap_or_else(|e| panic!("{}: {e:?}", file.display()));
        }
        return;
    }
    let mut jobs: Vec<(PathBuf, Mode)> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        jobs.push((file.clone(), Mode::Plain));
        if !text.lines().any(|l| l.starts_with("# no-restart:")) {
            jobs.push((file, Mode::Restart));
        }
    }
    let failures = run_all(&jobs);
    println!("{} runs, {} failed", jobs.len(), failures.len());
    assert!(failures.is_empty(), "{} of {} runs failed:\n\n{}", failures.len(), jobs.len(), failures.join("\n\n"));
}
