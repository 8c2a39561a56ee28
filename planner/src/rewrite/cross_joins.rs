//! Optimizer rule: DataFusion's `eliminate_cross_join`, which joins by the equalities that there are instead of pairing
//! all rows. It takes a tree of inner joins apart and puts it together again, and loses on the way
//!
//! - an equality that belongs to no two of the inputs: of three of them, such as `x.a = COALESCE(y.a, z.a)`, which is what
//!   `NATURAL JOIN` of a full join means, or with a constant,
//! - whether NULLs are equal, where the joins differ in that.
//!
//! So such equalities become conditions before it begins, which it leaves alone.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{can_hash, conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// See the module.
#[derive(Debug, Default)]
pub struct ConnectedJoins {
    rule: EliminateCrossJoin,
}

impl OptimizerRule for ConnectedJoins {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let kept = plan.transform_down_with_subqueries(keep_conditions)?;
        kept.transform_data(|plan| self.rule.rewrite(plan, config))
    }
}

fn keep_conditions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(mut filter) => {
            // its equalities become keys of the joins below
            let is_plain = filter.predicate.exists(|part| {
                Ok(matches!(part, Expr::BinaryExpr(binary) if binary.op == Operator::Eq))
            })?;
            let null_equality = match is_plain {
                true => NullEquality::NullEqualsNothing,
                false => match filter.input.as_ref() {
                    LogicalPlan::Join(join) => join.null_equality,
                    _ => return Ok(Transformed::no(LogicalPlan::Filter(filter))),
                },
            };
            if !is_inner(&filter.input) {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let input = tree(filter.input.as_ref().clone(), null_equality)?;
            let changed = input.transformed;
            filter.input = input.data.into();
            Ok(Transformed::new_transformed(
                LogicalPlan::Filter(filter),
                changed,
            ))
        }
        LogicalPlan::Join(join) => {
            let null_equality = join.null_equality;
            tree(LogicalPlan::Join(join), null_equality)
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A tree of inner joins without the equalities that would be lost.
fn tree(plan: LogicalPlan, null_equality: NullEquality) -> Result<Transformed<LogicalPlan>> {
    let mut inputs = Vec::new();
    add_inputs(&plan, &mut inputs);
    without_lost(plan, &inputs, null_equality)
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner)
}

fn add_inputs(plan: &LogicalPlan, inputs: &mut Vec<DFSchemaRef>) {
    if is_inner(plan) {
        for input in plan.inputs() {
            add_inputs(input, inputs);
        }
    } else {
        inputs.push(plan.schema().clone());
    }
}

fn without_lost(
    plan: LogicalPlan,
    inputs: &[DFSchemaRef],
    null_equality: NullEquality,
) -> Result<Transformed<LogicalPlan>> {
    if !is_inner(&plan) {
        return Ok(Transformed::no(plan));
    }
    let LogicalPlan::Join(mut join) = plan else {
        return Ok(Transformed::no(plan));
    };
    let mut changed = false;
    for side in [&mut join.left, &mut join.right] {
        let kept = without_lost(side.as_ref().clone(), inputs, null_equality)?;
        if kept.transformed {
            *side = kept.data.into();
            changed = true;
        }
    }
    let is_alike = join.null_equality == null_equality;
    let keys = std::mem::take(&mut join.on);
    let (keys, lost): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|(left, right)| is_alike && is_of_one(left, inputs) && is_of_one(right, inputs));
    join.on = keys;
    if lost.is_empty() {
        return Ok(Transformed::new_transformed(
            LogicalPlan::Join(join),
            changed,
        ));
    }
    Ok(Transformed::yes(LogicalPlan::Join(as_conditions(
        join, lost,
    ))))
}

/// Whether an expression is of one of the inputs, and can be a key.
fn is_of_one(key: &Expr, inputs: &[DFSchemaRef]) -> bool {
    let columns = key.column_refs();
    let mut inputs = inputs.iter();
    !columns.is_empty()
        && inputs.any(|schema| {
            columns.iter().all(|column| schema.has_column(column))
                && key.get_type(schema).is_ok_and(|t| can_hash(&t))
        })
}

fn as_conditions(mut join: Join, lost: Vec<(Expr, Expr)>) -> Join {
    let operator = match join.null_equality {
        NullEquality::NullEqualsNothing => Operator::Eq,
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
    };
    let lost = lost
        .into_iter()
        .map(|(left, right)| binary_expr(left, operator, right));
    join.filter = conjunction(join.filter.take().into_iter().chain(lost));
    if join.on.is_empty() {
        join.null_equality = NullEquality::NullEqualsNothing;
    }
    join
}
