//! Random subqueries: rows and groups chosen by what another relation has, and values taken from one.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, predicate};
use super::join::{Keys, OTHER, Other, equal, query};
use super::query::Relation;
use super::{Column, Random, Type};

const AGGREGATED: [Type; 4] = [Type::Int, Type::Big, Type::Text, Type::Time];

/// The rows of another relation that belong to a row; sometimes fewer.
fn condition(left: &[Column], right: &Other, base: String, random: &mut Random) -> String {
    if !random.random_bool(0.4) {
        return base;
    }
    let columns: Vec<Column> = match random.random_bool(0.5) {
        true => right.columns.clone(),
        false => left.iter().chain(&right.columns).cloned().collect(),
    };
    format!("{base} AND ({})", predicate(&columns, 1, random))
}

/// A test of a row against the other relation ([`OTHER`]), and what it counts as.
fn test(
    left: &[Column],
    right: &Other,
    keys: &Keys,
    random: &mut Random,
) -> (String, &'static str) {
    match random.random_range(0..10) {
        0..4 => exists(left, right, keys, random),
        4 if keys.len() > 1 => row_membership(right, keys, random),
        5 | 6 => quantified(right, keys, random),
        _ => membership(right, keys, random),
    }
}

fn exists(
    left: &[Column],
    right: &Other,
    keys: &Keys,
    random: &mut Random,
) -> (String, &'static str) {
    let (not, feature) = *[("", "EXISTS"), ("NOT ", "NOT EXISTS")]
        .choose(random)
        .unwrap_or(&("", "EXISTS"));
    let condition = match random.random_range(0..10) {
        0 => predicate(&right.columns, 1, random),
        _ => condition(left, right, equal(keys), random),
    };
    (
        format!("{not}EXISTS (SELECT 1 FROM {OTHER} WHERE {condition})"),
        feature,
    )
}

fn membership(right: &Other, keys: &Keys, random: &mut Random) -> (String, &'static str) {
    let (own, its) = &keys[0];
    let (word, feature) = *[("IN", "IN"), ("NOT IN", "NOT IN")]
        .choose(random)
        .unwrap_or(&("IN", "IN"));
    let value = match random.random_range(0..6) {
        0 if right.is_extreme(its) => format!("min({its})"),
        _ => its.clone(),
    };
    let rest = match random.random_range(0..6) {
        0 | 1 => String::new(),
        2 => format!(" WHERE {}", predicate(&right.columns, 1, random)),
        _ if value != *its => format!(" GROUP BY {}", keys[keys.len() - 1].1),
        3 => format!(" ORDER BY {its} LIMIT 3"),
        _ => format!(" WHERE {}", equal(&keys[keys.len() - 1..])),
    };
    (
        format!("{own} {word} (SELECT {value} FROM {OTHER}{rest})"),
        feature,
    )
}

fn row_membership(right: &Other, keys: &Keys, random: &mut Random) -> (String, &'static str) {
    let (word, feature) = *[("IN", "IN"), ("NOT IN", "NOT IN")]
        .choose(random)
        .unwrap_or(&("IN", "IN"));
    let own: Vec<&str> = keys.iter().map(|(own, _)| own.as_str()).collect();
    let its: Vec<&str> = keys.iter().map(|(_, its)| its.as_str()).collect();
    let rest = match random.random_bool(0.5) {
        true => String::new(),
        false => format!(" WHERE {}", predicate(&right.columns, 1, random)),
    };
    let text = format!(
        "({}) {word} (SELECT {} FROM {OTHER}{rest})",
        own.join(", "),
        its.join(", ")
    );
    (text, feature)
}

/// A comparison with any, or all, values of the other relation.
fn quantified(right: &Other, keys: &Keys, random: &mut Random) -> (String, &'static str) {
    let (own, its) = &keys[0];
    let operator = *["=", "<>", "<", ">="].choose(random).unwrap_or(&"=");
    let quantifier = *["ANY", "ALL", "SOME"].choose(random).unwrap_or(&"ANY");
    let rest = match random.random_range(0..3) {
        0 => String::new(),
        1 => format!(" WHERE {}", predicate(&right.columns, 1, random)),
        _ => format!(" WHERE {}", equal(&keys[keys.len() - 1..])),
    };
    let text = format!("{own} {operator} {quantifier} (SELECT {its} FROM {OTHER}{rest})");
    (text, "ANY/ALL")
}

/// Each row with some of the rows that belong to it, or with what they amount to.
pub(super) fn lateral(
    mut left: Relation,
    right: Other,
    keys: Keys,
    random: &mut Random,
) -> Relation {
    left.features.insert("LATERAL");
    let mut columns = left.columns.clone();
    let mut shown: Vec<Column> = right
        .columns
        .iter()
        .filter(|c| c.ty.is_ordered())
        .cloned()
        .collect();
    shown.truncate(2);
    let condition = condition(&left.columns, &right, equal(&keys), random);
    let names: Vec<String> = shown.iter().map(|c| c.name.clone()).collect();
    let inner = match random.random_range(0..3) {
        0 => {
            columns.push(Column::new("l_n", Type::Big));
            format!("SELECT count(*) AS l_n FROM {OTHER} WHERE {condition}")
        }
        1 => {
            columns.extend(shown);
            let (names, count) = (names.join(", "), random.random_range(1..3));
            format!("SELECT {names} FROM {OTHER} WHERE {condition} ORDER BY {names} LIMIT {count}")
        }
        _ => {
            columns.extend(shown);
            format!("SELECT {} FROM {OTHER} WHERE {condition}", names.join(", "))
        }
    };
    let list: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let rest = match random.random_bool(0.5) {
        true => format!(" CROSS JOIN LATERAL ({inner}) AS l"),
        false => format!(" LEFT JOIN LATERAL ({inner}) AS l ON true"),
    };
    query(left, right, columns, &list.join(", "), &rest)
}

/// Rows for which a test, or a test and something else, is true.
pub(super) fn chosen(
    mut left: Relation,
    right: Other,
    keys: Keys,
    random: &mut Random,
) -> Relation {
    let (mut test, feature) = match random.random_range(0..8) {
        0 => compared(&left.columns, &right, &keys, random),
        _ => test(&left.columns, &right, &keys, random),
    };
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

/// A column compared with a value of the other relation.
fn compared(
    left: &[Column],
    right: &Other,
    keys: &Keys,
    random: &mut Random,
) -> (String, &'static str) {
    let (own, its) = &keys[0];
    let operator = *["=", "<>", "<", ">="].choose(random).unwrap_or(&"=");
    if !right.is_extreme(its) {
        return test(left, right, keys, random);
    }
    let rest = match random.random_bool(0.5) {
        true => format!(" WHERE {}", equal(&keys[keys.len() - 1..])),
        false => String::new(),
    };
    (
        format!("{own} {operator} (SELECT max({its}) FROM {OTHER}{rest})"),
        "scalar subquery",
    )
}

/// All rows, with what a test says of them.
pub(super) fn marked(
    mut left: Relation,
    right: Other,
    keys: Keys,
    random: &mut Random,
) -> Relation {
    let (test, feature) = test(&left.columns, &right, &keys, random);
    left.features.insert(match feature {
        "IN" | "NOT IN" => "IN as a value",
        "ANY/ALL" => "ANY/ALL",
        _ => "EXISTS as a value",
    });
    with_column(left, right, &test, Type::Bool)
}

/// All rows, with a value of the other relation.
pub(super) fn with_value(
    mut left: Relation,
    right: Other,
    keys: Keys,
    random: &mut Random,
) -> Relation {
    left.features.insert("scalar subquery");
    let (call, ty) = match column(&right.columns, &AGGREGATED, random) {
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
    let value = match random.random_bool(0.2) {
        true => {
            format!("COALESCE((SELECT {call} FROM {OTHER}{rest}), (SELECT {call} FROM {OTHER}))")
        }
        false => format!("(SELECT {call} FROM {OTHER}{rest})"),
    };
    with_column(left, right, &value, ty)
}

/// All columns of `left` and one more.
fn with_column(left: Relation, right: Other, value: &str, ty: Type) -> Relation {
    let mut columns = left.columns.clone();
    let list: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    columns.push(Column::new("extra", ty));
    let list = format!("{}, {value} AS extra", list.join(", "));
    query(left, right, columns, &list, "")
}

/// Groups of rows that are chosen, or get a value, by what the other relation has.
pub(super) fn groups(
    mut left: Relation,
    right: Other,
    keys: Keys,
    random: &mut Random,
) -> Relation {
    let (own, its) = keys[0].clone();
    left.features.insert("group by");
    let key_type = left
        .columns
        .iter()
        .find(|c| c.name == own)
        .map_or(Type::Opaque, |c| c.ty);
    let mut columns = vec![
        Column::new(own.clone(), key_type),
        Column::new("n", Type::Big),
    ];
    // In HAVING and in the list only the key can be asked of a group.
    let key = Column::new(own.clone(), key_type);
    let keys = vec![keys[0].clone()];
    let mut list = format!("{own}, count(*) AS n");
    let mut rest = format!(" GROUP BY {own}");
    match random.random_range(0..4) {
        0 => {
            left.features.insert("scalar subquery");
            columns.push(Column::new("extra", Type::Big));
            list.push_str(&format!(
                ", (SELECT count({its}) FROM {OTHER} WHERE {}) AS extra",
                equal(&keys)
            ));
        }
        1 => {
            left.features.insert("having");
            left.features.insert("scalar subquery");
            rest.push_str(&format!(
                " HAVING count(*) <= (SELECT count(*) FROM {OTHER})"
            ));
        }
        _ => {
            let (test, feature) = test(&[key], &right, &keys, random);
            left.features.insert("having");
            left.features.insert(feature);
            rest.push_str(&format!(" HAVING {test}"));
        }
    }
    query(left, right, columns, &list, &rest)
}
