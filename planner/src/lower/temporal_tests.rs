//! Where temporal filters end up, and what they are about.

use crate::fixture::{explained, plan};

/// The first lines of an EXPLAIN that have one of these words.
fn places(sql: &str, words: &[&str]) -> Vec<String> {
    let lines = explained(sql);
    let found = lines.lines().filter_map(|line| {
        let line = line.trim();
        words
            .iter()
            .any(|word| line.starts_with(word))
            .then(|| without_properties(line).to_string())
    });
    found.collect()
}

fn without_properties(line: &str) -> &str {
    [" state=", " append-only", " watermark="]
        .iter()
        .fold(line, |line, mark| line.split(mark).next().unwrap_or(line))
}

#[test]
fn filters_go_below_joins_and_stay_above_groups() {
    let words = ["TemporalFilter", "Join", "Aggregate", "TopN", "Filter"];
    for (sql, expected) in [
        (
            "SELECT r.device_id FROM readings AS r JOIN t ON r.device_id = t.name WHERE r.ts > now() - INTERVAL '1 hour'",
            vec![
                "Join inner on (device_id = name)",
                "TemporalFilter now() < ts + INTERVAL '3600 s'",
            ],
        ),
        (
            "SELECT t.id FROM t LEFT JOIN readings AS r ON r.device_id = t.name AND r.ts >= now()",
            vec![
                "Join left on (name = device_id)",
                "TemporalFilter now() <= ts",
            ],
        ),
        (
            "SELECT device_id, max(ts) AS m FROM readings GROUP BY device_id HAVING max(ts) < now() AND device_id <> 'x'",
            vec![
                "TemporalFilter now() > max(ts)",
                "Aggregate by=(device_id) max(ts):mergeable",
                "Filter device_id <> 'x'",
            ],
        ),
        (
            "SELECT ts, n FROM (SELECT ts, count(*) AS n FROM readings GROUP BY ts) AS q WHERE ts > now()",
            vec![
                "TemporalFilter now() < ts",
                "Aggregate by=(ts) count(*):linear",
            ],
        ),
        (
            "SELECT device_id FROM readings WHERE now() BETWEEN ts - INTERVAL '1 second' AND ts",
            vec!["TemporalFilter now() >= ts - INTERVAL '1 s' AND now() <= ts"],
        ),
    ] {
        assert_eq!(places(sql, &words), expected, "{sql}");
    }
}

#[test]
fn rows_that_leave_bound_what_is_kept() {
    let of = |condition: &str| {
        let sql = format!(
            "SELECT device_id, count(*) AS n FROM readings WHERE {condition} GROUP BY device_id"
        );
        plan(&sql).unwrap().plan.notices
    };
    assert!(of("ts > now() - INTERVAL '1 hour'").is_empty());
    assert!(!of("ts < now() - INTERVAL '1 hour'").is_empty());
}

#[test]
fn the_hint_says_what_to_write() {
    for (condition, expected) in [
        ("ts > now() OR temperature > 3", "now() within OR"),
        ("ts = now()", "now() within ="),
        (
            "ts > now() - INTERVAL '1 year'",
            "now() moved by months or years",
        ),
        (
            "ts > now() + temperature * INTERVAL '1 second'",
            "now() moved by an interval",
        ),
        ("(ts > now()) IS NOT TRUE", "now() within"),
        (
            "ts > now() - INTERVAL '2000000000 days'",
            "an interval of more than 292 years",
        ),
        (
            "ts > now() - INTERVAL '100000000 days' - INTERVAL '100000000 days'",
            "an interval of more than 292 years",
        ),
    ] {
        let sql = format!("SELECT device_id FROM readings WHERE {condition}");
        let error = plan(&sql).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{sql}: {error}");
    }
}
