//! Syntax with words between its arguments, `EXTRACT(x FROM y)`, as calls of functions, and literals that DataFusion's
//! binder does not read.

use sqlparser::ast::{
    BinaryOperator, CastKind, CharacterLength, DataType, ExactNumberInfo, Expr, Function,
    FunctionArguments, Interval, TimezoneInfo, UnaryOperator, Value, ValueWithSpan,
};

use super::build::{cast, grouped, nested, number, text};
use crate::functions::has_fraction;
use crate::rewrite::expressions::{call, take};

/// Digits that a number in scientific notation may be written out to.
const MAX_DIGITS: i64 = 38;

/// Numbers without exponent, Unicode strings as plain ones; what an integer beyond 64 bits becomes.
pub(super) fn rewrite_literal(literal: &mut ValueWithSpan) -> Option<Expr> {
    match &mut literal.value {
        Value::Number(number, _) => {
            if let Some(plain) = without_exponent(number) {
                *number = plain;
            }
            let is_whole = number.bytes().all(|b| b.is_ascii_digit());
            if is_whole && number.parse::<i64>().is_err() && number.len() <= 38 {
                let whole = DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, 0));
                return Some(cast(text(number), whole));
            }
        }
        Value::UnicodeStringLiteral(text) => {
            literal.value = Value::SingleQuotedString(std::mem::take(text));
        }
        _ => {}
    }
    None
}

/// `localtimestamp`, which is a function without parentheses to the parser.
pub(super) fn local_timestamp(function: &Function) -> Option<Expr> {
    let is_bare = matches!(function.args, FunctionArguments::None);
    let is_named = |name: &str| name.eq_ignore_ascii_case("localtimestamp");
    let name = function.name.0.last()?.as_ident()?;
    (is_bare && is_named(&name.value)).then(|| cast(call("now", Vec::new()), timestamp_type()))
}

/// Everything else that is no function call yet.
pub(super) fn rewrite_syntax(expr: &mut Expr) {
    let rewritten = match expr {
        Expr::Collate { expr, collation } if is_bytewise(&collation.to_string()) => take(expr),
        Expr::Extract { field, expr, .. } => {
            let field = field.to_string().to_lowercase();
            let field = field.trim_matches(['\'', '"']);
            let function = if has_fraction(field) {
                "extract"
            } else {
                "rm_extract_whole"
            };
            call(function, vec![text(field), take(expr)])
        }
        Expr::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => {
            let from = match (substring_from, &substring_for) {
                (Some(from), _) => take(from),
                (None, _) => number("1"),
            };
            let mut args = vec![take(expr), from];
            args.extend(substring_for.as_mut().map(|length| take(length)));
            call("substring", args)
        }
        Expr::Position { expr, r#in } => call("position", vec![take(expr), take(r#in)]),
        Expr::Like {
            pattern,
            escape_char: escape @ Some(_),
            ..
        }
        | Expr::ILike {
            pattern,
            escape_char: escape @ Some(_),
            ..
        } => {
            if let Some(value) = escape.take() {
                **pattern = call("rm_like_escape", vec![take(pattern), Expr::Value(value)]);
            }
            return;
        }
        Expr::SimilarTo {
            negated,
            expr,
            pattern,
            escape_char,
        } => {
            let mut args = vec![take(expr), take(pattern)];
            args.extend(escape_char.take().map(Expr::Value));
            negated_if(*negated, call("rm_similar_to", args))
        }
        Expr::Interval(interval) => match interval_text(interval) {
            Some(value) => cast(text(&value), interval_type()),
            None => return,
        },
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            ..
        } => match length_of(data_type) {
            // an explicit cast cuts what is too long
            Some(length) => {
                let value = cast(take(expr), DataType::Text);
                cast(
                    call("left", vec![value, number(&length.to_string())]),
                    DataType::Text,
                )
            }
            None => return,
        },
        Expr::UnaryOp { op, expr } => match op {
            UnaryOperator::PGAbs => call("abs", vec![take(expr)]),
            UnaryOperator::PGSquareRoot => call("sqrt", vec![double(take(expr))]),
            UnaryOperator::PGCubeRoot => call("cbrt", vec![take(expr)]),
            // all bits of a number and of its complement make -1
            UnaryOperator::BitwiseNot => {
                grouped(number("-1"), BinaryOperator::Minus, nested(take(expr)))
            }
            _ => return,
        },
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Overlaps,
            right,
        } => match (&mut **left, &mut **right) {
            (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == 2 && b.len() == 2 => {
                call("rm_overlaps", a.drain(..).chain(b.drain(..)).collect())
            }
            _ => return,
        },
        _ => return,
    };
    *expr = rewritten;
}

/// Whether a collation is the one by which all texts are compared.
fn is_bytewise(collation: &str) -> bool {
    let name = collation.replace('"', "").to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    matches!(
        name,
        "c" | "posix" | "ucs_basic" | "default" | "c.utf8" | "c.utf-8"
    )
}

fn double(expr: Expr) -> Expr {
    cast(expr, DataType::DoublePrecision)
}

fn timestamp_type() -> DataType {
    DataType::Timestamp(None, TimezoneInfo::None)
}

fn interval_type() -> DataType {
    DataType::Interval {
        fields: None,
        precision: None,
    }
}

fn negated_if(is_negated: bool, expr: Expr) -> Expr {
    if is_negated {
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(expr),
        }
    } else {
        expr
    }
}

/// The length that a cast to `varchar(n)` cuts at.
fn length_of(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(Some(length))
        | DataType::CharacterVarying(Some(length))
        | DataType::CharVarying(Some(length))
        | DataType::Char(Some(length))
        | DataType::Character(Some(length)) => match length {
            CharacterLength::IntegerLength { length, .. } => Some(*length),
            CharacterLength::Max => None,
        },
        _ => None,
    }
}

/// The text of an interval that DataFusion does not read: clocks, SQL's and ISO's forms. Others stay as they are,
/// since windows are recognised by them.
fn interval_text(interval: &Interval) -> Option<String> {
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(value),
        ..
    }) = interval.value.as_ref()
    else {
        return None;
    };
    let trimmed = value.trim();
    let is_plain = trimmed.parse::<f64>().is_ok();
    let has_words_only = trimmed
        .split_whitespace()
        .all(|word| word.parse::<f64>().is_ok() || word.bytes().all(|b| b.is_ascii_alphabetic()))
        && !trimmed.to_ascii_lowercase().ends_with("ago");
    match (&interval.leading_field, &interval.last_field) {
        (Some(_), Some(_)) => Some(value.clone()),
        (Some(_), None) if is_plain => None,
        (Some(_), None) | (None, _) if has_words_only && !is_plain => None,
        _ => Some(value.clone()),
    }
}

/// `1.5e3` as `1500`: a numeric of the right scale, as in PostgreSQL. `None`: not in scientific notation, or too long.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    let length = digits.len() as i64;
    if point.max(length) - point.min(0) > MAX_DIGITS {
        return None;
    }
    Some(if point <= 0 {
        format!("0.{}{digits}", "0".repeat(-point as usize))
    } else if point >= length {
        format!("{digits}{}", "0".repeat((point - length) as usize))
    } else {
        format!(
            "{}.{}",
            &digits[..point as usize],
            &digits[point as usize..]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_written_out() {
        for (number, expected) in [
            ("1e3", Some("1000")),
            ("1.5e3", Some("1500")),
            ("1.5E-2", Some("0.015")),
            ("12.345e1", Some("123.45")),
            ("1e300", None),
            ("1.5", None),
        ] {
            assert_eq!(without_exponent(number).as_deref(), expected, "{number}");
        }
    }
}
