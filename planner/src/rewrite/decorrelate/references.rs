//! Which columns of the rows around it a plan refers to, at any depth.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use super::domain::Reference;

/// The references of `plan` that nothing within it answers, each once.
pub fn references(plan: &LogicalPlan) -> Result<Vec<Reference>> {
    let mut found = Vec::new();
    collect(plan, &mut found)?;
    Ok(found)
}

/// `subquery` with the list of what it refers to.
pub fn with_references(mut subquery: Subquery) -> Result<Subquery> {
    let found = references(&subquery.subquery)?.into_iter();
    subquery.outer_ref_columns = found
        .map(|(field, column)| Expr::OuterReferenceColumn(field, column))
        .collect();
    Ok(subquery)
}

fn collect(plan: &LogicalPlan, found: &mut Vec<Reference>) -> Result<()> {
    if let LogicalPlan::Join(join) = plan
        && is_lateral(&join.right)
    {
        collect(&join.left, found)?;
        let mut of_right = Vec::new();
        collect(&join.right, &mut of_right)?;
        of_right.retain(|(_, column)| !join.left.schema().has_column(column));
        of_right.into_iter().for_each(|one| add(found, one));
    } else {
        for input in plan.inputs() {
            collect(input, found)?;
        }
    }
    let schema = merge_schema(&plan.inputs());
    plan.apply_expressions(|expr| of_expr(expr, &schema, found))?;
    Ok(())
}

fn of_expr(
    expr: &Expr,
    schema: &DFSchema,
    found: &mut Vec<Reference>,
) -> Result<TreeNodeRecursion> {
    expr.apply(|part| {
        let subquery = match part {
            Expr::OuterReferenceColumn(field, column) => {
                add(found, (field.clone(), column.clone()));
                return Ok(TreeNodeRecursion::Continue);
            }
            Expr::ScalarSubquery(subquery) => subquery,
            Expr::Exists(test) => &test.subquery,
            Expr::InSubquery(test) => &test.subquery,
            Expr::SetComparison(test) => &test.subquery,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        for (field, column) in references(&subquery.subquery)? {
            if !schema.has_column(&column) {
                add(found, (field, column));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
}

fn add(found: &mut Vec<Reference>, reference: Reference) {
    if !found.iter().any(|(_, column)| *column == reference.1) {
        found.push(reference);
    }
}

/// Whether `plan` is marked as one that may refer to what stands before it in FROM.
pub fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}
