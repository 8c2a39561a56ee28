//! What an epoch costs that changes a few rows, with more and more base data below it: for views of every kind the
//! time must follow the change and not the data. And against computing the query anew: the server's own answer to the
//! same SELECT over the same tables.
//!
//! Base data are TPC-H's orders, of which so many have 10⁴, 10⁵ and 10⁶ line items; `RIVERMARK_BENCH_ROWS=10000,100000`
//! has other sizes. An epoch is an UPDATE of all lines of random orders; its time is the server's own (compute and
//! commit, `rivermark.epochs`), with one view at a time. Targets: an epoch of 1,000 rows takes at most twice as long
//! with the most data as with the least; of the largest data Q3 anew takes at least 5 times as long as an epoch of 1,000
//! rows, and 50 times as long as one of 10.

mod base;
mod views;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::targets::Targets;

use self::base::Base;
use self::views::{View, views};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const CHANGED: usize = 1000;
const FEW_CHANGED: usize = 10;
/// Epochs that are measured, after those that warm up.
const EPOCHS: usize = 11;
/// The same of small changes. A disk that is busy with what was written before makes their commits several
/// times as long for a while, so there are more of them, and the commit is shown alone.
const SMALL_EPOCHS: usize = 101;
const WARM_UP: usize = 3;
const BATCH_RUNS: usize = 3;
/// How much more an epoch may cost with the most data than with the least.
const MOST_GROWTH: f64 = 2.0;

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let sizes = sizes()?;
    let mut targets = Targets::default();
    let mut times: Vec<(View, Vec<f64>)> = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        let mut base = Base::load(*size)?;
        for (n, view) in views().into_iter().enumerate() {
            let EpochTime { whole: ms, commit } = epochs(&mut base, &view, CHANGED)?;
            println!(
                "{} lines, {}: {ms:.2} ms for {CHANGED} rows, of which commit {commit:.2}",
                base.lines(),
                view.name
            );
            match times.get_mut(n) {
                Some((_, of_view)) => of_view.push(ms),
                None => times.push((view, vec![ms])),
            }
        }
        if i + 1 == sizes.len() {
            against_batch(&mut base, &mut targets)?;
        }
        base.stop()?;
    }
    for (view, ms) in &times {
        if let (Some(first), Some(last)) = (ms.first(), ms.last()) {
            let what = format!(
                "{}: an epoch with {} rows / with {}",
                view.name,
                sizes[sizes.len() - 1],
                sizes[0]
            );
            targets.at_most(&what, last / first, MOST_GROWTH);
        }
    }
    targets.verdict()
}

fn sizes() -> Result<Vec<usize>> {
    let Ok(text) = std::env::var("RIVERMARK_BENCH_ROWS") else {
        return Ok(SIZES.to_vec());
    };
    let sizes = text.split(',').map(|size| size.trim().parse::<usize>());
    let sizes = sizes
        .collect::<Result<Vec<_>, _>>()
        .context("RIVERMARK_BENCH_ROWS")?;
    ensure!(!sizes.is_empty(), "RIVERMARK_BENCH_ROWS has no size");
    Ok(sizes)
}

/// Median times of epochs, in milliseconds.
struct EpochTime {
    /// Computing and committing.
    whole: f64,
    /// With the one fsync there is.
    commit: f64,
}

/// How long an epoch takes that changes `rows` line items while `view` is the only view.
fn epochs(base: &mut Base, view: &View, rows: usize) -> Result<EpochTime> {
    base.session.must(&format!(
        "CREATE MATERIALIZED VIEW measured AS {}",
        view.sql
    ));
    let count = if rows < CHANGED { SMALL_EPOCHS } else { EPOCHS };
    let (mut whole, mut commits) = (Vec::new(), Vec::new());
    for n in 0..WARM_UP + count {
        let change = base.change(rows);
        let (compute, commit) = epoch_ms(&base.session, &change, rows)?;
        if n >= WARM_UP {
            whole.push(compute + commit);
            commits.push(commit);
        }
    }
    base.session.must("DROP MATERIALIZED VIEW measured");
    Ok(EpochTime {
        whole: median(whole),
        commit: median(commits),
    })
}

/// Runs a statement that updates `rows` rows and returns what the server says of its epoch: milliseconds of computing
/// and of committing.
fn epoch_ms(session: &Session, change: &str, rows: usize) -> Result<(f64, f64)> {
    let affected = session.must(change).affected;
    ensure!(
        affected == rows as u64,
        "{affected} rows changed instead of {rows}"
    );
    let newest = session.rows(
        "SELECT rows_in, compute_us, commit_us FROM rivermark.epochs ORDER BY epoch DESC LIMIT 1",
    );
    let number = |i: usize| -> Option<f64> { newest.first()?.get(i)?.as_ref()?.parse().ok() };
    let rows_in = number(0).context("no epoch")?;
    // an update is a retraction and an insertion
    ensure!(
        rows_in == 2.0 * rows as f64,
        "the last epoch had {rows_in} changes"
    );
    let ms = |i| Some(number(i)? / 1000.0);
    ms(1).zip(ms(2)).context("no time")
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Computing a query anew against keeping its view.
fn against_batch(base: &mut Base, targets: &mut Targets) -> Result<()> {
    for view in views().into_iter().filter(|v| v.is_query) {
        let mut times = Vec::new();
        for _ in 0..BATCH_RUNS {
            let begin = Instant::now();
            base.session.must(&view.sql);
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        let batch = median(times);
        println!("{} lines, {} anew: {batch:.0} ms", base.lines(), view.name);
        for (rows, least) in [(CHANGED, 5.0), (FEW_CHANGED, 50.0)] {
            let EpochTime { whole: ms, commit } = epochs(base, &view, rows)?;
            let what = format!(
                "{} anew / an epoch of {rows} rows ({ms:.2} ms, of which commit {commit:.2})",
                view.name
            );
            if view.name == "Q3" {
                targets.at_least(&what, batch / ms, least);
            } else {
                println!("{what}: {:.1}", batch / ms);
            }
        }
    }
    Ok(())
}
