//! Random joins and subqueries: two relations in one, rows chosen by what another relation has, and values taken
//! from one.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, predicate};
use super::features::JOINS;
use super::query::Relation;
use super::{Column, Features, Query, Random, Type};

const COMPARED: [Type; 6] = [
    Type::Int,
    Type::Big,
    Type::Float,
    Type::Numeric,
    Type::Text,
    Type::Time,
];

/// Whether a relation is one already: joins of joins have too many rows to be tested often.
pub fn is_joined(relation: &Relation) -> bool {
    JOINS
        .iter()
        .any(|(_, members)| members.iter().any(|f| relation.features.contains(f)))
}

/// `left` combined with `right` in some way, as a subquery. `left` itself if they have nothing to compare.
pub fn combined(left: Relation, right: Relation, random: &mut Random) -> Relation {
    let right = Other::of(right);
    let Some(keys) = right.keys(&left.columns, random) else {
        return left;
    };
    match random.random_range(0..10) {
        0..4 => pairs(left, right, keys, random),
        4..7 => chosen(left, right, keys, random),
        7..9 => marked(left, right, keys, random),
        _ => with_value(left, right, keys, random),
    }
}

/// A relation whose columns are called `r_…`, so that no name means two things.
struct Other {
    sql: String,
    oracle_sql: String,
    columns: Vec<Column>,
    features: Features,
}

impl Other {
    fn of(relation: Relation) -> Other {
        let list: Vec<String> = relation
            .columns
            .iter()
            .map(|c| format!("{0} AS r_{0}", c.name))
            .collect();
        let list = list.join(", ");
        let columns = relation.columns.iter().map(|c| Column {
            name: format!("r_{}", c.name),
            ty: c.ty,
        });
        Other {
            sql: format!("(SELECT {list} FROM {}) AS r", relation.sql),
            oracle_sql: format!("(SELECT {list} FROM {}) AS r", relation.oracle_sql),
            columns: columns.collect(),
            features: relation.features,
        }
    }

    /// Columns of both sides that can be compared, one or two pairs.
    fn keys(&self, left: &[Column], random: &mut Random) -> Option<Vec<(String, String)>> {
        let mut keys = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let own = column(left, &COMPARED, random)?.clone();
            let types: &[Type] = match own.ty {
                Type::Int | Type::Big => &[Type::Int, Type::Big],
                Type::Float => &[Type::Float],
                Type::Numeric => &[Type::Numeric],
                Type::Text => &[Type::Text],
                _ => &[Type::Time],
            };
            if let Some(its) = column(&self.columns, types, random) {
                keys.push((own.name, its.name.clone()));
            }
        }
        keys.truncate(if random.random_bool(0.7) { 1 } else { 2 });
        (!keys.is_empty()).then_some(keys)
    }
}

fn equal(keys: &[(String, String)]) -> String {
    let pairs: Vec<String> = keys
        .iter()
        .map(|(own, its)| format!("{own} = {its}"))
        .collect();
    pairs.join(" AND ")
}

/// `SELECT list FROM left rest`, where each of the texts may mention the other relation as `{}`.
fn query(left: Relation, other: Other, columns: Vec<Column>, list: &str, rest: &str) -> Relation {
    let text = |text: &str, other: &str| text.replace("{}", other);
    let query = Query {
        sql: format!(
            "SELECT {} FROM {}{}",
            text(list, &other.sql),
            left.sql,
            text(rest, &other.sql)
        ),
        oracle_sql: format!(
            "SELECT {} FROM {}{}",
            text(list, &other.oracle_sql),
            left.oracle_sql,
            text(rest, &other.oracle_sql)
        ),
        columns,
        features: left.features.union(&other.features).copied().collect(),
    };
    Relation::subquery(query)
}

fn pairs(
    mut left: Relation,
    right: Other,
    keys: Vec<(String, String)>,
    random: &mut Random,
) -> Relation {
    let (word, feature) = *[
        ("JOIN", "inner join"),
        ("LEFT JOIN", "left join"),
        ("RIGHT JOIN", "right join"),
        ("FULL JOIN", "full join"),
    ]
    .choose(random)
    .unwrap_or(&("JOIN", "inner join"));
    left.features.insert(feature);
    let mut columns = left.columns.clone();
    columns.extend(right.columns.iter().cloned());
    let mut on = equal(&keys);
    // PostgreSQL has no FULL JOIN on a condition that it can not merge or hash.
    if word != "FULL JOIN" && random.random_bool(0.3) {
        left.features.insert("join of NULLs");
        on = on.replacen(" = ", " IS NOT DISTINCT FROM ", 1);
    }
    if random.random_bool(0.4) {
        left.features.insert("join residual");
        on = format!("{on} AND ({})", predicate(&columns, 1, random));
    }
    columns.retain(|_| random.random_bool(0.7));
    if columns.is_empty() {
        columns.extend(left.columns.first().cloned());
    }
    let list: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let (list, rest) = (list.join(", "), format!(" {word} {{}} ON {on}"));
    query(left, right, columns, &list, &rest)
}

/// The rows of another relation that belong to a row; sometimes fewer.
fn condition(left: &Relation, right: &Other, base: String, random: &mut Random) -> String {
    if !random.random_bool(0.4) {
        return base;
    }
    let columns: Vec<Column> = match random.random_bool(0.5) {
        true => right.columns.clone(),
        false => left.columns.iter().chain(&right.columns).cloned().collect(),
    };
    format!("{base} AND ({})", predicate(&columns, 1, random))
}

/// A test of a row against the other relation, and what it counts as.
fn test(
    left: &Relation,
    right: &Other,
    keys: &[(String, String)],
    random: &mut Random,
) -> (String, &'static str) {
    let (own, its) = &keys[0];
    let not = if random.random_bool(0.5) { "NOT " } else { "" };
    if random.random_bool(0.5) {
        let base = equal(keys);
        let condition = condition(left, right, base, random);
        let feature = if not.is_empty() {
            "EXISTS"
        } else {
            "NOT EXISTS"
        };
        return (
            format!("{not}EXISTS (SELECT 1 FROM {{}} WHERE {condition})"),
            feature,
        );
    }
    let feature = if not.is_empty() { "IN" } else { "NOT IN" };
    let rest = match random.random_range(0..3) {
        0 => String::new(),
        1 => format!(" WHERE {}", predicate(&right.columns, 1, random)),
        _ => format!(" WHERE {}", equal(&keys[keys.len() - 1..])),
    };
    (
        format!("{own} {not}IN (SELECT {its} FROM {{}}{rest})"),
        feature,
    )
}

fn chosen(
    mut left: Relation,
    right: Other,
    keys: Vec<(String, String)>,
    random: &mut Random,
) -> Relation {
    let (mut test, feature) = test(&left, &right, &keys, random);
    left.features.insert(feature);
    if random.random_bool(0.3) {
        let also = predicate(&left.columns, 1, random);
        let word = *["AND", "OR"].choose(random).unwrap_or(&"AND");
        test = format!("({test}) {word} ({also})");
    }
    if random.random_bool(0.15) {
        test = format!("NOT ({test})");
    }
    let columns = left.columns.clone();
    query(left, right, columns, "*", &format!(" WHERE {test}"))
}

fn marked(
    mut left: Relation,
    right: Other,
    keys: Vec<(String, String)>,
    random: &mut Random,
) -> Relation {
    let (test, feature) = test(&left, &right, &keys, random);
    left.features.insert(match feature {
        "IN" | "NOT IN" => "IN as a value",
        _ => "EXISTS as a value",
    });
    with_column(left, right, &test, Type::Bool)
}

fn with_value(
    mut left: Relation,
    right: Other,
    keys: Vec<(String, String)>,
    random: &mut Random,
) -> Relation {
    left.features.insert("scalar subquery");
    let ordered = [Type::Int, Type::Big, Type::Text, Type::Time];
    let (call, ty) = match column(&right.columns, &ordered, random) {
        Some(value) if random.random_bool(0.6) => {
            let name = *["min", "max"].choose(random).unwrap_or(&"min");
            (format!("{name}({})", value.name), value.ty)
        }
        _ => ("count(*)".to_string(), Type::Big),
    };
    let rest = match random.random_bool(0.75) {
        true => format!(" WHERE {}", equal(&keys)),
        false => String::new(),
    };
    with_column(left, right, &format!("(SELECT {call} FROM {{}}{rest})"), ty)
}

/// All columns of `left` and one more.
fn with_column(left: Relation, right: Other, value: &str, ty: Type) -> Relation {
    let mut columns = left.columns.clone();
    let list: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    columns.push(Column {
        name: "extra".into(),
        ty,
    });
    let list = format!("{}, {value} AS extra", list.join(", "));
    query(left, right, columns, &list, "")
}
