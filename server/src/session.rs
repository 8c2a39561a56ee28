//! One connection's session: its settings, transaction, prepared statements and cursors, behind the wire's boundary.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use rivermark_planner::Catalog;
use rivermark_planner::definition::is_secret_option;
use rivermark_planner::security::Privilege;
use rivermark_planner::statement::{ParsedStatement, Statement};

use crate::catalog::{DATABASE_NAME, Namespace};
use crate::channels::ChannelEffect;
use crate::copy_in::CopyIn;
use crate::cursors::Cursor;
use crate::dml::recent::RecentChange;
use crate::pg_error::{Notice, NoticeLevel, PgError};
use crate::plan_cache::PlanCache;
use crate::planning::States;
use crate::query_runtime::timed_out;
use crate::serve::ServerState;
use crate::session_api::{
    Deallocated, Execution, Outlet, ServerMessage, SessionFactory, SessionStart, SqlSession,
    StatementShape, TransactionStatus,
};
use crate::sessions::{SessionShared, SessionState};
use crate::settings::Settings;
use crate::sqlstate::SqlState;
use crate::transaction::{OpenTransaction, Transaction, in_failed_transaction};
use crate::wire::time_zone::SessionTimeZone;

/// A parsed statement, cheap to clone.
pub type SessionStatement = Arc<ParsedStatement>;

/// A statement that was prepared by SQL or by the Parse message.
#[derive(Clone)]
pub struct Prepared {
    pub statement: SessionStatement,
    /// Types of its parameters.
    pub parameters: Vec<arrow::datatypes::FieldRef>,
}

pub struct Session {
    pub server: Arc<ServerState>,
    pub shared: Arc<SessionShared>,
    pub transaction: Transaction,
    pub prepared: BTreeMap<String, Prepared>,
    pub cursors: BTreeMap<String, Cursor>,
    pub deallocated: Vec<Deallocated>,
    pub states: States,
    /// The COPY FROM STDIN that waits for data.
    pub copy: Option<CopyIn>,
    pub plans: PlanCache,
    pub recent_change: Option<RecentChange>,
    /// For what the client is to hear while a statement runs; the server's own sessions have none.
    pub outlet: Option<Outlet>,
    /// What the open transaction does to channels when it commits.
    pub channel_effects: Vec<ChannelEffect>,
    notices: Vec<Notice>,
    /// What the client was last told of its parameters.
    told: Vec<(&'static str, String)>,
}

impl Session {
    pub fn new(
        server: Arc<ServerState>,
        shared: Arc<SessionShared>,
        outlet: Option<Outlet>,
    ) -> Session {
        let told = shared.settings.lock().reported();
        Session {
            server,
            shared,
            transaction: Transaction::None,
            prepared: BTreeMap::new(),
            cursors: BTreeMap::new(),
            deallocated: Vec::new(),
            states: States::default(),
            copy: None,
            plans: PlanCache::default(),
            recent_change: None,
            outlet,
            channel_effects: Vec::new(),
            notices: Vec::new(),
            told,
        }
    }

    /// The names that the next statement sees.
    pub fn namespace(&mut self) -> Namespace {
        let snapshot = self.transaction.snapshot(&self.server.engine);
        *self.shared.catalog.write() = snapshot.catalog.clone();
        Namespace {
            snapshot,
            session: self.shared.clone(),
            server: self.server.clone(),
            written: self.transaction.written(),
        }
    }

    /// Queues a notice, if the client wants its level.
    pub fn notify(&mut self, notice: Notice) {
        let level = match notice.level {
            NoticeLevel::Warning => "warning",
            NoticeLevel::Notice => "notice",
            // INFO is sent whatever the setting
        };
        if self.shared.settings.lock().sends(level) {
            self.notices.push(notice);
        }
    }

    /// Sends a notice at once, while the statement goes on.
    pub fn notify_now(&mut self, notice: Notice) {
        let is_wanted = self.shared.settings.lock().sends("notice");
        let is_sent = |outlet: &Outlet| outlet.send(ServerMessage::Notice(notice.clone()));
        if is_wanted && !self.outlet.as_ref().is_some_and(is_sent) {
            self.notices.push(notice);
        }
    }

    /// The transaction block is over: so are its cursors and its settings.
    pub fn block_ends(&mut self, is_commit: bool) {
        self.cursors.clear();
        self.shared.settings.lock().end(is_commit);
        match is_commit {
            true => self.apply_channel_effects(),
            false => self.channel_effects.clear(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.sessions.remove(self.shared.pid);
        self.server.channels.unlisten(None, self.shared.pid);
    }
}

/// The statement as others may see it: never with a password or secret.
fn shown_text(statement: &ParsedStatement) -> &str {
    match &statement.statement {
        Statement::CreateRole { .. } => "CREATE ROLE",
        Statement::AlterRole { .. } => "ALTER ROLE",
        Statement::CreateSecret { .. } => "CREATE SECRET",
        Statement::CreateSource { def, .. } if def.options.keys().any(|o| is_secret_option(o)) => {
            "CREATE SOURCE"
        }
        _ => &statement.text,
    }
}

/// Whether a failed transaction block accepts the statement.
fn ends_block(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Commit | Statement::Rollback | Statement::RollbackTo { .. }
    )
}

#[async_trait]
impl SqlSession for Session {
    type Statement = SessionStatement;

    async fn parse(&mut self, sql: &str) -> Result<Vec<SessionStatement>, PgError> {
        match rivermark_planner::parse::parse(sql) {
            Ok(statements) => Ok(statements.into_iter().map(Arc::new).collect()),
            Err(error) => Err(error.into()),
        }
    }

    async fn describe(
        &mut self,
        statement: &SessionStatement,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError> {
        if matches!(self.transaction, Transaction::Failed(_)) && !ends_block(&statement.statement) {
            return Err(in_failed_transaction());
        }
        self.shape(statement, declared).await
    }

    async fn execute(
        &mut self,
        statement: &SessionStatement,
        parameters: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        if matches!(self.transaction, Transaction::Failed(_)) && !ends_block(&statement.statement) {
            return Err(in_failed_transaction());
        }
        self.shared.statement_begins(shown_text(statement));
        let timeout = self.shared.settings.lock().statement_timeout();
        match timeout {
            Some(timeout) => {
                match tokio::time::timeout(timeout, self.run(statement, parameters)).await {
                    Ok(result) => result,
                    Err(_) => Err(timed_out()),
                }
            }
            None => self.run(statement, parameters).await,
        }
    }

    fn begin_implicit(&mut self) {
        if matches!(self.transaction, Transaction::None) {
            self.transaction = Transaction::Implicit(OpenTransaction::default());
            self.shared.settings.lock().begin();
        }
    }

    async fn copy_data(&mut self, data: Bytes) -> Result<(), PgError> {
        self.read_copy(data).await
    }

    async fn copy_done(&mut self) -> Result<String, PgError> {
        self.end_copy().await
    }

    async fn copy_failed(&mut self, reason: &str) -> Result<(), PgError> {
        self.give_copy_up(reason).await
    }

    async fn sync(&mut self) -> Result<(), PgError> {
        self.commit_implicit().await
    }

    fn statement_failed(&mut self, _error: &PgError) {
        self.copy = None;
        match std::mem::take(&mut self.transaction) {
            Transaction::Block(mut open) | Transaction::Failed(mut open) => {
                if open.savepoints.is_empty() {
                    open = OpenTransaction::default();
                }
                self.transaction = Transaction::Failed(open);
                self.cursors.clear();
            }
            Transaction::None | Transaction::Implicit(_) => self.block_ends(false),
        }
    }

    fn rests(&mut self) {
        self.shared.rests(match self.transaction.status() {
            TransactionStatus::Idle => SessionState::Idle,
            TransactionStatus::InTransaction => SessionState::IdleInTransaction,
            TransactionStatus::Failed => SessionState::IdleInFailedTransaction,
        });
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.transaction.status()
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn reported_parameters(&self) -> Vec<(String, String)> {
        let reported = self.shared.settings.lock().reported();
        reported
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }

    fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        let now = self.shared.settings.lock().reported();
        let changes = now
            .iter()
            .filter(|parameter| !self.told.contains(parameter));
        let changes = changes
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        self.told = now;
        changes
    }

    fn time_zone(&self) -> SessionTimeZone {
        self.shared.settings.lock().time_zone()
    }

    fn statement_prepared(
        &mut self,
        name: &str,
        statement: &SessionStatement,
        shape: &StatementShape,
    ) {
        let prepared = Prepared {
            statement: statement.clone(),
            parameters: shape.parameters.clone(),
        };
        self.prepared.insert(name.to_string(), prepared);
    }

    fn statement_closed(&mut self, name: &str) {
        self.prepared.remove(name);
    }

    fn take_deallocated(&mut self) -> Vec<Deallocated> {
        std::mem::take(&mut self.deallocated)
    }
}

/// How many sessions the user may have; an error if it may have none.
fn login_limit(catalog: &Catalog, user: &str) -> Result<Option<u32>, PgError> {
    let Some(role) = catalog.security.role(user) else {
        // only where users are taken at their word
        return Ok(None);
    };
    if !role.can_login {
        let message = format!("role \"{user}\" is not permitted to log in");
        let state = SqlState::InvalidAuthorizationSpecification;
        return Err(PgError::fatal(state, message));
    }
    if !catalog.may_in_database(user, Privilege::Connect) {
        let message = format!("permission denied for database \"{DATABASE_NAME}\"");
        let error = PgError::fatal(SqlState::InsufficientPrivilege, message);
        return Err(error.with_detail("User does not have CONNECT privilege."));
    }
    Ok(role.connection_limit.filter(|_| !role.is_superuser))
}

/// Opens sessions on one server.
pub struct Connector(pub Arc<ServerState>);

#[async_trait]
impl SessionFactory for Connector {
    type Session = Session;

    async fn connect(&self, start: SessionStart) -> Result<Session, PgError> {
        // Clients that name no database ask for one called like the user.
        if start.database != DATABASE_NAME && start.database != start.user {
            let message = format!("database \"{}\" does not exist", start.database);
            let hint = format!("There is one database; its name is \"{DATABASE_NAME}\".");
            return Err(PgError::fatal(SqlState::InvalidCatalogName, message).with_hint(hint));
        }
        let parameters = start
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let settings =
            Settings::with_startup(parameters, &start.user).map_err(|error| PgError {
                severity: crate::pg_error::Severity::Fatal,
                ..PgError::from(error)
            })?;
        let catalog = self.0.engine.snapshot().catalog.clone();
        let limit = login_limit(&catalog, &start.user)?;
        let mut shared = SessionShared::new(
            start.pid,
            start.user,
            self.0.is_trusting,
            start.peer,
            settings,
            catalog,
        );
        shared.reach = Some(start.reach);
        shared.peers = self.0.sessions.clone();
        let shared = Arc::new(shared);
        let catalog = shared.catalog.read().clone();
        let role = shared.role(&catalog);
        let is_superuser = catalog.security.is_superuser(&role);
        shared.settings.lock().tell_superuser(is_superuser);
        if !self.0.sessions.add(&shared, limit) {
            let message = format!("too many connections for role \"{}\"", shared.user);
            return Err(PgError::fatal(SqlState::TooManyConnections, message));
        }
        Ok(Session::new(self.0.clone(), shared, Some(start.outlet)))
    }
}
