//! The queries behind INSERT, UPDATE and DELETE: which rows they take away and which values they bring.

use datafusion::sql::sqlparser::ast::{
    self, Expr, FromTable, Ident, SetExpr, TableFactor, TableObject, TableWithJoins,
};
use rivermark_planner::parse::{parse_expression, parse_query};
use rivermark_planner::statement::ObjectName;
use rivermark_planner::types::SqlType;

use crate::dml::Target;
use crate::parameters::{self, Found};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// A statement as a query. An INSERT's gives the new values of `columns`; an UPDATE's gives the table's columns
/// (the old rows), then the new values of `columns`; a DELETE's the old rows.
#[derive(Debug, Clone)]
pub struct Changed {
    pub query: ast::Query,
    /// Positions in the table.
    pub columns: Vec<usize>,
    /// Whether an INSERT names its columns.
    pub are_listed: bool,
    /// Whether only the rows say how many columns an INSERT fills (`SELECT *`).
    pub is_width_open: bool,
    /// Parameters that are assigned to a column as they are: number and position in the table.
    assigned: Vec<(usize, usize)>,
}

impl Changed {
    /// Types of parameters that columns say.
    pub fn parameter_types(&self, target: &Target) -> Found {
        let field = |column: usize| target.table.columns[column].data_type.field("", true);
        self.assigned
            .iter()
            .map(|(number, column)| (*number, field(*column)))
            .collect()
    }
}

fn unsupported(what: &str, hint: &str) -> PgError {
    PgError::new(
        SqlState::FeatureNotSupported,
        format!("{what} is not supported yet"),
    )
    .with_hint(hint)
}

/// A name as PostgreSQL folds it.
fn folded(ident: &Ident) -> String {
    rivermark_planner::names::fold(ident)
}

/// A relation's name; a database before it must be ours.
fn object_name(name: &ast::ObjectName) -> Result<ObjectName, PgError> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(folded))
        .collect();
    match parts.as_deref() {
        Some([name]) => Ok(ObjectName {
            schema: None,
            name: name.clone(),
        }),
        Some([schema, name]) => Ok(ObjectName {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
        Some([database, schema, name]) if database == crate::catalog::DATABASE_NAME => {
            Ok(ObjectName {
                schema: Some(schema.clone()),
                name: name.clone(),
            })
        }
        _ => {
            let message = format!("cross-database references are not implemented: \"{name}\"");
            Err(PgError::new(SqlState::FeatureNotSupported, message))
        }
    }
}

/// Refuses clauses that do not exist yet.
fn refuse(is_present: bool, what: &str, hint: &str) -> Result<(), PgError> {
    if is_present {
        Err(unsupported(what, hint))
    } else {
        Ok(())
    }
}

pub fn insert_table(insert: &ast::Insert) -> Result<ObjectName, PgError> {
    refuse(
        insert.on.is_some(),
        "ON CONFLICT",
        "Delete or update existing rows first.",
    )?;
    refuse(
        insert.returning.is_some(),
        "RETURNING",
        "SELECT the rows afterwards.",
    )?;
    match &insert.table {
        TableObject::TableName(name) => object_name(name),
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            "syntax error: INSERT takes a table's name",
        )),
    }
}

/// Whether a value is the word DEFAULT.
fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A column's DEFAULT as an expression.
fn default_of(target: &Target, column: usize) -> Result<Expr, PgError> {
    let text = target.table.columns[column]
        .default
        .as_deref()
        .unwrap_or("NULL");
    Ok(parse_expression(text)?)
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
        let name = folded(ident);
        let column = target.column(&name)?;
        if columns.contains(&column) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(PgError::new(SqlState::DuplicateColumn, message));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// What an INSERT would do to a generated column.
pub const INSERTED: &str = "insert a non-DEFAULT value into";

/// Generated columns take no values.
pub fn refuse_generated(target: &Target, columns: &[usize], verb: &str) -> Result<(), PgError> {
    let generated = columns
        .iter()
        .map(|c| &target.table.columns[*c])
        .find(|c| c.generated.is_some());
    match generated {
        Some(column) => {
            let message = format!("cannot {verb} column \"{}\"", column.name);
            let detail = format!("Column \"{}\" is a generated column.", column.name);
            Err(PgError::new(SqlState::GeneratedAlways, message).with_detail(detail))
        }
        None => Ok(()),
    }
}

pub fn insert_query(insert: &ast::Insert, target: &Target) -> Result<Changed, PgError> {
    let mut columns = insert_columns(insert, target)?;
    let Some(source) = &insert.source else {
        // INSERT INTO t DEFAULT VALUES: one row of defaults
        return Ok(Changed {
            query: *parse_query("SELECT 1")?,
            columns: Vec::new(),
            are_listed: false,
            is_width_open: false,
            assigned: Vec::new(),
        });
    };
    let mut query = source.as_ref().clone();
    let mut assigned = Vec::new();
    let width = match query.body.as_mut() {
        SetExpr::Values(values) => {
            let mut widths = values.rows.iter().map(|row| row.content.len());
            let width = widths.next().unwrap_or(0);
            if widths.any(|w| w != width) {
                return Err(PgError::new(
                    SqlState::SyntaxError,
                    "VALUES lists must all be the same length",
                ));
            }
            let generated: Vec<usize> = columns
                .iter()
                .copied()
                .filter(|c| target.table.columns[*c].generated.is_some())
                .collect();
            for row in &mut values.rows {
                for (cell, column) in row.content.iter_mut().zip(&columns) {
                    if is_default(cell) {
                        *cell = default_of(target, *column)?;
                    } else if generated.contains(column) {
                        refuse_generated(target, &[*column], INSERTED)?;
                    } else if let Some(number) = parameters::number(cell) {
                        assigned.push((number, *column));
                        *cell = typed(cell.clone(), target, *column)?;
                    }
                }
            }
            literals_as_texts(&mut values.rows, &columns, target);
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
    let are_listed = !insert.columns.is_empty();
    if let Some(width) = width {
        fit_columns(&mut columns, width, are_listed)?;
    }
    let is_width_open = width.is_none() && !are_listed;
    if !is_width_open && !matches!(*query.body, SetExpr::Values(_)) {
        refuse_generated(target, &columns, INSERTED)?;
    }
    Ok(Changed {
        query,
        columns,
        are_listed,
        is_width_open,
        assigned,
    })
}

/// Numbers beside texts become texts, so that the input function of the column's type reads all of them: a query would
/// give them one type first, which is none for `'NaN'` beside `1.5`, and no decimal holds `1e300`.
fn literals_as_texts(rows: &mut [ast::Parens<Vec<Expr>>], columns: &[usize], target: &Target) {
    for (at, column) in columns.iter().enumerate() {
        let data_type = &target.table.columns[*column].data_type;
        let takes_fractions = matches!(
            data_type,
            SqlType::Real | SqlType::Double | SqlType::Numeric { .. }
        );
        let cells = || rows.iter().filter_map(|row| row.content.get(at));
        let is_readable = |cell: &Expr| match literal(cell) {
            Some(Literal::Number(digits)) => {
                takes_fractions || digits.bytes().all(|b| b.is_ascii_digit())
            }
            Some(Literal::Text | Literal::Null) => true,
            None => false,
        };
        let is_special = |cell: &Expr| match literal(cell) {
            Some(Literal::Number(digits)) => digits.contains(['e', 'E']),
            Some(Literal::Text) => true,
            _ => false,
        };
        let is_number = takes_fractions
            || matches!(
                data_type,
                SqlType::SmallInt | SqlType::Integer | SqlType::BigInt
            );
        if !is_number || !cells().all(is_readable) || !cells().any(is_special) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.content.get_mut(at)) {
            if let Some(Literal::Number(_)) = literal(cell) {
                let text = cell.to_string().replace(' ', "");
                *cell = Expr::Value(ast::Value::SingleQuotedString(text).into());
            }
        }
    }
}

/// What a value in the text of a statement is.
enum Literal {
    /// Its digits, without a sign.
    Number(String),
    Text,
    Null,
}

fn literal(expr: &Expr) -> Option<Literal> {
    match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => Some(Literal::Number(digits.clone())),
            ast::Value::SingleQuotedString(_) => Some(Literal::Text),
            ast::Value::Null => Some(Literal::Null),
            _ => None,
        },
        Expr::UnaryOp {
            op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus,
            expr,
        } => match literal(expr)? {
            Literal::Number(digits) => Some(Literal::Number(digits)),
            _ => None,
        },
        _ => None,
    }
}

/// As many columns as there are values: without a column list, the first ones.
pub fn fit_columns(
    columns: &mut Vec<usize>,
    width: usize,
    are_listed: bool,
) -> Result<(), PgError> {
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

/// A parameter cast to the type of the column that takes it.
fn typed(parameter: Expr, target: &Target, column: usize) -> Result<Expr, PgError> {
    let text = format!(
        "CAST({parameter} AS {})",
        target.table.columns[column].data_type
    );
    Ok(parse_expression(&text)?)
}

/// The table and the name that its columns are qualified with.
fn single_table(table: &TableWithJoins, what: &str) -> Result<(ObjectName, Ident), PgError> {
    refuse(!table.joins.is_empty(), what, "Use a subquery in WHERE.")?;
    let TableFactor::Table { name, alias, .. } = &table.relation else {
        return Err(PgError::new(
            SqlState::SyntaxError,
            format!("syntax error: expected a table, not {}", table.relation),
        ));
    };
    let own = name.0.last().and_then(|part| part.as_ident()).cloned();
    let alias = alias.as_ref().map(|a| a.name.clone()).or(own);
    let alias = alias.ok_or_else(|| {
        PgError::new(SqlState::SyntaxError, format!("syntax error at \"{name}\""))
    })?;
    Ok((object_name(name)?, alias))
}

fn the_update(statement: &ast::Statement) -> Result<&ast::Update, PgError> {
    match statement {
        ast::Statement::Update(update) => Ok(update),
        other => Err(PgError::new(
            SqlState::InternalError,
            format!("not an UPDATE: {other}"),
        )),
    }
}

pub fn update_table(statement: &ast::Statement) -> Result<ObjectName, PgError> {
    let update = the_update(statement)?;
    refuse(
        update.from.is_some(),
        "UPDATE ... FROM",
        "Use a subquery in SET and WHERE.",
    )?;
    refuse(
        update.returning.is_some(),
        "RETURNING",
        "SELECT the rows afterwards.",
    )?;
    single_table(&update.table, "UPDATE of a join").map(|(name, _)| name)
}

pub fn update_query(statement: &ast::Statement, target: &Target) -> Result<Changed, PgError> {
    let update = the_update(statement)?;
    let (_, alias) = single_table(&update.table, "UPDATE of a join")?;
    let mut query = old_rows_query(
        target,
        &alias,
        update.table.clone(),
        update.selection.clone(),
    )?;
    let mut columns = Vec::new();
    let mut assigned = Vec::new();
    let mut values = Vec::new();
    for assignment in &update.assignments {
        let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(unsupported(
                "SET (a, b) = ...",
                "Assign each column by itself.",
            ));
        };
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else {
            return Err(PgError::new(
                SqlState::SyntaxError,
                format!("syntax error at \"{name}\""),
            ));
        };
        let column = target.column(&folded(ident))?;
        if columns.contains(&column) {
            let message = format!("multiple assignments to same column \"{}\"", folded(ident));
            return Err(PgError::new(SqlState::SyntaxError, message));
        }
        let value = if is_default(&assignment.value) {
            default_of(target, column)?
        } else {
            refuse_generated(target, &[column], "assign a value to")?;
            match parameters::number(&assignment.value) {
                Some(number) => {
                    assigned.push((number, column));
                    typed(assignment.value.clone(), target, column)?
                }
                None => assignment.value.clone(),
            }
        };
        columns.push(column);
        values.push(value);
    }
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(PgError::new(
            SqlState::InternalError,
            "the query of an UPDATE is a SELECT",
        ));
    };
    for (i, expr) in values.into_iter().enumerate() {
        let alias = Ident::new(format!("rm_new_{i}"));
        select
            .projection
            .push(ast::SelectItem::ExprWithAlias { expr, alias });
    }
    Ok(Changed {
        query,
        columns,
        are_listed: true,
        is_width_open: false,
        assigned,
    })
}

pub fn delete_table(delete: &ast::Delete) -> Result<ObjectName, PgError> {
    refuse(
        delete.using.is_some(),
        "DELETE ... USING",
        "Use a subquery in WHERE.",
    )?;
    refuse(
        delete.returning.is_some(),
        "RETURNING",
        "SELECT the rows first.",
    )?;
    single_table(deleted_from(delete)?, "DELETE from a join").map(|(name, _)| name)
}

fn deleted_from(delete: &ast::Delete) -> Result<&TableWithJoins, PgError> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    match tables.as_slice() {
        [table] => Ok(table),
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            "syntax error: DELETE takes one table",
        )),
    }
}

pub fn delete_query(delete: &ast::Delete, target: &Target) -> Result<Changed, PgError> {
    let table = deleted_from(delete)?;
    let (_, alias) = single_table(table, "DELETE from a join")?;
    let query = old_rows_query(target, &alias, table.clone(), delete.selection.clone())?;
    Ok(Changed {
        query,
        columns: Vec::new(),
        are_listed: false,
        is_width_open: false,
        assigned: Vec::new(),
    })
}

/// `SELECT every column FROM table WHERE condition`.
fn old_rows_query(
    target: &Target,
    alias: &Ident,
    table: TableWithJoins,
    selection: Option<Expr>,
) -> Result<ast::Query, PgError> {
    let mut query = *parse_query("SELECT 1")?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(PgError::new(
            SqlState::InternalError,
            "SELECT 1 is a SELECT",
        ));
    };
    let column = |name: &str| {
        let parts = vec![alias.clone(), rivermark_planner::names::ident(name)];
        ast::SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts))
    };
    select.projection = target
        .table
        .columns
        .iter()
        .map(|c| column(&c.name))
        .collect();
    select.from = vec![table];
    select.selection = selection;
    Ok(query)
}
