//! A hash of a plan's state layout: if a new version of Rivermark lays state out differently, it differs.
//!
//! It covers what is stored: the rows of the view with their key, and for each operator with state its keys and
//! aggregates with types and strategies, in the order in which state tables are given out. Stateless operators and
//! everything else that may improve from version to version do not count. The text and the hash are our own, so that
//! neither a hash seed nor a library's way of printing plays a part.

use std::fmt::Write;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};

use crate::describe::describe;
use crate::plan::{AggregateCall, BoundExpr, JoinKey, PaneKey, PlanNode, PlanOp, TimeBound};
use crate::types::SqlType;

/// Version of the canonical text; part of every fingerprint.
const LAYOUT: u32 = 1;

/// The fingerprint of the plan below and including `root`.
pub fn fingerprint(root: &PlanNode) -> u64 {
    fnv1a(layout_text(root).as_bytes())
}

/// What the fingerprint is taken of.
fn layout_text(root: &PlanNode) -> String {
    let mut text = format!("layout {LAYOUT}\n");
    state_text(root, &mut text);
    // Writing to a String can not fail.
    let _ = writeln!(
        text,
        "rows ({}) key {:?}",
        columns_text(root),
        root.properties.stream_key
    );
    text
}

/// The types of a node's columns.
fn columns_text(node: &PlanNode) -> String {
    let types = node
        .schema
        .fields()
        .iter()
        .map(|f| type_text(f.data_type()));
    types.collect::<Vec<_>>().join(", ")
}

fn state_text(node: &PlanNode, text: &mut String) {
    for input in &node.inputs {
        state_text(input, text);
    }
    match &node.op {
        PlanOp::Aggregate {
            group_by,
            calls,
            permanent,
            window,
        } => {
            let keys: Vec<String> = group_by.iter().map(expr_text).collect();
            let _ = writeln!(text, "aggregate ({})", keys.join(", "));
            if !permanent.is_empty() {
                let _ = writeln!(text, "  permanent {permanent:?}");
            }
            if let Some(window) = window {
                let _ = writeln!(text, "  window {window}");
            }
            calls_text(calls, text);
        }
        PlanOp::Panes {
            keys,
            calls,
            windows,
            ..
        } => {
            let keys: Vec<String> = keys.iter().map(pane_key_text).collect();
            let _ = writeln!(text, "panes ({}) of {windows:?}", keys.join(", "));
            calls_text(calls, text);
        }
        PlanOp::Join { .. } => join_text(node, text),
        PlanOp::Nearest { .. } => nearest_text(node, text),
        PlanOp::Over {
            partition_by,
            order_by,
            window,
            due,
            ..
        } => {
            let rows = rows_text(node, partition_by, order_by);
            let due = if due.is_some() { " due" } else { "" };
            let _ = writeln!(text, "over {rows}{}{due}", windowed(*window));
        }
        PlanOp::Session {
            partition_by,
            time,
            gap_us,
            is_final,
            forgets,
            ..
        } => {
            let keys: Vec<String> = partition_by.iter().map(expr_text).collect();
            let name = match (is_final, forgets) {
                (true, _) => "closed session",
                (false, true) => "forgotten session",
                (false, false) => "session",
            };
            let _ = writeln!(
                text,
                "{name} ({}) by ({}) time {} gap {gap_us}",
                types_text(node),
                keys.join(", "),
                expr_text(time)
            );
        }
        PlanOp::SetOperation { operation } => {
            let _ = writeln!(text, "set operation {operation:?} ({})", types_text(node));
        }
        PlanOp::TopN {
            partition_by,
            order_by,
            skip,
            fetch,
            counting,
            is_numbered,
            window,
        } => {
            let _ = writeln!(
                text,
                "top-n {} skip {skip} fetch {fetch:?} counting {counting:?} numbered {is_numbered} append-only {}{}",
                rows_text(node, partition_by, order_by),
                is_append_only(node),
                windowed(*window),
            );
        }
        PlanOp::WindowClose { column } => {
            let _ = writeln!(text, "window close {column} ({})", types_text(node));
        }
        PlanOp::TemporalFilter { bounds } => {
            let (bounds, rows) = (bounds_text(bounds), types_text(node));
            let _ = writeln!(text, "temporal filter ({bounds}) of ({rows})");
        }
        PlanOp::Scan { .. }
        | PlanOp::Values { .. }
        | PlanOp::Filter { .. }
        | PlanOp::Project { .. }
        | PlanOp::Unnest { .. }
        | PlanOp::GroupingSets { .. }
        | PlanOp::UnionAll => {}
    }
}

fn pane_key_text(key: &PaneKey) -> String {
    match key {
        PaneKey::Window { shift_us } => format!("window {shift_us}"),
        PaneKey::Column(expr) => expr_text(expr),
    }
}

fn join_text(node: &PlanNode, text: &mut String) {
    let PlanOp::Join {
        kind,
        keys,
        residual,
        window,
        is_as_of_now,
    } = &node.op
    else {
        return;
    };
    let keys: Vec<String> = keys.iter().map(join_key_text).collect();
    let residual = residual.as_ref().map(expr_text).unwrap_or_default();
    let _ = writeln!(
        text,
        "join {} ({}) where ({residual})",
        kind.name(),
        keys.join(", ")
    );
    if window.is_some() {
        let _ = writeln!(text, "  windowed");
    }
    if *is_as_of_now {
        let _ = writeln!(text, "  as of now");
    }
    for input in &node.inputs {
        let _ = writeln!(text, "  rows ({})", columns_text(input));
    }
}

fn nearest_text(node: &PlanNode, text: &mut String) {
    let PlanOp::Nearest {
        keys,
        times,
        forgets,
        ..
    } = &node.op
    else {
        return;
    };
    let keys: Vec<String> = keys.iter().map(join_key_text).collect();
    let _ = writeln!(
        text,
        "nearest ({}) of {} and {} latest {} forgets {}",
        keys.join(", "),
        expr_text(&times.left),
        expr_text(&times.right),
        times.is_latest,
        forgets.is_some()
    );
    for input in &node.inputs {
        let _ = writeln!(text, "  rows ({})", columns_text(input));
    }
}

fn join_key_text(key: &JoinKey) -> String {
    let (left, right) = (expr_text(&key.left), expr_text(&key.right));
    format!("{left} = {right} nulls {}", key.matches_null)
}

fn windowed(window: Option<usize>) -> &'static str {
    match window {
        Some(_) => " windowed",
        None => "",
    }
}

/// Rows that are kept in an order: the types of the whole row, its groups and its order.
fn rows_text(
    node: &PlanNode,
    partition_by: &[BoundExpr],
    order_by: &[(BoundExpr, SortOptions)],
) -> String {
    let keys: Vec<String> = partition_by.iter().map(expr_text).collect();
    format!(
        "({}) by ({}) order ({})",
        types_text(node),
        keys.join(", "),
        order_text(order_by)
    )
}

/// The types of the (first) input's rows.
fn types_text(node: &PlanNode) -> String {
    let input = node.inputs.first().map(|input| &input.schema);
    let types: Vec<String> = input
        .iter()
        .flat_map(|schema| schema.fields())
        .map(|f| type_text(f.data_type()))
        .collect();
    types.join(", ")
}

/// Whether the operator may forget rows that only a retraction could bring back.
fn is_append_only(node: &PlanNode) -> bool {
    node.inputs.iter().all(|input| input.properties.append_only)
}

fn order_text(order_by: &[(BoundExpr, SortOptions)]) -> String {
    let order: Vec<String> = order_by
        .iter()
        .map(|(expr, options)| {
            format!(
                "{} {} {}",
                expr_text(expr),
                options.descending,
                options.nulls_first
            )
        })
        .collect();
    order.join(", ")
}

fn bounds_text(bounds: &[TimeBound]) -> String {
    let bounds: Vec<String> = bounds
        .iter()
        .map(|bound| format!("{} {}", bound.comparison.symbol(), expr_text(&bound.time)))
        .collect();
    bounds.join(", ")
}

fn calls_text(calls: &[AggregateCall], text: &mut String) {
    for call in calls {
        let _ = writeln!(text, "  {}", call_text(call));
    }
}

fn call_text(call: &AggregateCall) -> String {
    let args: Vec<String> = call.args.iter().map(expr_text).collect();
    format!(
        "{:?} {}{}({}) order ({}) ignore nulls {} -> {}",
        call.strategy,
        call.name,
        if call.distinct { " distinct" } else { "" },
        args.join(", "),
        order_text(&call.order_by),
        call.ignore_nulls,
        type_text(&call.data_type)
    )
}

fn expr_text(expr: &BoundExpr) -> String {
    format!(
        "{}: {}",
        describe(&expr.logical),
        type_text(&expr.data_type)
    )
}

fn type_text(data_type: &DataType) -> String {
    SqlType::of_field(&Field::new("", data_type.clone(), true)).to_string()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors of FNV-1a.
    #[test]
    fn hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
