//! Optimizer rule that finds the equalities of a join's condition, in place of DataFusion's.
//!
//! DataFusion makes `a IS NOT DISTINCT FROM b` a join in which NULLs are equal, and in a later pass adds an ordinary
//! equality to it, which then matches NULLs too. It also pushes the equality of `5 NOT IN (SELECT …)` below the join,
//! where it drops the NULLs that decide.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// See the module.
#[derive(Debug, Default)]
pub struct JoinKeys {
    inner: ExtractEquijoinPredicate,
}

impl OptimizerRule for JoinKeys {
    fn name(&self) -> &str {
        "join_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else {
            return Ok(Transformed::no(plan));
        };
        if join.null_aware {
            return Ok(membership_key(join));
        }
        if join.null_equality == NullEquality::NullEqualsNull {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let Some(filter) = join.filter.take() else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let (nulls_match, others): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter)
            .into_iter()
            .partition(is_not_distinct);
        let has_keys = !join.on.is_empty() || !others.is_empty();
        if nulls_match.is_empty() || !(has_keys || join.join_type == JoinType::Inner) {
            join.filter = conjunction(nulls_match.into_iter().chain(others));
            return self.inner.rewrite(LogicalPlan::Join(join), config);
        }
        join.filter = conjunction(others);
        let mut rewritten = self.inner.rewrite(LogicalPlan::Join(join), config)?;
        if let LogicalPlan::Join(join) = &mut rewritten.data {
            join.filter = conjunction(join.filter.take().into_iter().chain(nulls_match));
        }
        Ok(rewritten)
    }
}

fn is_not_distinct(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(binary) if binary.op == Operator::IsNotDistinctFrom)
}

/// `x NOT IN (S)`: the only condition is the key, whatever `x` is.
fn membership_key(mut join: Join) -> Transformed<LogicalPlan> {
    match join.filter.take() {
        Some(Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        })) if join.on.is_empty() => {
            join.on.push((*left, *right));
            Transformed::yes(LogicalPlan::Join(join))
        }
        filter => {
            join.filter = filter;
            Transformed::no(LogicalPlan::Join(join))
        }
    }
}
