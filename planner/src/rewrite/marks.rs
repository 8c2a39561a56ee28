//! Optimizer rule for `IN` and `EXISTS` in a select list, which DataFusion decorrelates in filters only: each becomes
//! a join that marks the rows, and a column of it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// See the module.
#[derive(Debug, Default)]
pub struct MarkSubqueries;

impl OptimizerRule for MarkSubqueries {
    fn name(&self) -> &str {
        "mark_subqueries"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(projection) = &plan else {
            return Ok(Transformed::no(plan));
        };
        if !projection.expr.iter().any(has_predicate) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        let mut input = projection.input.as_ref().clone();
        // the simplifier copies tests: each is made once
        let mut known: Vec<(Expr, Expr)> = Vec::new();
        let exprs = projection
            .expr
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                let marked = expr.clone().transform_down(|part| {
                    if !is_predicate(&part) {
                        return Ok(Transformed::no(part));
                    }
                    if let Some((_, mark)) = known.iter().find(|(test, _)| *test == part) {
                        return Ok(Transformed::yes(mark.clone()));
                    }
                    match marked(&input, part.clone(), config)? {
                        Some((joined, mark)) => {
                            input = joined;
                            known.push((part, mark.clone()));
                            Ok(Transformed::yes(mark))
                        }
                        None => Ok(Transformed::no(part)),
                    }
                })?;
                Ok(name.restore(marked.data))
            })
            .collect::<Result<Vec<_>>>()?;
        let projection = Projection::try_new(exprs, Arc::new(input))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}

fn is_predicate(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::Exists(_))
}

fn has_predicate(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_predicate(part))).unwrap_or(false)
}

/// `input` joined with the subquery of `predicate`, and the mark that stands for it. DataFusion's own rule makes the
/// join, given a filter in which the predicate is a part.
fn marked(
    input: &LogicalPlan,
    predicate: Expr,
    config: &dyn OptimizerConfig,
) -> Result<Option<(LogicalPlan, Expr)>> {
    let filter = Filter::try_new(
        Expr::IsNotNull(Box::new(predicate)),
        Arc::new(input.clone()),
    )?;
    let decorrelated =
        DecorrelatePredicateSubquery::new().rewrite(LogicalPlan::Filter(filter), config)?;
    let LogicalPlan::Projection(projection) = decorrelated.data else {
        return Ok(None);
    };
    let LogicalPlan::Filter(filter) = projection.input.as_ref() else {
        return Ok(None);
    };
    match &filter.predicate {
        Expr::IsNotNull(mark) if !has_predicate(mark) => {
            Ok(Some((filter.input.as_ref().clone(), mark.as_ref().clone())))
        }
        _ => Ok(None),
    }
}
