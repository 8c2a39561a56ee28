//! Lowers limits: `ORDER BY … LIMIT … OFFSET`, and filters on the place that a window function gives a row.
//!
//! `row_number() <= n` (with `rank` and `dense_rank`) arrives as a filter over a window node, which `DISTINCT ON` and
//! `WITH TIES` are rewritten to as well. It needs no window function over whole partitions, only their first rows.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunctionParams};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, FetchType, Filter, Limit, LogicalPlan, Operator, Projection, SkipType,
    Window, WindowFunctionDefinition,
};

use super::over::picked;
use super::window_close::window_first;
use super::{Lowered, Lowering, bound, column_index, internal, node_of};
use crate::describe::list;
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, Counting, PlanOp, Properties};
use crate::properties::{self, Lineage, TopNLimit, unaliased};

/// A filter over a window node that keeps the first rows of each partition.
pub(super) struct Ranked<'a> {
    window: &'a Window,
    params: &'a WindowFunctionParams,
    counting: Counting,
    fetch: u64,
    /// The columns that the filter sees, over those of the window node.
    columns: Vec<Expr>,
    /// What else the filter asks for, over the columns of the window node.
    rest: Option<Expr>,
}

impl<'a> Ranked<'a> {
    /// `None`: the filter does not bound the place of a row, or the node computes more than that.
    pub(super) fn of(filter: &'a Filter) -> Result<Option<Self>> {
        let Some((window, columns)) = window_below(&filter.input)? else {
            return Ok(None);
        };
        let [function] = window.window_expr.as_slice() else {
            return Ok(None);
        };
        let Expr::WindowFunction(function) = unaliased(function) else {
            return Ok(None);
        };
        let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else {
            return Ok(None);
        };
        let counting = match udf.name() {
            "row_number" => Counting::Rows,
            "rank" => Counting::Ties,
            "dense_rank" => Counting::Values,
            _ => return Ok(None),
        };
        let place = window.input.schema().fields().len();
        let (mut fetch, mut rest) = (None, Vec::new());
        for conjunct in split_conjunction(&filter.predicate) {
            let conjunct = replaced(conjunct.clone(), filter.input.schema(), &columns)?;
            match bound_of(&conjunct, window, place) {
                Some((most, is_exact)) => {
                    fetch = Some(fetch.map_or(most, |before: u64| before.min(most)));
                    if !is_exact {
                        rest.push(conjunct);
                    }
                }
                None => rest.push(conjunct),
            }
        }
        Ok(fetch.map(|fetch| Ranked {
            window,
            params: &function.params,
            counting,
            fetch,
            columns,
            rest: conjunction(rest),
        }))
    }
}

impl Lowering<'_> {
    /// The rows that the filter keeps, with all its columns.
    pub(super) fn ranked(&mut self, ranked: &Ranked<'_>, filter: &Filter) -> Result<Lowered> {
        let (columns, schema) = (ranked.columns.clone(), filter.input.schema());
        self.ranked_columns(ranked, &columns, schema.as_arrow())
    }

    /// A projection of the rows that the filter below it keeps.
    pub(super) fn project_ranked(
        &mut self,
        projection: &Projection,
        ranked: &Ranked<'_>,
    ) -> Result<Lowered> {
        let from = projection.input.schema();
        let exprs = projection
            .expr
            .iter()
            .map(|expr| replaced(expr.clone(), from, &ranked.columns))
            .collect::<Result<Vec<_>>>()?;
        self.ranked_columns(ranked, &exprs, projection.schema.as_arrow())
    }

    fn ranked_columns(
        &mut self,
        ranked: &Ranked<'_>,
        exprs: &[Expr],
        schema: &Schema,
    ) -> Result<Lowered> {
        let window = ranked.window;
        let input = self.lower(&window.input)?;
        let place = window.input.schema().fields().len();
        let is_used = |expr: &Expr| {
            expr.exists(|part| Ok(column_index(part, &window.schema) == Some(place)))
                .unwrap_or(true)
        };
        let is_numbered = exprs.iter().chain(&ranked.rest).any(is_used);
        let number = is_numbered.then(|| {
            let name = match ranked.counting {
                Counting::Rows => "row_number()",
                Counting::Ties => "rank()",
                Counting::Values => "dense_rank()",
            };
            let field = window.schema.field(place);
            field.as_ref().clone().with_name(name)
        });
        let limit = TopLimit {
            skip: 0,
            fetch: Some(ranked.fetch),
            counting: ranked.counting,
            number,
        };
        let (partition_by, order_by) = (&ranked.params.partition_by, &ranked.params.order_by);
        let from = window.input.schema();
        let mut lowered = self.top_n(input, from, partition_by, order_by, limit)?;
        let columns = lowered.node.schema.fields().len();
        if is_numbered && columns > place + 1 {
            // a constant column, of rows of which only the number was wanted
            let kept = (0..place).chain([columns - 1]);
            lowered = picked(lowered, kept, window.schema.as_arrow())?;
        }
        if let Some(rest) = &ranked.rest {
            lowered = super::filtered(lowered, rest, &window.schema)?;
        }
        let from = if is_numbered { &window.schema } else { from };
        super::projected(lowered, exprs, from, schema)
    }

    /// LIMIT and OFFSET, over a sort or not.
    pub(super) fn limit(&mut self, limit: &Limit) -> Result<Lowered> {
        let constant = |what: &str| PlanError::Unsupported {
            feature: format!("{what} with something else than a number in a materialized view"),
            hint: "write a number".to_string(),
        };
        let SkipType::Literal(skip) = limit.get_skip_type().map_err(internal)? else {
            return Err(constant("OFFSET"));
        };
        let FetchType::Literal(fetch) = limit.get_fetch_type().map_err(internal)? else {
            return Err(constant("LIMIT"));
        };
        self.limited(&limit.input, skip as u64, fetch.map(|fetch| fetch as u64))
    }

    fn limited(&mut self, input: &LogicalPlan, skip: u64, fetch: Option<u64>) -> Result<Lowered> {
        let (below, order_by) = match input {
            LogicalPlan::Projection(projection) if is_sorted(&projection.input) => {
                let lowered = self.limited(&projection.input, skip, fetch)?;
                let (from, schema) = (projection.input.schema(), projection.schema.as_arrow());
                return super::projected(lowered, &projection.expr, from, schema);
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => (&*sort.input, sort.expr.as_slice()),
            other => (other, &[][..]),
        };
        let lowered = self.lower(below)?;
        if skip == 0 && fetch.is_none() {
            return Ok(lowered);
        }
        let limit = TopLimit {
            skip,
            fetch,
            counting: Counting::Rows,
            number: None,
        };
        self.top_n(lowered, below.schema(), &[], order_by, limit)
    }

    fn top_n(
        &mut self,
        input: Lowered,
        from: &DFSchema,
        partition_by: &[Expr],
        order_by: &[SortExpr],
        limit: TopLimit,
    ) -> Result<Lowered> {
        let Lowered { node, lineage } = input;
        let names = node.schema.as_ref();
        let mut keys = partition_by
            .iter()
            .map(|key| bound(key, from, names))
            .collect::<Result<Vec<_>>>()?;
        let places: Vec<Option<usize>> = partition_by
            .iter()
            .map(|key| column_index(unaliased(key), from))
            .collect();
        let window = window_first(&mut keys, &places, &node);
        let order = ordered(order_by, from, &node.schema)?;
        let known = TopNLimit {
            keeps_one_row: limit.counting == Counting::Rows && limit.fetch == Some(1),
            is_bounded: limit.fetch.is_some(),
            is_numbered: limit.number.is_some(),
            is_unique: limit.counting == Counting::Rows,
        };
        let grows = match window {
            Some(_) => Vec::new(),
            None => {
                let known = &node.properties;
                growing(known, &lineage, partition_by, &places, limit.fetch)
            }
        };
        let (mut properties, lineage) =
            properties::of_top_n(&node.properties, &lineage, &places, known);
        properties.grows = grows;
        let mut fields: Vec<Field> = node
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        let is_numbered = limit.number.is_some();
        fields.extend(limit.number);
        let op = PlanOp::TopN {
            partition_by: keys,
            order_by: order,
            skip: limit.skip,
            fetch: limit.fetch,
            counting: limit.counting,
            is_numbered,
            window,
        };
        let schema = Arc::new(Schema::new(fields));
        Ok(Lowered {
            node: node_of(op, vec![node], schema, properties),
            lineage,
        })
    }
}

struct TopLimit {
    skip: u64,
    fetch: Option<u64>,
    counting: Counting,
    /// The column that says a row's place, if it is wanted.
    number: Option<Field>,
}

/// What an ORDER BY sorts by.
pub(super) fn ordered(
    order_by: &[SortExpr],
    from: &DFSchema,
    names: &Schema,
) -> Result<Vec<(BoundExpr, SortOptions)>> {
    order_by
        .iter()
        .map(|sort| {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            Ok((bound(&sort.expr, from, names)?, options))
        })
        .collect()
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Projection(projection) => is_sorted(&projection.input),
        _ => false,
    }
}

/// The window node below projections of plain columns, and the columns above as expressions over its own.
fn window_below(plan: &LogicalPlan) -> Result<Option<(&Window, Vec<Expr>)>> {
    match plan {
        LogicalPlan::Window(window) => {
            let columns = window.schema.columns();
            Ok(Some((
                window,
                columns.into_iter().map(Expr::Column).collect(),
            )))
        }
        LogicalPlan::SubqueryAlias(alias) => window_below(&alias.input),
        LogicalPlan::Projection(projection)
            if projection.expr.iter().all(|e| is_plain(unaliased(e))) =>
        {
            let Some((window, below)) = window_below(&projection.input)? else {
                return Ok(None);
            };
            let from = projection.input.schema();
            let columns = projection
                .expr
                .iter()
                .map(|expr| replaced(unaliased(expr).clone(), from, &below))
                .collect::<Result<Vec<_>>>()?;
            Ok(Some((window, columns)))
        }
        _ => Ok(None),
    }
}

fn is_plain(expr: &Expr) -> bool {
    matches!(without_cast(expr), Expr::Column(_))
}

/// `expr` without a cast between integers around it.
fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() => without_cast(expr),
        other => other,
    }
}

/// `expr` with the columns of `from` replaced by what `columns` says of them.
fn replaced(expr: Expr, from: &DFSchema, columns: &[Expr]) -> Result<Expr> {
    let replaced = expr.transform(|part| {
        Ok(match column_index(&part, from) {
            Some(index) => Transformed::yes(columns[index].clone()),
            None => Transformed::no(part),
        })
    });
    Ok(replaced.map_err(internal)?.data)
}

/// The highest place that `conjunct` lets pass, and whether it says no more than that.
fn bound_of(conjunct: &Expr, window: &Window, place: usize) -> Option<(u64, bool)> {
    let is_place = |expr: &Expr| column_index(without_cast(expr), &window.schema) == Some(place);
    let (op, most) = match conjunct {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_place(left) => (*op, number(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_place(right) => {
            (op.swap()?, number(left)?)
        }
        Expr::Between(between) if !between.negated && is_place(&between.expr) => {
            return Some((places(number(&between.high)?), false));
        }
        _ => return None,
    };
    match op {
        Operator::LtEq => Some((places(most), true)),
        Operator::Lt => Some((places(most - 1), true)),
        Operator::Eq => Some((places(most), most == 1)),
        _ => None,
    }
}

fn places(most: i128) -> u64 {
    u64::try_from(most.max(0)).unwrap_or(u64::MAX)
}

fn number(expr: &Expr) -> Option<i128> {
    match without_cast(expr) {
        Expr::Literal(value, _) => match value {
            ScalarValue::Int32(Some(number)) => Some(i128::from(*number)),
            ScalarValue::Int64(Some(number)) => Some(i128::from(*number)),
            ScalarValue::UInt64(Some(number)) => Some(i128::from(*number)),
            ScalarValue::Decimal128(Some(number), _, 0) => Some(*number),
            _ => None,
        },
        _ => None,
    }
}

/// Sentences about state that nothing bounds.
fn growing(
    input: &Properties,
    lineage: &Lineage,
    partition_by: &[Expr],
    places: &[Option<usize>],
    fetch: Option<u64>,
) -> Vec<String> {
    let is_windowed = places
        .iter()
        .flatten()
        .any(|c| lineage.windowed.get(*c) == Some(&true));
    if lineage.unbounded.is_empty() {
        return Vec::new();
    }
    let of = lineage.unbounded.join(", ");
    if is_windowed {
        return vec![format!(
            "LIMIT, DISTINCT ON or a rank per window keeps every window of source {of}, since no watermark says when one is \
             over; declare WATERMARK FOR its time to bound it"
        )];
    }
    if !input.append_only || fetch.is_none() {
        return vec![format!(
            "LIMIT, DISTINCT ON or a rank keeps every row that it may have to show one day, and those of source {of} \
             never end; partition by a window (TUMBLE, HOP) to bound it"
        )];
    }
    match partition_by {
        [] => Vec::new(),
        keys => vec![format!(
            "the first rows of every {} of source {of} are kept, and each new one adds to them; partition by a window \
             (TUMBLE, HOP) too to bound it",
            list(keys)
        )],
    }
}
