//! `./dev fuzz sql --minutes N [--seed S]`: random SQL against PostgreSQL until the time is over, each round with another
//! seed and servers that divide their work differently. Goes on after a failure; all of them are in the report at the
//! end, and the exit code is 1 if there are any.
//!
//! `./dev fuzz wire --minutes N [--seed S]`: the wire protocol, until the time is over or something is wrong.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rivermark_sql_tests::equivalence::campaign::{Campaign, Report};
use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::wire_fuzz::{WireReport, fuzz_wire};

const USAGE: &str = "usage: ./dev fuzz sql|wire --minutes N [--seed S] [--report FILE]";
/// Scripts of one seed; then new servers start.
const SCRIPTS_PER_ROUND: usize = 40;

struct Arguments {
    /// Otherwise random SQL.
    is_wire: bool,
    minutes: f64,
    seed: u64,
    report: PathBuf,
}

fn arguments() -> Result<Arguments> {
    let mut given = std::env::args().skip(1);
    let is_wire = match given.next().as_deref() {
        Some("sql") => false,
        Some("wire") => true,
        _ => bail!("{USAGE}"),
    };
    let (mut minutes, mut seed, mut report) = (None, None, None);
    while let Some(name) = given.next() {
        let value = given.next().context(USAGE)?;
        match name.as_str() {
            "--minutes" => minutes = Some(value.parse().context(USAGE)?),
            "--seed" => seed = Some(value.parse().context(USAGE)?),
            "--report" => report = Some(PathBuf::from(value)),
            _ => bail!("{USAGE}"),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = seed.unwrap_or(now % 1_000_000_000);
    Ok(Arguments {
        is_wire,
        minutes: minutes.context(USAGE)?,
        seed,
        report: report
            .unwrap_or_else(|| std::env::temp_dir().join(format!("rivermark-fuzz-{seed}.sql"))),
    })
}

/// True if nothing was found.
fn fuzz(arguments: &Arguments) -> Result<bool> {
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs_f64(arguments.minutes * 60.0);
    if arguments.is_wire {
        println!("seed {}", arguments.seed);
        let mut report = WireReport::default();
        let found = fuzz_wire(arguments.seed, deadline, &mut report);
        println!("{report:?}");
        return found.map(|()| true);
    }
    let postgres = Postgres::start()?;
    let mut report = Report::default();
    let mut file = std::fs::File::create(&arguments.report)?;
    let mut seed = arguments.seed;
    while Instant::now() < deadline {
        let known = report.findings.len();
        let campaign = Campaign {
            seed,
            first: 0,
            scripts: SCRIPTS_PER_ROUND,
            cases: usize::MAX,
            deadline: Some(deadline),
            keeps_going: true,
        };
        campaign.run(&postgres, &mut report)?;
        for finding in &report.findings[known..] {
            writeln!(file, "{finding}")?;
        }
        println!(
            "seed {seed}: {} scripts, {} views, {} comparisons, {} findings after {:.0} s",
            report.scripts,
            report.coverage.cases,
            report.coverage.comparisons,
            report.findings.len(),
            begin.elapsed().as_secs_f32()
        );
        seed += 1;
    }
    report.coverage.print();
    println!(
        "{} findings in {}",
        report.findings.len(),
        arguments.report.display()
    );
    Ok(report.findings.is_empty())
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| fuzz(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
