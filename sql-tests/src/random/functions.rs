//! Function calls and operators for random expressions, by the type they give. None can fail for the values that tables
//! have, and no value they give is far from those.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Type::{self, *};
use super::{Column, Features, Random};

/// The arguments stand as `$` and the letter of [`argument`].
type Call = (Type, &'static str, &'static str);

const CALLS: &[Call] = &[
    (Int, "cast", "length($s)"),
    (Int, "number functions", "abs($i)"),
    (Int, "number functions", "greatest($i, $i)"),
    (Int, "number functions", "least($i, $i, $i)"),
    (Int, "number functions", "mod($i, 3)"),
    (Int, "number functions", "($i & 3)"),
    (Int, "number functions", "($i | 4)"),
    (Int, "number functions", "($i # 5)"),
    (Int, "number functions", "($i << 1)"),
    (Int, "number functions", "($i >> 1)"),
    (Int, "cast", "CAST($f AS INT)"),
    (Int, "cast", "CAST($n AS INT)"),
    (Int, "cast", "CAST($p AS INT)"),
    (Int, "text functions", "ascii($s)"),
    (Int, "text functions", "position('b' IN $s)"),
    (Int, "text functions", "octet_length($s)"),
    (Int, "bytea functions", "octet_length($y)"),
    (Int, "array functions", "cardinality($a)"),
    (Int, "array functions", "array_length($a, 1)"),
    (Int, "array functions", "($a)[1]"),
    (Int, "array functions", "array_position($a, 1)"),
    (Int, "date functions", "($d - DATE '2024-02-27')"),
    (
        Int,
        "date functions",
        "CAST(extract(second FROM $t) AS INT)",
    ),
    (Int, "date functions", "CAST(extract(day FROM $d) AS INT)"),
    (
        Int,
        "date functions",
        "CAST(extract(minute FROM $z) AS INT)",
    ),
    (Int, "json functions", "CAST($j ->> 'a' AS INT)"),
    (Big, "cast", "CAST($i AS BIGINT)"),
    (Big, "number functions", "abs($b)"),
    (Big, "number functions", "greatest($b, $i)"),
    (
        Big,
        "date functions",
        "CAST(extract(epoch FROM $v) AS BIGINT)",
    ),
    (Float, "cast", "CAST($i AS DOUBLE PRECISION)"),
    (Float, "cast", "CAST($r AS DOUBLE PRECISION)"),
    (Float, "number functions", "floor($f)"),
    (Float, "number functions", "ceil($f)"),
    (Float, "number functions", "round($f)"),
    (Float, "number functions", "trunc($f)"),
    (Float, "number functions", "abs($f)"),
    (Float, "number functions", "sign($f)"),
    (Float, "number functions", "greatest($f, $f)"),
    (Real, "cast", "CAST($i AS REAL)"),
    (Real, "cast", "CAST($f AS REAL)"),
    (Real, "number functions", "($r + $r)"),
    (Real, "number functions", "(- $r)"),
    (Real, "number functions", "abs($r)"),
    (Numeric, "cast", "CAST($i AS NUMERIC(10,2))"),
    (Numeric, "cast", "CAST($f AS NUMERIC(10,2))"),
    (
        Numeric,
        "number functions",
        "CAST(round($n) AS NUMERIC(10,2))",
    ),
    (
        Numeric,
        "number functions",
        "CAST(round($n, 1) AS NUMERIC(10,2))",
    ),
    (
        Numeric,
        "number functions",
        "CAST(trunc($n) AS NUMERIC(10,2))",
    ),
    (
        Numeric,
        "number functions",
        "CAST(floor($n) AS NUMERIC(10,2))",
    ),
    (
        Numeric,
        "number functions",
        "CAST($n * 1.5 AS NUMERIC(10,2))",
    ),
    (Numeric, "number functions", "CAST($n / 4 AS NUMERIC(10,2))"),
    (Numeric, "number functions", "abs($n)"),
    (Text, "text functions", "upper($s)"),
    (Text, "text functions", "lower($s)"),
    (Text, "text functions", "initcap($s)"),
    (Text, "text functions", "reverse($s)"),
    (Text, "text functions", "($s || '-' || $s)"),
    (Text, "text functions", "($s || $i)"),
    (Text, "text functions", "substring($s FROM 1 FOR 2)"),
    (Text, "text functions", "replace($s, 'a', 'xy')"),
    (Text, "text functions", "left($s, 1)"),
    (Text, "text functions", "right($s, -1)"),
    (Text, "text functions", "lpad($s, 3, '.')"),
    (Text, "text functions", "trim(both 'a' from $s)"),
    (Text, "text functions", "translate($s, 'ab', 'ba')"),
    (Text, "text functions", "concat($s, $i)"),
    (Text, "text functions", "concat_ws('/', $s, $s)"),
    (Text, "text functions", "split_part($s, 'b', 1)"),
    (Text, "text functions", "regexp_replace($s, '[ab]+', '_')"),
    (Text, "text functions", "greatest($s, $s)"),
    (Text, "text functions", "md5($s)"),
    (Text, "cast", "CAST($i AS TEXT)"),
    (Text, "cast", "CAST($b AS TEXT)"),
    (Text, "cast", "CAST($p AS TEXT)"),
    (Text, "cast", "CAST($t AS TEXT)"),
    (Text, "cast", "CAST($d AS TEXT)"),
    (Text, "cast", "CAST($v AS TEXT)"),
    (Text, "cast", "CAST($u AS TEXT)"),
    (Text, "cast", "CAST($f + 0 AS TEXT)"),
    (Text, "cast", "CAST($a AS TEXT)"),
    (Text, "cast", "CAST($j AS TEXT)"),
    (Text, "date functions", "to_char($t, 'HH24:MI:SS')"),
    (Text, "bytea functions", "encode($y, 'hex')"),
    (Text, "array functions", "array_to_string($a, ',', '*')"),
    (Text, "json functions", "($j ->> 'b')"),
    (Text, "json functions", "jsonb_typeof($j)"),
    (Time, "time functions", "date_trunc('minute', $t)"),
    (Time, "time functions", "($t + INTERVAL '90 seconds')"),
    (
        Time,
        "time functions",
        "date_bin(INTERVAL '20 seconds', $t, TIMESTAMP '1970-01-01 00:00:00')",
    ),
    (Time, "time functions", "($t + $v)"),
    (Time, "time functions", "($t - $v)"),
    (Time, "date functions", "CAST($d AS TIMESTAMP)"),
    (Time, "date functions", "($d + INTERVAL '1 hour')"),
    (
        Time,
        "time functions",
        "($z AT TIME ZONE 'America/New_York')",
    ),
    (Time, "time functions", "greatest($t, $t)"),
    (Zoned, "time functions", "($z + $v)"),
    (Zoned, "time functions", "date_trunc('minute', $z)"),
    (Zoned, "time functions", "($t AT TIME ZONE 'Europe/Berlin')"),
    (Date, "date functions", "CAST($t AS DATE)"),
    (Date, "date functions", "($d + 1)"),
    (Date, "date functions", "($d - 1)"),
    (Date, "date functions", "greatest($d, $d)"),
    (Span, "date functions", "($v + $v)"),
    (Span, "date functions", "($v - $v)"),
    (Span, "date functions", "($v * 2)"),
    (Span, "date functions", "(- $v)"),
    (Span, "date functions", "make_interval(secs => $i)"),
    (Uuid, "cast", "CAST(CAST($u AS TEXT) AS UUID)"),
    (Bytes, "bytea functions", "($y || $y)"),
    (Bytes, "bytea functions", "substring($y FROM 1 FOR 1)"),
    (Bytes, "bytea functions", "convert_to($s, 'UTF8')"),
    (Ints, "array functions", "($a || $i)"),
    (Ints, "array functions", "ARRAY[$i, $i]"),
    (Ints, "array functions", "array_remove($a, 1)"),
    (Ints, "array functions", "array_append($a, $i)"),
    (Json, "json functions", "jsonb_build_object('a', $i)"),
    (Json, "json functions", "to_jsonb($i)"),
    (Json, "json functions", "($j -> 'a')"),
    (Bool, "text functions", "($s LIKE '_b%')"),
    (Bool, "array functions", "($i = ANY ($a))"),
    (Bool, "array functions", "($a && ARRAY[1, 3])"),
    (Bool, "array functions", "($a = $a)"),
    (Bool, "json functions", "($j ? 'a')"),
    (Bool, "json functions", "($j @> '{\"a\": 1}')"),
    (Bool, "json functions", "($j = $j)"),
    (Bool, "cast", "CAST($i AS BOOLEAN)"),
];

/// The type of an argument.
fn argument(letter: char) -> Type {
    match letter {
        'i' => Int,
        'b' => Big,
        'f' => Float,
        'r' => Real,
        'n' => Numeric,
        's' => Text,
        'p' => Bool,
        't' => Time,
        'z' => Zoned,
        'd' => Date,
        'v' => Span,
        'u' => Uuid,
        'y' => Bytes,
        'a' => Ints,
        'j' => Json,
        _ => unreachable!("a letter of the table above"),
    }
}

/// A call of something that gives this type.
pub(super) fn call(
    ty: Type,
    columns: &[Column],
    features: &mut Features,
    random: &mut Random,
    leaf: impl Fn(Type, &[Column], &mut Random) -> String,
) -> Option<String> {
    let fitting: Vec<&Call> = CALLS.iter().filter(|(given, _, _)| *given == ty).collect();
    // What has the arguments at hand says more than what computes with constants.
    let has_columns = |call: &&&Call| {
        let mut letters = call
            .2
            .split('$')
            .skip(1)
            .filter_map(|part| part.chars().next());
        letters.all(|l| columns.iter().any(|c| c.ty == argument(l)))
    };
    let with_columns: Vec<&Call> = fitting.iter().filter(has_columns).copied().collect();
    let chosen = match random.random_bool(0.85) {
        true => with_columns.choose(random),
        false => fitting.choose(random),
    };
    let (_, feature, template) = chosen?;
    features.insert(feature);
    let mut parts = template.split('$');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let mut rest = part.chars();
        let letter = rest.next().unwrap_or('i');
        text.push_str(&leaf(argument(letter), columns, random));
        text.push_str(rest.as_str());
    }
    Some(text)
}
