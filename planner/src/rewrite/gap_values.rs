//! Values for the rows that GAP_FILL fills in, as window functions.
//!
//! - `locf(x) OVER w` is the last `x` so far that is not NULL; `locf(x, ts, most)` only if it is no older than `most`.
//! - `interpolate(x, ts) OVER w` lies on the line between the values around; `interpolate(x, ts, most)` only if they are no
//!   more than `most` apart.

use sqlparser::ast::{Expr, Function, WindowType};

use super::aggregate_calls::arguments;
use crate::names::fold;
use crate::parse::parse_expression;

/// What stands for a call of such a function.
pub(super) fn rewrite_gap_value(function: &Function) -> Option<Expr> {
    let [part] = function.name.0.as_slice() else {
        return None;
    };
    let spec = match function.over.as_ref()? {
        WindowType::WindowSpec(spec) if spec.window_frame.is_some() => return None,
        WindowType::WindowSpec(spec) => spec.to_string(),
        WindowType::NamedWindow(name) => name.to_string(),
    };
    let args = arguments(function)?;
    let over = |value: &str, is_before: bool| {
        let (name, frame) = match is_before {
            true => ("last_value", "UNBOUNDED PRECEDING AND CURRENT ROW"),
            false => ("first_value", "CURRENT ROW AND UNBOUNDED FOLLOWING"),
        };
        format!("{name}({value}) IGNORE NULLS OVER ({spec} ROWS BETWEEN {frame})")
    };
    let text = match (part.as_ident().map(fold)?.as_str(), args.as_slice()) {
        ("locf", [x]) => over(&x.to_string(), true),
        ("locf", [x, time, most]) => {
            let since = over(&format!("CASE WHEN {x} IS NOT NULL THEN {time} END"), true);
            format!(
                "CASE WHEN {x} IS NOT NULL THEN {x} WHEN {time} - {since} <= {most} THEN {} END",
                over(&x.to_string(), true)
            )
        }
        ("interpolate", [x, time, most @ ..]) if most.len() <= 1 => {
            let value = format!("({x})::double precision");
            let at = format!("CASE WHEN {x} IS NOT NULL THEN {time} END");
            let [(x0, t0), (x1, t1)] =
                [true, false].map(|before| (over(&value, before), over(&at, before)));
            let allowed = match most {
                [most] => format!(" AND {t1} - {t0} <= {most}"),
                _ => String::new(),
            };
            format!(
                "CASE WHEN {x} IS NOT NULL THEN {value} WHEN {t1} > {t0}{allowed} THEN {x0} + ({x1} - {x0}) * \
                 (extract(epoch FROM {time} - {t0}) / extract(epoch FROM {t1} - {t0}))::double precision END"
            )
        }
        _ => return None,
    };
    // what is made of expressions is one
    let expr = parse_expression(&text).ok()?;
    Some(Expr::Nested(Box::new(expr)))
}
