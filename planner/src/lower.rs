//! From a query to a streaming plan: binds, refuses what can not be maintained, optimises with an allow-list of rules,
//! and turns each node of DataFusion's logical plan into the node of an incremental operator.

mod aggregate;
mod full_join;
mod grouping_sets;
mod interval_join;
mod join;
mod nearest;
mod optimize;
mod over;
mod panes;
mod session;
mod set_operation;
mod temporal;
mod top_n;
mod view;
pub(crate) mod window_close;

#[cfg(test)]
mod join_tests;
#[cfg(test)]
mod panes_tests;
#[cfg(test)]
mod temporal_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, NullHandling, ScalarValue};
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, Projection, TableScan, Unnest, Values, lit,
};

use crate::bind::bound_expr;
use crate::bind_error::{SourceText, plan_error};
use crate::catalog::{Catalog, DEFAULT_SCHEMA, ObjectKind, QualifiedName};
use crate::describe::describe;
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, PlanNode, PlanOp, Properties};
use crate::properties::{self, Lineage};

use top_n::Ranked;

pub use view::{BoundView, PlannedView, ViewQuery, bind_view, plan_view};

/// A node with what lowering knows of its output.
#[derive(Clone)]
struct Lowered {
    node: PlanNode,
    lineage: Lineage,
}

struct Lowering<'a> {
    catalog: &'a Catalog,
    notices: Vec<String>,
    emits_on_window_close: bool,
}

impl Lowering<'_> {
    fn lower(&mut self, plan: &LogicalPlan) -> Result<Lowered> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::Projection(projection) => self.project(projection),
            LogicalPlan::Filter(filter) => {
                if let Some(ranked) = Ranked::of(filter)? {
                    return self.ranked(&ranked, filter);
                }
                let input = self.lower(&filter.input)?;
                filtered(input, &filter.predicate, filter.input.schema())
            }
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Extension(extension) => self.extension(extension),
            LogicalPlan::Union(union) => self.union(&union.inputs, schema_of(plan)),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Values(values) => constant_rows(values).map(|rows| self.values(rows)),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let batch = if rows == 0 {
                    RecordBatch::new_empty(schema_of(plan))
                } else {
                    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
                        .map_err(|error| PlanError::Internal(error.to_string()))?
                };
                Ok(self.values(batch))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                self.notices.push(
                    "ORDER BY is ignored: the rows of a materialized view have no order; put it into the query that \
                     reads the view"
                        .to_string(),
                );
                self.lower(&sort.input)
            }
            other => Err(refused_node(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Lowered> {
        let name = QualifiedName {
            schema: scan
                .table_name
                .schema()
                .unwrap_or(DEFAULT_SCHEMA)
                .to_string(),
            name: scan.table_name.table().to_string(),
        };
        let object = self
            .catalog
            .find(&name)
            .ok_or_else(|| PlanError::Unsupported {
                feature: format!("a materialized view on {name}"),
                hint: "system views can only be read by queries".to_string(),
            })?;
        let all = scan.source.schema();
        let mut columns: Vec<usize> = scan
            .projection
            .clone()
            .unwrap_or_else(|| (0..all.fields().len()).collect());
        let is_counted = columns.is_empty();
        if is_counted && !matches!(object.kind, ObjectKind::Source(_)) && !all.fields().is_empty() {
            // Only of a source, where a column can fail to convert, does it matter which are read.
            columns.push(0);
        }
        let schema = all
            .project(&columns)
            .map_err(|error| PlanError::Internal(error.to_string()))?;
        let (properties, lineage) = properties::of_scan(object, &columns);
        if let ObjectKind::MaterializedView(view) = &object.kind
            && let Some(retention) = view.options.get("retention")
        {
            self.notices.push(format!(
                "materialized view \"{name}\" keeps rows for {retention}: the new view begins with those that are there, \
                 and keeps what it makes of them"
            ));
        }
        let op = PlanOp::Scan {
            object: object.id,
            name: name.to_string(),
            columns,
        };
        let mut lowered = Lowered {
            node: node_of(op, vec![], Arc::new(schema), properties),
            lineage,
        };
        for filter in &scan.filters {
            lowered = filtered(lowered, filter, &scan.projected_schema)?;
        }
        if is_counted {
            counted(lowered)
        } else {
            Ok(lowered)
        }
    }

    fn project(&mut self, projection: &Projection) -> Result<Lowered> {
        if let LogicalPlan::Filter(filter) = &*projection.input
            && let Some(ranked) = Ranked::of(filter)?
        {
            return self.project_ranked(projection, &ranked);
        }
        let input = self.lower(&projection.input)?;
        let (from, schema) = (projection.input.schema(), projection.schema.as_arrow());
        projected(input, &projection.expr, from, schema)
    }

    /// Rows that occur, once each.
    fn distinct(&mut self, input: &LogicalPlan) -> Result<Lowered> {
        let keys: Vec<Expr> = input
            .schema()
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect();
        self.group(input, &keys, &[], schema_of(input))
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: SchemaRef) -> Result<Lowered> {
        let inputs = inputs
            .iter()
            .map(|input| self.lower(input))
            .collect::<Result<Vec<_>>>()?;
        let known: Vec<_> = inputs
            .iter()
            .map(|i| (&i.node.properties, &i.lineage))
            .collect();
        // inputs of which only the number of rows is wanted have a constant column
        let schema = match inputs.first() {
            Some(first) if schema.fields().is_empty() => Arc::clone(&first.node.schema),
            _ => schema,
        };
        let (properties, lineage) = properties::of_union(&known, schema.fields().len());
        let nodes = inputs.into_iter().map(|input| input.node).collect();
        Ok(Lowered {
            node: node_of(PlanOp::UnionAll, nodes, schema, properties),
            lineage,
        })
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<Lowered> {
        let is_simple = unnest.struct_type_columns.is_empty()
            && unnest
                .list_type_columns
                .iter()
                .all(|(_, list)| list.depth == 1)
            && unnest.options.null_handling == NullHandling::Drop
            && unnest.dependency_indices.iter().copied().eq(0..unnest
                .input
                .schema()
                .fields()
                .len());
        if !is_simple {
            return Err(PlanError::Unsupported {
                feature: "this form of unnest() in a materialized view".to_string(),
                hint: "unnest one level of an array per SELECT".to_string(),
            });
        }
        let input = self.lower(&unnest.input)?;
        let mut columns: Vec<usize> = unnest
            .list_type_columns
            .iter()
            .map(|(index, _)| *index)
            .collect();
        columns.sort_unstable();
        let properties = properties::of_unnest(&input.node.properties);
        let types = unnest
            .schema
            .fields()
            .iter()
            .zip(input.node.schema.fields());
        let fields: Vec<Field> = types
            .map(|(field, named)| field.as_ref().clone().with_name(named.name()))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let node = node_of(
            PlanOp::Unnest { columns },
            vec![input.node],
            schema,
            properties,
        );
        Ok(Lowered {
            node,
            lineage: input.lineage,
        })
    }

    fn values(&mut self, rows: RecordBatch) -> Lowered {
        let schema = rows.schema();
        let (properties, lineage) = properties::of_values(rows.num_rows(), schema.fields().len());
        Lowered {
            node: node_of(PlanOp::Values { rows }, vec![], schema, properties),
            lineage,
        }
    }
}

/// The rows of `input`, whose columns DataFusion knows as `from`, for which `predicate` is true.
fn filtered(input: Lowered, predicate: &Expr, from: &DFSchema) -> Result<Lowered> {
    let (tests, rest) = temporal::split_tests(predicate);
    let Some(rest) = rest else {
        return temporal::time_filtered(input, &tests, from);
    };
    let predicate = bound(&rest, from, &input.node.schema)?;
    let Lowered { node, lineage } = input;
    let (schema, properties) = (Arc::clone(&node.schema), node.properties.clone());
    let op = PlanOp::Filter { predicate };
    let kept = Lowered {
        node: node_of(op, vec![node], schema, properties),
        lineage,
    };
    temporal::time_filtered(kept, &tests, from)
}

/// `exprs` of each row of `input`, whose columns DataFusion knows as `from`; the output's as `schema`.
fn projected(input: Lowered, exprs: &[Expr], from: &DFSchema, schema: &Schema) -> Result<Lowered> {
    if is_identity(exprs, schema, from, &input.node.schema) {
        return Ok(input);
    }
    if exprs.is_empty() {
        return counted(input);
    }
    let bound_exprs = exprs
        .iter()
        .map(|expr| bound(expr, from, &input.node.schema))
        .collect::<Result<Vec<_>>>()?;
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&bound_exprs)
        .zip(exprs)
        .map(|((field, bound), expr)| {
            let field = field.as_ref().clone();
            match expr {
                _ if field.name().starts_with(UNNEST_PREFIX) => {
                    field.with_name(format!("unnest({})", describe(&bound.logical)))
                }
                // goes by the name that it has here
                Expr::Column(_) => field.with_name(describe(&bound.logical)),
                _ => field,
            }
        })
        .collect();
    let known = &input.node.properties;
    let (properties, lineage) =
        properties::of_project(exprs, known, &input.lineage, &|e| column_index(e, from));
    let op = PlanOp::Project { exprs: bound_exprs };
    let schema = Arc::new(Schema::new(fields));
    Ok(Lowered {
        node: node_of(op, vec![input.node], schema, properties),
        lineage,
    })
}

fn node_of(
    op: PlanOp,
    inputs: Vec<PlanNode>,
    schema: SchemaRef,
    mut properties: Properties,
) -> PlanNode {
    // A monotone expression can give other things than times: a difference, a part of a date.
    properties
        .watermark_columns
        .retain(|column| properties::is_instant(schema.field(*column).data_type()));
    PlanNode {
        op,
        inputs,
        schema,
        properties,
    }
}

fn schema_of(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(plan.schema().as_arrow().clone())
}

fn internal(error: DataFusionError) -> PlanError {
    plan_error(error, SourceText::default())
}

/// How DataFusion names the columns that it is going to unnest.
const UNNEST_PREFIX: &str = "__unnest_placeholder";

/// What runs for `expr`, whose columns are of `from`. For EXPLAIN and the fingerprint they are called as in `names`,
/// which is the lowered form of `from`.
fn bound(expr: &Expr, from: &DFSchema, names: &Schema) -> Result<BoundExpr> {
    let mut bound = bound_expr(properties::unaliased(expr).clone(), from).map_err(internal)?;
    bound.logical = renamed_columns(bound.logical, from, names)?;
    Ok(bound)
}

/// `expr` with the columns of `from` called as in `names`.
fn renamed_columns(expr: Expr, from: &DFSchema, names: &Schema) -> Result<Expr> {
    let renamed = expr.transform(|part| match column_index(&part, from) {
        Some(index) if index < names.fields().len() => {
            let column = Column::new_unqualified(names.field(index).name());
            Ok(Transformed::yes(Expr::Column(column)))
        }
        _ => Ok(Transformed::no(part)),
    });
    Ok(renamed.map_err(internal)?.data)
}

/// A relation of which only the number of rows is wanted: one constant column keeps every batch simple.
fn counted(input: Lowered) -> Result<Lowered> {
    let one = bound(&lit(0_i32), &DFSchema::empty(), &Schema::empty())?;
    let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int32, false)]));
    let known = &input.node.properties;
    let properties = Properties {
        append_only: known.append_only,
        // one row stays one row
        stream_key: known.stream_key.clone().filter(Vec::is_empty),
        ..Properties::default()
    };
    let lineage = Lineage {
        windowed: vec![false],
        unbounded: input.lineage.unbounded,
    };
    let op = PlanOp::Project { exprs: vec![one] };
    Ok(Lowered {
        node: node_of(op, vec![input.node], schema, properties),
        lineage,
    })
}

fn column_index(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        _ => None,
    }
}

/// A projection that neither computes nor renames nor reorders.
fn is_identity(exprs: &[Expr], schema: &Schema, from: &DFSchema, names: &Schema) -> bool {
    exprs.len() == names.fields().len()
        && exprs.iter().enumerate().all(|(i, expr)| {
            let is_renamed =
                matches!(expr, Expr::Alias(_)) && schema.field(i).name() != names.field(i).name();
            column_index(properties::unaliased(expr), from) == Some(i) && !is_renamed
        })
}

fn constant_rows(values: &Values) -> Result<RecordBatch> {
    let schema = Arc::new(values.schema.as_arrow().clone());
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|error| PlanError::Internal(error.to_string()))?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (i, field) in schema.fields().iter().enumerate() {
        let mut scalars = Vec::with_capacity(values.values.len());
        for row in &values.values {
            let expr = bound(&row[i], &DFSchema::empty(), &Schema::empty())?;
            let value = expr
                .physical
                .evaluate(&one_row)
                .and_then(|value| value.into_array(1))
                .map_err(internal)?;
            let scalar = ScalarValue::try_from_array(&value, 0).map_err(internal)?;
            scalars.push(scalar.cast_to(field.data_type()).map_err(internal)?);
        }
        columns.push(ScalarValue::iter_to_array(scalars).map_err(internal)?);
    }
    RecordBatch::try_new(schema, columns).map_err(|error| PlanError::Internal(error.to_string()))
}

/// Nodes that the check of the query's text should have refused already, and those that no query gives.
fn refused_node(plan: &LogicalPlan) -> PlanError {
    let (feature, hint) = match plan {
        LogicalPlan::RecursiveQuery(_) => (
            "WITH RECURSIVE",
            "a view can not read itself; store the closure in a table and extend it by statements",
        ),
        LogicalPlan::Subquery(_) => ("a subquery", "make it a view of its own"),
        other => {
            return PlanError::Internal(format!("no streaming operator for {}", other.display()));
        }
    };
    PlanError::Unsupported {
        feature: format!("{feature} in a materialized view"),
        hint: hint.to_string(),
    }
}
