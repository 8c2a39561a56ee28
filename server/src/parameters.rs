//! Parameters of statements (`$1`): their types, found in this order: what the client declared, a cast written around
//! them, what they are compared with or assigned to, text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ParamValues;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, Value, Visit};
use rivermark_planner::type_planner::sql_type;
use rivermark_planner::types::SqlType;

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;
use crate::wire::pg_types::PgType;

/// Types found so far, by parameter number.
pub type Found = BTreeMap<usize, Field>;

/// The number of a `$n` expression.
pub fn number(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else {
        return None;
    };
    let Value::Placeholder(text) = &value.value else {
        return None;
    };
    text.strip_prefix('$')?.parse().ok()
}

/// The parameters of a statement, and the types that casts around them say.
pub fn scan(statement: &impl Visit) -> (usize, Found) {
    let mut highest = 0;
    let mut found = Found::new();
    let _: ControlFlow<()> = ast::visit_expressions(statement, |expr| {
        if let Some(n) = number(expr) {
            highest = highest.max(n);
        }
        if let Expr::Cast {
            expr: inner,
            data_type,
            ..
        } = expr
            && let Some(n) = number(inner)
            && let Ok(Some(cast)) = sql_type(data_type)
        {
            found.entry(n).or_insert_with(|| cast.field("", true));
        }
        ControlFlow::Continue(())
    });
    (highest, found)
}

/// Adds what the planner inferred.
pub fn add_inferred(found: &mut Found, plan: &LogicalPlan) -> Result<(), PgError> {
    for (id, field) in plan.get_parameter_fields()? {
        let (Some(n), Some(field)) = (id.strip_prefix('$').and_then(|n| n.parse().ok()), field)
        else {
            continue;
        };
        if *field.data_type() != DataType::Null {
            found
                .entry(n)
                .or_insert_with(|| field.as_ref().clone().with_nullable(true));
        }
    }
    Ok(())
}

/// One field per parameter.
pub fn fields(
    count: usize,
    declared: &[Option<u32>],
    found: &Found,
) -> Result<Vec<FieldRef>, PgError> {
    let field = |i: usize| -> Result<FieldRef, PgError> {
        let declared = declared
            .get(i)
            .copied()
            .flatten()
            .filter(|oid| *oid != 0 && *oid != UNKNOWN);
        let inferred = found.get(&(i + 1)).cloned();
        if let Some(oid) = declared {
            let declared = declared_field(oid)?;
            let is_numeric = |field: &Field| field.data_type().is_decimal();
            // An oid does not tell how many digits.
            let known = inferred.filter(|known| is_numeric(known) && is_numeric(&declared));
            return Ok(Arc::new(with_digits(known.unwrap_or(declared))));
        }
        Ok(Arc::new(inferred.map_or_else(
            || Field::new("", DataType::Utf8, true),
            with_digits,
        )))
    };
    (0..count.max(declared.len())).map(field).collect()
}

/// What a number is compared with, or assigned to in one of several places, does not say how many digits the number has:
/// a numeric that has those of any other, and as many behind the point as the one it was found with.
fn with_digits(field: Field) -> Field {
    let SqlType::Numeric { precision, scale } = SqlType::of_field(&field) else {
        return field;
    };
    let SqlType::Numeric {
        precision: most,
        scale: plain,
    } = SqlType::PLAIN_NUMERIC
    else {
        return field;
    };
    let whole = i32::from(precision) - i32::from(scale);
    let scale = scale.max(plain);
    match whole + i32::from(scale) <= i32::from(most) {
        true => SqlType::Numeric {
            precision: most,
            scale,
        }
        .field("", true),
        false => field,
    }
}

/// PostgreSQL's oid of the type `unknown`.
const UNKNOWN: u32 = 705;

fn declared_field(oid: u32) -> Result<Field, PgError> {
    let pg_type = PgType::from_oid(oid);
    let data_type = pg_type.as_ref().and_then(PgType::parameter_type);
    match (pg_type, data_type) {
        (Some(pg_type), Some(data_type)) => {
            let tag = (
                rivermark_planner::types::PG_TYPE_KEY.to_string(),
                pg_type.name(),
            );
            let field = Field::new("", data_type, true);
            let is_tagged = matches!(pg_type, PgType::Uuid | PgType::Json | PgType::Jsonb);
            Ok(if is_tagged {
                field.with_metadata([tag].into())
            } else {
                field
            })
        }
        _ => Err(PgError::new(
            SqlState::FeatureNotSupported,
            format!("parameters of the type with oid {oid} are not supported"),
        )),
    }
}

/// The oids of parameters, as a client would declare them.
pub fn oids(fields: &[FieldRef]) -> Vec<Option<u32>> {
    fields
        .iter()
        .map(|field| Some(PgType::of_field(field).oid()))
        .collect()
}

/// The plan with values in place of its parameters.
pub fn bind(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan, PgError> {
    if values.is_empty() {
        return match plan.get_parameter_names()?.into_iter().min() {
            Some(name) => Err(PgError::new(
                SqlState::UndefinedParameter,
                format!("there is no parameter {name}"),
            )),
            None => Ok(plan),
        };
    }
    fill(plan, values)
}

/// As [`bind`], of a plan that is known to have no other parameters.
pub fn fill(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan, PgError> {
    if values.is_empty() {
        return Ok(plan);
    }
    let values = values
        .iter()
        .cloned()
        .map(ScalarAndMetadata::from)
        .collect();
    Ok(plan.with_param_values(ParamValues::List(values))?)
}

/// The plan with typed NULLs in place of its parameters: what its result looks like.
pub fn bind_nulls(plan: LogicalPlan, fields: &[FieldRef]) -> Result<LogicalPlan, PgError> {
    if fields.is_empty() {
        return Ok(plan);
    }
    let null = |field: &FieldRef| -> Result<ScalarAndMetadata, PgError> {
        let metadata =
            (!field.metadata().is_empty()).then(|| FieldMetadata::from(field.metadata()));
        Ok(ScalarAndMetadata::new(
            ScalarValue::try_from(field.data_type())?,
            metadata,
        ))
    };
    let values = fields.iter().map(null).collect::<Result<Vec<_>, _>>()?;
    Ok(plan.with_param_values(ParamValues::List(values))?)
}

#[cfg(test)]
mod tests {
    use rivermark_planner::parse::parse_query;

    use super::*;

    #[test]
    fn types_come_from_the_client_then_from_casts() {
        let query = parse_query("SELECT $1::int, $2, CAST($4 AS TIMESTAMPTZ)").unwrap();
        let (count, found) = scan(query.as_ref());
        assert_eq!(count, 4);
        let fields = fields(count, &[None, Some(20), Some(0)], &found).unwrap();
        assert_eq!(oids(&fields), [Some(23), Some(20), Some(25), Some(1184)]);
    }
}
