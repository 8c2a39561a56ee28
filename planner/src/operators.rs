//! Operators whose meaning depends on the types of their sides, as PostgreSQL resolves them: JSON, dates and intervals,
//! bytes, regular expressions, and literals that take the other side's type.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::functions_nested::expr_fn::array_has_any;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, GetFieldAccess, Operator};
use sqlparser::ast::BinaryOperator;
use std::sync::Arc;

use crate::rewrite::casts::{call, text};
use crate::types::SqlType;

/// See the module.
#[derive(Debug, Default)]
pub struct PostgresOperators;

impl ExprPlanner for PostgresOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let sides = (field(&left, schema), field(&right, schema));
        let (Some(left_field), Some(right_field)) = sides else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (left, right) = literals_typed(&op, (left, &left_field), (right, &right_field));
        let type_of = |expr: &Expr, before: &FieldRef| {
            SqlType::of_field(&field(expr, schema).unwrap_or_else(|| before.clone()))
        };
        let sides = Sides {
            left_type: type_of(&left, &left_field),
            right_type: type_of(&right, &right_field),
            left,
            right,
        };
        match sides.plan(&op)? {
            Outcome::Planned(expr) => Ok(PlannerResult::Planned(expr)),
            Outcome::Original(sides) => Ok(PlannerResult::Original(RawBinaryExpr {
                op,
                left: sides.left,
                right: sides.right,
            })),
        }
    }

    /// `json['key']` and `json[0]`.
    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let is_jsonb =
            field(&expr.expr, schema).is_some_and(|f| SqlType::of_field(&f) == SqlType::Jsonb);
        if !is_jsonb {
            return Ok(PlannerResult::Original(expr));
        }
        let key = match expr.field_access {
            GetFieldAccess::NamedStructField {
                name: ScalarValue::Utf8(Some(name)),
            } => text(&name),
            GetFieldAccess::ListIndex { key } => *key,
            _ => return plan_err!("jsonb subscript does not support slices"),
        };
        Ok(PlannerResult::Planned(call(
            "rm_json_get",
            vec![expr.expr, key],
        )?))
    }
}

/// The type of an expression; `None` where it is not known, as of a parameter.
pub(crate) fn field(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if matches!(expr, Expr::Placeholder(p) if p.field.is_none()) {
        return None;
    }
    expr.to_field(schema).ok().map(|(_, field)| field)
}

pub(crate) fn is_untyped(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

pub(crate) fn cast_to(expr: Expr, target: &SqlType) -> Expr {
    Expr::Cast(Cast::new_from_field(
        Box::new(expr),
        Arc::new(target.field("", true)),
    ))
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_date_like(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz
    )
}

/// A text literal beside a value that is no text is of that value's type; added to a time it is an interval.
fn literals_typed(
    op: &BinaryOperator,
    (left, left_field): (Expr, &FieldRef),
    (right, right_field): (Expr, &FieldRef),
) -> (Expr, Expr) {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    let target = |literal_is_right: bool, other: &FieldRef| -> Option<SqlType> {
        let other = SqlType::of_field(other);
        if matches!(other, SqlType::Text { .. } | SqlType::Struct(_)) {
            return None;
        }
        match op {
            Plus if is_date_like(&other) || other == SqlType::Time => Some(SqlType::Interval),
            Minus if other == SqlType::Interval && !literal_is_right => None,
            Minus if other == SqlType::Jsonb => None,
            Multiply | Divide if other == SqlType::Interval => Some(SqlType::Double),
            Plus | Minus | Multiply | Divide | Modulo => Some(numeric_of(other)),
            op if is_comparison(op) => Some(numeric_of(other)),
            BinaryOperator::AtArrow | BinaryOperator::ArrowAt | BinaryOperator::PGOverlap => {
                Some(other)
            }
            BinaryOperator::StringConcat if matches!(other, SqlType::Jsonb | SqlType::Bytea) => {
                Some(other)
            }
            _ => None,
        }
    };
    match (is_untyped(&left), is_untyped(&right)) {
        (true, false) if right_field.data_type() != &DataType::Null => {
            match target(false, right_field) {
                Some(target) => (cast_to(left, &target), right),
                None => (left, right),
            }
        }
        (false, true) if left_field.data_type() != &DataType::Null => {
            match target(true, left_field) {
                Some(target) => (left, cast_to(right, &target)),
                None => (left, right),
            }
        }
        _ => (left, right),
    }
}

/// A numeric literal has its own number of digits, which must not cut the other side's.
pub(crate) fn numeric_of(sql_type: SqlType) -> SqlType {
    match sql_type {
        SqlType::Numeric { .. } => SqlType::PLAIN_NUMERIC,
        other => other,
    }
}

struct Sides {
    left: Expr,
    right: Expr,
    left_type: SqlType,
    right_type: SqlType,
}

enum Outcome {
    Planned(Expr),
    Original(Sides),
}

impl Sides {
    fn call(self, name: &str) -> Result<Outcome> {
        Ok(Outcome::Planned(call(name, vec![self.left, self.right])?))
    }

    fn swapped(self) -> Sides {
        Sides {
            left: self.right,
            right: self.left,
            left_type: self.right_type,
            right_type: self.left_type,
        }
    }

    fn either(&self, sql_type: &SqlType) -> bool {
        self.left_type == *sql_type || self.right_type == *sql_type
    }

    fn plan(self, op: &BinaryOperator) -> Result<Outcome> {
        use BinaryOperator as Op;
        match op {
            Op::Arrow => self.call("rm_json_get"),
            Op::LongArrow => self.call("rm_json_get_text"),
            Op::HashArrow => self.call("rm_json_path"),
            Op::HashLongArrow => self.call("rm_json_path_text"),
            Op::HashMinus => self.call("rm_jsonb_delete_path"),
            Op::Question => self.call("rm_jsonb_has_key"),
            Op::QuestionPipe => self.call("rm_jsonb_has_any"),
            Op::QuestionAnd => self.call("rm_jsonb_has_all"),
            Op::AtArrow if self.either(&SqlType::Jsonb) => self.call("rm_jsonb_contains"),
            Op::ArrowAt if self.either(&SqlType::Jsonb) => self.swapped().call("rm_jsonb_contains"),
            Op::PGOverlap => Ok(Outcome::Planned(array_has_any(self.left, self.right))),
            Op::PGStartsWith => self.call("starts_with"),
            Op::PGRegexMatch => self.regex("", false),
            Op::PGRegexIMatch => self.regex("i", false),
            Op::PGRegexNotMatch => self.regex("", true),
            Op::PGRegexNotIMatch => self.regex("i", true),
            Op::PGExp => self.call("power"),
            Op::StringConcat => self.concat(),
            Op::Plus => self.plus(),
            Op::Minus => self.minus(),
            Op::Multiply => match (&self.left_type, &self.right_type) {
                (SqlType::Interval, _) => self.call("rm_interval_multiply"),
                (_, SqlType::Interval) => self.swapped().call("rm_interval_multiply"),
                _ => Ok(Outcome::Original(self)),
            },
            Op::Divide if self.left_type == SqlType::Interval => self.call("rm_interval_divide"),
            op if is_comparison(op) => self.compare(op),
            _ => Ok(Outcome::Original(self)),
        }
    }

    fn regex(self, flags: &str, is_negated: bool) -> Result<Outcome> {
        let matches = call("rm_regex_matches", vec![self.left, self.right, text(flags)])?;
        Ok(Outcome::Planned(if is_negated {
            Expr::Not(Box::new(matches))
        } else {
            matches
        }))
    }

    fn concat(self) -> Result<Outcome> {
        if self.either(&SqlType::Jsonb) {
            return self.call("rm_jsonb_concat");
        }
        if self.either(&SqlType::Bytea) {
            return self.call("rm_bytes_concat");
        }
        let is_null = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Null, _));
        // an array and an untyped NULL: no array is added
        if matches!(self.left_type, SqlType::Array(_)) && is_null(&self.right) {
            return Ok(Outcome::Planned(self.left));
        }
        if matches!(self.right_type, SqlType::Array(_)) && is_null(&self.left) {
            return Ok(Outcome::Planned(self.right));
        }
        Ok(Outcome::Original(self))
    }

    fn plus(self) -> Result<Outcome> {
        use SqlType::{Date, Interval, Time};
        match (&self.left_type, &self.right_type) {
            (Date, right) if is_integer(right) => self.call("rm_date_add"),
            (left, Date) if is_integer(left) => self.swapped().call("rm_date_add"),
            (Date, Time) => self.call("rm_date_time"),
            (Time, Date) => self.swapped().call("rm_date_time"),
            (Interval, Interval) => self.call("rm_interval_add"),
            (Time, Interval) => self.call("rm_time_add"),
            (Interval, Time) => self.swapped().call("rm_time_add"),
            (Date, Interval) => Ok(self.with_timestamp(Operator::Plus)),
            (Interval, Date) => Ok(self.swapped().with_timestamp(Operator::Plus)),
            (left, Interval) | (Interval, left) if is_date_like(left) => {
                Ok(Outcome::Original(self))
            }
            _ => self.unless_impossible("+"),
        }
    }

    fn minus(self) -> Result<Outcome> {
        use SqlType::{Date, Interval, Jsonb, Time};
        match (&self.left_type, &self.right_type) {
            (Jsonb, _) => self.call("rm_jsonb_delete"),
            (Date, Date) => self.call("rm_date_subtract"),
            (Date, right) if is_integer(right) => self.call("rm_date_subtract"),
            (Interval, Interval) => self.call("rm_interval_subtract"),
            (Time, Interval) | (Time, Time) => self.call("rm_time_subtract"),
            (Date, Interval) => Ok(self.with_timestamp(Operator::Minus)),
            (left, Interval) if is_date_like(left) => Ok(Outcome::Original(self)),
            (left, right) if is_date_like(left) && is_date_like(right) => {
                self.call("rm_timestamp_difference")
            }
            _ => self.unless_impossible("-"),
        }
    }

    /// A date moved by an interval is a timestamp.
    fn with_timestamp(self, op: Operator) -> Outcome {
        let left = cast_to(self.left, &SqlType::Timestamp);
        Outcome::Planned(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(left),
            op,
            Box::new(self.right),
        )))
    }

    /// Sums that PostgreSQL has no operator for.
    fn unless_impossible(self, symbol: &str) -> Result<Outcome> {
        let is_odd = |t: &SqlType| is_date_like(t) || matches!(t, SqlType::Boolean);
        if is_odd(&self.left_type) || is_odd(&self.right_type) {
            return self.impossible(symbol);
        }
        Ok(Outcome::Original(self))
    }

    fn impossible(&self, symbol: &str) -> Result<Outcome> {
        plan_err!(
            "operator does not exist: {} {symbol} {}",
            self.left_type.base_name(),
            self.right_type.base_name()
        )
    }

    fn compare(self, op: &BinaryOperator) -> Result<Outcome> {
        let suffix = match op {
            BinaryOperator::Eq => "eq",
            BinaryOperator::NotEq => "ne",
            BinaryOperator::Lt => "lt",
            BinaryOperator::LtEq => "le",
            BinaryOperator::Gt => "gt",
            _ => "ge",
        };
        if self.left_type == SqlType::Jsonb && self.right_type == SqlType::Jsonb {
            return self.call(&format!("rm_jsonb_{suffix}"));
        }
        if self.left_type == SqlType::Interval && self.right_type == SqlType::Interval {
            return self.call(&format!("rm_interval_{suffix}"));
        }
        // where text meets another type one of them would have to be a literal
        let is_text = |t: &SqlType, expr: &Expr| {
            matches!(t, SqlType::Text { .. })
                && !is_untyped(expr)
                && !matches!(
                    expr,
                    Expr::Placeholder(_) | Expr::Literal(ScalarValue::Null, _)
                )
        };
        let is_other = |t: &SqlType| {
            is_integer(t)
                || is_date_like(t)
                || matches!(
                    t,
                    SqlType::Boolean | SqlType::Real | SqlType::Double | SqlType::Numeric { .. }
                )
        };
        let symbol = op.to_string();
        if is_text(&self.left_type, &self.left) && is_other(&self.right_type)
            || is_text(&self.right_type, &self.right) && is_other(&self.left_type)
        {
            return self.impossible(&symbol);
        }
        Ok(Outcome::Original(self))
    }
}

pub fn is_integer(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::SmallInt | SqlType::Integer | SqlType::BigInt
    )
}
