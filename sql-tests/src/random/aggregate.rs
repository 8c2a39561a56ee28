//! Random aggregate calls, and queries with GROUP BY, grouping sets and HAVING.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{column, expression, predicate};
use super::query::{Relation, condition};
use super::{Column, Query, Random, Type};

pub(super) fn grouped(mut relation: Relation, random: &mut Random) -> Query {
    let mut rest = condition(&mut relation, 0.4, random);
    let (mut list, mut keys, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..random.random_range(0..=2) {
        let Some((key, ty)) = key(&mut relation, random) else {
            continue;
        };
        list.push(format!("{key} AS k{i}"));
        columns.push(Column::new(format!("k{i}"), ty));
        // the same key in another type is another key
        if matches!(ty, Type::Int | Type::Big | Type::Text) && random.random_bool(0.15) {
            let cast = format!("CAST({key} AS TEXT)");
            list.push(format!("{cast} AS c{i}"));
            columns.push(Column::new(format!("c{i}"), Type::Text));
            keys.push(cast);
        }
        keys.push(key);
    }
    for i in 0..random.random_range(1..=4) {
        let (aggregate, ty) = aggregate(&mut relation, random);
        list.push(format!("{aggregate} AS g{i}"));
        columns.push(Column::new(format!("g{i}"), ty));
    }
    relation.features.insert(if keys.is_empty() {
        "global aggregate"
    } else {
        "group by"
    });
    if !keys.is_empty() {
        rest.push_str(&format!(" GROUP BY {}", keys.join(", ")));
    }
    if random.random_bool(0.25) {
        rest.push_str(&having(&mut relation, &keys, random));
    }
    relation.select(&list.join(", "), &rest, columns)
}

/// Something to group by; a literal would be the number of a column.
fn key(relation: &mut Relation, random: &mut Random) -> Option<(String, Type)> {
    let types: Vec<Type> = relation.plain_types();
    let ty = *types.choose(random).unwrap_or(&Type::Int);
    let key = match column(&relation.columns, &[ty], random) {
        Some(column) if random.random_bool(0.7) => column.name.clone(),
        _ => expression(ty, &relation.columns, 1, &mut relation.features, random),
    };
    uses_any(&key, &relation.columns).then_some((key, ty))
}

/// Whether an expression names a column outside of its quoted texts.
fn uses_any(expression: &str, columns: &[Column]) -> bool {
    let mut words = expression
        .split('\'')
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| columns.iter().any(|c| c.name == word))
}

fn having(relation: &mut Relation, keys: &[String], random: &mut Random) -> String {
    relation.features.insert("having");
    let number = column(&relation.columns, &Type::INTEGERS, random).map(|c| c.name.clone());
    let condition = match (random.random_range(0..5), number, keys.first()) {
        (0, _, Some(key)) => format!("({key}) IS NOT NULL"),
        (1, Some(number), _) => format!("sum({number}) > 2"),
        (2, Some(number), _) => format!("max({number}) IS DISTINCT FROM min({number})"),
        (3, Some(number), _) => format!("count(*) > 1 OR count(DISTINCT {number}) = 1"),
        _ => "count(*) > 1".to_string(),
    };
    format!(" HAVING {condition}")
}

/// Two columns in several groupings.
pub(super) fn grouping_sets(mut relation: Relation, random: &mut Random) -> Query {
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
    let mut columns = vec![Column::new("gr", Type::Int)];
    for (i, key) in keys.iter().enumerate() {
        list.push(format!("{} AS k{i}", key.name));
        columns.push(Column::new(format!("k{i}"), key.ty));
    }
    for i in 0..random.random_range(1..=2) {
        let (aggregate, ty) = aggregate(&mut relation, random);
        list.push(format!("{aggregate} AS g{i}"));
        columns.push(Column::new(format!("g{i}"), ty));
    }
    let mut rest = format!("{rest} GROUP BY {sets}");
    if random.random_bool(0.2) {
        relation.features.insert("having");
        rest.push_str(" HAVING count(*) > 1");
    }
    relation.select(&list.join(", "), &rest, columns)
}

/// An aggregate call and the type of its result, with the casts that make both servers' result types agree.
fn aggregate(relation: &mut Relation, random: &mut Random) -> (String, Type) {
    let (call, ty) =
        aggregate_call(relation, random).unwrap_or_else(|| ("count(*)".into(), Type::Big));
    let call = match random.random_bool(0.2) {
        true => {
            relation.features.insert("agg FILTER");
            let condition = predicate(&relation.columns, 1, random);
            format!("{call} FILTER (WHERE {condition})")
        }
        false => call,
    };
    let cast = match ty {
        Type::Big => "::bigint",
        Type::Float => "::double precision",
        Type::Real => "::real",
        Type::Numeric => "::numeric(20,2)",
        _ => return (call, ty),
    };
    (format!("({call}){cast}"), ty)
}

/// Columns, or sometimes expressions, that an aggregate can take.
struct Arguments {
    any: (String, Type),
    extreme: (String, Type),
    number: Option<(String, Type)>,
    integer: Option<(String, Type)>,
    text: Option<String>,
    flag: Option<String>,
}

impl Arguments {
    fn pick(relation: &mut Relation, random: &mut Random) -> Option<Arguments> {
        let mut one = |types: &[Type]| {
            let found = column(&relation.columns, types, random)?.clone();
            if random.random_bool(0.8) {
                return Some((found.name, found.ty));
            }
            let features = &mut relation.features;
            let text = expression(found.ty, &relation.columns, 1, features, random);
            // PostgreSQL has no array of what has no type
            let cast = if text.starts_with('\'') && found.ty == Type::Text {
                "::text"
            } else {
                ""
            };
            Some((text + cast, found.ty))
        };
        Some(Arguments {
            any: one(&Type::ORDERED)?,
            extreme: one(&Type::WITH_EXTREMES)?,
            number: one(&Type::NUMBERS),
            integer: one(&Type::INTEGERS),
            text: one(&[Type::Text]).map(|(text, _)| text),
            flag: one(&[Type::Bool]).map(|(flag, _)| flag),
        })
    }
}

fn aggregate_call(relation: &mut Relation, random: &mut Random) -> Option<(String, Type)> {
    let arguments = Arguments::pick(relation, random)?;
    let (feature, call, ty) = match random.random_range(0..20) {
        0..12 => plain(arguments, random)?,
        12..15 => ordered(arguments, random)?,
        15 | 16 => distinct(arguments, random)?,
        17 => of_two(arguments, random)?,
        _ => within_group(arguments, random)?,
    };
    relation.features.insert(feature);
    Some((call, ty))
}

type Call = (&'static str, String, Type);

fn one(names: &[&'static str], random: &mut Random) -> &'static str {
    names.choose(random).unwrap_or(&names[0])
}

/// The type of a sum, as far as the casts around it say.
fn summed(ty: Type) -> Type {
    if ty == Type::Int { Type::Big } else { ty }
}

fn plain(arguments: Arguments, random: &mut Random) -> Option<Call> {
    let Arguments {
        any,
        extreme,
        number,
        integer,
        flag,
        ..
    } = arguments;
    Some(match random.random_range(0..12) {
        0 => ("agg count", format!("count({})", any.0), Type::Big),
        1 | 2 => {
            let (n, ty) = number?;
            ("agg sum", format!("sum({n})"), summed(ty))
        }
        3 => ("agg avg", format!("avg({})", number?.0), Type::Opaque),
        4 | 5 => ("agg min", format!("min({})", extreme.0), extreme.1),
        6 | 7 => ("agg max", format!("max({})", extreme.0), extreme.1),
        8 => {
            let name = one(
                &[
                    "stddev_samp",
                    "stddev_pop",
                    "var_samp",
                    "var_pop",
                    "stddev",
                    "variance",
                ],
                random,
            );
            let call = format!("{name}(CAST({} AS DOUBLE PRECISION))", number?.0);
            ("agg stddev/var", call, Type::Opaque)
        }
        9 => {
            let name = one(&["bool_and", "bool_or", "every"], random);
            ("agg bool_and/or", format!("{name}({})", flag?), Type::Bool)
        }
        10 => {
            let (name, (n, ty)) = (one(&["bit_and", "bit_or", "bit_xor"], random), integer?);
            ("agg bit_*", format!("{name}({n})"), ty)
        }
        _ if matches!(any.1, Type::Real | Type::Span) => {
            ("agg sum", format!("sum({})", any.0), any.1)
        }
        _ => ("agg count", "count(*)".to_string(), Type::Big),
    })
}

/// Aggregates that keep all values, in an order.
fn ordered(arguments: Arguments, random: &mut Random) -> Option<Call> {
    let direction = one(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"], random);
    let (any, other) = (arguments.any.0, arguments.extreme.0);
    Some(match (random.random_range(0..5), arguments.text) {
        (0 | 1, Some(text)) => (
            "agg string_agg",
            format!("string_agg({text}, ',' ORDER BY {text}{direction})"),
            Type::Opaque,
        ),
        (2, Some(text)) => (
            "agg string_agg",
            format!("string_agg({text}, '/' ORDER BY {other}{direction}, {text})"),
            Type::Opaque,
        ),
        (3, _) => (
            "agg array_agg",
            format!("array_agg({any} ORDER BY {other}{direction}, {any})"),
            Type::Opaque,
        ),
        _ => (
            "agg array_agg",
            format!("array_agg({any} ORDER BY {any}{direction})"),
            Type::Opaque,
        ),
    })
}

fn distinct(arguments: Arguments, random: &mut Random) -> Option<Call> {
    let Arguments {
        any, number, text, ..
    } = arguments;
    Some(match random.random_range(0..7) {
        0 | 1 => (
            "agg count distinct",
            format!("count(DISTINCT {})", any.0),
            Type::Big,
        ),
        2 | 3 => {
            let (n, ty) = number?;
            ("agg sum distinct", format!("sum(DISTINCT {n})"), summed(ty))
        }
        4 => (
            "agg avg",
            format!("avg(DISTINCT {})", number?.0),
            Type::Opaque,
        ),
        5 => {
            let text = text?;
            (
                "agg string_agg",
                format!("string_agg(DISTINCT {text}, ',' ORDER BY {text})"),
                Type::Opaque,
            )
        }
        _ => (
            "agg array_agg",
            format!("array_agg(DISTINCT {0} ORDER BY {0})", any.0),
            Type::Opaque,
        ),
    })
}

fn of_two(arguments: Arguments, random: &mut Random) -> Option<Call> {
    let (y, x) = (arguments.number?.0, arguments.integer?.0);
    let names = [
        "corr",
        "covar_pop",
        "covar_samp",
        "regr_avgx",
        "regr_avgy",
        "regr_slope",
        "regr_intercept",
        "regr_r2",
        "regr_sxx",
        "regr_syy",
        "regr_sxy",
    ];
    let name = one(&names, random);
    let call = format!("{name}(CAST({y} AS DOUBLE PRECISION), CAST({x} AS DOUBLE PRECISION))");
    Some(("agg corr/regr", call, Type::Opaque))
}

fn within_group(arguments: Arguments, random: &mut Random) -> Option<Call> {
    let Arguments {
        extreme, number, ..
    } = arguments;
    let share = one(&["0", "0.25", "0.5", "1"], random);
    Some(match random.random_range(0..3) {
        0 => (
            "agg mode",
            format!("mode() WITHIN GROUP (ORDER BY {})", extreme.0),
            extreme.1,
        ),
        1 => (
            "agg percentile_disc",
            format!(
                "percentile_disc({share}) WITHIN GROUP (ORDER BY {})",
                extreme.0
            ),
            extreme.1,
        ),
        _ => (
            "agg percentile_cont",
            format!(
                "percentile_cont({share}) WITHIN GROUP (ORDER BY CAST({} AS DOUBLE PRECISION))",
                number?.0
            ),
            Type::Opaque,
        ),
    })
}
