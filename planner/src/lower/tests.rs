//! Golden plans and errors of views.

use crate::fixture::explained;

#[test]
fn show() {
    for sql in [
        "SELECT device_id, window_start, count(*), avg(temperature), max(temperature) FROM TUMBLE(readings, ts, INTERVAL '10 seconds') GROUP BY device_id, window_start",
        "SELECT * FROM t",
        "SELECT * FROM readings",
        "SELECT device_id, count(*) FROM readings GROUP BY device_id ORDER BY 2",
        "SELECT count(*) FROM readings",
        "SELECT count(*), sum(a), sum(v), avg(v) FROM t, log",
        "SELECT sum(a), min(a), count(DISTINCT name) FROM t",
        "SELECT k, sum(v), avg(v), avg(x), sum(n), avg(n) FROM log GROUP BY k HAVING count(*) > 1",
        "SELECT window_start, window_end, count(*) FROM HOP(readings, ts, INTERVAL '5 s', INTERVAL '1 minute') GROUP BY 1, 2",
        "SELECT DISTINCT name FROM t UNION SELECT k FROM log",
        "SELECT total FROM busy WHERE total / id > 2 AND id <> 0",
        "SELECT id FROM t WHERE b <> 0 AND 1 / b > 0",
        "SELECT lag_ms, unnest(tags) FROM readings",
        "SELECT 1 AS one, 'x' AS two, NULL AS three",
        "VALUES (1, 'a'), (2, 'b')",
    ] {
        println!(
            "-- {sql}\n{}\n",
            std::panic::catch_unwind(|| explained(sql)).unwrap_or_default()
        );
    }
}
