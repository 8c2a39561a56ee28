//! INSERT as a query for the values that it brings, and the rows that these become.

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::sql::sqlparser::ast::{self, SetExpr, TableObject};
use rivermark_planner::names::fold;
use rivermark_planner::parse::parse_query;
use rivermark_planner::statement::{Change, ObjectName};

use crate::assignment::{assign, row_schema};
use crate::constraints::bind_rules;
use crate::dml::literals::{literals_as_tagged, literals_as_texts};
use crate::dml::row_query::RowQuery;
use crate::dml::rows::{batch, checked, concatenated, unchecked_schema};
use crate::dml::set_list::{default_of, is_default, typed};
use crate::dml::target::{Target, object_name};
use crate::parameters;
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// The table that an INSERT names.
pub fn insert_table(insert: &ast::Insert) -> Result<ObjectName, PgError> {
    match &insert.table {
        TableObject::TableName(name) => object_name(name),
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            "syntax error: INSERT takes a table's name",
        )),
    }
}

/// Where an INSERT's values go.
fn insert_columns(insert: &ast::Insert, target: &Target) -> Result<Vec<usize>, PgError> {
    if insert.columns.is_empty() {
        return Ok((0..target.table.columns.len()).collect());
    }
    let mut columns = Vec::new();
    for name in &insert.columns {
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else {
            return Err(PgError::new(
                SqlState::SyntaxError,
                format!("syntax error at \"{name}\""),
            ));
        };
        let name = fold(ident);
        let column = target.column(&name)?;
        if columns.contains(&column) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(PgError::new(SqlState::DuplicateColumn, message));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// Generated columns take no values.
fn refuse_generated(target: &Target, columns: &[usize]) -> Result<(), PgError> {
    let generated = columns
        .iter()
        .map(|c| &target.table.columns[*c])
        .find(|c| c.generated.is_some());
    match generated {
        Some(column) => {
            let message = format!(
                "cannot insert a non-DEFAULT value into column \"{}\"",
                column.name
            );
            let detail = format!("Column \"{}\" is a generated column.", column.name);
            Err(PgError::new(SqlState::GeneratedAlways, message).with_detail(detail))
        }
        None => Ok(()),
    }
}

pub fn insert_query(change: &Change<ast::Insert>, target: &Target) -> Result<RowQuery, PgError> {
    let insert = &change.body;
    let columns = insert_columns(insert, target)?;
    let are_listed = !insert.columns.is_empty();
    let mut rows = RowQuery {
        // INSERT INTO t DEFAULT VALUES: one row of defaults
        query: *parse_query("SELECT 1")?,
        columns: Vec::new(),
        are_listed,
        is_width_open: false,
        assigned: Vec::new(),
        is_blind: false,
        is_join: false,
        joined: Vec::new(),
    };
    let Some(source) = &insert.source else {
        return Ok(rows);
    };
    rows.query = source.as_ref().clone();
    rows.columns = columns;
    let width = match rows.query.body.as_mut() {
        SetExpr::Values(values) => {
            let width = prepare_values(values, &rows.columns, target, &mut rows.assigned)?;
            Some(width)
        }
        SetExpr::Select(select) => {
            let is_plain = |item: &ast::SelectItem| {
                matches!(
                    item,
                    ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. }
                )
            };
            let width = select.projection.len();
            select.projection.iter().all(is_plain).then_some(width)
        }
        _ => None,
    };
    if let Some(width) = width {
        fit_columns(&mut rows.columns, width, are_listed)?;
    }
    rows.is_width_open = width.is_none() && !are_listed;
    if !rows.is_width_open && !matches!(*rows.query.body, SetExpr::Values(_)) {
        refuse_generated(target, &rows.columns)?;
    }
    if let Some(with) = &change.with {
        rows.query = within(with, rows.query)?;
    }
    Ok(rows)
}

/// The query with the queries of a WITH before it; those of its own WITH see them.
fn within(with: &ast::With, query: ast::Query) -> Result<ast::Query, PgError> {
    if query.with.is_none() {
        let with = Some(with.clone());
        return Ok(ast::Query { with, ..query });
    }
    let mut outer = *parse_query("SELECT 1")?;
    outer.with = Some(with.clone());
    *outer.body = SetExpr::Query(Box::new(query));
    Ok(outer)
}

/// Puts defaults in their places and types what has none; how many values a row has.
fn prepare_values(
    values: &mut ast::Values,
    columns: &[usize],
    target: &Target,
    assigned: &mut Vec<(usize, usize)>,
) -> Result<usize, PgError> {
    let mut widths = values.rows.iter().map(|row| row.content.len());
    let width = widths.next().unwrap_or(0);
    if widths.any(|w| w != width) {
        return Err(PgError::new(
            SqlState::SyntaxError,
            "VALUES lists must all be the same length",
        ));
    }
    // A default has a type of its own, which the values beside it take too.
    let has_default: Vec<bool> = (0..width)
        .map(|i| values.rows.iter().any(|row| is_default(&row.content[i])))
        .collect();
    for row in &mut values.rows {
        for ((cell, column), has_default) in row.content.iter_mut().zip(columns).zip(&has_default) {
            if is_default(cell) {
                *cell = typed(default_of(target, *column)?, target, *column)?;
                continue;
            }
            if *has_default && is_text(cell) {
                *cell = typed(cell.clone(), target, *column)?;
            }
            refuse_generated(target, &[*column])?;
            if let Some(number) = parameters::number(cell) {
                assigned.push((number, *column));
                *cell = typed(cell.clone(), target, *column)?;
            }
        }
    }
    literals_as_texts(&mut values.rows, columns, target);
    literals_as_tagged(&mut values.rows, columns, target)?;
    Ok(width)
}

fn is_text(value: &ast::Expr) -> bool {
    matches!(value, ast::Expr::Value(value) if matches!(value.value, ast::Value::SingleQuotedString(_)))
}

/// As many columns as there are values: without a column list, the first ones.
fn fit_columns(columns: &mut Vec<usize>, width: usize, are_listed: bool) -> Result<(), PgError> {
    if width > columns.len() {
        return Err(PgError::new(
            SqlState::SyntaxError,
            "INSERT has more expressions than target columns",
        ));
    }
    if width < columns.len() && are_listed {
        return Err(PgError::new(
            SqlState::SyntaxError,
            "INSERT has more target columns than expressions",
        ));
    }
    columns.truncate(width);
    Ok(())
}

/// The rows that an INSERT stores, in the order of the values.
pub fn inserted(
    rows: &RowQuery,
    planner: &StatementPlanner,
    target: &Target,
    batches: &[RecordBatch],
    zone: &SessionTimeZone,
) -> Result<RecordBatch, PgError> {
    let table = &target.table;
    let mut columns = rows.columns.clone();
    if let Some(first) = batches.first().filter(|_| !columns.is_empty()) {
        // the width of `SELECT *` is known only now
        fit_columns(&mut columns, first.num_columns(), rows.are_listed)?;
    }
    if rows.is_width_open {
        refuse_generated(target, &columns)?;
    }
    let rules = bind_rules(planner, table)?;
    let mut stored = Vec::new();
    for source in batches.iter().filter(|b| b.num_rows() > 0) {
        let count = source.num_rows();
        let mut values: Vec<Option<ArrayRef>> = vec![None; table.columns.len()];
        for (from, to) in columns.iter().enumerate() {
            values[*to] = Some(assign(source.column(from), &table.columns[*to], zone)?);
        }
        let mut arrays = Vec::with_capacity(values.len());
        for (i, value) in values.into_iter().enumerate() {
            arrays.push(match value {
                Some(value) => value,
                None => rules.default(i, count, zone, &table.columns[i])?,
            });
        }
        let unchecked = batch(unchecked_schema(&table.columns), arrays, count)?;
        stored.push(checked(&rules, target, unchecked, zone)?);
    }
    concatenated(&row_schema(&table.columns), &stored)
}
