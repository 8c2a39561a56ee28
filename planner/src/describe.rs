//! Expressions as short SQL-like text, for EXPLAIN and for the fingerprint: columns without qualifiers, literals
//! without type names, our own functions as what they stand for. Independent of DataFusion's way of printing.

use arrow::compute::SortOptions;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, Operator};

use crate::functions::{CheckedArithmetic, NearestFloat};
use crate::types::SqlType;

/// `expr` as text.
pub fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => describe(&alias.expr),
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => {
            format!(
                "{} {} {}",
                operand(&binary.left),
                symbol(binary.op),
                operand(&binary.right)
            )
        }
        Expr::ScalarFunction(function) => {
            if let (Some(symbol), [left, right]) = (
                CheckedArithmetic::symbol(function.name()),
                function.args.as_slice(),
            ) {
                return format!("{} {symbol} {}", operand(left), operand(right));
            }
            if let (Some(target), [value]) = (
                NearestFloat::target_of(function.name()),
                function.args.as_slice(),
            ) {
                return format!("{}::{target}", operand(value));
            }
            format!("{}({})", function.name(), list(&function.args))
        }
        Expr::AggregateFunction(call) => aggregate(call),
        Expr::Cast(cast) => format!(
            "{}::{}",
            operand(&cast.expr),
            SqlType::of_field(&cast.field)
        ),
        Expr::TryCast(cast) => format!(
            "try_cast({} as {})",
            describe(&cast.expr),
            SqlType::of_field(&cast.field)
        ),
        Expr::Case(case) => {
            let mut text = "CASE".to_string();
            if let Some(operand) = &case.expr {
                text += &format!(" {}", describe(operand));
            }
            for (when, then) in &case.when_then_expr {
                text += &format!(" WHEN {} THEN {}", describe(when), describe(then));
            }
            if let Some(otherwise) = &case.else_expr {
                text += &format!(" ELSE {}", describe(otherwise));
            }
            text + " END"
        }
        other => predicate(other),
    }
}

/// Tests, and whatever else there is.
fn predicate(expr: &Expr) -> String {
    match expr {
        Expr::Not(inner) => format!("NOT {}", operand(inner)),
        Expr::Negative(inner) => format!("-{}", operand(inner)),
        Expr::IsNull(inner) => format!("{} IS NULL", operand(inner)),
        Expr::IsNotNull(inner) => format!("{} IS NOT NULL", operand(inner)),
        Expr::IsTrue(inner) => format!("{} IS TRUE", operand(inner)),
        Expr::IsFalse(inner) => format!("{} IS FALSE", operand(inner)),
        Expr::IsUnknown(inner) => format!("{} IS UNKNOWN", operand(inner)),
        Expr::IsNotTrue(inner) => format!("{} IS NOT TRUE", operand(inner)),
        Expr::IsNotFalse(inner) => format!("{} IS NOT FALSE", operand(inner)),
        Expr::IsNotUnknown(inner) => format!("{} IS NOT UNKNOWN", operand(inner)),
        Expr::Between(between) => format!(
            "{} {}BETWEEN {} AND {}",
            operand(&between.expr),
            not(between.negated),
            operand(&between.low),
            operand(&between.high)
        ),
        Expr::InList(of) => {
            format!(
                "{} {}IN ({})",
                operand(&of.expr),
                not(of.negated),
                list(&of.list)
            )
        }
        Expr::Like(like) => {
            let word = if like.case_insensitive {
                "ILIKE"
            } else {
                "LIKE"
            };
            format!(
                "{} {}{word} {}",
                operand(&like.expr),
                not(like.negated),
                operand(&like.pattern)
            )
        }
        Expr::SimilarTo(like) => {
            format!(
                "{} {}SIMILAR TO {}",
                operand(&like.expr),
                not(like.negated),
                operand(&like.pattern)
            )
        }
        other => other.to_string(),
    }
}

/// Several expressions, separated by commas.
pub fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn aggregate(call: &datafusion::logical_expr::expr::AggregateFunction) -> String {
    let params = &call.params;
    let is_star = call.func.name() == "count"
        && !params.distinct
        && matches!(params.args.as_slice(), [Expr::Literal(value, _)] if !value.is_null());
    let args = if is_star {
        "*".to_string()
    } else {
        list(&params.args)
    };
    let mut text = format!(
        "{}({}{args}",
        call.func.name(),
        if params.distinct { "DISTINCT " } else { "" }
    );
    if !params.order_by.is_empty() {
        text += &format!(
            " ORDER BY {}",
            params
                .order_by
                .iter()
                .map(sort)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    text += ")";
    if let Some(filter) = &params.filter {
        text += &format!(" FILTER (WHERE {})", describe(filter));
    }
    text
}

fn sort(sort: &Sort) -> String {
    let options = SortOptions {
        descending: !sort.asc,
        nulls_first: sort.nulls_first,
    };
    sorted(&sort.expr, options)
}

/// `a DESC NULLS LAST`.
pub fn sorted(expr: &Expr, options: SortOptions) -> String {
    let direction = if options.descending { " DESC" } else { "" };
    let nulls = match (options.descending, options.nulls_first) {
        (false, true) => " NULLS FIRST",
        (true, false) => " NULLS LAST",
        _ => "",
    };
    format!("{}{direction}{nulls}", describe(expr))
}

/// Whatever is made of several parts gets parentheses inside another expression.
fn operand(expr: &Expr) -> String {
    let text = describe(expr);
    let is_atom = match expr {
        Expr::Alias(alias) => return operand(&alias.expr),
        Expr::Column(_) | Expr::Literal(..) | Expr::Cast(_) | Expr::Case(_) => true,
        Expr::ScalarFunction(function) => CheckedArithmetic::symbol(function.name()).is_none(),
        _ => false,
    };
    if is_atom { text } else { format!("({text})") }
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn symbol(operator: Operator) -> String {
    match operator {
        Operator::NotEq => "<>".to_string(),
        other => other.to_string(),
    }
}

fn literal(value: &ScalarValue) -> String {
    match value {
        value if value.is_null() => "NULL".to_string(),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarValue::Decimal128(Some(unscaled), _, scale) => decimal(*unscaled, *scale),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => interval_text(*interval),
        other => other.to_string(),
    }
}

fn decimal(unscaled: i128, scale: i8) -> String {
    let scale = scale.max(0) as usize;
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

fn interval_text(interval: arrow::datatypes::IntervalMonthDayNano) -> String {
    let mut parts = Vec::new();
    if interval.months != 0 {
        parts.push(format!("{} months", interval.months));
    }
    if interval.days != 0 {
        parts.push(format!("{} days", interval.days));
    }
    if interval.nanoseconds != 0 || parts.is_empty() {
        let (micros, rest) = (interval.nanoseconds / 1_000, interval.nanoseconds % 1_000);
        parts.push(match (micros % 1_000_000, rest) {
            (_, rest) if rest != 0 => format!("{} ns", interval.nanoseconds),
            (0, _) => format!("{} s", micros / 1_000_000),
            _ => format!("{micros} us"),
        });
    }
    format!("INTERVAL '{}'", parts.join(" "))
}
