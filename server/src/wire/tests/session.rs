//! A small SQL session over DataFusion: one table function (`generate_series`), transactions that only change state,
//! and statements that wait, run for ever, fail or panic, so that a test can see what the connection does then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use rivermark_planner::statement::{CopyFormat, CopyHeader, CopyOptions};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use crate::pg_error::{Notice, PgError};
use crate::session_api::*;
use crate::sqlstate::SqlState;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;
use crate::wire::{AuthMethod, Listener, ListenerConfig};

/// What tests look at from outside of the sessions.
#[derive(Default)]
pub struct Probe {
    /// Statements that wait or run for ever and have not been dropped.
    pub running: AtomicUsize,
    /// Batches that endless streams were asked for.
    pub batches: AtomicUsize,
    /// Sessions alive.
    pub sessions: AtomicUsize,
}

impl Probe {
    pub async fn until(&self, what: &AtomicUsize, value: usize) {
        for _ in 0..500 {
            if what.load(Ordering::SeqCst) == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still {} instead of {value}", what.load(Ordering::SeqCst));
    }
}

struct Counted(Arc<Probe>);

impl Counted {
    fn new(probe: &Arc<Probe>) -> Counted {
        probe.running.fetch_add(1, Ordering::SeqCst);
        Counted(probe.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct TestFactory(pub Arc<Probe>);

#[async_trait]
impl SessionFactory for TestFactory {
    type Session = TestSession;

    async fn connect(&self, start: SessionStart) -> Result<TestSession, PgError> {
        if start.database == "missing" {
            return Err(PgError::new(
                SqlState::InvalidCatalogName,
                "database \"missing\" does not exist",
            ));
        }
        self.0.sessions.fetch_add(1, Ordering::SeqCst);
        let config = SessionConfig::new()
            .with_batch_size(1_000)
            .with_target_partitions(1);
        Ok(TestSession {
            context: SessionContext::new_with_config(config),
            probe: self.0.clone(),
            reported: standard_settings(&start.user, &start.settings),
            outlet: start.outlet,
            status: TransactionStatus::Idle,
            notices: Vec::new(),
            changes: Vec::new(),
            deallocated: Vec::new(),
            zone: SessionTimeZone::UTC,
            fail_sync: false,
        })
    }
}

pub struct TestSession {
    context: SessionContext,
    probe: Arc<Probe>,
    reported: Vec<(String, String)>,
    outlet: Outlet,
    status: TransactionStatus,
    notices: Vec<Notice>,
    changes: Vec<(String, String)>,
    deallocated: Vec<Deallocated>,
    zone: SessionTimeZone,
    fail_sync: bool,
}

impl Drop for TestSession {
    fn drop(&mut self) {
        self.probe.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TestSession {
    fn command(&mut self, tag: &str) -> Result<Execution, PgError> {
        Ok(Execution::Command {
            tag: tag.to_string(),
        })
    }

    async fn query(
        &self,
        sql: &str,
        parameters: &[ScalarValue],
    ) -> Result<SendableRecordBatchStream, PgError> {
        let mut frame = self.context.sql(sql).await?;
        if !parameters.is_empty() {
            frame = frame.with_param_values(ParamValues::from(parameters.to_vec()))?;
        }
        Ok(frame.execute_stream().await?)
    }

    fn notify(&mut self) -> Result<Execution, PgError> {
        let (pid, channel, payload) = (7, "ch".to_string(), "news".to_string());
        self.outlet.send(ServerMessage::Notification {
            pid,
            channel,
            payload,
        });
        self.command("NOTIFY")
    }

    /// `COPY (query) TO STDOUT format`.
    async fn copy(&self, statement: &str) -> Result<Execution, PgError> {
        let format = match statement.rsplit(' ').next() {
            Some("csv") => CopyFormat::Csv,
            Some("binary") => CopyFormat::Binary,
            _ => CopyFormat::Text,
        };
        let query = &statement[statement.find('(').unwrap() + 1..statement.rfind(')').unwrap()];
        let header = match format {
            CopyFormat::Csv => CopyHeader::Line,
            CopyFormat::Text | CopyFormat::Binary => CopyHeader::None,
        };
        let options = CopyOptions {
            format,
            header,
            ..CopyOptions::default()
        };
        Ok(Execution::CopyOut {
            stream: self.query(query, &[]).await?,
            options,
        })
    }

    fn set(&mut self, assignment: &str) -> Result<Execution, PgError> {
        let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let (name, value) = (
            name.trim().to_string(),
            value.trim().trim_matches('\'').to_string(),
        );
        if name == "TimeZone" {
            self.zone = SessionTimeZone::parse(&value)
                .ok_or_else(|| PgError::new(SqlState::InvalidParameterValue, "no such zone"))?;
        }
        self.changes.push((name, value));
        self.command("SET")
    }
}

/// The settings that drivers want to hear of.
fn standard_settings(user: &str, settings: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let chosen = |name: &str, default: &str| {
        let value = settings
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or(default, |(_, value)| value.as_str());
        (name.to_string(), value.to_string())
    };
    let fixed = |name: &str, value: &str| (name.to_string(), value.to_string());
    vec![
        fixed("server_version", "15.0 (Rivermark 0.1)"),
        fixed("server_encoding", "UTF8"),
        fixed("client_encoding", "UTF8"),
        chosen("application_name", ""),
        fixed("DateStyle", "ISO, MDY"),
        fixed("IntervalStyle", "postgres"),
        chosen("TimeZone", "UTC"),
        fixed("integer_datetimes", "on"),
        fixed("standard_conforming_strings", "on"),
        fixed("default_transaction_read_only", "off"),
        fixed("in_hot_standby", "off"),
        fixed("is_superuser", "on"),
        fixed("session_authorization", user),
    ]
}

/// Batches of 1,000 numbers without end.
fn endless(probe: &Arc<Probe>) -> SendableRecordBatchStream {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let guard = Counted::new(probe);
    let batch_schema = schema.clone();
    let stream = futures::stream::iter(0i64..).map(move |i| {
        guard.0.batches.fetch_add(1, Ordering::SeqCst);
        let numbers = Int64Array::from_iter_values(i * 1000..(i + 1) * 1000);
        Ok(RecordBatch::try_new(
            batch_schema.clone(),
            vec![Arc::new(numbers)],
        )?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}

/// One row, then silence.
fn trickle(probe: &Arc<Probe>) -> SendableRecordBatchStream {
    let rows = endless(probe);
    let schema = rows.schema();
    let one = rows.take(1).map(|batch| batch.map(|b| b.slice(0, 1)));
    let guard = Counted::new(probe);
    let stream = one
        .chain(futures::stream::pending())
        .inspect(move |_| _ = &guard);
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}

#[async_trait]
impl SqlSession for TestSession {
    type Statement = String;

    async fn parse(&mut self, sql: &str) -> Result<Vec<String>, PgError> {
        if sql.contains("SYNTAX") {
            return Err(PgError::new(SqlState::SyntaxError, "syntax error").at(Some(3)));
        }
        let uncommented: Vec<&str> = sql
            .lines()
            .map(|l| l.split("--").next().unwrap_or(""))
            .collect();
        let statements = uncommented.join("\n");
        Ok(statements
            .split(';')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(str::to_string)
            .collect())
    }

    async fn describe(
        &mut self,
        statement: &String,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError> {
        if statement.starts_with("ENDLESS") || statement.starts_with("TRICKLE") {
            let schema = endless(&self.probe).schema();
            return Ok(StatementShape {
                parameters: Vec::new(),
                result: Some(schema),
            });
        }
        if !statement.to_lowercase().starts_with("select") {
            return Ok(StatementShape {
                parameters: Vec::new(),
                result: None,
            });
        }
        let plan = self.context.sql(statement).await?.into_optimized_plan()?;
        let unoptimized = self.context.sql(statement).await?.logical_plan().clone();
        let inferred = unoptimized.get_parameter_fields()?;
        let count = inferred.len().max(declared.len());
        let parameters: Vec<FieldRef> = (0..count)
            .map(|i| {
                let by_client = declared
                    .get(i)
                    .copied()
                    .flatten()
                    .and_then(PgType::from_oid);
                let data_type = match by_client.and_then(|t| t.parameter_type()) {
                    Some(data_type) => data_type,
                    None => match inferred.get(&format!("${}", i + 1)) {
                        Some(Some(field)) => field.data_type().clone(),
                        _ => DataType::Utf8,
                    },
                };
                Arc::new(Field::new(format!("${}", i + 1), data_type, true))
            })
            .collect();
        // A bare `$n` in the result has its type only once a value is bound.
        let nulls: Vec<ScalarValue> = parameters
            .iter()
            .map(|p| ScalarValue::try_from(p.data_type()))
            .collect::<Result<_, _>>()?;
        let schema = if nulls.is_empty() {
            plan.schema().as_arrow().clone()
        } else {
            let bound = unoptimized.with_param_values(ParamValues::from(nulls))?;
            bound.schema().as_arrow().clone()
        };
        Ok(StatementShape {
            parameters,
            result: Some(Arc::new(schema)),
        })
    }

    async fn execute(
        &mut self,
        statement: &String,
        parameters: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let word = statement
            .split_whitespace()
            .next()
            .unwrap_or("")
            .to_uppercase();
        if self.status == TransactionStatus::Failed
            && !matches!(word.as_str(), "ROLLBACK" | "COMMIT")
        {
            return Err(PgError::new(
                SqlState::InFailedSqlTransaction,
                "current transaction is aborted",
            ));
        }
        match word.as_str() {
            "BEGIN" | "START" => {
                self.status = TransactionStatus::InTransaction;
                self.command("BEGIN")
            }
            "COMMIT" | "ROLLBACK" => {
                self.status = TransactionStatus::Idle;
                self.command(&word)
            }
            "SET" => self.set(&statement[3..]),
            "WAIT" => {
                let _guard = Counted::new(&self.probe);
                std::future::pending().await
            }
            "NOTICE" => {
                self.notices.push(Notice {
                    hint: Some("a hint".into()),
                    ..Notice::new("noted")
                });
                self.command("NOTICE")
            }
            "NOTIFY" => self.notify(),
            "PANIC" => panic!("as asked"),
            "FAILSYNC" => {
                self.fail_sync = true;
                self.command("FAILSYNC")
            }
            "DEALLOCATE" => {
                self.deallocated.push(Deallocated::All);
                self.command("DEALLOCATE ALL")
            }
            "ENDLESS" => Ok(Execution::Rows {
                stream: endless(&self.probe),
                tag: RowTag::SELECT,
            }),
            "TRICKLE" => Ok(Execution::Rows {
                stream: trickle(&self.probe),
                tag: RowTag::SELECT,
            }),
            "COPY" => self.copy(statement).await,
            _ => {
                let stream = self.query(statement, parameters).await?;
                Ok(Execution::Rows {
                    stream,
                    tag: RowTag::SELECT,
                })
            }
        }
    }

    async fn sync(&mut self) -> Result<(), PgError> {
        match std::mem::take(&mut self.fail_sync) {
            true => Err(PgError::new(
                SqlState::SerializationFailure,
                "commit failed",
            )),
            false => Ok(()),
        }
    }

    fn statement_failed(&mut self, _error: &PgError) {
        if self.status == TransactionStatus::InTransaction {
            self.status = TransactionStatus::Failed;
        }
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn reported_parameters(&self) -> Vec<(String, String)> {
        self.reported.clone()
    }

    fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.changes)
    }

    fn take_deallocated(&mut self) -> Vec<Deallocated> {
        std::mem::take(&mut self.deallocated)
    }

    fn time_zone(&self) -> SessionTimeZone {
        self.zone.clone()
    }
}

/// A listening server; it stops when dropped.
pub struct TestServer {
    pub port: u16,
    pub probe: Arc<Probe>,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::with(ListenerConfig::default()).await
    }

    pub async fn with_auth(auth: AuthMethod) -> TestServer {
        TestServer::with(ListenerConfig {
            auth,
            ..ListenerConfig::default()
        })
        .await
    }

    pub async fn with(config: ListenerConfig) -> TestServer {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config)
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = Arc::new(Probe::default());
        let shutdown = CancellationToken::new();
        let factory = Arc::new(TestFactory(probe.clone()));
        let task = tokio::spawn(listener.run(factory, shutdown.clone()));
        TestServer {
            port,
            probe,
            shutdown,
            task,
        }
    }

    /// A driver's connection; dropping the client ends it.
    pub async fn client(&self) -> tokio_postgres::Client {
        self.connect("dbname=d").await.unwrap()
    }

    pub async fn connect(
        &self,
        options: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} user=u {options}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn socket(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}
