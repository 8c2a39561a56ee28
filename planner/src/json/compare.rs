//! The order of `jsonb` values, and containment (`@>`).

use std::cmp::Ordering;

use super::value::Json;

/// PostgreSQL's order: object > array > boolean > number > string > null; longer arrays and objects first.
pub fn compare(a: &Json, b: &Json) -> Ordering {
    match (a, b) {
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::Number(a), Json::Number(b)) => compare_numbers(a, b),
        (Json::String(a), Json::String(b)) => a.cmp(b),
        (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b);
            pairs
                .map(|(a, b)| compare(a, b))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b);
            pairs
                .map(|((k1, v1), (k2, v2))| {
                    (k1.len(), k1)
                        .cmp(&(k2.len(), k2))
                        .then_with(|| compare(v1, v2))
                })
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Json) -> u8 {
    match value {
        Json::Null => 0,
        Json::String(_) => 1,
        Json::Number(_) => 2,
        Json::Bool(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    }
}

/// Numbers in canonical form, of any length.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let split = |text: &str| -> (bool, String, String) {
        let (is_negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
        (
            is_negative,
            whole.trim_start_matches('0').to_string(),
            fraction.trim_end_matches('0').to_string(),
        )
    };
    let ((a_negative, a_whole, a_fraction), (b_negative, b_whole, b_fraction)) =
        (split(a), split(b));
    match (a_negative, b_negative) {
        (false, true) => return Ordering::Greater,
        (true, false) => return Ordering::Less,
        _ => {}
    }
    let magnitude = a_whole
        .len()
        .cmp(&b_whole.len())
        .then_with(|| a_whole.cmp(&b_whole))
        .then_with(|| a_fraction.cmp(&b_fraction));
    if a_negative {
        magnitude.reverse()
    } else {
        magnitude
    }
}

/// Whether `a` contains `b`: `a @> b`.
pub fn contains(a: &Json, b: &Json) -> bool {
    match (a, b) {
        // an exception of PostgreSQL's: an array contains a scalar, at the top
        (Json::Array(items), b) if !matches!(b, Json::Array(_) | Json::Object(_)) => {
            items.iter().any(|item| compare(item, b).is_eq())
        }
        _ => contains_below(a, b),
    }
}

fn contains_below(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => b.iter().all(|(key, value)| {
            a.iter()
                .any(|(k, found)| k == key && contains_below(found, value))
        }),
        (Json::Array(a), Json::Array(b)) => b
            .iter()
            .all(|wanted| a.iter().any(|item| contains_below(item, wanted))),
        (Json::Object(_) | Json::Array(_), _) | (_, Json::Object(_) | Json::Array(_)) => false,
        (a, b) => compare(a, b).is_eq(),
    }
}
