//! From a query to a streaming plan: binds, refuses what can not be maintained, optimises with an allow-list of rules,
//! and turns each node of DataFusion's logical plan into the node of an incremental operator.

mod aggregate;
mod optimize;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DataFusionError, NullHandling, ScalarValue};
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, Projection, TableScan, Unnest, Values, lit,
};

use crate::bind::bound_expr;
use crate::bind_error::{SourceText, plan_error};
use crate::catalog::{Catalog, DEFAULT_SCHEMA, QualifiedName};
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, PlanNode, PlanOp, Properties};
use crate::properties::{self, Lineage};

pub use view::{BoundView, PlannedView, ViewQuery, bind_view, plan_view};

/// A node with what lowering knows of its output.
struct Lowered {
    node: PlanNode,
    lineage: Lineage,
}

struct Lowering<'a> {
    catalog: &'a Catalog,
    notices: Vec<String>,
}

impl Lowering<'_> {
    fn lower(&mut self, plan: &LogicalPlan) -> Result<Lowered> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::Projection(projection) => self.project(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.lower(&filter.input)?;
                let predicate = bound(&filter.predicate, filter.input.schema())?;
                let Lowered { node, lineage } = input;
                let (schema, properties) = (Arc::clone(&node.schema), node.properties.clone());
                let op = PlanOp::Filter { predicate };
                Ok(Lowered {
                    node: node_of(op, vec![node], schema, properties),
                    lineage,
                })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Union(union) => self.union(&union.inputs, schema_of(plan)),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
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
        let columns: Vec<usize> = scan
            .projection
            .clone()
            .unwrap_or_else(|| (0..all.fields().len()).collect());
        let schema = all
            .project(&columns)
            .map_err(|error| PlanError::Internal(error.to_string()))?;
        let (properties, lineage) = properties::of_scan(object, &columns);
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
            let predicate = bound(filter, &scan.projected_schema)?;
            let (schema, properties) = (
                Arc::clone(&lowered.node.schema),
                lowered.node.properties.clone(),
            );
            lowered.node = node_of(
                PlanOp::Filter { predicate },
                vec![lowered.node],
                schema,
                properties,
            );
        }
        Ok(lowered)
    }

    fn project(&mut self, projection: &Projection) -> Result<Lowered> {
        let input = self.lower(&projection.input)?;
        let from = projection.input.schema();
        if is_identity(projection, from) {
            return Ok(input);
        }
        let mut exprs = projection
            .expr
            .iter()
            .map(|expr| bound(expr, from))
            .collect::<Result<Vec<_>>>()?;
        let mut schema = Arc::new(projection.schema.as_arrow().clone());
        let (properties, mut lineage) = properties::of_project(
            &projection.expr,
            &input.node.properties,
            &input.lineage,
            &|expr| column_index(expr, from),
        );
        if exprs.is_empty() {
            // nothing but the number of rows is wanted; a constant keeps every batch simple
            exprs.push(bound(&lit(0_i32), from)?);
            schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int32, false)]));
            lineage.windowed.push(false);
        }
        Ok(Lowered {
            node: node_of(
                PlanOp::Project { exprs },
                vec![input.node],
                schema,
                properties,
            ),
            lineage,
        })
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
        // pruned unions have a constant column that the logical schema lacks
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
        let properties = properties::of_unnest(&columns, &input.node.properties);
        let schema = Arc::new(unnest.schema.as_arrow().clone());
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
        let (properties, lineage) = properties::of_values(schema.fields().len());
        Lowered {
            node: node_of(PlanOp::Values { rows }, vec![], schema, properties),
            lineage,
        }
    }
}

fn node_of(
    op: PlanOp,
    inputs: Vec<PlanNode>,
    schema: SchemaRef,
    properties: Properties,
) -> PlanNode {
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

/// What runs for `expr`, whose columns are of `schema`.
fn bound(expr: &Expr, schema: &DFSchema) -> Result<BoundExpr> {
    bound_expr(properties::unaliased(expr).clone(), schema).map_err(internal)
}

fn column_index(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        _ => None,
    }
}

/// A projection that neither computes nor renames nor reorders.
fn is_identity(projection: &Projection, from: &DFSchema) -> bool {
    projection.expr.len() == from.fields().len()
        && projection.expr.iter().enumerate().all(|(i, expr)| {
            column_index(properties::unaliased(expr), from) == Some(i)
                && projection.schema.field(i).name() == from.field(i).name()
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
            let expr = bound(&row[i], &DFSchema::empty())?;
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
        LogicalPlan::Join(_) => (
            "JOIN",
            "make one view of each side and join them in queries",
        ),
        LogicalPlan::Window(_) => ("OVER", "compute it in the query that reads the view"),
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => {
            ("LIMIT", "put it into the query that reads the view")
        }
        LogicalPlan::Distinct(_) => ("DISTINCT ON", "use GROUP BY with first_value(x ORDER BY y)"),
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE", "store the closure in a table"),
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
