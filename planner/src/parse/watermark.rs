//! `WATERMARK FOR column AS column - delay`, and the columns it may name.

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config,
};
use sqlparser::ast::{BinaryOperator, DataType, Expr, Value};

use super::input::Input;
use crate::catalog::{ColumnDef, WatermarkDef};
use crate::error::{PlanError, Result, UndefinedKind};
use crate::identifier::fold;
use crate::types::SqlType;

const MICROS_PER_DAY: i64 = 86_400_000_000;
const HINT: &str = "write WATERMARK FOR ts AS ts - INTERVAL '5 seconds'";

/// What stands behind WATERMARK FOR. The column is checked by [`check_watermark`] when all columns are known.
pub(super) fn watermark(input: &mut Input) -> Result<WatermarkDef> {
    let column = input.name("a column name")?;
    input.expect(&["AS"])?;
    let expr = input.expression()?;
    let delay_us = delay(&column, &expr)?;
    Ok(WatermarkDef { column, delay_us })
}

/// The column must exist and be a timestamp.
pub(super) fn check_watermark(watermark: &WatermarkDef, columns: &[ColumnDef]) -> Result<()> {
    let name = &watermark.column;
    let Some(column) = columns.iter().find(|c| c.name == *name) else {
        return Err(PlanError::Undefined {
            kind: UndefinedKind::Column,
            message: format!("column \"{name}\" named in WATERMARK FOR does not exist"),
            position: None,
        });
    };
    match column.data_type {
        SqlType::Timestamp | SqlType::Timestamptz => Ok(()),
        ref other => Err(PlanError::InvalidDefinition {
            message: format!(
                "a watermark needs a timestamp column, but \"{name}\" is of type {other}"
            ),
            hint: Some(
                "declare it TIMESTAMPTZ; ENCODE JSON (timestamp.unit = 'ms') reads numbers as times"
                    .to_string(),
            ),
        }),
    }
}

fn delay(column: &str, expr: &Expr) -> Result<i64> {
    match expr {
        Expr::Nested(inner) => delay(column, inner),
        Expr::Identifier(_) if is_column(column, expr) => Ok(0),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Minus,
            right,
        } if is_column(column, left) => {
            let text = interval_text(right).ok_or_else(not_a_delay)?;
            interval_micros(&text)
        }
        _ => Err(not_a_delay()),
    }
}

fn is_column(column: &str, expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_column(column, inner),
        Expr::Identifier(ident) if ident.quote_style.is_some() => ident.value == column,
        Expr::Identifier(ident) => fold(&ident.value) == column,
        _ => false,
    }
}

fn not_a_delay() -> PlanError {
    PlanError::InvalidDefinition {
        message: "a watermark must be its column, or its column minus a constant interval"
            .to_string(),
        hint: Some(HINT.to_string()),
    }
}

/// The text of `INTERVAL '5' SECOND`, `INTERVAL '5 seconds'`, `'5 seconds'::interval` and `'5 seconds'`.
fn interval_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => interval_text(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(text.clone())
            }
            _ => None,
        },
        Expr::Cast {
            expr,
            data_type: DataType::Interval { .. },
            ..
        } => interval_text(expr),
        Expr::Interval(interval) if interval.last_field.is_none() => {
            let number = match interval.value.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::SingleQuotedString(text) | Value::Number(text, _) => text.clone(),
                    _ => return None,
                },
                _ => return None,
            };
            Some(match &interval.leading_field {
                Some(unit) => format!("{number} {unit}"),
                None => number,
            })
        }
        _ => None,
    }
}

fn interval_micros(text: &str) -> Result<i64> {
    if let Some(micros) = clock_micros(text) {
        return Ok(micros);
    }
    let seconds = IntervalParseConfig::new(IntervalUnit::Second);
    let interval = parse_interval_month_day_nano_config(text, seconds).map_err(|_| {
        PlanError::InvalidDefinition {
            message: format!("invalid interval \"{text}\" in WATERMARK FOR"),
            hint: Some(HINT.to_string()),
        }
    })?;
    if interval.months != 0 {
        return Err(PlanError::InvalidDefinition {
            message: "a watermark's delay has no fixed length if it has months or years"
                .to_string(),
            hint: Some("write it in days or smaller units".to_string()),
        });
    }
    let micros = i64::from(interval.days) * MICROS_PER_DAY + interval.nanoseconds / 1_000;
    if micros < 0 {
        return Err(PlanError::invalid_definition(
            "a watermark's delay can not be negative",
        ));
    }
    Ok(micros)
}

/// `hours:minutes[:seconds]`, which arrow's parser does not take.
fn clock_micros(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.trim().split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, *seconds),
        _ => return None,
    };
    let digits = |part: &str| part.parse::<u32>().ok().map(i64::from);
    let seconds: f64 = seconds.parse().ok().filter(|s| (0.0..60.0).contains(s))?;
    let minutes = digits(minutes).filter(|m| *m < 60)?;
    Some((digits(hours)? * 60 + minutes) * 60_000_000 + (seconds * 1e6).round() as i64)
}
