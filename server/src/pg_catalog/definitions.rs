//! SQL texts that describe objects: what `pg_get_viewdef`, `pg_get_indexdef` and `pg_get_constraintdef` return.

use rivermark_planner::catalog::{Catalog, Object, ObjectKind};

use super::{oids, relations};

/// An identifier as it must be written in SQL.
pub fn quote_identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn column_list(object: &Object, columns: &[usize]) -> String {
    let attributes = relations::attributes(object);
    let names: Vec<_> = columns
        .iter()
        .map(|c| quote_identifier(&attributes[*c].name))
        .collect();
    names.join(", ")
}

/// The query of a view or materialized view.
pub fn view_definition(object: &Object) -> Option<String> {
    match &object.kind {
        ObjectKind::View(view) => Some(format!(" {};", view.query)),
        ObjectKind::MaterializedView(view) => Some(format!(" {};", view.query)),
        ObjectKind::Source(_) | ObjectKind::Table(_) | ObjectKind::Index(_) => None,
    }
}

/// The constraint of this oid.
pub fn constraint_definition(catalog: &Catalog, oid: i64) -> Option<String> {
    if let Some(object) = oids::keyed_object(catalog, oid) {
        let table = relations::keyed_table(object)?;
        return Some(format!(
            "PRIMARY KEY ({})",
            column_list(object, &table.primary_key)
        ));
    }
    let (object, index) = oids::check_of(catalog, oid)?;
    match &object.kind {
        ObjectKind::Table(table) => table
            .checks
            .get(index)
            .map(|(_, text)| format!("CHECK ({text})")),
        ObjectKind::Source(_)
        | ObjectKind::View(_)
        | ObjectKind::MaterializedView(_)
        | ObjectKind::Index(_) => None,
    }
}

/// The name of a relation, index or system relation, as `regclass` prints it.
pub fn relation_name(catalog: &Catalog, oid: i64) -> Option<String> {
    if let Some(object) = oids::object(catalog, oid) {
        let name = quote_identifier(&object.name.name);
        return Some(match object.name.schema.as_str() {
            "public" => name,
            schema => format!("{}.{name}", quote_identifier(schema)),
        });
    }
    if let Some(relation) = super::system_relation(oid) {
        return Some(match relation.schema {
            "pg_catalog" => quote_identifier(&relation.name),
            schema => format!("{schema}.{}", quote_identifier(&relation.name)),
        });
    }
    oids::keyed_object(catalog, oid).map(|o| quote_identifier(&relations::key_name(o)))
}

/// The comment of a relation (`column` 0) or of one of its columns.
pub fn description(catalog: &Catalog, oid: i64, column: i64) -> Option<String> {
    let object = oids::object(catalog, oid)?;
    if column == 0 {
        return object.comment.clone();
    }
    let position = usize::try_from(column - 1).ok()?;
    relations::attributes(object)
        .into_iter()
        .nth(position)?
        .comment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_when_they_must_be() {
        for (name, quoted) in [
            ("abc_1", "abc_1"),
            ("Abc", "\"Abc\""),
            ("1a", "\"1a\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(quote_identifier(name), quoted);
        }
    }
}
