//! Random window functions. Where a function depends on the order of rows that are equal in the ORDER BY columns, these
//! are all the columns there are, so that only equal rows are tied.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, predicate};
use super::first_rows::{comparable, free_name, names, partition, total_order};
use super::query::Relation;
use super::{Column, Query, Random, Type};

const SUMMED: [Type; 3] = [Type::Int, Type::Float, Type::Numeric];

/// A query with one to three window functions.
pub(super) fn over(relation: Relation, random: &mut Random) -> Query {
    let mut relation = comparable(relation, random);
    let mut columns = relation.columns.clone();
    let mut list = names(&columns);
    // Equal rows are told apart by the places they get: which goes with which is only certain within one order.
    let window = Window {
        by: partition(&columns, random),
        total: total_order(&columns, random),
    };
    for _ in 0..random.random_range(1..=3) {
        let (call, ty) = window_function(&mut relation, &window, random);
        let name = free_name(&columns, "w");
        list.push(format!("{call} AS {name}"));
        columns.push(Column { name, ty });
    }
    relation.select(&list.join(", "), "", columns)
}

/// Where functions that depend on the order of equal rows look.
struct Window {
    by: String,
    total: String,
}

fn window_function(
    relation: &mut Relation,
    Window { by, total }: &Window,
    random: &mut Random,
) -> (String, Type) {
    let columns = relation.columns.clone();
    let any = columns.choose(random).expect("there is a column").clone();
    match random.random_range(0..4) {
        0 => {
            relation.features.insert("over place");
            place(by, &any.name, total, random)
        }
        1 => {
            relation.features.insert("over neighbour");
            let offset = random.random_range(1..4);
            let call = match random.random_range(0..6) {
                5 => format!("lag({0}, {offset}, {0})", any.name),
                0 => format!("lag({}, {offset})", any.name),
                1 => format!("lead({}, {offset})", any.name),
                2 => format!("first_value({})", any.name),
                3 => format!("last_value({})", any.name),
                _ => format!("nth_value({}, {offset})", any.name),
            };
            (format!("{call} OVER ({by}ORDER BY {total})"), any.ty)
        }
        2 => {
            relation.features.insert("over aggregate");
            let (call, ty) = aggregate(&columns, random);
            let order = match random.random_range(0..3) {
                0 => String::new(),
                1 => format!("ORDER BY {}", any.name),
                _ => format!("ORDER BY {total}"),
            };
            typed(format!("{call} OVER ({by}{order})"), ty)
        }
        _ => {
            let (mut call, ty) = aggregate(&columns, random);
            if random.random_bool(0.15) {
                call = format!("{call} FILTER (WHERE {})", predicate(&columns, 1, random));
            }
            let frame = frame(relation, &any.name, total, random);
            typed(format!("{call} OVER ({by}{frame})"), ty)
        }
    }
}

fn place(by: &str, key: &str, total: &str, random: &mut Random) -> (String, Type) {
    match random.random_range(0..6) {
        0 => (
            format!("row_number() OVER ({by}ORDER BY {total})"),
            Type::Big,
        ),
        1 => (format!("rank() OVER ({by}ORDER BY {key})"), Type::Big),
        2 => (
            format!("dense_rank() OVER ({by}ORDER BY {key} DESC)"),
            Type::Big,
        ),
        3 => (
            format!("percent_rank() OVER ({by}ORDER BY {key})"),
            Type::Opaque,
        ),
        4 => (
            format!("cume_dist() OVER ({by}ORDER BY {key})"),
            Type::Opaque,
        ),
        _ => (format!("ntile(3) OVER ({by}ORDER BY {total})"), Type::Int),
    }
}

fn aggregate(columns: &[Column], random: &mut Random) -> (String, Type) {
    let any = columns.choose(random).expect("there is a column");
    let number = column(columns, &SUMMED, random);
    match (random.random_range(0..5), number) {
        (0, Some(n)) | (1, Some(n)) => {
            let ty = if n.ty == Type::Int { Type::Big } else { n.ty };
            (format!("sum({})", n.name), ty)
        }
        (2, Some(n)) => (format!("avg({})", n.name), Type::Opaque),
        (3, _) if Type::WITH_EXTREMES.contains(&any.ty) => {
            let name = if random.random_bool(0.5) {
                "min"
            } else {
                "max"
            };
            (format!("{name}({})", any.name), any.ty)
        }
        (4, _) => (format!("count({})", any.name), Type::Big),
        _ => ("count(*)".into(), Type::Big),
    }
}

fn typed(call: String, ty: Type) -> (String, Type) {
    let cast = match ty {
        Type::Numeric => "::numeric(20,2)",
        _ => return (call, ty),
    };
    (format!("({call}){cast}"), ty)
}

fn frame(relation: &mut Relation, key: &str, total: &str, random: &mut Random) -> String {
    const DISTANCES: [Type; 8] = [
        Type::Int,
        Type::Big,
        Type::Float,
        Type::Numeric,
        Type::Time,
        Type::Zoned,
        Type::Date,
        Type::Span,
    ];
    let ranged = column(&relation.columns, &DISTANCES, random).cloned();
    match (random.random_range(0..3), ranged) {
        (0, Some(ranged)) => {
            relation.features.insert("over RANGE");
            let is_time = matches!(
                ranged.ty,
                Type::Time | Type::Zoned | Type::Date | Type::Span
            );
            let direction = if random.random_bool(0.3) { " DESC" } else { "" };
            let bounds = bounds(is_time, random);
            format!("ORDER BY {}{direction} RANGE {bounds}", ranged.name)
        }
        (1, _) => {
            relation.features.insert("over GROUPS");
            format!("ORDER BY {key} GROUPS {}", bounds(false, random))
        }
        _ => {
            relation.features.insert("over ROWS");
            format!("ORDER BY {total} ROWS {}", bounds(false, random))
        }
    }
}

fn bounds(is_time: bool, random: &mut Random) -> String {
    let (from, to) = (random.random_range(0..3), random.random_range(0..3));
    let distance = |n: i32| match is_time {
        true => format!("INTERVAL '{} seconds'", n * 20),
        false => n.to_string(),
    };
    let (sum, from_end) = (distance(from + to), distance(from));
    let (from, to) = (distance(from), distance(to));
    match random.random_range(0..6) {
        0 => format!("BETWEEN {from} PRECEDING AND {to} FOLLOWING"),
        1 => format!("BETWEEN {from} PRECEDING AND CURRENT ROW"),
        2 => format!("BETWEEN UNBOUNDED PRECEDING AND {to} FOLLOWING"),
        3 => format!("BETWEEN {sum} PRECEDING AND {from_end} PRECEDING"),
        4 => format!("BETWEEN {from_end} FOLLOWING AND {sum} FOLLOWING"),
        _ => "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING".to_string(),
    }
}
