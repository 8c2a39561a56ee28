//! EXPLAIN of a streaming plan: one line per operator, inputs indented below it, with properties and state tables.

use std::fmt::Write;

use arrow::compute::SortOptions;

use crate::describe::{describe, sorted};
use crate::plan::{
    AggregateCall, AggregateStrategy, BoundExpr, Counting, GroupingSet, JoinKey, JoinKind,
    PlanNode, PlanOp, Reach, SetOperation, StreamPlan,
};
use crate::prefix::{Prefix, used_columns};

/// So many views are named that share a prefix.
const NAMED_SHARERS: usize = 5;

/// The plan as text, one line per element.
pub fn explain(plan: &StreamPlan) -> Vec<String> {
    explain_with(plan, &|_, _| None)
}

/// As [`explain`]; `views_with` gives the names of the views that have a prefix, too.
pub fn explain_shared(
    plan: &StreamPlan,
    views_with: &dyn Fn(&Prefix) -> Vec<String>,
) -> Vec<String> {
    let root = &plan.root;
    explain_with(plan, &|_, node| {
        let node = node?;
        let prefix = Prefix::of(node, &|object| used_columns(root, object))?;
        sharers(&views_with(&prefix))
    })
}

/// What is added to a line, by its number and node. The first line, number 0, has none: it is what stores the rows.
pub type Note<'a> = dyn Fn(usize, Option<&PlanNode>) -> Option<String> + 'a;

/// As [`explain`], with notes at the lines' ends.
pub fn explain_with(plan: &StreamPlan, note: &Note<'_>) -> Vec<String> {
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
    add_note(&mut materialize, note(0, None));
    let mut text = Text {
        lines: vec![materialize],
        next: 1,
        tables: 0,
        note,
    };
    let lines = text.subtree(root, 1);
    text.lines.extend(lines);
    text.lines.push(format!(
        "State tables: {}, fingerprint {:016x}",
        text.tables, plan.fingerprint
    ));
    text.lines
}

/// A plan's text while it is written.
struct Text<'a> {
    lines: Vec<String>,
    /// Number of the next line.
    next: usize,
    /// State tables given out so far, inputs first.
    tables: u32,
    note: &'a Note<'a>,
}

impl Text<'_> {
    /// The lines of a subtree.
    fn subtree(&mut self, node: &PlanNode, depth: usize) -> Vec<String> {
        let number = self.next;
        self.next += 1;
        let mut below = Vec::new();
        for input in &node.inputs {
            below.extend(self.subtree(input, depth + 1));
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
            let first = self.tables;
            let _ = write!(line, " state=#{first}..#{}", first + owned - 1);
            self.tables += owned;
        }
        if !properties.grows.is_empty() {
            line += " grows";
        }
        add_note(&mut line, (self.note)(number, Some(node)));
        below.insert(0, line);
        below
    }
}

fn add_note(line: &mut String, note: Option<String>) {
    if let Some(note) = note {
        line.push(' ');
        line.push_str(&note);
    }
}

/// `shared with: a, b and 3 more`.
fn sharers(views: &[String]) -> Option<String> {
    let (named, rest) = views.split_at(views.len().min(NAMED_SHARERS));
    match (named, rest.len()) {
        ([], _) => None,
        (named, 0) => Some(format!("shared with: {}", named.join(", "))),
        (named, more) => Some(format!("shared with: {} and {more} more", named.join(", "))),
    }
}

fn details(node: &PlanNode) -> String {
    match &node.op {
        PlanOp::Scan { name, .. } => {
            let columns: Vec<usize> = (0..node.schema.fields().len()).collect();
            format!(" {name} columns=({})", names(node, &columns))
        }
        PlanOp::Values { rows } => format!(" rows={}", rows.num_rows()),
        PlanOp::Filter { predicate } => format!(" {}", describe(&predicate.logical)),
        PlanOp::TemporalFilter { bounds } => {
            let bounds: Vec<String> = bounds
                .iter()
                .map(|bound| {
                    let time = describe(&bound.time.logical);
                    format!("now() {} {time}", bound.comparison.symbol())
                })
                .collect();
            format!(" {}", bounds.join(" AND "))
        }
        PlanOp::Project { exprs } => format!(" {}", projected(node, exprs)),
        PlanOp::Unnest { columns } => format!(" ({})", names(node, columns)),
        PlanOp::UnionAll => String::new(),
        PlanOp::WindowClose { column } => format!(" by {}", names(node, &[*column])),
        PlanOp::Aggregate {
            group_by, calls, ..
        } => {
            let keys: Vec<String> = group_by.iter().map(|key| describe(&key.logical)).collect();
            let text = if group_by.is_empty() {
                String::new()
            } else {
                format!(" by=({})", keys.join(", "))
            };
            text + &calls_text(calls)
        }
        PlanOp::Panes {
            keys,
            calls,
            time,
            windows,
        } => {
            let by: Vec<usize> = (0..keys.len()).collect();
            let input = node.inputs.first();
            let time = input.map_or_else(String::new, |input| names(input, &[*time]));
            let (by, calls) = (names(node, &by), calls_text(calls));
            format!(" by=({by}){calls} time={time} {windows}")
        }
        PlanOp::Join {
            kind,
            keys,
            residual,
            is_as_of_now,
            ..
        } => joined((*kind, *is_as_of_now), keys, residual.as_ref()),
        PlanOp::Nearest { .. } => nearest(node),
        PlanOp::GroupingSets { keys, sets } => format!(" {}", sets_text(keys, sets)),
        PlanOp::SetOperation { operation } => match operation {
            SetOperation::Except => " EXCEPT",
            SetOperation::ExceptAll => " EXCEPT ALL",
            SetOperation::Intersect => " INTERSECT",
            SetOperation::IntersectAll => " INTERSECT ALL",
        }
        .to_string(),
        PlanOp::Over {
            partition_by,
            order_by,
            calls,
            ..
        } => {
            let mut text = ordering(partition_by, order_by);
            for call in calls {
                let _ = write!(text, " {}:{}", call.display, reach_text(call.reach));
            }
            text
        }
        PlanOp::Session {
            partition_by,
            time,
            gap_us,
            is_final,
            ..
        } => {
            let mut text = ordering(partition_by, &[]);
            let _ = write!(text, " time={} gap={gap_us} us", describe(&time.logical));
            text + if *is_final { " when over" } else { "" }
        }
        PlanOp::TopN {
            partition_by,
            order_by,
            skip,
            fetch,
            counting,
            is_numbered,
            ..
        } => {
            let mut text = ordering(partition_by, order_by);
            if let Some(fetch) = fetch {
                let _ = write!(text, " limit={fetch}");
            }
            if *skip > 0 {
                let _ = write!(text, " offset={skip}");
            }
            text += match counting {
                Counting::Rows => "",
                Counting::Ties => " with ties",
                Counting::Values => " of distinct values",
            };
            text + if *is_numbered { " numbered" } else { "" }
        }
    }
}

/// Each call and how it is kept up to date.
fn calls_text(calls: &[AggregateCall]) -> String {
    let mut text = String::new();
    for call in calls {
        let strategy = match call.strategy {
            AggregateStrategy::Linear => "linear",
            AggregateStrategy::Mergeable => "mergeable",
            AggregateStrategy::Multiset => "multiset",
        };
        // Writing to a String can not fail.
        let _ = write!(text, " {}:{strategy}", call.display);
    }
    text
}

/// `(a, b) (a) ()`.
fn sets_text(keys: &[BoundExpr], sets: &[GroupingSet]) -> String {
    let set_text = |set: &GroupingSet| {
        let kept = keys
            .iter()
            .zip(&set.left_out)
            .filter(|(_, is_out)| !**is_out);
        let kept: Vec<String> = kept.map(|(key, _)| describe(&key.logical)).collect();
        format!("({})", kept.join(", "))
    };
    sets.iter().map(set_text).collect::<Vec<_>>().join(" ")
}

/// `-2..+1 rows`.
fn reach_text(reach: Reach) -> String {
    match reach {
        Reach::Rows { before, after } => format!("-{before}..+{after} rows"),
        Reach::Before => "rows before".to_string(),
        Reach::Partition => "partition".to_string(),
    }
}

/// ` by=(a) order=(b DESC)`.
fn ordering(partition_by: &[BoundExpr], order_by: &[(BoundExpr, SortOptions)]) -> String {
    let mut text = String::new();
    if !partition_by.is_empty() {
        let keys: Vec<String> = partition_by.iter().map(|k| describe(&k.logical)).collect();
        let _ = write!(text, " by=({})", keys.join(", "));
    }
    if !order_by.is_empty() {
        let keys: Vec<String> = order_by
            .iter()
            .map(|(key, options)| sorted(&key.logical, *options))
            .collect();
        let _ = write!(text, " order=({})", keys.join(", "));
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

/// ` left on (k = k) latest ts <= ts`.
fn nearest(node: &PlanNode) -> String {
    let PlanOp::Nearest {
        keeps_unmatched,
        keys,
        times,
        tolerance,
        ..
    } = &node.op
    else {
        return String::new();
    };
    let kind = match keeps_unmatched {
        true => JoinKind::Left,
        false => JoinKind::Inner,
    };
    let near = match (times.is_latest, times.is_strict) {
        (true, false) => ("latest", "<="),
        (true, true) => ("latest", "<"),
        (false, false) => ("earliest", ">="),
        (false, true) => ("earliest", ">"),
    };
    let (left, right) = (&times.left.logical, &times.right.logical);
    let joined = joined((kind, false), keys, tolerance.as_ref());
    let (left, right) = (describe(left), describe(right));
    format!("{joined} {} {right} {} {left}", near.0, near.1)
}

/// ` inner on (a = k, b IS NOT DISTINCT FROM l) where x < y`.
fn joined(
    (kind, is_as_of_now): (JoinKind, bool),
    keys: &[JoinKey],
    residual: Option<&BoundExpr>,
) -> String {
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
    if is_as_of_now {
        text += " as of now";
    }
    if !pairs.is_empty() {
        let _ = write!(text, " on ({})", pairs.join(", "));
    }
    if let Some(residual) = residual {
        let _ = write!(text, " where {}", describe(&residual.logical));
    }
    text
}
