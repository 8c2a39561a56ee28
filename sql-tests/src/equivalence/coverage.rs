//! What a run has tried: how often each part of SQL met NULLs, duplicates and deletions, alone and together with each
//! kind of join. A run that leaves something out must not look like one that found nothing.

use std::collections::BTreeMap;

use crate::random::{Features, change, features};

/// Runs of fewer cases need not have tried everything.
const LEAST_CASES: usize = 1500;
/// Each feature must have been met so often under each condition.
const FEATURE_FLOOR: usize = 5;
/// Each kind of operator must have stood over or under each kind of join so often, under each condition.
const PAIR_FLOOR: usize = 2;

/// What the changes of a script have brought along.
#[derive(Debug, Default, Clone, Copy)]
pub struct Met {
    /// A NULL was written.
    pub nulls: bool,
    /// A row was written twice.
    pub duplicates: bool,
    /// A row was taken away.
    pub deletions: bool,
}

impl Met {
    fn add_to(self, counts: &mut [usize]) {
        for (count, is_met) in counts
            .iter_mut()
            .zip([self.nulls, self.duplicates, self.deletions])
        {
            *count += usize::from(is_met);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Views that were compared.
    pub cases: usize,
    /// Comparisons of a view with PostgreSQL's answer.
    pub comparisons: usize,
    /// Refused views, by message.
    pub refused: BTreeMap<String, usize>,
    counts: BTreeMap<&'static str, [usize; 4]>,
    changes: BTreeMap<&'static str, usize>,
    pairs: BTreeMap<(&'static str, &'static str), [usize; 3]>,
}

impl Coverage {
    /// Counts a view that was compared with PostgreSQL.
    pub fn add(&mut self, used: &Features, met: Met) {
        self.cases += 1;
        for feature in used {
            let counts = self.counts.entry(feature).or_default();
            counts[0] += 1;
            met.add_to(&mut counts[1..]);
        }
        for operator in named(features::OPERATORS, used) {
            for join in named(features::JOINS, used) {
                met.add_to(self.pairs.entry((operator, join)).or_default());
            }
        }
    }

    /// Counts a statement that changed something.
    pub fn add_change(&mut self, kind: &'static str) {
        *self.changes.entry(kind).or_default() += 1;
    }

    /// Prints the tables.
    pub fn print(&self) {
        println!(
            "{:<24}{:>8}{:>8}{:>12}{:>11}",
            "feature", "cases", "NULLs", "duplicates", "deletions"
        );
        for feature in features::ALL {
            let [cases, nulls, duplicates, deletions] = self.of(feature);
            println!("{feature:<24}{cases:>8}{nulls:>8}{duplicates:>12}{deletions:>11}");
        }
        println!("\noperator × join, each with NULLs/duplicates/deletions");
        print!("{:<16}", "");
        for (join, _) in features::JOINS {
            print!("{join:>14}");
        }
        println!();
        for (operator, _) in features::OPERATORS {
            print!("{operator:<16}");
            for (join, _) in features::JOINS {
                let [nulls, duplicates, deletions] = self.pair(operator, join);
                print!("{:>14}", format!("{nulls}/{duplicates}/{deletions}"));
            }
            println!();
        }
        println!("\nchanges");
        for kind in change::KINDS {
            println!("{kind:<24}{:>8}", self.of_changes(kind));
        }
        for (reason, count) in &self.refused {
            println!("refused {count} times: {reason}");
        }
    }

    fn of(&self, feature: &str) -> [usize; 4] {
        self.counts.get(feature).copied().unwrap_or_default()
    }

    fn of_changes(&self, kind: &str) -> usize {
        self.changes.get(kind).copied().unwrap_or_default()
    }

    fn pair(&self, operator: &'static str, join: &'static str) -> [usize; 3] {
        self.pairs
            .get(&(operator, join))
            .copied()
            .unwrap_or_default()
    }

    /// What a run of this many cases should have tried and has not.
    pub fn below_floor(&self) -> Vec<String> {
        if self.cases < LEAST_CASES {
            return Vec::new();
        }
        let low = |counts: &[usize], floor: usize| counts.iter().any(|n| *n < floor);
        let mut missing: Vec<String> = features::ALL
            .iter()
            .filter(|feature| low(&self.of(feature), FEATURE_FLOOR))
            .map(|feature| feature.to_string())
            .collect();
        let rare = |kind: &&&str| self.of_changes(kind) < FEATURE_FLOOR;
        missing.extend(
            change::KINDS
                .iter()
                .filter(rare)
                .map(|kind| kind.to_string()),
        );
        for (operator, _) in features::OPERATORS {
            for (join, _) in features::JOINS {
                if low(&self.pair(operator, join), PAIR_FLOOR) {
                    missing.push(format!("{operator} × {join}"));
                }
            }
        }
        missing
    }
}

/// The names of those groups of features of which something is used.
fn named<'a>(
    groups: &'a [(&'static str, &'static [&'static str])],
    used: &'a Features,
) -> impl Iterator<Item = &'static str> + use<'a> {
    let is_used = |(_, members): &&(_, &[&str])| members.iter().any(|m| used.contains(m));
    groups.iter().filter(is_used).map(|(name, _)| *name)
}
