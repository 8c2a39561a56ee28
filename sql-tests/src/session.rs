//! A blocking SQL session over the Postgres wire protocol (simple queries, values as text), for tests that read
//! like scripts. Rivermark and PostgreSQL are both spoken to through it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, CancelToken, Client, NoTls, SimpleQueryMessage};

/// One row, its values as the server's text; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// The answer to one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Column names; empty for a statement without a result.
    pub columns: Vec<String>,
    /// The rows, in the order in which they came.
    pub rows: Vec<Row>,
    /// The number in the command tag.
    pub affected: u64,
}

/// A statement that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The SQLSTATE; `08006` also for a connection that broke, `timeout` for no answer in time.
    pub code: String,
    /// The server's message.
    pub message: String,
    /// The server's detail and hint, or nothing.
    pub detail: String,
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ERROR {}: {}", self.code, self.message)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => from_db_error(db),
            None => SqlError {
                code: "08006".into(),
                message: full_text(&error),
                detail: String::new(),
            },
        }
    }
}

fn from_db_error(db: &DbError) -> SqlError {
    let detail: Vec<&str> = [db.detail(), db.hint()].into_iter().flatten().collect();
    SqlError {
        code: db.code().code().into(),
        message: db.message().into(),
        detail: detail.join("; "),
    }
}

fn full_text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", full_text(source)),
        None => error.to_string(),
    }
}

/// The runtime on which all sessions of a test process live.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be started")
    })
}

/// One connection.
pub struct Session {
    client: Client,
    notices: Arc<Mutex<VecDeque<String>>>,
    connection: tokio::task::JoinHandle<()>,
    /// How long a statement may take before the session gives up with code `timeout`.
    pub timeout: Duration,
}

impl Session {
    /// Connects; `config` is a libpq connection string.
    pub fn connect(config: &str) -> Result<Session, SqlError> {
        runtime().block_on(Self::connect_async(config))
    }

    /// [`Session::connect`] for async callers on [`runtime`].
    pub async fn connect_async(config: &str) -> Result<Session, SqlError> {
        let connecting = tokio_postgres::connect(config, NoTls);
        let (client, mut connection) = tokio::time::timeout(Duration::from_secs(20), connecting)
            .await
            .map_err(|_| timeout_error("connect"))??;
        let notices = Arc::new(Mutex::new(VecDeque::new()));
        let sink = Arc::clone(&notices);
        let connection = runtime().spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message {
                    let mut notices = sink.lock().expect("no holder of the lock panics");
                    notices.push_back(notice.message().to_string());
                }
            }
        });
        Ok(Session {
            client,
            notices,
            connection,
            timeout: Duration::from_secs(60),
        })
    }

    /// Runs one or several statements and returns the answer to the last.
    pub fn run(&self, sql: &str) -> Result<Answer, SqlError> {
        runtime().block_on(self.run_async(sql))
    }

    /// [`Session::run`] for async callers on [`runtime`].
    pub async fn run_async(&self, sql: &str) -> Result<Answer, SqlError> {
        let messages = tokio::time::timeout(self.timeout, self.client.simple_query(sql))
            .await
            .map_err(|_| timeout_error(sql))??;
        let mut current = Answer::default();
        let mut last = Answer::default();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    current.columns = columns.iter().map(|c| c.name().to_string()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    current.rows.push(
                        (0..row.len())
                            .map(|i| row.get(i).map(str::to_string))
                            .collect(),
                    );
                }
                SimpleQueryMessage::CommandComplete(affected) => {
                    current.affected = affected;
                    last = std::mem::take(&mut current);
                }
                _ => {}
            }
        }
        Ok(last)
    }

    /// Runs `COPY … FROM STDIN` with this data, in the extended protocol.
    pub async fn copy_in_async(&self, sql: &str, data: &str) -> Result<Answer, SqlError> {
        let copied = async {
            let sink = self.client.copy_in::<_, Bytes>(sql).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Bytes::copy_from_slice(data.as_bytes())).await?;
            sink.finish().await
        };
        let affected = tokio::time::timeout(self.timeout, copied)
            .await
            .map_err(|_| timeout_error(sql))??;
        Ok(Answer {
            affected,
            ..Answer::default()
        })
    }

    /// The rows of a query.
    ///
    /// # Panics
    /// If it fails.
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.run(sql)
            .unwrap_or_else(|e| panic!("{e}\nin: {sql}"))
            .rows
    }

    /// The only value of a query.
    ///
    /// # Panics
    /// If it fails or has no row.
    pub fn scalar(&self, sql: &str) -> Option<String> {
        let rows = self.rows(sql);
        rows.first()
            .unwrap_or_else(|| panic!("no row from: {sql}"))
            .first()
            .cloned()
            .flatten()
    }

    /// The only value of a query as an integer; NULL is 0.
    ///
    /// # Panics
    /// If it fails or the value is no integer.
    pub fn integer(&self, sql: &str) -> i64 {
        let text = self.scalar(sql).unwrap_or_else(|| "0".into());
        text.parse()
            .unwrap_or_else(|_| panic!("{text:?} is no integer, from: {sql}"))
    }

    /// Runs a statement that must succeed.
    ///
    /// # Panics
    /// If it fails.
    pub fn must(&self, sql: &str) -> Answer {
        self.run(sql).unwrap_or_else(|e| panic!("{e}\nin: {sql}"))
    }

    /// Runs a statement that must fail and returns the error.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn must_fail(&self, sql: &str) -> SqlError {
        match self.run(sql) {
            Err(error) => error,
            Ok(answer) => panic!("should have failed, but answered {answer:?}: {sql}"),
        }
    }

    /// Takes the notices received since the last call.
    pub fn notices(&self) -> Vec<String> {
        self.notices
            .lock()
            .expect("no holder of the lock panics")
            .drain(..)
            .collect()
    }

    /// A token that cancels this session's running statement from elsewhere.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// The client below, for tests of the extended protocol.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Closes the socket without a word, as a client that dies does.
    pub fn vanish(self) {
        self.connection.abort();
    }

    /// False once the server has closed the connection.
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }
}

fn timeout_error(sql: &str) -> SqlError {
    let sql: String = sql.chars().take(200).collect();
    SqlError {
        code: "timeout".into(),
        message: format!("no answer in time to: {sql}"),
        detail: String::new(),
    }
}
