//! Cuts a script that failed down to what it takes to fail: fewer views, fewer changes, fewer rows.

use std::time::{Duration, Instant};

use super::run::{Failure, Kind, Servers, run};
use super::script::{Script, Step};

/// Longest time that one failure is worth.
const PATIENCE: Duration = Duration::from_secs(90);

/// The smallest script found that fails in the same way, and how it fails.
pub fn minimise(script: &Script, failure: &Failure, servers: &mut Servers) -> (Script, Failure) {
    let mut search = Search {
        servers,
        script: script.clone(),
        failure: failure.clone(),
        deadline: Instant::now() + PATIENCE,
    };
    if failure.kind != Kind::Generator {
        search.cut_the_end();
        search.drop_views();
        while search.drop_steps() || search.drop_rows() {}
    }
    (search.script, search.failure)
}

struct Search<'a> {
    servers: &'a mut Servers,
    script: Script,
    failure: Failure,
    deadline: Instant,
}

impl Search<'_> {
    /// Keeps a smaller script if it fails alike.
    fn try_steps(&mut self, steps: Vec<Step>) -> bool {
        if Instant::now() > self.deadline {
            return false;
        }
        let candidate = Script {
            steps,
            ..self.script.clone()
        };
        let Ok(outcome) = run(&candidate, self.servers) else {
            return false;
        };
        let (case, kind) = (self.failure.case, self.failure.kind);
        let mut same = outcome.failures.into_iter();
        match same.find(|f| f.case == case && f.kind == kind) {
            Some(failure) => {
                self.script = candidate;
                self.failure = failure;
                true
            }
            None => false,
        }
    }

    fn cut_the_end(&mut self) {
        let steps = self.script.steps[..self.failure.steps].to_vec();
        self.try_steps(steps);
    }

    fn drop_views(&mut self) {
        let Some(case) = self.failure.case else {
            return;
        };
        let below = self.script.cases[case].below.clone();
        let is_needed = |step: &Step| match step {
            Step::Create(made) => *made == case || below.contains(made),
            Step::Change(_) | Step::Restart => true,
        };
        let steps = self.script.steps.iter().filter(|s| is_needed(s));
        let steps = steps.cloned().collect();
        self.try_steps(steps);
    }

    fn drop_steps(&mut self) -> bool {
        let mut has_shrunk = false;
        for at in (0..self.script.steps.len()).rev() {
            let mut steps = self.script.steps.clone();
            steps.remove(at);
            has_shrunk |= self.try_steps(steps);
        }
        has_shrunk
    }

    /// Rows of INSERT statements, by halves and then one by one.
    fn drop_rows(&mut self) -> bool {
        let mut has_shrunk = false;
        for at in 0..self.script.steps.len() {
            let count = |script: &Script| match &script.steps[at] {
                Step::Change(change) => change.rows.len(),
                Step::Create(_) | Step::Restart => 0,
            };
            let mut size = count(&self.script) / 2;
            while size > 0 {
                let mut begin = 0;
                while begin < count(&self.script) && count(&self.script) > 1 {
                    let mut steps = self.script.steps.clone();
                    if let Step::Change(change) = &mut steps[at] {
                        let end = (begin + size).min(change.rows.len());
                        change.rows.drain(begin..end);
                        if change.rows.is_empty() {
                            break;
                        }
                    }
                    match self.try_steps(steps) {
                        true => has_shrunk = true,
                        false => begin += size,
                    }
                }
                size /= 2;
            }
        }
        has_shrunk
    }
}
