//! TUMBLE, HOP, CUMULATE and SESSION as sugar: table functions that become ordinary subqueries before binding.
//!
//! ```text
//! TUMBLE(rel, ts, size [, offset])       SELECT *, rm_window_start(ts, size, offset) AS window_start, ... + size AS window_end
//! HOP(rel, ts, slide, size [, offset])   the same over unnest(rm_window_starts(ts, slide, size, offset))
//! CUMULATE(rel, ts, step, size [, offset])  over unnest(rm_cumulate_ends(ts, step, size, offset))
//! GAP_FILL(rel, ts, width [PARTITION BY k]) the rows of rel, and one row with k and ts for each time between the first
//!                                           and the last one of k, width apart, at which k has none
//! SESSION(rel, ts, gap [PARTITION BY k])    rm_session_start(ts, gap) OVER (PARTITION BY k ORDER BY ts) AS window_start, ...
//! ```

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config,
};
use sqlparser::ast::{Expr, Interval, Value, ValueWithSpan};

use crate::error::{PlanError, Result};
use crate::names::{fold, ident};

/// Columns that a window function adds.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// The argument name that the keys of a session are passed by.
pub const PARTITION_ARGUMENT: &str = "partition_by";

/// Which window function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    Tumble,
    Hop,
    Cumulate,
    Session,
    GapFill,
}

/// A checked call, without its relation. Lengths are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCall {
    pub kind: WindowKind,
    /// Name of the time column.
    pub time: String,
    /// Slide of HOP, step of CUMULATE; of TUMBLE its size, of SESSION its gap, of GAP_FILL its width.
    pub step: i64,
    pub size: i64,
    pub offset: i64,
    /// Columns by which SESSION and GAP_FILL tell rows apart.
    pub partition_by: Vec<String>,
}

impl WindowKind {
    /// The window function called `name`.
    pub fn of(name: &str) -> Result<Option<WindowKind>> {
        match name {
            "tumble" => Ok(Some(WindowKind::Tumble)),
            "hop" => Ok(Some(WindowKind::Hop)),
            "cumulate" => Ok(Some(WindowKind::Cumulate)),
            "session" => Ok(Some(WindowKind::Session)),
            "gap_fill" => Ok(Some(WindowKind::GapFill)),
            _ => Ok(None),
        }
    }

    fn name(self) -> &'static str {
        match self {
            WindowKind::Tumble => "TUMBLE",
            WindowKind::Hop => "HOP",
            WindowKind::Cumulate => "CUMULATE",
            WindowKind::Session => "SESSION",
            WindowKind::GapFill => "GAP_FILL",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            WindowKind::Tumble => "TUMBLE(relation, time_column, size [, offset])",
            WindowKind::Hop => "HOP(relation, time_column, slide, size [, offset])",
            WindowKind::Cumulate => "CUMULATE(relation, time_column, step, size [, offset])",
            WindowKind::Session => "SESSION(relation, time_column, gap [PARTITION BY column, ...])",
            WindowKind::GapFill => {
                "GAP_FILL(relation, time_column, width [PARTITION BY column, ...])"
            }
        }
    }

    /// The columns that it adds to those of the relation.
    pub fn added_columns(self) -> &'static [&'static str] {
        match self {
            WindowKind::GapFill => &[],
            _ => &WINDOW_COLUMNS,
        }
    }

    fn is_partitioned(self) -> bool {
        matches!(self, WindowKind::Session | WindowKind::GapFill)
    }
}

impl WindowCall {
    /// Checks the arguments that follow the relation; `columns` are the relation's.
    /// `keys`: those of PARTITION BY.
    pub fn parse(
        kind: WindowKind,
        args: &[&Expr],
        keys: &[&Expr],
        columns: &[String],
    ) -> Result<WindowCall> {
        let (lengths, most) = match kind {
            WindowKind::Tumble => (1, 2),
            WindowKind::Hop | WindowKind::Cumulate => (2, 3),
            WindowKind::Session | WindowKind::GapFill => (1, 1),
        };
        if !kind.is_partitioned() && !keys.is_empty() {
            return Err(invalid(
                format!("{} has no PARTITION BY; group by the columns", kind.name()),
                kind.usage(),
            ));
        }
        let Some((time, rest)) = args
            .split_first()
            .filter(|(_, r)| (lengths..=most).contains(&r.len()))
        else {
            return Err(invalid(
                format!("{} has the wrong number of arguments", kind.name()),
                kind.usage(),
            ));
        };
        let time = column_of(time, kind, columns)?;
        let partition_by = keys
            .iter()
            .map(|key| column_of(key, kind, columns))
            .collect::<Result<_>>()?;
        if let Some(taken) = kind
            .added_columns()
            .iter()
            .find(|name| columns.iter().any(|c| c == *name))
        {
            return Err(PlanError::Duplicate {
                kind: crate::error::UndefinedKind::Column,
                message: format!(
                    "column \"{taken}\" exists already in the relation of {}",
                    kind.name()
                ),
            });
        }
        let lengths_us = rest
            .iter()
            .map(|e| microseconds(e, kind))
            .collect::<Result<Vec<_>>>()?;
        let (positive, offset) = lengths_us.split_at(lengths);
        if positive.iter().any(|length| *length <= 0) {
            return Err(invalid(
                format!("the lengths of {} must be positive", kind.name()),
                kind.usage(),
            ));
        }
        let (step, size) = (positive[0], positive[lengths - 1]);
        if kind == WindowKind::Cumulate && size % step != 0 {
            return Err(invalid(
                "the size of CUMULATE must be a multiple of its step".to_string(),
                kind.usage(),
            ));
        }
        Ok(WindowCall {
            kind,
            time,
            step,
            size,
            offset: offset.first().copied().unwrap_or(0),
            partition_by,
        })
    }

    /// The SELECT that the call stands for, over `relation` (SQL text of a FROM item without alias).
    pub fn to_sql(&self, relation: &str, columns: &[String]) -> String {
        let WindowCall {
            step, size, offset, ..
        } = self;
        let time = ident(&self.time);
        let list = |table: &str| {
            columns
                .iter()
                .map(|c| format!("{table}.{}", ident(c)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let interval = |micros: &i64| format!("INTERVAL '{micros} microseconds'");
        let start = format!("rm_window_start(t.{time}, {size}, {offset})");
        match self.kind {
            WindowKind::Tumble => format!(
                "SELECT {}, {start} AS window_start, {start} + {} AS window_end FROM {relation} AS t",
                list("t"),
                interval(size),
            ),
            WindowKind::Hop => format!(
                "SELECT {}, w.window_start, w.window_start + {} AS window_end FROM (SELECT {}, \
                 unnest(rm_window_starts(t.{time}, {step}, {size}, {offset})) AS window_start FROM {relation} AS t) AS w",
                list("w"),
                interval(size),
                list("t"),
            ),
            WindowKind::Cumulate => format!(
                "SELECT {}, {start} AS window_start, t.window_end FROM (SELECT {}, \
                 unnest(rm_cumulate_ends(t.{time}, {step}, {size}, {offset})) AS window_end FROM {relation} AS t) AS t",
                list("t"),
                list("t"),
            ),
            WindowKind::GapFill => self.filled_sql(relation, columns),
            WindowKind::Session => {
                let keys: Vec<String> = self
                    .partition_by
                    .iter()
                    .map(|key| format!("t.{}", ident(key)))
                    .collect();
                let partition = match keys.is_empty() {
                    true => String::new(),
                    false => format!("PARTITION BY {} ", keys.join(", ")),
                };
                let over = format!("OVER ({partition}ORDER BY t.{time})");
                format!(
                    "SELECT {}, rm_session_start(t.{time}, {size}) {over} AS window_start, \
                     rm_session_end(t.{time}, {size}) {over} AS window_end FROM {relation} AS t WHERE t.{time} IS NOT NULL",
                    list("t"),
                )
            }
        }
    }
}

impl WindowCall {
    /// GAP_FILL: the rows, and those that are missing, in which all but keys and time is NULL.
    fn filled_sql(&self, relation: &str, columns: &[String]) -> String {
        let time = ident(&self.time);
        let is_key = |column: &String| self.partition_by.contains(column);
        let list = |of: &dyn Fn(&String) -> String| {
            let items: Vec<String> = columns.iter().map(of).collect();
            items.join(", ")
        };
        let rows = list(&|column| format!("t.{}", ident(column)));
        let missing = list(&|column| {
            let name = ident(column);
            match *column == self.time || is_key(column) {
                true => format!("g.{name}"),
                false => format!("NULL AS {name}"),
            }
        });
        let keys: Vec<String> = self
            .partition_by
            .iter()
            .map(|k| ident(k).to_string())
            .collect();
        let of_group: String = keys.iter().map(|key| format!("t.{key}, ")).collect();
        let group_by = match keys.is_empty() {
            true => String::new(),
            false => format!(" GROUP BY {}", of_group.trim_end_matches(", ")),
        };
        let of_ends: String = keys.iter().map(|key| format!("e.{key}, ")).collect();
        let is_same: String = keys
            .iter()
            .map(|key| format!("t.{key} IS NOT DISTINCT FROM g.{key} AND "))
            .collect();
        let width = self.size;
        format!(
            "SELECT {rows} FROM {relation} AS t UNION ALL SELECT {missing} FROM (SELECT {of_ends}unnest(rm_steps(e.first, \
             e.last, {width})) AS {time} FROM (SELECT {of_group}min(t.{time}) AS first, max(t.{time}) AS last FROM {relation} \
             AS t{group_by}) AS e) AS g WHERE NOT EXISTS (SELECT 1 FROM {relation} AS t WHERE {is_same}t.{time} = g.{time})"
        )
    }
}

/// The name of a column of the relation.
fn column_of(expr: &Expr, kind: WindowKind, columns: &[String]) -> Result<String> {
    let name = match expr {
        Expr::Identifier(name) => fold(name),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold).unwrap_or_default(),
        other => {
            return Err(invalid(
                format!("{} needs the name of a column, not {other}", kind.name()),
                kind.usage(),
            ));
        }
    };
    if columns.contains(&name) {
        return Ok(name);
    }
    Err(PlanError::Undefined {
        kind: crate::error::UndefinedKind::Column,
        message: format!("column \"{name}\" does not exist"),
        position: None,
    })
}

fn invalid(message: String, usage: &str) -> PlanError {
    PlanError::InvalidDefinition {
        message,
        hint: Some(format!("usage: {usage}")),
    }
}

/// A constant interval in microseconds; a day is 24 hours.
fn microseconds(expr: &Expr, kind: WindowKind) -> Result<i64> {
    let text = interval_text(expr).ok_or_else(|| {
        invalid(
            format!("{} needs constant intervals, not {expr}", kind.name()),
            kind.usage(),
        )
    })?;
    let interval =
        parse_interval_month_day_nano_config(&text, IntervalParseConfig::new(IntervalUnit::Second))
            .map_err(|_| PlanError::Evaluation {
                message: format!("invalid input syntax for type interval: \"{text}\""),
            })?;
    if interval.months != 0 {
        return Err(PlanError::Unsupported {
            feature: format!("a {} of months or years", kind.name()),
            hint: "their lengths differ; group by date_trunc('month', ts) instead".to_string(),
        });
    }
    let out_of_range = || PlanError::Evaluation {
        message: format!("interval out of range: \"{text}\""),
    };
    if interval.nanoseconds % 1_000 != 0 {
        return Err(invalid(
            "window lengths are at least a microsecond".to_string(),
            kind.usage(),
        ));
    }
    i64::from(interval.days)
        .checked_mul(86_400_000_000)
        .and_then(|days| days.checked_add(interval.nanoseconds / 1_000))
        .ok_or_else(out_of_range)
}

fn interval_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Interval(Interval {
            value,
            leading_field,
            last_field: None,
            ..
        }) => {
            let value = literal_text(value)?;
            Some(match leading_field {
                Some(field) => format!("{value} {field}"),
                None => value,
            })
        }
        Expr::Nested(inner) => interval_text(inner),
        Expr::Cast {
            expr,
            data_type: sqlparser::ast::DataType::Interval { .. },
            ..
        } => literal_text(expr),
        Expr::TypedString(typed) => typed.value.clone().into_string(),
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => Some(text.clone()),
        _ => None,
    }
}

fn literal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::Number(text, _),
            ..
        }) => Some(text.clone()),
        Expr::UnaryOp {
            op: sqlparser::ast::UnaryOperator::Minus,
            expr,
        } => literal_text(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn parse(text: &str) -> Expr {
        Parser::new(&PostgreSqlDialect {})
            .try_with_sql(text)
            .unwrap()
            .parse_expr()
            .unwrap()
    }

    #[test]
    fn intervals() {
        for (text, expected) in [
            ("INTERVAL '10 seconds'", Ok(10_000_000)),
            ("INTERVAL '1' MINUTE", Ok(60_000_000)),
            ("INTERVAL '1 day 2 hours'", Ok(93_600_000_000)),
            ("'5 ms'", Ok(5_000)),
            ("'5 ms'::interval", Ok(5_000)),
            (
                "INTERVAL '1 month'",
                Err("a TUMBLE of months or years is not supported"),
            ),
            ("5", Err("TUMBLE needs constant intervals, not 5")),
            (
                "INTERVAL 'soon'",
                Err("invalid input syntax for type interval: \"soon\""),
            ),
        ] {
            match (microseconds(&parse(text), WindowKind::Tumble), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().starts_with(expected), "{text}: {found}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn calls_are_checked() {
        let columns = ["k".to_string(), "ts".to_string()];
        for (kind, args, expected) in [
            (
                WindowKind::Tumble,
                vec!["ts"],
                "TUMBLE has the wrong number of arguments",
            ),
            (
                WindowKind::Tumble,
                vec!["nope", "INTERVAL '1 s'"],
                "column \"nope\" does not exist",
            ),
            (
                WindowKind::Tumble,
                vec!["ts", "INTERVAL '0 s'"],
                "the lengths of TUMBLE must be positive",
            ),
            (
                WindowKind::Hop,
                vec!["ts", "INTERVAL '-1 s'", "INTERVAL '1 s'"],
                "the lengths of HOP must be positive",
            ),
            (
                WindowKind::Cumulate,
                vec!["ts", "INTERVAL '2 s'", "INTERVAL '3 s'"],
                "the size of CUMULATE must be",
            ),
            (
                WindowKind::Session,
                vec!["ts", "INTERVAL '1 s'", "INTERVAL '3 s'"],
                "SESSION has the wrong number of arguments",
            ),
            (
                WindowKind::Session,
                vec!["ts", "INTERVAL '0 s'"],
                "the lengths of SESSION must be positive",
            ),
        ] {
            let args: Vec<Expr> = args.into_iter().map(parse).collect();
            let found = WindowCall::parse(kind, &args.iter().collect::<Vec<_>>(), &[], &columns)
                .unwrap_err();
            assert!(found.to_string().starts_with(expected), "{found}");
        }
    }
}
