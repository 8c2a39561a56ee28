//! Which part of a relation's stored rows a query has to read: from the conditions on it to ranges of keys.
//!
//! The conditions are only ever used to leave rows out that can not meet them; the query's own filter follows.

pub mod constraint;
pub mod place;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use self::constraint::{Bound, Constraint, constraint};
use crate::error::Result;
use crate::index::IndexFormat;
use crate::rows::{RowFormat, RowLayout};
use crate::state::{KeyCodec, KeyRange, prefix_end};

/// Ranges of one scan at most; a longer list of values is only followed as far as it fits.
const MAX_RANGES: usize = 4096;
/// How deep ORs within ORs are followed.
const MAX_DEPTH: usize = 3;
/// First byte of a cell that is not NULL, and the byte behind all of them.
const PRESENT: u8 = 0x01;
const BEHIND_PRESENT: u8 = 0x02;

/// What a scan reads.
#[derive(Debug, Clone)]
pub enum Access {
    /// All rows.
    All,
    /// Rows with storage keys in these ranges, which are sorted and do not meet.
    Rows(KeyRanges),
    /// Rows that these ranges of an index lead to.
    Index(Arc<IndexFormat>, KeyRanges),
}

/// Ranges of keys, sorted and apart from one another.
#[derive(Debug, Clone, Default)]
pub struct KeyRanges {
    pub ranges: Vec<KeyRange>,
    /// Each range is one whole key.
    pub are_points: bool,
    /// What they mean, for EXPLAIN.
    pub text: String,
    /// How many leading columns have one value in all of the ranges; `None` if there may be several.
    pub pinned: Option<usize>,
    /// Key columns that are pinned to single values, and whether the next one is bounded.
    rank: (usize, bool),
}

/// A key that conditions may be about.
struct Key<'a> {
    columns: &'a [usize],
    codec: &'a KeyCodec,
    options: &'a [SortOptions],
}

/// The best way to read the rows that meet all of `conditions`.
pub fn choose(
    format: &RowFormat,
    indexes: &[Arc<IndexFormat>],
    conditions: &[Expr],
) -> Result<Access> {
    let conjuncts: Vec<&Expr> = conditions.iter().flat_map(split_conjunction).collect();
    let mut best = match &format.layout {
        RowLayout::Keyed(columns) if !columns.is_empty() => {
            let options = vec![ASCENDING; columns.len()];
            let key = Key {
                columns,
                codec: format.key_codec(),
                options: &options,
            };
            ranges(&key, &conjuncts, &format.schema, 0)?.map(|mut found| {
                found.are_points = found.rank.0 == columns.len();
                if found.are_points {
                    // At most one row for each: no index is better.
                    found.rank = (usize::MAX, true);
                }
                found.text = format!("key: {}", found.text);
                (found.rank, Access::Rows(found))
            })
        }
        RowLayout::Keyed(_) | RowLayout::Bag | RowLayout::Log => None,
    };
    for index in indexes {
        let key = Key {
            columns: &index.columns,
            codec: &index.keys,
            options: &index.options,
        };
        if let Some(mut found) = ranges(&key, &conjuncts, &format.schema, 0)?
            && best.as_ref().is_none_or(|(rank, _)| found.rank > *rank)
        {
            found.text = format!("index {}: {}", index.name, found.text);
            best = Some((found.rank, Access::Index(index.clone(), found)));
        }
    }
    Ok(best.map_or(Access::All, |(_, access)| access))
}

/// How storage keys are ordered.
pub const ASCENDING: SortOptions = SortOptions {
    descending: false,
    nulls_first: false,
};

/// What the conditions say of each column, for columns of blocks.
pub fn constraints(conditions: &[Expr], schema: &SchemaRef) -> Vec<(usize, Constraint)> {
    let conjuncts = conditions.iter().flat_map(split_conjunction);
    conjuncts.filter_map(|c| constraint(c, schema)).collect()
}

/// The ranges of a key that the conjuncts leave; `None`: all of it.
fn ranges(
    key: &Key,
    conjuncts: &[&Expr],
    schema: &SchemaRef,
    depth: usize,
) -> Result<Option<KeyRanges>> {
    let known: Vec<(usize, Constraint)> = conjuncts
        .iter()
        .filter_map(|c| constraint(c, schema))
        .collect();
    if known.iter().any(|(column, _)| *column == key.columns[0]) {
        return Ok(Some(by_columns(key, &known, schema)?));
    }
    if depth == MAX_DEPTH {
        return Ok(None);
    }
    for (at, conjunct) in conjuncts.iter().enumerate() {
        let arms = split_or(conjunct);
        if arms.len() > 1
            && let Some(found) = by_arms(key, &arms, (conjuncts, at), schema, depth)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The arms of a condition that is an OR; itself if it is none.
pub fn split_or(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => [split_or(left), split_or(right)].concat(),
        other => vec![other],
    }
}

/// The ranges of a condition that is an OR, if each of its arms has some.
fn by_arms(
    key: &Key,
    arms: &[&Expr],
    (conjuncts, at): (&[&Expr], usize),
    schema: &SchemaRef,
    depth: usize,
) -> Result<Option<KeyRanges>> {
    let mut all = KeyRanges {
        rank: (usize::MAX, true),
        ..KeyRanges::default()
    };
    let mut texts = Vec::new();
    for arm in arms {
        let mut with_arm = split_conjunction(arm);
        with_arm.extend(conjuncts[..at].iter().chain(&conjuncts[at + 1..]));
        let Some(found) = ranges(key, &with_arm, schema, depth + 1)? else {
            return Ok(None);
        };
        all.rank = all.rank.min(found.rank);
        all.ranges.extend(found.ranges);
        texts.push(found.text);
        if all.ranges.len() > MAX_RANGES {
            return Ok(None);
        }
    }
    all.text = texts.join(" or ");
    all.ranges = apart(all.ranges);
    Ok(Some(all))
}

/// The ranges that conditions on single columns leave. There is one on the first column.
fn by_columns(key: &Key, known: &[(usize, Constraint)], schema: &SchemaRef) -> Result<KeyRanges> {
    let mut found = KeyRanges::default();
    let mut prefixes: Vec<Vec<ScalarValue>> = vec![Vec::new()];
    for (place, &column) in key.columns.iter().enumerate() {
        let of_column = || known.iter().filter(|(c, _)| *c == column).map(|(_, c)| c);
        let points = of_column().filter_map(|c| match c {
            Constraint::Points(points) => Some(points),
            Constraint::Range { .. } => None,
        });
        let name = schema.field(column).name();
        let separator = if place > 0 { ", " } else { "" };
        match points.min_by_key(|points| points.len()) {
            // The first column's list is always followed.
            Some(points) if place == 0 || prefixes.len() * points.len() <= MAX_RANGES => {
                prefixes = prefixes
                    .iter()
                    .flat_map(|prefix| points.iter().map(|p| with(prefix, p)))
                    .collect();
                found.rank.0 += 1;
                let _ = write!(found.text, "{separator}{}", points_text(name, points));
            }
            _ => {
                let bounds: Vec<&Constraint> = of_column()
                    .filter(|c| matches!(c, Constraint::Range { .. }))
                    .collect();
                if !bounds.is_empty() {
                    found.rank.1 = true;
                    for bounds in &bounds {
                        let separator = if found.text.is_empty() { "" } else { ", " };
                        let _ = write!(found.text, "{separator}{}", range_text(name, bounds));
                    }
                    found.pinned = (prefixes.len() == 1).then_some(place);
                    found.ranges = bounded(key, &prefixes, place, &bounds)?;
                    found.ranges = apart(found.ranges);
                    return Ok(found);
                }
                break;
            }
        }
    }
    found.pinned = (prefixes.len() == 1).then_some(found.rank.0);
    for prefix in &prefixes {
        let mut bytes = Vec::new();
        key.codec.encode_row_into(prefix, &mut bytes)?;
        found.ranges.push(KeyRange::prefix(&bytes));
    }
    found.ranges = apart(found.ranges);
    Ok(found)
}

fn with(prefix: &[ScalarValue], point: &ScalarValue) -> Vec<ScalarValue> {
    prefix.iter().chain([point]).cloned().collect()
}

/// The ranges behind each prefix in which the column at `place` is within all bounds.
fn bounded(
    key: &Key,
    prefixes: &[Vec<ScalarValue>],
    place: usize,
    bounds: &[&Constraint],
) -> Result<Vec<KeyRange>> {
    let mut ranges = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        let mut bytes = Vec::new();
        key.codec.encode_row_into(prefix, &mut bytes)?;
        // Not NULL.
        let mut from = [bytes.as_slice(), &[PRESENT]].concat();
        let mut to = [bytes.as_slice(), &[BEHIND_PRESENT]].concat();
        for constraint in bounds {
            let Constraint::Range { lower, upper } = constraint else {
                continue;
            };
            let (first, last) = match key.options[place].descending {
                false => (lower, upper),
                true => (upper, lower),
            };
            let edge = |bound: &Bound| -> Result<Vec<u8>> {
                let mut edge = Vec::new();
                key.codec
                    .encode_row_into(&with(prefix, &bound.value), &mut edge)?;
                Ok(edge)
            };
            // Keys that begin with an edge have its value.
            if let Some(bound) = first {
                let edge = edge(bound)?;
                from = from.max(if bound.is_inclusive {
                    edge
                } else {
                    behind(edge)
                });
            }
            if let Some(bound) = last {
                let edge = edge(bound)?;
                to = to.min(if bound.is_inclusive {
                    behind(edge)
                } else {
                    edge
                });
            }
        }
        ranges.push(KeyRange::new(from, Some(to)));
    }
    Ok(ranges)
}

/// The first key behind all that begin with `prefix`, which is not all FF: its first byte is a cell's marker.
fn behind(prefix: Vec<u8>) -> Vec<u8> {
    prefix_end(&prefix).unwrap_or(prefix)
}

/// The ranges in order, empty ones left out, those that meet made one.
fn apart(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.retain(|range| range.to.as_ref().is_none_or(|to| range.from < *to));
    ranges.sort_by(|a, b| a.from.cmp(&b.from));
    let mut apart: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut() {
            Some(last) if last.to.as_ref().is_none_or(|to| range.from < *to) => {
                // Its end is the later one; `None` is the end of the table.
                last.to = match (last.to.take(), range.to) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            _ => apart.push(range),
        }
    }
    apart
}

fn points_text(name: &str, points: &[ScalarValue]) -> String {
    match points {
        [] => format!("{name} has no such value"),
        [point] if point.is_null() => format!("{name} IS NULL"),
        [point] => format!("{name} = {}", shown(point)),
        points => format!("{name} one of {} values", points.len()),
    }
}

/// A value as EXPLAIN shows it.
fn shown(value: &ScalarValue) -> String {
    let options = FormatOptions::default();
    let text = || {
        let array = value.to_array().ok()?;
        let formatter = ArrayFormatter::try_new(&array, &options).ok()?;
        Some(formatter.value(0).to_string())
    };
    let text = text().unwrap_or_else(|| value.to_string());
    match value {
        ScalarValue::Utf8(_) => format!("'{text}'"),
        _ => text,
    }
}

fn range_text(name: &str, constraint: &Constraint) -> String {
    let Constraint::Range { lower, upper } = constraint else {
        return String::new();
    };
    let side = |bound: &Option<Bound>, sign: &str| {
        let bound = bound.as_ref()?;
        let equal = if bound.is_inclusive { "=" } else { "" };
        Some(format!("{name} {sign}{equal} {}", shown(&bound.value)))
    };
    let sides: Vec<String> = [side(lower, ">"), side(upper, "<")]
        .into_iter()
        .flatten()
        .collect();
    match sides.is_empty() {
        true => format!("{name} IS NOT NULL"),
        false => sides.join(", "),
    }
}
