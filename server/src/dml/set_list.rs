//! The SET list of an UPDATE or ON CONFLICT: which columns get which values.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem,
    SetExpr,
};
use rivermark_planner::names::fold;
use rivermark_planner::parse::{parse_expression, parse_query};
use rivermark_planner::types::SqlType;

use crate::dml::target::Target;
use crate::parameters;
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::sqlstate::SqlState;

/// Columns by position in the table, and the expressions of their values.
#[derive(Debug, Clone, Default)]
pub struct SetList {
    pub columns: Vec<usize>,
    pub values: Vec<Expr>,
    /// Parameters that are assigned to a column as they are: number and position in the table.
    pub assigned: Vec<(usize, usize)>,
}

impl SetList {
    pub fn of(
        assignments: &[ast::Assignment],
        target: &Target,
        planner: &StatementPlanner,
    ) -> Result<SetList, PgError> {
        let mut list = SetList::default();
        for assignment in assignments {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    list.add(name, assignment.value.clone(), target)?;
                }
                AssignmentTarget::Tuple(names) => {
                    let values = row_values(&assignment.value, names.len(), planner)?;
                    for (name, value) in names.iter().zip(values) {
                        list.add(name, value, target)?;
                    }
                }
            }
        }
        Ok(list)
    }

    fn add(&mut self, name: &ast::ObjectName, value: Expr, target: &Target) -> Result<(), PgError> {
        let column = target_column(name, target)?;
        if self.columns.contains(&column) {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err(PgError::new(SqlState::SyntaxError, message));
        }
        let value = if is_default(&value) {
            default_of(target, column)?
        } else {
            refuse_generated(target, column)?;
            match parameters::number(&value) {
                Some(number) => {
                    self.assigned.push((number, column));
                    typed(value, target, column)?
                }
                None => value,
            }
        };
        self.columns.push(column);
        self.values.push(value);
        Ok(())
    }

    /// The values as items of a select list.
    pub fn items(&self) -> impl Iterator<Item = SelectItem> {
        self.values.iter().enumerate().map(|(i, expr)| {
            let (expr, alias) = (expr.clone(), ast::Ident::new(format!("rm_new_{i}")));
            SelectItem::ExprWithAlias { expr, alias }
        })
    }
}

/// The column that stands left of an assignment's `=`.
fn target_column(name: &ast::ObjectName, target: &Target) -> Result<usize, PgError> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(fold))
        .collect();
    match parts.as_deref() {
        Some([name]) => target.column(name),
        Some([first, ..]) => {
            let hint = "SET target columns cannot be qualified with the relation name.";
            match target.column(first) {
                Err(error) if *first == fold(&target.alias) => Err(error.with_hint(hint)),
                Err(error) => Err(error),
                Ok(_) => Err(PgError::new(
                    SqlState::FeatureNotSupported,
                    format!("assigning to a part of a column ({name}) is not supported"),
                )
                .with_hint("Assign the whole value.")),
            }
        }
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            format!("syntax error at \"{name}\""),
        )),
    }
}

/// Generated columns take no values.
fn refuse_generated(target: &Target, column: usize) -> Result<(), PgError> {
    let column = &target.table.columns[column];
    if column.generated.is_none() {
        return Ok(());
    }
    let message = format!("column \"{}\" can only be updated to DEFAULT", column.name);
    let detail = format!("Column \"{}\" is a generated column.", column.name);
    Err(PgError::new(SqlState::GeneratedAlways, message).with_detail(detail))
}

/// Whether a value is the word DEFAULT.
pub fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A column's DEFAULT as an expression.
pub fn default_of(target: &Target, column: usize) -> Result<Expr, PgError> {
    let text = target.table.columns[column]
        .default
        .as_deref()
        .unwrap_or("NULL");
    Ok(parse_expression(text)?)
}

/// A value cast to the type of the column that takes it; texts keep their length, which assignment checks.
pub fn typed(value: Expr, target: &Target, column: usize) -> Result<Expr, PgError> {
    let text = match &target.table.columns[column].data_type {
        SqlType::Text { .. } => format!("CAST({value} AS TEXT)"),
        data_type => format!("CAST({value} AS {data_type})"),
    };
    Ok(parse_expression(&text)?)
}

fn wrong_width() -> PgError {
    PgError::new(
        SqlState::SyntaxError,
        "number of columns does not match number of values",
    )
}

/// The values of `(a, b) = source`, one expression each.
fn row_values(
    source: &Expr,
    width: usize,
    planner: &StatementPlanner,
) -> Result<Vec<Expr>, PgError> {
    let values = match source {
        Expr::Tuple(values) => values.clone(),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &function.args else {
                return Err(wrong_width());
            };
            let values = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok(value.clone()),
                _ => Err(wrong_width()),
            });
            values.collect::<Result<_, _>>()?
        }
        Expr::Subquery(query) => {
            let column = |i| subquery_column(query, i, width, planner);
            return (0..width).map(column).collect();
        }
        _ => {
            let message =
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
            return Err(PgError::new(SqlState::FeatureNotSupported, message));
        }
    };
    if values.len() != width {
        return Err(wrong_width());
    }
    Ok(values)
}

/// One column of a subquery as a subquery of its own.
fn subquery_column(
    query: &ast::Query,
    column: usize,
    width: usize,
    planner: &StatementPlanner,
) -> Result<Expr, PgError> {
    let mut single = query.clone();
    if let SetExpr::Select(select) = single.body.as_mut()
        && select.distinct.is_none()
        && query.order_by.is_none()
        && select.projection.iter().all(|item| {
            matches!(
                item,
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
            )
        })
    {
        if select.projection.len() != width {
            return Err(wrong_width());
        }
        let aggregates: Vec<bool> = select
            .projection
            .iter()
            .map(|item| has_aggregate(item, planner))
            .collect();
        let mut item = select.projection.swap_remove(column);
        if aggregates.contains(&true) && !aggregates[column] && has_no_groups(select) {
            // What makes it one row stands in another column.
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item
            else {
                return Err(wrong_width());
            };
            let text = format!("CASE WHEN count(*) >= 0 THEN {expr} END");
            item = SelectItem::UnnamedExpr(parse_expression(&text)?);
        }
        select.projection = vec![item];
        return Ok(Expr::Subquery(Box::new(single)));
    }
    let names: Vec<String> = (0..width).map(|i| format!("rm_value_{i}")).collect();
    let text = format!(
        "SELECT {} FROM ({query}) AS rm_values({})",
        names[column],
        names.join(", ")
    );
    Ok(Expr::Subquery(parse_query(&text)?))
}

fn has_no_groups(select: &ast::Select) -> bool {
    match &select.group_by {
        ast::GroupByExpr::Expressions(exprs, _) => exprs.is_empty(),
        ast::GroupByExpr::All(_) => false,
    }
}

/// Whether an aggregate function is called, outside of window functions.
fn has_aggregate(item: &SelectItem, planner: &StatementPlanner) -> bool {
    let found = ast::visit_expressions(item, |expr| match expr {
        Expr::Function(function) if function.over.is_none() => {
            let name = function.name.0.last().and_then(|part| part.as_ident());
            let aggregates = planner.state.aggregate_functions();
            match name.is_some_and(|name| aggregates.contains_key(&fold(name))) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}
