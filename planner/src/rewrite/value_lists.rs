//! `VALUES (NULL), (x::uuid)`: constants without a type beside a UUID or JSON get its type. To DataFusion these types are
//! texts with a tag, which all values of a column must have.

use sqlparser::ast::{DataType, Expr, Value, Values};

use super::build::cast;

/// Casts such constants of a list.
pub(super) fn type_literals(values: &mut Values) {
    let width = values.rows.first().map_or(0, |row| row.content.len());
    for at in 0..width {
        let mut cells = values.rows.iter().filter_map(|row| row.content.get(at));
        let Some(data_type) = cells.find_map(tagged_type).cloned() else {
            continue;
        };
        let cells = values.rows.iter_mut();
        for cell in cells.filter_map(|row| row.content.get_mut(at)) {
            if is_untyped(cell) {
                *cell = cast(cell.clone(), data_type.clone());
            }
        }
    }
}

fn tagged_type(cell: &Expr) -> Option<&DataType> {
    let data_type = match cell {
        Expr::Cast { data_type, .. } => data_type,
        Expr::TypedString(text) => &text.data_type,
        Expr::Nested(inner) => return tagged_type(inner),
        _ => return None,
    };
    matches!(data_type, DataType::Uuid | DataType::JSON | DataType::JSONB).then_some(data_type)
}

fn is_untyped(cell: &Expr) -> bool {
    match cell {
        Expr::Value(value) => {
            matches!(value.value, Value::Null | Value::SingleQuotedString(_))
        }
        Expr::Nested(inner) => is_untyped(inner),
        _ => false,
    }
}
