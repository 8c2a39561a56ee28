//! Random queries for the first rows of an order: LIMIT, WITH TIES, DISTINCT ON, and ranks that are bounded. An order
//! ends with all columns that are shown wherever it decides which rows these are, so that ties are equal rows.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::query::{Relation, condition};
use super::{Column, Query, Random, Type};

/// A relation of at most four columns, all of which can be compared exactly.
pub(super) fn comparable(mut relation: Relation, random: &mut Random) -> Relation {
    let mut columns: Vec<Column> = relation
        .columns
        .iter()
        .filter(|c| c.ty.is_ordered() || c.ty == Type::Bool)
        .cloned()
        .collect();
    while columns.len() > 4 {
        columns.remove(random.random_range(0..columns.len()));
    }
    if columns.is_empty() {
        columns.push(Column {
            name: "nothing".into(),
            ty: Type::Int,
        });
        return Relation::subquery(relation.select("1 AS nothing", "", columns));
    }
    let rest = condition(&mut relation, 0.3, random);
    let list = names(&columns).join(", ");
    Relation::subquery(relation.select(&list, &rest, columns))
}

pub(super) fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|c| c.name.clone()).collect()
}

/// A name that no column has.
pub(super) fn free_name(columns: &[Column], start: &str) -> String {
    (0..)
        .map(|i| format!("{start}{i}"))
        .find(|name| columns.iter().all(|c| c.name != *name))
        .expect("there are more names than columns")
}

/// A few columns to sort by, in random directions.
pub(super) fn keys(columns: &[Column], most: usize, random: &mut Random) -> Vec<String> {
    let mut keys = Vec::new();
    for _ in 0..random.random_range(0..=most) {
        let direction = *["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]
            .choose(random)
            .expect("there are four");
        if let Some(column) = columns.choose(random) {
            keys.push(format!("{}{direction}", column.name));
        }
    }
    keys
}

/// An order of which only equal rows are tied.
pub(super) fn total_order(columns: &[Column], random: &mut Random) -> String {
    let mut keys = keys(columns, 2, random);
    keys.extend(names(columns));
    keys.join(", ")
}

/// Columns to group by, which may be none.
pub(super) fn partition(columns: &[Column], random: &mut Random) -> String {
    match columns.choose(random) {
        Some(column) if random.random_bool(0.7) => format!("PARTITION BY {} ", column.name),
        _ => String::new(),
    }
}

pub(super) fn limited(relation: Relation, random: &mut Random) -> Query {
    let mut relation = comparable(relation, random);
    relation.features.insert("limit");
    let columns = relation.columns.clone();
    let order = total_order(&columns, random);
    let mut rest = format!(" ORDER BY {order} LIMIT {}", random.random_range(1..6));
    if random.random_bool(0.4) {
        relation.features.insert("offset");
        rest.push_str(&format!(" OFFSET {}", random.random_range(1..4)));
    }
    in_parentheses(relation.select(&names(&columns).join(", "), &rest, columns))
}

pub(super) fn with_ties(relation: Relation, random: &mut Random) -> Query {
    let mut relation = comparable(relation, random);
    relation.features.insert("with ties");
    let columns = relation.columns.clone();
    let mut keys = keys(&columns, 2, random);
    keys.push(columns[0].name.clone());
    let rest = format!(
        " ORDER BY {} FETCH FIRST {} ROWS WITH TIES",
        keys.join(", "),
        random.random_range(1..5)
    );
    in_parentheses(relation.select(&names(&columns).join(", "), &rest, columns))
}

pub(super) fn distinct_on(relation: Relation, random: &mut Random) -> Query {
    let mut relation = comparable(relation, random);
    relation.features.insert("distinct on");
    let columns = relation.columns.clone();
    let key = columns.choose(random).map_or("1", |c| c.name.as_str());
    let list = format!("DISTINCT ON ({key}) {}", names(&columns).join(", "));
    let rest = format!(" ORDER BY {key}, {}", total_order(&columns, random));
    in_parentheses(relation.select(&list, &rest, columns.clone()))
}

pub(super) fn ranked(relation: Relation, random: &mut Random) -> Query {
    let mut relation = comparable(relation, random);
    let mut columns = relation.columns.clone();
    let (function, feature) = *[
        ("row_number", "first by row_number"),
        ("rank", "first by rank"),
        ("dense_rank", "first by dense_rank"),
    ]
    .choose(random)
    .expect("there are three");
    relation.features.insert(feature);
    let order = match function {
        "row_number" => total_order(&columns, random),
        _ => columns
            .choose(random)
            .map_or("1".into(), |c| c.name.clone()),
    };
    let over = format!("{}ORDER BY {order}", partition(&columns, random));
    let place = free_name(&columns, "place");
    let list = format!(
        "{}, {function}() OVER ({over}) AS {place}",
        names(&columns).join(", ")
    );
    let inner = Relation::subquery(relation.select(&list, "", columns.clone()));
    if random.random_bool(0.5) {
        columns.push(Column {
            name: place.clone(),
            ty: Type::Big,
        });
    }
    let bound = match random.random_range(0..4) {
        0 => format!("{place} = 2"),
        1 => format!("{place} < 3"),
        2 => format!("{place} BETWEEN 2 AND 4"),
        _ => format!("{place} <= {}", random.random_range(1..4)),
    };
    inner.select(
        &names(&columns).join(", "),
        &format!(" WHERE {bound}"),
        columns,
    )
}

/// So that more can follow a query with a limit.
fn in_parentheses(query: Query) -> Query {
    Query {
        sql: format!("({})", query.sql),
        oracle_sql: format!("({})", query.oracle_sql),
        ..query
    }
}
