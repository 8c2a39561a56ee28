//! Literals without a type in places that bring several expressions to one type: BETWEEN, IN, CASE, UNION, `coalesce` and
//! its like. As in PostgreSQL such a literal is of the type of the others, and read as that type's input function reads it.
//! (Beside an operator, [`operators`](crate::operators) does it.)

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Union};

use crate::operators::{cast_to, field, is_untyped, numeric_of};
use crate::types::SqlType;

/// Casts the literals without a type among `expressions` to the type of the first one that has one.
pub fn of_one_type<'a>(expressions: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) {
    let mut expressions: Vec<&mut Expr> = expressions.into_iter().collect();
    let others = expressions.iter().filter(|e| !is_untyped(e));
    let mut types = others
        .filter_map(|e| field(e, schema))
        .filter(|field| !field.data_type().is_null())
        .map(|field| SqlType::of_field(&field));
    let Some(target) = types.next().and_then(type_of_literal) else {
        return;
    };
    for expr in expressions.iter_mut().filter(|e| is_untyped(e)) {
        let literal = std::mem::take(*expr);
        **expr = typed(literal, &target);
    }
}

/// The literal as a value of type `target`; a numeric one has the digits that are written.
fn typed(literal: Expr, target: &SqlType) -> Expr {
    let written = match (&literal, target) {
        (Expr::Literal(ScalarValue::Utf8(Some(text)), _), SqlType::Numeric { .. }) => written(text),
        _ => None,
    };
    cast_to(literal, written.as_ref().unwrap_or(target))
}

/// The type that has just the digits of a number such as `-12.50`; `None` for other forms and very long ones.
fn written(text: &str) -> Option<SqlType> {
    let number = text.trim().trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_plain = whole
        .bytes()
        .chain(fraction.bytes())
        .all(|b| b.is_ascii_digit());
    let precision = (whole.len() + fraction.len()).max(1);
    if !is_plain || precision > 38 {
        return None;
    }
    Some(SqlType::Numeric {
        precision: precision as u8,
        scale: fraction.len() as i8,
    })
}

/// The type of a literal beside a value of type `other`; `None`: it stays a text.
fn type_of_literal(other: SqlType) -> Option<SqlType> {
    match other {
        SqlType::Text { .. } | SqlType::Struct(_) => None,
        other => Some(numeric_of(other)),
    }
}

/// The same for the columns of a UNION's sides. The union's own schema stays as it was.
pub fn in_union(union: &mut Union) -> Result<()> {
    for column in 0..union.schema.fields().len() {
        let is_literal = |input: &Arc<LogicalPlan>| match input.as_ref() {
            LogicalPlan::Projection(projection) => {
                is_untyped(&projection.expr[column].clone().unalias())
            }
            _ => false,
        };
        let others = union.inputs.iter().filter(|input| !is_literal(input));
        let mut types = others
            .map(|input| input.schema().field(column))
            .filter(|field| !field.data_type().is_null())
            .map(|field| SqlType::of_field(field));
        let Some(target) = types.next().and_then(type_of_literal) else {
            continue;
        };
        for input in union.inputs.iter_mut().filter(|input| is_literal(input)) {
            if let LogicalPlan::Projection(projection) = input.as_ref() {
                let mut exprs = projection.expr.clone();
                let name = projection.schema.field(column).name().clone();
                let literal = exprs[column].clone().unalias();
                exprs[column] = typed(literal, &target).alias(name);
                let projection = Projection::try_new(exprs, Arc::clone(&projection.input))?;
                *input = Arc::new(LogicalPlan::Projection(projection));
            }
        }
    }
    Ok(())
}
