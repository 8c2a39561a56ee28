//! What windows of an hour that begin every minute cost, as a multiple of windows of a minute.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use rivermark_sql_tests::env_number;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

const MOST_COST: f64 = 3.0;
const LONGEST: Duration = Duration::from_secs(3600);
/// Keys of the dense case; of the sparse one each row has about one of its own.
const KEYS: u64 = 60;

/// Readings of each key in a minute, whether results are given once, and whether there is a target.
const CASES: [(&str, u64, bool, bool); 4] = [
    (
        "100 rows per key and slide, on window close",
        100,
        true,
        true,
    ),
    ("1 row per key and slide, on window close", 1, true, false),
    ("100 rows per key and slide, on update", 100, false, false),
    ("1 row per key and slide, on update", 1, false, false),
];

/// The case that has a target has so many times the readings: of fewer the start of the view would be much of its time.
const MORE_ROWS: u64 = 20;

/// `RIVERMARK_BENCH_HOP_ROWS` (1 million) readings for each case, but for the one that has a target.
pub fn costs(targets: &mut Targets) -> Result<()> {
    let rows = env_number("RIVERMARK_BENCH_HOP_ROWS").unwrap_or(1_000_000);
    for (name, per_slide, closes, has_target) in CASES {
        let tumble = "TUMBLE(readings, ts, INTERVAL '1 minute')";
        let hop = "HOP(readings, ts, INTERVAL '1 minute', INTERVAL '1 hour')";
        let rows = if has_target { MORE_ROWS * rows } else { rows };
        let (tumble, hop) = (
            seconds(rows, per_slide, tumble, closes)?,
            seconds(rows, per_slide, hop, closes)?,
        );
        let what = format!("hop 60/1 ({hop:.2} s) / tumble ({tumble:.2} s), {name}");
        match has_target {
            true => targets.at_most(&what, hop / tumble, MOST_COST),
            false => println!("{what}: {:.2}", hop / tumble),
        }
    }
    Ok(())
}

fn number(session: &mut Session, query: &str) -> u64 {
    let value = session.scalar(query);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// How long a view takes to read all there is.
fn seconds(rows: u64, per_slide: u64, windows: &str, closes: bool) -> Result<f64> {
    let mut server = Server::options().memory_limit("1GB").start()?;
    let mut session = server.connect();
    session.timeout = LONGEST;
    let keys = KEYS * 100 / per_slide;
    let rate = keys * per_slide / 60;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let begin = now - rows / rate - 3600;
    session.must(&format!(
        "CREATE SOURCE readings (device INT, v DOUBLE PRECISION, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts)
         WITH (connector = 'datagen', rows_per_second = '{rate}', rows = '{rows}', start_time = '{}',
               fields.device.kind = 'random', fields.device.min = '0', fields.device.max = '{}')",
        session
            .scalar(&format!("SELECT to_timestamp({begin})"))
            .unwrap_or_default(),
        keys - 1
    ));
    let emit = if closes { "EMIT ON WINDOW CLOSE" } else { "" };
    let begin = Instant::now();
    session.must(&format!(
        "CREATE MATERIALIZED VIEW measured AS SELECT device, window_end, count(*) AS n, avg(v) AS mean, max(v) AS most
         FROM {windows} GROUP BY 1, 2 {emit}"
    ));
    // A window closes in the epoch that brings the row which closes it.
    while number(
        &mut session,
        "SELECT sum(rows)::BIGINT FROM rivermark.sources",
    ) < rows
    {
        ensure!(begin.elapsed() < LONGEST, "reading took more than an hour");
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let shown = number(&mut session, "SELECT count(*) FROM measured");
    ensure!(
        shown > 0 || rows < 2 * keys * per_slide,
        "the view is empty"
    );
    server.stop()?;
    Ok(seconds)
}
