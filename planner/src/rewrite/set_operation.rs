//! Captures EXCEPT and INTERSECT in a view's plan before DataFusion's rules turn them into something else.
//!
//! DataFusion's binder makes them anti and semi joins of all columns (of distinct rows, if without ALL), in which NULLs
//! are equal. No other clause gives such a join. With ALL that is not what they mean: `{a, a} EXCEPT ALL {a}` is `{a}`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, JoinType, NullEquality, Result, plan_err};
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, Extension, Join, LogicalPlan, Projection,
    UserDefinedLogicalNodeCore, cast,
};

use crate::plan::SetOperation;

/// EXCEPT or INTERSECT of two plans with the same columns; called as on the left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetOperationNode {
    pub operation: SetOperation,
    pub left: LogicalPlan,
    pub right: LogicalPlan,
}

/// `plan`, which is analysed, with its set operations as nodes of their own.
pub fn capture_set_operations(plan: LogicalPlan) -> Result<LogicalPlan> {
    let captured = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) if is_set_operation(&join) => Ok(Transformed::yes(captured(join)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(captured.data)
}

fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
        && join.on.len() == join.right.schema().fields().len()
}

fn captured(join: Join) -> Result<LogicalPlan> {
    let is_all = !matches!(*join.left, LogicalPlan::Distinct(Distinct::All(_)));
    let operation = match (join.join_type, is_all) {
        (JoinType::LeftAnti, false) => SetOperation::Except,
        (JoinType::LeftAnti, true) => SetOperation::ExceptAll,
        (_, false) => SetOperation::Intersect,
        (_, true) => SetOperation::IntersectAll,
    };
    let schema = Arc::clone(&join.schema);
    let left = match Arc::unwrap_or_clone(join.left) {
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        other => Arc::new(other),
    };
    let (of_left, of_right): (Vec<Expr>, Vec<Expr>) = join.on.into_iter().unzip();
    // Coercion has given both sides' keys one type; they are all the columns, in order.
    let of_left = keys(of_left, &left)?;
    let node = SetOperationNode {
        operation,
        left: LogicalPlan::Projection(Projection::try_new(of_left, left)?),
        right: LogicalPlan::Projection(Projection::try_new(of_right, join.right)?),
    };
    let columns = node.schema().columns();
    let plan = LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    });
    let output = columns
        .into_iter()
        .zip(schema.iter())
        .map(|(column, (qualifier, field))| {
            let expr = Expr::Column(column);
            let expr = if expr.get_type(plan.schema())? == *field.data_type() {
                expr
            } else {
                cast(expr, field.data_type().clone())
            };
            Ok(expr.alias_qualified(qualifier.cloned(), field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(
        output,
        Arc::new(plan),
    )?))
}

/// The keys with the names of the columns they are.
fn keys(keys: Vec<Expr>, plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let columns = plan.schema().columns();
    Ok(keys
        .into_iter()
        .zip(columns)
        .map(|(key, column)| match key {
            Expr::Column(_) => key,
            other => other.alias_qualified(column.relation, column.name),
        })
        .collect())
}

impl UserDefinedLogicalNodeCore for SetOperationNode {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.left.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetOperation: {:?}", self.operation)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([left, right]) => Ok(SetOperationNode {
                operation: self.operation,
                left,
                right,
            }),
            Err(inputs) => plan_err!("a set operation of {} inputs", inputs.len()),
        }
    }
}

impl PartialOrd for SetOperationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
