//! Runs a script on both servers, side by side, and compares every view after every step.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::{join, join_all};

use super::coverage::Met;
use super::division::Division;
use super::script::{Script, Step};
use crate::postgres::Postgres;
use crate::server::Server;
use crate::session::{Answer, Session, SqlError, runtime};
use crate::values::difference;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A Rivermark server and the oracle.
pub struct Servers {
    division: Division,
    server: Server,
    ours: Session,
    theirs: Session,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A view is not what PostgreSQL shows.
    ViewDiffers,
    /// The query of a view, asked at once, is not answered as PostgreSQL does.
    QueryDiffers,
    /// Rivermark fails where PostgreSQL does not.
    Error,
    /// Rivermark does not answer any more.
    Lost,
    /// PostgreSQL does not accept what the generator wrote.
    Generator,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The view that is wrong, if it is one.
    pub case: Option<usize>,
    /// The steps that had run.
    pub steps: usize,
    /// What failed.
    pub kind: Kind,
    /// How.
    pub detail: String,
}

/// What came of a script.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Findings.
    pub failures: Vec<Failure>,
    /// Cases that were made and compared to the end.
    pub compared: Vec<usize>,
    /// Comparisons of a view.
    pub comparisons: usize,
    /// Why a view was refused.
    pub refused: Vec<String>,
    /// What the changes brought along.
    pub met: Met,
    /// Kinds of the changes that changed something.
    pub changes: Vec<&'static str>,
}

impl Servers {
    /// Starts a server of this division.
    pub fn start(division: Division, postgres: &Postgres) -> Result<Servers> {
        let server = division.options().start()?;
        let mut servers = Servers {
            division,
            ours: server.try_connect()?,
            server,
            theirs: postgres.connect()?,
        };
        servers.set_timeouts();
        Ok(servers)
    }

    fn set_timeouts(&mut self) {
        self.ours.timeout = STATEMENT_TIMEOUT;
        self.theirs.timeout = STATEMENT_TIMEOUT;
    }

    /// How the server divides its work.
    pub fn division(&self) -> Division {
        self.division
    }

    fn restart(&mut self) -> Result<()> {
        self.server.restart()?;
        self.ours = self.server.try_connect()?;
        self.set_timeouts();
        Ok(())
    }

    /// A new server in place of one that is no use any more.
    pub fn replace_server(&mut self) -> Result<()> {
        // What is left of it is not asked anything: it may not answer.
        let _ = self.server.kill9();
        self.server = self.division.options().start()?;
        self.ours = self.server.try_connect()?;
        self.set_timeouts();
        Ok(())
    }

    /// The end of the server's log.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Stops the server, which must end cleanly.
    pub fn stop(mut self) -> Result<()> {
        self.server.stop()
    }

    /// The same statement to both.
    fn both(
        &self,
        ours: &str,
        theirs: &str,
    ) -> (Result<Answer, SqlError>, Result<Answer, SqlError>) {
        runtime().block_on(join(
            self.ours.run_async(ours),
            self.theirs.run_async(theirs),
        ))
    }

    /// Several queries to both, all of them under way at once.
    fn all(
        &self,
        ours: &[&str],
        theirs: &[&str],
    ) -> Vec<(Result<Answer, SqlError>, Result<Answer, SqlError>)> {
        let ours = join_all(ours.iter().map(|sql| self.ours.run_async(sql)));
        let theirs = join_all(theirs.iter().map(|sql| self.theirs.run_async(sql)));
        let (ours, theirs) = runtime().block_on(join(ours, theirs));
        ours.into_iter().zip(theirs).collect()
    }
}

/// Runs a script and removes what it made. A server that is lost is replaced.
pub fn run(script: &Script, servers: &mut Servers) -> Result<Outcome> {
    let mut run = Run {
        script,
        servers,
        states: vec![State::Absent; script.cases.len()],
        outcome: Outcome::default(),
        steps: 0,
    };
    let is_whole = run.tables() && run.steps() && {
        run.compare_queries();
        true
    };
    let is_clean = run.clean_up();
    let Run {
        states,
        mut outcome,
        ..
    } = run;
    let is_compared = |case: &usize| states[*case] == State::Right;
    outcome.compared = (0..states.len()).filter(is_compared).collect();
    if !is_whole || !is_clean {
        servers
            .replace_server()
            .context("a new server in place of the lost one")?;
    }
    Ok(outcome)
}

/// What is known of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not made, since it is not yet time or it stands on a view that was not made.
    Absent,
    /// PostgreSQL has it, Rivermark refused it.
    Refused,
    /// As PostgreSQL has it so far.
    Right,
    /// Found wrong, or standing on one that was.
    Wrong,
}

struct Run<'a> {
    script: &'a Script,
    servers: &'a mut Servers,
    states: Vec<State>,
    outcome: Outcome,
    steps: usize,
}

impl Run<'_> {
    fn fail(&mut self, case: Option<usize>, kind: Kind, detail: impl Into<String>) {
        self.outcome.failures.push(Failure {
            case,
            steps: self.steps,
            kind,
            detail: detail.into(),
        });
        if let Some(case) = case {
            self.states[case] = State::Wrong;
        }
    }

    fn fail_with(&mut self, case: Option<usize>, error: &SqlError) {
        let is_lost = error.code == "08006" || error.code == "timeout";
        let kind = if is_lost { Kind::Lost } else { Kind::Error };
        let mut detail = error.to_string();
        if is_lost {
            detail = format!("{detail}\n{}", self.servers.log_tail());
        }
        self.fail(case, kind, detail);
    }

    fn is_lost(&self) -> bool {
        self.outcome.failures.iter().any(|f| f.kind == Kind::Lost)
    }

    /// The same statement to both; false if it ends the script.
    fn apply(&mut self, sql: &str) -> Option<u64> {
        let (ours, theirs) = self.servers.both(sql, sql);
        match (ours, theirs) {
            (_, Err(error)) => self.fail(None, Kind::Generator, format!("{error}\n{sql}")),
            (Err(error), _) => self.fail_with(None, &error),
            (Ok(ours), Ok(theirs)) if ours.affected != theirs.affected => {
                let detail = format!(
                    "{} rows instead of {}\n{sql}",
                    ours.affected, theirs.affected
                );
                self.fail(None, Kind::Error, detail);
            }
            // What RETURNING returns.
            (Ok(ours), Ok(theirs)) => match difference(&theirs.rows, &ours.rows) {
                Some(difference) => self.fail(None, Kind::Error, format!("{difference}{sql}")),
                None => return Some(theirs.affected),
            },
        }
        None
    }

    fn tables(&mut self) -> bool {
        let script = self.script;
        script
            .tables
            .iter()
            .all(|(_, ddl)| self.apply(ddl).is_some())
    }

    /// False if the rest makes no sense.
    fn steps(&mut self) -> bool {
        let script = self.script;
        for step in &script.steps {
            self.steps += 1;
            match step {
                Step::Create(case) => self.create(*case),
                Step::Change(change) => {
                    let Some(affected) = self.apply(&change.sql()) else {
                        return false;
                    };
                    let is_met = affected > 0 || !change.is_counted();
                    let met = &mut self.outcome.met;
                    met.nulls |= change.has_nulls && is_met;
                    met.duplicates |= change.has_duplicates && is_met;
                    met.deletions |= change.retracts && is_met;
                    if is_met {
                        self.outcome.changes.push(change.kind);
                    }
                    self.compare_views();
                }
                Step::Restart => {
                    if let Err(error) = self.servers.restart() {
                        self.fail(None, Kind::Lost, format!("the restart: {error:#}"));
                        return false;
                    }
                    self.compare_views();
                }
            }
            if self.is_lost() {
                return false;
            }
        }
        true
    }

    /// An error with SQLSTATE 0A000 is a refusal.
    fn create(&mut self, number: usize) {
        let case = &self.script.cases[number];
        if case.below.iter().any(|b| self.states[*b] != State::Right) {
            return;
        }
        let (ours, theirs) = self.servers.both(&case.create(), &case.create_for_oracle());
        match (ours, theirs) {
            (_, Err(error)) => self.fail(Some(number), Kind::Generator, error.to_string()),
            (Ok(_), _) => {
                self.states[number] = State::Right;
                self.compare(
                    &[number],
                    |case| (case.select(), case.select()),
                    Kind::ViewDiffers,
                );
            }
            (Err(error), _) if error.code == "0A000" => {
                self.states[number] = State::Refused;
                self.outcome.refused.push(error.message);
            }
            (Err(error), _) => self.fail_with(Some(number), &error),
        }
    }

    fn in_state(&self, wanted: &[State]) -> Vec<usize> {
        let numbers = 0..self.states.len();
        numbers
            .filter(|n| wanted.contains(&self.states[*n]))
            .collect()
    }

    fn compare_views(&mut self) {
        let cases = self.in_state(&[State::Right]);
        self.outcome.comparisons += cases.len();
        self.compare(
            &cases,
            |case| (case.select(), case.select()),
            Kind::ViewDiffers,
        );
    }

    /// The queries of the views, asked at once, must be answered the same, also where a view is refused.
    fn compare_queries(&mut self) {
        let cases = self.in_state(&[State::Right, State::Refused]);
        let queries = |case: &super::script::Case| (case.query.sql.clone(), case.select());
        self.compare(&cases, queries, Kind::QueryDiffers);
    }

    fn compare(
        &mut self,
        cases: &[usize],
        queries: impl Fn(&super::script::Case) -> (String, String),
        kind: Kind,
    ) {
        let texts: Vec<(String, String)> = cases
            .iter()
            .map(|c| queries(&self.script.cases[*c]))
            .collect();
        let ours: Vec<&str> = texts.iter().map(|(ours, _)| ours.as_str()).collect();
        let theirs: Vec<&str> = texts.iter().map(|(_, theirs)| theirs.as_str()).collect();
        let answers = self.servers.all(&ours, &theirs);
        let mut wrong: Vec<usize> = Vec::new();
        for (&number, (ours, theirs)) in cases.iter().zip(answers) {
            // What stands on a wrong view is wrong for that reason.
            if self.script.cases[number]
                .below
                .iter()
                .any(|b| wrong.contains(b))
            {
                self.states[number] = State::Wrong;
                wrong.push(number);
                continue;
            }
            match (ours, theirs) {
                (_, Err(error)) => self.fail(Some(number), Kind::Generator, error.to_string()),
                (Err(error), _) => self.fail_with(Some(number), &error),
                (Ok(ours), Ok(theirs)) => match difference(&theirs.rows, &ours.rows) {
                    Some(difference) => self.fail(Some(number), kind, difference),
                    None => continue,
                },
            }
            // A wrong answer to a query says nothing of the view.
            if kind == Kind::ViewDiffers {
                wrong.push(number);
            }
        }
    }

    /// Drops everything, so that the servers stay small and DROP is tested along the way. False if that fails.
    fn clean_up(&mut self) -> bool {
        let script = self.script;
        let theirs: Vec<String> = script
            .tables
            .iter()
            .map(|(name, _)| format!("DROP TABLE IF EXISTS {name} CASCADE"))
            .collect();
        let _ = runtime().block_on(self.servers.theirs.run_async(&theirs.join(";")));
        if self.is_lost() {
            return false;
        }
        let mut ours: Vec<String> = Vec::new();
        for case in script.cases.iter().rev() {
            ours.push(format!("DROP MATERIALIZED VIEW IF EXISTS {}", case.view));
        }
        for (name, _) in &script.tables {
            ours.push(format!("DROP TABLE IF EXISTS {name}"));
        }
        match runtime().block_on(self.servers.ours.run_async(&ours.join(";"))) {
            Ok(_) => true,
            Err(error) => {
                self.fail_with(None, &error);
                false
            }
        }
    }
}
