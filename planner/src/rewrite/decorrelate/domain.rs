//! The rows for which a dependent plan is computed: either all values that it refers to, once each, or the rows around
//! it with all their columns.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator, lit};

use super::{Decorrelation, projected};

/// A column of the rows around a subquery, as its field was when the subquery was bound.
pub type Reference = (FieldRef, Column);

/// See the module.
pub struct Domain {
    pub plan: LogicalPlan,
    /// What a dependent plan calls a column, and what `plan` calls it.
    pub columns: Vec<(Column, Column)>,
    /// Each row is there once, and may be left out where no rows are found for it.
    pub is_distinct: bool,
}

impl Domain {
    /// The values of `references` that occur in `base`.
    pub fn of_values(
        base: &LogicalPlan,
        references: &[Reference],
        names: &mut Decorrelation,
    ) -> Result<Domain> {
        let columns: Vec<(Column, Column)> = references
            .iter()
            .map(|(_, column)| (column.clone(), names.fresh("outer")))
            .collect();
        let exprs = columns.iter().map(|(theirs, ours)| renamed(theirs, ours));
        let plan = distinct(projected(base.clone(), exprs.collect())?);
        Ok(Domain {
            plan,
            columns,
            is_distinct: true,
        })
    }

    /// The rows of `base` as they are.
    pub fn of_rows(base: &LogicalPlan, names: &mut Decorrelation) -> Result<Domain> {
        let columns = base.schema().columns().into_iter();
        let columns: Vec<(Column, Column)> = columns
            .map(|column| (column, names.fresh("outer")))
            .collect();
        let exprs = columns.iter().map(|(theirs, ours)| renamed(theirs, ours));
        let plan = projected(base.clone(), exprs.collect())?;
        Ok(Domain {
            plan,
            columns,
            is_distinct: false,
        })
    }

    /// The values of those columns that are in `references`, under new names, and each one's name here.
    pub fn values(
        &self,
        references: &[Reference],
        names: &mut Decorrelation,
    ) -> Result<(Domain, Vec<Column>)> {
        let chosen: Vec<&(Column, Column)> = self
            .columns
            .iter()
            .filter(|(theirs, _)| references.iter().any(|(_, column)| column == theirs))
            .collect();
        let columns: Vec<(Column, Column)> = chosen
            .iter()
            .map(|(theirs, _)| (theirs.clone(), names.fresh("outer")))
            .collect();
        let exprs = chosen
            .iter()
            .zip(&columns)
            .map(|((_, here), (_, new))| renamed(here, new));
        let values = Domain {
            plan: distinct(projected(self.plan.clone(), exprs.collect())?),
            columns,
            is_distinct: true,
        };
        let here = chosen.into_iter().map(|(_, ours)| ours.clone()).collect();
        Ok((values, here))
    }

    /// The same under new names, to stand beside itself.
    pub fn again(&self, names: &mut Decorrelation) -> Result<Domain> {
        let columns: Vec<(Column, Column)> = self
            .columns
            .iter()
            .map(|(theirs, _)| (theirs.clone(), names.fresh("outer")))
            .collect();
        let exprs = self
            .columns
            .iter()
            .zip(&columns)
            .map(|((_, here), (_, new))| renamed(here, new));
        Ok(Domain {
            plan: projected(self.plan.clone(), exprs.collect())?,
            columns,
            is_distinct: self.is_distinct,
        })
    }

    /// What this domain calls its columns.
    pub fn own_columns(&self) -> Vec<Column> {
        self.columns.iter().map(|(_, ours)| ours.clone()).collect()
    }

    /// Whether one of `references` is to a column of this domain.
    pub fn answers(&self, references: &[Reference]) -> bool {
        references
            .iter()
            .any(|(_, column)| self.columns.iter().any(|(theirs, _)| theirs == column))
    }
}

/// The rows of a dependent plan for each row of a domain.
pub struct Applied {
    /// The plan's columns under their names, and those of the domain.
    pub plan: LogicalPlan,
    /// What the domain's columns are called.
    pub columns: Vec<Column>,
    /// No NULL is among the domain's values, since each was compared with something.
    pub has_no_null: bool,
}

impl Applied {
    /// Whether NULLs must meet where a value of the domain meets a column like this.
    pub fn is_null_safe(&self, field: &FieldRef) -> bool {
        !self.has_no_null && field.is_nullable()
    }

    /// What joins the rows back to those that have the columns of `references`.
    pub fn condition(&self, references: &[Reference]) -> Expr {
        let pairs = self.columns.iter().zip(references);
        let equal = pairs.map(|(ours, (field, column))| {
            let theirs = Expr::Column(column.clone());
            same(theirs, Expr::Column(ours.clone()), self.is_null_safe(field))
        });
        conjunction(equal.collect::<Vec<_>>()).unwrap_or_else(|| lit(true))
    }
}

/// `left = right`; `is_null_safe`: NULLs are equal.
pub fn same(left: Expr, right: Expr, is_null_safe: bool) -> Expr {
    let op = match is_null_safe {
        true => Operator::IsNotDistinctFrom,
        false => Operator::Eq,
    };
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// That the columns on both sides are the same, NULLs included.
pub fn all_same(left: &[Column], right: &[Column]) -> Vec<Expr> {
    let pair =
        |(l, r): (&Column, &Column)| same(Expr::Column(l.clone()), Expr::Column(r.clone()), true);
    left.iter().zip(right).map(pair).collect()
}

fn renamed(from: &Column, to: &Column) -> Expr {
    Expr::Column(from.clone()).alias(to.name())
}

fn distinct(plan: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Distinct(Distinct::All(Arc::new(plan)))
}
