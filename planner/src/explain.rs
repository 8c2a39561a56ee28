//! EXPLAIN of a streaming plan: one line per operator, inputs indented below it, with properties and state tables.

use std::fmt::Write;

use crate::describe::describe;
use crate::plan::{
    AggregateStrategy, BoundExpr, JoinKey, JoinKind, PlanNode, PlanOp, StreamPlan,
};

/// The plan as text, one line per element.
pub fn explain(plan: &StreamPlan) -> Vec<String> {
    let root = &plan.root;
    let mut materialize = "Materialize".to_string();
    match &root.properties.stream_key {
        // Writing to a String can not fail.
        Some(key) => {
            let _ = write!(materialize, " key=({})", names(root, key));
        }
        None => materialize += " key=whole row",
    }
    if root.properties.append_only {
        materialize += " append-only";
    }
    let mut lines = vec![materialize];
    let mut tables = 0;
    explain_node(root, 1, &mut tables, &mut lines);
    lines.push(format!(
        "State tables: {tables}, fingerprint {:016x}",
        plan.fingerprint
    ));
    lines
}

/// Appends the lines of a subtree; `tables` counts the state tables given out so far, inputs first.
fn explain_node(node: &PlanNode, depth: usize, tables: &mut u32, lines: &mut Vec<String>) {
    let mut below = Vec::new();
    for input in &node.inputs {
        explain_node(input, depth + 1, tables, &mut below);
    }
    let mut line = format!("{}{}{}", "  ".repeat(depth), node.op.name(), details(node));
    let properties = &node.properties;
    if properties.append_only {
        line += " append-only";
    }
    if !properties.watermark_columns.is_empty() {
        let _ = write!(
            line,
            " watermark=({})",
            names(node, &properties.watermark_columns)
        );
    }
    let owned = node.op.state_tables();
    if owned > 0 {
        let _ = write!(line, " state=#{}..#{}", *tables, *tables + owned - 1);
        *tables += owned;
    }
    if !properties.grows.is_empty() {
        line += " grows";
    }
    lines.push(line);
    lines.append(&mut below);
}

fn details(node: &PlanNode) -> String {
    match &node.op {
        PlanOp::Scan { name, .. } => {
            let columns: Vec<usize> = (0..node.schema.fields().len()).collect();
            format!(" {name} columns=({})", names(node, &columns))
        }
        PlanOp::Values { rows } => format!(" rows={}", rows.num_rows()),
        PlanOp::Filter { predicate } => format!(" {}", describe(&predicate.logical)),
        PlanOp::Project { exprs } => format!(" {}", projected(node, exprs)),
        PlanOp::Unnest { columns } => format!(" ({})", names(node, columns)),
        PlanOp::UnionAll => String::new(),
        PlanOp::Aggregate { group_by, calls } => {
            let keys: Vec<String> = group_by.iter().map(|key| describe(&key.logical)).collect();
            let mut text = if group_by.is_empty() {
                String::new()
            } else {
                format!(" by=({})", keys.join(", "))
            };
            for call in calls {
                let strategy = match call.strategy {
                    AggregateStrategy::Linear => "linear",
                    AggregateStrategy::Mergeable => "mergeable",
                    AggregateStrategy::Multiset => "multiset",
                };
                let _ = write!(text, " {}:{strategy}", call.display);
            }
            text
        }
        PlanOp::Join {
            kind,
            keys,
            residual,
        } => joined(*kind, keys, residual.as_ref()),
    }
}

/// ` inner on (a = k, b IS NOT DISTINCT FROM l) where x < y`.
fn joined(kind: JoinKind, keys: &[JoinKey], residual: Option<&BoundExpr>) -> String {
    let pairs: Vec<String> = keys
        .iter()
        .map(|key| {
            let sign = if key.matches_null {
                "IS NOT DISTINCT FROM"
            } else {
                "="
            };
            let (left, right) = (describe(&key.left.logical), describe(&key.right.logical));
            format!("{left} {sign} {right}")
        })
        .collect();
    let mut text = format!(" {}", kind.name());
    if !pairs.is_empty() {
        let _ = write!(text, " on ({})", pairs.join(", "));
    }
    if let Some(residual) = residual {
        let _ = write!(text, " where {}", describe(&residual.logical));
    }
    text
}

/// `a, b + 1 AS c`.
fn projected(node: &PlanNode, exprs: &[BoundExpr]) -> String {
    let items: Vec<String> = exprs
        .iter()
        .zip(node.schema.fields())
        .map(|(expr, field)| {
            let text = describe(&expr.logical);
            if text == *field.name() {
                text
            } else {
                format!("{text} AS {}", field.name())
            }
        })
        .collect();
    items.join(", ")
}

fn names(node: &PlanNode, columns: &[usize]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .map(|c| node.schema.field(*c).name().as_str())
        .collect();
    names.join(", ")
}
