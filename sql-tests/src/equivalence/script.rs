//! A script: tables, views over them and over each other, and the order in which views are made and tables change.
//! All of it is known before it runs, so that it can be run again and cut down.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::random::change::{Change, Tables};
use crate::random::query::{Relation, query};
use crate::random::table::Table;
use crate::random::{Features, Query, Random};

/// Views of one script.
pub const CASES: usize = 12;
const CHANGES: usize = 9;
/// Of the views made before, so many can be below the next one.
const VIEWS_TO_STAND_ON: usize = 2;
const TABLES: [&str; 3] = ["x", "y", "z"];

/// A view under test.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub view: String,
    /// What it shows.
    pub query: Query,
    /// The cases that it stands on, directly or not.
    pub below: Vec<usize>,
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// The case's view is made.
    Create(usize),
    /// A table changes.
    Change(Change),
    /// The server is stopped and started again.
    Restart,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Script {
    /// The seed of its run.
    pub seed: u64,
    /// Its place in the run.
    pub number: usize,
    /// Names and CREATE TABLE statements.
    pub tables: Vec<(String, String)>,
    /// The views.
    pub cases: Vec<Case>,
    /// In order.
    pub steps: Vec<Step>,
}

impl Script {
    /// The script of this number under this seed. Each has its own stream of random numbers, so that one can be looked
    /// at alone.
    pub fn random(seed: u64, number: usize) -> Script {
        let stream = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let mut random = Random::seed_from_u64(stream);
        let mut tables: Vec<Table> = TABLES
            .iter()
            .map(|n| Table::random(format!("t{number}_{n}"), &mut random))
            .collect();
        let (cases, created_at) = make_cases(number, &tables, &mut random);
        let restart_at = random
            .random_bool(0.06)
            .then(|| random.random_range(1..CHANGES));
        let mut steps = Vec::new();
        for number in 0..CHANGES {
            let due = created_at
                .iter()
                .enumerate()
                .filter(|(_, at)| **at == number);
            steps.extend(due.map(|(case, _)| Step::Create(case)));
            if restart_at == Some(number) {
                steps.push(Step::Restart);
            }
            // Each table has rows before anything else happens to it.
            let is_first = number < TABLES.len();
            let at = if is_first {
                number
            } else {
                random.random_range(0..tables.len())
            };
            let mut changing = Tables {
                all: &mut tables,
                at,
            };
            steps.push(Step::Change(changing.change(is_first, &mut random)));
        }
        Script {
            seed,
            number,
            tables: tables.iter().map(|t| (t.name.clone(), t.ddl())).collect(),
            cases,
            steps,
        }
    }

    /// How to run it again.
    pub fn replay(&self) -> String {
        format!(
            "RIVERMARK_SEED={} RIVERMARK_SCRIPT={} RIVERMARK_CASES=1 ./dev test views_equal_postgres",
            self.seed, self.number
        )
    }

    /// The statements for Rivermark, up to the first `steps` steps.
    pub fn text(&self, steps: usize) -> String {
        let mut text = String::new();
        for (_, ddl) in &self.tables {
            text.push_str(&format!("{ddl};\n"));
        }
        for step in self.steps.iter().take(steps) {
            match step {
                Step::Create(case) => text.push_str(&format!("{};\n", self.cases[*case].create())),
                Step::Change(change) => text.push_str(&format!("{};\n", change.sql())),
                Step::Restart => text.push_str("-- the server is restarted\n"),
            }
        }
        text
    }
}

impl Case {
    /// The statement for Rivermark.
    pub fn create(&self) -> String {
        format!(
            "CREATE MATERIALIZED VIEW {} AS {}",
            self.view, self.query.sql
        )
    }

    /// The statement for PostgreSQL: a view that is always up to date.
    pub fn create_for_oracle(&self) -> String {
        format!("CREATE VIEW {} AS {}", self.view, self.query.oracle_sql)
    }

    /// What is asked of both after every change.
    pub fn select(&self) -> String {
        format!("SELECT * FROM {}", self.view)
    }
}

/// The cases of a script, and the number of the change before which each is made: half of them before there is data.
fn make_cases(number: usize, tables: &[Table], random: &mut Random) -> (Vec<Case>, Vec<usize>) {
    let mut relations: Vec<Relation> = tables
        .iter()
        .map(|t| Relation::named(&t.name, &t.columns, Features::new()))
        .collect();
    let (mut made, mut created_at): (Vec<Case>, Vec<usize>) = Default::default();
    for i in 0..CASES {
        let sources = sources(&relations, tables.len(), random);
        let mut query = query(&sources, random);
        let view = format!("v{number}_{i}");
        let mut below: Vec<usize> = Vec::new();
        for (at, case) in made.iter().enumerate() {
            if mentions(&query.sql, &case.view) {
                below.extend(&case.below);
                below.push(at);
            }
        }
        below.sort_unstable();
        below.dedup();
        if !below.is_empty() {
            query.features.insert("view on view");
        }
        let earliest = below.iter().map(|b| created_at[*b]).max().unwrap_or(0);
        let late = match random.random_bool(0.5) {
            true => 0,
            false => random.random_range(1..CHANGES - 1),
        };
        let mut features = query.features.clone();
        features.remove("view on view");
        relations.push(Relation::named(&view, &query.columns, features));
        created_at.push(earliest.max(late));
        made.push(Case { view, query, below });
    }
    (made, created_at)
}

/// All tables and a few of the views that there are.
fn sources(relations: &[Relation], tables: usize, random: &mut Random) -> Vec<Relation> {
    let (tables, views) = relations.split_at(tables);
    let mut sources = tables.to_vec();
    sources.extend(views.choose_multiple(random, VIEWS_TO_STAND_ON).cloned());
    sources
}

fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name)
}
