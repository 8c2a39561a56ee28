//! INSERT, UPDATE, DELETE and TRUNCATE: old and new rows are computed on a snapshot and checked.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use rivermark_executor::api::TableWrite;
use rivermark_planner::ObjectId;
use rivermark_planner::security::Privilege;
use rivermark_planner::statement::Statement;
use rivermark_planner::types::SqlType;

use crate::dml::literal_rows::literal_rows;
use crate::dml::once::once_each;
pub use crate::dml::returning::Returned;
use crate::dml::returning::{Returning, Sight};
use crate::dml::row_query::{JoinedColumns, RowQuery};
use crate::dml::rows::gathered;
use crate::dml::target::{Target, Verb, changed_table};
use crate::dml::upsert::{OnConflict, Upserted, insert_alias, upsert};
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::query::{collect, collected};
use crate::session::Session;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

pub mod given_rows;
mod insert;
mod literal_rows;
mod literals;
mod once;
pub mod recent;
mod returning;
mod row_query;
pub mod rows;
mod set_list;
mod shape;
pub mod target;
mod update;
mod upsert;

/// A statement that changes rows, with the tables it changes.
#[derive(Clone)]
pub enum Dml {
    Rows(Arc<RowChange>),
    Truncate(Vec<Target>),
}

/// An INSERT, UPDATE or DELETE.
#[derive(Clone)]
pub struct RowChange {
    target: Target,
    verb: Verb,
    rows: RowQuery,
    /// Whoever changes the rows may not read them: errors do not show them.
    are_rows_hidden: bool,
    on_conflict: Option<OnConflict>,
    returning: Option<Returning>,
}

/// What a statement changes.
pub struct Change {
    /// One per table; none where nothing changes.
    pub writes: Vec<TableWrite>,
    /// How many rows that are.
    pub rows: usize,
    /// What the statement returns of them.
    pub returned: Option<Returned>,
}

impl Dml {
    pub fn tables(&self) -> Vec<ObjectId> {
        match self {
            Dml::Rows(change) => vec![change.target.object.id],
            Dml::Truncate(targets) => targets.iter().map(|target| target.object.id).collect(),
        }
    }

    /// Whether a key that others have taken since is no error: the statement decides anew.
    pub fn is_upsert(&self) -> bool {
        match self {
            Dml::Rows(change) => change.on_conflict.is_some(),
            Dml::Truncate(_) => false,
        }
    }

    /// The words of the command tag; the number of rows follows, but for TRUNCATE.
    pub fn tag_words(&self) -> &'static str {
        match self {
            Dml::Rows(change) => match change.verb {
                Verb::Insert | Verb::Copy => "INSERT 0",
                Verb::Update => "UPDATE",
                Verb::Delete | Verb::Truncate => "DELETE",
            },
            Dml::Truncate(_) => "TRUNCATE TABLE",
        }
    }

    /// The command tag after a change of so many rows.
    pub fn tag(&self, rows: usize) -> String {
        match self {
            Dml::Rows(_) => format!("{} {rows}", self.tag_words()),
            Dml::Truncate(_) => self.tag_words().to_string(),
        }
    }

    async fn change(
        self,
        mut planner: StatementPlanner,
        values: &[ScalarValue],
        zone: &SessionTimeZone,
    ) -> Result<Change, PgError> {
        match self {
            Dml::Rows(change) => change.run(&mut planner, values, zone).await,
            Dml::Truncate(targets) => {
                let mut writes = Vec::new();
                for target in &targets {
                    planner.unread = Some(target.object.id);
                    let query = update::all_rows_query(target)?;
                    let old = gathered(&collected(&planner, &query, &[]).await?)?;
                    writes.extend(write(target, Some(old.old_rows(target)?), None));
                }
                Ok(Change {
                    writes,
                    rows: 0,
                    returned: None,
                })
            }
        }
    }
}

/// A table's change, if it is one.
fn write(
    target: &Target,
    delete: Option<RecordBatch>,
    insert: Option<RecordBatch>,
) -> Option<TableWrite> {
    let some = |rows: &RecordBatch| rows.num_rows() > 0;
    let (delete, insert) = (delete.filter(some), insert.filter(some));
    let is_change = delete.is_some() || insert.is_some();
    is_change.then_some(TableWrite {
        table: target.object.id,
        delete,
        insert,
    })
}

impl RowChange {
    fn new(target: Target, verb: Verb, rows: RowQuery) -> RowChange {
        RowChange {
            target,
            verb,
            rows,
            are_rows_hidden: false,
            on_conflict: None,
            returning: None,
        }
    }

    /// The types of the columns that take an INSERT's values.
    fn inserted_types(&self) -> Vec<SqlType> {
        let columns = &self.target.table.columns;
        let types = self.rows.columns.iter();
        types.map(|at| columns[*at].data_type.clone()).collect()
    }

    /// Old and new rows, and what RETURNING says of them.
    async fn run(
        &self,
        planner: &mut StatementPlanner,
        values: &[ScalarValue],
        zone: &SessionTimeZone,
    ) -> Result<Change, PgError> {
        let target = &self.target;
        planner.unread = self.rows.is_blind.then_some(target.object.id);
        if self.verb == Verb::Insert {
            let batches = match literal_rows(&self.rows, &self.inserted_types(), values) {
                Some(rows) => vec![rows],
                None => collect(planner, &self.rows.query, values).await?,
            };
            let new = insert::inserted(&self.rows, planner, target, &batches, zone)?;
            drop(batches);
            let (delete, insert) = match &self.on_conflict {
                None => (None, new),
                Some(conflict) => {
                    let Upserted { delete, insert } =
                        upsert(planner, target, new, conflict, values, zone).await?;
                    (Some(delete), insert)
                }
            };
            return self
                .changed(planner, values, delete, Some(insert), None)
                .await;
        }
        let mut read = gathered(&collected(planner, &self.rows.query, values).await?)?;
        if self.rows.is_join {
            let places = once_each(&target.stored_rows(planner)?, &read.old_rows(target)?)?;
            read = read.taken(places)?;
        }
        let old = read.old_rows(target)?;
        let new = match self.verb {
            Verb::Update => {
                let new = read.new_rows(&self.rows, planner, target, zone);
                Some(new.map_err(|error| match self.are_rows_hidden {
                    true => PgError {
                        detail: None,
                        ..error
                    },
                    false => error,
                })?)
            }
            _ => None,
        };
        let width = target.table.columns.len() + self.rows.columns.len();
        let joined = read.behind(width);
        self.changed(planner, values, Some(old), new, Some(joined))
            .await
    }

    async fn changed(
        &self,
        planner: &mut StatementPlanner,
        values: &[ScalarValue],
        delete: Option<RecordBatch>,
        insert: Option<RecordBatch>,
        joined: Option<JoinedColumns>,
    ) -> Result<Change, PgError> {
        let shown = insert.as_ref().or(delete.as_ref());
        let rows = shown.map_or(0, RecordBatch::num_rows);
        let returned = match (&self.returning, shown) {
            (Some(returning), Some(shown)) => {
                let (fields, columns) = joined.unwrap_or_default();
                let sight = Sight {
                    rows: shown,
                    joined: &self.rows.joined,
                    fields,
                    columns,
                };
                Some(returning.run(planner, &sight, values).await?)
            }
            _ => None,
        };
        Ok(Change {
            writes: write(&self.target, delete, insert).into_iter().collect(),
            rows,
            returned,
        })
    }
}

impl Session {
    /// The statement, if it is one that changes rows.
    pub fn dml(&mut self, statement: &Statement) -> Result<Dml, PgError> {
        match statement {
            Statement::Insert(change) => {
                let body = &change.body;
                let name = insert::insert_table(body)?;
                let target = self.target(&name, insert_alias(body), Verb::Insert)?;
                let rows = insert::insert_query(change, &target)?;
                let mut change_of = RowChange::new(target, Verb::Insert, rows);
                if let Some(ast::OnInsert::OnConflict(clause)) = &body.on {
                    self.authorize_conflict(clause, &change_of.target)?;
                    let (target, planner) = (&change_of.target, self.planner(""));
                    let conflict = OnConflict::of(clause, &change.with, target, &planner)?;
                    change_of.on_conflict = Some(conflict);
                }
                self.returning(change_of, &body.returning, &change.with, &[])
            }
            Statement::Update(change) => {
                let body = &change.body;
                let (name, alias) = changed_table(&body.table)?;
                let target = self.target(&name, alias, Verb::Update)?;
                let rows = update::update_query(change, &target, &self.planner(""))?;
                let may_read = self.authorize_reading(&rows, &target)?;
                let change_of = RowChange {
                    are_rows_hidden: !may_read,
                    ..RowChange::new(target, Verb::Update, rows)
                };
                let from = update::update_from(body);
                self.returning(change_of, &body.returning, &change.with, from)
            }
            Statement::Delete(change) => {
                let body = &change.body;
                let (name, alias) = update::delete_table(body)?;
                let target = self.target(&name, alias, Verb::Delete)?;
                let rows = update::delete_query(change, &target, &self.planner(""))?;
                self.authorize_reading(&rows, &target)?;
                let change_of = RowChange::new(target, Verb::Delete, rows);
                let from = body.using.as_deref().unwrap_or_default();
                self.returning(change_of, &body.returning, &change.with, from)
            }
            Statement::Truncate { names } => {
                let mut targets: Vec<Target> = Vec::new();
                for name in names {
                    let target = self.target(name, None, Verb::Truncate)?;
                    if targets.iter().all(|t| t.object.id != target.object.id) {
                        targets.push(target);
                    }
                }
                Ok(Dml::Truncate(targets))
            }
            other => {
                let message = format!("not a change of rows: {other:?}");
                Err(PgError::new(SqlState::InternalError, message))
            }
        }
    }

    /// Whoever finds rows by what is in them, or computes with it, reads them. Gives whether the session may.
    fn authorize_reading(&mut self, rows: &RowQuery, target: &Target) -> Result<bool, PgError> {
        let names = self.namespace();
        match names.authorize(&target.object, Privilege::Select) {
            Err(_) if rows.is_blind => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Finding what is in conflict reads it, and DO UPDATE changes it.
    fn authorize_conflict(
        &mut self,
        clause: &ast::OnConflict,
        target: &Target,
    ) -> Result<(), PgError> {
        let names = self.namespace();
        let is_update = matches!(clause.action, ast::OnConflictAction::DoUpdate(_));
        if is_update {
            names.authorize(&target.object, Privilege::Update)?;
        }
        match is_update || clause.conflict_target.is_some() {
            true => names.authorize(&target.object, Privilege::Select),
            false => Ok(()),
        }
    }

    /// The change with its RETURNING clause; `from` is what it reads besides its table.
    fn returning(
        &mut self,
        mut change: RowChange,
        items: &Option<Vec<ast::SelectItem>>,
        with: &Option<ast::With>,
        from: &[ast::TableWithJoins],
    ) -> Result<Dml, PgError> {
        if let Some(items) = items {
            let (target, joined) = (&change.target, &change.rows.joined);
            let planner = self.planner("");
            planner.names.authorize(&target.object, Privilege::Select)?;
            let returning = Returning::of(items, with, target, from, joined, &planner)?;
            change.returning = Some(returning);
        }
        Ok(Dml::Rows(Arc::new(change)))
    }

    /// What the statement changes of the rows that it sees now.
    pub async fn compute(&mut self, dml: &Dml, values: &[ScalarValue]) -> Result<Change, PgError> {
        let planner = self.planner("");
        let zone = self.shared.settings.lock().time_zone();
        if dml.is_short(values) {
            return dml.clone().change(planner, values, &zone).await;
        }
        let (dml, values) = (dml.clone(), values.to_vec());
        let computed = async move { dml.change(planner, &values, &zone).await };
        self.server.queries.clone().run(computed).await
    }
}
