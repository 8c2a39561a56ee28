//! Random queries: filters, projections, set operations, DISTINCT, GROUP BY with every aggregate, grouping sets, HAVING,
//! first rows, window functions, subqueries in FROM, windows, and all of these over tables or over other views.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::aggregate::{grouped, grouping_sets};
use super::expression::{expression, predicate};
use super::first_rows::{distinct_on, limited, ranked, with_ties};
use super::join::{combined, is_joined};
use super::join_tree::tree;
use super::over::over;
use super::{Column, Features, Query, Random, Type};

/// Something that can stand in FROM, as each of the servers writes it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// For Rivermark.
    pub sql: String,
    /// For PostgreSQL.
    pub oracle_sql: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// What its definition exercises already.
    pub features: Features,
}

impl Relation {
    /// A table or view that both servers have under the same name.
    pub fn named(name: &str, columns: &[Column], features: Features) -> Relation {
        Relation {
            sql: name.into(),
            oracle_sql: name.into(),
            columns: columns.to_vec(),
            features,
        }
    }

    /// The types of its columns that can be computed with; one more often if there are more of it.
    pub(super) fn plain_types(&self) -> Vec<Type> {
        let types = self.columns.iter().map(|c| c.ty);
        types.filter(|t| *t != Type::Opaque).collect()
    }

    pub(super) fn subquery(query: Query) -> Relation {
        Relation {
            sql: format!("({}) AS q", query.sql),
            oracle_sql: format!("({}) AS q", query.oracle_sql),
            columns: query.columns,
            features: query.features,
        }
    }

    pub(super) fn select(self, list: &str, rest: &str, columns: Vec<Column>) -> Query {
        Query {
            sql: format!("SELECT {list} FROM {}{rest}", self.sql),
            oracle_sql: format!("SELECT {list} FROM {}{rest}", self.oracle_sql),
            columns,
            features: self.features,
        }
    }
}

/// A query over one of these relations.
pub fn query(sources: &[Relation], random: &mut Random) -> Query {
    let relation = relation(sources, 2, random);
    match random.random_range(0..18) {
        10 => limited(relation, random),
        11 => with_ties(relation, random),
        12 => distinct_on(relation, random),
        13 | 14 => ranked(relation, random),
        15 | 16 => over(relation, random),
        4 | 17 => grouping_sets(relation, random),
        0..2 => projection(relation, random),
        2 | 5 | 6 => set_operation(relation, random),
        3 => distinct(relation, random),
        _ => grouped(relation, random),
    }
}

fn relation(sources: &[Relation], depth: usize, random: &mut Random) -> Relation {
    let base = sources.choose(random).expect("there is a table").clone();
    if depth > 0 && random.random_bool(0.3) {
        let inner = relation(sources, depth - 1, random);
        let mut query = match random.random_range(0..7) {
            0 => set_operation(inner, random),
            1 => grouped(inner, random),
            2 => distinct(inner, random),
            3 => limited(inner, random),
            4 => ranked(inner, random),
            5 => over(inner, random),
            _ => projection(inner, random),
        };
        query.features.insert("subquery in FROM");
        return Relation::subquery(query);
    }
    if depth == 2 && random.random_bool(0.75) {
        let other = sources.choose(random).expect("there is a table").clone();
        let third = sources.choose(random).expect("there is a table").clone();
        if [&base, &other, &third].iter().all(|r| !is_joined(r)) && random.random_bool(0.25) {
            return tree([base, other, third], random);
        }
        if !is_joined(&base) && !is_joined(&other) {
            return combined(base, other, random);
        }
    }
    let has_window = base.columns.iter().any(|c| c.name.starts_with("window_"));
    match base
        .columns
        .iter()
        .any(|c| c.name == "ts" && c.ty == Type::Time)
        && !has_window
    {
        true if random.random_bool(0.3) => windowed(base, random),
        _ => base,
    }
}

/// TUMBLE and HOP, which PostgreSQL writes with date_bin and generate_series.
fn windowed(mut base: Relation, random: &mut Random) -> Relation {
    const ORIGIN: &str = "TIMESTAMP '1970-01-01 00:00:00'";
    let slide = *[10, 20, 30].choose(random).unwrap_or(&10);
    if random.random_bool(0.5) {
        base.features.insert("tumble");
        base.sql = format!("TUMBLE({}, ts, INTERVAL '{slide} seconds')", base.sql);
        base.oracle_sql = format!(
            "(SELECT r.*, date_bin('{slide} seconds', ts, {ORIGIN}) AS window_start, \
             date_bin('{slide} seconds', ts, {ORIGIN}) + INTERVAL '{slide} seconds' AS window_end \
             FROM {} AS r) AS w",
            base.oracle_sql
        );
    } else {
        base.features.insert("hop");
        let size = slide * random.random_range(1..=3);
        base.sql = format!(
            "HOP({}, ts, INTERVAL '{slide} seconds', INTERVAL '{size} seconds')",
            base.sql
        );
        base.oracle_sql = format!(
            "(SELECT r.*, ws AS window_start, ws + INTERVAL '{size} seconds' AS window_end FROM {} AS r, \
             generate_series(date_bin('{slide} seconds', ts, {ORIGIN}) - INTERVAL '{back} seconds', \
             date_bin('{slide} seconds', ts, {ORIGIN}), INTERVAL '{slide} seconds') AS ws) AS w",
            base.oracle_sql,
            back = size - slide
        );
    }
    for name in ["window_start", "window_end"] {
        base.columns.push(Column {
            name: name.into(),
            ty: Type::Time,
        });
    }
    // A row without a time is in no window; what TUMBLE shows for it is no matter of equivalence.
    let columns = base.columns.clone();
    Relation::subquery(base.select("*", " WHERE ts IS NOT NULL", columns))
}

pub(super) fn condition(relation: &mut Relation, probability: f64, random: &mut Random) -> String {
    if !random.random_bool(probability) {
        return String::new();
    }
    relation.features.insert("filter");
    format!(" WHERE {}", predicate(&relation.columns, 2, random))
}

fn projection(mut relation: Relation, random: &mut Random) -> Query {
    let rest = condition(&mut relation, 0.7, random);
    if random.random_bool(0.2) {
        let columns = relation.columns.clone();
        return relation.select("*", &rest, columns);
    }
    relation.features.insert("project");
    let (list, columns) = select_list(&mut relation, 4, random);
    relation.select(&list.join(", "), &rest, columns)
}

/// Some expressions `e0, e1, …`; passes on `ts` where there is one, so that windows can follow.
fn select_list(
    relation: &mut Relation,
    most: usize,
    random: &mut Random,
) -> (Vec<String>, Vec<Column>) {
    let types: Vec<Type> = relation.plain_types();
    let (mut list, mut columns) = (Vec::new(), Vec::new());
    for i in 0..random.random_range(1..=most) {
        let ty = *types.choose(random).unwrap_or(&Type::Int);
        let expression = expression(ty, &relation.columns, 2, &mut relation.features, random);
        list.push(format!("{expression} AS e{i}"));
        columns.push(Column {
            name: format!("e{i}"),
            ty,
        });
    }
    if relation.columns.iter().any(|c| c.name == "ts") {
        list.push("ts".into());
        columns.push(Column {
            name: "ts".into(),
            ty: Type::Time,
        });
    }
    (list, columns)
}

fn distinct(mut relation: Relation, random: &mut Random) -> Query {
    relation.features.insert("distinct");
    let rest = condition(&mut relation, 0.4, random);
    let (list, columns) = select_list(&mut relation, 2, random);
    relation.select(&format!("DISTINCT {}", list.join(", ")), &rest, columns)
}

fn set_operation(relation: Relation, random: &mut Random) -> Query {
    // UNION ALL is an operator of its own in the table of pairs, the others are one.
    let (operator, feature) = *[
        ("UNION ALL", "union all"),
        ("UNION ALL", "union all"),
        ("UNION ALL", "union all"),
        ("UNION", "union"),
        ("EXCEPT", "except"),
        ("EXCEPT ALL", "except all"),
        ("INTERSECT", "intersect"),
        ("INTERSECT ALL", "intersect all"),
    ]
    .choose(random)
    .expect("there are some");
    let mut sides = Vec::new();
    let types: Vec<Type> = relation.plain_types();
    let types: Vec<Type> = (0..random.random_range(1..=3))
        .map(|_| *types.choose(random).unwrap_or(&Type::Int))
        .collect();
    let columns: Vec<Column> = types
        .iter()
        .enumerate()
        .map(|(i, ty)| Column {
            name: format!("e{i}"),
            ty: *ty,
        })
        .collect();
    for _ in 0..2 {
        let mut side = relation.clone();
        let rest = condition(&mut side, 0.6, random);
        let mut list = Vec::new();
        for (i, ty) in types.iter().enumerate() {
            let expression = expression(*ty, &side.columns, 1, &mut side.features, random);
            list.push(format!("{expression} AS e{i}"));
        }
        sides.push(side.select(&list.join(", "), &rest, columns.clone()));
    }
    let (second, first) = (
        sides.pop().expect("two sides"),
        sides.pop().expect("two sides"),
    );
    let mut features: Features = first.features.union(&second.features).copied().collect();
    features.insert(feature);
    Query {
        sql: format!("{} {operator} {}", first.sql, second.sql),
        oracle_sql: format!("{} {operator} {}", first.oracle_sql, second.oracle_sql),
        columns,
        features,
    }
}
