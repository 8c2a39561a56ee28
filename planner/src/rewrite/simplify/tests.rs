//! What becomes of expressions, and that nothing random changes its value.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, col, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::simplify_expr;
use crate::bind::bound_expr;

const DECIMAL: DataType = DataType::Decimal128(10, 2);

/// Every combination of a few values: `x`, `y`, `b`, `c` and `s` can be NULL, `n` and `m` can not.
fn rows() -> RecordBatch {
    let (mut x, mut y, mut n, mut b, mut c) = (vec![], vec![], vec![], vec![], vec![]);
    for i in 0..162 {
        let integer = |i: i32| [None, Some(1), Some(2)][i as usize % 3];
        let boolean = |i: i32| [None, Some(true), Some(false)][i as usize % 3];
        x.push(integer(i));
        y.push(integer(i / 3));
        b.push(boolean(i / 9));
        c.push(boolean(i / 27));
        n.push(i / 81);
    }
    let s: StringArray = x
        .iter()
        .map(|x| x.map(|x| ["a", "x\ny"][x as usize - 1]))
        .collect();
    let m = Decimal128Array::from_iter_values(n.iter().map(|n| i128::from(*n) * 150));
    let m = m.with_precision_and_scale(10, 2).unwrap();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("x", Arc::new(Int32Array::from(x)), true),
        ("y", Arc::new(Int32Array::from(y)), true),
        ("n", Arc::new(Int32Array::from(n)), false),
        ("b", Arc::new(BooleanArray::from(b)), true),
        ("c", Arc::new(BooleanArray::from(c)), true),
        ("s", Arc::new(s), true),
        ("m", Arc::new(m), false),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, values, is_nullable)| {
            Field::new(*name, values.data_type().clone(), *is_nullable)
        })
        .collect();
    let columns = columns.into_iter().map(|(_, values, _)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn schema_of(rows: &RecordBatch) -> DFSchema {
    DFSchema::try_from(rows.schema().as_ref().clone()).unwrap()
}

fn context(schema: &DFSchema) -> SimplifyContext {
    SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .build()
}

fn value(expr: Expr, schema: &DFSchema, rows: &RecordBatch) -> ArrayRef {
    let text = expr.to_string();
    let physical = bound_expr(expr, schema).unwrap().physical;
    let value = physical
        .evaluate(rows)
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    value.into_array(rows.num_rows()).unwrap()
}

fn list(of: Expr, values: &[Expr], negated: bool) -> Expr {
    of.in_list(values.to_vec(), negated)
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn null() -> Expr {
    lit(ScalarValue::Int32(None))
}

fn decimal(hundredths: i128) -> Expr {
    lit(ScalarValue::Decimal128(Some(hundredths), 10, 2))
}

#[test]
fn what_becomes_of_expressions() {
    let rows = rows();
    let schema = schema_of(&rows);
    let (one, two) = (|| lit(1i32), || lit(2i32));
    let disjoint = list(col("x"), &[one()], false).and(list(col("x"), &[two()], false));
    let wide = || cast(col("x"), DataType::Int64);
    let x_is_1 = || col("x").eq(one());
    for (expr, expected) in [
        (disjoint.clone(), disjoint.to_string()),
        (
            Expr::Not(Box::new(x_is_1().and(col("b")))),
            "x != Int32(1) OR NOT b".into(),
        ),
        (
            x_is_1().and(lit(true)).or(lit(false)),
            "x = Int32(1)".into(),
        ),
        (col("b").and(lit(false)), "Boolean(false)".into()),
        (
            x_is_1().and(col("b")).or(x_is_1().and(col("c"))),
            "x = Int32(1) AND (b OR c)".into(),
        ),
        (col("b").or(col("b").and(col("c"))), "b".into()),
        (
            col("b").and(Expr::Not(Box::new(col("b")))),
            "b AND NOT b".into(),
        ),
        (wide().gt(lit(1i64)), "x > Int32(1)".into()),
        (lit(1i64).gt(wide()), "x < Int32(1)".into()),
        (
            wide().gt(lit(3_000_000_000i64)),
            "CAST(x AS Int64) > Int64(3000000000)".into(),
        ),
        (
            cast(col("s"), DataType::Int64).gt(lit(1i64)),
            "CAST(s AS Int64) > Int64(1)".into(),
        ),
        (col("x").eq(null()), "Boolean(NULL)".into()),
        (
            binary(one(), Operator::Plus, two()).eq(col("x")),
            "x = Int32(3)".into(),
        ),
        (col("n").is_null(), "Boolean(false)".into()),
        (col("x").is_null(), "x IS NULL".into()),
        (
            binary(col("m"), Operator::Modulo, decimal(100)),
            "m % Decimal128(1.00,10,2)".into(),
        ),
        (
            binary(col("s"), Operator::RegexMatch, lit(".*")),
            "s ~ Utf8(\".*\")".into(),
        ),
        (
            col("x").between(one(), two()),
            "x >= Int32(1) AND x <= Int32(2)".into(),
        ),
    ] {
        let text = expr.to_string();
        let simple = simplify_expr(expr, &context(&schema)).unwrap().data;
        assert_eq!(simple.to_string(), expected, "{text}");
    }
}

#[test]
fn a_pattern_that_is_none_is_an_error() {
    let schema = schema_of(&rows());
    let expr = binary(col("s"), Operator::RegexMatch, lit("["));
    assert!(simplify_expr(expr, &context(&schema)).is_err());
}

/// Why there is a rule of our own: when this fails, look again at what DataFusion's does.
#[test]
fn datafusion_forgets_null() {
    let schema = schema_of(&rows());
    let expr = list(col("x"), &[lit(1i32)], false).and(list(col("x"), &[lit(2i32)], false));
    let simple = ExprSimplifier::new(context(&schema))
        .simplify(expr)
        .unwrap();
    assert_eq!(simple, lit(false));
}

/// A linear congruential generator: enough to choose with, and the same everywhere.
struct Choice(u64);

impl Choice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % n
    }

    fn integer(&mut self) -> Expr {
        match self.below(8) {
            0 | 1 => col("x"),
            2 => col("y"),
            3 => col("n"),
            4 => null(),
            i => lit(i as i32 - 4),
        }
    }

    fn atom(&mut self) -> Expr {
        let (x, y) = (self.integer(), self.integer());
        match self.below(14) {
            0 | 1 => {
                let values = [y, self.integer()];
                list(x, &values, self.below(2) == 0)
            }
            2 => x.eq(y),
            3 => x.not_eq(y),
            4 => x.lt(y),
            5 => x.between(y, self.integer()),
            6 => x.not_between(y, self.integer()),
            7 => x.is_null(),
            8 => binary(x, Operator::IsDistinctFrom, y),
            9 => col("b"),
            10 => col("c"),
            11 => {
                let pattern = ["%", "a", "%%", ""][self.below(4)];
                match self.below(2) {
                    0 => col("s").like(lit(pattern)),
                    _ => col("s").not_like(lit(pattern)),
                }
            }
            12 => {
                let pattern = [".*", "^a$", "a|b", ""][self.below(4)];
                let op = [Operator::RegexMatch, Operator::RegexNotMatch][self.below(2)];
                binary(col("s"), op, lit(pattern))
            }
            _ => {
                let rest = binary(col("m"), Operator::Modulo, decimal(100));
                cast(rest, DECIMAL).gt(decimal(0))
            }
        }
    }

    fn condition(&mut self, depth: usize) -> Expr {
        if depth == 0 || self.below(5) == 0 {
            return self.atom();
        }
        let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.below(10) {
            0..=2 => left.and(right),
            3..=5 => left.or(right),
            6 => Expr::Not(Box::new(left)),
            7 => left.is_true(),
            8 => binary(left, Operator::IsDistinctFrom, right),
            _ => {
                let otherwise = (self.below(2) == 0).then(|| Box::new(self.atom()));
                let branches = vec![(Box::new(left), Box::new(right))];
                Expr::Case(Case::new(None, branches, otherwise))
            }
        }
    }
}

#[test]
fn values_stay_the_same() {
    let rows = rows();
    let schema = schema_of(&rows);
    let context = context(&schema);
    let mut choice = Choice(1);
    for _ in 0..3000 {
        let expr = choice.condition(3);
        let simple = simplify_expr(expr.clone(), &context).unwrap().data;
        let text = format!("{expr}\nbecame {simple}");
        let (before, after) = (value(expr, &schema, &rows), value(simple, &schema, &rows));
        assert_eq!(&before, &after, "{text}");
    }
}
