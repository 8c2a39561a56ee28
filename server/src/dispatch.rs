//! From a statement to what runs it: the one place that knows every kind of statement.

use datafusion::scalar::ScalarValue;
use rivermark_planner::statement::{Discarded, GrantOn, SetValue, Statement};

use crate::pg_error::{Notice, PgError};
use crate::session::{Session, SessionStatement};
use crate::session_api::{Deallocated, Execution, StatementShape};
use crate::sqlstate::SqlState;
use crate::{cursors, parameters, query};

/// A statement without rows.
fn done(tag: &str) -> Execution {
    Execution::Command {
        tag: tag.to_string(),
    }
}

/// The error for a statement that was sent to the wrong place.
fn misplaced(place: &str, statement: &Statement) -> PgError {
    let message = format!("not a {place}: {statement:?}");
    PgError::new(SqlState::InternalError, message)
}

impl Session {
    /// Runs a statement.
    pub async fn run(
        &mut self,
        statement: &SessionStatement,
        parameters: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        self.prepare_transaction(&statement.statement).await?;
        match &statement.statement {
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Truncate { .. } => self.change_rows(statement, parameters).await,
            Statement::Query(_)
            | Statement::Explain { .. }
            | Statement::ExplainRunning { .. }
            | Statement::CopyOut { .. }
            | Statement::CopyIn(_)
            | Statement::Show(_)
            | Statement::Describe { .. }
            | Statement::DeclareCursor { .. }
            | Statement::DeclareSubscription { .. }
            | Statement::CopySubscription { .. }
            | Statement::Subscribe(_)
            | Statement::Fetch { .. } => self.read(statement, parameters).await,
            Statement::Execute {
                name,
                parameters: values,
            } => Box::pin(self.execute_prepared(name, values)).await,
            Statement::Begin { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint { .. }
            | Statement::Release { .. }
            | Statement::RollbackTo { .. } => self
                .control_transaction(&statement.statement)
                .await
                .map(done),
            Statement::Flush => {
                self.server.engine.flush().await?;
                Ok(done("FLUSH"))
            }
            Statement::Vacuum => {
                // It rewrites what belongs to everybody.
                self.require_superuser("permission denied to vacuum")?;
                self.server.engine.compact().await?;
                Ok(done("VACUUM"))
            }
            Statement::Listen { .. } | Statement::Unlisten { .. } | Statement::Notify { .. } => {
                self.change_channels(&statement.statement).map(done)
            }
            Statement::Set { .. }
            | Statement::Reset { .. }
            | Statement::Prepare { .. }
            | Statement::Deallocate { .. }
            | Statement::CloseCursor { .. }
            | Statement::Discard(_) => self.change_session(statement).await,
            Statement::CreateSource { .. }
            | Statement::CreateTable { .. }
            | Statement::CreateView { .. }
            | Statement::CreateMaterializedView { .. }
            | Statement::CreateSchema { .. }
            | Statement::CreateIndex(_)
            | Statement::Drop { .. }
            | Statement::DropSchema { .. }
            | Statement::Alter { .. }
            | Statement::CreateRole { .. }
            | Statement::AlterRole { .. }
            | Statement::DropRole { .. }
            | Statement::CreateSecret { .. }
            | Statement::DropSecret { .. }
            | Statement::Grant(_)
            | Statement::AlterSchemaOwner { .. }
            | Statement::Reassign { .. }
            | Statement::DropOwned { .. }
            | Statement::Comment { .. } => self
                .define(&statement.statement, &statement.text)
                .await
                .map(done),
        }
    }

    /// Runs a statement that reads.
    async fn read(
        &mut self,
        statement: &SessionStatement,
        parameters: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let text = statement.text.as_str();
        match &statement.statement {
            Statement::Query(query) => self.select(query, text, parameters).await,
            Statement::Explain {
                analyze,
                verbose,
                statement: inner,
            } => {
                self.explain(inner, text, *analyze, *verbose, parameters)
                    .await
            }
            Statement::ExplainRunning { name } => query::explained(&self.explain_running(name)?),
            Statement::CopyOut { query, options } => self.copy_out(query, options, text).await,
            Statement::CopyIn(copy) => self.copy_in(copy),
            Statement::Show(show) => self.show(show),
            Statement::Describe { name } => self.describe_relation(name),
            Statement::DeclareCursor { name, query } => {
                self.declare_cursor(name, query, text).await
            }
            Statement::DeclareSubscription { name, subscribe } => {
                self.declare_subscription(name, subscribe).await
            }
            Statement::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Statement::CopySubscription { subscribe, options } => {
                self.copy_subscription(subscribe, options).await
            }
            Statement::Fetch {
                name,
                count,
                timeout,
            } => self.fetch(name, *count, timeout.as_deref()).await,
            other => Err(misplaced("reading statement", other)),
        }
    }

    fn change_channels(&mut self, statement: &Statement) -> Result<&'static str, PgError> {
        match statement {
            Statement::Listen { channel } => Ok(self.listen(channel)),
            Statement::Unlisten { channel } => Ok(self.unlisten(channel.as_deref())),
            Statement::Notify { channel, payload } => self.notify_channel(channel, payload),
            other => Err(misplaced("statement about channels", other)),
        }
    }

    /// Runs a statement that changes nothing but the session.
    async fn change_session(&mut self, statement: &SessionStatement) -> Result<Execution, PgError> {
        match &statement.statement {
            Statement::Set { name, value, local } => self.set(name, value, *local),
            Statement::Reset { name } => self.reset(name.as_deref()),
            Statement::Prepare {
                name,
                parameter_types,
                statement: inner,
            } => {
                self.prepare(name, parameter_types, inner, &statement.text)
                    .await
            }
            Statement::Deallocate { name } => self.deallocate(name.as_deref()),
            Statement::CloseCursor { name } => self.close_cursor(name.as_deref()),
            Statement::Discard(what) => self.discard(*what),
            other => Err(misplaced("statement about the session", other)),
        }
    }

    /// Runs a statement that changes the catalog; its tag.
    async fn define(&mut self, statement: &Statement, text: &str) -> Result<&'static str, PgError> {
        match statement {
            Statement::CreateRole { name, options } => self
                .create_role(name, options)
                .await
                .map(|()| "CREATE ROLE"),
            Statement::AlterRole { name, options } => {
                self.alter_role(name, options).await.map(|()| "ALTER ROLE")
            }
            Statement::DropRole { names, if_exists } => self
                .drop_roles(names, *if_exists)
                .await
                .map(|()| "DROP ROLE"),
            Statement::CreateSecret {
                name,
                value,
                if_not_exists,
            } => self
                .create_secret(name, value, *if_not_exists)
                .await
                .map(|()| "CREATE SECRET"),
            Statement::DropSecret { names, if_exists } => self
                .drop_secrets(names, *if_exists)
                .await
                .map(|()| "DROP SECRET"),
            Statement::AlterSchemaOwner { name, owner } => {
                self.give_schema(name, owner).await.map(|()| "ALTER SCHEMA")
            }
            Statement::Reassign { from, to } => {
                self.reassign(from, to).await.map(|()| "REASSIGN OWNED")
            }
            Statement::DropOwned { names, cascade } => self
                .drop_owned(names, *cascade)
                .await
                .map(|()| "DROP OWNED"),
            Statement::Grant(grant) => {
                self.grant(grant).await?;
                Ok(match (&grant.on, grant.is_revoke) {
                    (GrantOn::Future { .. }, _) => "ALTER DEFAULT PRIVILEGES",
                    (_, true) => "REVOKE",
                    (_, false) => "GRANT",
                })
            }
            Statement::CreateSource {
                name,
                if_not_exists,
                def,
            } => self
                .create_source(name, *if_not_exists, def, text)
                .await
                .map(|()| "CREATE SOURCE"),
            Statement::CreateTable {
                name,
                if_not_exists,
                def,
            } => self
                .create_table(name, *if_not_exists, def, text)
                .await
                .map(|()| "CREATE TABLE"),
            Statement::CreateView {
                name,
                or_replace,
                columns,
                query,
            } => self
                .create_view(name, *or_replace, columns, query, text)
                .await
                .map(|()| "CREATE VIEW"),
            create @ Statement::CreateMaterializedView { .. } => self
                .create_materialized_view(create, text)
                .await
                .map(|()| "CREATE MATERIALIZED VIEW"),
            Statement::CreateSchema {
                name,
                if_not_exists,
            } => self
                .create_schema(name, *if_not_exists)
                .await
                .map(|()| "CREATE SCHEMA"),
            Statement::CreateIndex(create) => self
                .create_index(create, text)
                .await
                .map(|()| "CREATE INDEX"),
            Statement::Drop {
                kind,
                names,
                if_exists,
                cascade,
            } => {
                self.drop_relations(*kind, names, *if_exists, *cascade)
                    .await
            }
            Statement::DropSchema {
                names,
                if_exists,
                cascade,
            } => self
                .drop_schemas(names, *if_exists, *cascade)
                .await
                .map(|()| "DROP SCHEMA"),
            Statement::Alter {
                kind,
                name,
                if_exists,
                action,
            } => self.alter(*kind, name, *if_exists, action).await,
            Statement::Comment {
                name,
                column,
                comment,
                ..
            } => self
                .comment(name, column.as_deref(), comment.as_deref())
                .await
                .map(|()| "COMMENT"),
            other => Err(misplaced("definition", other)),
        }
    }

    /// What a statement takes and gives.
    pub async fn shape(
        &mut self,
        statement: &SessionStatement,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError> {
        let rows = |schema| {
            Ok(StatementShape {
                parameters: Vec::new(),
                result: Some(schema),
            })
        };
        match &statement.statement {
            Statement::Query(query) => self.query_shape(query, &statement.text, declared).await,
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Truncate { .. } => self.dml_shape(&statement.statement, declared).await,
            Statement::ExplainRunning { .. } => Ok(StatementShape {
                parameters: Vec::new(),
                result: Some(query::explain_schema()),
            }),
            Statement::Explain {
                statement: inner, ..
            } => {
                let parameters = match inner.as_ref() {
                    Statement::Query(query) => {
                        self.query_shape(query, &statement.text, declared)
                            .await?
                            .parameters
                    }
                    _ => Vec::new(),
                };
                Ok(StatementShape {
                    parameters,
                    result: Some(query::explain_schema()),
                })
            }
            Statement::Show(show) => rows(self.show_rows(show)?.schema()),
            Statement::Describe { name } => rows(self.describe_rows(name)?.schema()),
            Statement::Subscribe(subscribe) => rows(self.subscription_schema(subscribe)?),
            Statement::Fetch { name, .. } => rows(cursors::schema(&self.cursors, name)?),
            Statement::Execute { name, .. } => {
                let prepared = self.find_prepared(name)?;
                let oids = parameters::oids(&prepared.parameters);
                let shape = Box::pin(self.shape(&prepared.statement, &oids)).await?;
                Ok(StatementShape {
                    parameters: Vec::new(),
                    result: shape.result,
                })
            }
            Statement::CopyOut { .. }
            | Statement::CopyIn(_)
            | Statement::CreateSource { .. }
            | Statement::CreateTable { .. }
            | Statement::CreateView { .. }
            | Statement::CreateMaterializedView { .. }
            | Statement::CreateSchema { .. }
            | Statement::CreateIndex(_)
            | Statement::Drop { .. }
            | Statement::DropSchema { .. }
            | Statement::Alter { .. }
            | Statement::CreateRole { .. }
            | Statement::AlterRole { .. }
            | Statement::DropRole { .. }
            | Statement::CreateSecret { .. }
            | Statement::DropSecret { .. }
            | Statement::Grant(_)
            | Statement::AlterSchemaOwner { .. }
            | Statement::Reassign { .. }
            | Statement::DropOwned { .. }
            | Statement::Comment { .. }
            | Statement::Flush
            | Statement::Vacuum
            | Statement::Set { .. }
            | Statement::Reset { .. }
            | Statement::Begin { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint { .. }
            | Statement::Release { .. }
            | Statement::RollbackTo { .. }
            | Statement::CopySubscription { .. }
            | Statement::DeclareSubscription { .. }
            | Statement::Listen { .. }
            | Statement::Unlisten { .. }
            | Statement::Notify { .. }
            | Statement::Prepare { .. }
            | Statement::Deallocate { .. }
            | Statement::DeclareCursor { .. }
            | Statement::CloseCursor { .. }
            | Statement::Discard(_) => Ok(StatementShape {
                parameters: Vec::new(),
                result: None,
            }),
        }
    }

    fn set(&mut self, name: &str, value: &SetValue, is_local: bool) -> Result<Execution, PgError> {
        if is_local && !self.transaction.is_open() {
            let message = "SET LOCAL can only be used in transaction blocks";
            self.notify(Notice::warning(SqlState::NoActiveSqlTransaction, message));
        }
        let value = match value {
            SetValue::Default => None,
            SetValue::Value(values) => Some(values.join(", ")),
        };
        if name.eq_ignore_ascii_case("role") {
            self.check_role(value.as_deref().unwrap_or("none"))?;
        }
        self.shared
            .settings
            .lock()
            .set(name, value.as_deref(), is_local)?;
        Ok(done("SET"))
    }

    fn reset(&mut self, name: Option<&str>) -> Result<Execution, PgError> {
        let mut settings = self.shared.settings.lock();
        match name {
            Some(name) => settings.set(name, None, false).map(|_| ())?,
            None => settings.reset_all(),
        }
        Ok(done("RESET"))
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<Execution, PgError> {
        let Some(name) = name else {
            self.prepared.clear();
            self.deallocated.push(Deallocated::All);
            return Ok(done("DEALLOCATE ALL"));
        };
        self.find_prepared(name)?;
        self.prepared.remove(name);
        self.deallocated.push(Deallocated::Named(name.to_string()));
        Ok(done("DEALLOCATE"))
    }

    fn discard(&mut self, what: Discarded) -> Result<Execution, PgError> {
        match what {
            Discarded::All => {}
            Discarded::Plans => {
                self.plans.clear();
                return Ok(done("DISCARD PLANS"));
            }
            // There are none.
            Discarded::Sequences => return Ok(done("DISCARD SEQUENCES")),
            Discarded::Temporary => return Ok(done("DISCARD TEMP")),
        }
        self.prepared.clear();
        self.deallocated.push(Deallocated::All);
        self.cursors.clear();
        self.plans.clear();
        self.shared.settings.lock().reset_all();
        Ok(done("DISCARD ALL"))
    }
}
