//! Random queries: filters, projections, set operations, DISTINCT, GROUP BY with every aggregate, grouping sets, HAVING,
//! first rows, window functions, subqueries in FROM, windows, and all of these over tables or over other views.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, expression, predicate};
use super::first_rows::{distinct_on, limited, ranked, with_ties};
use super::join::{combined, is_joined};
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
        17 => grouping_sets(relation, random),
        0..2 => projection(relation, random),
        2 => set_operation(relation, random),
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
    if depth == 2 && random.random_bool(0.6) {
        let other = sources.choose(random).expect("there is a table").clone();
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
    let types: Vec<Type> = relation
        .columns
        .iter()
        .map(|c| c.ty)
        .filter(|t| *t != Type::Opaque)
        .collect();
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
    let (operator, feature) = *[
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
    let types: Vec<Type> = relation
        .columns
        .iter()
        .map(|c| c.ty)
        .filter(|t| *t != Type::Opaque)
        .collect();
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

/// Whether an expression names a column outside of its quoted texts.
fn uses_any(expression: &str, columns: &[Column]) -> bool {
    let mut words = expression
        .split('\'')
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| columns.iter().any(|c| c.name == word))
}

fn grouped(mut relation: Relation, random: &mut Random) -> Query {
    let mut rest = condition(&mut relation, 0.4, random);
    let (mut list, mut keys, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..random.random_range(0..=2) {
        let types: Vec<Type> = relation
            .columns
            .iter()
            .map(|c| c.ty)
            .filter(|t| *t != Type::Opaque)
            .collect();
        let ty = *types.choose(random).unwrap_or(&Type::Int);
        let key = match column(&relation.columns, &[ty], random) {
            Some(column) if random.random_bool(0.7) => column.name.clone(),
            _ => expression(ty, &relation.columns, 1, &mut relation.features, random),
        };
        // A literal in GROUP BY would be the number of a column.
        let key = if uses_any(&key, &relation.columns) {
            key
        } else {
            continue;
        };
        list.push(format!("{key} AS k{i}"));
        columns.push(Column {
            name: format!("k{i}"),
            ty,
        });
        // the same key in another type is another key
        if matches!(ty, Type::Int | Type::Big | Type::Text) && random.random_bool(0.15) {
            let cast = format!("CAST({key} AS TEXT)");
            list.push(format!("{cast} AS c{i}"));
            columns.push(Column {
                name: format!("c{i}"),
                ty: Type::Text,
            });
            keys.push(cast);
        }
        keys.push(key);
    }
    for i in 0..random.random_range(1..=4) {
        let (aggregate, ty) = aggregate(&mut relation, random);
        list.push(format!("{aggregate} AS g{i}"));
        columns.push(Column {
            name: format!("g{i}"),
            ty,
        });
    }
    relation.features.insert(if keys.is_empty() {
        "global aggregate"
    } else {
        "group by"
    });
    if !keys.is_empty() {
        rest.push_str(&format!(" GROUP BY {}", keys.join(", ")));
    }
    if random.random_bool(0.2) {
        relation.features.insert("having");
        rest.push_str(" HAVING count(*) > 1");
    }
    relation.select(&list.join(", "), &rest, columns)
}

/// Two columns in several groupings.
fn grouping_sets(mut relation: Relation, random: &mut Random) -> Query {
    let rest = condition(&mut relation, 0.3, random);
    let plain: Vec<Column> = relation
        .columns
        .iter()
        .filter(|c| c.ty != Type::Opaque)
        .cloned()
        .collect();
    let keys: Vec<Column> = plain.choose_multiple(random, 2).cloned().collect();
    if keys.is_empty() {
        return grouped(relation, random);
    }
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let (all, first) = (names.join(", "), names[0]);
    let (sets, feature) = match random.random_range(0..4) {
        0 => (format!("ROLLUP ({all})"), "rollup"),
        1 => (format!("CUBE ({all})"), "cube"),
        2 => (
            format!("GROUPING SETS (({all}), ({first}), ({first}), ())"),
            "grouping sets",
        ),
        _ => (format!("{first}, ROLLUP ({all})"), "rollup"),
    };
    relation.features.insert(feature);
    let mut list = vec![format!("grouping({all}) AS gr")];
    let mut columns = vec![Column {
        name: "gr".into(),
        ty: Type::Int,
    }];
    for (i, key) in keys.iter().enumerate() {
        list.push(format!("{} AS k{i}", key.name));
        columns.push(Column {
            name: format!("k{i}"),
            ty: key.ty,
        });
    }
    for i in 0..random.random_range(1..=2) {
        let (aggregate, ty) = aggregate(&mut relation, random);
        list.push(format!("{aggregate} AS g{i}"));
        columns.push(Column {
            name: format!("g{i}"),
            ty,
        });
    }
    let rest = format!("{rest} GROUP BY {sets}");
    relation.select(&list.join(", "), &rest, columns)
}

const NUMBERS: [Type; 4] = [Type::Int, Type::Big, Type::Float, Type::Numeric];
const INTEGERS: [Type; 2] = [Type::Int, Type::Big];
const ORDERED: [Type; 6] = [
    Type::Int,
    Type::Big,
    Type::Float,
    Type::Numeric,
    Type::Text,
    Type::Time,
];

/// An aggregate call and the type of its result, with the casts that make both servers' result types agree.
fn aggregate(relation: &mut Relation, random: &mut Random) -> (String, Type) {
    let (call, ty) =
        aggregate_call(relation, random).unwrap_or_else(|| ("count(*)".into(), Type::Big));
    let call = match random.random_bool(0.2) {
        true => {
            relation.features.insert("agg FILTER");
            format!(
                "{call} FILTER (WHERE {})",
                predicate(&relation.columns, 1, random)
            )
        }
        false => call,
    };
    let cast = match ty {
        Type::Big => "::bigint",
        Type::Float => "::double precision",
        Type::Numeric => "::numeric(20,2)",
        _ => return (call, ty),
    };
    (format!("({call}){cast}"), ty)
}

fn aggregate_call(relation: &mut Relation, random: &mut Random) -> Option<(String, Type)> {
    let columns = relation.columns.clone();
    let mut pick = |types: &[Type]| column(&columns, types, &mut *random).cloned();
    let (any, number, integer) = (pick(&ORDERED)?, pick(&NUMBERS), pick(&INTEGERS));
    let (text, flag) = (pick(&[Type::Text]), pick(&[Type::Bool]));
    let summed = |ty: Type| if ty == Type::Int { Type::Big } else { ty };
    let one =
        |names: &[&'static str], random: &mut Random| *names.choose(random).unwrap_or(&names[0]);
    let (feature, call, ty) = match random.random_range(0..13) {
        0 => ("agg count", format!("count({})", any.name), Type::Big),
        1 => (
            "agg count distinct",
            format!("count(DISTINCT {})", any.name),
            Type::Big,
        ),
        2 | 3 => number.map(|n| ("agg sum", format!("sum({})", n.name), summed(n.ty)))?,
        4 => number.map(|n| {
            (
                "agg sum distinct",
                format!("sum(DISTINCT {})", n.name),
                summed(n.ty),
            )
        })?,
        5 => number.map(|n| ("agg avg", format!("avg({})", n.name), Type::Opaque))?,
        6 => ("agg min", format!("min({})", any.name), any.ty),
        7 => ("agg max", format!("max({})", any.name), any.ty),
        8 => {
            let name = one(
                &["stddev_samp", "stddev_pop", "var_samp", "var_pop", "stddev"],
                random,
            );
            let n = number?;
            (
                "agg stddev/var",
                format!("{name}(CAST({} AS DOUBLE PRECISION))", n.name),
                Type::Opaque,
            )
        }
        9 => {
            let (name, flag) = (one(&["bool_and", "bool_or"], random), flag?);
            (
                "agg bool_and/or",
                format!("{name}({})", flag.name),
                Type::Bool,
            )
        }
        10 => {
            let (name, n) = (one(&["bit_and", "bit_or", "bit_xor"], random), integer?);
            ("agg bit_*", format!("{name}({})", n.name), n.ty)
        }
        11 => match text.filter(|_| random.random_bool(0.5)) {
            Some(t) => (
                "agg string_agg",
                format!("string_agg({0}, ',' ORDER BY {0})", t.name),
                Type::Opaque,
            ),
            None => (
                "agg array_agg",
                format!("array_agg({0} ORDER BY {0})", any.name),
                Type::Opaque,
            ),
        },
        _ => {
            let n = number?;
            let order = format!("CAST({} AS DOUBLE PRECISION)", n.name);
            (
                "agg percentile_cont",
                format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {order})"),
                Type::Opaque,
            )
        }
    };
    relation.features.insert(feature);
    Some((call, ty))
}
