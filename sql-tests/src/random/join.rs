//! Random joins of two relations, and the relation beside another that joins and subqueries ask.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, predicate};
use super::features::JOINS;
use super::query::Relation;
use super::subquery;
use super::{Column, Features, Query, Random, Type};

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
    match random.random_range(0..12) {
        0..4 => pairs(left, right, keys, random),
        4..7 => subquery::chosen(left, right, keys, random),
        7 | 11 => subquery::marked(left, right, keys, random),
        8 => subquery::with_value(left, right, keys, random),
        10 => subquery::lateral(left, right, keys, random),
        _ => subquery::groups(left, right, keys, random),
    }
}

/// Stands for the other relation in texts.
pub(super) const OTHER: &str = "<other>";

/// Pairs of columns that can be compared, of the row and of the other relation.
pub(super) type Keys = Vec<(String, String)>;

/// A relation whose columns are called `r_…`, so that no name means two things.
pub(super) struct Other {
    sql: String,
    oracle_sql: String,
    pub columns: Vec<Column>,
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

    /// Whether a column has minima and maxima.
    pub fn is_extreme(&self, name: &str) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|c| c.name == name && Type::WITH_EXTREMES.contains(&c.ty))
    }

    /// Columns of both sides that can be compared, one or two pairs.
    fn keys(&self, left: &[Column], random: &mut Random) -> Option<Keys> {
        let mut keys = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let own = column(left, &Type::ORDERED, random)?.clone();
            if let Some(its) = column(&self.columns, &own.ty.comparable(), random) {
                keys.push((own.name, its.name.clone()));
            }
        }
        keys.truncate(if random.random_bool(0.7) { 1 } else { 2 });
        (!keys.is_empty()).then_some(keys)
    }
}

pub(super) fn equal(keys: &[(String, String)]) -> String {
    let pairs: Vec<String> = keys
        .iter()
        .map(|(own, its)| format!("{own} = {its}"))
        .collect();
    pairs.join(" AND ")
}

/// `SELECT list FROM left rest`, where each of the texts may mention the other relation as [`OTHER`].
pub(super) fn query(
    left: Relation,
    other: Other,
    columns: Vec<Column>,
    list: &str,
    rest: &str,
) -> Relation {
    let text = |text: &str, other: &str| text.replace(OTHER, other);
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

fn pairs(mut left: Relation, right: Other, keys: Keys, random: &mut Random) -> Relation {
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
    let (list, rest) = (list.join(", "), format!(" {word} {OTHER} ON {on}"));
    query(left, right, columns, &list, &rest)
}
