//! Which aggregates over HOP are made of panes.

use crate::explain::explain;
use crate::fixture::{catalog, parse};
use crate::lower::{ViewQuery, plan_view};

const HOP: &str = "HOP(readings, ts, INTERVAL '5 s', INTERVAL '1 minute')";

/// The EXPLAIN lines of a view that emits on window close, in a time zone.
fn explained(sql: &str, time_zone: &str) -> String {
    let query = parse(sql);
    let view = ViewQuery {
        query: &query,
        columns: &[],
        time_zone,
        text: Some(sql),
        emit_on_window_close: true,
    };
    let planned = plan_view(&catalog(), view).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut lines = explain(&planned.plan);
    lines.pop();
    lines.join("\n")
}

#[test]
fn the_unnest_is_taken_out() {
    let sql = format!(
        "SELECT device_id, window_start, window_end, count(*), avg(temperature) FROM {HOP} GROUP BY 1, 2, 3"
    );
    let expected = "Materialize key=(device_id, window_start, window_end) append-only
  WindowClose by window_start append-only watermark=(window_start, window_end) state=#2..#3
    Project device_id, window_start, window_end, count(*) AS count, avg(temperature) AS avg append-only watermark=(window_start, window_end)
      Panes by=(device_id, window_start, window_end) count(*):linear avg(temperature):linear time=ts slide=5000000 us size=60000000 us append-only watermark=(window_start, window_end) state=#0..#1
        Project device_id, temperature, ts, ts append-only watermark=(ts, ts)
          Scan readings columns=(device_id, temperature, ts) append-only watermark=(ts)";
    assert_eq!(explained(&sql, "UTC"), expected);
}

#[test]
fn what_panes_can_not_do_keeps_it() {
    for (is_paned, select) in [
        (true, "window_end, count(*) FROM HOP GROUP BY 1"),
        (
            true,
            "window_start, max(temperature) FROM HOP WHERE device_id <> 'x' GROUP BY 1",
        ),
        (
            true,
            "window_start, sum(temperature) FROM HOP GROUP BY 1 HAVING count(*) > 3",
        ),
        (
            true,
            "date_trunc('hour', window_start) AS h, window_start, count(*) FROM HOP GROUP BY window_start",
        ),
        // the states of these can not be merged
        (
            false,
            "window_start, count(DISTINCT device_id) FROM HOP GROUP BY 1",
        ),
        (
            false,
            "window_start, median(temperature) FROM HOP GROUP BY 1",
        ),
        // the window is not only grouped by
        (
            false,
            "window_start, count(*) FILTER (WHERE ts > window_start + INTERVAL '30 s') FROM HOP GROUP BY 1",
        ),
        (
            false,
            "window_start, max(ts - window_start) FROM HOP GROUP BY 1",
        ),
        (
            false,
            "window_start, count(*) FROM HOP WHERE window_start > '2024-01-01' GROUP BY 1",
        ),
        (
            false,
            "date_trunc('hour', window_start) AS h, window_end, count(*) FROM HOP GROUP BY 1, 2",
        ),
        // what is over when another time is
        (false, "ts, window_start, count(*) FROM HOP GROUP BY 1, 2"),
        // no aggregate, and no unnest
        (false, "window_start, temperature FROM HOP"),
        (
            false,
            "window_start, count(*) FROM TUMBLE(readings, ts, INTERVAL '5 s') GROUP BY 1",
        ),
    ] {
        let sql = format!("SELECT {}", select.replace("HOP", HOP));
        for time_zone in ["UTC", "Europe/Berlin"] {
            let plan = explained(&sql, time_zone);
            assert_eq!(
                plan.contains("Panes"),
                is_paned,
                "{sql} in {time_zone}\n{plan}"
            );
            assert_eq!(
                plan.contains("Unnest"),
                !is_paned && sql.contains("HOP"),
                "{plan}"
            );
        }
    }
}
