//! One client's connection from its first byte to its last: opening, authentication, its session, and the loop that
//! hands each message to the simple or the extended protocol.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgwire::messages::Message;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus as WireStatus};
use pgwire::messages::startup::{BackendKeyData, ParameterStatus};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::auth::{AuthMethod, authenticate};
use super::cancel::{CancelRegistry, Registration};
use super::extended_query::{Portal, Prepared};
use super::frontend::{Frame, FrontendMessage};
use super::link::{BoxedSocket, Fault, Link};
use super::startup::{Opening, Refusal, StartupRequest, open};
use crate::pg_error::{PgError, Severity};
use crate::session_api::{
    Deallocated, Outlet, Reach, SessionFactory, SessionStart, SqlSession, TransactionStatus,
};
use crate::sqlstate::SqlState;

/// A client that has not authenticated by then is turned away, as with PostgreSQL's `authentication_timeout`.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit on a message before authentication, as with PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`.
const MAX_AUTH_MESSAGE_BYTES: usize = 64 * 1024;
/// Messages beside results that may wait for a client; more are dropped.
const OUTLET_CAPACITY: usize = 1_024;

/// What all connections of a listener share.
pub struct ConnectionContext<F> {
    pub factory: Arc<F>,
    pub auth: AuthMethod,
    pub tls: Option<pgwire::tokio::TlsAcceptor>,
    pub cancel: Arc<CancelRegistry>,
    pub shutdown: CancellationToken,
    pub max_message_bytes: usize,
    /// Set when the server has as many connections as it takes; cancel requests are still served.
    pub is_full: bool,
}

/// Serves a connection until it ends.
pub async fn serve<F: SessionFactory>(
    socket: BoxedSocket,
    peer: Option<SocketAddr>,
    context: Arc<ConnectionContext<F>>,
) {
    let opening = tokio::select! {
        opening = timeout(AUTHENTICATION_TIMEOUT, open(socket, context.tls.as_ref())) => opening,
        () = context.shutdown.cancelled() => return,
    };
    match opening {
        Err(_) | Ok(Ok(Opening::Gone)) => {}
        Ok(Ok(Opening::Cancel(request))) => context.cancel.cancel(request.pid, &request.secret_key),
        Ok(Err(refusal)) => refuse(refusal, &context).await,
        Ok(Ok(Opening::Session(request))) => serve_session(*request, peer, &context).await,
    }
}

async fn refuse<F>(refusal: Refusal, context: &ConnectionContext<F>) {
    let (_, messages) = mpsc::channel(1);
    let link = Link::new(
        refusal.socket,
        Default::default(),
        MAX_AUTH_MESSAGE_BYTES,
        Default::default(),
        context.shutdown.clone(),
        messages,
    );
    link.close(Some(&refusal.error)).await;
}

async fn serve_session<F: SessionFactory>(
    request: StartupRequest,
    peer: Option<SocketAddr>,
    context: &ConnectionContext<F>,
) {
    let registration = context.cancel.register(request.version);
    let (sender, messages) = mpsc::channel(OUTLET_CAPACITY);
    let StartupRequest {
        socket,
        input,
        negotiate,
        user,
        database,
        settings,
        ..
    } = request;
    let end = context.shutdown.child_token();
    let mut link = Link::new(
        socket,
        input,
        MAX_AUTH_MESSAGE_BYTES,
        registration.signal.clone(),
        end.clone(),
        messages,
    );
    if let Some(negotiate) = negotiate {
        link.put(&negotiate);
    }
    let start = SessionStart {
        pid: registration.pid,
        peer,
        user,
        database,
        settings,
        outlet: Outlet(sender),
        reach: Reach {
            cancel: registration.signal.clone(),
            end,
        },
    };
    let begun = timeout(
        AUTHENTICATION_TIMEOUT,
        begin(&mut link, start, &registration, context),
    )
    .await;
    let fault = match begun {
        Ok(Ok(session)) => {
            let mut connection = Connection::new(link, session);
            let end = connection.run().await;
            // Portals hold streams that may need the session: they go first.
            connection.portals.clear();
            let Connection { link, .. } = connection;
            link.close(end.as_ref()).await;
            return;
        }
        Ok(Err(fault)) => fault,
        Err(_) => Fault::Error(PgError::fatal(
            SqlState::ProtocolViolation,
            "canceling authentication due to timeout",
        )),
    };
    // Whatever went wrong before the session existed ends the connection.
    match fault {
        Fault::Error(error) => {
            let error = PgError {
                severity: Severity::Fatal,
                ..error
            };
            link.close(Some(&error)).await;
        }
        Fault::Ended => {}
    }
}

/// Authenticates the client and makes its session; everything up to the first ReadyForQuery.
async fn begin<F: SessionFactory>(
    link: &mut Link,
    start: SessionStart,
    registration: &Registration,
    context: &ConnectionContext<F>,
) -> Result<F::Session, Fault> {
    if context.is_full {
        return Err(PgError::fatal(
            SqlState::TooManyConnections,
            "sorry, too many clients already",
        )
        .into());
    }
    authenticate(&context.auth, link, start.peer, &start.user).await?;
    let session = link.guard(context.factory.connect(start)).await??;
    for (name, value) in session.reported_parameters() {
        link.put(&ParameterStatus::new(name, value));
    }
    link.put(&BackendKeyData::new(
        registration.pid,
        registration.secret.clone(),
    ));
    link.set_max_message_bytes(context.max_message_bytes);
    Ok(session)
}

/// An authenticated connection with its session.
pub struct Connection<S: SqlSession> {
    pub link: Link,
    pub session: S,
    pub statements: HashMap<String, Arc<Prepared<S::Statement>>>,
    pub portals: HashMap<String, Portal<S::Statement>>,
    /// A statement of the extended protocol has run since the last ReadyForQuery.
    pub has_executed: bool,
    /// After an error in the extended protocol nothing is done until Sync.
    is_skipping_to_sync: bool,
}

impl<S: SqlSession> Connection<S> {
    fn new(link: Link, session: S) -> Connection<S> {
        Connection {
            link,
            session,
            statements: HashMap::new(),
            portals: HashMap::new(),
            has_executed: false,
            is_skipping_to_sync: false,
        }
    }

    /// Serves messages until the client leaves, or until the error that is returned.
    async fn run(&mut self) -> Option<PgError> {
        self.put_ready();
        loop {
            let handled = match self.link.next_frame().await {
                Ok(frame) => self.handle(frame).await,
                Err(fault) => Err(fault),
            };
            match handled {
                Ok(true) => {}
                Ok(false) | Err(Fault::Ended) => {
                    self.abandon();
                    return None;
                }
                Err(Fault::Error(error)) => {
                    self.abandon();
                    return Some(error);
                }
            }
        }
    }

    /// The connection ends: what the session has begun and not ended is rolled back.
    fn abandon(&mut self) {
        self.portals.clear();
        self.session.statement_failed(&PgError::fatal(
            SqlState::ConnectionException,
            "connection closed",
        ));
    }

    /// Handles one message. False: the client said goodbye. An error ends the connection.
    async fn handle(&mut self, frame: Frame) -> Result<bool, Fault> {
        if self.is_skipping_to_sync && !matches!(frame.tag, b'S' | b'X') {
            return Ok(true);
        }
        let is_extended = frame.is_extended();
        let message = match frame.parse() {
            Ok(message) => message,
            Err(error) => {
                self.fail(error)?;
                self.after_error(is_extended);
                return Ok(true);
            }
        };
        let done = match message {
            FrontendMessage::Terminate => return Ok(false),
            FrontendMessage::Query(sql) => {
                let done = self.simple_query(&sql).await;
                if let Err(fault) = done {
                    self.report(fault)?;
                }
                self.put_ready();
                return Ok(true);
            }
            FrontendMessage::FunctionCall => {
                self.fail(PgError::new(
                    SqlState::FeatureNotSupported,
                    "the function call protocol is not supported",
                ))?;
                self.put_ready();
                return Ok(true);
            }
            FrontendMessage::Sync => {
                self.is_skipping_to_sync = false;
                if let Err(fault) = self.sync_session().await {
                    self.report(fault)?;
                }
                self.put_ready();
                return Ok(true);
            }
            FrontendMessage::Flush => self.link.flush().await.map_err(Fault::from),
            FrontendMessage::CopyRemains => Ok(()),
            FrontendMessage::Parse {
                name,
                sql,
                parameter_oids,
            } => self.parse(name, sql, parameter_oids).await,
            FrontendMessage::Bind(bind) => self.bind(bind),
            FrontendMessage::Describe(target) => self.describe(target),
            FrontendMessage::Execute { portal, max_rows } => self.execute(&portal, max_rows).await,
            FrontendMessage::Close(target) => self.close_target(target),
        };
        if let Err(fault) = done {
            self.report(fault)?;
            self.is_skipping_to_sync = true;
        }
        Ok(true)
    }

    /// Ends the implicit transaction of a simple query or a pipeline.
    pub async fn sync_session(&mut self) -> Result<(), Fault> {
        self.link.guard(self.session.sync()).await??;
        Ok(())
    }

    /// Tells the client of an error and the session that its statement failed. A fatal error is handed back.
    fn report(&mut self, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::Error(error) => self.fail(error),
            Fault::Ended => Err(Fault::Ended),
        }
    }

    fn fail(&mut self, error: PgError) -> Result<(), Fault> {
        self.session.statement_failed(&error);
        self.put_notices();
        if error.severity == Severity::Fatal {
            return Err(error.into());
        }
        self.link.put_error(&error);
        Ok(())
    }

    fn after_error(&mut self, is_extended: bool) {
        if is_extended {
            self.is_skipping_to_sync = true;
        } else {
            self.put_ready();
        }
    }

    /// Notices and changes of reported settings that the session has gathered.
    pub fn put_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.link.put_notice(&notice);
        }
        for (name, value) in self.session.take_parameter_changes() {
            self.link.put(&ParameterStatus::new(name, value));
        }
        for deallocated in self.session.take_deallocated() {
            match deallocated {
                Deallocated::Named(name) => drop(self.statements.remove(&name)),
                Deallocated::All => self.statements.clear(),
            }
        }
    }

    fn put_ready(&mut self) {
        self.has_executed = false;
        self.session.rests();
        self.put_notices();
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => WireStatus::Idle,
            TransactionStatus::InTransaction => WireStatus::Transaction,
            TransactionStatus::Failed => WireStatus::Error,
        };
        // Portals live until their transaction ends.
        if status != WireStatus::Transaction {
            self.portals.clear();
        }
        self.put(&ReadyForQuery::new(status));
    }

    pub fn put(&mut self, message: &impl Message) {
        self.link.put(message);
    }
}
