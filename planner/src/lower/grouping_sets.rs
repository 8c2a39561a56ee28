//! Lowers GROUPING SETS, ROLLUP and CUBE: each row is repeated for each set, with NULL in the keys that the set leaves
//! out, and then grouped by all keys and the set's number, of which `grouping()` is computed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet as Sets};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use super::aggregate::{calls_of, growing, renamed};
use super::{Lowered, Lowering, bound, column_index, node_of};
use crate::describe::describe;
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, GroupingSet, PlanOp, Properties};
use crate::properties::{self, Lineage};

/// More sets than PostgreSQL allows.
const MOST_SETS: usize = 4096;

impl Lowering<'_> {
    pub(super) fn grouping_sets(&mut self, aggregate: &Aggregate, of: &Sets) -> Result<Lowered> {
        let keys: Vec<Expr> = of.distinct_expr().into_iter().cloned().collect();
        let sets = sets(of, &keys)?;
        let permanent = sets
            .iter()
            .filter(|set| set.left_out.iter().all(|is_out| *is_out))
            .map(|set| set.id)
            .collect();
        let input = self.lower(&aggregate.input)?;
        let from = aggregate.input.schema();
        let calls = calls_of(&aggregate.aggr_expr, from, &input)?;
        let width = input.node.schema.fields().len();
        let repeated = repeated(input, &keys, from, sets)?;
        let names = &repeated.node.schema;
        let group_by: Vec<BoundExpr> = (width..names.fields().len())
            .map(|index| column_of(names, index))
            .collect();
        let projected = (
            repeated.node.properties.clone(),
            Lineage {
                windowed: repeated.lineage.windowed[width..].to_vec(),
                unbounded: repeated.lineage.unbounded.clone(),
            },
        );
        let grows = growing(&keys, &calls, &projected.1);
        let (mut properties, lineage) =
            properties::of_aggregate(projected, group_by.len(), calls.len());
        properties.append_only = false;
        properties.grows = grows;
        let schema = renamed(aggregate.schema.as_arrow(), &group_by, &calls);
        let op = PlanOp::Aggregate {
            group_by,
            calls,
            permanent,
            window: None,
        };
        Ok(Lowered {
            node: node_of(op, vec![repeated.node], schema, properties),
            lineage,
        })
    }
}

fn repeated(
    input: Lowered,
    keys: &[Expr],
    from: &DFSchema,
    sets: Vec<GroupingSet>,
) -> Result<Lowered> {
    let Lowered { node, mut lineage } = input;
    let bound_keys: Vec<BoundExpr> = keys
        .iter()
        .map(|key| bound(key, from, &node.schema))
        .collect::<Result<_>>()?;
    let mut fields: Vec<Field> = node
        .schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    for key in &bound_keys {
        fields.push(Field::new(
            describe(&key.logical),
            key.data_type.clone(),
            true,
        ));
    }
    fields.push(Field::new("grouping", DataType::Int64, false));
    let properties = Properties {
        append_only: node.properties.append_only,
        ..Properties::default()
    };
    let (_, of_keys) = properties::of_project(keys, &node.properties, &lineage, &|expr| {
        column_index(expr, from)
    });
    // A set that leaves the window out has one group for all time.
    let is_always = |index: usize| sets.iter().all(|set| !set.left_out[index]);
    let windowed = of_keys.windowed.iter().enumerate();
    lineage
        .windowed
        .extend(windowed.map(|(index, is_window)| *is_window && is_always(index)));
    lineage.windowed.push(false);
    let op = PlanOp::GroupingSets {
        keys: bound_keys,
        sets,
    };
    let schema = Arc::new(Schema::new(fields));
    Ok(Lowered {
        node: node_of(op, vec![node], schema, properties),
        lineage,
    })
}

/// The column at `index`.
fn column_of(schema: &Schema, index: usize) -> BoundExpr {
    let field = schema.field(index);
    BoundExpr {
        logical: Expr::Column(Column::new_unqualified(field.name())),
        physical: Arc::new(PhysicalColumn::new(field.name(), index)),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
        is_fallible: false,
    }
}

/// The sets as DataFusion numbers them: a bit per key, the last key's lowest, 1 where it is left out; above them how
/// many equal sets came before.
fn sets(of: &Sets, keys: &[Expr]) -> Result<Vec<GroupingSet>> {
    let kept: Vec<Vec<bool>> = match of {
        Sets::Rollup(exprs) => (0..=exprs.len())
            .map(|count| (0..keys.len()).map(|i| i < count).collect())
            .collect(),
        Sets::Cube(exprs) if exprs.len() < 13 => (0..1_usize << exprs.len())
            .map(|bits| (0..keys.len()).map(|i| bits >> i & 1 == 0).collect())
            .collect(),
        Sets::Cube(_) => return Err(too_many()),
        Sets::GroupingSets(sets) => sets
            .iter()
            .map(|set| keys.iter().map(|key| set.contains(key)).collect())
            .collect(),
    };
    if kept.len() > MOST_SETS || keys.len() > 31 {
        return Err(too_many());
    }
    let mut seen: HashMap<i64, i64> = HashMap::new();
    Ok(kept
        .into_iter()
        .map(|kept| {
            let left_out: Vec<bool> = kept.iter().map(|is_kept| !is_kept).collect();
            let mask = left_out
                .iter()
                .fold(0, |mask, is_out| mask << 1 | i64::from(*is_out));
            let earlier = seen.entry(mask).or_insert(0);
            let id = *earlier << keys.len() | mask;
            *earlier += 1;
            GroupingSet { left_out, id }
        })
        .collect())
}

fn too_many() -> PlanError {
    PlanError::Unsupported {
        feature: "so many grouping sets in a materialized view".to_string(),
        hint: "list the GROUPING SETS that are wanted".to_string(),
    }
}
