//! The correctness bar of the engine, checked against PostgreSQL; see `src/equivalence.rs`.
//!
//! `RIVERMARK_SEED=… RIVERMARK_CASES=…` replays a run, from the script `RIVERMARK_SCRIPT` on; a failure prints the SQL of
//! its case, cut down. `RIVERMARK_KEEP_GOING=1` goes on after a failure and shows all there are. `./dev fuzz sql` looks
//! for new ones.

use std::time::Instant;

use rivermark_sql_tests::equivalence::campaign::{Campaign, Report};
use rivermark_sql_tests::equivalence::script::{Script, Step};
use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::{env_number, is_full, seed};

/// Views that are compared with PostgreSQL after every change.
const CASES: usize = 2_000;
const CASES_OF_FULL: usize = 10_000;

#[test]
fn views_equal_postgres() {
    let number = |name: &str| env_number(name).map(|n| n as usize);
    let usual = if is_full() { CASES_OF_FULL } else { CASES };
    let cases = number("RIVERMARK_CASES").unwrap_or(usual);
    let campaign = Campaign {
        seed: seed(),
        first: number("RIVERMARK_SCRIPT").unwrap_or(0),
        // If most queries were refused, this would end too early, and say so.
        scripts: cases.div_ceil(4),
        cases,
        deadline: None,
        keeps_going: std::env::var("RIVERMARK_KEEP_GOING").is_ok_and(|v| v == "1"),
    };
    println!("RIVERMARK_SEED={} RIVERMARK_CASES={cases}", campaign.seed);
    let begin = Instant::now();
    let postgres = Postgres::start().expect("PostgreSQL is the oracle");
    let mut report = Report::default();
    campaign
        .run(&postgres, &mut report)
        .expect("both servers start, and stop cleanly");
    report.coverage.print();
    println!(
        "{} views of {} scripts, compared {} times in {:.1} s",
        report.coverage.cases,
        report.scripts,
        report.coverage.comparisons,
        begin.elapsed().as_secs_f32()
    );
    let findings = report.findings;
    assert!(
        findings.is_empty(),
        "{} failures, shown above",
        findings.len()
    );
    assert!(
        report.coverage.cases >= cases,
        "most queries are refused: {:?}",
        report.coverage.refused
    );
    let low = report.coverage.below_floor();
    assert!(
        low.is_empty(),
        "not met often enough under some condition: {low:?}"
    );
}

/// The generator is worth nothing if what it writes fails or means nothing; PostgreSQL alone can tell.
#[test]
fn the_generator_writes_what_postgres_accepts() {
    let seed = seed();
    println!("RIVERMARK_SEED={seed}");
    let postgres = Postgres::start().expect("PostgreSQL is the oracle");
    let oracle = postgres.connect().expect("PostgreSQL accepts connections");
    let (mut cases, mut empty) = (0, 0);
    for number in 0..30 {
        let script = Script::random(seed, number);
        for (_, ddl) in &script.tables {
            oracle.must(ddl);
        }
        for case in &script.cases {
            oracle.must(&case.create_for_oracle());
        }
        for step in &script.steps {
            if let Step::Change(change) = step {
                oracle.must(&change.sql());
            }
        }
        for case in &script.cases {
            cases += 1;
            empty += usize::from(oracle.rows(&case.select()).is_empty());
        }
    }
    assert!(
        empty * 2 < cases,
        "{empty} of {cases} queries answer nothing: they test nothing"
    );
}
