//! INSERT, UPDATE and DELETE: rows are computed on a snapshot, checked, and given to the engine as one change.
//!
//! The engine refuses a change whose old rows are gone; the statement then runs again on a newer snapshot, a bounded
//! number of times.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::TableWrite;
use rivermark_planner::catalog::{ColumnDef, Object, ObjectKind, TableDef};
use rivermark_planner::statement::ObjectName;

use crate::assignment::{assign, check_not_null, row_schema};
use crate::catalog::undefined_relation;
use crate::constraints::{RowRules, bind_rules};
use crate::dml_query::{self, Changed};
use crate::parameters::{self, Found};
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::query::{collect, described};
use crate::session::Session;
use crate::session_api::Execution;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// How often a statement is run again because rows changed under it.
const ATTEMPTS: usize = 10;

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

/// What a statement's writes are.
struct Writes {
    delete: Option<RecordBatch>,
    insert: Option<RecordBatch>,
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

    /// Gives the writes to the engine, or keeps them until the transaction ends.
    async fn write(&mut self, target: &Target, writes: Writes) -> Result<(), ExecutorError> {
        if writes.delete.is_none() && writes.insert.is_none() {
            return Ok(());
        }
        let write = TableWrite {
            table: target.object.id,
            delete: writes.delete,
            insert: writes.insert,
        };
        if self.transaction.is_open() {
            self.transaction.defer(write);
            return Ok(());
        }
        self.server.engine.write(vec![write]).await.map(|_| ())
    }

    pub async fn insert(
        &mut self,
        insert: &ast::Insert,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let target = self.target(&dml_query::insert_table(insert)?, "insert into")?;
        let statement = dml_query::insert_query(insert, &target)?;
        for attempt in 1.. {
            let planner = self.planner("");
            let zone = self.shared.settings.lock().time_zone();
            let (work, values) = ((target.clone(), statement.clone()), values.to_vec());
            let computed = async move {
                let (target, statement) = work;
                let batches = collect(&planner, &statement.query, &values).await?;
                let mut columns = statement.columns;
                if let Some(first) = batches.first().filter(|_| !columns.is_empty()) {
                    // the width of `SELECT *` is known only now
                    dml_query::fit_columns(
                        &mut columns,
                        first.num_columns(),
                        statement.are_listed,
                    )?;
                }
                inserted(&planner, &target, &columns, batches, &zone)
            };
            let rows = self.server.queries.clone().run(computed).await?;
            let count = rows.num_rows();
            let insert = (count > 0).then_some(rows);
            match self
                .write(
                    &target,
                    Writes {
                        delete: None,
                        insert,
                    },
                )
                .await
            {
                Err(ExecutorError::Conflict) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    return Ok(Execution::Command {
                        tag: format!("INSERT 0 {count}"),
                    });
                }
            }
        }
        Err(conflict())
    }

    pub async fn update(
        &mut self,
        update: &ast::Statement,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let target = self.target(&dml_query::update_table(update)?, "update")?;
        let statement = dml_query::update_query(update, &target)?;
        self.change(target, statement, values, "UPDATE").await
    }

    pub async fn delete(
        &mut self,
        delete: &ast::Delete,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let target = self.target(&dml_query::delete_table(delete)?, "delete from")?;
        let statement = dml_query::delete_query(delete, &target)?;
        self.change(target, statement, values, "DELETE").await
    }

    /// Runs an UPDATE or DELETE, again if rows changed meanwhile.
    async fn change(
        &mut self,
        target: Target,
        statement: Changed,
        values: &[ScalarValue],
        tag: &str,
    ) -> Result<Execution, PgError> {
        for attempt in 1.. {
            let planner = self.planner("");
            let zone = self.shared.settings.lock().time_zone();
            let (work, values) = ((target.clone(), statement.clone()), values.to_vec());
            let is_delete = tag == "DELETE";
            let computed = async move {
                let (target, statement) = work;
                let batches = collect(&planner, &statement.query, &values).await?;
                let old = old_rows(&target, &batches)?;
                let new = match is_delete {
                    true => None,
                    false => Some(updated(
                        &planner,
                        &target,
                        &statement.columns,
                        &batches,
                        &old,
                        &zone,
                    )?),
                };
                Ok((old, new))
            };
            let (old, new) = self.server.queries.clone().run(computed).await?;
            let count = old.num_rows();
            let some = |rows: RecordBatch| (rows.num_rows() > 0).then_some(rows);
            let writes = Writes {
                delete: some(old),
                insert: new.and_then(some),
            };
            match self.write(&target, writes).await {
                Err(ExecutorError::Conflict) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    return Ok(Execution::Command {
                        tag: format!("{tag} {count}"),
                    });
                }
            }
        }
        Err(conflict())
    }

    pub async fn insert_parameters(
        &mut self,
        insert: &ast::Insert,
        declared: &[Option<u32>],
    ) -> Result<Vec<FieldRef>, PgError> {
        let target = self.target(&dml_query::insert_table(insert)?, "insert into")?;
        let statement = dml_query::insert_query(insert, &target)?;
        let known = statement.parameter_types(&target);
        self.dml_parameters(statement, declared, known).await
    }

    pub async fn update_parameters(
        &mut self,
        update: &ast::Statement,
        declared: &[Option<u32>],
    ) -> Result<Vec<FieldRef>, PgError> {
        let target = self.target(&dml_query::update_table(update)?, "update")?;
        let statement = dml_query::update_query(update, &target)?;
        let known = statement.parameter_types(&target);
        self.dml_parameters(statement, declared, known).await
    }

    pub async fn delete_parameters(
        &mut self,
        delete: &ast::Delete,
        declared: &[Option<u32>],
    ) -> Result<Vec<FieldRef>, PgError> {
        let target = self.target(&dml_query::delete_table(delete)?, "delete from")?;
        let statement = dml_query::delete_query(delete, &target)?;
        self.dml_parameters(statement, declared, Found::new()).await
    }

    async fn dml_parameters(
        &mut self,
        statement: Changed,
        declared: &[Option<u32>],
        known: Found,
    ) -> Result<Vec<FieldRef>, PgError> {
        if parameters::scan(&statement.query).0 == 0 {
            return Ok(Vec::new());
        }
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

fn conflict() -> PgError {
    PgError::from(ExecutorError::Conflict)
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
