//! Random scalar expressions that cannot fail: divisors are never zero, and numbers grow by small factors only.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::functions::call;
use super::table::known_literal;
use super::{Column, Features, Random, Type};

/// A column of one of these types, if there is one.
pub fn column<'a>(
    columns: &'a [Column],
    types: &[Type],
    random: &mut Random,
) -> Option<&'a Column> {
    let fitting: Vec<&Column> = columns.iter().filter(|c| types.contains(&c.ty)).collect();
    fitting.choose(random).copied()
}

fn leaf(ty: Type, columns: &[Column], random: &mut Random) -> String {
    match column(columns, &[ty], random) {
        Some(column) if random.random_bool(0.85) => column.name.clone(),
        _ => match ty {
            Type::Big => format!("{}::bigint", parenthesised(&known_literal(ty, random))),
            _ => parenthesised(&known_literal(ty, random)),
        },
    }
}

fn parenthesised(text: &str) -> String {
    if text.starts_with('-') {
        format!("({text})")
    } else {
        text.to_string()
    }
}

/// An expression of a type; records in `features` what it uses.
pub fn expression(
    ty: Type,
    columns: &[Column],
    depth: usize,
    features: &mut Features,
    random: &mut Random,
) -> String {
    if depth == 0 || random.random_bool(0.3) {
        return leaf(ty, columns, random);
    }
    if random.random_bool(0.2) {
        features.insert("case");
        let (condition, then) = (
            predicate(columns, 1, random),
            expression(ty, columns, depth - 1, features, random),
        );
        let otherwise = expression(ty, columns, depth - 1, features, random);
        return match random.random_bool(0.3) {
            true => format!("CASE WHEN {condition} THEN {then} END"),
            false => format!("CASE WHEN {condition} THEN {then} ELSE {otherwise} END"),
        };
    }
    if random.random_bool(0.15) {
        features.insert("coalesce/nullif");
        let (x, y) = (leaf(ty, columns, random), leaf(ty, columns, random));
        return match random.random_bool(0.5) {
            true => format!("COALESCE({x}, {y})"),
            false => format!("NULLIF({x}, {y})"),
        };
    }
    typed(ty, columns, depth, features, random)
}

fn typed(
    ty: Type,
    columns: &[Column],
    depth: usize,
    features: &mut Features,
    random: &mut Random,
) -> String {
    let is_number = Type::NUMBERS.contains(&ty);
    if is_number && random.random_bool(0.6) {
        features.insert("arithmetic");
        return arithmetic(ty, columns, depth, features, random);
    }
    if ty == Type::Bool && random.random_bool(0.6) {
        return predicate(columns, depth, random);
    }
    call(ty, columns, features, random, leaf).unwrap_or_else(|| leaf(ty, columns, random))
}

fn arithmetic(
    ty: Type,
    columns: &[Column],
    depth: usize,
    features: &mut Features,
    random: &mut Random,
) -> String {
    let x = expression(ty, columns, depth - 1, features, random);
    let y = leaf(ty, columns, random);
    let is_integer = Type::INTEGERS.contains(&ty);
    match random.random_range(0..6) {
        0 => format!("({x} + {y})"),
        1 => format!("({x} - {y})"),
        2 => format!("({x} * 2)"),
        3 if is_integer => format!("({x} / 3)"),
        4 if is_integer => format!("({x} % 4)"),
        3 | 4 => format!("({x} - 1)"),
        _ => format!("(- {x})"),
    }
}

/// A condition.
pub fn predicate(columns: &[Column], depth: usize, random: &mut Random) -> String {
    if depth > 0 && random.random_bool(0.35) {
        let (x, y) = (
            predicate(columns, depth - 1, random),
            predicate(columns, depth - 1, random),
        );
        return match random.random_range(0..5) {
            0 | 1 => format!("({x} AND {y})"),
            2 | 3 => format!("({x} OR {y})"),
            _ => format!("(NOT {x})"),
        };
    }
    comparison(columns, random)
}

/// A condition on one column, or two.
fn comparison(columns: &[Column], random: &mut Random) -> String {
    let Some(found) = columns.choose(random).filter(|c| c.ty != Type::Opaque) else {
        return "true".into();
    };
    if !found.ty.is_ordered() {
        return of_unordered(found, random);
    }
    let (name, ty) = (&found.name, found.ty);
    let (value, other) = (known_literal(ty, random), known_literal(ty, random));
    match random.random_range(0..16) {
        0 => format!("{name} IS NULL"),
        1 => format!("{name} IS NOT NULL"),
        2 => format!("{name} <> {value}"),
        3 => format!("{name} IN ({value}, {other})"),
        4 => format!("{name} NOT IN ({value}, {other})"),
        5 => format!("{name} IN ({value}, NULL)"),
        6 => format!("{name} IN ({value}, {})", leaf(ty, columns, random)),
        7 => format!("{name} BETWEEN {value} AND {other}"),
        8 => format!("{name} NOT BETWEEN {value} AND {other}"),
        9 => format!("{name} IS DISTINCT FROM {value}"),
        10 if ty == Type::Text => format!("{name} LIKE '%a%'"),
        11 if ty == Type::Text => format!(
            "{name} ~ '{}'",
            ["a", ".*", "^b"][random.random_range(0..3)]
        ),
        10 if Type::INTEGERS.contains(&ty) => format!("{name} = ANY (ARRAY[{value}, NULL])"),
        11 => format!("({name} > {value}) IS NOT TRUE"),
        12 => format!("{name} = {}", leaf(ty, columns, random)),
        13 => format!("{value} < {name}"),
        10 | 14 => format!("{name} > {value}"),
        _ => format!("{name} <= {value}"),
    }
}

/// A condition on a column whose type has no order.
fn of_unordered(Column { name, ty }: &Column, random: &mut Random) -> String {
    let value = known_literal(*ty, random);
    match (ty, random.random_range(0..6)) {
        (Type::Bool, 0 | 1) => name.clone(),
        (Type::Bool, 2) => format!("NOT {name}"),
        (Type::Bool, 3) => format!("{name} IS NOT TRUE"),
        (Type::Bool, 4) => format!("{name} IS UNKNOWN"),
        (Type::Ints, 0) => format!("1 = ANY ({name})"),
        (Type::Ints, 1) => format!("2 <> ALL ({name})"),
        (Type::Ints, 2) => format!("{name} @> ARRAY[1]"),
        (Type::Json, 0) => format!("{name} ? 'a'"),
        (Type::Json, 1) => format!("{name} ->> 'a' = '1'"),
        (_, 2 | 3) => format!("{name} IS NOT NULL"),
        (_, 4) => format!("{name} = {value}"),
        _ => format!("{name} IS DISTINCT FROM {value}"),
    }
}
