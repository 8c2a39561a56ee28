//! The select list: stars expanded, every column named as PostgreSQL names it, no name twice.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, Select, SelectItem, SelectItemQualifiedWildcardKind, Value, VisitMut,
};

use crate::catalog::QualifiedName;
use crate::error::{PlanError, Result};
use crate::names::{fold, ident};
use crate::relations::Relation;
use crate::rewrite::output_names::output_name;
use crate::rewrite::qualify::unsupported;
use crate::rewrite::scope::{Scope, ScopeColumn};

/// Output columns of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// As PostgreSQL shows them.
    pub shown: Vec<String>,
    /// As other parts of the query may refer to them: without duplicates.
    pub unique: Vec<String>,
}

impl Names {
    /// Names without duplicates.
    pub fn of(names: Vec<String>) -> Self {
        Names {
            shown: names.clone(),
            unique: names,
        }
    }
}

/// Expands stars and names every item; a name that is taken gets a number, so that DataFusion can tell them apart.
pub(super) fn expand_select_list(select: &mut Select, scope: &Scope) -> Result<Names> {
    let mut items = Vec::new();
    for item in select.projection.drain(..) {
        match item {
            SelectItem::Wildcard(_) if scope.star.is_empty() => {
                return Err(PlanError::Syntax {
                    message: "SELECT * with no tables specified is not valid".to_string(),
                    position: None,
                });
            }
            SelectItem::Wildcard(_) => items.extend(scope.star.iter().cloned().map(starred)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let table = name
                    .0
                    .last()
                    .and_then(|part| part.as_ident())
                    .map(fold)
                    .unwrap_or_default();
                items.extend(scope.table_star(&table)?.into_iter().map(starred));
            }
            SelectItem::UnnamedExpr(expr) => match scope.merged_reference(&expr) {
                Some(column) => items.push(starred(column)),
                None => items.push((output_name(&expr), expr, None)),
            },
            SelectItem::ExprWithAlias { expr, alias } => {
                items.push((fold(&alias), expr, Some(alias)))
            }
            other @ (SelectItem::ExprWithAliases { .. } | SelectItem::QualifiedWildcard(..)) => {
                return Err(unsupported(&format!("{other}"), "name each column"));
            }
        }
    }
    let mut names = Names::default();
    let mut taken = HashSet::new();
    for (shown, expr, alias) in items {
        let mut unique = shown.clone();
        let mut number = 2;
        while !taken.insert(unique.clone()) {
            unique = format!("{shown}:{number}");
            number += 1;
        }
        select.projection.push(match (alias, &expr) {
            (Some(alias), _) if unique == shown => SelectItem::ExprWithAlias { expr, alias },
            (None, expr_ref) if unique == shown && is_plain_column(expr_ref, scope) => {
                SelectItem::UnnamedExpr(expr)
            }
            _ => SelectItem::ExprWithAlias {
                expr,
                alias: ident(&unique),
            },
        });
        names.shown.push(shown);
        names.unique.push(unique);
    }
    Ok(names)
}

/// `ROLLUP (1)` as ROLLUP of the first item; DataFusion knows numbers of items outside of grouping sets only.
pub(super) fn resolve_ordinals(select: &mut Select) {
    let item = |number: &str| -> Option<Expr> {
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        match select.projection.get(index)? {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                Some(expr.clone())
            }
            _ => None,
        }
    };
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else {
        return;
    };
    for key in keys {
        let (Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets)) = key else {
            continue;
        };
        for key in sets.iter_mut().flatten() {
            if let Expr::Value(value) = key
                && let Value::Number(number, _) = &value.value
                && let Some(expr) = item(number)
            {
                *key = expr;
            }
        }
    }
}

fn starred(column: ScopeColumn) -> (String, Expr, Option<Ident>) {
    let alias = match column.expr {
        Expr::CompoundIdentifier(_) | Expr::Identifier(_) => None,
        _ => Some(ident(&column.name)),
    };
    (column.name, column.expr, alias)
}

/// A column that DataFusion names as PostgreSQL does; not a field of a struct.
fn is_plain_column(expr: &Expr, scope: &Scope) -> bool {
    match expr {
        Expr::Identifier(_) => true,
        Expr::CompoundIdentifier(parts) => parts.len() == 2 && scope.has_table(&fold(&parts[0])),
        _ => false,
    }
}

/// `schema.table.column` as `table.column`: relations are known by alias or bare name.
pub(super) fn strip_schemas<T: VisitMut>(
    node: &mut T,
    scope: &Scope,
    found: &BTreeMap<QualifiedName, Relation>,
) {
    let _: ControlFlow<()> = sqlparser::ast::visit_expressions_mut(node, |expr| {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() >= 3
        {
            let name = QualifiedName {
                schema: fold(&parts[0]),
                name: fold(&parts[1]),
            };
            if found.contains_key(&name) && scope.has_table(&name.name) {
                parts.remove(0);
            }
        }
        ControlFlow::Continue(())
    });
}
