//! The order of inner joins in a view.
//!
//! A join keeps both of its inputs, so the order decides what is stored: `((f ⋈ a) ⋈ b) ⋈ c` keeps f three times, each
//! time wider, where a leads to b and b to c, while `f ⋈ (a ⋈ (b ⋈ c))` keeps it once. And an order in which a join
//! meets more rows than either side has keeps what is only thrown away later.
//!
//! Which input leads to which is known from keys: if all columns of a key of `a` are compared with expressions of `f` alone, a
//! row of f has at most one in a (f → a, as from a fact to its dimension), and joining a to f adds no rows. So every
//! input is first joined with those that it leads to, each of which has been joined in the same way before. Inputs to
//! which none leads are joined with one another as they stand in the query. Where nothing leads anywhere the order stays
//! as it is written.
//!
//! No statistics are used: they change, and a view that is planned again at a restart must get the same joins.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, TableScan,
};

use crate::catalog::{Catalog, DEFAULT_SCHEMA, ObjectKind, QualifiedName};
use crate::properties::unaliased;

/// Orders all inner joins of a plan; not transformed if they are in order.
pub fn order_joins(plan: LogicalPlan, catalog: &Catalog) -> Result<Transformed<LogicalPlan>> {
    if !is_inner(&plan) {
        return plan.map_children(|input| order_joins(input, catalog));
    }
    let mut group = Group::default();
    let written = group.flatten(&plan);
    let mut has_changed = false;
    for input in &mut group.inputs {
        let ordered = order_joins(input.clone(), catalog)?;
        has_changed |= ordered.transformed;
        *input = ordered.data;
    }
    let order = group.order(catalog);
    if !has_changed && order.as_ref().is_none_or(|order| order.is_like(&written)) {
        return Ok(Transformed::no(plan));
    }
    let joined = group.join(order.as_ref().unwrap_or(&written))?;
    let schema = Arc::clone(plan.schema());
    let same_columns = Projection::new_from_schema(Arc::new(joined), schema);
    Ok(Transformed::yes(LogicalPlan::Projection(same_columns)))
}

/// An inner join of which NULLs match nothing.
fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner
        && join.null_equality == NullEquality::NullEqualsNothing)
}

/// Inner joins next to one another: what they join, and on what.
#[derive(Default)]
struct Group {
    inputs: Vec<LogicalPlan>,
    equalities: Vec<(Expr, Expr)>,
    filters: Vec<Expr>,
}

/// An order of joins, by the numbers of the inputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Tree {
    Input(usize),
    Join(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn join(left: Tree, right: Tree) -> Tree {
        Tree::Join(Box::new(left), Box::new(right))
    }

    /// Whether it is the same but for which side is left.
    fn is_like(&self, other: &Tree) -> bool {
        self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Tree {
        match self {
            Tree::Input(input) => Tree::Input(*input),
            Tree::Join(left, right) => {
                let (left, right) = (left.sorted(), right.sorted());
                Tree::join(left.clone().min(right.clone()), left.max(right))
            }
        }
    }
}

impl Group {
    fn flatten(&mut self, plan: &LogicalPlan) -> Tree {
        match plan {
            LogicalPlan::Join(join) if is_inner(plan) => {
                self.equalities.extend(join.on.iter().cloned());
                self.filters.extend(join.filter.iter().cloned());
                let left = self.flatten(&join.left);
                Tree::join(left, self.flatten(&join.right))
            }
            other => {
                self.inputs.push(other.clone());
                Tree::Input(self.inputs.len() - 1)
            }
        }
    }

    /// `None`: as it is written.
    fn order(&self, catalog: &Catalog) -> Option<Tree> {
        let count = self.inputs.len();
        if count < 3 {
            return None;
        }
        let sides: Vec<(Option<usize>, Option<usize>)> = self
            .equalities
            .iter()
            .map(|(left, right)| (self.input_of(left), self.input_of(right)))
            .collect();
        let keys: Vec<Option<Vec<Column>>> = self
            .inputs
            .iter()
            .map(|input| unique_key(input, catalog))
            .collect();
        let leads = |from: usize, to: usize| -> bool {
            from != to
                && keys[to]
                    .as_ref()
                    .is_some_and(|key| key.iter().all(|column| self.is_given(column, from, &sides)))
        };
        let leads_to: Vec<Vec<usize>> = (0..count)
            .map(|from| {
                let mut to: Vec<usize> = (0..count).filter(|to| leads(from, *to)).collect();
                // what leaves rows out comes first
                to.sort_by_key(|to| !is_filtered(&self.inputs[*to]));
                to
            })
            .collect();
        if leads_to.iter().all(Vec::is_empty) {
            return None;
        }
        self.connect(&leads_to, &sides)
    }

    /// Whether a column is compared with an expression of the input `from` alone.
    fn is_given(
        &self,
        column: &Column,
        from: usize,
        sides: &[(Option<usize>, Option<usize>)],
    ) -> bool {
        let is_column = |expr: &Expr| matches!(unaliased(expr), Expr::Column(c) if c == column);
        let pairs = self.equalities.iter().zip(sides);
        pairs
            .into_iter()
            .any(|((left, right), (left_of, right_of))| {
                (is_column(left) && *right_of == Some(from))
                    || (is_column(right) && *left_of == Some(from))
            })
    }

    /// The trees of what each input leads to, joined as they stand in the query. `None` if that would leave two of them
    /// without an equality.
    fn connect(
        &self,
        leads_to: &[Vec<usize>],
        sides: &[(Option<usize>, Option<usize>)],
    ) -> Option<Tree> {
        let count = self.inputs.len();
        let mut is_used = vec![false; count];
        let mut trees: Vec<(Tree, Vec<usize>)> = Vec::new();
        let is_led_to = |input: usize| leads_to.iter().any(|to| to.contains(&input));
        // those to which none leads, and then whatever is left of a circle
        let firsts = (0..count).filter(|input| !is_led_to(*input));
        for first in firsts.chain(0..count).collect::<Vec<_>>() {
            if !is_used[first] {
                let mut members = Vec::new();
                let tree = grow(first, leads_to, &mut is_used, &mut members);
                trees.push((tree, members));
            }
        }
        let (mut tree, mut members) = trees.remove(0);
        while !trees.is_empty() {
            let is_connected = |others: &[usize]| {
                sides.iter().any(|(a, b)| match (a, b) {
                    (Some(a), Some(b)) => {
                        (members.contains(a) && others.contains(b))
                            || (members.contains(b) && others.contains(a))
                    }
                    _ => false,
                })
            };
            let next = trees.iter().position(|(_, others)| is_connected(others))?;
            let (other, others) = trees.remove(next);
            tree = Tree::join(tree, other);
            members.extend(others);
        }
        Some(tree)
    }

    /// The only input whose columns an expression uses.
    fn input_of(&self, expr: &Expr) -> Option<usize> {
        self.inputs
            .iter()
            .position(|input| is_of(expr, input.schema()))
    }

    /// Joins the inputs in an order, each equality where both of its sides are first there.
    fn join(self, order: &Tree) -> Result<LogicalPlan> {
        let Group {
            inputs,
            mut equalities,
            filters,
        } = self;
        let plan = joined(order, &inputs, &mut equalities)?;
        let left_over = equalities.into_iter().map(|(left, right)| left.eq(right));
        match conjunction(left_over.chain(filters)) {
            Some(predicate) => LogicalPlanBuilder::from(plan).filter(predicate)?.build(),
            None => Ok(plan),
        }
    }
}

/// An input joined with all that it leads to and that is not joined yet.
fn grow(
    input: usize,
    leads_to: &[Vec<usize>],
    is_used: &mut [bool],
    members: &mut Vec<usize>,
) -> Tree {
    is_used[input] = true;
    members.push(input);
    let mut tree = Tree::Input(input);
    for &next in &leads_to[input] {
        if !is_used[next] && !is_reached_otherwise(input, next, leads_to, is_used) {
            tree = Tree::join(tree, grow(next, leads_to, is_used, members));
        }
    }
    tree
}

/// Whether something that `input` leads to leads to `next` in turn: joined there, `next` is met by fewer rows.
fn is_reached_otherwise(
    input: usize,
    next: usize,
    leads_to: &[Vec<usize>],
    is_used: &[bool],
) -> bool {
    leads_to[input]
        .iter()
        .any(|&other| other != next && !is_used[other] && leads_to[other].contains(&next))
}

fn joined(
    order: &Tree,
    inputs: &[LogicalPlan],
    equalities: &mut Vec<(Expr, Expr)>,
) -> Result<LogicalPlan> {
    let (left, right) = match order {
        Tree::Input(input) => return Ok(inputs[*input].clone()),
        Tree::Join(left, right) => (left, right),
    };
    let left = joined(left, inputs, equalities)?;
    let right = joined(right, inputs, equalities)?;
    let mut on = Vec::new();
    equalities.retain(|(a, b)| {
        if is_of(a, left.schema()) && is_of(b, right.schema()) {
            on.push((a.clone(), b.clone()));
            return false;
        }
        if is_of(b, left.schema()) && is_of(a, right.schema()) {
            on.push((b.clone(), a.clone()));
            return false;
        }
        true
    });
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        JoinType::Inner,
        datafusion::common::JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?))
}

/// Whether all columns of an expression, of which there are some, are in a schema.
fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
}

/// Columns of which no two rows have the same values.
fn unique_key(plan: &LogicalPlan, catalog: &Catalog) -> Option<Vec<Column>> {
    match plan {
        LogicalPlan::TableScan(scan) => stored_key(scan, catalog),
        LogicalPlan::Filter(filter) => unique_key(&filter.input, catalog),
        LogicalPlan::SubqueryAlias(alias) => {
            let key = unique_key(&alias.input, catalog)?;
            let from = alias.input.schema();
            let renamed = |column: &Column| {
                let index = from.index_of_column(column).ok()?;
                Some(Column::from(alias.schema.qualified_field(index)))
            };
            key.iter().map(renamed).collect()
        }
        LogicalPlan::Projection(projection) => {
            let key = unique_key(&projection.input, catalog)?;
            let kept = |column: &Column| {
                let is_it = |expr: &Expr| matches!(unaliased(expr), Expr::Column(c) if c == column);
                let index = projection.expr.iter().position(is_it)?;
                Some(Column::from(projection.schema.qualified_field(index)))
            };
            key.iter().map(kept).collect()
        }
        LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
            let is_plain = |expr: &Expr| !matches!(expr, Expr::GroupingSet(_));
            if !aggregate.group_expr.iter().all(is_plain) {
                return None;
            }
            let groups = 0..aggregate.group_expr.len();
            Some(
                groups
                    .map(|index| Column::from(aggregate.schema.qualified_field(index)))
                    .collect(),
            )
        }
        _ => None,
    }
}

fn stored_key(scan: &TableScan, catalog: &Catalog) -> Option<Vec<Column>> {
    let name = QualifiedName {
        schema: scan
            .table_name
            .schema()
            .unwrap_or(DEFAULT_SCHEMA)
            .to_string(),
        name: scan.table_name.table().to_string(),
    };
    let object = catalog.find(&name)?;
    let key = match &object.kind {
        ObjectKind::Table(table) => &table.primary_key,
        ObjectKind::MaterializedView(view) => view.stream_key.as_ref()?,
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Index(_) => return None,
    };
    let stored = object.schema();
    let column = |index: &usize| {
        let name = stored.fields().get(*index)?.name();
        Some(Column::new(Some(scan.table_name.clone()), name))
    };
    let key = key.iter().map(column).collect::<Option<Vec<_>>>()?;
    (!key.is_empty()).then_some(key)
}

/// Whether rows are left out of an input before it is joined.
fn is_filtered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(_) => true,
        LogicalPlan::TableScan(scan) => !scan.filters.is_empty(),
        LogicalPlan::SubqueryAlias(alias) => is_filtered(&alias.input),
        LogicalPlan::Projection(projection) => is_filtered(&projection.input),
        LogicalPlan::Join(_) => true,
        _ => false,
    }
}
