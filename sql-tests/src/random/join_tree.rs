//! Random joins of three relations, in any order, with ON, USING and NATURAL.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, predicate};
use super::query::Relation;
use super::{Column, Features, Query, Random, Type};

/// Relations joined so far.
struct Joined {
    sql: String,
    oracle_sql: String,
    /// All columns, as `alias.name`.
    scope: Vec<Column>,
    /// Names without alias, as often as there are columns that answer to them.
    names: Vec<Column>,
    is_join: bool,
}

/// A subquery that joins these. The first alone if they have nothing to compare.
pub(super) fn tree(sources: [Relation; 3], random: &mut Random) -> Relation {
    let [first, ..] = &sources;
    let fallback = first.clone();
    let mut features: Features = sources
        .iter()
        .flat_map(|s| s.features.iter().copied())
        .collect();
    let [a, b, c] = sources;
    let (a, b, c) = (
        narrow(a, "x", random),
        narrow(b, "y", random),
        narrow(c, "z", random),
    );
    let joined = match random.random_bool(0.7) {
        true => pair(a, b, &mut features, random).and_then(|ab| pair(ab, c, &mut features, random)),
        false => {
            pair(b, c, &mut features, random).and_then(|bc| pair(a, bc, &mut features, random))
        }
    };
    match joined {
        Some(joined) => {
            features.insert("join of three");
            selected(joined, features, random)
        }
        None => fallback,
    }
}

/// Few columns of a relation, under an alias.
fn narrow(relation: Relation, alias: &str, random: &mut Random) -> Joined {
    let ordered: Vec<&Column> = relation
        .columns
        .iter()
        .filter(|c| c.ty.is_ordered())
        .collect();
    let mut columns: Vec<Column> = ordered
        .choose_multiple(random, 3)
        .map(|c| (*c).clone())
        .collect();
    if columns.is_empty() {
        columns = relation.columns.iter().take(1).cloned().collect();
    }
    let list: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let list = list.join(", ");
    Joined {
        sql: format!("(SELECT {list} FROM {}) AS {alias}", relation.sql),
        oracle_sql: format!("(SELECT {list} FROM {}) AS {alias}", relation.oracle_sql),
        scope: columns
            .iter()
            .map(|c| Column::new(format!("{alias}.{}", c.name), c.ty))
            .collect(),
        names: columns,
        is_join: false,
    }
}

fn pair(
    left: Joined,
    right: Joined,
    features: &mut Features,
    random: &mut Random,
) -> Option<Joined> {
    let (word, feature) = *[
        ("JOIN", "inner join"),
        ("LEFT JOIN", "left join"),
        ("RIGHT JOIN", "right join"),
        ("FULL JOIN", "full join"),
    ]
    .choose(random)?;
    let shared = shared_names(&left, &right);
    let mut scope = left.scope.clone();
    scope.extend(right.scope.iter().cloned());
    let is_natural = shared.is_some() && random.random_bool(0.3);
    let is_using = shared.as_ref().is_some_and(|s| !s.is_empty()) && random.random_bool(0.5);
    let (natural, condition, merged) = match shared {
        Some(shared) if !shared.is_empty() && is_natural => {
            features.insert("NATURAL");
            ("NATURAL ", String::new(), shared)
        }
        Some(shared) if is_using => {
            features.insert("USING");
            let count = random.random_range(1..=shared.len().min(2));
            let merged: Vec<Column> = shared.choose_multiple(random, count).cloned().collect();
            let names: Vec<&str> = merged.iter().map(|c| c.name.as_str()).collect();
            let condition = format!(" USING ({})", names.join(", "));
            ("", condition, merged)
        }
        _ => {
            let condition = on(&left, &right, &scope, features, random)?;
            ("", format!(" ON {condition}"), Vec::new())
        }
    };
    features.insert(feature);
    let is_merged = |c: &&Column| merged.iter().any(|m| m.name == c.name);
    let mut names = left.names.clone();
    names.extend(right.names.iter().filter(|c| !is_merged(c)).cloned());
    let text = |left: &str, right: &str, is_join: bool| match is_join {
        true => format!("{left} {natural}{word} ({right}){condition}"),
        false => format!("{left} {natural}{word} {right}{condition}"),
    };
    Some(Joined {
        sql: text(&left.sql, &right.sql, right.is_join),
        oracle_sql: text(&left.oracle_sql, &right.oracle_sql, right.is_join),
        scope,
        names,
        is_join: true,
    })
}

/// Names that both sides have, or nothing if one of them means two things or columns that cannot be compared.
fn shared_names(left: &Joined, right: &Joined) -> Option<Vec<Column>> {
    let mut shared: Vec<Column> = Vec::new();
    for own in &left.names {
        let theirs: Vec<&Column> = right.names.iter().filter(|c| c.name == own.name).collect();
        let [their] = theirs[..] else {
            if theirs.is_empty() {
                continue;
            }
            return None;
        };
        if their.ty != own.ty || shared.iter().any(|c| c.name == own.name) {
            return None;
        }
        shared.push(own.clone());
    }
    Some(shared)
}

fn on(
    left: &Joined,
    right: &Joined,
    scope: &[Column],
    features: &mut Features,
    random: &mut Random,
) -> Option<String> {
    let mut own = left.scope.clone();
    let mut pairs = Vec::new();
    while pairs.is_empty() {
        let chosen = column(&own, &Type::ORDERED, random)?.clone();
        match column(&right.scope, &chosen.ty.comparable(), random) {
            Some(its) => pairs.push(format!("{} = {}", chosen.name, its.name)),
            None => own.retain(|c| c.ty != chosen.ty),
        }
    }
    if random.random_bool(0.3) {
        features.insert("join residual");
        pairs.push(format!("({})", predicate(scope, 1, random)));
    }
    Some(pairs.join(" AND "))
}

/// Some of the columns, those that were merged among them, under names of their own.
fn selected(joined: Joined, mut features: Features, random: &mut Random) -> Relation {
    let is_single = |c: &&Column| joined.names.iter().filter(|n| n.name == c.name).count() == 1;
    let mut choices = joined.scope.clone();
    choices.extend(joined.names.iter().filter(is_single).cloned());
    let count = random.random_range(2..=5);
    let chosen: Vec<Column> = choices.choose_multiple(random, count).cloned().collect();
    let list: Vec<String> = chosen
        .iter()
        .enumerate()
        .map(|(i, c)| format!("{} AS c{i}", c.name))
        .collect();
    let columns = chosen
        .iter()
        .enumerate()
        .map(|(i, c)| Column::new(format!("c{i}"), c.ty));
    let rest = match random.random_bool(0.3) {
        true => {
            features.insert("filter");
            format!(" WHERE {}", predicate(&choices, 1, random))
        }
        false => String::new(),
    };
    let list = list.join(", ");
    Relation::subquery(Query {
        sql: format!("SELECT {list} FROM {}{rest}", joined.sql),
        oracle_sql: format!("SELECT {list} FROM {}{rest}", joined.oracle_sql),
        columns: columns.collect(),
        features,
    })
}
