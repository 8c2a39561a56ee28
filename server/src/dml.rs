//! INSERT, UPDATE and DELETE: old and new rows are computed on a snapshot and checked.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;
use rivermark_executor::api::TableWrite;
use rivermark_planner::ObjectId;
use rivermark_planner::catalog::{ColumnDef, Object, ObjectKind, TableDef};
use rivermark_planner::statement::{ObjectName, Statement};
use rivermark_planner::types::SqlType;

use crate::assignment::{assign, check_not_null, row_schema};
use crate::catalog::undefined_relation;
use crate::constraints::{RowRules, bind_rules};
use crate::dml_query::{self, Changed};
use crate::literal_rows::literal_rows;
use crate::parameters;
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::query::{collect, described};
use crate::session::Session;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// A table that a statement changes.
#[derive(Clone)]
pub struct Target {
    pub object: Arc<Object>,
    pub table: Arc<TableDef>,
}

impl Target {
    pub fn name(&self) -> &str {
        &self.object.name.name
    }

    /// The position of a column.
    pub fn column(&self, name: &str) -> Result<usize, PgError> {
        self.table
            .columns
            .iter()
            .position(|c| c.name == name)
            .ok_or_else(|| {
                let message = format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    self.name()
                );
                PgError::new(SqlState::UndefinedColumn, message)
            })
    }
}

/// What a statement does with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Delete,
}

/// An INSERT, UPDATE or DELETE and the table it changes.
#[derive(Clone)]
pub struct Dml {
    target: Target,
    statement: Changed,
    verb: Verb,
}

/// What a statement changes, and how many rows that are.
pub struct Change {
    pub write: TableWrite,
    pub rows: usize,
}

impl Dml {
    pub fn table(&self) -> ObjectId {
        self.target.object.id
    }

    /// The rows of an INSERT of constants, which need no query.
    fn literal_rows(&self) -> Option<RecordBatch> {
        if self.verb != Verb::Insert {
            return None;
        }
        let columns = &self.target.table.columns;
        let types = self
            .statement
            .columns
            .iter()
            .map(|column| columns[*column].data_type.clone());
        literal_rows(&self.statement.query, &types.collect::<Vec<SqlType>>())
    }

    /// The command tag after a change of so many rows.
    pub fn tag(&self, rows: usize) -> String {
        match self.verb {
            Verb::Insert => format!("INSERT 0 {rows}"),
            Verb::Update => format!("UPDATE {rows}"),
            Verb::Delete => format!("DELETE {rows}"),
        }
    }

    /// Old and new rows, of what the statement's query gave.
    fn change(
        self,
        planner: &StatementPlanner,
        batches: Vec<RecordBatch>,
        zone: &SessionTimeZone,
    ) -> Result<Change, PgError> {
        let table = self.table();
        let Dml {
            target, statement, ..
        } = self;
        let mut columns = statement.columns;
        let (delete, insert) = match self.verb {
            Verb::Insert => {
                if let Some(first) = batches.first().filter(|_| !columns.is_empty()) {
                    // the width of `SELECT *` is known only now
                    let width = first.num_columns();
                    dml_query::fit_columns(&mut columns, width, statement.are_listed)?;
                }
                if statement.is_width_open {
                    dml_query::refuse_generated(&target, &columns, dml_query::INSERTED)?;
                }
                let new = inserted(planner, &target, &columns, batches, zone)?;
                (None, Some(new))
            }
            Verb::Update => {
                let old = old_rows(&target, &batches)?;
                let new = updated(planner, &target, &columns, &batches, &old, zone)?;
                (Some(old), Some(new))
            }
            Verb::Delete => (Some(old_rows(&target, &batches)?), None),
        };
        let rows = insert
            .as_ref()
            .or(delete.as_ref())
            .map_or(0, RecordBatch::num_rows);
        let some = |rows: &RecordBatch| rows.num_rows() > 0;
        let write = TableWrite {
            table,
            delete: delete.filter(some),
            insert: insert.filter(some),
        };
        Ok(Change { write, rows })
    }
}

impl Session {
    /// The table that a statement changes; other relations can not be.
    fn target(&mut self, name: &ObjectName, verb: &str) -> Result<Target, PgError> {
        let names = self.namespace();
        let object = names.object(name).ok_or_else(|| undefined_relation(name))?;
        let hint = match &object.kind {
            ObjectKind::Table(table) => {
                if table.append_only && verb != "insert into" {
                    let message = format!(
                        "cannot {verb} table \"{}\": it is append-only",
                        object.name.name
                    );
                    return Err(PgError::new(SqlState::WrongObjectType, message));
                }
                let table = Arc::new(table.clone());
                return Ok(Target { object, table });
            }
            ObjectKind::Source(_) => {
                "A source's rows come from its topic. Write to the topic, or use a table."
            }
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => {
                "Change the tables that the view reads."
            }
        };
        let message = format!(
            "cannot {verb} {} \"{}\"",
            object.kind_name(),
            object.name.name
        );
        Err(PgError::new(SqlState::WrongObjectType, message).with_hint(hint))
    }

    /// The statement, if it is one that changes rows.
    pub fn dml(&mut self, statement: &Statement) -> Result<Dml, PgError> {
        let (target, statement, verb) = match statement {
            Statement::Insert(insert) => {
                let target = self.target(&dml_query::insert_table(insert)?, "insert into")?;
                let statement = dml_query::insert_query(insert, &target)?;
                (target, statement, Verb::Insert)
            }
            Statement::Update(update) => {
                let target = self.target(&dml_query::update_table(update)?, "update")?;
                let statement = dml_query::update_query(update, &target)?;
                (target, statement, Verb::Update)
            }
            Statement::Delete(delete) => {
                let target = self.target(&dml_query::delete_table(delete)?, "delete from")?;
                let statement = dml_query::delete_query(delete, &target)?;
                (target, statement, Verb::Delete)
            }
            other => {
                let message = format!("not a change of rows: {other:?}");
                return Err(PgError::new(SqlState::InternalError, message));
            }
        };
        Ok(Dml {
            target,
            statement,
            verb,
        })
    }

    /// What the statement changes of the rows that it sees now.
    pub async fn compute(&mut self, dml: &Dml, values: &[ScalarValue]) -> Result<Change, PgError> {
        let planner = self.planner("");
        let zone = self.shared.settings.lock().time_zone();
        let (dml, values) = (dml.clone(), values.to_vec());
        let computed = async move {
            let batches = match dml.literal_rows() {
                Some(rows) => vec![rows],
                None => collect(&planner, &dml.statement.query, &values).await?,
            };
            dml.change(&planner, batches, &zone)
        };
        self.server.queries.clone().run(computed).await
    }

    /// The parameters of a statement that changes rows.
    pub async fn dml_parameters(
        &mut self,
        statement: &Statement,
        declared: &[Option<u32>],
    ) -> Result<Vec<FieldRef>, PgError> {
        let Dml {
            target, statement, ..
        } = self.dml(statement)?;
        if parameters::scan(&statement.query).0 == 0 {
            return Ok(Vec::new());
        }
        let known = statement.parameter_types(&target);
        let planner = self.planner("");
        let declared = declared.to_vec();
        let fields = async move {
            let (fields, _) = described(&planner, &statement.query, &declared, known).await?;
            Ok(fields)
        };
        self.server.queries.clone().run(fields).await
    }

    /// Checks that a new table's DEFAULT, CHECK and generation expressions can be bound.
    pub fn check_expressions(&mut self, table: &TableDef) -> Result<(), PgError> {
        let planner = self.planner("");
        bind_rules(&planner, table).map(|_| ())
    }
}

/// One batch of all rows.
fn concatenated(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, PgError> {
    Ok(concat_batches(schema, batches)?)
}

/// A batch of these columns; `rows` also holds where there are none.
fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, PgError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

/// The schema of rows that are not checked yet: every column may be NULL.
fn unchecked_schema(columns: &[ColumnDef]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|c| c.data_type.field(&c.name, true))
            .collect::<Vec<_>>(),
    ))
}

/// The rows that an INSERT stores. `columns` are the positions that the source's columns go to.
fn inserted(
    planner: &StatementPlanner,
    target: &Target,
    columns: &[usize],
    batches: Vec<RecordBatch>,
    zone: &SessionTimeZone,
) -> Result<RecordBatch, PgError> {
    let table = &target.table;
    let rules = bind_rules(planner, table)?;
    let mut stored = Vec::new();
    for source in batches.iter().filter(|b| b.num_rows() > 0) {
        let rows = source.num_rows();
        let mut values: Vec<Option<ArrayRef>> = vec![None; table.columns.len()];
        for (from, to) in columns.iter().enumerate() {
            values[*to] = Some(assign(source.column(from), &table.columns[*to], zone)?);
        }
        let mut arrays = Vec::with_capacity(values.len());
        for (i, value) in values.into_iter().enumerate() {
            arrays.push(match value {
                Some(value) => value,
                None => rules.default(i, rows, zone, &table.columns[i])?,
            });
        }
        let unchecked = batch(unchecked_schema(&table.columns), arrays, rows)?;
        stored.push(checked(&rules, target, unchecked, zone)?);
    }
    concatenated(&row_schema(&table.columns), &stored)
}

/// Fills generated columns and checks every constraint.
fn checked(
    rules: &RowRules,
    target: &Target,
    rows: RecordBatch,
    zone: &SessionTimeZone,
) -> Result<RecordBatch, PgError> {
    let columns = &target.table.columns;
    let count = rows.num_rows();
    let rows = rules.generate(rows, columns, zone)?;
    check_not_null(&rows, columns, target.name())?;
    rules.check(&rows, target.name())?;
    batch(row_schema(columns), rows.columns().to_vec(), count)
}

/// The rows that an UPDATE or DELETE takes away: the first columns of its query.
fn old_rows(target: &Target, batches: &[RecordBatch]) -> Result<RecordBatch, PgError> {
    let schema = row_schema(&target.table.columns);
    let width = schema.fields().len();
    let old = batches
        .iter()
        .map(|b| batch(schema.clone(), b.columns()[..width].to_vec(), b.num_rows()));
    concatenated(&schema, &old.collect::<Result<Vec<_>, _>>()?)
}

/// The rows that an UPDATE puts in their place: `columns` take the query's further columns, in order.
fn updated(
    planner: &StatementPlanner,
    target: &Target,
    columns: &[usize],
    batches: &[RecordBatch],
    old: &RecordBatch,
    zone: &SessionTimeZone,
) -> Result<RecordBatch, PgError> {
    let table = &target.table;
    let rules = bind_rules(planner, table)?;
    let width = table.columns.len();
    let mut stored = Vec::new();
    for source in batches.iter().filter(|b| b.num_rows() > 0) {
        let mut arrays = source.columns()[..width].to_vec();
        for (i, to) in columns.iter().enumerate() {
            arrays[*to] = assign(source.column(width + i), &table.columns[*to], zone)?;
        }
        let unchecked = batch(unchecked_schema(&table.columns), arrays, source.num_rows())?;
        stored.push(checked(&rules, target, unchecked, zone)?);
    }
    let new = concatenated(&row_schema(&table.columns), &stored)?;
    assert_eq!(
        new.num_rows(),
        old.num_rows(),
        "an UPDATE has one new row per old row"
    );
    Ok(new)
}
