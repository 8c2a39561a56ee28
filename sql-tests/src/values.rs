//! Comparing answers of two servers as bags of rows: texts must be equal, but floating-point values may differ in
//! their last digits and numerics in trailing zeros.

use crate::session::Row;

/// The relative difference that two floating-point values may have: both servers add in their own order.
const TOLERANCE: f64 = 1e-9;

/// Says how two bags of rows differ, or nothing if they are equal.
pub fn difference(expected: &[Row], actual: &[Row]) -> Option<String> {
    difference_by(expected, actual, values_equal)
}

/// [`difference`] where every number is exact: only zeros at its end make none, and a quotient or average, whose
/// number of digits is the server's choice, may be the other rounded.
pub fn exact_difference(expected: &[Row], actual: &[Row]) -> Option<String> {
    difference_by(expected, actual, exactly_equal)
}

type Equal = fn(Option<&str>, Option<&str>) -> bool;

fn difference_by(expected: &[Row], actual: &[Row], equal: Equal) -> Option<String> {
    let expected = sorted(expected);
    let mut rest = sorted(actual);
    let mut missing = Vec::new();
    for row in &expected {
        // Sorting brings equal rows together except where a float's last digit decides, so most are found at once.
        match rest
            .iter()
            .position(|candidate| rows_equal(row, candidate, equal))
        {
            Some(at) => drop(rest.remove(at)),
            None => missing.push(row.clone()),
        }
    }
    if missing.is_empty() && rest.is_empty() {
        return None;
    }
    Some(format!(
        "missing:\n{}unexpected:\n{}",
        show(&missing),
        show(&rest)
    ))
}

fn sorted(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
}

fn rows_equal(a: &Row, b: &Row, equal: Equal) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| equal(a.as_deref(), b.as_deref()))
}

fn exactly_equal(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || decimals_equal(a, b),
        (a, b) => a == b,
    }
}

/// Digits behind the point that every quotient has at least.
const LEAST_SCALE: usize = 6;

fn decimals_equal(a: &str, b: &str) -> bool {
    let (Some((a, a_scale)), Some((b, b_scale))) = (decimal(a), decimal(b)) else {
        return false;
    };
    let scale = a_scale.min(b_scale);
    let cut = |value: i128, from: usize| value / 10i128.pow((from - scale) as u32);
    let is_exact =
        |value: i128, from: usize| cut(value, from) * 10i128.pow((from - scale) as u32) == value;
    let (near_a, near_b) = (cut(a, a_scale), cut(b, b_scale));
    if is_exact(a, a_scale) && is_exact(b, b_scale) {
        return near_a == near_b;
    }
    let rounded = |value: i128, from: usize| {
        let unit = 10i128.pow((from - scale) as u32);
        (value + value.signum() * (unit / 2)) / unit
    };
    scale >= LEAST_SCALE && rounded(a, a_scale) == rounded(b, b_scale)
}

/// A decimal number's digits and how many of them are behind the point.
fn decimal(text: &str) -> Option<(i128, usize)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    // `10^37` is the largest power that fits
    (fraction.len() <= 37).then_some((digits.parse().ok()?, fraction.len()))
}

fn values_equal(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || numbers_equal(a, b) || arrays_equal(a, b),
        (a, b) => a == b,
    }
}

/// Arrays of numbers, element by element.
fn arrays_equal(a: &str, b: &str) -> bool {
    let elements = |array: &str| -> Option<Vec<String>> {
        let inside = array.strip_prefix('{')?.strip_suffix('}')?;
        let elements: Vec<String> = inside.split(',').map(str::to_string).collect();
        let is_plain = |element: &String| element == "NULL" || element.parse::<f64>().is_ok();
        elements.iter().all(is_plain).then_some(elements)
    };
    let (Some(a), Some(b)) = (elements(a), elements(b)) else {
        return false;
    };
    let mut pairs = a.iter().zip(&b);
    a.len() == b.len() && pairs.all(|(a, b)| a == b || numbers_equal(a, b))
}

fn numbers_equal(a: &str, b: &str) -> bool {
    let is_integer = |s: &str| {
        s.strip_prefix('-')
            .unwrap_or(s)
            .bytes()
            .all(|c| c.is_ascii_digit())
    };
    if is_integer(a) && is_integer(b) {
        // Equal in SQL; which of the two a group shows is not determined.
        return a.trim_start_matches('-') == "0" && b.trim_start_matches('-') == "0";
    }
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else {
        return false;
    };
    a == b
        || (a.is_nan() && b.is_nan())
        || a.is_finite()
            && b.is_finite()
            && (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1e-6)
}

/// Rows as lines of text.
pub fn show(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows.iter().take(20) {
        let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
        text.push_str(&format!("  {}\n", values.join(" | ")));
    }
    if rows.len() > 20 {
        text.push_str(&format!("  … and {} more\n", rows.len() - 20));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values
            .iter()
            .map(|v| (*v != "NULL").then(|| v.to_string()))
            .collect()
    }

    #[test]
    fn bags_differ_by_counts_not_by_order() {
        let (a, b) = (row(&["1", "x"]), row(&["2", "NULL"]));
        assert_eq!(
            difference(&[a.clone(), b.clone()], &[b.clone(), a.clone()]),
            None
        );
        assert!(difference(&[a.clone(), a.clone()], std::slice::from_ref(&a)).is_some());
        assert!(difference(std::slice::from_ref(&a), &[a.clone(), b]).is_some());
    }

    #[test]
    fn exact_numbers_differ_in_the_last_digit() {
        let cases = [
            ("1.50", "1.5", true),
            ("-2", "-2.00", true),
            ("123456789012.3456", "123456789012.3457", false),
            ("123456789012.34", "123456789012.3457", false),
            ("0.3333333333333333", "0.33333333", true),
            ("0.6666666666666667", "0.666667", true),
            ("0.6666666666666667", "0.666666", false),
            ("-0.6666666666666667", "-0.666667", true),
            ("0.6666666666666667", "0.67", false),
            ("a", "b", false),
            ("NULL", "0", false),
        ];
        for (a, b, equal) in cases {
            let is_equal = exact_difference(&[row(&[a])], &[row(&[b])]).is_none();
            assert_eq!(is_equal, equal, "{a} and {b}");
        }
    }

    #[test]
    fn values_are_compared_as_their_kind_demands() {
        let cases = [
            ("1", "1", true),
            ("1.50", "1.5", true),
            ("0.1", "0.10000000000000001", true),
            ("1e3", "1000", true),
            ("NaN", "NaN", true),
            ("Infinity", "Infinity", true),
            ("Infinity", "-Infinity", false),
            ("9007199254740993", "9007199254740992", false),
            ("1.5", "1.6", false),
            ("a", "b", false),
            ("NULL", "", false),
            ("{-0,NULL,1.5}", "{0,NULL,1.50}", true),
            ("{1.5,2}", "{2,1.5}", false),
            ("{1.5,NULL}", "{1.5}", false),
            ("{a}", "{b}", false),
        ];
        for (a, b, equal) in cases {
            assert_eq!(
                difference(&[row(&[a])], &[row(&[b])]).is_none(),
                equal,
                "{a} and {b}"
            );
        }
    }
}
