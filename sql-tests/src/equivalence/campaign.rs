//! Many scripts, on several servers at once, until enough views were compared or the time is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;

use super::coverage::Coverage;
use super::division::{Division, SERVERS};
use super::minimise::minimise;
use super::run::{Failure, Kind, Servers, run};
use super::script::Script;
use crate::postgres::Postgres;

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Every random choice follows from it.
    pub seed: u64,
    /// The first script.
    pub first: usize,
    /// Scripts at most.
    pub scripts: usize,
    /// Views to compare.
    pub cases: usize,
    /// When to stop whatever was compared.
    pub deadline: Option<Instant>,
    /// Goes on after a failure.
    pub keeps_going: bool,
}

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried.
    pub coverage: Coverage,
    /// Scripts that ran.
    pub scripts: usize,
    /// One text for each failure.
    pub findings: Vec<String>,
}

impl Campaign {
    /// Runs it, adding to `report`.
    pub fn run(&self, postgres: &Postgres, report: &mut Report) -> Result<()> {
        let shared = Shared {
            campaign: self,
            postgres,
            report: Mutex::new(std::mem::take(report)),
            is_over: AtomicBool::new(false),
        };
        let shared_ref = &shared;
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let offsets = 0..SERVERS.min(self.scripts);
            let workers: Vec<_> = offsets
                .map(|offset| scope.spawn(move || shared_ref.work(offset)))
                .collect();
            workers
                .into_iter()
                .map(|w| {
                    w.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        *report = shared
            .report
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        outcomes.into_iter().collect()
    }
}

struct Shared<'a> {
    campaign: &'a Campaign,
    postgres: &'a Postgres,
    report: Mutex<Report>,
    is_over: AtomicBool,
}

impl Shared<'_> {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every so manyth script, on one server.
    fn work(&self, offset: usize) -> Result<()> {
        let Campaign {
            seed,
            first,
            scripts,
            ..
        } = *self.campaign;
        let division = Division::of(seed, first + offset);
        let mut servers = Servers::start(division, self.postgres)?;
        for number in (first + offset..first + scripts).step_by(SERVERS) {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let script = Script::random(seed, number);
            let outcome = run(&script, &mut servers)?;
            let mut report = self.report();
            report.scripts += 1;
            report.coverage.comparisons += outcome.comparisons;
            for case in &outcome.compared {
                report
                    .coverage
                    .add(&script.cases[*case].query.features, outcome.met);
            }
            for kind in &outcome.changes {
                report.coverage.add_change(kind);
            }
            for reason in outcome.refused {
                *report.coverage.refused.entry(reason).or_default() += 1;
            }
            let is_enough = report.coverage.cases >= self.campaign.cases;
            drop(report);
            for failure in &outcome.failures {
                if !self.campaign.keeps_going {
                    self.is_over.store(true, Ordering::Relaxed);
                }
                let text = describe(&script, failure, &mut servers);
                println!("{text}");
                self.report().findings.push(text);
            }
            let is_late = self.campaign.deadline.is_some_and(|d| Instant::now() > d);
            if is_enough || is_late {
                self.is_over.store(true, Ordering::Relaxed);
            }
        }
        servers.stop()
    }
}

/// The failure with all the SQL it takes, for a person with psql.
fn describe(script: &Script, failure: &Failure, servers: &mut Servers) -> String {
    let (small, failure) = minimise(script, failure, servers);
    let mut text = format!(
        "-- {:?}: seed {}, script {} ({})\n-- {}\n{}",
        failure.kind,
        script.seed,
        script.number,
        servers.division(),
        script.replay(),
        small.text(failure.steps)
    );
    if let Some(case) = failure.case {
        let case = &small.cases[case];
        let question = match failure.kind {
            Kind::QueryDiffers => case.query.sql.clone(),
            _ => case.select(),
        };
        text.push_str(&format!(
            "{question};\n-- PostgreSQL: {}\n",
            case.query.oracle_sql
        ));
    }
    for line in failure.detail.lines() {
        text.push_str(&format!("-- {line}\n"));
    }
    text
}
