//! Figures of a benchmark, each printed with its target and whether it was met.

use anyhow::{Result, ensure};

/// Which targets were missed so far.
#[derive(Debug, Default)]
pub struct Targets {
    missed: Vec<String>,
}

impl Targets {
    /// A figure that should be `most` at most.
    pub fn at_most(&mut self, what: &str, value: f64, most: f64) {
        self.report(what, value, value <= most, &format!("<= {most}"));
    }

    /// A figure that should be `least` at least.
    pub fn at_least(&mut self, what: &str, value: f64, least: f64) {
        self.report(what, value, value >= least, &format!(">= {least}"));
    }

    fn report(&mut self, what: &str, value: f64, is_met: bool, target: &str) {
        let verdict = if is_met { "met" } else { "MISSED" };
        println!("{what}: {value:.3} (target {target}: {verdict})");
        if !is_met {
            self.missed
                .push(format!("{what} {value:.3}, target {target}"));
        }
    }

    /// An error that lists what was missed.
    pub fn verdict(self) -> Result<()> {
        ensure!(
            self.missed.is_empty(),
            "targets missed: {}",
            self.missed.join("; ")
        );
        println!("all targets met");
        Ok(())
    }
}
