//! What a FROM clause offers to the select list: the columns that `*` and `t.*` stand for.

use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, TableFactor,
    UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::build::binary;
use crate::error::{PlanError, Result};
use crate::names::{fold, ident};
use crate::rewrite::aggregate_calls::chosen;
use crate::rewrite::expressions::call;

/// One column of a FROM clause.
#[derive(Debug, Clone)]
pub struct ScopeColumn {
    pub name: String,
    /// How to refer to it.
    pub expr: Expr,
}

/// One named relation of a FROM clause.
#[derive(Debug, Clone)]
pub struct ScopeTable {
    /// Alias or name; `None`: a subquery without an alias.
    pub name: Option<String>,
    pub columns: Vec<String>,
}

/// The relations of a FROM clause and what `*` expands to.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub tables: Vec<ScopeTable>,
    pub star: Vec<ScopeColumn>,
    /// Columns that USING and NATURAL merged into one; each is also in `star`.
    merged: Vec<ScopeColumn>,
    /// Functions that give one value per row: their alias means that value.
    values: Vec<ScopeColumn>,
    /// Whether a merged column is another one than the left relation's, which DataFusion takes it for.
    is_lopsided: bool,
}

impl Scope {
    /// The scope of one relation.
    pub fn of_table(name: Option<String>, columns: Vec<String>) -> Self {
        let star = columns
            .iter()
            .map(|c| ScopeColumn {
                name: c.clone(),
                expr: reference(name.as_deref(), c),
            })
            .collect();
        Scope {
            tables: vec![ScopeTable { name, columns }],
            star,
            merged: Vec::new(),
            values: Vec::new(),
            is_lopsided: false,
        }
    }

    /// Lets the name of the only relation, which has one column, mean that column.
    pub fn is_value(&mut self) {
        if let ([table], [column]) = (self.tables.as_slice(), self.star.as_slice())
            && let Some(name) = &table.name
            && *name != column.name
        {
            self.values.push(ScopeColumn {
                name: name.clone(),
                expr: column.expr.clone(),
            });
        }
    }

    /// `FROM a, b`.
    pub fn cross(&mut self, right: Scope) {
        self.tables.extend(right.tables);
        self.star.extend(right.star);
        self.merged.extend(right.merged);
        self.values.extend(right.values);
        self.is_lopsided |= right.is_lopsided;
    }

    /// `FROM a JOIN b ...`: columns named by USING or NATURAL come once and first. What they compare is written out where
    /// DataFusion would compare other columns.
    pub fn join(&mut self, join: &mut Join, right: Scope) {
        let merged = self.merged_columns(join, &right);
        if merged.is_empty() {
            self.cross(right);
            return;
        }
        let find = |columns: &[ScopeColumn], name: &str| {
            columns
                .iter()
                .find(|c| c.name == name)
                .map(|c| c.expr.clone())
        };
        let mut star = Vec::new();
        let mut compared = Vec::new();
        for name in &merged {
            let (Some(of_left), Some(of_right)) = (find(&self.star, name), find(&right.star, name))
            else {
                continue;
            };
            compared.push(binary(
                of_left.clone(),
                BinaryOperator::Eq,
                of_right.clone(),
            ));
            let expr = match &join.join_operator {
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => of_right,
                JoinOperator::FullOuter(_) => call("coalesce", vec![of_left, of_right]),
                _ => of_left,
            };
            star.push(ScopeColumn {
                name: name.clone(),
                expr,
            });
        }
        let is_known = |column: &ScopeColumn| merged.contains(&column.name);
        self.merged.extend(right.merged);
        self.merged.retain(|column| !is_known(column));
        self.merged.extend(star.iter().cloned());
        self.is_lopsided |= right.is_lopsided;
        if self.is_lopsided {
            write_out(&mut join.join_operator, compared);
        }
        self.is_lopsided |= matches!(
            join.join_operator,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        );
        let rest = self
            .star
            .drain(..)
            .chain(right.star)
            .filter(|c| !merged.contains(&c.name));
        star.extend(rest.collect::<Vec<_>>());
        self.star = star;
        self.tables.extend(right.tables);
        self.values.extend(right.values);
    }

    fn merged_columns(&self, join: &Join, right: &Scope) -> Vec<String> {
        match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(names)) => names
                .iter()
                .filter_map(|n| n.0.last()?.as_ident().map(fold))
                .collect(),
            Some(JoinConstraint::Natural) => self
                .star
                .iter()
                .map(|c| c.name.clone())
                .filter(|name| right.star.iter().any(|c| c.name == *name))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The merged column, the value of a function in FROM, or the row, that an unqualified name means.
    pub fn merged_reference(&self, expr: &Expr) -> Option<ScopeColumn> {
        let Expr::Identifier(name) = expr else {
            return None;
        };
        let name = fold(name);
        let is_column = || self.star.iter().any(|column| column.name == name);
        let merged = self.merged.iter().find(|column| column.name == name);
        let value = || self.values.iter().find(|value| value.name == name);
        merged.cloned().or_else(|| match is_column() {
            true => None,
            false => value().cloned().or_else(|| self.row(&name)),
        })
    }

    /// The same, but names in `taken` mean no rows.
    pub fn without_rows(&self, taken: &[String]) -> Scope {
        let mut scope = self.clone();
        let is_taken = |name: &Option<String>| name.as_ref().is_some_and(|n| taken.contains(n));
        scope.tables.retain(|table| !is_taken(&table.name));
        scope.values.retain(|value| !taken.contains(&value.name));
        scope
    }

    /// The whole row of a relation, which its name means where no column is called so.
    fn row(&self, name: &str) -> Option<ScopeColumn> {
        let table = self
            .tables
            .iter()
            .find(|table| table.name.as_deref() == Some(name))?;
        let text = |column: &String| Expr::Value(Value::SingleQuotedString(column.clone()).into());
        let pairs = table
            .columns
            .iter()
            .flat_map(|column| [text(column), reference(Some(name), column)]);
        let row = call("named_struct", pairs.collect());
        // what an outer join puts in place of a missing row is NULL, not a row of NULLs
        let columns = table.columns.iter();
        let is_missing = columns
            .map(|column| Expr::IsNull(Box::new(reference(Some(name), column))))
            .reduce(|all, one| binary(all, BinaryOperator::And, one))?;
        let is_there = Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(Expr::Nested(Box::new(is_missing))),
        };
        Some(ScopeColumn {
            name: name.to_string(),
            expr: chosen(is_there, row),
        })
    }

    /// Replaces unqualified names of merged columns in `node`, which has no FROM clause: DataFusion knows them in the
    /// select list only. So with values of functions in FROM and whole rows, of which it does not know.
    pub fn resolve_merged<T: VisitMut>(&self, node: &mut T) {
        let _ = node.visit(&mut MergedNames {
            scope: self,
            depth: 0,
        });
    }

    /// As [`Self::resolve_merged`], in the arguments of a function in FROM, which sees what stands before it.
    pub fn resolve_arguments(&self, factor: &mut TableFactor) {
        match factor {
            TableFactor::UNNEST { array_exprs, .. } => self.resolve_merged(array_exprs),
            TableFactor::Function { args, .. } => self.resolve_merged(args),
            TableFactor::Table {
                args: Some(args), ..
            } => self.resolve_merged(&mut args.args),
            _ => {}
        }
    }

    /// As [`Self::resolve_merged`], in a condition of ON, where DataFusion knows merged columns as far as they are the left
    /// relation's.
    pub fn resolve_values<T: VisitMut>(&self, node: &mut T) {
        if self.is_lopsided {
            return self.resolve_merged(node);
        }
        if self.values.is_empty() {
            return;
        }
        let values = Scope {
            star: self.star.clone(),
            values: self.values.clone(),
            ..Scope::default()
        };
        values.resolve_merged(node);
    }

    /// What `table.*` stands for.
    pub fn table_star(&self, table: &str) -> Result<Vec<ScopeColumn>> {
        let found = self
            .tables
            .iter()
            .find(|t| t.name.as_deref() == Some(table))
            .ok_or_else(|| PlanError::Undefined {
                kind: crate::error::UndefinedKind::Relation,
                message: format!("missing FROM-clause entry for table \"{table}\""),
                position: None,
            })?;
        let column = |c: &String| ScopeColumn {
            name: c.clone(),
            expr: reference(Some(table), c),
        };
        Ok(found.columns.iter().map(column).collect())
    }

    /// Whether `name` is the alias or name of a relation here.
    pub fn has_table(&self, name: &str) -> bool {
        self.tables.iter().any(|t| t.name.as_deref() == Some(name))
    }
}

/// Replaces names outside of subqueries, which have scopes of their own.
struct MergedNames<'a> {
    scope: &'a Scope,
    depth: usize,
}

impl VisitorMut for MergedNames<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Infallible> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Infallible> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if self.depth == 0
            && let Some(column) = self.scope.merged_reference(expr)
        {
            *expr = column.expr;
        }
        ControlFlow::Continue(())
    }
}

/// These conditions in place of USING or NATURAL.
fn write_out(operator: &mut JoinOperator, compared: Vec<Expr>) {
    let and = |all, one| binary(all, BinaryOperator::And, one);
    let all = compared.into_iter().reduce(and);
    if let (Some(all), Some(constraint)) = (all, constraint_mut(operator)) {
        *constraint = JoinConstraint::On(all);
    }
}

/// The condition of a join, if its kind has one.
pub fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c)
        | JoinOperator::StraightJoin(c)
        | JoinOperator::AsOf { constraint: c, .. } => Some(c),
        JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => None,
    }
}

/// [`constraint`], of the kinds that take USING and NATURAL.
fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c) => Some(c),
        _ => None,
    }
}

fn reference(table: Option<&str>, column: &str) -> Expr {
    let column: Ident = ident(column);
    match table {
        Some(table) => Expr::CompoundIdentifier(vec![ident(table), column]),
        None => Expr::Identifier(column),
    }
}
