//! Literals in VALUES, before their types are known.

use datafusion::sql::sqlparser::ast::{self, Expr};
use rivermark_planner::types::SqlType;

use crate::dml::set_list::typed;
use crate::dml::target::Target;
use crate::pg_error::PgError;

/// Numbers beside texts become texts, so that the input function of the column's type reads all of them: a query would
/// give them one type first, which is none for `'NaN'` beside `1.5`, and no decimal holds `1e300`.
pub fn literals_as_texts(rows: &mut [ast::Parens<Vec<Expr>>], columns: &[usize], target: &Target) {
    for (at, column) in columns.iter().enumerate() {
        let data_type = &target.table.columns[*column].data_type;
        let takes_fractions = matches!(
            data_type,
            SqlType::Real | SqlType::Double | SqlType::Numeric { .. }
        );
        let cells = || rows.iter().filter_map(|row| row.content.get(at));
        let is_readable = |cell: &Expr| match literal(cell) {
            Some(Literal::Number(digits)) => {
                takes_fractions || digits.bytes().all(|b| b.is_ascii_digit())
            }
            Some(Literal::Text | Literal::Null) => true,
            None => false,
        };
        let is_special = |cell: &Expr| match literal(cell) {
            Some(Literal::Number(digits)) => digits.contains(['e', 'E']),
            Some(Literal::Text) => true,
            _ => false,
        };
        let is_number = takes_fractions
            || matches!(
                data_type,
                SqlType::SmallInt | SqlType::Integer | SqlType::BigInt
            );
        if !is_number || !cells().all(is_readable) || !cells().any(is_special) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.content.get_mut(at)) {
            if let Some(Literal::Number(_)) = literal(cell) {
                let text = cell.to_string().replace(' ', "");
                *cell = Expr::Value(ast::Value::SingleQuotedString(text).into());
            }
        }
    }
}

/// NULLs and texts beside other expressions get the column's type where that is a text with a tag (`UUID`, `JSON`,
/// `JSONB`), which every value of a list must have.
pub fn literals_as_tagged(
    rows: &mut [ast::Parens<Vec<Expr>>],
    columns: &[usize],
    target: &Target,
) -> Result<(), PgError> {
    for (at, column) in columns.iter().enumerate() {
        let data_type = &target.table.columns[*column].data_type;
        let is_tagged = matches!(data_type, SqlType::Uuid | SqlType::Json | SqlType::Jsonb);
        let mut cells = rows.iter().filter_map(|row| row.content.get(at));
        if !is_tagged || cells.all(|cell| literal(cell).is_some()) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.content.get_mut(at)) {
            if let Some(Literal::Null | Literal::Text) = literal(cell) {
                *cell = typed(cell.clone(), target, *column)?;
            }
        }
    }
    Ok(())
}

/// What a value in the text of a statement is.
enum Literal {
    /// Its digits, without a sign.
    Number(String),
    Text,
    Null,
}

fn literal(expr: &Expr) -> Option<Literal> {
    match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => Some(Literal::Number(digits.clone())),
            ast::Value::SingleQuotedString(_) => Some(Literal::Text),
            ast::Value::Null => Some(Literal::Null),
            _ => None,
        },
        Expr::UnaryOp {
            op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus,
            expr,
        } => match literal(expr)? {
            Literal::Number(digits) => Some(Literal::Number(digits)),
            _ => None,
        },
        _ => None,
    }
}
