//! Keys of GROUP BY with grouping sets, on the AST.
//!
//! - A number within ROLLUP, CUBE or GROUPING SETS is the number of an item of the select list, as it is outside of them.
//! - A key beside grouping sets becomes a grouping set of its own: to a plain key DataFusion adds the columns that depend on
//!   it (where the input is grouped by it, or it is a primary key), and then they are in every set.

use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, Select, SelectItem, Value, ValueWithSpan, VisitMut, VisitorMut,
};

/// See the module.
pub fn separate_grouping_keys<T: VisitMut>(node: &mut T) {
    let ControlFlow::Continue(()) = node.visit(&mut Keys);
}

struct Keys;

impl VisitorMut for Keys {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let items = &select.projection;
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by
            && keys.iter().any(is_grouping_set)
        {
            for key in keys {
                match key {
                    Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                        for part in sets.iter_mut().flatten() {
                            resolve_number(part, items);
                        }
                    }
                    plain => {
                        resolve_number(plain, items);
                        *plain = Expr::GroupingSets(vec![vec![plain.clone()]]);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_grouping_set(key: &Expr) -> bool {
    matches!(key, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_))
}

/// A number that is none of an item stays, for DataFusion to complain about.
fn resolve_number(key: &mut Expr, items: &[SelectItem]) {
    let Expr::Value(ValueWithSpan {
        value: Value::Number(number, _),
        ..
    }) = key
    else {
        return;
    };
    let place = number.to_string().parse::<usize>().ok();
    let item = place.and_then(|place| items.get(place.checked_sub(1)?));
    if let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item {
        *key = expr.clone();
    }
}
